package assay

// ExecutionFilter selects executions, newest first. Empty fields select
// everything.
type ExecutionFilter struct {
	Package string
	EventID string
	Target  Commit // Repo and SHA; without a SHA also PullRequest
	State   State
	Before  string // the ID of an execution: only older ones, to page on
	Limit   int    // at most so many; 0 for 50, never more than 1,000
}

// EventState tells how far an event is.
type EventState string

// The states of an event.
const (
	EventNew     EventState = "new"     // on disk, its executions not yet written
	EventPlanned EventState = "planned" // its executions are written
	EventIgnored EventState = "ignored" // nothing to do; Note says why
	EventFailed  EventState = "failed"  // given up on; Note says why
)

// EventRecord is an event with what became of it.
type EventRecord struct {
	Event
	State EventState
	Note  string // one line for the maintainer who looks it up
	Tries int    // how often planning was begun
}

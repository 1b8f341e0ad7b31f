package assay

import "time"

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

// InboxFilter selects events, newest first. Empty fields select everything.
type InboxFilter struct {
	Source  string
	Kind    EventKind
	State   EventState
	Repo    string    // part of the repository's name; upper and lower case are one, in ASCII
	Package string    // of a build, or of what the event called for; whole
	Since   time.Time // received then or later
	Until   time.Time // received before
	Before  string    // the ID of an event: only older ones, to page on
	Limit   int       // at most so many; 0 for 50, never more than 1,000
}

// InboxEntry is an event as a list shows it.
type InboxEntry struct {
	EventRecord
	Repeats    int   // how often it was delivered again
	Executions int   // how many it called for that are still kept
	Size       int64 // bytes of the delivery's body; 0 when it had none, and once it is pruned
}

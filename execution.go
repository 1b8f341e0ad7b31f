package assay

import "time"

// Item types, as formulas name them under input.args (COMPAT.md, ITEM_TYPE_DOCS).
const (
	TypeBuild         = "koji_build"      // a build's NVR, whoever built it
	TypeDistGitCommit = "dist_git_commit" // namespace/repo#commit
	TypePullRequest   = "pull_request"    // the pull request's address
)

// State tells how far an execution is.
type State string

// The states of an execution, in order.
const (
	StateQueued   State = "queued"
	StateRunning  State = "running"
	StateFinished State = "finished" // has a verdict; nothing changes any more
)

// Verdict tells how an execution ended. "The check says no" and "we could not
// tell" are never the same verdict.
type Verdict string

// The verdicts.
const (
	VerdictPassed    Verdict = "passed"    // the check says yes
	VerdictFailed    Verdict = "failed"    // the check says no, or ran out of its time
	VerdictCrashed   Verdict = "crashed"   // the check took its machine down
	VerdictErrored   Verdict = "errored"   // we could not tell: no machine, no clone, a bad formula
	VerdictCancelled Verdict = "cancelled" // a newer commit, or a person
	VerdictSkipped   Verdict = "skipped"   // there was nothing to run it on
)

// Status is the commit status that a verdict becomes.
func (v Verdict) Status() StatusState {
	switch v {
	case VerdictPassed, VerdictSkipped:
		return StatusSuccess
	case VerdictFailed, VerdictCrashed:
		return StatusFailure
	default:
		return StatusError
	}
}

// Priority says who is served first; the greater one is.
type Priority int

// The priorities.
const (
	PriorityTimer  Priority = iota // nobody waits for it
	PriorityBuild                  // a build system may
	PriorityPerson                 // somebody has just pushed, or asked
)

// Execution is one run of one check on one item, known everywhere by one UUID.
type Execution struct {
	ID      string // UUID
	EventID string // the event that called for it
	Package string // "rpms/hello"
	Check   string // the check's name, with its namespace if it has one: "pkg.greets"

	ChecksRepo   string // address of the check repository
	ChecksBranch string
	ChecksCommit string
	Path         string // the formula's path in it

	SourceRepo   string // address of the package's repository, "" if none is known
	SourceCommit string // the commit of it that Item was made from, "" if none
	Item         string
	Type         string
	Arch         string
	Builds       []string // addresses of what was built
	// Optional tells that its verdict does not count for the commit as a whole.
	Optional bool
	Priority Priority

	Target Commit // where its status lands

	State    State
	Verdict  Verdict // set in StateFinished
	Reason   string  // one line: why this verdict
	Attempt  int     // how often a runner has begun it: the fence of its reports
	Created  time.Time
	Started  time.Time // of the newest attempt
	Finished time.Time
}

// StatusContext is the context that the execution's status has on its commit.
func (e Execution) StatusContext() string {
	if e.Arch == "" || e.Arch == "noarch" {
		return "assay/" + e.Check
	}
	return "assay/" + e.Check + "/" + e.Arch
}

// Conclusion is how one attempt at an execution ended, as its runner tells it.
type Conclusion struct {
	Verdict   Verdict
	Reason    string // one line
	Results   []Result
	Artifacts []Artifact
	// Retry tells that the attempt says nothing about the check (no machine, no
	// network, no clone) and another may succeed; only with VerdictErrored.
	Retry bool
}

package assay

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

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
	// Variant is the name of the combination of the formula's matrix that this is
	// for, without the arch; "" for a formula without a matrix.
	Variant string
	// Needs are the executions whose artifacts it is given, and after which it runs.
	Needs []Need
	// NeedsState tells how it stands with them; "" when there are none.
	NeedsState NeedsState
	// Retries is how often it is tried again when nobody could tell how it would
	// end; nil for the operator's default.
	Retries *int
	// Trusted tells that who called for it may write to the repository, so that it
	// may be given secrets. An outsider's pull request stays untrusted when somebody
	// approves it.
	Trusted bool
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

// Need is an execution that another one needs.
type Need struct {
	Check     string `json:"check"`     // the name that the formula's needs has
	Execution string `json:"execution"` // UUID
	Label     string `json:"label"`     // of the execution
}

// NeedsState tells how an execution stands with those that it needs.
type NeedsState string

// The states, in order.
const (
	NeedsOpen  NeedsState = "open"  // one of them has not ended: it waits
	NeedsEnded NeedsState = "ended" // all have: what becomes of it is decided at once
	NeedsMet   NeedsState = "met"   // all passed: it may run
	// NeedsUnmet tells that one of them did not pass, and that it was skipped for
	// that. Nobody can tell what it would have said.
	NeedsUnmet NeedsState = "unmet"
)

// Waits tells that the execution must not be run yet: it needs others.
func (e Execution) Waits() bool {
	return e.State != StateFinished && (e.NeedsState == NeedsOpen || e.NeedsState == NeedsEnded)
}

// Status is the commit status that a finished execution becomes. One that was
// skipped because what it needs did not pass is no success: nobody can tell.
func (e Execution) Status() StatusState {
	if e.Verdict == VerdictSkipped && e.NeedsState == NeedsUnmet {
		return StatusError
	}
	return e.Verdict.Status()
}

// Bounds of a status's context, in bytes.
const (
	maxContext = 255 // what every forge takes
	maxVariant = 80  // of the part that tells the variant
)

// StatusContext is the context that the execution's status has on its commit:
// "assay/NAME", "assay/NAME/ARCH", and "/VARIANT" behind either. It is stable:
// another formula's or another variant's is never the same.
func (e Execution) StatusContext() string {
	context := "assay/" + e.Check
	if e.Arch != "" && e.Arch != "noarch" {
		context += "/" + e.Arch
	}
	if e.Variant == "" {
		return context
	}
	return context + "/" + contextPart(e.Variant, min(maxVariant, maxContext-len(context)-1))
}

// Label is what people call the execution among others on its commit: the
// status's context without what all have in common.
func (e Execution) Label() string { return strings.TrimPrefix(e.StatusContext(), "assay/") }

// contextPart makes a variant's name fit for a status's context, on every forge
// and as one word of a command. Whatever that changes ends in a sum of the whole
// name, so that two never become one.
func contextPart(name string, room int) string {
	safe := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+=,~-", r)) {
			return r
		}
		return '-'
	}, name)
	if safe == name && len(safe) <= room {
		return safe
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:12]
	cut := max(0, min(len(safe), room-len(sum)-1))
	return strings.TrimPrefix(safe[:cut]+"-"+sum, "-")
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

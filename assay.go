// Package assay holds the nouns that every room of the program speaks: events,
// executions, plans, results, statuses. They are plain types; the package
// imports nothing but the standard library, so that any room may import it.
//
// The words are those of the field (see CONTRIBUTING.md, Words): an event makes
// executions, an execution runs one check on one item on one machine, and ends
// with exactly one verdict, which reaches reviewers as a commit status.
package assay

import (
	"strings"
	"time"
)

// Commit is a commit that statuses and comments land on.
type Commit struct {
	Repo        string // the repository's address, as configured: a URL or a path
	SHA         string // 40 (SHA-1) or 64 (SHA-256) lower-case hex digits
	PullRequest int    // number of the pull request it belongs to, 0 for none
}

// Package says where one package's repositories are. Only the operator's
// configuration makes one: no address out of a payload is ever cloned.
type Package struct {
	Name   string // as its forge or build system names it: "rpms/gzip"
	Checks string // address of its check repository
	Source string // address of its own repository, where statuses land; "" if unknown
	Branch string // check branch to fall back to; "" for the repository's default branch
	// Network tells that its formulas may ask for a machine with a network.
	Network bool
}

// Result is one outcome that a check reported, in ResultsDB's terms
// (COMPAT.md, "Result format").
type Result struct {
	Item      string
	Type      string
	Checkname string // "namespace.name" or what the check said instead
	Outcome   Outcome
	Note      string
	Artifact  string              // path within the execution's artifacts, "" for all of them
	Data      map[string][]string // every other key that the check gave
}

// Artifact is one file that an execution left behind.
type Artifact struct {
	Path string // slash-separated, relative to the execution's artifacts; clean, never absolute
	Size int64  // bytes
}

// Outcome is what one result says, as ResultsDB spells it.
type Outcome string

// The outcomes, best first. An unset one counts as NEEDS_INSPECTION.
const (
	Passed          Outcome = "PASSED"
	Info            Outcome = "INFO"
	Failed          Outcome = "FAILED"
	NeedsInspection Outcome = "NEEDS_INSPECTION"
	Aborted         Outcome = "ABORTED"
	Crashed         Outcome = "CRASHED"
)

// Outcomes lists every outcome from best to worst.
func Outcomes() []Outcome {
	return []Outcome{Passed, Info, Failed, NeedsInspection, Aborted, Crashed}
}

// ParseOutcome reads an outcome in any case, with white space around it; ok is
// false for a word that is none.
func ParseOutcome(s string) (o Outcome, ok bool) {
	o = Outcome(strings.ToUpper(strings.TrimSpace(s)))
	return o, o.rank() >= 0
}

// Good tells whether a gate would let the outcome through.
func (o Outcome) Good() bool { return o == Passed || o == Info }

// Worst returns the worse of two outcomes, NEEDS_INSPECTION standing in for an
// unset one.
func (o Outcome) Worst(p Outcome) Outcome {
	if o == "" {
		o = NeedsInspection
	}
	if p == "" {
		p = NeedsInspection
	}
	if p.rank() > o.rank() {
		return p
	}
	return o
}

func (o Outcome) rank() int {
	for i, known := range Outcomes() {
		if o == known {
			return i
		}
	}
	return -1
}

// StatusState is the state of a commit status; the words are GitHub's
// (REST API, "Create a commit status") and every forge has its own for them.
type StatusState string

// The states of a commit status.
const (
	StatusPending StatusState = "pending"
	StatusSuccess StatusState = "success"
	StatusFailure StatusState = "failure"
	StatusError   StatusState = "error"
)

// Status is one commit status.
type Status struct {
	Context     string // "assay/NAME" or "assay/NAME/ARCH", stable over a check's life
	State       StatusState
	Description string // one line, at most 140 characters
	URL         string // the page that explains it
}

// ReportKind says what a report is.
type ReportKind string

// The kinds of report.
const (
	ReportStatus  ReportKind = "status"
	ReportComment ReportKind = "comment"
	// ReportWhole is the status of everything that runs on the commit together; it
	// is worked out when it is sent.
	ReportWhole ReportKind = "whole"
	// ReportReaction answers a comment.
	ReportReaction ReportKind = "reaction"
)

// Report is something owed to a forge: it is written in the same transaction as
// what it tells of, and sent until the forge has taken it.
type Report struct {
	ID        int64 // given by the store; ascending in the order of writing
	Kind      ReportKind
	Commit    Commit
	Status    Status // of a ReportStatus
	Body      string // of a ReportComment: Markdown; "" asks for it to be rendered when it is sent
	Comment   string // of a ReportReaction: the ID of the comment to answer
	Reaction  Reaction
	Execution string // the execution that owes it, "" for an event's own report
	Tries     int    // how often sending was begun before; more than 0: it may have arrived
}

// StepRun is one entry in the timeline of an execution's attempt.
type StepRun struct {
	Attempt  int
	Number   int    // 1 for the formula's first action; 0 for what the runner does around them
	Name     string // the action's name, or "boot", "upload", "collect", …
	Started  time.Time
	Finished time.Time // zero while it runs
	Outcome  string    // "ok", "failed", "timed out", "crashed", "errored"; "" while it runs
}

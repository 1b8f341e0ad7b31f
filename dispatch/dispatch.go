// Package dispatch is the story: an event becomes executions, executions become
// verdicts, verdicts become statuses and the one comment. The Planner turns
// events into executions, the Worker runs them, the Reporter pays what forges
// are owed. Each is a loop over what the store says is wanted, so that a killed
// process loses nothing: the next one goes on where it stopped.
//
// dispatch knows no other room. The interfaces here are what it needs of them.
package dispatch

import (
	"context"
	"io/fs"
	"time"

	"github.com/assay-ci/assay"
)

// Repos reads repositories. Addresses come from Packages, never from events.
type Repos interface {
	// Resolve fetches and returns the first of the branches that exists, else
	// the default one, with its newest commit.
	Resolve(ctx context.Context, address string, branches []string) (branch, commit string, err error)
	// FetchCommit makes a commit available; ref names where it may be found
	// besides the branches, "" for nowhere.
	FetchCommit(ctx context.Context, address, commit, ref string) error
	// Tree is what the repository held at the commit.
	Tree(ctx context.Context, address, commit string) (fs.FS, error)
	// ChangedPaths lists the files that differ; before "" means all of them.
	ChangedPaths(ctx context.Context, address, before, after string) ([]string, error)
}

// Check is one formula of a check repository, as the planner sees it.
type Check struct {
	Path  string            // of the formula, in the repository
	Dir   string            // what of the repository is the check's: a change in it is one of the check; "." for all
	Name  string            // with its namespace; the path for a formula that cannot be read
	Wants func(string) bool // whether it runs on items of a type
	// WantsEvent tells whether it runs for an event on an item of a type, and if
	// not, why, in one line. changed is nil when the changed files are not known.
	WantsEvent func(kind assay.EventKind, itemType, branch string, changed []string) (ok bool, why string)
	ByPaths    bool      // WantsEvent looks at the changed files
	Variants   []Variant // what it runs for, one execution each; none for one execution
	Needs      []string  // names of other checks that it comes after
	Retries    *int      // nil for the operator's default
	// Optional tells that its verdict does not count for the commit as a whole.
	Optional bool
	Err      error // why it cannot be run
}

// Variant is one combination of a check's matrix.
type Variant struct {
	Name string // without the arch
	Arch string // "" for the item's
}

// PlanStore is where the planner finds events and leaves executions.
type PlanStore interface {
	NewEvents(ctx context.Context, limit int) ([]assay.EventRecord, error)
	PlanEvent(ctx context.Context, eventID string, d assay.Decision) error
	EventTried(ctx context.Context, eventID, reason string, retryAt time.Time) error
	FailEvent(ctx context.Context, eventID, reason string, reports []assay.Report) error
	LatestBuild(ctx context.Context, pkg string) (assay.Event, error)
	// Superseded lists unfinished executions that the event makes pointless.
	Superseded(ctx context.Context, e assay.Event) ([]assay.Execution, error)
	// PullRequestEvent is the newest event about the pull request before a moment.
	PullRequestEvent(ctx context.Context, source, repo string, number int, before time.Time) (assay.Event, error)
	Executions(ctx context.Context, f assay.ExecutionFilter) ([]assay.Execution, error)
}

// Queue carries executions to workers. It is never the only copy of anything.
type Queue interface {
	Publish(ctx context.Context, e assay.Execution) error
	// Next waits for an execution and leases it.
	Next(ctx context.Context) (Lease, error)
}

// Lease is the right to work on one execution, as long as it is kept.
type Lease interface {
	Execution() string
	// Redelivered tells that another worker had it and let it lapse.
	Redelivered() bool
	// Keep renews the lease in the background until Done, Release or the end of
	// ctx. Call it once.
	Keep(ctx context.Context)
	// Context is ctx, ended also when the lease cannot be kept any more.
	Context(ctx context.Context) context.Context
	// Done takes the execution off the queue.
	Done(ctx context.Context) error
	// Abandon ends the keeping without an answer: somebody else has the
	// execution now, and an answer would count as theirs.
	Abandon()
	// Release gives it back, to be had again after the delay.
	Release(ctx context.Context, delay time.Duration) error
}

// WorkStore is where the worker reports. Every call carries the attempt, and is
// refused with assay.ErrFenced when a newer attempt has begun.
type WorkStore interface {
	Begin(ctx context.Context, executionID string, takeOver bool) (assay.Execution, error)
	Step(ctx context.Context, executionID string, run assay.StepRun) error
	Conclude(ctx context.Context, executionID string, attempt int, c assay.Conclusion, reports []assay.Report) error
	Retry(ctx context.Context, executionID string, attempt int, reason string) (failures int, err error)
}

// GateStore holds the executions that wait for others.
type GateStore interface {
	// NeedsEnded lists those of which everything that they need has ended.
	NeedsEnded(ctx context.Context, limit int) ([]assay.Execution, error)
	Execution(ctx context.Context, id string) (assay.Execution, error)
	NeedsMet(ctx context.Context, id string) error
	NeedsUnmet(ctx context.Context, id string, c assay.Conclusion, reports []assay.Report) error
	Conclude(ctx context.Context, executionID string, attempt int, c assay.Conclusion, reports []assay.Report) error
}

// Outbox holds what forges are owed.
type Outbox interface {
	OwedReports(ctx context.Context, now time.Time, limit int) ([]assay.Report, error)
	ReportBegun(ctx context.Context, id int64) error
	ReportSent(ctx context.Context, id int64) error
	ReportFailed(ctx context.Context, id int64, reason string, retryAt time.Time) error
	ReportDropped(ctx context.Context, id int64, reason string) error
	// CommentSent tells whether another report than except has brought a comment.
	CommentSent(ctx context.Context, commit assay.Commit, except int64) (bool, error)
}

// History is what the comment and the status of the whole are made of.
type History interface {
	Executions(ctx context.Context, f assay.ExecutionFilter) ([]assay.Execution, error)
	Results(ctx context.Context, executionID string) ([]assay.Result, error)
	Waivers(ctx context.Context, commit assay.Commit) ([]assay.Waiver, error)
}

// Forge posts to one forge. Doing the same twice is harmless.
type Forge interface {
	SetStatus(ctx context.Context, c assay.Commit, s assay.Status) error
	Comment(ctx context.Context, c assay.Commit, marker, body string) error
}

// StatusReader is a Forge that can tell which status a context has: asked
// before a status that may have arrived already is sent again.
type StatusReader interface {
	Status(ctx context.Context, c assay.Commit, context string) (assay.Status, bool, error)
}

// Asker is a Forge that says who may do what, and how a pull request stands.
type Asker interface {
	MayWrite(ctx context.Context, repo, user string) (bool, error)
	PullRequest(ctx context.Context, repo string, number int) (assay.PullRequest, error)
}

// Reactor is a Forge that answers a comment with a picture.
type Reactor interface {
	React(ctx context.Context, c assay.Commit, comment string, reaction assay.Reaction) error
}

// Annotator is a Forge that shows remarks beside the lines they are about, below a
// status that was set.
type Annotator interface {
	Annotate(ctx context.Context, c assay.Commit, context string, annotations []assay.Annotation) error
}

// Appender is a Forge whose comments cannot be edited.
type Appender interface{ Appends() bool }

// Signal wakes a loop up. Wake never blocks; several wakes before the loop
// looks are one.
type Signal chan struct{}

// NewSignal makes a signal.
func NewSignal() Signal { return make(Signal, 1) }

// Wake makes the loop look at the store again.
func (s Signal) Wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// wait returns at the next wake, after d, or when ctx ends.
func (s Signal) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// backoff is how long to wait after so many failures.
func backoff(tries int, first, most time.Duration) time.Duration {
	d := first
	for range tries - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return d
}

package dispatch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// workStore is one execution; its answers are the test's.
type workStore struct {
	begin, conclude error
	failures        int
	verdict         assay.Conclusion
	reports         []assay.Report
}

func (s *workStore) Begin(context.Context, string, bool) (assay.Execution, error) {
	return assay.Execution{ID: "x", Attempt: 1, Check: "c", Target: assay.Commit{Repo: "/r", SHA: "s"}}, s.begin
}
func (s *workStore) Step(context.Context, string, assay.StepRun) error { return nil }

func (s *workStore) Conclude(_ context.Context, _ string, _ int, c assay.Conclusion, reports []assay.Report) error {
	s.verdict, s.reports = c, reports
	return s.conclude
}

func (s *workStore) Retry(context.Context, string, int, string) (int, error) {
	s.failures++
	return s.failures, nil
}

// oneLease is a queue with one job, which remembers the answer for it.
type oneLease struct {
	lost   context.CancelFunc
	life   context.Context
	answer string
	after  time.Duration
}

func newLease(t *testing.T) *oneLease {
	l := &oneLease{}
	l.life, l.lost = context.WithCancel(t.Context())
	return l
}

func (l *oneLease) Execution() string                       { return "x" }
func (l *oneLease) Redelivered() bool                       { return false }
func (l *oneLease) Keep(context.Context)                    {}
func (l *oneLease) Context(context.Context) context.Context { return l.life }
func (l *oneLease) Done(context.Context) error              { l.answer += "done"; return nil }
func (l *oneLease) Abandon()                                { l.answer += "abandoned" }
func (l *oneLease) Release(_ context.Context, after time.Duration) error {
	l.answer += "released"
	l.after = after
	return nil
}

func TestWorkerAnswersForItsLease(t *testing.T) {
	passed := assay.Conclusion{Verdict: assay.VerdictPassed, Reason: "fine"}
	trouble := assay.Conclusion{Verdict: assay.VerdictErrored, Reason: "no machine", Retry: true}
	tests := []struct {
		summary string
		store   workStore
		result  assay.Conclusion
		err     error
		lost    bool
		stopped bool
		answer  string
		after   time.Duration
		verdict assay.Verdict
	}{
		{summary: "a verdict", result: passed, answer: "done", verdict: "passed"},
		{summary: "begun by another", store: workStore{begin: assay.ErrFenced}, answer: "done"},
		{summary: "finished already", store: workStore{begin: assay.ErrFinished}, answer: "done"},
		{summary: "the store does not answer", store: workStore{begin: errors.New("disk full")}, answer: "released", after: pause},
		{summary: "trouble, the first time", result: trouble, answer: "released", after: time.Second},
		{summary: "trouble, the second time", store: workStore{failures: 1}, result: trouble, answer: "released", after: time.Minute},
		{summary: "trouble, the third time", store: workStore{failures: 2}, result: trouble, answer: "done", verdict: "errored"},
		{summary: "fenced while it ran", err: assay.ErrFenced, answer: "abandoned"},
		{summary: "fenced at the end", store: workStore{conclude: assay.ErrFenced}, result: passed, answer: "abandoned", verdict: "passed"},
		{summary: "cancelled while it ran", err: context.Canceled, stopped: true, answer: "done"},
		{summary: "cancelled, and ended all the same", result: passed, stopped: true, answer: "done"},
		{summary: "the lease lapsed", err: context.Canceled, lost: true, answer: "abandoned"},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			lease, running := newLease(t), &Running{}
			w := &Worker{
				Running: running,
				Store:   &tt.store, Page: page, Log: zerolog.Nop(), Finished: func() {},
				Retries: []time.Duration{time.Second, time.Minute},
				Execute: func(context.Context, assay.Execution, func(context.Context, assay.StepRun) error) (assay.Conclusion, error) {
					if tt.lost {
						lease.lost()
					}
					if tt.stopped {
						running.Stop("x")
					}
					return tt.result, tt.err
				},
			}
			w.work(t.Context(), lease)
			if lease.answer != tt.answer || lease.after != tt.after || tt.store.verdict.Verdict != tt.verdict {
				t.Errorf("answered %q with verdict %q, want %q with %q", lease.answer, tt.store.verdict.Verdict, tt.answer, tt.verdict)
			}
			if tt.verdict != "" && len(tt.store.reports) == 0 {
				t.Error("a verdict without a report")
			}
		})
	}
}

// planStore holds one event that is never planned.
type planStore struct {
	PlanStore
	mu     sync.Mutex
	event  assay.EventRecord
	failed []assay.Report
	wake   Signal // this store lists the event again at once
	done   chan struct{}
}

func (s *planStore) NewEvents(context.Context, int) ([]assay.EventRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.event.State != assay.EventNew {
		return nil, nil
	}
	return []assay.EventRecord{s.event}, nil
}

func (s *planStore) PlanEvent(context.Context, string, assay.Decision) error {
	return errors.New("this event cannot be planned")
}

func (s *planStore) EventTried(_ context.Context, _, reason string, retryAt time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event.Tries, s.event.Note = s.event.Tries+1, reason
	if time.Until(retryAt) > 11*time.Minute {
		return errors.New("that is too long to wait")
	}
	s.wake.Wake()
	return nil
}

func (s *planStore) FailEvent(_ context.Context, _, _ string, reports []assay.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event.State, s.failed = assay.EventFailed, reports
	close(s.done)
	return nil
}

func (s *planStore) LatestBuild(context.Context, string) (assay.Event, error) {
	return assay.Event{}, assay.ErrNotFound
}

// unreachable is a git host that is down.
type unreachable struct{ Repos }

func (unreachable) Resolve(context.Context, string, []string) (string, string, error) {
	return "", "", errors.New("cannot fetch /checks: no route to host")
}

func TestPlannerGivesUpAndSaysSo(t *testing.T) {
	store := &planStore{done: make(chan struct{}), wake: NewSignal(), event: assay.EventRecord{State: assay.EventNew, Event: assay.Event{
		ID: "e", Kind: assay.EventBuild, Commit: "abc", Build: &assay.Build{Package: "p", Version: "1", Release: "1"},
	}}}
	p := &Planner{
		Store: store, Repos: unreachable{}, Packages: Packages{{Name: "p", Checks: "/checks", Source: "/source"}},
		Page: page, Log: zerolog.Nop(), Wake: store.wake, Planned: func() {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	<-store.done
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if store.event.Tries != planTries-1 || len(store.failed) != 1 {
		t.Fatalf("given up after %d tries with the reports %+v", store.event.Tries, store.failed)
	}
	got := store.failed[0]
	if got.Commit.SHA != "abc" || got.Status.State != assay.StatusError || !strings.Contains(got.Status.Description, "no route to host") || got.Status.Context != "assay" {
		t.Errorf("the commit is told %+v", got)
	}
}

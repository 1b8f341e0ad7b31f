package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// gateStore is executions by ID; those that wait are listed until they are decided.
type gateStore struct {
	all     map[string]assay.Execution
	waiting []string
	met     []string
	idle    bool
	reports []assay.Report
}

func (s *gateStore) NeedsEnded(context.Context, int) (list []assay.Execution, err error) {
	for _, id := range s.waiting {
		list = append(list, s.all[id])
	}
	return list, nil
}

func (s *gateStore) Execution(_ context.Context, id string) (assay.Execution, error) {
	x, ok := s.all[id]
	if !ok {
		return x, assay.ErrNotFound
	}
	return x, nil
}

func (s *gateStore) NeedsMet(_ context.Context, id string) error {
	s.met, s.waiting = append(s.met, id), nil
	return nil
}

func (s *gateStore) NeedsUnmet(_ context.Context, id string, c assay.Conclusion, reports []assay.Report) error {
	x := s.all[id]
	x.Verdict, x.Reason = c.Verdict, c.Reason
	s.all[id], s.waiting, s.reports = x, nil, reports
	return nil
}

func (s *gateStore) Conclude(ctx context.Context, id string, _ int, c assay.Conclusion, reports []assay.Report) error {
	s.idle = true
	return s.NeedsUnmet(ctx, id, c, reports)
}

// stubborn is a queue that takes what it is given at the second try.
type stubborn struct {
	Queue
	refused, taken []string
}

func (q *stubborn) Publish(_ context.Context, x assay.Execution) error {
	if len(q.refused) == 0 {
		q.refused = append(q.refused, x.ID)
		return errors.New("the queue is away")
	}
	q.taken = append(q.taken, x.ID)
	return nil
}

func TestGate(t *testing.T) {
	optional := ended("a", "a", "failed")
	optional.Optional = true
	unmet := ended("a", "a", "skipped", ended("z", "z", "failed"))
	gone := ended("gone", "gone", "passed")
	long := ended("a", "a", "errored")
	long.Arch, long.Variant = "x86_64", "python=3.12"
	for name, tt := range map[string]struct {
		needs  []assay.Execution
		reason string // "" for run
		state  assay.StatusState
		idle   bool
	}{
		"passed":               {needs: []assay.Execution{ended("a", "a", "passed")}},
		"failed":               {needs: []assay.Execution{ended("a", "a", "failed")}, reason: "needs a, which failed", state: "error"},
		"not required":         {needs: []assay.Execution{optional}, reason: "needs a, which failed (it is not required, but this check is)", state: "error"},
		"one of two":           {needs: []assay.Execution{ended("a", "a", "passed"), ended("b", "b", "crashed")}, reason: "needs b, which crashed", state: "error"},
		"both":                 {needs: []assay.Execution{ended("a", "a", "cancelled"), long}, reason: "needs a, which was cancelled, and a/x86_64/python=3.12, which errored", state: "error"},
		"nothing to look at":   {needs: []assay.Execution{ended("a", "a", "skipped")}, reason: "needs a, which was skipped", state: "success", idle: true},
		"skipped for its need": {needs: []assay.Execution{unmet}, reason: "needs a, which was skipped", state: "error"},
		"pruned":               {needs: []assay.Execution{gone}, reason: "needs gone, which is not kept any more: run it again", state: "error"},
	} {
		x := assay.Execution{ID: "x", Check: "x", State: assay.StateQueued, NeedsState: assay.NeedsEnded, Target: assay.Commit{Repo: "/r", SHA: "s"}}
		s := &gateStore{all: map[string]assay.Execution{}, waiting: []string{"x"}}
		for i, n := range tt.needs {
			id := string(rune('0' + i))
			x.Needs = append(x.Needs, assay.Need{Check: n.Check, Execution: id})
			if n.Check != "gone" {
				s.all[id] = n
			}
		}
		s.all["x"] = x
		q, told := &stubborn{}, 0
		g := &Gate{Store: s, Queue: q, Page: page, Log: zerolog.Nop(), Finished: func() { told++ }}
		err := g.pass(t.Context())
		if tt.reason == "" {
			if err == nil || len(q.taken) > 0 || len(s.met) != 1 {
				t.Errorf("%s: %v, let go %v, queued %v", name, err, s.met, q.taken)
			}
			if err := g.pass(t.Context()); err != nil || len(q.taken) != 1 || len(s.met) != 1 {
				t.Errorf("%s, the second time: %v, queued %v", name, err, q.taken)
			}
			continue
		}
		got := s.all["x"]
		if err != nil || got.Reason != tt.reason || told != 1 || s.idle != tt.idle || len(q.taken) > 0 {
			t.Errorf("%s: %v, %s: %q", name, err, got.Verdict, got.Reason)
		}
		if len(s.reports) == 0 || s.reports[0].Status.State != tt.state || !strings.Contains(s.reports[0].Status.Description, tt.reason) {
			t.Errorf("%s: it reports %+v", name, s.reports)
		}
	}
}

func TestRetriesOfAFormula(t *testing.T) {
	number := func(n int) *int { return &n }
	w := &Worker{Retries: []time.Duration{time.Second, time.Minute}}
	none := &Worker{}
	for _, tt := range []struct {
		worker   *Worker
		retries  *int
		failures int
		after    time.Duration // 0 for no more
	}{
		{w, nil, 1, time.Second}, {w, nil, 2, time.Minute}, {w, nil, 3, 0},
		{w, number(0), 1, 0},
		{w, number(1), 1, time.Second}, {w, number(1), 2, 0},
		{w, number(5), 5, time.Minute}, {w, number(5), 6, 0},
		{none, nil, 1, 0}, {none, number(1), 1, pause},
	} {
		after, again := tt.worker.retry(assay.Execution{Retries: tt.retries}, tt.failures)
		if after != tt.after || again != (tt.after > 0) {
			t.Errorf("%v after %d failures: %s, %v", tt.retries, tt.failures, after, again)
		}
	}
}

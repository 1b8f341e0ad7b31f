package resultstest

import (
	"testing"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
)

// needing is an execution that needs others.
func needing(check string, needed ...assay.Execution) assay.Execution {
	e := execution("rpms/hello", check)
	for _, n := range needed {
		e.Needs = append(e.Needs, assay.Need{Check: n.Check, Execution: n.ID})
	}
	return e
}

func stateOf(t *testing.T, s *results.Store, e assay.Execution) assay.NeedsState {
	t.Helper()
	return must[assay.Execution](t)(s.Execution(t.Context(), e.ID)).NeedsState
}

func testFormulaFields(t *testing.T, open Open) {
	s := start(t, open)
	none, three := 0, 3
	a, b, c := execution("rpms/hello", "a"), execution("rpms/hello", "b"), execution("rpms/hello", "c")
	a.Variant, a.Retries, a.Trusted = "image=fedora-42,python=3.12", &none, true
	b.Retries = &three
	plan(t, s, a, b, c)
	for _, want := range []assay.Execution{a, b, c} {
		got := must[assay.Execution](t)(s.Execution(t.Context(), want.ID))
		same(t, want.Check, []any{got.Variant, got.Retries, got.Trusted, got.Needs, got.NeedsState},
			[]any{want.Variant, want.Retries, want.Trusted, want.Needs, want.NeedsState})
	}
}

func testNeeds(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := execution("rpms/hello", "a"), execution("rpms/hello", "b")
	waits, also := needing("waits", a, b), needing("also", b)
	last := needing("last", waits)
	plan(t, s, last, waits, also, a, b) // in any order
	for _, x := range []assay.Execution{waits, also, last} {
		if got := stateOf(t, s, x); got != assay.NeedsOpen {
			t.Errorf("%s is %q", x.Check, got)
		}
	}
	_, err := s.Begin(t.Context(), waits.ID, false)
	isErr(t, "beginning what waits", err, assay.ErrFenced)
	_, err = s.Begin(t.Context(), waits.ID, true)
	isErr(t, "taking over what waits", err, assay.ErrFenced)
	isErr(t, "running what waits", s.NeedsMet(t.Context(), waits.ID), assay.ErrFinished)
	x := must[assay.Execution](t)(s.Begin(t.Context(), b.ID, false))
	ok(t, s.Conclude(t.Context(), b.ID, x.Attempt, passed, nil))
	same(t, "ended", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 10))), []string{also.ID})

	ok(t, s.Close()) // as a process ends that did not come to do it
	s = open(t, dir)
	defer s.Close()
	same(t, "ended, after a restart", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 10))), []string{also.ID})
	for _, x := range must[[]assay.Execution](t)(s.Requeue(t.Context())) {
		if want := x.ID != a.ID; x.Waits() != want {
			t.Errorf("%s waits: %v", x.Check, x.Waits())
		}
	}
	ok(t, s.NeedsMet(t.Context(), also.ID))
	isErr(t, "twice", s.NeedsMet(t.Context(), also.ID), assay.ErrFinished)
	if x := must[assay.Execution](t)(s.Begin(t.Context(), also.ID, false)); x.NeedsState != assay.NeedsMet || x.Needs[0].Execution != b.ID {
		t.Errorf("begun as %+v", x)
	}
	same(t, "history", notes(t, s, also.ID), []string{"queued", "queued: what it needs has passed", "running 1"})

	ok(t, s.Conclude(t.Context(), a.ID, 0, assay.Conclusion{Verdict: assay.VerdictFailed, Reason: "no"}, nil))
	same(t, "ended", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 10))), []string{waits.ID})
	skip := assay.Conclusion{Verdict: assay.VerdictSkipped, Reason: "needs a, which failed"}
	ok(t, s.NeedsUnmet(t.Context(), waits.ID, skip, []assay.Report{status(waits, assay.StatusError, "skipped")}))
	isErr(t, "twice", s.NeedsUnmet(t.Context(), waits.ID, skip, nil), assay.ErrFinished)
	if x := must[assay.Execution](t)(s.Execution(t.Context(), waits.ID)); x.NeedsState != assay.NeedsUnmet || x.Verdict != assay.VerdictSkipped || x.Reason != skip.Reason || x.Waits() {
		t.Errorf("skipped as %+v", x)
	}
	same(t, "owed", texts(owed(t, s)), []string{"skipped"})
	same(t, "then", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 10))), []string{last.ID})
}

func testNeedsOfWhatHasEnded(t *testing.T, open Open) {
	s := start(t, open)
	done := planned(t, s)
	ok(t, s.Conclude(t.Context(), done.ID, 0, passed, nil))
	bad := execution("rpms/hello", "bad")
	bad.Verdict = assay.VerdictErrored
	gone := assay.Execution{ID: uuid.NewString(), Check: "gone"}
	var want []string
	for _, needed := range []assay.Execution{done, bad, gone} {
		w := needing("waits", needed, needed)
		plan(t, s, append([]assay.Execution{w}, map[bool][]assay.Execution{true: {bad}}[needed.ID == bad.ID]...)...)
		want = append(want, w.ID)
	}
	same(t, "ended", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 10))), want)
	same(t, "the first", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 1))), want[:1])
}

func testNeedsCancelled(t *testing.T, open Open) {
	s := start(t, open)
	a := execution("rpms/hello", "a")
	b, c := needing("b", a), needing("c", a)
	plan(t, s, a, b, c)
	e := addPush(t, s, "x", 0, at(5))
	ok(t, s.PlanEvent(t.Context(), e.ID, assay.Decision{Cancel: []assay.Cancellation{
		{Execution: a.ID, Reason: "newer"}, {Execution: b.ID, Reason: "newer"},
	}}))
	same(t, "ended", ids(must[[]assay.Execution](t)(s.NeedsEnded(t.Context(), 10))), []string{c.ID})
	isErr(t, "running what was cancelled", s.NeedsMet(t.Context(), b.ID), assay.ErrFinished)
	isErr(t, "an unknown one", s.NeedsMet(t.Context(), uuid.NewString()), assay.ErrNotFound)
	if x := must[assay.Execution](t)(s.Execution(t.Context(), b.ID)); x.Verdict != assay.VerdictCancelled {
		t.Errorf("it is %+v", x)
	}
}

package resultstest

import (
	"fmt"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/google/uuid"
)

// Writes that fail share transactions with writes that do not.
func testGroup(t *testing.T, open Open) {
	s := start(t, open)
	taken := planned(t, s)
	const n = 96
	events := make([]string, n)
	for i := range n {
		events[i] = addEvent(t, s, buildEvent("rpms/hello", fmt.Sprint(i)))
	}
	made := make([]assay.Execution, n)
	for i, err := range together(n, func(i int) error {
		made[i] = execution("rpms/hello", "x")
		list := []assay.Execution{made[i]}
		if i%3 == 0 { // fails after a first row is written
			bad := execution("rpms/hello", "y")
			bad.ID = taken.ID
			list = append(list, bad)
		}
		return s.PlanEvent(t.Context(), events[i], assay.Decision{Executions: list, Reports: []assay.Report{status(made[i], assay.StatusPending, "")}})
	}) {
		_, readErr := s.Execution(t.Context(), made[i].ID)
		if fails := i%3 == 0; fails != (err != nil) || fails != (readErr != nil) {
			t.Errorf("plan %d: error %v, and reading it %v", i, err, readErr)
		}
		state := must[assay.EventRecord](t)(s.Event(t.Context(), events[i])).State
		if want := map[bool]assay.EventState{true: assay.EventNew, false: assay.EventPlanned}[i%3 == 0]; state != want {
			t.Errorf("event %d is %s, want %s", i, state, want)
		}
	}
}

func testReopen(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir)
	owner := s.Owner()
	if _, err := uuid.Parse(owner); err != nil {
		t.Errorf("the owner is %q: %v", owner, err)
	}
	e := begun(t, s)
	ok(t, s.Conclude(t.Context(), e.ID, 1, passed, []assay.Report{status(e, assay.StatusSuccess, "final")}))
	want := must[assay.Execution](t)(s.Execution(t.Context(), e.ID))
	ok(t, s.Close())

	s = open(t, dir)
	defer s.Close()
	if s.Owner() != owner {
		t.Errorf("the owner was %s and is %s", owner, s.Owner())
	}
	same(t, "the execution", must[assay.Execution](t)(s.Execution(t.Context(), e.ID)), want)
	same(t, "owed", texts(owed(t, s)), []string{"final"})
	other := start(t, open)
	if other.Owner() == owner {
		t.Error("two data directories have one owner")
	}
}

func testClosed(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	ok(t, s.Close())
	ok(t, s.Close())
	if _, _, err := s.AddEvent(t.Context(), buildEvent("rpms/hello", "1"), nil, nil); err == nil {
		t.Error("a closed store took an event")
	}
	if _, err := s.Events(t.Context(), 1); err == nil {
		t.Error("a closed store could be read")
	}
}

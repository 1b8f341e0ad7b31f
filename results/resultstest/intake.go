package resultstest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/google/uuid"
)

func testEvent(t *testing.T, open Open) {
	s := start(t, open)
	pull := assay.Event{
		Source: "github", Delivery: "d-1", Kind: assay.EventPullRequest, Received: at(5),
		Repo: "rpms/hello", Ref: "refs/heads/main", Commit: "beef", PullRequest: 12,
	}
	for _, e := range []assay.Event{buildEvent("rpms/hello", "1"), pull} {
		header := http.Header{"X-Github-Event": {"a", "b"}}
		body := []byte("\x00\xff{}" + e.Delivery)
		id, fresh, err := s.AddEvent(t.Context(), e, header, body)
		ok(t, err)
		if !fresh {
			t.Error("the first delivery is not fresh")
		}
		e.ID = id
		got := must[assay.EventRecord](t)(s.Event(t.Context(), id))
		same(t, "event", got, assay.EventRecord{Event: e, State: assay.EventNew})
		gotHeader, gotBody, err := s.Delivery(t.Context(), id)
		ok(t, err)
		same(t, "header", gotHeader, header)
		same(t, "body", gotBody, body)
	}
	_, err := s.Event(t.Context(), uuid.NewString())
	isErr(t, "unknown event", err, assay.ErrNotFound)
	_, _, err = s.Delivery(t.Context(), "no UUID")
	isErr(t, "unknown delivery", err, assay.ErrNotFound)
}

func testEventRepeats(t *testing.T, open Open) {
	s := start(t, open)
	first := buildEvent("rpms/hello", "1")
	id := addEvent(t, s, first)
	change := func(f func(*assay.Event)) assay.Event {
		e := first
		f(&e)
		return e
	}
	for _, tt := range []struct {
		name  string
		event assay.Event
		fresh bool
	}{
		{"same delivery", first, false},
		{"same delivery, other meaning", change(func(e *assay.Event) { e.Meaning = "other" }), false},
		{"same delivery, no meaning", change(func(e *assay.Event) { e.Meaning = "" }), false},
		{"same meaning, other delivery", change(func(e *assay.Event) { e.Delivery = "other" }), false},
		{"ignored repeat", change(func(e *assay.Event) { e.Ignored = "why" }), false},
		{"other source", change(func(e *assay.Event) { e.Source = "git" }), true},
		{"other delivery and meaning", change(func(e *assay.Event) { e.Delivery, e.Meaning = "d2", "m2" }), true},
		{"no meaning", change(func(e *assay.Event) { e.Delivery, e.Meaning = "d3", "" }), true},
		{"no meaning again", change(func(e *assay.Event) { e.Delivery, e.Meaning = "d4", "" }), true},
		{"no delivery", change(func(e *assay.Event) { e.Delivery, e.Meaning = "", "" }), true},
		{"no delivery again", change(func(e *assay.Event) { e.Delivery, e.Meaning = "", "" }), true},
	} {
		got, fresh, err := s.AddEvent(t.Context(), tt.event, nil, []byte("other body"))
		ok(t, err)
		if fresh != tt.fresh || (got == id) == tt.fresh {
			t.Errorf("%s: got %s, fresh %v; the first is %s", tt.name, got, fresh, id)
		}
	}
	first.ID = id
	same(t, "the first event", must[assay.EventRecord](t)(s.Event(t.Context(), id)), assay.EventRecord{Event: first, State: assay.EventNew})
	if n := must[int](t)(s.Repeats(t.Context(), id)); n != 5 {
		t.Errorf("%d repeats were counted, want 5", n)
	}
	_, err := s.Repeats(t.Context(), "x")
	isErr(t, "repeats of nothing", err, assay.ErrNotFound)
}

func testEventRefused(t *testing.T, open Open) {
	s := start(t, open)
	taken := addEvent(t, s, buildEvent("rpms/hello", "1"))
	for name, change := range map[string]func(*assay.Event){
		"no source":      func(e *assay.Event) { e.Source = "" },
		"ID is no UUID":  func(e *assay.Event) { e.ID = "../1" },
		"ID is in use":   func(e *assay.Event) { e.ID = taken },
		"ID in capitals": func(e *assay.Event) { e.ID = strings.ToUpper(taken) },
	} {
		e := buildEvent("rpms/hello", "2")
		change(&e)
		if _, _, err := s.AddEvent(t.Context(), e, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "cannot keep") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, _, err := s.AddEvent(cancelled(t), buildEvent("rpms/hello", "3"), nil, nil); err == nil {
		t.Error("an event was taken for a caller who has left")
	}
	if n := len(must[[]assay.EventRecord](t)(s.Events(t.Context(), 10))); n != 1 {
		t.Errorf("%d events were kept, want 1", n)
	}
}

func testEventRace(t *testing.T, open Open) {
	s := start(t, open)
	for round, change := range []func(e *assay.Event, i int){
		func(e *assay.Event, i int) { e.Meaning = "" },
		func(e *assay.Event, i int) { e.Delivery = fmt.Sprint("d", i) },
	} {
		const n = 64
		got, fresh := make([]string, n), make([]bool, n)
		for _, err := range together(n, func(i int) (err error) {
			e := buildEvent("rpms/hello", fmt.Sprint("round", round))
			change(&e, i+n*round)
			got[i], fresh[i], err = s.AddEvent(t.Context(), e, nil, []byte("body"))
			return err
		}) {
			ok(t, err)
		}
		count := 0
		for i := range n {
			if got[i] != got[0] {
				t.Errorf("round %d: two IDs for one event: %s, %s", round, got[i], got[0])
			}
			if fresh[i] {
				count++
			}
		}
		if count != 1 {
			t.Errorf("round %d: %d of %d deliveries are fresh, want 1", round, count, n)
		}
		if r := must[int](t)(s.Repeats(t.Context(), got[0])); r != n-1 {
			t.Errorf("round %d: %d repeats, want %d", round, r, n-1)
		}
	}
}

func testEventHostileText(t *testing.T, open Open) {
	s := start(t, open)
	e := buildEvent("rpms/hello", "1")
	e.Delivery, e.Meaning = "a\x00b", "\xff'; DROP TABLE events; --"
	e.Ref = "refs/heads/\x00\xfe☃"
	e.Ignored = "two\nlines\t" + strings.Repeat("é", 2000)
	id := addEvent(t, s, e)
	got := must[assay.EventRecord](t)(s.Event(t.Context(), id))
	same(t, "ref", got.Ref, "refs/heads/\uFFFD\uFFFD☃")
	if len(got.Note) > 1000 || !strings.HasPrefix(got.Note, "two lines é") || !strings.HasSuffix(got.Note, "é…") {
		t.Errorf("the note is %d bytes: %q", len(got.Note), got.Note)
	}
	if again, fresh, err := s.AddEvent(t.Context(), e, nil, nil); again != id || fresh || err != nil {
		t.Errorf("the repeat gave %s, %v, %v", again, fresh, err)
	}
}

func testEventRetries(t *testing.T, open Open) {
	s := start(t, open)
	id := addEvent(t, s, buildEvent("rpms/hello", "1"))
	waiting := func() int { return len(must[[]assay.EventRecord](t)(s.NewEvents(t.Context(), 10))) }
	if waiting() != 1 {
		t.Fatal("the new event is not listed")
	}
	ok(t, s.EventTried(t.Context(), id, "no network", time.Now().Add(time.Hour)))
	if waiting() != 0 {
		t.Error("an event is listed before its time")
	}
	got := must[assay.EventRecord](t)(s.Event(t.Context(), id))
	if got.State != assay.EventNew || got.Note != "no network" || got.Tries != 1 {
		t.Errorf("after a failed try: %s, %q, %d tries", got.State, got.Note, got.Tries)
	}
	ok(t, s.EventTried(t.Context(), id, "still none", time.Now().Add(-time.Second)))
	if waiting() != 1 {
		t.Error("an event is not listed when its time has come")
	}
	e := execution("rpms/hello", "c")
	ok(t, s.FailEvent(t.Context(), id, "gave up", []assay.Report{status(e, assay.StatusError, "gave up")}))
	got = must[assay.EventRecord](t)(s.Event(t.Context(), id))
	if got.State != assay.EventFailed || got.Note != "gave up" || got.Tries != 3 || waiting() != 0 {
		t.Errorf("after giving up: %s, %q, %d tries, %d waiting", got.State, got.Note, got.Tries, waiting())
	}
	if n := len(owed(t, s)); n != 1 {
		t.Errorf("%d reports are owed, want 1", n)
	}
	isErr(t, "try again", s.EventTried(t.Context(), id, "x", time.Time{}), assay.ErrFinished)
	isErr(t, "fail again", s.FailEvent(t.Context(), id, "x", nil), assay.ErrFinished)
	isErr(t, "try unknown", s.EventTried(t.Context(), uuid.NewString(), "x", time.Time{}), assay.ErrNotFound)
	isErr(t, "fail unknown", s.FailEvent(t.Context(), uuid.NewString(), "x", nil), assay.ErrNotFound)
}

func testEventOrder(t *testing.T, open Open) {
	s := start(t, open)
	var want []string
	for _, n := range []int{3, 1, 2} {
		e := buildEvent("rpms/hello", fmt.Sprint(n))
		e.Received = at(n)
		want = append(want, addEvent(t, s, e))
	}
	ignored := buildEvent("rpms/hello", "0")
	ignored.Received, ignored.Ignored = at(0), "a build that failed"
	want = append(want, addEvent(t, s, ignored))
	list := func(events []assay.EventRecord, err error) (got []string) {
		ok(t, err)
		for _, e := range events {
			got = append(got, e.ID)
		}
		return got
	}
	same(t, "new events", list(s.NewEvents(t.Context(), 10)), []string{want[1], want[2], want[0]})
	same(t, "two new events", list(s.NewEvents(t.Context(), 2)), []string{want[1], want[2]})
	same(t, "events", list(s.Events(t.Context(), 10)), []string{want[0], want[2], want[1], want[3]})
	same(t, "newest event", list(s.Events(t.Context(), 1)), []string{want[0]})
	got := must[assay.EventRecord](t)(s.Event(t.Context(), want[3]))
	if got.State != assay.EventIgnored || got.Note != ignored.Ignored {
		t.Errorf("the ignored event is %s: %q", got.State, got.Note)
	}
}

func testLatestBuild(t *testing.T, open Open) {
	s := start(t, open)
	add := func(id string, n int, change func(*assay.Event)) string {
		e := buildEvent("rpms/hello", id)
		e.Received = at(n)
		change(&e)
		return addEvent(t, s, e)
	}
	plain := func(*assay.Event) {}
	add("1", 1, plain)
	want := add("3", 3, plain)
	add("2", 2, plain)
	add("4", 4, func(e *assay.Event) { e.Build.Package = "rpms/other" })
	add("5", 5, func(e *assay.Event) { e.Ignored = "the build failed" })
	add("6", 6, func(e *assay.Event) { e.Kind, e.Build = assay.EventPush, nil })
	ok(t, s.PlanEvent(t.Context(), want, assay.Decision{Note: "no check wants it"}))
	got := must[assay.Event](t)(s.LatestBuild(t.Context(), "rpms/hello"))
	if got.ID != want || got.Build == nil || got.Build.ID != "3" {
		t.Errorf("got %+v, want event %s", got, want)
	}
	_, err := s.LatestBuild(t.Context(), "rpms/none")
	isErr(t, "no build", err, assay.ErrNotFound)
	_, err = s.LatestBuild(t.Context(), "")
	isErr(t, "no package", err, assay.ErrNotFound)
}

func testPlan(t *testing.T, open Open) {
	s := start(t, open)
	id := addEvent(t, s, buildEvent("rpms/hello", "1"))
	queued, skipped := execution("rpms/hello", "a"), execution("rpms/hello", "b")
	skipped.Verdict, skipped.Reason = assay.VerdictSkipped, "no build for this architecture"
	given := []assay.Execution{queued, skipped}
	ok(t, s.PlanEvent(t.Context(), id, assay.Decision{Note: "2 checks", Executions: given, Reports: []assay.Report{status(queued, assay.StatusPending, "queued")}}))
	same(t, "the caller's executions", given, []assay.Execution{queued, skipped})

	queued.EventID, queued.State = id, assay.StateQueued
	same(t, "queued", must[assay.Execution](t)(s.Execution(t.Context(), queued.ID)), queued)
	same(t, "its history", notes(t, s, queued.ID), []string{"queued"})
	got := must[assay.Execution](t)(s.Execution(t.Context(), skipped.ID))
	if got.Finished.IsZero() {
		t.Error("a finished execution has no end")
	}
	skipped.EventID, skipped.State, skipped.Finished = id, assay.StateFinished, got.Finished
	same(t, "skipped", got, skipped)
	same(t, "its history", notes(t, s, skipped.ID), []string{"queued", "finished: skipped: " + skipped.Reason})
	_, err := s.Begin(t.Context(), skipped.ID, true)
	isErr(t, "begin a skipped one", err, assay.ErrFinished)

	e := must[assay.EventRecord](t)(s.Event(t.Context(), id))
	if e.State != assay.EventPlanned || e.Note != "2 checks" || e.Tries != 1 {
		t.Errorf("the event is %s, %q, %d tries", e.State, e.Note, e.Tries)
	}
	if n := len(owed(t, s)); n != 1 {
		t.Errorf("%d reports are owed, want 1", n)
	}
	testEmptyPlans(t, s)
}

func testEmptyPlans(t *testing.T, s *results.Store) {
	for note, want := range map[string]assay.EventState{"": assay.EventPlanned, "no check wants it": assay.EventIgnored} {
		id := addEvent(t, s, buildEvent("rpms/hello", uuid.NewString()))
		ok(t, s.PlanEvent(t.Context(), id, assay.Decision{Note: note}))
		e := must[assay.EventRecord](t)(s.Event(t.Context(), id))
		if e.State != want || e.Note != note {
			t.Errorf("planned with nothing and %q: %s, %q", note, e.State, e.Note)
		}
	}
}

// Whatever is wrong with a plan, nothing of it is kept and the event stays new.
func testPlanIsWhole(t *testing.T, open Open) {
	s := start(t, open)
	taken := planned(t, s)
	id := addEvent(t, s, buildEvent("rpms/hello", "1"))
	good := execution("rpms/hello", "good")
	for name, change := range map[string]func(*assay.Execution){
		"ID is no UUID": func(e *assay.Execution) { e.ID = "x" },
		"ID is in use":  func(e *assay.Execution) { e.ID = taken.ID },
		"ID twice":      func(e *assay.Execution) { e.ID = good.ID },
		"other event":   func(e *assay.Execution) { e.EventID = taken.EventID },
		"no verdict":    func(e *assay.Execution) { e.Verdict = "maybe" },
	} {
		bad := execution("rpms/hello", "bad")
		change(&bad)
		if s.PlanEvent(t.Context(), id, assay.Decision{Executions: []assay.Execution{good, bad}, Reports: []assay.Report{status(good, assay.StatusPending, "")}}) == nil {
			t.Errorf("%s: the plan was taken", name)
		}
		_, err := s.Execution(t.Context(), good.ID)
		isErr(t, name, err, assay.ErrNotFound)
	}
	if e := must[assay.EventRecord](t)(s.Event(t.Context(), id)); e.State != assay.EventNew || len(owed(t, s)) != 0 {
		t.Errorf("the event is %s and %d reports are owed after failed plans", e.State, len(owed(t, s)))
	}
	isErr(t, "unknown event", s.PlanEvent(t.Context(), uuid.NewString(), assay.Decision{}), assay.ErrNotFound)
	ok(t, s.PlanEvent(t.Context(), id, assay.Decision{Executions: []assay.Execution{good}}))
}

func testPlanRace(t *testing.T, open Open) {
	s := start(t, open)
	id := addEvent(t, s, buildEvent("rpms/hello", "1"))
	oneWins(t, together(16, func(int) error {
		e := execution("rpms/hello", "a")
		return s.PlanEvent(context.WithoutCancel(t.Context()), id, assay.Decision{Executions: []assay.Execution{e}, Reports: []assay.Report{status(e, assay.StatusPending, "")}})
	}), assay.ErrFinished)
	if n := len(must[[]assay.Execution](t)(s.Executions(t.Context(), assay.ExecutionFilter{EventID: id}))); n != 1 {
		t.Errorf("%d executions were written, want 1", n)
	}
}

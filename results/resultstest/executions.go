package resultstest

import (
	"fmt"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/google/uuid"
)

var passed = assay.Conclusion{Verdict: assay.VerdictPassed, Reason: "2 of 2 passed"}

func testLife(t *testing.T, open Open) {
	s := start(t, open)
	before := time.Now()
	e := begun(t, s)
	if e.State != assay.StateRunning || e.Attempt != 1 || e.Started.Before(before) || e.Started.After(time.Now()) {
		t.Errorf("begun: %s, attempt %d, started %s", e.State, e.Attempt, e.Started)
	}
	same(t, "what Begin returned", e, must[assay.Execution](t)(s.Execution(t.Context(), e.ID)))
	c := assay.Conclusion{
		Verdict: assay.VerdictFailed, Reason: "1 of 2\nfailed",
		Results: []assay.Result{
			{Item: "hello-1.0-3.fc42", Type: "koji_build", Checkname: "pkg.greets.a", Outcome: assay.Passed},
			{Item: "hello\x00", Checkname: "pkg.greets.b", Outcome: assay.Failed, Note: "said\nbye", Artifact: "b/out.txt",
				Data: map[string][]string{"seed": {"1", "2"}, "arch": {"x86_64"}}},
		},
		Artifacts: []assay.Artifact{{Path: "b/out.txt", Size: 1 << 40}, {Path: "a.log", Size: 0}},
	}
	ok(t, s.Conclude(t.Context(), e.ID, 1, c, []assay.Report{status(e, assay.StatusFailure, "1 of 2 failed"), comment(e, "b failed")}))

	got := must[assay.Execution](t)(s.Execution(t.Context(), e.ID))
	if got.Finished.Before(e.Started) {
		t.Errorf("it ended at %s, before it started", got.Finished)
	}
	e.State, e.Verdict, e.Reason, e.Finished = assay.StateFinished, assay.VerdictFailed, "1 of 2 failed", got.Finished
	same(t, "concluded", got, e)
	c.Results[1].Item = "hello\uFFFD"
	same(t, "results", must[[]assay.Result](t)(s.Results(t.Context(), e.ID)), c.Results)
	same(t, "artifacts", must[[]assay.Artifact](t)(s.Artifacts(t.Context(), e.ID)), []assay.Artifact{c.Artifacts[1], c.Artifacts[0]})
	same(t, "history", notes(t, s, e.ID), []string{"queued", "running 1", "finished: failed: 1 of 2 failed"})
	if n := len(owed(t, s)); n != 2 {
		t.Errorf("%d reports are owed, want 2", n)
	}
	if n := must[int](t)(s.Interruptions(t.Context(), e.ID)); n != 0 {
		t.Errorf("%d interruptions", n)
	}
}

func testFence(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	_, err := s.Begin(t.Context(), e.ID, false)
	isErr(t, "begin what runs", err, assay.ErrFenced)
	second := must[assay.Execution](t)(s.Begin(t.Context(), e.ID, true))
	if second.Attempt != 2 {
		t.Fatalf("taken over at attempt %d", second.Attempt)
	}
	for _, late := range []int{1, 0, 3} {
		isErr(t, fmt.Sprint("step of attempt ", late), s.Step(t.Context(), e.ID, assay.StepRun{Attempt: late, Number: 1}), assay.ErrFenced)
		isErr(t, fmt.Sprint("conclude attempt ", late), s.Conclude(t.Context(), e.ID, late, passed, []assay.Report{status(e, assay.StatusSuccess, "")}), assay.ErrFenced)
		_, err := s.Retry(t.Context(), e.ID, late, "late")
		isErr(t, fmt.Sprint("retry attempt ", late), err, assay.ErrFenced)
	}
	if n := len(owed(t, s)); n != 0 {
		t.Errorf("a fenced conclusion left %d reports", n)
	}
	ok(t, s.Step(t.Context(), e.ID, assay.StepRun{Attempt: 2, Number: 1, Name: "shell"}))
	ok(t, s.Conclude(t.Context(), e.ID, 2, passed, nil))

	isErr(t, "conclude twice", s.Conclude(t.Context(), e.ID, 2, passed, nil), assay.ErrFinished)
	isErr(t, "conclude late and finished", s.Conclude(t.Context(), e.ID, 1, passed, nil), assay.ErrFenced)
	isErr(t, "step when finished", s.Step(t.Context(), e.ID, assay.StepRun{Attempt: 2, Number: 2}), assay.ErrFenced)
	_, err = s.Begin(t.Context(), e.ID, true)
	isErr(t, "begin when finished", err, assay.ErrFinished)
	_, err = s.Retry(t.Context(), e.ID, 2, "x")
	isErr(t, "retry when finished", err, assay.ErrFinished)
	same(t, "history", notes(t, s, e.ID), []string{"queued", "running 1", "running 2: taken over", "finished: passed: 2 of 2 passed"})
	if n := must[int](t)(s.Interruptions(t.Context(), e.ID)); n != 1 {
		t.Errorf("%d interruptions, want 1", n)
	}
}

func testBeginRace(t *testing.T, open Open) {
	s := start(t, open)
	e := planned(t, s)
	oneWins(t, together(32, func(int) error {
		_, err := s.Begin(t.Context(), e.ID, false)
		return err
	}), assay.ErrFenced)
	attempts := make([]int, 16)
	for _, err := range together(len(attempts), func(i int) error {
		got, err := s.Begin(t.Context(), e.ID, true)
		attempts[i] = got.Attempt
		return err
	}) {
		ok(t, err)
	}
	seen := map[int]bool{}
	for _, n := range attempts {
		if seen[n] || n < 2 || n > 17 {
			t.Errorf("attempt %d was handed out twice or is wrong", n)
		}
		seen[n] = true
	}
}

func testConcludeRace(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	oneWins(t, together(32, func(i int) error {
		c := assay.Conclusion{Verdict: assay.VerdictPassed, Reason: fmt.Sprint(i), Results: []assay.Result{{Note: fmt.Sprint(i)}}}
		return s.Conclude(t.Context(), e.ID, 1, c, []assay.Report{status(e, assay.StatusSuccess, fmt.Sprint(i))})
	}), assay.ErrFinished)
	got := must[assay.Execution](t)(s.Execution(t.Context(), e.ID))
	list := must[[]assay.Result](t)(s.Results(t.Context(), e.ID))
	reports := owed(t, s)
	if len(list) != 1 || list[0].Note != got.Reason || len(reports) != 1 || reports[0].Status.Description != got.Reason {
		t.Errorf("reason %q, results %+v and reports %+v are not of one conclusion", got.Reason, list, reports)
	}
}

func testConcludeIsWhole(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	bad := passed
	bad.Results = []assay.Result{{Note: "kept?"}}
	bad.Artifacts = []assay.Artifact{{Path: "same"}, {Path: "same"}}
	if s.Conclude(t.Context(), e.ID, 1, bad, []assay.Report{status(e, assay.StatusSuccess, "")}) == nil {
		t.Error("one artifact twice was taken")
	}
	if s.Conclude(t.Context(), e.ID, 1, assay.Conclusion{}, nil) == nil || s.Conclude(t.Context(), e.ID, 1, assay.Conclusion{Verdict: "fine"}, nil) == nil {
		t.Error("a conclusion without a verdict was taken")
	}
	same(t, "the execution", must[assay.Execution](t)(s.Execution(t.Context(), e.ID)), e)
	if n := len(must[[]assay.Result](t)(s.Results(t.Context(), e.ID))); n != 0 || len(owed(t, s)) != 0 {
		t.Errorf("%d results and %d reports of a failed conclusion were kept", n, len(owed(t, s)))
	}
	ok(t, s.Conclude(t.Context(), e.ID, 1, passed, nil))
}

// A person, a newer commit, or dispatch that gives up ends what does not run.
func testConcludeQueued(t *testing.T, open Open) {
	s := start(t, open)
	e := planned(t, s)
	ok(t, s.Conclude(t.Context(), e.ID, 0, assay.Conclusion{Verdict: assay.VerdictCancelled}, nil))
	same(t, "history", notes(t, s, e.ID), []string{"queued", "finished: cancelled"})

	e = begun(t, s)
	must[int](t)(s.Retry(t.Context(), e.ID, 1, "no machine"))
	ok(t, s.Conclude(t.Context(), e.ID, 1, assay.Conclusion{Verdict: assay.VerdictErrored, Reason: "no machine, 3 times"}, nil))
	if got := must[assay.Execution](t)(s.Execution(t.Context(), e.ID)); got.Verdict != assay.VerdictErrored {
		t.Errorf("the verdict is %q", got.Verdict)
	}
}

func testRetry(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	for want := 1; want <= 3; want++ {
		if n := must[int](t)(s.Retry(t.Context(), e.ID, want, fmt.Sprintf("no machine %d", want))); n != want {
			t.Errorf("%d failures, want %d", n, want)
		}
		got := must[assay.Execution](t)(s.Execution(t.Context(), e.ID))
		if got.State != assay.StateQueued || got.Verdict != "" {
			t.Errorf("after retry %d it is %s %s", want, got.State, got.Verdict)
		}
		if next := must[assay.Execution](t)(s.Begin(t.Context(), e.ID, false)); next.Attempt != want+1 {
			t.Errorf("attempt %d, want %d", next.Attempt, want+1)
		}
	}
	same(t, "history", notes(t, s, e.ID), []string{"queued", "running 1", "queued: no machine 1", "running 2",
		"queued: no machine 2", "running 3", "queued: no machine 3", "running 4"})
}

func testRequeue(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b, c, d := execution("rpms/a", "x"), execution("rpms/b", "x"), execution("rpms/c", "x"), execution("rpms/d", "x")
	c.Created = at(-100) // the order is that of planning, whatever a clock said
	plan(t, s, a, b)
	plan(t, s, c, d)
	must[assay.Execution](t)(s.Begin(t.Context(), a.ID, false))
	must[assay.Execution](t)(s.Begin(t.Context(), b.ID, false))
	ok(t, s.Conclude(t.Context(), b.ID, 1, passed, nil))
	must[assay.Execution](t)(s.Begin(t.Context(), d.ID, false))
	ok(t, s.Close())

	s = open(t, dir)
	defer s.Close()
	for round := range 2 {
		got := must[[]assay.Execution](t)(s.Requeue(t.Context()))
		same(t, fmt.Sprint("unfinished, round ", round), ids(got), []string{a.ID, c.ID, d.ID})
		for _, e := range got {
			same(t, "what was returned", e, must[assay.Execution](t)(s.Execution(t.Context(), e.ID)))
			if e.State != assay.StateQueued {
				t.Errorf("%s is %s", e.Package, e.State)
			}
		}
	}
	for id, want := range map[string]int{a.ID: 1, b.ID: 0, c.ID: 0, d.ID: 1} {
		if n := must[int](t)(s.Interruptions(t.Context(), id)); n != want {
			t.Errorf("%d interruptions, want %d", n, want)
		}
	}
	if e := must[assay.Execution](t)(s.Begin(t.Context(), a.ID, false)); e.Attempt != 2 {
		t.Errorf("attempt %d after the restart, want 2", e.Attempt)
	}
	isErr(t, "a report from before the restart", s.Conclude(t.Context(), a.ID, 1, passed, nil), assay.ErrFenced)
	same(t, "history", notes(t, s, a.ID), []string{"queued", "running 1", "queued: interrupted", "running 2"})
}

func testSteps(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	step := func(attempt, number int, name string, started int) assay.StepRun {
		return assay.StepRun{Attempt: attempt, Number: number, Name: name, Started: at(started)}
	}
	boot, shell, collect := step(1, 0, "boot", 1), step(1, 1, "shell", 2), step(1, 0, "collect", 3)
	for _, run := range []assay.StepRun{collect, boot, shell} {
		ok(t, s.Step(t.Context(), e.ID, run))
	}
	shell.Finished, shell.Outcome = at(4), "ok"
	ok(t, s.Step(t.Context(), e.ID, shell))
	same(t, "first attempt", must[[]assay.StepRun](t)(s.Steps(t.Context(), e.ID)), []assay.StepRun{boot, shell, collect})
	must[assay.Execution](t)(s.Begin(t.Context(), e.ID, true))
	again := step(2, 1, "shell", 0)
	ok(t, s.Step(t.Context(), e.ID, again))
	same(t, "both attempts", must[[]assay.StepRun](t)(s.Steps(t.Context(), e.ID)), []assay.StepRun{boot, shell, collect, again})
}

func testManyResults(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	c := passed
	for i := range 3000 {
		c.Results = append(c.Results, assay.Result{Checkname: fmt.Sprint("case.", i), Outcome: assay.Passed})
	}
	ok(t, s.Conclude(t.Context(), e.ID, 1, c, nil))
	same(t, "results", must[[]assay.Result](t)(s.Results(t.Context(), e.ID)), c.Results)
}

func testFilter(t *testing.T, open Open) {
	s := start(t, open)
	a, b, c := execution("rpms/a", "x"), execution("rpms/b", "x"), execution("rpms/a", "y")
	c.Target.SHA = "other"
	first, second := plan(t, s, a, b), plan(t, s, c)
	must[assay.Execution](t)(s.Begin(t.Context(), b.ID, false))
	for name, tt := range map[string]struct {
		filter assay.ExecutionFilter
		want   []string
	}{
		"all":                {assay.ExecutionFilter{}, []string{c.ID, b.ID, a.ID}},
		"package":            {assay.ExecutionFilter{Package: "rpms/a"}, []string{c.ID, a.ID}},
		"event":              {assay.ExecutionFilter{EventID: first}, []string{b.ID, a.ID}},
		"target":             {assay.ExecutionFilter{Target: a.Target}, []string{a.ID}},
		"other pull request": {assay.ExecutionFilter{Target: assay.Commit{Repo: a.Target.Repo, SHA: a.Target.SHA, PullRequest: 99}}, []string{a.ID}},
		"commit":             {assay.ExecutionFilter{Target: assay.Commit{SHA: "c0ffee"}}, []string{b.ID, a.ID}},
		"repository":         {assay.ExecutionFilter{Target: assay.Commit{Repo: a.Target.Repo}}, []string{c.ID, a.ID}},
		"state":              {assay.ExecutionFilter{State: assay.StateRunning}, []string{b.ID}},
		"several":            {assay.ExecutionFilter{Package: "rpms/a", State: assay.StateQueued, EventID: second}, []string{c.ID}},
		"before":             {assay.ExecutionFilter{Before: c.ID}, []string{b.ID, a.ID}},
		"before the first":   {assay.ExecutionFilter{Before: a.ID}, []string{}},
		"limit":              {assay.ExecutionFilter{Limit: 1}, []string{c.ID}},
		"nothing":            {assay.ExecutionFilter{Package: "rpms/' OR 1=1"}, []string{}},
	} {
		same(t, name, ids(must[[]assay.Execution](t)(s.Executions(t.Context(), tt.filter))), tt.want)
	}
	_, err := s.Executions(t.Context(), assay.ExecutionFilter{Before: uuid.NewString()})
	isErr(t, "before an unknown one", err, assay.ErrNotFound)
}

func testPaging(t *testing.T, open Open) {
	s := start(t, open)
	var want []string
	for range 11 {
		batch := make([]assay.Execution, 100)
		for i := range batch {
			batch[i] = execution("rpms/hello", "x")
			want = append([]string{batch[i].ID}, want...)
		}
		plan(t, s, batch...)
	}
	for limit, first := range map[int]int{0: 50, -1: 50, 130: 130, 1000: 1000, 5000: 1000} {
		f := assay.ExecutionFilter{Package: "rpms/hello", Limit: limit}
		got := ids(must[[]assay.Execution](t)(s.Executions(t.Context(), f)))
		if len(got) != first {
			t.Errorf("limit %d gives %d", limit, len(got))
		}
		for n := len(got); n > 0; {
			f.Before = got[len(got)-1]
			page := ids(must[[]assay.Execution](t)(s.Executions(t.Context(), f)))
			got, n = append(got, page...), len(page)
		}
		same(t, fmt.Sprint("all pages of ", limit), got, want)
	}
}

func testPackages(t *testing.T, open Open) {
	s := start(t, open)
	if got := must[[]assay.Execution](t)(s.Packages(t.Context())); len(got) != 0 {
		t.Errorf("an empty store has packages: %v", got)
	}
	b1, b2, a, c := execution("rpms/b", "x"), execution("rpms/b", "y"), execution("rpms/a", "x"), execution("rpms/c", "x")
	plan(t, s, b1, b2, a, c)
	for _, id := range []string{b1.ID, c.ID} {
		must[assay.Execution](t)(s.Begin(t.Context(), id, false))
		ok(t, s.Conclude(t.Context(), id, 1, passed, nil))
	}
	got := must[[]assay.Execution](t)(s.Packages(t.Context()))
	same(t, "packages", ids(got), []string{a.ID, b1.ID, c.ID})
	if got[0].Verdict != "" || got[1].Verdict != assay.VerdictPassed {
		t.Errorf("the verdicts are %q and %q", got[0].Verdict, got[1].Verdict)
	}
}

func testUnknownExecution(t *testing.T, open Open) {
	s := start(t, open)
	for _, id := range []string{uuid.NewString(), "", "x\x00"} {
		_, err := s.Execution(t.Context(), id)
		isErr(t, "read", err, assay.ErrNotFound)
		_, err = s.Begin(t.Context(), id, true)
		isErr(t, "begin", err, assay.ErrNotFound)
		_, err = s.Retry(t.Context(), id, 1, "")
		isErr(t, "retry", err, assay.ErrNotFound)
		_, err = s.Interruptions(t.Context(), id)
		isErr(t, "interruptions", err, assay.ErrNotFound)
		isErr(t, "step", s.Step(t.Context(), id, assay.StepRun{}), assay.ErrNotFound)
		isErr(t, "conclude", s.Conclude(t.Context(), id, 0, passed, nil), assay.ErrNotFound)
		if n := len(must[[]results.Transition](t)(s.Transitions(t.Context(), id))); n != 0 {
			t.Errorf("%d transitions", n)
		}
	}
}

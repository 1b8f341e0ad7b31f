// Package resultstest is the conformance suite of the store: every database that
// package results can use passes it. A driver's own test is one call of Run.
package resultstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// Open opens the store of a data directory, as it was left when it was last
// closed; a new directory gives an empty store. It fails the test if it cannot.
// The suite closes what it opens.
type Open func(t testing.TB, dir string) *results.Store

// Run runs the suite. Each test has data directories of its own.
func Run(t *testing.T, open Open) {
	tests := []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Event", testEvent},
		{"EventRepeats", testEventRepeats},
		{"EventRefused", testEventRefused},
		{"EventRace", testEventRace},
		{"EventHostileText", testEventHostileText},
		{"EventRetries", testEventRetries},
		{"EventOrder", testEventOrder},
		{"LatestBuild", testLatestBuild},
		{"Plan", testPlan},
		{"PlanIsWhole", testPlanIsWhole},
		{"PlanRace", testPlanRace},
		{"Life", testLife},
		{"Fence", testFence},
		{"BeginRace", testBeginRace},
		{"ConcludeRace", testConcludeRace},
		{"ConcludeIsWhole", testConcludeIsWhole},
		{"ConcludeQueued", testConcludeQueued},
		{"Retry", testRetry},
		{"Requeue", testRequeue},
		{"Steps", testSteps},
		{"ManyResults", testManyResults},
		{"Filter", testFilter},
		{"Paging", testPaging},
		{"Packages", testPackages},
		{"UnknownExecution", testUnknownExecution},
		{"Reports", testReports},
		{"ReportKeys", testReportKeys},
		{"ReportSupersede", testReportSupersede},
		{"ReportInFlight", testReportInFlight},
		{"ReportRetry", testReportRetry},
		{"ReportRecovery", testReportRecovery},
		{"ReportUnknown", testReportUnknown},
		{"CommentSent", testCommentSent},
		{"Superseded", testSuperseded},
		{"Cancel", testCancel},
		{"Waivers", testWaivers},
		{"PullRequestEvent", testPullRequestEvent},
		{"NewKinds", testNewKinds},
		{"Memory", testMemory},
		{"FormulaFields", testFormulaFields},
		{"Needs", testNeeds},
		{"NeedsOfWhatHasEnded", testNeedsOfWhatHasEnded},
		{"NeedsCancelled", testNeedsCancelled},
		{"Group", testGroup},
		{"Reopen", testReopen},
		{"Closed", testClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open) })
	}
}

// start opens an empty store that is closed with the test.
func start(t testing.TB, open Open) *results.Store {
	t.Helper()
	s := open(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must unwraps a pair whose error has no business in the test.
func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		ok(t, err)
		return v
	}
}

func isErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// at is a time with all the digits that must survive.
func at(n int) time.Time {
	return time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC).Add(time.Duration(n) * time.Second)
}

func buildEvent(pkg, id string) assay.Event {
	return assay.Event{
		Source: "build", Delivery: "delivery-" + id, Meaning: "build-" + id, Kind: assay.EventBuild, Received: at(0),
		Repo: "https://forge.example/" + pkg, Ref: "refs/heads/f42", Before: "aa", Commit: "c0ffee" + id, Trusted: true,
		Build: &assay.Build{ID: id, Package: pkg, Version: "1.0", Release: "3.fc42", Arch: "x86_64", Branch: "f42",
			Artifacts: []string{"https://build.example/" + id + ".rpm"}},
	}
}

func addEvent(t testing.TB, s *results.Store, e assay.Event) string {
	t.Helper()
	id, fresh, err := s.AddEvent(t.Context(), e, nil, nil)
	ok(t, err)
	if !fresh {
		t.Fatalf("event %s is not fresh", e.Delivery)
	}
	return id
}

// execution is a complete one, as dispatch would plan it.
func execution(pkg, check string) assay.Execution {
	return assay.Execution{
		ID: uuid.NewString(), Package: pkg, Check: check,
		ChecksRepo: "https://forge.example/checks/" + pkg, ChecksBranch: "f42", ChecksCommit: "abc123", Path: check + "/runtask.yml",
		SourceRepo: "https://forge.example/" + pkg, SourceCommit: "c0ffee",
		Item: "hello-1.0-3.fc42", Type: assay.TypeBuild, Arch: "x86_64", Builds: []string{"https://build.example/1.rpm"},
		Target:  assay.Commit{Repo: "https://forge.example/" + pkg, SHA: "c0ffee", PullRequest: 7},
		Created: at(1),
	}
}

func status(e assay.Execution, state assay.StatusState, text string) assay.Report {
	return assay.Report{
		Kind: assay.ReportStatus, Commit: e.Target, Execution: e.ID,
		Status: assay.Status{Context: e.StatusContext(), State: state, Description: text, URL: "https://assay.example/" + e.ID},
	}
}

func comment(e assay.Execution, body string) assay.Report {
	return assay.Report{Kind: assay.ReportComment, Commit: e.Target, Body: body, Execution: e.ID}
}

// plan adds an event with these executions and returns its ID.
func plan(t testing.TB, s *results.Store, executions ...assay.Execution) string {
	t.Helper()
	id := addEvent(t, s, buildEvent("rpms/hello", uuid.NewString()))
	ok(t, s.PlanEvent(t.Context(), id, assay.Decision{Executions: executions}))
	return id
}

// planned plans one plain execution.
func planned(t testing.TB, s *results.Store) assay.Execution {
	t.Helper()
	e := execution("rpms/hello", "pkg.greets")
	plan(t, s, e)
	return must[assay.Execution](t)(s.Execution(t.Context(), e.ID))
}

func begun(t testing.TB, s *results.Store) assay.Execution {
	t.Helper()
	e := planned(t, s)
	return must[assay.Execution](t)(s.Begin(t.Context(), e.ID, false))
}

func ids(executions []assay.Execution) []string {
	list := make([]string, len(executions))
	for i, e := range executions {
		list[i] = e.ID
	}
	return list
}

func notes(t testing.TB, s *results.Store, id string) []string {
	t.Helper()
	var list []string
	for _, tr := range must[[]results.Transition](t)(s.Transitions(t.Context(), id)) {
		if tr.At.IsZero() {
			t.Errorf("transition %+v has no time", tr)
		}
		text := string(tr.State)
		if tr.State == assay.StateRunning {
			text += " " + string(rune('0'+tr.Attempt))
		}
		if tr.Note != "" {
			text += ": " + tr.Note
		}
		list = append(list, text)
	}
	return list
}

// together runs n functions at once and returns their errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	begin := make(chan struct{})
	done := make(chan struct{})
	for i := range n {
		go func() {
			<-begin
			errs[i] = fn(i)
			done <- struct{}{}
		}()
	}
	close(begin)
	for range n {
		<-done
	}
	return errs
}

// oneWins checks that of many who raced exactly one had no error and all others
// this one.
func oneWins(t testing.TB, errs []error, loser error) {
	t.Helper()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, loser):
			t.Errorf("a loser got %v, want %v", err, loser)
		}
	}
	if won != 1 {
		t.Errorf("%d won, want 1", won)
	}
}

func cancelled(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

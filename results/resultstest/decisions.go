package resultstest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
)

// addPush keeps an event about a commit of a branch, or of a pull request.
func addPush(t *testing.T, s *results.Store, commit string, pull int, received time.Time) assay.Event {
	t.Helper()
	e := assay.Event{
		ID: uuid.NewString(), Source: "github", Delivery: uuid.NewString(), Kind: assay.EventPush, Received: received,
		Repo: "github.com/rpms/hello", Ref: "refs/heads/main", Commit: commit, PullRequest: pull, Author: "octocat",
	}
	if pull > 0 {
		e.Kind = assay.EventPullRequest
	}
	if _, fresh, err := s.AddEvent(t.Context(), e, nil, nil); err != nil || !fresh {
		t.Fatalf("%v, %v", fresh, err)
	}
	return e
}

// planOn plans one execution on the event's commit.
func planOn(t *testing.T, s *results.Store, e assay.Event) assay.Execution {
	t.Helper()
	x := execution("rpms/hello", "greets")
	x.Target = assay.Commit{Repo: "https://github.com/rpms/hello", SHA: e.Commit, PullRequest: e.PullRequest}
	ok(t, s.PlanEvent(t.Context(), e.ID, assay.Decision{Executions: []assay.Execution{x}}))
	return x
}

func testSuperseded(t *testing.T, open Open) {
	s := start(t, open)
	at := time.Now().Add(-time.Hour)
	older := planOn(t, s, addPush(t, s, "a1", 0, at))
	pull := planOn(t, s, addPush(t, s, "b1", 7, at))
	planOn(t, s, addPush(t, s, "c1", 8, at))
	done := planOn(t, s, addPush(t, s, "a0", 0, at))
	ok(t, s.Conclude(t.Context(), done.ID, 0, assay.Conclusion{Verdict: assay.VerdictPassed}, nil))
	want := func(e assay.Event, ids ...string) {
		t.Helper()
		var got []string
		for _, x := range must[[]assay.Execution](t)(s.Superseded(t.Context(), e)) {
			got = append(got, x.ID)
		}
		same(t, e.Commit, got, ids)
	}
	want(addPush(t, s, "a2", 0, at.Add(time.Minute)), older.ID)
	want(addPush(t, s, "b2", 7, at.Add(time.Minute)), pull.ID)
	want(addPush(t, s, "b1", 7, at.Add(2*time.Minute))) // the same commit under another event
	want(addPush(t, s, "a-late", 0, at.Add(-time.Minute)))
}

func testCancel(t *testing.T, open Open) {
	s := start(t, open)
	running, queued, finished := planOn(t, s, addPush(t, s, "a", 1, time.Now())), planOn(t, s, addPush(t, s, "b", 2, time.Now())), planOn(t, s, addPush(t, s, "c", 3, time.Now()))
	x := must[assay.Execution](t)(s.Begin(t.Context(), running.ID, false))
	ok(t, s.Conclude(t.Context(), finished.ID, 0, assay.Conclusion{Verdict: assay.VerdictPassed}, nil))
	var list []assay.Cancellation
	for _, one := range []assay.Execution{running, queued, finished} {
		list = append(list, assay.Cancellation{Execution: one.ID, Reason: "a newer commit", Reports: []assay.Report{status(one, assay.StatusError, "cancelled "+one.Target.SHA)}})
	}
	comment := addPush(t, s, "", 4, time.Now())
	ok(t, s.PlanEvent(t.Context(), comment.ID, assay.Decision{Note: "2 cancelled", Cancel: list}))
	if e := must[assay.EventRecord](t)(s.Event(t.Context(), comment.ID)); e.State != assay.EventPlanned || e.Note != "2 cancelled" || e.Author != "octocat" {
		t.Errorf("the event is %+v", e)
	}
	for _, one := range []assay.Execution{running, queued} {
		if got := must[assay.Execution](t)(s.Execution(t.Context(), one.ID)); got.State != assay.StateFinished || got.Verdict != assay.VerdictCancelled || got.Reason != "a newer commit" || got.Finished.IsZero() {
			t.Errorf("it is %+v", got)
		}
	}
	if got := must[assay.Execution](t)(s.Execution(t.Context(), finished.ID)); got.Verdict != assay.VerdictPassed {
		t.Errorf("a verdict was taken back: %+v", got)
	}
	same(t, "owed", texts(owed(t, s)), []string{"cancelled a", "cancelled b"})
	isErr(t, "a late conclusion", s.Conclude(t.Context(), running.ID, x.Attempt, assay.Conclusion{Verdict: assay.VerdictPassed}, nil), assay.ErrFinished)
	isErr(t, "a late step", s.Step(t.Context(), running.ID, assay.StepRun{Attempt: x.Attempt, Number: 1, Name: "x"}), assay.ErrFenced)
	isErr(t, "an unknown one", s.PlanEvent(t.Context(), addPush(t, s, "d", 5, time.Now()).ID,
		assay.Decision{Cancel: []assay.Cancellation{{Execution: uuid.NewString()}}}), assay.ErrNotFound)
}

func testWaivers(t *testing.T, open Open) {
	s := start(t, open)
	commit := assay.Commit{Repo: "/r", SHA: "abc"}
	for _, reason := range []string{"flaky\n", "known"} {
		e := addPush(t, s, reason, 0, time.Now())
		ok(t, s.PlanEvent(t.Context(), e.ID, assay.Decision{Waivers: []assay.Waiver{{Commit: commit, Context: "assay/x", By: "octocat", Reason: reason, At: time.Unix(9, 0)}}}))
	}
	got := must[[]assay.Waiver](t)(s.Waivers(t.Context(), commit))
	if len(got) != 1 || got[0].Reason != "known" || got[0].By != "octocat" || got[0].Context != "assay/x" || !got[0].At.Equal(time.Unix(9, 0)) {
		t.Errorf("got %+v", got)
	}
	if got := must[[]assay.Waiver](t)(s.Waivers(t.Context(), assay.Commit{Repo: "/r", SHA: "abd"})); len(got) > 0 {
		t.Errorf("another commit's: %+v", got)
	}
}

func testPullRequestEvent(t *testing.T, open Open) {
	s := start(t, open)
	at := time.Now().Add(-time.Hour)
	first, second := addPush(t, s, "a", 7, at), addPush(t, s, "b", 7, at.Add(time.Minute))
	find := func(before time.Time) string {
		e, err := s.PullRequestEvent(t.Context(), "github", "github.com/rpms/hello", 7, before)
		if err != nil {
			isErr(t, "none", err, assay.ErrNotFound)
		}
		return e.ID
	}
	for before, want := range map[time.Time]string{at: "", at.Add(time.Second): first.ID, at.Add(time.Hour): second.ID} {
		if got := find(before); got != want {
			t.Errorf("before %s: %q, want %q", before, got, want)
		}
	}
}

func testNewKinds(t *testing.T, open Open) {
	s := start(t, open)
	e := assay.Event{
		ID: uuid.NewString(), Source: "github", Delivery: "d-1", Kind: assay.EventComment, Received: time.Unix(5, 0).UTC(), PullRequest: 3,
		Author: "octocat", Comment: &assay.Comment{ID: "issue:9", Text: "/assay rerun\n"}, Context: "assay/x", Origin: assay.OriginRecovered,
	}
	if _, _, err := s.AddEvent(t.Context(), e, nil, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "the event", must[assay.EventRecord](t)(s.Event(t.Context(), e.ID)).Event, e)
	if has := must[bool](t)(s.HasDelivery(t.Context(), "github", "d-1")); !has {
		t.Error("its delivery is not known")
	}
	if has := must[bool](t)(s.HasDelivery(t.Context(), "gitea", "d-1")); has {
		t.Error("another source's delivery is known")
	}
	commit := assay.Commit{Repo: "/r", SHA: "abc", PullRequest: 3}
	ok(t, s.PlanEvent(t.Context(), e.ID, assay.Decision{Reports: []assay.Report{
		{Kind: assay.ReportReaction, Commit: commit, Comment: "issue:8", Reaction: assay.ReactionRefused},
		{Kind: assay.ReportReaction, Commit: commit, Comment: "issue:9", Reaction: assay.ReactionUnderstood},
		{Kind: assay.ReportReaction, Commit: commit, Comment: "issue:9", Reaction: assay.ReactionDone},
		{Kind: assay.ReportWhole, Commit: commit, Status: assay.Status{Context: "x"}},
		{Kind: assay.ReportWhole, Commit: commit},
	}}))
	var got []string
	for _, r := range owed(t, s) {
		got = append(got, string(r.Kind)+" "+r.Comment+" "+string(r.Reaction))
	}
	same(t, "owed", got, []string{"reaction issue:8 refused", "reaction issue:9 done", "whole  "})
}

func testMemory(t *testing.T, open Open) {
	s := start(t, open)
	for _, value := range []string{"", "one", "two"} {
		if value != "" {
			ok(t, s.Remember(t.Context(), "heads /r", value))
		}
		if got := must[string](t)(s.Memory(t.Context(), "heads /r")); got != value {
			t.Errorf("remembered %q, want %q", got, value)
		}
	}
}

package forge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

// shownRun is what a person sees of a check run, in a status's words.
func shownRun(run forgetest.CheckRun) assay.Status {
	s := assay.Status{Context: run.Name, State: assay.StatusPending, URL: run.DetailsURL}
	if run.Status == "completed" {
		s.State = map[string]assay.StatusState{"success": assay.StatusSuccess, "failure": assay.StatusFailure, "cancelled": assay.StatusError}[run.Conclusion]
	}
	if line, _, _ := strings.Cut(run.Summary, "\n"); strings.TrimSpace(line) == run.Title {
		s.Description = run.Title
	}
	if run.DetailsURL == forgetest.AppPage {
		s.URL = ""
	}
	return s
}

func setState(t *testing.T, hub *forge.GitHub, state assay.StatusState, description string) {
	t.Helper()
	status := assay.Status{Context: "assay/x", State: state, Description: description, URL: "https://a.example/1"}
	if err := hub.SetStatus(t.Context(), onCommit, status); err != nil {
		t.Fatal(err)
	}
}

func TestGitHubCheckRunOverItsLife(t *testing.T) {
	server, hub := newApp(t)
	states := []struct {
		state       assay.StatusState
		description string
		want        string // id, status, conclusion of the newest run
	}{
		{assay.StatusPending, "queued", "first queued "},
		{assay.StatusPending, "waiting for a machine", "first queued "},
		{assay.StatusPending, "running", "first in_progress "},
		{assay.StatusFailure, "1 of 3 failed", "first completed failure"},
		{assay.StatusFailure, "2 of 3 failed", "first completed failure"},
		{assay.StatusPending, "queued", "second queued "}, // run again
		{assay.StatusError, "no machine", "second completed cancelled"},
		{assay.StatusSuccess, "waived", "third completed success"},
	}
	ids := map[int64]string{}
	for _, step := range states {
		setState(t, hub, step.state, step.description)
		runs := server.CheckRuns("o/r", shaA)
		last := runs[len(runs)-1]
		if ids[last.ID] == "" {
			ids[last.ID] = []string{"first", "second", "third"}[len(ids)]
		}
		got := fmt.Sprintf("%s %s %s", ids[last.ID], last.Status, last.Conclusion)
		if got != step.want || last.Title != step.description || last.ExternalID != "assay/x" || last.DetailsURL != "https://a.example/1" {
			t.Errorf("%s %q makes %q: %+v", step.state, step.description, got, last)
		}
	}
	if len(server.Statuses("o/r", shaA)) != 0 {
		t.Error("an App sets statuses, too")
	}
}

// A check's author may write what others read as Markdown.
func TestGitHubCheckRunShowsTextOnly(t *testing.T) {
	server, hub := newApp(t)
	setState(t, hub, assay.StatusFailure, "@everybody [x](https://evil.example) <img src=x> ```")
	run := server.CheckRuns("o/r", shaA)[0]
	want := "    @everybody [x](https://evil.example) <img src=x> ```\n\n[Log, results and artifacts](<https://a.example/1>)"
	if run.Summary != want {
		t.Errorf("summary is %q", run.Summary)
	}
}

func TestGitHubCheckRunsAreMadeOnce(t *testing.T) {
	faults := map[string]forgetest.Fault{
		"lost answer":  forgetest.LostAnswer(),
		"server error": forgetest.ServerError(502),
		"reset":        forgetest.Reset(),
		"not an id":    {Status: 201, Late: true, Body: `{}`},
		"no run":       {Status: 201, Late: true, Body: `null`},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			server, hub := newApp(t)
			setState(t, hub, assay.StatusPending, "queued") // so that a token is there
			server.Misbehave(fault.Meant("POST /repos/o/r/check-runs"), fault.Meant("PATCH /repos/o/r/check-runs"))
			other := passed
			other.Context = "assay/y"
			wantRetry(t, hub.SetStatus(t.Context(), onCommit, other))
			wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
			for _, status := range []assay.Status{other, passed} {
				if err := hub.SetStatus(t.Context(), onCommit, status); err != nil {
					t.Fatal(err)
				}
			}
			runs := server.CheckRuns("o/r", shaA)
			if len(runs) != 2 || shownRun(runs[0]) != passed || shownRun(runs[1]) != other {
				t.Errorf("check runs are %+v", runs)
			}
		})
	}
}

// A completed run takes no other state: what GitHub answered must be known
// before the next is sent.
func TestGitHubCheckRunAfterALostAnswer(t *testing.T) {
	server, hub := newApp(t)
	setState(t, hub, assay.StatusPending, "queued")
	server.Misbehave(forgetest.LostAnswer().Meant("PATCH"))
	wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
	setState(t, hub, assay.StatusPending, "running")
	setState(t, newAppOn(t, server), assay.StatusFailure, "it fails now") // of two runs the newer one
	runs := server.CheckRuns("o/r", shaA)
	if len(runs) != 2 || shownRun(runs[0]) != passed || runs[1].Conclusion != "failure" {
		t.Errorf("check runs are %+v", runs)
	}
}

// A restarted server, and one whose run GitHub has deleted.
func TestGitHubCheckRunsAreFoundAgain(t *testing.T) {
	server, hub := newApp(t)
	server.PageSize = 2
	for i := range 5 {
		status := passed
		status.Context = fmt.Sprintf("assay/x%d", i)
		if err := hub.SetStatus(t.Context(), onCommit, status); err != nil {
			t.Fatal(err)
		}
	}
	setState(t, hub, assay.StatusPending, "queued")
	before := server.CheckRuns("o/r", shaA)
	restarted := newAppOn(t, server)
	setState(t, restarted, assay.StatusSuccess, "fine")
	if after := server.CheckRuns("o/r", shaA); len(after) != len(before) || after[5].Conclusion != "success" {
		t.Errorf("check runs are %+v", after)
	}
	server.DeleteCheckRun("o/r", before[5].ID)
	setState(t, restarted, assay.StatusSuccess, "fine")
	if after := server.CheckRuns("o/r", shaA); len(after) != 6 || after[5].ID == before[5].ID || after[5].Conclusion != "success" {
		t.Errorf("after a deletion check runs are %+v", after)
	}
}

// Nothing that a server answers makes us fall over, or believe that it is done.
func TestGitHubAppHostileAnswers(t *testing.T) {
	bodies := map[string]string{
		"null": "null", "a list": "[]", "a list of nothing": "[null]", "an object": "{}", "a word": `"x"`, "HTML": "<html>", "empty": "",
		"runs that are null":  `{"total_count":1,"check_runs":[null]}`,
		"runs without fields": `{"total_count":1,"check_runs":[{}]}`,
		"a run with nothing":  `{"total_count":1,"check_runs":[{"id":5,"name":"assay/x","app":{"id":777},"output":null}]}`,
		"deep":                strings.Repeat("[", 100_000),
		"large":               `{"total_count":1,"check_runs":[],"x":"` + strings.Repeat("x", 3<<20) + `"}`,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			server, _ := newApp(t)
			answer := forgetest.Fault{Status: 200, Body: body, Header: map[string]string{"ETag": `"x"`}, Times: 100}
			server.Misbehave(answer.Meant("GET /repos/o/r/commits"), answer.Meant("POST /repos/o/r/check-runs"),
				answer.Meant("PATCH"), answer.Meant("GET /repos/o/r/check-runs"))
			hub := newAppOn(t, server)
			if err := hub.SetStatus(t.Context(), onCommit, passed); err == nil {
				t.Error("the status counts as set")
			}
			if got, ok, _ := hub.Status(t.Context(), onCommit, "assay/x"); ok && got.State != assay.StatusPending {
				t.Errorf("the status is %+v", got)
			}
			_ = hub.Annotate(t.Context(), onCommit, "assay/x", annotations(1)) // it may have nothing to do
		})
	}
}

func annotations(n int) []assay.Annotation {
	var all []assay.Annotation
	for i := range n {
		all = append(all, assay.Annotation{Path: "src/main.c", Line: i + 1, Level: assay.AnnotationFailure, Title: "test_unpack", Message: "expected 1\n\tgot 2"})
	}
	return all
}

func TestGitHubAnnotations(t *testing.T) {
	server, hub := newApp(t)
	ctx := t.Context()
	wantRetry(t, hub.Annotate(ctx, onCommit, "assay/x", annotations(1)))
	setState(t, hub, assay.StatusFailure, "120 of 130 failed")
	server.Misbehave(forgetest.LostAnswer().Meant("PATCH"))
	wantRetry(t, hub.Annotate(ctx, onCommit, "assay/x", annotations(120)))
	for range 2 {
		if err := hub.Annotate(ctx, onCommit, "assay/x", annotations(120)); err != nil {
			t.Fatal(err)
		}
	}
	run := server.CheckRuns("o/r", shaA)[0]
	want := forgetest.Annotation{Path: "src/main.c", StartLine: 120, EndLine: 120, Level: "failure", Title: "test_unpack", Message: "expected 1\n\tgot 2"}
	if len(run.Annotations) != 120 || run.Annotations[119] != want {
		t.Errorf("%d annotations, the last is %+v", len(run.Annotations), run.Annotations[len(run.Annotations)-1])
	}
	if run.Title != "120 of 130 failed" || run.Conclusion != "failure" {
		t.Errorf("the check run is now %+v", run)
	}
	if got := count(server, "PATCH"); got != 3 {
		t.Errorf("%d requests, want 3 of at most 50", got)
	}
	setState(t, hub, assay.StatusPending, "queued")
	if runs := server.CheckRuns("o/r", shaA); len(runs[1].Annotations) != 0 {
		t.Error("a new run begins with old annotations")
	}
}

func TestGitHubAnnotationsWithAToken(t *testing.T) {
	server, hub := newGitHub(t)
	if err := hub.Annotate(t.Context(), onCommit, "assay/x", annotations(3)); err != nil || len(server.Requests()) != 0 {
		t.Errorf("error %v, requests %q", err, server.Requests())
	}
	wantPermanent(t, hub.Annotate(t.Context(), assay.Commit{Repo: onCommit.Repo, SHA: "x"}, "assay/x", annotations(3)))
}

package forge_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

func TestGitHubWhoMayWrite(t *testing.T) {
	for permission, want := range map[string]bool{"admin": true, "write": true, "read": false, "none": false} {
		server, hub := newGitHub(t)
		server.AddAccount("o/r", "a-b_c", permission)
		got, err := hub.MayWrite(t.Context(), onPull.Repo, "a-b_c")
		if got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", permission, got, err, want)
		}
	}
	server, hub := newGitHub(t)
	got, err := hub.MayWrite(t.Context(), onPull.Repo, "ghost")
	if got || err != nil {
		t.Errorf("an account that does not exist: %v, %v", got, err)
	}
	for _, name := range []string{"", "a/b", "..", "a b", "[bot]", "a[bot][bot]", "a.b", "-a", "ä", "a?x=y", "a#b", "a%2Fb"} {
		got, err := hub.MayWrite(t.Context(), onPull.Repo, name)
		wantPermanent(t, err, "no name of an account")
		if got {
			t.Errorf("%q may write", name)
		}
	}
	if got := len(server.Requests()); got != 1 {
		t.Errorf("%d requests, want that for ghost: %q", got, server.Requests())
	}
}

// Whatever goes wrong, nobody may write by it.
func TestGitHubPermissionFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault     forgetest.Fault
		permanent bool
	}{
		"server error":         {forgetest.ServerError(503), false},
		"reset":                {forgetest.Reset(), false},
		"limit":                {forgetest.SecondaryLimit(), false},
		"another word":         {forgetest.Fault{Status: 200, Body: `{"permission":"WRITE"}`}, false},
		"nothing":              {forgetest.Fault{Status: 200, Body: `{}`}, false},
		"another type":         {forgetest.Fault{Status: 200, Body: `{"permission":true}`}, false},
		"HTML":                 {forgetest.Fault{Status: 200, Body: `<html>`}, false},
		"hidden":               {forgetest.NotYet(""), true},
		"token may not":        {forgetest.Fault{Status: 403, Body: `{"message":"Must have push access to view collaborator permission."}`}, true},
		"redirect to another":  {forgetest.Redirect("http://127.0.0.1:1/x"), true},
		"text of a user's own": {forgetest.Fault{Status: 403, Body: `{"message":"admin is not a user"}`}, true},
	} {
		t.Run(name, func(t *testing.T) {
			server, hub := newGitHub(t)
			server.AddAccount("o/r", "a", "admin")
			server.Misbehave(test.fault)
			got, err := hub.MayWrite(t.Context(), onPull.Repo, "a")
			if got {
				t.Error("may write")
			}
			if test.permanent {
				wantPermanent(t, err, "o/r")
			} else {
				wantRetry(t, err)
			}
		})
	}
}

// A pull request may be missing for a moment after its event.
func TestGitHubPullRequestAppears(t *testing.T) {
	server, hub := newGitHub(t)
	want := assay.PullRequest{Number: 9, Author: "dependabot[bot]", Open: false, Base: "refs/heads/f42", BaseCommit: shaB, Head: shaA}
	server.SetPull("o/r", want)
	server.Misbehave(forgetest.NotYet("GET /repos/o/r/pulls/9"))
	_, err := hub.PullRequest(t.Context(), onPull.Repo, 9)
	wantPermanent(t, err, "404", `"Pull requests" read`)
	if !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("error %v does not say that it is missing", err)
	}
	got, err := hub.PullRequest(t.Context(), onPull.Repo, 9)
	if got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestGitHubPullRequestsThatMakeNoSense(t *testing.T) {
	good := map[string]string{
		"number": "7", "state": `"open"`, "user": `{"login":"a"}`,
		"base": `{"ref":"main","sha":"` + shaA + `"}`, "head": `{"ref":"x","sha":"` + shaB + `"}`,
	}
	render := func(field, value string) string {
		var parts []string
		for name, v := range good {
			if name == field {
				v = value
			}
			parts = append(parts, fmt.Sprintf("%q:%s", name, v))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	tests := []struct{ name, field, value string }{
		{"another number", "number", "8"},
		{"a number in words", "number", `"7"`},
		{"no base", "base", "null"},
		{"a base that is no commit", "base", `{"ref":"main","sha":"HEAD"}`},
		{"a base without a branch", "base", `{"ref":"","sha":"` + shaA + `"}`},
		{"a branch with a line end", "base", `{"ref":"a\nb","sha":"` + shaA + `"}`},
		{"a branch that climbs", "base", `{"ref":"a/../b","sha":"` + shaA + `"}`},
		{"a long branch", "base", `{"ref":"` + strings.Repeat("x", 5000) + `","sha":"` + shaA + `"}`},
		{"a head that is no commit", "head", `{"ref":"x","sha":"` + shaB + `0"}`},
		{"an author that is a path", "user", `{"login":"../x"}`},
		{"nothing but HTML", "", "<html>"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, hub := newGitHub(t)
			body := render(test.field, test.value)
			if test.field == "" {
				body = test.value
			}
			server.Misbehave(forgetest.Fault{Status: 200, Body: body})
			got, err := hub.PullRequest(t.Context(), onPull.Repo, 7)
			wantRetry(t, err)
			if got != (assay.PullRequest{}) {
				t.Errorf("it tells %+v", got)
			}
		})
	}
	server, hub := newGitHub(t)
	server.Misbehave(forgetest.Fault{Status: 200, Body: render("user", "null")})
	if got, err := hub.PullRequest(t.Context(), onPull.Repo, 7); err != nil || got.Author != "" || got.Head != shaB {
		t.Errorf("of an account that was deleted: %+v, %v", got, err)
	}
}

func TestGitHubReactsToEitherKind(t *testing.T) {
	server, hub := newGitHub(t)
	issue := server.AddComment(onPull, forgetest.OtherUser, "/assay run")
	review := server.AddReview("o/r", forgetest.OtherUser, "/assay run")
	server.Misbehave(forgetest.LostAnswer().Meant("POST"))
	wantRetry(t, hub.React(t.Context(), onPull, fmt.Sprintf("issue:%d", issue), assay.ReactionDone))
	for _, comment := range []string{fmt.Sprintf("issue:%d", issue), fmt.Sprintf("review:%d", review)} {
		if err := hub.React(t.Context(), onPull, comment, assay.ReactionDone); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []int64{issue, review} {
		if got := server.Reactions("o/r", id); len(got) != 1 || got[0] != (forgetest.Reaction{User: forgetest.OwnUser, Content: "+1"}) {
			t.Errorf("reactions are %+v", got)
		}
	}
	swapped := fmt.Sprintf("review:%d", issue)
	wantPermanent(t, hub.React(t.Context(), onPull, swapped, assay.ReactionDone), "404", swapped)
}

// What is asked again and has not changed costs nothing of the rate limit.
func TestGitHubAsksConditionally(t *testing.T) {
	server, hub := newGitHub(t)
	read := func() (assay.Status, bool) {
		t.Helper()
		s, ok, err := hub.Status(t.Context(), onCommit, passed.Context)
		if err != nil {
			t.Fatal(err)
		}
		return s, ok
	}
	for range 3 {
		if _, ok := read(); ok {
			t.Error("there is a status already")
		}
	}
	if got := server.NotModified(); got != 2 {
		t.Errorf("%d answers without a body, want 2", got)
	}
	if err := hub.SetStatus(t.Context(), onCommit, passed); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, ok := read(); !ok || got != passed {
			t.Errorf("the status is %+v, %v", got, ok)
		}
	}
	if got := server.NotModified(); got != 3 {
		t.Errorf("%d answers without a body, want 3", got)
	}
}

// GitHub keeps 1,000; how it ends must find room.
func TestGitHubStopsShortOfItsLimit(t *testing.T) {
	server, hub := newGitHub(t)
	pending := passed
	pending.State = assay.StatusPending
	var err error
	for i := range 1000 {
		pending.Description = fmt.Sprintf("running for the %dth time", i)
		if err = hub.SetStatus(t.Context(), onCommit, pending); err != nil {
			break
		}
	}
	wantPermanent(t, err, "1,000", "push a new commit")
	if n := len(server.Statuses("o/r", shaA)); n < 100 || n > 900 {
		t.Errorf("%d statuses were posted", n)
	}
	other := pending
	other.Context = "assay/other"
	for _, status := range []assay.Status{passed, other} {
		if err := hub.SetStatus(t.Context(), onCommit, status); err != nil {
			t.Error(err)
		}
	}
}

// The forge's own transport goes nowhere else, whatever a name may mean.
func TestGitHubUsesTheSafeTransport(t *testing.T) {
	server := forgetest.NewGitHub(t)
	hub, err := forge.NewGitHub(forge.GitHubOptions{TokenFile: server.TokenFile, BaseURL: server.URL, Transport: forge.SafeTransport()})
	if err != nil {
		t.Fatal(err)
	}
	err = wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
	if len(server.Requests()) != 0 || !strings.Contains(err.Error(), "address inside") {
		t.Errorf("error %v, requests %q", err, server.Requests())
	}
}

func TestGitHubGivesUpOnSilence(t *testing.T) {
	server, _ := newGitHub(t)
	hub, err := forge.NewGitHub(forge.GitHubOptions{TokenFile: server.TokenFile, BaseURL: server.URL, Timeout: 1})
	if err != nil {
		t.Fatal(err)
	}
	server.Misbehave(forgetest.Silence())
	wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
}

// Something on the way may send a request twice: one comment may become two, a
// status and a reaction do not.
func TestGitHubRepeatedOnTheWay(t *testing.T) {
	server, hub := newGitHub(t)
	id := server.AddComment(onPull, forgetest.OtherUser, "/assay run")
	server.Misbehave(forgetest.Repeated(), forgetest.Repeated())
	if err := hub.React(t.Context(), onPull, fmt.Sprintf("issue:%d", id), assay.ReactionUnderstood); err != nil {
		t.Error(err)
	}
	if err := hub.SetStatus(t.Context(), onCommit, passed); err != nil {
		t.Error(err)
	}
	got, ok, err := hub.Status(t.Context(), onCommit, passed.Context)
	if got != passed || !ok || err != nil || len(server.Reactions("o/r", id)) != 1 {
		t.Errorf("the status is %+v, %v, %v; reactions %v", got, ok, err, server.Reactions("o/r", id))
	}
}

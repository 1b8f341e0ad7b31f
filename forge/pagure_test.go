package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

const (
	pagurePath = "rpms/c++-r"
	pagureRepo = "https://src.example.org/rpms/c++-r.git"
)

var (
	pagureCommit = assay.Commit{Repo: "ssh://git@src.example.org/rpms/c++-r.git", SHA: shaA}
	pagurePull   = assay.Commit{Repo: pagureRepo, SHA: shaA, PullRequest: 7}
)

// newPagure starts a server that knows rpms/c++-r with two commits and pull
// requests 7 and 8, and makes a forge for it.
func newPagure(t *testing.T) (*forgetest.Pagure, *forge.Pagure) {
	t.Helper()
	server := forgetest.NewPagure(t)
	server.AddProject(pagurePath, shaA, shaB)
	server.SetBranch(pagurePath, "rawhide", shaB)
	for _, id := range []int{7, 8} {
		server.AddPull(pagurePath, forgetest.PagurePull{ID: id, Author: "author", Status: "Open", Branch: "rawhide", CommitStop: shaA})
	}
	server.AddMember(pagurePath, "writer", "commit")
	server.AddMember(pagurePath, "reader", "ticket")
	pagure, err := forge.NewPagure(forge.PagureOptions{TokenFile: server.TokenFile, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return server, pagure
}

// Comments cannot be edited there: what counts is the newest of each marker.
// Commits have none, so the suite's are those of pull requests.
func TestPagureSuite(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) forgetest.Subject {
		server, pagure := newPagure(t)
		return forgetest.Subject{
			Forge:    pagure,
			Commit:   assay.Commit{Repo: pagureRepo, SHA: shaA, PullRequest: 8},
			Other:    assay.Commit{Repo: pagureRepo, SHA: shaB, PullRequest: 9},
			Pull:     pagurePull,
			Unknown:  assay.Commit{Repo: pagureRepo, SHA: shaC, PullRequest: 10},
			Statuses: func(c assay.Commit) map[string]assay.Status { return flagsOf(server, c.SHA) },
			Comments: func(c assay.Commit) []string { return newestBodies(server.Comments(pagurePath, c.PullRequest)) },
			Ask: &forgetest.Ask{
				Repo: pagureRepo, Missing: "https://src.example.org/rpms/none", Writer: "writer", Reader: "reader", Stranger: "stranger",
				Pull: assay.PullRequest{Number: 7, Author: "author", Open: true, Base: "refs/heads/rawhide", BaseCommit: shaB, Head: shaA},
			},
		}
	})
}

// flagsOf is what a person sees, in our words.
func flagsOf(server *forgetest.Pagure, sha string) map[string]assay.Status {
	newest := map[string]assay.Status{}
	for _, f := range server.Flags(pagurePath, sha) {
		s := assay.Status{Context: f.Username, State: assay.StatusState(f.Status), Description: f.Comment, URL: f.URL}
		if s.Description == "no details" {
			s.Description = ""
		}
		if s.URL == server.URL+pagurePath+"/c/"+sha {
			s.URL = ""
		}
		newest[f.Username] = s
	}
	return newest
}

func newestBodies(comments []forgetest.PagureComment) (found []string) {
	at := map[string]int{}
	for _, c := range comments {
		body := strings.ReplaceAll(c.Body, "\r\n", "\n")
		first, _, _ := strings.Cut(body, "\n")
		if i, ok := at[first]; ok {
			found[i] = body
			continue
		}
		at[first] = len(found)
		found = append(found, body)
	}
	return found
}

func TestPagureFlags(t *testing.T) {
	server, pagure := newPagure(t)
	status := passed
	for _, state := range []assay.StatusState{assay.StatusPending, assay.StatusFailure, assay.StatusError, assay.StatusSuccess} {
		status.State = state
		if err := pagure.SetStatus(t.Context(), pagureCommit, status); err != nil {
			t.Fatal(err)
		}
	}
	got := server.Flags(pagurePath, shaA)
	if len(got) != 1 || got[0].Status != "success" || got[0].Percent != "100" || len(got[0].UID) != 32 || got[0].Username != passed.Context {
		t.Errorf("flags are %+v", got)
	}
	if asked := requests(server, "GET"); len(asked) != 1 {
		t.Errorf("the commit was asked for %d times", len(asked))
	}
}

// Pagure finds a uid on the same commit in any project: a fork's flag must not
// be the flag of what it was forked from.
func TestPagureForks(t *testing.T) {
	server, pagure := newPagure(t)
	server.AddProject("fork/jo/"+pagurePath, shaA)
	for _, repo := range []string{pagureRepo, "https://src.example.org/forks/jo/" + pagurePath + ".git", "https://src.example.org/fork/jo/" + pagurePath} {
		if err := pagure.SetStatus(t.Context(), assay.Commit{Repo: repo, SHA: shaA}, passed); err != nil {
			t.Fatal(err)
		}
	}
	if here, there := server.Flags(pagurePath, shaA), server.Flags("fork/jo/"+pagurePath, shaA); len(here) != 1 || len(there) != 1 {
		t.Errorf("flags are %+v and %+v", here, there)
	}
}

// Pagure would take a flag for a commit that does not exist, and show it nowhere.
func TestPagureUnknownCommit(t *testing.T) {
	server, pagure := newPagure(t)
	err := pagure.SetStatus(t.Context(), assay.Commit{Repo: pagureRepo, SHA: shaC}, passed)
	wantPermanent(t, err, "404", "No such commit")
	if sent := requests(server, "POST"); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
	// The commit of a pull request may be in a fork only.
	server.AddPull(pagurePath, forgetest.PagurePull{ID: 11, Status: "Open", Branch: "rawhide", CommitStop: shaC})
	at := assay.Commit{Repo: pagureRepo, SHA: shaC, PullRequest: 11}
	if err := pagure.SetStatus(t.Context(), at, passed); err != nil {
		t.Fatal(err)
	}
	if got := server.Flags(pagurePath, shaC); len(got) != 1 {
		t.Errorf("flags are %+v", got)
	}
	at.SHA = strings.Repeat("d", 40) // an older commit of it
	wantPermanent(t, pagure.SetStatus(t.Context(), at, passed), "404")
}

func TestPagureAddresses(t *testing.T) {
	server, pagure := newPagure(t)
	page := server.URL + pagurePath + "/c/" + shaA
	for address, want := range map[string]string{
		"https://assay.example.org/executions/1": "https://assay.example.org/executions/1",
		"http://127.0.0.1:8087/x":                "http://127.0.0.1:8087/x",
		"http://localhost:8087/x?y=z":            "http://localhost:8087/x?y=z",
		"http://assay:8087/x":                    page,
		"http://[::1]:8087/x":                    page,
		"http://u:p@assay.example.org/x":         page,
		"":                                       page,
	} {
		status := passed
		status.URL = address
		if err := pagure.SetStatus(t.Context(), pagureCommit, status); err != nil {
			t.Fatal(err)
		}
		if got := server.Flags(pagurePath, shaA); got[0].URL != want {
			t.Errorf("%s: %s", address, got[0].URL)
		}
	}
}

// Anybody with a token may flag with any name; only what we set is ours.
func TestPagureReadsItsOwnFlags(t *testing.T) {
	server, pagure := newPagure(t)
	flag := forgetest.PagureFlag{Project: pagurePath, SHA: shaA, Username: passed.Context, Status: "failure", Comment: "no", URL: "https://evil.example/"}
	flag.User = forgetest.PagureOther
	server.AddFlag(flag)
	if _, found, err := pagure.Status(t.Context(), pagureCommit, passed.Context); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	if err := pagure.SetStatus(t.Context(), pagureCommit, passed); err != nil {
		t.Fatal(err)
	}
	server.AddFlag(flag)
	got, found, err := pagure.Status(t.Context(), pagureCommit, passed.Context)
	if got != passed || !found || err != nil {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
	flag.User, flag.Status = forgetest.PagureOwn, "canceled"
	server.AddFlag(flag)
	if got, _, err := pagure.Status(t.Context(), pagureCommit, passed.Context); got.State != assay.StatusError || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestPagureComments(t *testing.T) {
	server, pagure := newPagure(t)
	server.AddComment(pagurePath, 7, forgetest.PagureOther, "<!-- assay:m -->\n\none")
	for _, body := range []string{"one", "one", "two\nlines", "two\nlines", "one"} {
		if err := pagure.Comment(t.Context(), pagurePull, "m", body); err != nil {
			t.Fatal(err)
		}
	}
	var ours []string
	for _, c := range server.Comments(pagurePath, 7) {
		if c.User == forgetest.PagureOwn {
			ours = append(ours, strings.ReplaceAll(c.Body, "\r\n", "\n"))
		}
	}
	want := []string{"<!-- assay:m -->\n\none", "<!-- assay:m -->\n\ntwo\nlines", "<!-- assay:m -->\n\none"}
	if !slices.Equal(ours, want) {
		t.Errorf("comments are %q", ours)
	}
}

func TestPagureCommitsHaveNoComments(t *testing.T) {
	server, pagure := newPagure(t)
	if err := pagure.Comment(t.Context(), pagureCommit, "m", "x"); err != nil || len(server.Requests()) != 0 {
		t.Errorf("%v after %q", err, server.Requests())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantRetry(t, pagure.Comment(ctx, pagureCommit, "m", "x"))
}

func TestPagureLostAnswerMakesNothingTwice(t *testing.T) {
	server, pagure := newPagure(t)
	lost := forgetest.LostAnswer().Meant("POST /rpms")
	server.Misbehave(lost, lost)
	wantRetry(t, pagure.SetStatus(t.Context(), pagureCommit, passed))
	wantRetry(t, pagure.Comment(t.Context(), pagurePull, "m", "one"))
	if err := errors.Join(pagure.SetStatus(t.Context(), pagureCommit, passed), pagure.Comment(t.Context(), pagurePull, "m", "one")); err != nil {
		t.Fatal(err)
	}
	if flags, comments := server.Flags(pagurePath, shaA), server.Comments(pagurePath, 7); len(flags) != 1 || len(comments) != 1 {
		t.Errorf("flags %+v, comments %+v", flags, comments)
	}
	server.Misbehave(forgetest.Repeated().Meant("POST"))
	if err := pagure.SetStatus(t.Context(), pagureCommit, passed); err != nil || len(server.Flags(pagurePath, shaA)) != 1 {
		t.Errorf("a repeated request: %v, %+v", err, server.Flags(pagurePath, shaA))
	}
}

func TestPagureMayWrite(t *testing.T) {
	server, pagure := newPagure(t)
	server.AddMember(pagurePath, "admin", "admin")
	server.AddMember(pagurePath, "helper", "collaborator")
	server.AddGroup(pagurePath, "sig", "commit", "packager")
	server.AddGroup(pagurePath, "chiefs", "admin", "chief")
	server.AddGroup(pagurePath, "triage", "ticket", "triager")
	server.AddGroup(pagurePath, "gone", "commit", "nobody")
	server.DeleteGroup("gone")
	server.AddGroup(pagurePath, "../../x", "commit", "climber")
	for user, want := range map[string]bool{
		"owner": true, "admin": true, "writer": true, "packager": true, "chief": true,
		"helper": false, "reader": false, "triager": false, "nobody": false, "climber": false, "Writer": false,
	} {
		if got, err := pagure.MayWrite(t.Context(), pagureRepo, user); got != want || err != nil {
			t.Errorf("%s: %v, %v", user, got, err)
		}
	}
	server.Misbehave(forgetest.ServerError(500).Meant("GET /group"))
	_, err := pagure.MayWrite(t.Context(), pagureRepo, "packager")
	wantRetry(t, err)
}

func TestPagurePullRequests(t *testing.T) {
	for status, open := range map[string]bool{"Open": true, "Closed": false, "Merged": false} {
		server, pagure := newPagure(t)
		server.AddPull(pagurePath, forgetest.PagurePull{ID: 7, Author: "a", Status: status, Branch: "rawhide", CommitStop: shaA})
		if got, err := pagure.PullRequest(t.Context(), pagureRepo, 7); got.Open != open || err != nil {
			t.Errorf("%s: %+v, %v", status, got, err)
		}
	}
	for name, pull := range map[string]forgetest.PagurePull{
		"not looked at yet":   {ID: 7, Branch: "rawhide"},
		"no such branch":      {ID: 7, Branch: "f99", CommitStop: shaA},
		"a branch that lies":  {ID: 7, Branch: "../x", CommitStop: shaA},
		"a commit that is no": {ID: 7, Branch: "rawhide", CommitStop: "HEAD"},
	} {
		server, pagure := newPagure(t)
		server.AddPull(pagurePath, pull)
		_, err := pagure.PullRequest(t.Context(), pagureRepo, 7)
		if again := wantRetry(t, err); again.After != 0 {
			t.Errorf("%s: %v", name, again)
		}
	}
	server, pagure := newPagure(t)
	server.Misbehave(forgetest.Fault{On: "GET", Status: 404, Body: `{"error":"Pull-Request not found","error_code":"ENOREQ"}`})
	_, err := pagure.PullRequest(t.Context(), pagureRepo, 7)
	if wantPermanent(t, err, "#7"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestPagureSaysWhenToTryAgain(t *testing.T) {
	tests := []struct {
		name   string
		fault  forgetest.Fault
		atMost time.Duration // 0: it must not say
	}{
		{"429 with Retry-After", forgetest.TooMany("30"), 30 * time.Second},
		{"429 without headers", forgetest.TooMany(""), time.Minute},
		{"429 far away", forgetest.TooMany("999999"), 2 * time.Hour},
		{"500", forgetest.ServerError(500), 0},
		{"504", forgetest.ServerError(504), 0},
		{"503 with Retry-After", forgetest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, 7 * time.Second},
		{"a database that fails", forgetest.Fault{Status: 400, Body: `{"error":"An error occurred at the database level","error_code":"EDBERROR"}`}, 0},
		{"reset", forgetest.Reset(), 0},
		{"lost answer", forgetest.LostAnswer(), 0},
		{"success that is a page", forgetest.Fault{Status: 200, Body: "<html>"}, 0},
		{"success that is null", forgetest.Fault{Status: 200, Body: "null"}, 0},
		{"success of another kind", forgetest.Fault{Status: 200, Body: `{"uid":["x"]}`}, 0},
		{"success of another flag", forgetest.Fault{Status: 200, Body: `{"uid":"x"}`}, 0},
	}
	for _, test := range tests {
		for _, on := range []string{"GET", "POST"} {
			t.Run(test.name+" on "+on, func(t *testing.T) {
				server, pagure := newPagure(t)
				server.Misbehave(test.fault.Meant(on))
				got := wantRetry(t, pagure.SetStatus(t.Context(), pagureCommit, passed))
				if got.After > test.atMost || (test.atMost > 0) != (got.After > 0) {
					t.Errorf("asks for %s, want up to %s", got.After, test.atMost)
				}
				unfit(t, got, server.Token)
				if err := pagure.SetStatus(t.Context(), pagureCommit, passed); err != nil || len(server.Flags(pagurePath, shaA)) != 1 {
					t.Errorf("%v, %+v", err, server.Flags(pagurePath, shaA))
				}
			})
		}
	}
}

func TestPagureSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		at    assay.Commit
		fault forgetest.Fault
		words []string
	}{
		{"token not known", pagureCommit, forgetest.Fault{Status: 401, Body: `{"error":"Invalid or expired token.","error_code":"EINVALIDTOK"}`},
			[]string{"401", "expired", "commit_flag"}},
		{"token may not", pagureCommit, forgetest.Fault{Status: 403, Body: `{"error":"You do not have sufficient permissions","error_code":"ENOTHIGHENOUGH"}`},
			[]string{"403", "sufficient permissions", "commit_flag"}},
		{"a form that is refused", pagureCommit, forgetest.Fault{On: "POST", Status: 400, Body: `{"error":"Invalid or incomplete input submitted","error_code":"EINVALIDREQ","errors":{"url":["Invalid input."]}}`},
			[]string{"400", `{"url":["Invalid input."]}`}},
		{"hostile message", pagureCommit, forgetest.Fault{Status: 400, Body: `{"error":"a\u001b[31m\n` + strings.Repeat("x", 9999) + `","error_code":{}}`},
			[]string{"400", "a\uFFFD[31m x"}},
		{"no such project", assay.Commit{Repo: "https://src.example.org/rpms/none", SHA: shaA}, forgetest.Fault{On: "never"}, []string{"404", "Project not found"}},
		{"an address that climbs", assay.Commit{Repo: "https://src.example.org/rpms/../x", SHA: shaA}, forgetest.Fault{On: "never"}, []string{"NAMESPACE/NAME"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, pagure := newPagure(t)
			server.Misbehave(test.fault)
			err := pagure.SetStatus(t.Context(), test.at, passed)
			wantPermanent(t, err, test.words...)
			unfit(t, err, server.Token)
		})
	}
}

func TestPagureHostileAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"null": "null", "a list": "[]", "a page": "<html>", "no end": `{"flags":[`, "nulls": `{"flags":[null],"comments":[null],"access_users":null,"branches":null}`,
		"other kinds": `{"flags":{},"comments":"x","access_users":[1],"branches":["rawhide"]}`, "spaces": strings.Repeat(" ", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			server, pagure := newPagure(t)
			calls := map[string]func() error{
				"status":  func() error { return pagure.SetStatus(t.Context(), pagureCommit, passed) },
				"read":    func() error { _, _, err := pagure.Status(t.Context(), pagureCommit, "assay/x"); return err },
				"comment": func() error { return pagure.Comment(t.Context(), pagurePull, "m", "x") },
				"ask":     func() error { _, err := pagure.PullRequest(t.Context(), pagureRepo, 7); return err },
				"members": func() error { _, err := pagure.MayWrite(t.Context(), pagureRepo, "stranger"); return err },
			}
			for what, call := range calls {
				server.Misbehave(forgetest.Fault{On: "GET", Status: 200, Body: body})
				if err := call(); err != nil {
					var again *forge.RetryError
					if !errors.As(err, &again) {
						t.Errorf("%s: %v", what, err)
					}
					unfit(t, err, server.Token)
				}
			}
		})
	}
}

func TestPagureNeedsAnAccount(t *testing.T) {
	server, pagure := newPagure(t)
	const who = "POST /-/whoami"
	server.Misbehave(forgetest.ServerError(500).Meant(who), forgetest.Fault{On: who, Status: 200, Body: "{}"})
	wantRetry(t, pagure.Comment(t.Context(), pagurePull, "m", "x"))
	wantPermanent(t, pagure.Comment(t.Context(), pagurePull, "m", "x"), "names no account")
	if err := pagure.Comment(t.Context(), pagurePull, "m", "x"); err != nil {
		t.Error(err)
	}
}

func TestPagureRedirectsAndTokens(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else was asked, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(thief.Close)
	server, pagure := newPagure(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		away := forgetest.Redirect(thief.URL + "/api/0/x")
		away.Status = status
		server.Misbehave(away)
		wantPermanent(t, pagure.SetStatus(t.Context(), pagureCommit, passed), "moved")
	}
	server.SetToken("NEXT")
	if err := pagure.SetStatus(t.Context(), pagureCommit, passed); err != nil {
		t.Error(err)
	}
	server.Misbehave(forgetest.Silence())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := wantRetry(t, pagure.SetStatus(ctx, pagureCommit, passed)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	for base, good := range map[string]bool{"": false, "https://": false, "ftp://x/": false, "https://u@x/": false, "https://x/?y": false, "https://x": true} {
		if _, err := forge.NewPagure(forge.PagureOptions{TokenFile: server.TokenFile, BaseURL: base}); (err == nil) != good {
			t.Errorf("%q: %v", base, err)
		}
	}
	if err := os.Remove(server.TokenFile); err != nil {
		t.Fatal(err)
	}
	wantRetry(t, pagure.SetStatus(t.Context(), pagureCommit, passed))
	if _, err := forge.NewPagure(forge.PagureOptions{TokenFile: server.TokenFile, BaseURL: "https://x"}); err == nil {
		t.Error("a missing token was taken")
	}
}

func TestParsePagure(t *testing.T) {
	for address, want := range map[string]string{
		"https://pagure.io/r":                        "pagure.io r",
		"https://pagure.io/r.git":                    "pagure.io r",
		"https://src.example.org/rpms/c++-r":         "src.example.org rpms/c++-r",
		"https://src.example.org/fork/jo/rpms/r":     "src.example.org fork/jo/rpms/r",
		"ssh://git@src.example.org/forks/jo/r.git":   "src.example.org fork/jo/r",
		"git@src.example.org:forks/jo/rpms/r.git":    "src.example.org fork/jo/rpms/r",
		"https://src.example.org/forks/r":            "src.example.org forks/r",
		"https://src.example.org/a/b/c":              "",
		"https://src.example.org/fork/../r":          "",
		"https://src.example.org/fork/jo/a/b/c":      "",
		"https://src.example.org/":                   "",
		"https://src.example.org/rpms/-r":            "",
		"https://src.example.org/rpms/r r":           "",
		"/srv/git/rpms/r":                            "",
		fmt.Sprintf("https://x.example/%0300d/r", 1): "",
	} {
		host, path, err := forge.ParsePagure(address)
		if got := strings.TrimSpace(host + " " + path); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}

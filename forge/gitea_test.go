package forge_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

var (
	teaCommit = assay.Commit{Repo: "git@gitea.example.org:o/r.git", SHA: shaA}
	teaPull   = assay.Commit{Repo: "https://gitea.example.org/git/o/r", SHA: shaA, PullRequest: 7}
	teaOpen   = assay.PullRequest{Number: 7, Author: "contributor", Open: true, Base: "refs/heads/f42/main", BaseCommit: shaB, Head: shaA}
)

// newGitea starts a server that knows o/r with two commits and the pull requests
// 7 and 8, and makes a forge for it. change is done before.
func newGitea(t *testing.T, change ...func(*forgetest.Gitea)) (*forgetest.Gitea, *forge.Gitea) {
	t.Helper()
	server := forgetest.NewGitea(t)
	for _, f := range change {
		f(server)
	}
	server.AddRepo("o/r", shaA, shaB)
	server.AddPull("o/r", teaOpen)
	server.AddPull("o/r", assay.PullRequest{Number: 8, Author: "contributor", Base: "refs/heads/main", BaseCommit: shaA, Head: shaB})
	tea, err := forge.NewGitea(forge.GiteaOptions{TokenFile: server.TokenFile, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return server, tea
}

func asForgejo(g *forgetest.Gitea) { g.Forgejo = true }

func TestGiteaSuite(t *testing.T) {
	for name, change := range map[string]func(*forgetest.Gitea){
		"Gitea":   func(g *forgetest.Gitea) { g.PageSize = 3 },
		"Forgejo": func(g *forgetest.Gitea) { g.PageSize = 3; g.Forgejo = true; g.CommentPages = true },
	} {
		t.Run(name, func(t *testing.T) {
			forgetest.Run(t, func(t *testing.T) forgetest.Subject { return giteaSubject(t, change) })
		})
	}
}

// giteaSubject has pull requests everywhere: without one Gitea keeps no comment.
func giteaSubject(t *testing.T, change func(*forgetest.Gitea)) forgetest.Subject {
	server, tea := newGitea(t, change)
	server.AddAccount("Writer", "o/r", "write")
	server.AddAccount("reader", "o/r", "read")
	server.AddAccount("stranger", "o/r", "")
	comment := server.AddComment(assay.Commit{Repo: "o/r", PullRequest: 8}, forgetest.OtherUser, "/assay run")
	server.AddPull("o/r", assay.PullRequest{Number: 9, Base: "refs/heads/main", BaseCommit: shaA, Head: shaB})
	const repo = "https://gitea.example.org/o/r.git"
	return forgetest.Subject{
		Forge:   tea,
		Commit:  assay.Commit{Repo: repo, SHA: shaA, PullRequest: 7},
		Other:   assay.Commit{Repo: repo, SHA: shaB, PullRequest: 9},
		Pull:    assay.Commit{Repo: repo, SHA: shaA, PullRequest: 7},
		Unknown: assay.Commit{Repo: repo, SHA: shaC, PullRequest: 99},
		Statuses: func(c assay.Commit) map[string]assay.Status {
			newest := map[string]assay.Status{}
			for _, s := range server.Statuses("o/r", c.SHA) {
				newest[s.Context] = s
			}
			return newest
		},
		Comments: func(c assay.Commit) []string {
			var bodies []string
			for _, comment := range server.Comments(c) {
				bodies = append(bodies, comment.Body)
			}
			return bodies
		},
		Ask: &forgetest.Ask{Repo: repo, Missing: "https://gitea.example.org/o/nothing", Writer: "writer", Reader: "reader", Stranger: "stranger", Pull: teaOpen},
		React: &forgetest.React{
			Commit: assay.Commit{Repo: repo, SHA: shaB, PullRequest: 8}, Comment: fmt.Sprint("issue:", comment), Missing: "issue:987654",
			Pictures: map[assay.Reaction]string{
				assay.ReactionDone: "+1", assay.ReactionRefused: "-1", assay.ReactionConfused: "confused", assay.ReactionUnderstood: "eyes",
			},
			Seen: func() []string { return server.Reactions(comment) },
		},
	}
}

// Gitea says 500 for a commit that it does not have; newer Forgejo says 404.
func TestGiteaUnknownCommit(t *testing.T) {
	unknown := assay.Commit{Repo: teaCommit.Repo, SHA: shaC}
	for name, test := range map[string]struct {
		change func(*forgetest.Gitea)
		at     assay.Commit
		faults []forgetest.Fault
		never  bool
	}{
		"Gitea":               {at: unknown, never: true},
		"Forgejo":             {change: asForgejo, at: unknown, never: true},
		"it exists":           {at: teaCommit, faults: []forgetest.Fault{forgetest.ServerError(500)}},
		"cannot be told":      {at: unknown, faults: []forgetest.Fault{forgetest.ServerError(502).Meant("GET /repos/o/r/git/commits/")}},
		"told too long":       {at: unknown, faults: []forgetest.Fault{{On: "GET /repos/o/r/git/commits/", Status: 422}}, never: true},
		"a proxy is in front": {at: unknown, faults: []forgetest.Fault{forgetest.ServerError(503).Meant("POST")}},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*forgetest.Gitea)
			if test.change != nil {
				change = append(change, test.change)
			}
			server, tea := newGitea(t, change...)
			server.Misbehave(test.faults...)
			err := tea.SetStatus(t.Context(), test.at, passed)
			if !test.never {
				wantRetry(t, err)
				return
			}
			wantPermanent(t, err, "does not have")
			if !errors.Is(err, assay.ErrNotFound) {
				t.Errorf("error %v does not wrap assay.ErrNotFound", err)
			}
		})
	}
}

// A pull request may not be there yet when its event comes: whoever asks asks
// again, and so does who comments on a 500.
func TestGiteaPullRequestComesLate(t *testing.T) {
	server, tea := newGitea(t)
	server.Misbehave(forgetest.NotYet("GET /repos/o/r/pulls/7"))
	_, err := tea.PullRequest(t.Context(), teaPull.Repo, 7)
	if wantPermanent(t, err, "404"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("error %v does not wrap assay.ErrNotFound", err)
	}
	got, err := tea.PullRequest(t.Context(), teaPull.Repo, 7)
	if got != teaOpen || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	server.Misbehave(forgetest.ServerError(500).Meant("GET /repos/o/r/issues/7/comments"))
	wantRetry(t, tea.Comment(t.Context(), teaPull, "m", "body"))
	nobody := teaPull
	nobody.PullRequest = 99
	wantPermanent(t, tea.Comment(t.Context(), nobody, "m", "body"), "the pull request")
}

func TestGiteaLateTruth(t *testing.T) {
	server, tea := newGitea(t)
	server.Misbehave(forgetest.Fault{On: "POST", Late: true, Status: 500})
	wantRetry(t, tea.SetStatus(t.Context(), teaCommit, passed))
	got, ok, err := tea.Status(t.Context(), teaCommit, passed.Context)
	if got != passed || !ok || err != nil {
		t.Errorf("a status that was written before the 500: %+v, %v, %v", got, ok, err)
	}
}

func TestGiteaReadsAllPages(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*forgetest.Gitea)
		requests int // for a context that there is not
	}{
		"Gitea":   {func(g *forgetest.Gitea) { g.PageSize = 2 }, 4}, // the last is empty
		"Forgejo": {func(g *forgetest.Gitea) { g.PageSize = 2; g.Forgejo = true }, 3},
	} {
		server, tea := newGitea(t, test.change)
		for i := range 5 {
			status := passed
			status.Context = fmt.Sprint("assay/", i)
			if err := tea.SetStatus(t.Context(), teaCommit, status); err != nil {
				t.Fatal(err)
			}
		}
		for context, want := range map[string]bool{"assay/0": true, "assay/4": true, "assay/none": false} {
			if got, ok, err := tea.Status(t.Context(), teaCommit, context); ok != want || ok && got.Context != context || err != nil {
				t.Errorf("%s: %s: %+v, %v, %v", name, context, got, ok, err)
			}
		}
		before := requestsOf(server, "GET")
		_, _, err := tea.Status(t.Context(), teaCommit, "assay/none")
		if got := requestsOf(server, "GET") - before; got != test.requests || err != nil {
			t.Errorf("%s: %d requests, want %d; %v", name, got, test.requests, err)
		}
	}
}

func TestGiteaNoCommentOnCommits(t *testing.T) {
	server, tea := newGitea(t)
	if err := tea.Comment(t.Context(), teaCommit, "m", "body"); err != nil {
		t.Error(err)
	}
	wantPermanent(t, tea.Comment(t.Context(), teaCommit, "m", " "))
	wantPermanent(t, tea.Comment(t.Context(), teaCommit, "a b", "body"))
	if got := server.Requests(); len(got) != 0 {
		t.Errorf("requests are %q", got)
	}
}

func TestGiteaLostAnswerMakesNothingTwice(t *testing.T) {
	server, tea := newGitea(t)
	server.Misbehave(forgetest.LostAnswer().Meant("POST"))
	wantRetry(t, tea.Comment(t.Context(), teaPull, "m", "one"))
	if err := tea.Comment(t.Context(), teaPull, "m", "one"); err != nil {
		t.Fatal(err)
	}
	if got := server.Comments(teaPull); len(got) != 1 {
		t.Errorf("%d comments, want 1: %v", len(got), got)
	}
	if got := requestsOf(server, "PATCH"); got != 0 {
		t.Errorf("%d edits of a comment that was right", got)
	}
	server.Misbehave(forgetest.Repeated().Meant("PATCH"), forgetest.Repeated().Meant("POST /repos/o/r/statuses"))
	if err := errors.Join(tea.Comment(t.Context(), teaPull, "m", "two"), tea.SetStatus(t.Context(), teaPull, passed)); err != nil {
		t.Error(err)
	}
	if got := server.Comments(teaPull); len(got) != 1 || got[0].Body != "<!-- assay:m -->\ntwo" {
		t.Errorf("comments are %v", got)
	}
}

func requestsOf(server *forgetest.Gitea, prefix string) (n int) {
	for _, request := range server.Requests() {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

func TestGiteaCommentOfSomebodyElse(t *testing.T) {
	server, tea := newGitea(t)
	const planted = "<!-- assay:m -->\nmine"
	server.AddComment(teaPull, forgetest.OtherUser, planted)
	server.AddComment(teaPull, forgetest.OwnUser, "I quote <!-- assay:m --> and\n<!-- assay:m -->")
	for _, body := range []string{"one", "two"} {
		if err := tea.Comment(t.Context(), teaPull, "m", body); err != nil {
			t.Fatal(err)
		}
	}
	got := server.Comments(teaPull)
	if len(got) != 3 || got[0].Body != planted || got[2].Body != "<!-- assay:m -->\ntwo" {
		t.Errorf("comments are %+v", got)
	}
}

// A restarted server knows no ids: it must find its comment among many.
func TestGiteaFindsItsCommentAgain(t *testing.T) {
	for _, paged := range []bool{false, true} {
		server, tea := newGitea(t, func(g *forgetest.Gitea) { g.PageSize, g.CommentPages = 2, paged })
		for range 5 {
			server.AddComment(teaPull, forgetest.OtherUser, "hm")
		}
		id := server.AddComment(teaPull, forgetest.OwnUser, "<!-- assay:m -->\r\nold")
		server.AddComment(teaPull, forgetest.OtherUser, "hm")
		if err := tea.Comment(t.Context(), teaPull, "m", "new"); err != nil {
			t.Fatal(err)
		}
		got := server.Comments(teaPull)
		if len(got) != 7 || got[5].ID != id || got[5].Body != "<!-- assay:m -->\nnew" {
			t.Errorf("comments are %+v", got)
		}
		server.DeleteComment(id)
		if err := tea.Comment(t.Context(), teaPull, "m", "newer"); err != nil {
			t.Fatal(err)
		}
		if got := server.Comments(teaPull); len(got) != 7 || got[6].Body != "<!-- assay:m -->\nnewer" {
			t.Errorf("after a deletion comments are %+v", got)
		}
	}
}

func TestGiteaListsOnce(t *testing.T) {
	server, tea := newGitea(t)
	for _, body := range []string{"one", "two", "three"} {
		if err := tea.Comment(t.Context(), teaPull, "m", body); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"GET /user",
		"GET /repos/o/r/issues/7/comments",
		"POST /repos/o/r/issues/7/comments",
		"PATCH /repos/o/r/issues/comments/1",
		"PATCH /repos/o/r/issues/comments/1",
	}
	if got := server.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests are %q", got)
	}
}

// The token may become another account's: what that may not edit it writes anew.
func TestGiteaAccountChanges(t *testing.T) {
	server, tea := newGitea(t, func(g *forgetest.Gitea) { g.ReadOnly = true })
	if err := tea.Comment(t.Context(), teaPull, "m", "one"); err != nil {
		t.Fatal(err)
	}
	server.SetToken("another")
	server.Misbehave(
		forgetest.Fault{On: "PATCH", Status: 403},
		forgetest.Fault{On: "GET /user", Status: 200, Body: `{"id":4711,"login":"bot"}`},
	)
	if err := tea.Comment(t.Context(), teaPull, "m", "two"); err != nil {
		t.Fatal(err)
	}
	if got := server.Comments(teaPull); len(got) != 2 || got[1].Body != "<!-- assay:m -->\ntwo" {
		t.Errorf("comments are %+v", got)
	}
}

func TestGiteaAccount(t *testing.T) {
	server, tea := newGitea(t)
	server.Misbehave(
		forgetest.ServerError(500).Meant("GET /user"),
		forgetest.Fault{On: "GET /user", Status: 403, Body: `{"message":"token does not have at least one of required scope(s): [read:user]"}`},
		forgetest.Fault{On: "GET /user", Status: 200, Body: `{"id":0}`},
		forgetest.Fault{On: "GET /user", Status: 200, Body: `null`},
	)
	wantRetry(t, tea.Comment(t.Context(), teaPull, "m", "x"))
	wantPermanent(t, tea.Comment(t.Context(), teaPull, "m", "x"), "whose token", "read:user")
	wantRetry(t, tea.Comment(t.Context(), teaPull, "m", "x"))
	wantRetry(t, tea.Comment(t.Context(), teaPull, "m", "x"))
	if err := tea.Comment(t.Context(), teaPull, "m", "x"); err != nil {
		t.Error(err)
	}
}

func TestGiteaClosedPullRequests(t *testing.T) {
	for body, want := range map[string]assay.PullRequest{
		`{"number":7,"state":"closed","user":null,"base":{"ref":"main","sha":""},"merge_base":"` + shaA + `","head":{"sha":"` + shaB + `"}}`: {
			Number: 7, Base: "refs/heads/main", BaseCommit: shaA, Head: shaB},
		`{"number":7,"state":"closed","user":{"login":"a"},"base":{"ref":"grün","sha":"` + shaA + `"},"head":{"sha":""}}`: {
			Number: 7, Author: "a", Base: "refs/heads/grün", BaseCommit: shaA},
	} {
		server, tea := newGitea(t)
		server.Misbehave(forgetest.Fault{Status: 200, Body: body})
		if got, err := tea.PullRequest(t.Context(), teaPull.Repo, 7); got != want || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestGiteaMayWrite(t *testing.T) {
	server, tea := newGitea(t)
	for level, want := range map[string]bool{"none": false, "read": false, "write": true, "admin": true, "owner": true} {
		server.AddAccount("somebody", "o/r", level)
		if got, err := tea.MayWrite(t.Context(), teaPull.Repo, "SomeBody"); got != want || err != nil {
			t.Errorf("%s: %v, %v", level, got, err)
		}
	}
	if got, err := tea.MayWrite(t.Context(), teaPull.Repo, "nobody"); got || err != nil {
		t.Errorf("an account that does not exist: %v, %v", got, err)
	}
	server.Misbehave(forgetest.Fault{On: "GET /repos/o/r", Status: 404, Times: 2})
	if _, err := tea.MayWrite(t.Context(), teaPull.Repo, "nobody"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("a repository that does not exist: %v", err)
	}
	_, tea = newGitea(t, func(g *forgetest.Gitea) { g.NoAdmin = true })
	_, err := tea.MayWrite(t.Context(), teaPull.Repo, "somebody")
	wantPermanent(t, err, "Only admins", "administrator of the repository")
}

func TestGiteaOtherPictures(t *testing.T) {
	server, tea := newGitea(t, func(g *forgetest.Gitea) { g.Pictures = []string{"+1", "-1"} })
	id := server.AddComment(teaPull, forgetest.OtherUser, "/assay run")
	for _, reaction := range []assay.Reaction{assay.ReactionUnderstood, assay.ReactionConfused} {
		if err := tea.React(t.Context(), teaPull, fmt.Sprint(id), reaction); err != nil {
			t.Error(err)
		}
	}
	if got := server.Reactions(id); !slices.Equal(got, []string{"+1", "-1"}) {
		t.Errorf("reactions are %q", got)
	}
	server, tea = newGitea(t, func(g *forgetest.Gitea) { g.Pictures = []string{"laugh"} })
	id = server.AddComment(teaPull, forgetest.OtherUser, "/assay run")
	wantPermanent(t, tea.React(t.Context(), teaPull, fmt.Sprint("review:", id), assay.ReactionDone), "not an allowed reaction")
	if got := requestsOf(server, "POST"); got != 3 {
		t.Errorf("%d tries", got)
	}
}

func TestGiteaTokenIsReadAgain(t *testing.T) {
	server, tea := newGitea(t)
	if err := tea.SetStatus(t.Context(), teaCommit, passed); err != nil {
		t.Fatal(err)
	}
	server.SetToken("next")
	if err := tea.SetStatus(t.Context(), teaCommit, passed); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(server.TokenFile); err != nil {
		t.Fatal(err)
	}
	err := wantRetry(t, tea.SetStatus(t.Context(), teaCommit, passed))
	if !strings.Contains(err.Error(), server.TokenFile) {
		t.Errorf("error %q does not name the file", err)
	}
	if got := len(server.Statuses("o/r", shaA)); got != 2 {
		t.Errorf("%d statuses, want 2", got)
	}
}

func TestGiteaArchived(t *testing.T) {
	server, tea := newGitea(t)
	server.Archive("o/r")
	wantPermanent(t, tea.SetStatus(t.Context(), teaCommit, passed), "archived")
	wantPermanent(t, tea.Comment(t.Context(), teaPull, "m", "x"), "archived")
	server, tea = newGitea(t, func(g *forgetest.Gitea) { g.ReadOnly = true })
	wantPermanent(t, tea.SetStatus(t.Context(), teaCommit, passed), "403", server.TokenFile, "write:repository")
}

func TestGiteaAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://gitea.example.org/o/r":         true,
		"https://gitea.example.org/git/o/r.git": true,
		"ssh://git@gitea.example.org:2222/o/r":  true,
		"git@gitea.example.org:o/r.git":         true,
		"https://gitea.example.org/o/r/../../x": false,
		"https://gitea.example.org/hub/o/r":     false,
		"https://gitea.example.org/git/git/o/r": false,
		"https://gitea.example.org/o":           false,
		"https://u:hunter2@gitea.example.org/o": false,
		"/srv/git/o/r":                          false,
	} {
		_, tea := newGitea(t)
		err := tea.SetStatus(t.Context(), assay.Commit{Repo: address, SHA: shaA}, passed)
		if ok && err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if !ok {
			wantPermanent(t, err)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q", err)
			}
		}
	}
}

func TestNewGiteaRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", " 0123\n")
	const host = "https://gitea.example.org/"
	for name, o := range map[string]forge.GiteaOptions{
		"no token file":        {BaseURL: host, TokenFile: filepath.Join(dir, "none")},
		"empty token":          {BaseURL: host, TokenFile: file("empty", "\n")},
		"two words":            {BaseURL: host, TokenFile: file("two", "a b")},
		"a header in a token":  {BaseURL: host, TokenFile: file("crlf", "a\r\nX: y")},
		"a huge token":         {BaseURL: host, TokenFile: file("huge", strings.Repeat("x", 5000))},
		"a directory as token": {BaseURL: host, TokenFile: dir},
		"no server":            {TokenFile: good},
		"another scheme":       {TokenFile: good, BaseURL: "ftp://x/"},
		"no host":              {TokenFile: good, BaseURL: "https:///git"},
		"a user in the base":   {TokenFile: good, BaseURL: "https://u:hunter2@x/"},
		"a query in the base":  {TokenFile: good, BaseURL: "https://x/?y"},
		"a fragment":           {TokenFile: good, BaseURL: "https://x/#y"},
		"not even an address":  {TokenFile: good, BaseURL: ":"},
	} {
		if _, err := forge.NewGitea(o); err == nil || !strings.HasPrefix(err.Error(), "cannot ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, base := range []string{host, "https://gitea.example.org", host + "git/", host + "api/v1/"} {
		if _, err := forge.NewGitea(forge.GiteaOptions{TokenFile: good, BaseURL: base}); err != nil {
			t.Error(err)
		}
	}
}

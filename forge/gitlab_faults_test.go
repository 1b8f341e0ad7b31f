package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

func TestGitLabSaysWhenToTryAgain(t *testing.T) {
	limited := func(remaining string, reset time.Time) forgetest.Fault {
		return forgetest.Fault{Status: 429, Body: "Retry later\n", Header: map[string]string{
			"RateLimit-Limit": "600", "RateLimit-Remaining": remaining, "RateLimit-Reset": fmt.Sprint(reset.Unix())}}
	}
	tests := []struct {
		name   string
		fault  forgetest.Fault
		atMost time.Duration // 0: it must not say
	}{
		{"429 with Retry-After", forgetest.TooMany("30"), 30 * time.Second},
		{"429 without headers", forgetest.TooMany(""), time.Minute},
		{"429 with nonsense", forgetest.TooMany("soon"), time.Minute},
		{"429 with a reset", limited("0", time.Now().Add(20*time.Minute)), 20 * time.Minute},
		{"429 with a reset far away", limited("0", time.Now().Add(99*time.Hour)), 2 * time.Hour},
		{"429 with a reset that is over", limited("0", time.Now().Add(-time.Hour)), time.Second},
		{"429 with something left", limited("7", time.Now().Add(20*time.Minute)), time.Minute},
		{"500", forgetest.ServerError(500), 0},
		{"502", forgetest.ServerError(502), 0},
		{"408", forgetest.ServerError(408), 0},
		{"409", forgetest.Fault{Status: 409, Body: `{"message":"409 Conflict"}`}, 0},
		{"423", forgetest.ServerError(423), 0},
		{"202", forgetest.Fault{Status: 202, Body: "{}"}, 0},
		{"503 with Retry-After", forgetest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, 7 * time.Second},
		{"reset", forgetest.Reset(), 0},
		{"lost answer", forgetest.LostAnswer(), 0},
		{"success that is not JSON", forgetest.Fault{Status: 201, Body: "<html>"}, 0},
		{"success that is null", forgetest.Fault{Status: 201, Body: "null"}, 0},
		{"success of another type", forgetest.Fault{Status: 201, Body: `["x"]`}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, lab := newGitLab(t)
			server.Misbehave(test.fault.Meant("POST"))
			got := wantRetry(t, lab.SetStatus(t.Context(), labCommit, passed))
			if got.After > test.atMost || (test.atMost > 0) != (got.After > 0) {
				t.Errorf("asks for %s, want up to %s", got.After, test.atMost)
			}
			unfit(t, got, server.Token)
			if posts := requests(server, "POST"); len(posts) != 1 {
				t.Errorf("%d tries: it must not repeat by itself", len(posts))
			}
			if err := lab.SetStatus(t.Context(), labCommit, passed); err != nil {
				t.Fatal(err)
			}
			if got := statesOf(server.Statuses(labPath, shaA)); !slices.Equal(got, []string{"success"}) {
				t.Errorf("statuses are %q", got)
			}
		})
	}
}

// unfit wants an error that is one short line without the token.
func unfit(t *testing.T, err error, token string) {
	t.Helper()
	if text := err.Error(); strings.Contains(text, token) || strings.ContainsAny(text, "\n\x1b") || len(text) > 700 {
		t.Errorf("unfit error %q", text)
	}
}

func TestGitLabSaysWhatIsWrong(t *testing.T) {
	token := func(g *forgetest.GitLab) string { return g.Token }
	tests := []struct {
		name  string
		at    assay.Commit
		fault func(*forgetest.GitLab) forgetest.Fault
		words []string
	}{
		{"token not known", labCommit, func(*forgetest.GitLab) forgetest.Fault {
			return forgetest.Fault{Status: 401, Body: `{"message":"401 Unauthorized"}`}
		}, []string{"401", "token", "scope api"}},
		{"token of too small a scope", labCommit, func(*forgetest.GitLab) forgetest.Fault {
			return forgetest.Fault{Status: 403, Body: `{"error":"insufficient_scope","error_description":"The request requires higher privileges"}`}
		}, []string{"403", "insufficient_scope", "Developer"}},
		{"no such project", assay.Commit{Repo: "https://gitlab.example.org/group/none", SHA: shaA}, nil, []string{"404", "group/none"}},
		{"no such commit", assay.Commit{Repo: labRepo, SHA: shaC}, nil, []string{"404 Commit Not Found"}},
		{"several things at once", labCommit, func(*forgetest.GitLab) forgetest.Fault {
			return forgetest.Fault{Status: 400, Body: `{"message":{"name":["is too long"],"base":{"x":["y"]}}}`}
		}, []string{"400", "is too long"}},
		{"hostile message", labCommit, func(g *forgetest.GitLab) forgetest.Fault {
			return forgetest.Fault{Status: 422, Body: `{"message":"a\u001b[31m\n` + token(g) + strings.Repeat("x", 9999) + `"}`}
		}, []string{"422", "a\uFFFD[31m …x"}},
		{"endless message", labCommit, func(*forgetest.GitLab) forgetest.Fault {
			return forgetest.Fault{Status: 400, Body: strings.Repeat("[", 1<<20)}
		}, []string{"400"}},
		{"an address with one word", assay.Commit{Repo: "https://gitlab.example.org/r", SHA: shaA}, nil, []string{"GROUP/NAME"}},
		{"an address that climbs", assay.Commit{Repo: "https://gitlab.example.org/a/../b", SHA: shaA}, nil, []string{"GROUP/NAME"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, lab := newGitLab(t)
			if test.fault != nil {
				server.Misbehave(test.fault(server))
			}
			err := lab.SetStatus(t.Context(), test.at, passed)
			wantPermanent(t, err, test.words...)
			unfit(t, err, server.Token)
		})
	}
}

func TestGitLabLongAddress(t *testing.T) {
	server, lab := newGitLab(t)
	status := passed
	status.URL = "https://a.example/" + strings.Repeat("x", 300)
	if err := lab.SetStatus(t.Context(), labCommit, status); err != nil {
		t.Fatal(err)
	}
	if got := server.Statuses(labPath, shaA); len(got) != 1 || got[0].TargetURL != "" {
		t.Errorf("statuses are %+v", got)
	}
}

func TestGitLabRedirects(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else was asked, with %q", r.Header.Get("PRIVATE-TOKEN"))
	}))
	t.Cleanup(thief.Close)
	for _, method := range []string{"GET", "POST"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			server, lab := newGitLab(t)
			for _, to := range []string{thief.URL, server.URL + "api/v4/user"} {
				away := forgetest.Redirect(to).Meant(method)
				away.Status = status
				server.Misbehave(away)
				wantPermanent(t, lab.SetStatus(t.Context(), labCommit, passed), "moved")
			}
		}
	}
}

func TestGitLabTokenIsReadAgain(t *testing.T) {
	server, lab := newGitLab(t)
	for _, token := range []string{server.Token, "glpat-next"} {
		server.SetToken(token)
		if err := lab.SetStatus(t.Context(), labCommit, labStatus(assay.StatusSuccess, token)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(server.TokenFile); err != nil {
		t.Fatal(err)
	}
	err := wantRetry(t, lab.SetStatus(t.Context(), labCommit, passed))
	if !strings.Contains(err.Error(), server.TokenFile) {
		t.Errorf("error %q does not name the file", err)
	}
}

func TestGitLabComments(t *testing.T) {
	for _, at := range []assay.Commit{labCommit, labPull} {
		server, lab := newGitLab(t)
		server.PageSize = 2
		const planted = "<!-- assay:m -->\nmine"
		server.AddComment(labPath, at, forgetest.OtherUser, planted)
		server.AddComment(labPath, at, forgetest.OwnUser, "I quote <!-- assay:m --> and\n<!-- assay:m -->")
		for range 3 {
			server.AddComment(labPath, at, forgetest.OtherUser, "hm")
		}
		id := server.AddComment(labPath, at, forgetest.OwnUser, "<!-- assay:m -->\r\nold")
		for _, body := range []string{"new", "newer"} {
			if err := lab.Comment(t.Context(), at, "m", body); err != nil {
				t.Fatal(err)
			}
		}
		got := server.Comments(labPath, at)
		if len(got) != 6 || got[0].Body != planted || got[5].ID != id || got[5].Body != "<!-- assay:m -->\nnewer" {
			t.Errorf("comments are %+v", got)
		}
		server.DeleteComment(labPath, id)
		if err := lab.Comment(t.Context(), at, "m", "newest"); err != nil {
			t.Fatal(err)
		}
		if got := server.Comments(labPath, at); len(got) != 6 || got[5].Body != "<!-- assay:m -->\nnewest" {
			t.Errorf("after a deletion comments are %+v", got)
		}
	}
}

func TestGitLabLostAnswerMakesNothingTwice(t *testing.T) {
	for _, at := range []assay.Commit{labCommit, labPull} {
		server, lab := newGitLab(t)
		server.Misbehave(forgetest.LostAnswer().Meant("POST"))
		wantRetry(t, lab.Comment(t.Context(), at, "m", "one"))
		if err := lab.Comment(t.Context(), at, "m", "one"); err != nil {
			t.Fatal(err)
		}
		if got := server.Comments(labPath, at); len(got) != 1 || len(requests(server, "PUT")) != 0 {
			t.Errorf("comments are %v after %q", got, server.Requests())
		}
	}
	server, lab := newGitLab(t)
	note := server.AddComment(labPath, labPull, forgetest.OtherUser, "/assay run")
	server.AddAward(labPath, note, forgetest.OtherUser, "eyes")
	server.Misbehave(forgetest.LostAnswer().Meant("POST"))
	wantRetry(t, lab.React(t.Context(), labPull, fmt.Sprint(note), assay.ReactionUnderstood))
	if err := lab.React(t.Context(), labPull, fmt.Sprint(note), assay.ReactionUnderstood); err != nil {
		t.Fatal(err)
	}
	if got := server.Awards(labPath, note); !slices.Equal(got, []string{"eyes", "eyes"}) {
		t.Errorf("emoji are %q", got)
	}
}

// GitLab does what a note's lines say when they begin with a slash. The fake
// fails the test when one does.
func TestGitLabQuickActions(t *testing.T) {
	for _, at := range []assay.Commit{labCommit, labPull} {
		server, lab := newGitLab(t)
		for _, body := range []string{"/merge", "ok\n/approve\r\n/close\r/label ~x", "```\n/merge\n```"} {
			if err := lab.Comment(t.Context(), at, "m", body); err != nil {
				t.Fatal(err)
			}
			if got := bodies(server.Comments(labPath, at)); len(got) != 1 || !strings.Contains(got[0], " /") {
				t.Errorf("comments are %q", got)
			}
		}
	}
}

func TestGitLabHostileLists(t *testing.T) {
	for name, body := range map[string]string{
		"nulls":              `[null,null]`,
		"strings":            `["a"]`,
		"an object":          `{}`,
		"null":               `null`,
		"a page":             `<html>`,
		"no end":             `[{"id":1`,
		"ids of other kinds": `[{"id":"1","author":[]}]`,
		"a path for an id":   `[{"id":"../../x","notes":[{"id":1,"author":{"id":1001},"body":"<!-- assay:m -->"}]}]`,
		"no notes":           `[{"id":"abc","notes":[null]}]`,
	} {
		t.Run(name, func(t *testing.T) {
			server, lab := newGitLab(t)
			evil := forgetest.Fault{On: "GET /projects", Status: 200, Body: body}
			calls := map[string]func() error{
				"status":  func() error { return lab.SetStatus(t.Context(), labCommit, passed) },
				"commit":  func() error { return lab.Comment(t.Context(), labCommit, "m", "x") },
				"pull":    func() error { return lab.Comment(t.Context(), labPull, "m", "x") },
				"react":   func() error { return lab.React(t.Context(), labPull, "1", assay.ReactionDone) },
				"ask":     func() error { _, err := lab.PullRequest(t.Context(), labRepo, 7); return err },
				"members": func() error { _, err := lab.MayWrite(t.Context(), labRepo, "writer"); return err },
			}
			for what, call := range calls {
				server.Misbehave(evil)
				if err := call(); err != nil {
					var again *forge.RetryError
					var never *forge.PermanentError
					if !errors.As(err, &again) && !errors.As(err, &never) {
						t.Errorf("%s: %v", what, err)
					}
					unfit(t, err, server.Token)
				}
			}
			for _, request := range server.Requests() {
				if strings.Contains(request, "..") {
					t.Errorf("asked for %q", request)
				}
			}
		})
	}
}

func TestGitLabNeedsAnAccountForComments(t *testing.T) {
	server, lab := newGitLab(t)
	server.Misbehave(
		forgetest.ServerError(500).Meant("GET /user"),
		forgetest.Fault{On: "GET /user", Status: 403, Body: `{"message":"403 Forbidden"}`},
		forgetest.Fault{On: "GET /user", Status: 200, Body: `{}`},
		forgetest.Fault{On: "GET /user", Status: 200, Body: `null`},
	)
	wantRetry(t, lab.Comment(t.Context(), labPull, "m", "x"))
	wantPermanent(t, lab.Comment(t.Context(), labPull, "m", "x"), "whose token")
	for range 2 {
		wantPermanent(t, lab.Comment(t.Context(), labPull, "m", "x"), "names no account")
	}
	if err := lab.Comment(t.Context(), labPull, "m", "x"); err != nil {
		t.Error(err)
	}
}

func TestGitLabSlowServer(t *testing.T) {
	server, lab := newGitLab(t)
	server.Misbehave(forgetest.Silence())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := wantRetry(t, lab.SetStatus(ctx, labCommit, passed)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestGitLabBelowAPath(t *testing.T) {
	server, _ := newGitLab(t)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.EscapedPath())
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(proxy.Close)
	lab, err := forge.NewGitLab(forge.GitLabOptions{TokenFile: server.TokenFile, BaseURL: proxy.URL + "/gitlab"})
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"https://h.example/gitlab/group/r", "git@h.example:group/r.git"} {
		wantPermanent(t, lab.SetStatus(t.Context(), assay.Commit{Repo: repo, SHA: shaA}, passed), "404")
	}
	want := "/gitlab/api/v4/projects/group%2Fr/repository/commits/" + shaA + "/statuses"
	if !slices.Equal(asked, []string{want, want}) {
		t.Errorf("asked for %q", asked)
	}
	wantPermanent(t, lab.SetStatus(t.Context(), assay.Commit{Repo: "https://h.example/gitlab/r", SHA: shaA}, passed), "GROUP/NAME")
}

func TestParseGitLab(t *testing.T) {
	for address, want := range map[string]string{
		"https://gitlab.com/g/r":                               "gitlab.com g/r",
		"https://u:p@GitLab.com:8443/g/s/t/r.git/":             "gitlab.com g/s/t/r",
		"ssh://git@h.example:22/g/r_1.x":                       "h.example g/r_1.x",
		"git@h.example:g/r.git":                                "h.example g/r",
		"https://gitlab.com/r":                                 "",
		"https://gitlab.com/g/":                                "",
		"https://gitlab.com/g//r":                              "",
		"https://gitlab.com/g/.r":                              "",
		"https://gitlab.com/g/../r":                            "",
		"https://gitlab.com/g/r?x":                             "",
		"/srv/git/g/r":                                         "",
		"https://gitlab.com/" + strings.Repeat("g/", 30) + "r": "",
	} {
		host, path, err := forge.ParseGitLab(address)
		if got := strings.TrimSpace(host + " " + path); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestNewGitLabRefuses(t *testing.T) {
	good := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(good, []byte("glpat-x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]forge.GitLabOptions{
		"no token file":        {TokenFile: good + ".none"},
		"another scheme":       {TokenFile: good, BaseURL: "ftp://x/"},
		"no host":              {TokenFile: good, BaseURL: "https:///api"},
		"a user in the base":   {TokenFile: good, BaseURL: "https://u:p@x/"},
		"a query in the base":  {TokenFile: good, BaseURL: "https://x/?y"},
		"not even an address":  {TokenFile: good, BaseURL: ":"},
		"a directory as token": {TokenFile: filepath.Dir(good)},
	} {
		if _, err := forge.NewGitLab(o); err == nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := forge.NewGitLab(forge.GitLabOptions{TokenFile: good}); err != nil {
		t.Error(err)
	}
}

// unreachable counts the tries to reach a server that nobody reaches.
type unreachable struct{ tries int }

func (u *unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	u.tries++
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// GitLab's own client would try again five times, and wait between.
func TestGitLabNeverRepeatsByItself(t *testing.T) {
	server, _ := newGitLab(t)
	nobody := &unreachable{}
	lab, err := forge.NewGitLab(forge.GitLabOptions{TokenFile: server.TokenFile, BaseURL: server.URL, Transport: nobody})
	if err != nil {
		t.Fatal(err)
	}
	wantRetry(t, lab.SetStatus(t.Context(), labCommit, passed))
	if nobody.tries != 1 {
		t.Errorf("%d tries", nobody.tries)
	}
}

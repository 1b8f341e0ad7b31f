package forge_test

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

var (
	onCommit = assay.Commit{Repo: "git@github.com:o/r.git", SHA: shaA}
	onPull   = assay.Commit{Repo: "https://github.com/o/r", SHA: shaA, PullRequest: 7}
	passed   = assay.Status{Context: "assay/x", State: assay.StatusSuccess, Description: "fine", URL: "https://a.example/1"}
)

func wantRetry(t *testing.T, err error) *forge.RetryError {
	t.Helper()
	var again *forge.RetryError
	var never *forge.PermanentError
	if !errors.As(err, &again) || errors.As(err, &never) || !strings.HasPrefix(err.Error(), "cannot ") {
		t.Fatalf("error %v, want one to try again", err)
	}
	return again
}

func wantPermanent(t *testing.T, err error, words ...string) {
	t.Helper()
	var never *forge.PermanentError
	if !errors.As(err, &never) {
		t.Fatalf("error %v, want a permanent one", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestGitHubSaysWhenToTryAgain(t *testing.T) {
	tests := []struct {
		name   string
		fault  forgetest.Fault
		atMost time.Duration // 0: it must not say
	}{
		{"429 with Retry-After", forgetest.TooMany("30"), 30 * time.Second},
		{"429 without headers", forgetest.TooMany(""), time.Minute},
		{"429 with nonsense", forgetest.TooMany("soon"), time.Minute},
		{"secondary limit told by the body only", forgetest.SecondaryLimit(), time.Minute},
		{"primary limit", forgetest.RateLimit(time.Now().Add(20 * time.Minute)), 20 * time.Minute},
		{"primary limit far away", forgetest.RateLimit(time.Now().Add(99 * time.Hour)), 2 * time.Hour},
		{"primary limit that is over", forgetest.RateLimit(time.Now().Add(-time.Hour)), time.Second},
		{"500", forgetest.ServerError(500), 0},
		{"502", forgetest.ServerError(502), 0},
		{"408", forgetest.ServerError(408), 0},
		{"409", forgetest.ServerError(409), 0},
		{"202", forgetest.Fault{Status: 202, Body: "{}"}, 0},
		{"503 with Retry-After", forgetest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, 7 * time.Second},
		{"reset", forgetest.Reset(), 0},
		{"lost answer", forgetest.LostAnswer(), 0},
		{"success that is not JSON", forgetest.Fault{Status: 201, Body: "<html>"}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, hub := newGitHub(t)
			server.Misbehave(test.fault)
			got := wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
			if got.After > test.atMost || (test.atMost > 0) != (got.After > 0) {
				t.Errorf("asks for %s, want up to %s", got.After, test.atMost)
			}
			if strings.Contains(got.Error(), server.Token) || strings.Contains(got.Error(), "\n") {
				t.Errorf("unfit error %q", got)
			}
		})
	}
}

func TestGitHubSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*forgetest.GitHub) assay.Commit
		words []string
	}{
		{"token not known", func(g *forgetest.GitHub) assay.Commit {
			g.Misbehave(forgetest.Fault{Status: 401, Body: `{"message":"Bad credentials"}`})
			return onCommit
		}, []string{"401", "token", `"Commit statuses" write`}},
		{"token may not", func(g *forgetest.GitHub) assay.Commit {
			g.Misbehave(forgetest.Fault{Status: 403, Body: `{"message":"Resource not accessible by personal access token"}`})
			return onCommit
		}, []string{"403", "Resource not accessible", `"Commit statuses" write`}},
		{"no such repository", func(*forgetest.GitHub) assay.Commit {
			return assay.Commit{Repo: "https://github.com/o/nothing", SHA: shaA}
		}, []string{"404", "o/nothing"}},
		{"no such commit", func(*forgetest.GitHub) assay.Commit {
			return assay.Commit{Repo: onCommit.Repo, SHA: shaC}
		}, []string{"422", "No commit found"}},
		{"hostile message", func(g *forgetest.GitHub) assay.Commit {
			g.Misbehave(forgetest.Fault{Status: 422, Body: `{"message":"a\u001b[31m\n` + strings.Repeat("x", 9999) + `"}`})
			return onCommit
		}, []string{"422", "a\uFFFD[31m x"}},
		{"an address that is no repository", func(*forgetest.GitHub) assay.Commit {
			return assay.Commit{Repo: "https://github.com/o/r/../../user", SHA: shaA}
		}, []string{"OWNER/NAME"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, hub := newGitHub(t)
			err := hub.SetStatus(t.Context(), test.spoil(server), passed)
			wantPermanent(t, err, test.words...)
			if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("unfit error %q", err)
			}
		})
	}
}

// GitHub refuses a whole status for one emoji in its description.
func TestGitHubDescriptions(t *testing.T) {
	server, hub := newGitHub(t)
	status := passed
	status.Description = "caught 🐛 and\tß 你"
	if err := hub.SetStatus(t.Context(), onCommit, status); err != nil {
		t.Fatal(err)
	}
	if got := server.Statuses("o/r", shaA); len(got) != 1 || got[0].Description != "caught \uFFFD and ß 你" {
		t.Errorf("statuses are %q", got)
	}
}

func TestGitHubTooManyStatuses(t *testing.T) {
	server, hub := newGitHub(t)
	server.Misbehave(forgetest.Fault{Status: 422, Body: `{"message":"Validation Failed","errors":[{"resource":"Status","code":"custom","field":"base","message":"This SHA and context has reached the maximum number of statuses."}]}`})
	wantPermanent(t, hub.SetStatus(t.Context(), onCommit, passed), "1,000 statuses", "push a new commit")
}

func TestGitHubLostAnswerMakesNothingTwice(t *testing.T) {
	for _, at := range []assay.Commit{onCommit, onPull} {
		server, hub := newGitHub(t)
		server.Misbehave(forgetest.LostAnswer().Meant("POST"))
		wantRetry(t, hub.Comment(t.Context(), at, "m", "one"))
		if err := hub.Comment(t.Context(), at, "m", "one"); err != nil {
			t.Fatal(err)
		}
		if got := server.Comments(at); len(got) != 1 {
			t.Errorf("%d comments, want 1: %v", len(got), got)
		}
		if got := count(server, "PATCH"); got != 0 {
			t.Errorf("%d edits of a comment that was right", got)
		}
	}
}

func count(server *forgetest.GitHub, prefix string) (n int) {
	for _, request := range server.Requests() {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

func TestGitHubCommentOfSomebodyElse(t *testing.T) {
	for _, at := range []assay.Commit{onCommit, onPull} {
		server, hub := newGitHub(t)
		const planted = "<!-- assay:m -->\nmine"
		server.AddComment(at, forgetest.OtherUser, planted)
		server.AddComment(at, forgetest.OwnUser, "I quote <!-- assay:m --> and\n<!-- assay:m -->")
		for _, body := range []string{"one", "two"} {
			if err := hub.Comment(t.Context(), at, "m", body); err != nil {
				t.Fatal(err)
			}
		}
		got := server.Comments(at)
		if len(got) != 3 || got[0].Body != planted || got[2].Body != "<!-- assay:m -->\ntwo" {
			t.Errorf("comments are %+v", got)
		}
	}
}

// A restarted server knows no ids: it must find its comment among many pages.
func TestGitHubFindsItsCommentAgain(t *testing.T) {
	for _, at := range []assay.Commit{onCommit, onPull} {
		server, hub := newGitHub(t)
		server.PageSize = 2
		for range 5 {
			server.AddComment(at, forgetest.OtherUser, "hm")
		}
		id := server.AddComment(at, forgetest.OwnUser, "<!-- assay:m -->\r\nold")
		server.AddComment(at, forgetest.OtherUser, "hm")
		if err := hub.Comment(t.Context(), at, "m", "new"); err != nil {
			t.Fatal(err)
		}
		got := server.Comments(at)
		if len(got) != 7 || got[5].ID != id || got[5].Body != "<!-- assay:m -->\nnew" {
			t.Errorf("comments are %+v", got)
		}
		server.DeleteComment(id)
		if err := hub.Comment(t.Context(), at, "m", "newer"); err != nil {
			t.Fatal(err)
		}
		if got := server.Comments(at); len(got) != 7 || got[6].Body != "<!-- assay:m -->\nnewer" {
			t.Errorf("after a deletion comments are %+v", got)
		}
	}
}

// Listing comments is what spends a rate limit (test-infra #23606).
func TestGitHubListsOnce(t *testing.T) {
	server, hub := newGitHub(t)
	for _, body := range []string{"one", "two", "three"} {
		if err := hub.Comment(t.Context(), onPull, "m", body); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"GET /user",
		"GET /repos/o/r/issues/7/comments?page=1&per_page=100",
		"POST /repos/o/r/issues/7/comments",
		"PATCH /repos/o/r/issues/comments/1",
		"PATCH /repos/o/r/issues/comments/1",
	}
	if got := server.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests are %q", got)
	}
}

func TestGitHubTokenIsReadAgain(t *testing.T) {
	server, hub := newGitHub(t)
	if err := hub.SetStatus(t.Context(), onCommit, passed); err != nil {
		t.Fatal(err)
	}
	server.SetToken("ghp_next")
	if err := hub.SetStatus(t.Context(), onCommit, passed); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(server.TokenFile); err != nil {
		t.Fatal(err)
	}
	err := wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
	if !strings.Contains(err.Error(), server.TokenFile) {
		t.Errorf("error %q does not name the file", err)
	}
	if got := len(server.Statuses("o/r", shaA)); got != 2 {
		t.Errorf("%d statuses, want 2", got)
	}
}

// The token goes to no other host, and a POST never becomes a GET.
func TestGitHubRedirects(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else was asked, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(thief.Close)
	for _, status := range []int{301, 302, 307, 308} {
		server, hub := newGitHub(t)
		away := forgetest.Redirect(thief.URL + "/repos/o/r/statuses/" + shaA)
		away.Status = status
		server.Misbehave(away)
		wantPermanent(t, hub.SetStatus(t.Context(), onCommit, passed), "has moved")
	}
	server, hub := newGitHub(t)
	server.AddRepo("o/renamed", shaA)
	server.Misbehave(forgetest.Redirect(server.URL + "repos/o/renamed/statuses/" + shaA))
	if err := hub.SetStatus(t.Context(), onCommit, passed); err != nil {
		t.Fatal(err)
	}
	if got := server.Statuses("o/renamed", shaA); len(got) != 1 || got[0] != passed {
		t.Errorf("the renamed repository has %v", got)
	}
	moved := forgetest.Redirect(server.URL + "repos/o/renamed/statuses/" + shaA)
	moved.Status = http.StatusMovedPermanently // after which clients turn a POST into a GET
	server.Misbehave(moved)
	wantPermanent(t, hub.SetStatus(t.Context(), onCommit, passed), "has moved")
}

func TestGitHubNeedsAnAccountForComments(t *testing.T) {
	server, hub := newGitHub(t)
	server.Misbehave(
		forgetest.ServerError(500).Meant("GET /user"),
		forgetest.Fault{On: "GET /user", Status: 403, Body: `{"message":"Resource not accessible by integration"}`},
		forgetest.Fault{On: "GET /user", Status: 200, Body: `{}`},
	)
	wantRetry(t, hub.Comment(t.Context(), onPull, "m", "x"))
	wantPermanent(t, hub.Comment(t.Context(), onPull, "m", "x"), "whose token")
	wantPermanent(t, hub.Comment(t.Context(), onPull, "m", "x"), "names no account")
	if err := hub.Comment(t.Context(), onPull, "m", "x"); err != nil {
		t.Error(err)
	}
}

func TestNewGitHubRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", " ghp_x\n")
	for name, o := range map[string]forge.GitHubOptions{
		"no token file":        {TokenFile: filepath.Join(dir, "none")},
		"empty token":          {TokenFile: file("empty", "\n")},
		"two words":            {TokenFile: file("two", "a b")},
		"a header in a token":  {TokenFile: file("crlf", "a\r\nX: y")},
		"a huge token":         {TokenFile: file("huge", strings.Repeat("x", 5000))},
		"another scheme":       {TokenFile: good, BaseURL: "ftp://x/"},
		"no host":              {TokenFile: good, BaseURL: "https:///api"},
		"a user in the base":   {TokenFile: good, BaseURL: "https://u:p@x/"},
		"a query in the base":  {TokenFile: good, BaseURL: "https://x/?y"},
		"not even an address":  {TokenFile: good, BaseURL: ":"},
		"a directory as token": {TokenFile: dir},
	} {
		if _, err := forge.NewGitHub(o); err == nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := forge.NewGitHub(forge.GitHubOptions{TokenFile: good}); err != nil {
		t.Error(err)
	}
}

// The fake is worth nothing if it takes what GitHub does not.
func TestForgetestIsStrict(t *testing.T) {
	ok := map[string]string{
		"Authorization": "Bearer ghp_forgetest", "Accept": "application/vnd.github+json",
		"X-GitHub-Api-Version": "2022-11-28", "Content-Type": "application/json", "User-Agent": "test",
	}
	tests := []struct {
		name, method, path, body string
		drop                     string // header left out
		status                   int
		fails                    bool // the test that sent it
	}{
		{name: "good", method: "POST", path: "statuses/" + shaA, body: `{"state":"success"}`, status: 201},
		{name: "no token", method: "POST", path: "statuses/" + shaA, body: `{"state":"success"}`, drop: "Authorization", status: 401},
		{name: "no accept", method: "POST", path: "statuses/" + shaA, body: `{"state":"success"}`, drop: "Accept", status: 400, fails: true},
		{name: "no version", method: "POST", path: "statuses/" + shaA, body: `{"state":"success"}`, drop: "X-GitHub-Api-Version", status: 400, fails: true},
		{name: "no type", method: "POST", path: "statuses/" + shaA, body: `{"state":"success"}`, drop: "Content-Type", status: 400, fails: true},
		{name: "no agent", method: "POST", path: "statuses/" + shaA, body: `{"state":"success"}`, drop: "User-Agent", status: 400, fails: true},
		{name: "unknown field", method: "POST", path: "statuses/" + shaA, body: `{"state":"success","sate":""}`, status: 400, fails: true},
		{name: "required field", method: "POST", path: "statuses/" + shaA, body: `{"context":"x"}`, status: 400, fails: true},
		{name: "wrong type", method: "POST", path: "statuses/" + shaA, body: `{"state":1}`, status: 400, fails: true},
		{name: "bad state", method: "POST", path: "statuses/" + shaA, body: `{"state":"good"}`, status: 422},
		{name: "long description", method: "POST", path: "statuses/" + shaA, body: `{"state":"error","description":"` + strings.Repeat("x", 141) + `"}`, status: 422},
		{name: "emoji", method: "POST", path: "statuses/" + shaA, body: `{"state":"error","description":"🐛"}`, status: 422},
		{name: "bad address", method: "POST", path: "statuses/" + shaA, body: `{"state":"error","target_url":"x:y"}`, status: 422},
		{name: "unknown endpoint", method: "GET", path: "hooks", status: 400, fails: true},
		{name: "wrong method", method: "PUT", path: "statuses/" + shaA, body: "{}", status: 400, fails: true},
		{name: "unknown parameter", method: "GET", path: "commits/" + shaA + "/comments?sort=x", status: 400, fails: true},
		{name: "empty comment", method: "POST", path: "issues/7/comments", body: `{"body":" "}`, status: 422},
		{name: "no such pull", method: "POST", path: "issues/8/comments", body: `{"body":"x"}`, status: 404},
		{name: "a reaction that there is not", method: "POST", path: "issues/comments/1/reactions", body: `{"content":"dance"}`, status: 422},
		{name: "a reaction to nothing", method: "POST", path: "issues/comments/9/reactions", body: `{"content":"+1"}`, status: 404},
		{name: "an account that there is not", method: "GET", path: "collaborators/nobody/permission", status: 404},
		{name: "a check run by a person", method: "POST", path: "check-runs", body: `{"name":"x","head_sha":"` + shaA + `"}`, status: 403},
		{name: "check runs without the filter we use", method: "GET", path: "commits/" + shaA + "/check-runs", status: 400, fails: true},
		{name: "an installation by a person", method: "GET", path: "installation", status: 401},
		{name: "edit of nothing", method: "PATCH", path: "comments/9", body: `{"body":"x"}`, status: 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			watch := &failure{TB: t}
			server := forgetest.NewGitHub(watch)
			server.AddRepo("o/r", shaA)
			server.AddPull("o/r", 7)
			server.AddComment(assay.Commit{Repo: "o/r", PullRequest: 7}, forgetest.OtherUser, "hm")
			header := maps.Clone(ok)
			delete(header, test.drop)
			status := ask(t, test.method, server.URL+"repos/o/r/"+test.path, test.body, header)
			if status != test.status || watch.failed != test.fails {
				t.Errorf("status %d, failed %v; want %d, %v", status, watch.failed, test.status, test.fails)
			}
		})
	}
}

// ask sends a request of one's own making and returns the status.
func ask(t *testing.T, method, address, body string, header map[string]string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// failure remembers that a test would have failed.
type failure struct {
	testing.TB
	failed bool
}

func (f *failure) Errorf(string, ...any) { f.failed = true }

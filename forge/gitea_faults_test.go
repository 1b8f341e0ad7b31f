package forge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

// giteaCalls are all calls that take one request when nothing is remembered, but
// for the comment.
func giteaCalls(tea *forge.Gitea) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"SetStatus": func(ctx context.Context) error { return tea.SetStatus(ctx, teaCommit, passed) },
		"Status": func(ctx context.Context) error {
			_, _, err := tea.Status(ctx, teaCommit, "assay/x")
			return err
		},
		"Comment": func(ctx context.Context) error { return tea.Comment(ctx, teaPull, "m", "body") },
		"MayWrite": func(ctx context.Context) error {
			_, err := tea.MayWrite(ctx, teaPull.Repo, "writer")
			return err
		},
		"PullRequest": func(ctx context.Context) error {
			_, err := tea.PullRequest(ctx, teaPull.Repo, 7)
			return err
		},
		"React": func(ctx context.Context) error {
			return tea.React(ctx, teaPull, "issue:1", assay.ReactionDone)
		},
	}
}

// everyGiteaCall does each call against a server of its own that has one fault.
func everyGiteaCall(t *testing.T, fault forgetest.Fault, check func(t *testing.T, token string, err error)) {
	for _, call := range []string{"SetStatus", "Status", "Comment", "MayWrite", "PullRequest", "React"} {
		t.Run(call, func(t *testing.T) {
			server, tea := newGitea(t)
			server.AddComment(teaPull, forgetest.OtherUser, "/assay run") // its id is 1
			server.AddAccount("writer", "o/r", "write")
			server.Misbehave(fault)
			err := giteaCalls(tea)[call](t.Context())
			check(t, server.Token, err)
			if err != nil && (strings.Contains(err.Error(), server.Token) || len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x1b")) {
				t.Errorf("unfit error %q", err)
			}
		})
	}
}

func TestGiteaSaysWhenToTryAgain(t *testing.T) {
	tests := []struct {
		name   string
		fault  forgetest.Fault
		atMost time.Duration // 0: it must not say
	}{
		{"429 with Retry-After", forgetest.TooMany("30"), 30 * time.Second},
		{"429 with a date", forgetest.TooMany(time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), time.Hour},
		{"429 far away", forgetest.TooMany("999999"), 2 * time.Hour},
		{"429 without headers", forgetest.TooMany(""), time.Minute},
		{"429 with nonsense", forgetest.TooMany("soon"), time.Minute},
		{"502", forgetest.ServerError(502), 0},
		{"500 of a load balancer", forgetest.ServerError(500), 0},
		{"408", forgetest.ServerError(408), 0},
		{"409", forgetest.ServerError(409), 0},
		{"503 with Retry-After", forgetest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, 7 * time.Second},
		{"reset", forgetest.Reset(), 0},
		{"lost answer", forgetest.LostAnswer(), 0},
		{"a portal's page", forgetest.Fault{Status: 200, Body: "<html>Please log in</html>"}, 0},
		{"half an answer", forgetest.Fault{Status: 200, Body: `{"id": 1, "stat`}, 0},
		{"an answer and more", forgetest.Fault{Status: 200, Body: `{} {}`}, 0},
		{"wrong types", forgetest.Fault{Status: 200, Body: `{"id":"7","number":"7","status":1,"statuses":{},"permission":["write"],"content":{}}`}, 0},
		{"a number too large", forgetest.Fault{Status: 200, Body: `{"id":1e99,"number":1e99,"status":1e99,"statuses":1e99,"permission":1e99,"content":1e99}`}, 0},
		{"a string", forgetest.Fault{Status: 200, Body: `"ok"`}, 0},
		{"depth", forgetest.Fault{Status: 200, Body: strings.Repeat("[", 100_000)}, 0},
		{"no gzip", forgetest.Fault{Status: 200, Header: map[string]string{"Content-Encoding": "gzip"}, Body: "no gzip"}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			everyGiteaCall(t, test.fault, func(t *testing.T, _ string, err error) {
				got := wantRetry(t, err)
				if got.After > test.atMost || (test.atMost > 0) != (got.After > 0) {
					t.Errorf("asks for %s, want up to %s", got.After, test.atMost)
				}
			})
		})
	}
}

func TestGiteaSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name    string
		fault   forgetest.Fault
		missing bool
		words   []string
	}{
		{"token not known", forgetest.Fault{Status: 401, Body: `{"message":"user does not exist [uid: 0, name: ]"}`}, false, []string{"401", "token", "it needs"}},
		{"token may not", forgetest.Fault{Status: 403, Body: `{"message":"token does not have at least one of required scope(s): [write:repository]"}`}, false, []string{"403", "required scope(s)", "it needs"}},
		{"archived", forgetest.Fault{Status: 423, Body: `{"message":"Repo is archived"}`}, false, []string{"423", "take it out of the archive"}},
		{"hostile message", forgetest.Fault{Status: 422, Body: `{"message":"a\u001b[31m\n` + strings.Repeat("x", 9999) + `"}`}, false, []string{"422", "a\uFFFD[31m x"}},
		{"huge refusal", forgetest.Fault{Status: 400, Body: `{"message":"` + strings.Repeat("x", 1<<20) + `"}`}, false, []string{"400", "Bad Request"}},
		{"HTML refusal", forgetest.Fault{Status: 418, Body: "<html>no</html>"}, false, []string{"418", "teapot"}},
		{"refusal of a wrong type", forgetest.Fault{Status: 400, Body: `{"message":{"a":1}}`}, false, []string{"400", "Bad Request"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			everyGiteaCall(t, test.fault, func(t *testing.T, _ string, err error) { wantPermanent(t, err, test.words...) })
		})
	}
}

// A proxy that answers with what it was sent must not put the token into a log.
func TestGiteaTokenIsNoError(t *testing.T) {
	for _, body := range []string{`{"message":"bad header: token %s"}`, `{"message":"%[1]s%[1]s"}`} {
		for _, status := range []int{400, 403, 500, 429} {
			server, tea := newGitea(t)
			server.Misbehave(forgetest.Fault{Status: status, Body: fmt.Sprintf(body, server.Token)})
			_, err := tea.PullRequest(t.Context(), teaPull.Repo, 7)
			if err == nil || strings.Contains(err.Error(), server.Token) {
				t.Errorf("error %v", err)
			}
		}
	}
}

// An endless answer is cut off, and is not success.
func TestGiteaHugeAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"number":7,"title":"`))
		chunk := []byte(strings.Repeat("x", 1<<20))
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	tea, err := forge.NewGitea(forge.GiteaOptions{BaseURL: server.URL, TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tea.PullRequest(t.Context(), "https://h/o/r", 7)
	if got := wantRetry(t, err); !strings.Contains(got.Error(), "longer than 64 MiB") {
		t.Errorf("error %v", err)
	}
}

func TestGiteaStatusesThatAreNotOurs(t *testing.T) {
	for state, want := range map[string]assay.StatusState{
		"pending": assay.StatusPending, "success": assay.StatusSuccess, "failure": assay.StatusFailure, "error": assay.StatusError,
		"warning": assay.StatusFailure, "skipped": assay.StatusError, "": assay.StatusError, "\x1b": assay.StatusError,
	} {
		server, tea := newGitea(t)
		server.Misbehave(forgetest.Fault{Status: 200, Body: fmt.Sprintf(
			`{"sha":%q,"statuses":[null,{"status":%q,"context":"assay/x","description":"a\nb","target_url":"javascript:x"}]}`, shaA, strings.ReplaceAll(state, "\x1b", "x"))})
		got, ok, err := tea.Status(t.Context(), teaCommit, "assay/x")
		if got != (assay.Status{Context: "assay/x", State: want, Description: "a b"}) || !ok || err != nil {
			t.Errorf("%q: %+v, %v, %v", state, got, ok, err)
		}
	}
	server, tea := newGitea(t)
	server.Misbehave(forgetest.Fault{Status: 200, Body: fmt.Sprintf(`{"sha":%q,"statuses":[{"status":"success","context":"assay/x"}]}`, shaB)})
	if got, ok, err := tea.Status(t.Context(), teaCommit, "assay/x"); ok || err != nil {
		t.Errorf("the status of a branch that is called like the commit: %+v, %v, %v", got, ok, err)
	}
}

// A server that always has another page is left at some point.
func TestGiteaEndlessPages(t *testing.T) {
	server, tea := newGitea(t)
	server.Misbehave(forgetest.Fault{On: "GET /repos/o/r/commits/", Times: 1000, Status: 200, Body: fmt.Sprintf(`{"sha":%q,"statuses":[{"context":"y"}]}`, shaA)})
	if _, ok, err := tea.Status(t.Context(), teaCommit, "assay/x"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	server.Misbehave(forgetest.Fault{On: "GET /repos/o/r/issues/7/comments", Times: 1000, Status: 200, Header: map[string]string{"X-Total-Count": "999999"}, Body: `[null]`})
	if err := tea.Comment(t.Context(), teaPull, "m", "body"); err != nil {
		t.Error(err)
	}
	if got := len(server.Requests()); got > 210 {
		t.Errorf("%d requests", got)
	}
}

// Answers that are JSON of the right shape, and about something else.
func TestGiteaAnswersAboutSomethingElse(t *testing.T) {
	for call, bodies := range map[string][]string{
		"SetStatus":   {`{}`, `null`, `{"status":"success","context":"other"}`, `{"status":"pending","context":"assay/x"}`},
		"MayWrite":    {`{}`, `null`, `{"permission":"god"}`},
		"React":       {`{}`, `null`, `{"content":"-1"}`},
		"PullRequest": giteaBadPulls(),
	} {
		for _, body := range bodies {
			t.Run(call+" "+body, func(t *testing.T) {
				server, tea := newGitea(t)
				server.Misbehave(forgetest.Fault{Status: 200, Body: body})
				wantRetry(t, giteaCalls(tea)[call](t.Context()))
			})
		}
	}
	for _, method := range []string{"POST", "PATCH"} {
		server, tea := newGitea(t)
		if method == "PATCH" {
			server.AddComment(teaPull, forgetest.OwnUser, "<!-- assay:m -->\nold")
		}
		server.Misbehave(forgetest.Fault{On: method, Status: 200, Body: `{"id":0}`})
		wantRetry(t, tea.Comment(t.Context(), teaPull, "m", "x"))
	}
}

func giteaBadPulls() []string {
	pull := func(number int, state, login, base, baseSHA, head string) string {
		return fmt.Sprintf(`{"number":%d,"state":%q,"user":{"login":%q},"base":{"ref":%q,"sha":%q},"head":{"sha":%q}}`, number, state, login, base, baseSHA, head)
	}
	return []string{
		`{}`, `null`,
		pull(8, "open", "a", "main", shaA, shaB),
		pull(7, "merged", "a", "main", shaA, shaB),
		pull(7, "open", "../a", "main", shaA, shaB),
		pull(7, "open", "a", "", shaA, shaB),
		pull(7, "open", "a", "a..b", shaA, shaB),
		pull(7, "open", "a", "-a", shaA, shaB),
		pull(7, "open", "a", "a b", shaA, shaB),
		pull(7, "open", "a", strings.Repeat("x", 256), shaA, shaB),
		pull(7, "open", "a", "main", "", shaB),
		pull(7, "open", "a", "main", "HEAD", shaB),
		pull(7, "open", "a", "main", shaA, ""),
		pull(7, "closed", "a", "main", shaA, "--help"),
	}
}

// The token goes to no other host, and a POST never becomes a GET.
func TestGiteaRedirects(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else was asked, with %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(thief.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		away := forgetest.Redirect(thief.URL + "/api/v1/repos/o/r/statuses/" + shaA)
		away.Status = status
		everyGiteaCall(t, away, func(t *testing.T, _ string, err error) { wantPermanent(t, err, "has moved") })
	}
	server, tea := newGitea(t)
	server.AddRepo("o/renamed", shaA)
	server.Misbehave(forgetest.Redirect(server.URL + "api/v1/repos/o/renamed/statuses/" + shaA))
	if err := tea.SetStatus(t.Context(), teaCommit, passed); err != nil {
		t.Fatal(err)
	}
	if got := server.Statuses("o/renamed", shaA); len(got) != 1 || got[0] != passed {
		t.Errorf("the renamed repository has %v", got)
	}
	moved := forgetest.Redirect(server.URL + "api/v1/repos/o/renamed/statuses/" + shaA)
	moved.Status = http.StatusMovedPermanently // after which clients turn a POST into a GET
	server.Misbehave(moved)
	wantPermanent(t, tea.SetStatus(t.Context(), teaCommit, passed), "has moved")
}

// busy is a server that takes a second for each answer, and tells how many
// requests it had at a time.
type busy struct{ now, most atomic.Int32 }

func (b *busy) RoundTrip(r *http.Request) (*http.Response, error) {
	defer b.now.Add(-1)
	b.most.Store(max(b.most.Load(), b.now.Add(1)))
	<-time.After(time.Second) // of synctest's time
	return oneAnswer{201, "", `{"context":"assay/x","status":"success"}`}.RoundTrip(r)
}

// Two statuses of one commit that overtake each other would leave the older one.
func TestGiteaOneAtATime(t *testing.T) {
	server := forgetest.NewGitea(t)
	for commits, want := range map[int]int32{1: 1, 3: 3} {
		synctest.Test(t, func(t *testing.T) {
			load := &busy{}
			tea, err := forge.NewGitea(forge.GiteaOptions{TokenFile: server.TokenFile, BaseURL: "https://h/", Transport: load})
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for i := range 6 {
				at := assay.Commit{Repo: "https://h/o/r", SHA: strings.Repeat(string(rune('a'+i%commits)), 40)}
				all.Go(func() {
					if err := tea.SetStatus(t.Context(), at, passed); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if got := load.most.Load(); got != want {
				t.Errorf("%d commits: %d requests at a time, want %d", commits, got, want)
			}
		})
	}
}

func TestGiteaSilence(t *testing.T) {
	server, _ := newGitea(t)
	tea, err := forge.NewGitea(forge.GiteaOptions{TokenFile: server.TokenFile, BaseURL: server.URL, Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	server.Misbehave(forgetest.Silence())
	wantRetry(t, tea.SetStatus(t.Context(), teaCommit, passed))

	server, tea = newGitea(t)
	server.Misbehave(forgetest.Silence())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := tea.SetStatus(ctx, teaCommit, passed); !errors.Is(wantRetry(t, err), context.DeadlineExceeded) {
		t.Errorf("error %v does not tell of the deadline", err)
	}
}

// The stub is worth nothing if it takes what Gitea does not.
func TestGiteaStubIsStrict(t *testing.T) {
	headers := map[string]string{
		"Authorization": "token 0123456789abcdef0123456789abcdef01234567", "Accept": "application/json",
		"Content-Type": "application/json", "User-Agent": "test",
	}
	status := "statuses/" + shaA
	tests := []struct {
		name, method, path, body string
		drop                     string // header left out
		status                   int
		fails                    bool // the test that sent it
	}{
		{name: "good", method: "POST", path: status, body: `{"state":"success"}`, status: 201},
		{name: "warning", method: "POST", path: status, body: `{"state":"warning"}`, status: 201},
		{name: "no token", method: "POST", path: status, body: `{"state":"success"}`, drop: "Authorization", status: 401},
		{name: "no accept", method: "POST", path: status, body: `{"state":"success"}`, drop: "Accept", status: 422, fails: true},
		{name: "no type", method: "POST", path: status, body: `{"state":"success"}`, drop: "Content-Type", status: 422, fails: true},
		{name: "no agent", method: "POST", path: status, body: `{"state":"success"}`, drop: "User-Agent", status: 422, fails: true},
		{name: "unknown field", method: "POST", path: status, body: `{"state":"success","sate":""}`, status: 201, fails: true},
		{name: "wrong type", method: "POST", path: status, body: `{"state":1}`, status: 422, fails: true},
		{name: "bad state", method: "POST", path: status, body: `{"state":"good"}`, status: 201, fails: true},
		{name: "bad address", method: "POST", path: status, body: `{"state":"error","target_url":"x:y"}`, status: 201, fails: true},
		{name: "no such commit", method: "POST", path: "statuses/" + shaC, body: `{"state":"success"}`, status: 500},
		{name: "unknown endpoint", method: "GET", path: "hooks", status: 422, fails: true},
		{name: "wrong method", method: "PUT", path: status, body: "{}", status: 422, fails: true},
		{name: "unknown parameter", method: "GET", path: "issues/7/comments?page=1", status: 422, fails: true},
		{name: "bad page", method: "GET", path: "commits/" + shaA + "/status?page=0", status: 422, fails: true},
		{name: "nothing there", method: "GET", path: "commits/" + shaA + "/status?page=1", status: 200},
		{name: "empty comment", method: "POST", path: "issues/7/comments", body: `{"body":""}`, status: 422, fails: true},
		{name: "no such pull", method: "POST", path: "issues/99/comments", body: `{"body":"x"}`, status: 500},
		{name: "edit of nothing", method: "PATCH", path: "issues/comments/9", body: `{"body":"x"}`, status: 404},
		{name: "reaction to nothing", method: "POST", path: "issues/comments/9/reactions", body: `{"content":"+1"}`, status: 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			watch := &failure{TB: t}
			server := forgetest.NewGitea(watch)
			server.AddRepo("o/r", shaA)
			server.AddPull("o/r", assay.PullRequest{Number: 7})
			req, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+"api/v1/repos/o/r/"+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range headers {
				if name != test.drop {
					req.Header.Set(name, value)
				}
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.status || watch.failed != test.fails {
				t.Errorf("status %d, failed %v; want %d, %v", resp.StatusCode, watch.failed, test.status, test.fails)
			}
		})
	}
}

package forge_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
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

// leastPrivilege is what the documents of forge.GitHubApp ask for.
func leastPrivilege() map[string]string {
	return map[string]string{"checks": "write", "pull_requests": "write", "contents": "read", "metadata": "read"}
}

// newApp is newGitHub for an App that is installed on o/r.
func newApp(t *testing.T) (*forgetest.GitHub, *forge.GitHub) {
	t.Helper()
	server, _ := newGitHub(t)
	server.AddApp(leastPrivilege())
	server.Install("o/r")
	return server, newAppOn(t, server)
}

func TestGitHubAppSuite(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) forgetest.Subject {
		server, hub := newApp(t)
		server.PageSize = 3
		subject := gitHubSubject(server, hub)
		subject.Statuses = func(c assay.Commit) map[string]assay.Status {
			newest := map[string]assay.Status{}
			for _, run := range server.CheckRuns("o/r", c.SHA) {
				newest[run.Name] = shownRun(run)
			}
			return newest
		}
		return subject
	})
}

func TestGitHubAppTokens(t *testing.T) {
	server, hub := newApp(t)
	server.AddRepo("o/second", shaA)
	server.Install("o/second")
	for range 3 {
		setState(t, hub, assay.StatusPending, "queued")
	}
	if got := server.Tokens(); got != 1 {
		t.Errorf("%d tokens for 3 calls, want 1", got)
	}
	if repos, permissions := server.LastToken(); !slices.Equal(repos, []string{"r"}) || !maps.Equal(permissions, leastPrivilege()) {
		t.Errorf("the token is for %q with %v", repos, permissions)
	}
	want := []string{
		"GET /repos/o/r/installation",
		"POST /app/installations/1/access_tokens",
		"GET /repos/o/r/commits/" + shaA + "/check-runs?app_id=777&check_name=assay%2Fx&filter=all&page=1&per_page=100",
		"POST /repos/o/r/check-runs",
	}
	if got := server.Requests(); len(got) != 6 || !slices.Equal(got[:4], want) {
		t.Errorf("requests are %q", got)
	}
	second := assay.Commit{Repo: "https://github.com/O/Second", SHA: shaA}
	if err := hub.SetStatus(t.Context(), second, passed); err == nil {
		t.Error("GitHub's names are compared as they are written by the test server only")
	}
	second.Repo = "https://github.com/o/second"
	if err := hub.SetStatus(t.Context(), second, passed); err != nil {
		t.Error(err)
	}
	if got := server.Tokens(); got != 2 {
		t.Errorf("%d tokens for 2 repositories, want one each", got)
	}
}

// A token lives for an hour; a minute before its end it counts as over.
func TestGitHubAppRenewsTokens(t *testing.T) {
	server, hub := newApp(t)
	server.SetTokenLife(time.Second)
	for range 3 {
		setState(t, hub, assay.StatusPending, "queued")
	}
	if got := server.Tokens(); got < 3 {
		t.Errorf("%d tokens, want one for each request", got)
	}
}

func TestGitHubAppTokenTakenBack(t *testing.T) {
	for name, take := range map[string]func(*forgetest.GitHub){
		"revoked":         (*forgetest.GitHub).RevokeTokens,
		"installed anew":  func(g *forgetest.GitHub) { g.Uninstall("o/r"); g.Install("o/r") },
		"key was changed": func(g *forgetest.GitHub) { g.RevokeTokens(); g.NewKey() },
	} {
		t.Run(name, func(t *testing.T) {
			server, hub := newApp(t)
			setState(t, hub, assay.StatusPending, "queued")
			take(server)
			if err := hub.SetStatus(t.Context(), onCommit, passed); err != nil {
				wantRetry(t, err)
				setState(t, hub, assay.StatusSuccess, "fine")
			}
			if runs := server.CheckRuns("o/r", shaA); len(runs) != 1 || runs[0].Conclusion != "success" {
				t.Errorf("check runs are %+v", runs)
			}
		})
	}
}

// The token ends while the App has been taken away and put back: renewing it
// fails for the old installation.
func TestGitHubAppInstallationLost(t *testing.T) {
	server, hub := newApp(t)
	server.SetTokenLife(time.Second)
	setState(t, hub, assay.StatusPending, "queued")
	server.Uninstall("o/r")
	wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
	wantPermanent(t, hub.SetStatus(t.Context(), onCommit, passed), "install it", "o/r")
	server.Install("o/r")
	setState(t, hub, assay.StatusSuccess, "fine")
}

func TestGitHubAppSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*forgetest.GitHub)
		words []string
	}{
		{"another key", func(g *forgetest.GitHub) {
			g.Misbehave(forgetest.Fault{Status: 401, Body: `{"message":"A JSON web token could not be decoded"}`})
		}, []string{"401", "JSON web token", "clock", "app.pem"}},
		{"not installed", func(g *forgetest.GitHub) { g.Uninstall("o/r") }, []string{"install it", "o/r"}},
		{"suspended", func(g *forgetest.GitHub) {
			g.Misbehave(forgetest.Fault{On: "POST /app", Status: 403, Body: `{"message":"This installation has been suspended"}`})
		}, []string{"403", "suspended", "App 777"}},
		{"permission is missing", func(g *forgetest.GitHub) {
			g.AddApp(map[string]string{"metadata": "read", "contents": "read", "pull_requests": "write"})
			g.Install("o/r")
		}, []string{"422", "Checks write"}},
		{"permission was taken", func(g *forgetest.GitHub) {
			g.Misbehave(forgetest.Fault{On: "POST /repos/o/r/check-runs", Status: 403, Body: `{"message":"Resource not accessible by integration"}`})
		}, []string{"403", `"Checks" write`}},
		{"hostile message", func(g *forgetest.GitHub) {
			g.Misbehave(forgetest.Fault{On: "POST /app", Status: 422, Body: `{"message":"a\u001b[31m\n` + strings.Repeat("x", 9999) + `"}`})
		}, []string{"422", "a\uFFFD[31m x"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, _ := newApp(t)
			test.spoil(server)
			err := newAppOn(t, server).SetStatus(t.Context(), onCommit, passed)
			wantPermanent(t, err, test.words...)
			if len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("unfit error %q", err)
			}
		})
	}
}

func TestGitHubAppTriesAgain(t *testing.T) {
	for name, fault := range map[string]forgetest.Fault{
		"server error at the token":    forgetest.ServerError(502).Meant("POST /app"),
		"rate limit at the token":      forgetest.SecondaryLimit().Meant("POST /app"),
		"lost token":                   forgetest.LostAnswer().Meant("POST /app"),
		"a token that is none":         {On: "POST /app", Status: 201, Body: `{"token":"a\r\nX: y","expires_at":"2099-01-01T00:00:00Z"}`},
		"no token":                     {On: "POST /app", Status: 201, Body: `{}`},
		"a token of another type":      {On: "POST /app", Status: 201, Body: `{"token":1}`},
		"a token that is HTML":         {On: "POST /app", Status: 201, Body: `<html>`},
		"server error at installation": forgetest.ServerError(500).Meant("GET /repos/o/r/installation"),
		"installation that is HTML":    {On: "GET /repos/o/r/installation", Status: 200, Body: `<html>`},
	} {
		t.Run(name, func(t *testing.T) {
			server, hub := newApp(t)
			server.Misbehave(fault)
			err := wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed))
			if strings.Contains(err.Error(), "ghs_") || strings.Contains(err.Error(), "eyJ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("unfit error %q", err)
			}
			for range 2 { // a bad token is thrown away first
				if err := hub.SetStatus(t.Context(), onCommit, passed); err == nil {
					return
				}
			}
			t.Error("it never comes right")
		})
	}
}

// An App's account is known by its name: it cannot ask who it is.
func TestGitHubAppKnowsItsComments(t *testing.T) {
	server, hub := newApp(t)
	server.AddComment(onPull, forgetest.OtherUser, "<!-- assay:m -->\nplanted")
	id := server.AddComment(onPull, forgetest.BotUser, "<!-- assay:m -->\nold")
	if err := hub.Comment(t.Context(), onPull, "m", "new"); err != nil {
		t.Fatal(err)
	}
	got := server.Comments(onPull)
	if len(got) != 2 || got[1].ID != id || got[1].Body != "<!-- assay:m -->\nnew" {
		t.Errorf("comments are %+v", got)
	}
	if n := count(server, "GET /user"); n != 0 {
		t.Error("an App has asked for its account")
	}
	server.Misbehave(forgetest.Fault{On: "GET /app", Status: 200, Body: `{"slug":"../x"}`})
	other := newAppOn(t, server)
	wantPermanent(t, other.Comment(t.Context(), onPull, "n", "x"), "names none")
}

// newAppOn is a second forge for the App of a server.
func newAppOn(t *testing.T, server *forgetest.GitHub) *forge.GitHub {
	t.Helper()
	hub, err := forge.NewGitHub(forge.GitHubOptions{App: &forge.GitHubApp{ID: 777, KeyFile: server.KeyFile()}, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

func TestNewGitHubAppRefuses(t *testing.T) {
	server, _ := newGitHub(t)
	_, good := server.AddApp(nil)
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]forge.GitHubOptions{
		"no id":     {App: &forge.GitHubApp{KeyFile: good}},
		"bad id":    {App: &forge.GitHubApp{ID: -1, KeyFile: good}},
		"no key":    {App: &forge.GitHubApp{ID: 1, KeyFile: good + ".not"}},
		"bad key":   {App: &forge.GitHubApp{ID: 1, KeyFile: bad}},
		"a token":   {App: &forge.GitHubApp{ID: 1, KeyFile: server.TokenFile}},
		"both ways": {App: &forge.GitHubApp{ID: 1, KeyFile: good}, TokenFile: server.TokenFile},
	} {
		if _, err := forge.NewGitHub(o); err == nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	hub, err := forge.NewGitHub(forge.GitHubOptions{App: &forge.GitHubApp{ID: 1, KeyFile: good}, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	wantPermanent(t, hub.SetStatus(t.Context(), onCommit, passed), "signature", "'iss'")
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	if err := wantRetry(t, hub.SetStatus(t.Context(), onCommit, passed)); !strings.Contains(err.Error(), good) {
		t.Errorf("error %q does not name the key", err)
	}
}

func TestGitHubAppCancelled(t *testing.T) {
	server, _ := newApp(t)
	server.Misbehave(forgetest.Silence().Meant("POST /app"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The call ends while a token is on its way.
	hub, err := forge.NewGitHub(forge.GitHubOptions{
		App: &forge.GitHubApp{ID: 777, KeyFile: server.KeyFile()}, BaseURL: server.URL,
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				cancel()
			}
			return http.DefaultTransport.RoundTrip(r)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.SetStatus(ctx, onCommit, passed); !errors.Is(wantRetry(t, err), context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// transport is a round tripper.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

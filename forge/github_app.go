package forge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/assay-ci/assay"
	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/google/go-github/v60/github"
)

// GitHubApp is a GitHub App that assay reports as. The App needs these
// permissions and no others, and no account permissions: repository "Checks"
// write, "Pull requests" write (comments, reactions), "Contents" read (comments
// on commits), "Metadata" read. It may be granted more: the tokens that are
// asked for have just these, and are each for one repository. To have the
// buttons "Re-run" tell us it subscribes to the events check run and check
// suite.
//
// It must be installed on every repository that is reported on; which of its
// installations that is, is asked of the server. Statuses become check runs:
// the run has the status's context as its name and external id, its description
// as the output's title, its address as the details. Pending is "queued" when
// the description begins with queued or waiting, and "in_progress" otherwise.
// Success and failure are concluded so, an error is concluded "cancelled": that
// keeps a branch shut as a failure does, where "neutral" and "skipped" would
// open it, and does not say that the check failed. A run is made once for a
// commit and a name and then edited; a completed one cannot be opened again
// (GitHub takes the words and leaves it completed), so that what follows it
// becomes a new run of the same name, which GitHub shows in its place. Statuses
// that a token has set before stay as they are.
type GitHubApp struct {
	ID int64
	// KeyFile holds the App's private key in PEM, as GitHub gives it. It is read
	// again before every call, so that it can be replaced at any time.
	KeyFile string
}

// app is a GitHub's own half of a GitHubApp.
type app struct {
	options GitHubApp
	runs    memory[checkRun] // ours
	author  *author

	mu    sync.Mutex
	key   []byte
	self  *github.Client      // asks as the App itself
	repos map[string]*session // by "owner/name" in lower case
}

// maxKey bounds the key's file, in bytes.
const maxKey = 64 << 10

// newApp checks that the key is one.
func newApp(o GitHubApp) (*app, error) {
	if o.ID <= 0 {
		return nil, fmt.Errorf("cannot be the GitHub App %d: its id must be positive: it is on the App's page", o.ID)
	}
	a := &app{options: o, author: &author{}}
	_, err := a.read()
	return a, err
}

// read returns the key.
func (a *app) read() ([]byte, error) {
	key, err := readSecret("the GitHub App's key", a.options.KeyFile)
	if err != nil {
		return nil, err
	}
	if _, err := ghinstallation.NewAppsTransport(http.DefaultTransport, a.options.ID, key); err != nil || len(key) > maxKey {
		return nil, fmt.Errorf("cannot use the GitHub App's key in %s: it is no private RSA key in PEM: make one on the App's page and put the file there", a.options.KeyFile)
	}
	return key, nil
}

// asApp returns the client that asks as the App itself, with the key that is in
// the file now; a new key makes everything new.
func (g *GitHub) asApp() (*github.Client, error) {
	key, err := g.app.read()
	if err != nil {
		return nil, &RetryError{Err: err} // the file may be on its way
	}
	g.app.mu.Lock()
	defer g.app.mu.Unlock()
	if g.app.self != nil && bytes.Equal(g.app.key, key) {
		return g.app.self, nil
	}
	transport, err := ghinstallation.NewAppsTransport(g.guard(""), g.app.options.ID, key)
	if err != nil {
		return nil, &RetryError{Err: err}
	}
	g.app.key, g.app.self, g.app.repos = key, g.client(transport), map[string]*session{}
	return g.app.self, nil
}

// appSession returns the session for one repository. Its token is made when it
// is needed and again a minute before it ends.
func (g *GitHub) appSession(ctx context.Context, owner, name string) (*session, error) {
	self, err := g.asApp()
	if err != nil {
		return nil, err
	}
	repo := strings.ToLower(owner + "/" + name)
	g.app.mu.Lock()
	s, key := g.app.repos[repo], g.app.key
	g.app.mu.Unlock()
	if s != nil {
		return s, nil
	}
	found, _, err := self.Apps.FindRepositoryInstallation(ctx, owner, name)
	if err != nil {
		return nil, g.fail(ctx, fmt.Sprintf("find the installation of %s on %s", g.who(), repo), "", &appError{err: err})
	}
	transport, err := ghinstallation.New(g.guard(""), g.app.options.ID, found.GetID(), key)
	if err != nil {
		return nil, &RetryError{Err: err}
	}
	transport.BaseURL = strings.TrimSuffix(g.base.String(), "/")
	transport.InstallationTokenOptions = leastPrivilege(name)
	s = &session{author: g.app.author}
	s.client = g.client(&renewing{next: transport, forget: func() { g.app.forget(repo, s) }})
	g.app.keep(repo, s, key)
	return s, nil
}

func leastPrivilege(repo string) *github.InstallationTokenOptions {
	return &github.InstallationTokenOptions{
		Repositories: []string{repo},
		Permissions: &github.InstallationPermissions{
			Checks: github.String("write"), PullRequests: github.String("write"),
			Contents: github.String("read"), Metadata: github.String("read"),
		},
	}
}

// keep remembers a session unless the key it was made with has been replaced.
func (a *app) keep(repo string, s *session, key []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !bytes.Equal(a.key, key) {
		return
	}
	if len(a.repos) >= maxKnown {
		a.repos = map[string]*session{}
	}
	a.repos[repo] = s
}

func (a *app) forget(repo string, s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.repos[repo] == s {
		delete(a.repos, repo)
	}
}

// appLogin is the name of the App's account, with which it signs comments.
func (g *GitHub) appLogin(ctx context.Context) (string, error) {
	self, err := g.asApp()
	if err != nil {
		return "", err
	}
	found, _, err := self.Apps.Get(ctx, "")
	if err != nil {
		return "", g.fail(ctx, "find out what the App is called", "", &appError{err: err})
	}
	if !gitHubWord(found.GetSlug()) {
		return "", permanent("cannot find out what the App is called: %s names none", g.base.Host)
	}
	return found.GetSlug() + "[bot]", nil
}

// renewing forgets a session whose token the server does not take any more, or
// does not renew, so that the next call begins with a new one.
type renewing struct {
	next   http.RoundTripper
	forget func()
}

func (t *renewing) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	var refusal *ghinstallation.HTTPError
	var unfit *unfitTokenError
	switch {
	case errors.As(err, &unfit):
		t.forget()
	case errors.As(err, &refusal) && refusal.Response != nil:
		defer refusal.Response.Body.Close()
		t.forget()
		return nil, &appError{renewing: true, err: github.CheckResponse(refusal.Response)}
	case err == nil && resp.StatusCode == http.StatusUnauthorized:
		t.forget()
	}
	return resp, err
}

// appError is what was answered to the App itself, rather than to one of its
// tokens.
type appError struct {
	renewing bool // a token was asked for
	err      error
}

func (e *appError) Error() string { return e.err.Error() }

func (e *appError) Unwrap() error { return e.err }

// appRefused sorts answers to the App itself that are not about limits.
func (g *GitHub) appRefused(what string, e *appError, resp *http.Response, message string) error {
	host, who := g.base.Host, g.who()
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		return permanent("cannot %s: %s does not take the signature of %s (401: %s): check the App's id, its key in %s, and this machine's clock", what, host, who, message, g.app.options.KeyFile)
	case code == http.StatusNotFound && e.renewing: // it was installed anew, or is gone: the next call finds out
		return &RetryError{After: time.Second, Err: fmt.Errorf("cannot %s: %s has lost the installation of %s (404)", what, host, who)}
	case code == http.StatusNotFound:
		return permanent("cannot %s: there is none, so install it on the repository (404): %w", what, assay.ErrNotFound)
	case code == http.StatusUnprocessableEntity && e.renewing:
		return permanent("cannot %s: %s does not give %s a token (422: %s): it needs the permissions Checks write, Pull requests write, Contents read, Metadata read", what, host, who, message)
	default:
		return g.refused(what, "", code, message, resp.Header)
	}
}

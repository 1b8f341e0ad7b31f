package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// GitHubAPI is github.com's REST API. An Enterprise Server's is
// https://HOST/api/v3/.
const GitHubAPI = "https://api.github.com/"

// GitHubOptions say how to reach a GitHub server, and as whom: with a token, or
// as a GitHub App.
type GitHubOptions struct {
	// TokenFile holds the access token and nothing else but white space. It is
	// read again before every call, so that it can be replaced at any time.
	TokenFile string
	App       *GitHubApp        // instead of TokenFile
	BaseURL   string            // "" for GitHubAPI
	UserAgent string            // "" for "assay"
	Timeout   time.Duration     // of one request; 0 for 30 seconds
	Transport http.RoundTripper // nil for SafeTransport
}

// GitHub is the Forge of github.com or an Enterprise Server, through its REST
// API (docs.github.com/rest, version 2022-11-28).
//
// A token reports with commit statuses. It needs, fine-grained: "Commit
// statuses" write, for comments and reactions "Pull requests" write and
// "Contents" read; to be asked who may write it must be of an account that may
// push. Classic: the scope repo, or public_repo for public repositories.
//
// GitHub keeps at most 1,000 statuses of one context on one commit and refuses
// more. Pending ones are refused here before that, so that the last word always
// finds room. An App reports with check runs instead, see GitHubApp.
type GitHub struct {
	options GitHubOptions
	base    *url.URL
	locks   keyed
	known   memory[int64] // ids of our comments
	posted  tally
	seen    *conditional
	app     *app // nil with a token

	mu      sync.Mutex
	current *session
}

var (
	_ Forge        = (*GitHub)(nil)
	_ StatusReader = (*GitHub)(nil)
	_ Asker        = (*GitHub)(nil)
	_ Reactor      = (*GitHub)(nil)
	_ Annotator    = (*GitHub)(nil)
)

// NewGitHub checks the options and that the token or the App's key can be read;
// it does not talk to the server.
func NewGitHub(o GitHubOptions) (*GitHub, error) {
	if o.BaseURL == "" {
		o.BaseURL = GitHubAPI
	}
	if o.UserAgent == "" {
		o.UserAgent = "assay"
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("cannot use %q as GitHub's API: write it as %s or https://HOST/api/v3/", o.BaseURL, GitHubAPI)
	}
	if o.Transport == nil {
		o.Transport = gitHubTransport(o.BaseURL)
	}
	base = base.JoinPath("/") // go-github wants the slash at the end
	g := &GitHub{options: o, base: base, seen: &conditional{next: o.Transport}}
	switch {
	case o.App == nil:
		_, err = g.token()
	case o.TokenFile != "":
		err = fmt.Errorf("cannot be a GitHub App and use the token in %s: configure one of the two", o.TokenFile)
	default:
		g.app, err = newApp(*o.App)
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// gitHubTransport lets an Enterprise Server be in a private network; github.com
// never is.
func gitHubTransport(base string) http.RoundTripper {
	if base == GitHubAPI {
		return SafeTransport()
	}
	return SafeTransport(base)
}

// maxToken bounds the token file, in bytes. GitHub's tokens have under 300.
const maxToken = 4096

func (g *GitHub) token() (string, error) {
	text, err := readSecret("the GitHub token", g.options.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if !printable(token) || len(token) > maxToken {
		return "", fmt.Errorf("cannot use the GitHub token in %s: it must be one word: put the token and nothing else into the file", g.options.TokenFile)
	}
	return token, nil
}

func readSecret(what, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err == nil {
		return text, nil
	}
	cause, cure := err, "check the path"
	var at *fs.PathError
	if errors.As(err, &at) {
		cause = at.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		cure = "make it readable by the user that runs assay"
	}
	return nil, fmt.Errorf("cannot read %s %s: %v: %s", what, file, cause, cure)
}

// session is what belongs to one token, or to an App's token for one repository.
type session struct {
	token  string
	client *github.Client
	author *author
}

// session returns the session for a repository: that of the token that is in
// the file now, or the App's.
func (g *GitHub) session(ctx context.Context, owner, name string) (*session, error) {
	if g.app != nil {
		return g.appSession(ctx, owner, name)
	}
	token, err := g.token()
	if err != nil {
		return nil, &RetryError{Err: err} // the file may be on its way
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current == nil || g.current.token != token {
		g.current = &session{token: token, client: g.client(g.guard(token)), author: &author{}}
	}
	return g.current, nil
}

// guard is what every request goes through last.
func (g *GitHub) guard(token string) *guard {
	return &guard{base: g.base, token: token, agent: g.options.UserAgent, next: g.seen}
}

func (g *GitHub) client(transport http.RoundTripper) *github.Client {
	client := github.NewClient(&http.Client{Transport: transport, Timeout: g.options.Timeout, CheckRedirect: stay})
	client.BaseURL = g.base
	return client
}

// author is who we are; it is asked for once.
type author struct {
	mu    sync.Mutex
	id    int64  // of the account
	login string // of an App's account
}

// wrote tells whether a comment is ours. An App's account has brackets in its
// name, which no person's can have.
func (a *author) wrote(c comment) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.login != "" && c.login == a.login || a.id != 0 && c.user == a.id
}

// identify finds out whose token it is.
func (g *GitHub) identify(ctx context.Context, s *session) error {
	s.author.mu.Lock()
	defer s.author.mu.Unlock()
	if s.author.id != 0 || s.author.login != "" {
		return nil
	}
	if g.app != nil {
		login, err := g.appLogin(ctx)
		s.author.login = login
		return err
	}
	user, _, err := s.client.Users.Get(ctx, "")
	if err != nil {
		return g.fail(ctx, "find out whose token it is", "", err)
	}
	if user.GetID() == 0 {
		return permanent("cannot find out whose token it is: %s names no account", g.base.Host)
	}
	s.author.id = user.GetID()
	return nil
}

// place is a commit in GitHub's terms.
type place struct {
	owner, name, sha string
	pull             int
}

func (p place) String() string { return p.owner + "/" + p.name + " at " + p.sha }

func gitHubPlace(c assay.Commit) (place, error) {
	if err := checkCommit(c); err != nil {
		return place{}, err
	}
	_, owner, name, err := ParseGitHub(c.Repo)
	if err != nil {
		return place{}, &PermanentError{err}
	}
	return place{owner, name, c.SHA, c.PullRequest}, nil
}

const needStatuses = `"Commit statuses" write (classic: repo:status)`

// SetStatus does POST /repos/O/R/statuses/SHA with a token; an App makes or
// edits a check run.
func (g *GitHub) SetStatus(ctx context.Context, commit assay.Commit, status assay.Status) error {
	at, err := gitHubPlace(commit)
	if err != nil {
		return err
	}
	if err := checkStatus(status); err != nil {
		return err
	}
	release, err := g.locks.lock(ctx, at.String())
	if err != nil {
		return err
	}
	defer release()
	s, err := g.session(ctx, at.owner, at.name)
	if err != nil {
		return err
	}
	if g.app != nil {
		return g.setCheck(ctx, s, at, status)
	}
	return g.postStatus(ctx, s, at, status)
}

// maxPending is how many statuses of one context on one commit this process
// posts before it refuses pending ones. GitHub takes 1,000; what an earlier
// process posted is not counted, for listing a thousand statuses costs more
// than it is worth.
const maxPending = 500

func (g *GitHub) postStatus(ctx context.Context, s *session, at place, status assay.Status) error {
	key := "the status " + status.Context + " on " + at.String()
	if status.State == assay.StatusPending && g.posted.count(key) >= maxPending {
		return permanent("cannot set %s to pending: %d are there and %s keeps 1,000: the room is for how it ends: push a new commit, or use a GitHub App, whose check runs are edited", key, maxPending, g.base.Host)
	}
	_, _, err := s.client.Repositories.CreateStatus(ctx, at.owner, at.name, at.sha, gitHubStatus(status))
	if err == nil {
		g.posted.add(key)
	}
	if full(err) {
		return permanent("cannot set %s: %s keeps 1,000 statuses of one context and has them: push a new commit, or use a GitHub App, whose check runs are edited", key, g.base.Host)
	}
	return g.fail(ctx, "set "+key, needStatuses, err)
}

// full tells the refusal of the status after the thousandth.
func full(err error) bool {
	resp, message := answerOf(err)
	return resp != nil && resp.StatusCode == http.StatusUnprocessableEntity && strings.Contains(message, "maximum number of statuses")
}

// tally counts by name. The zero value is ready; when it has too many names it
// begins anew.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) count(key string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[key]
}

func (t *tally) add(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil || len(t.n) >= maxKnown {
		t.n = map[string]int{}
	}
	t.n[key]++
}

// gitHubStatus is the request's body.
func gitHubStatus(s assay.Status) *github.RepoStatus {
	body := &github.RepoStatus{State: github.String(string(s.State)), Context: github.String(s.Context)}
	if description := gitHubLine(s.Description); description != "" {
		body.Description = github.String(description)
	}
	if url := link(s.URL); url != "" {
		body.TargetURL = github.String(url)
	}
	return body
}

// gitHubLine is Line without characters beyond the Basic Multilingual Plane,
// for which GitHub refuses the whole status ("description doesn't accept 4-byte
// Unicode").
func gitHubLine(description string) string {
	return strings.Map(func(r rune) rune {
		if r > 0xFFFF {
			return '\uFFFD'
		}
		return r
	}, Line(description))
}

// Status does GET /repos/O/R/commits/SHA/status, which has the newest status of
// every context; an App reads its check run.
func (g *GitHub) Status(ctx context.Context, commit assay.Commit, context string) (assay.Status, bool, error) {
	at, err := gitHubPlace(commit)
	if err != nil {
		return assay.Status{}, false, err
	}
	s, err := g.session(ctx, at.owner, at.name)
	if err != nil {
		return assay.Status{}, false, err
	}
	if g.app != nil {
		return g.readCheck(ctx, s, at, context)
	}
	for page := 1; page != 0 && page <= maxPages; {
		combined, resp, err := s.client.Repositories.GetCombinedStatus(ctx, at.owner, at.name, at.sha, &github.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return assay.Status{}, false, g.fail(ctx, "read the statuses of "+at.String(), `"Commit statuses" read`, err)
		}
		for _, status := range combined.Statuses {
			if status.GetContext() == context {
				return fromGitHub(status), true, nil
			}
		}
		page = resp.NextPage
	}
	return assay.Status{}, false, nil
}

func fromGitHub(s *github.RepoStatus) assay.Status {
	return assay.Status{
		Context: s.GetContext(), State: assay.StatusState(s.GetState()),
		Description: s.GetDescription(), URL: s.GetTargetURL(),
	}
}

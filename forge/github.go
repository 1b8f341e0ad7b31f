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

// GitHubOptions say how to reach a GitHub server.
type GitHubOptions struct {
	// TokenFile holds the access token and nothing else but white space. It is
	// read again before every call, so that it can be replaced at any time.
	TokenFile string
	BaseURL   string            // "" for GitHubAPI
	UserAgent string            // "" for "assay"
	Timeout   time.Duration     // of one request; 0 for 30 seconds
	Transport http.RoundTripper // nil for one like http.DefaultTransport
}

// GitHub is the Forge of github.com or an Enterprise Server, through its REST
// API (docs.github.com/rest, version 2022-11-28).
//
// The token needs, fine-grained: "Commit statuses" write, and for comments
// "Pull requests" write and "Contents"; classic: the scope repo, or public_repo
// for public repositories.
type GitHub struct {
	options GitHubOptions
	base    *url.URL
	locks   keyed
	known   known // ids of our comments

	mu      sync.Mutex
	current *session
}

var (
	_ Forge        = (*GitHub)(nil)
	_ StatusReader = (*GitHub)(nil)
)

// NewGitHub checks the options and that the token can be read; it does not talk
// to the server.
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
	if o.Transport == nil {
		o.Transport = ownTransport()
	}
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("cannot use %q as GitHub's API: write it as %s or https://HOST/api/v3/", o.BaseURL, GitHubAPI)
	}
	base = base.JoinPath("/") // go-github wants the slash at the end
	g := &GitHub{options: o, base: base}
	if _, err := g.token(); err != nil {
		return nil, err
	}
	return g, nil
}

// ownTransport is a copy, so that closing idle connections touches nobody else.
func ownTransport() http.RoundTripper {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		return t.Clone()
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment}
}

// maxToken bounds the token file, in bytes. GitHub's tokens have under 300.
const maxToken = 4096

func (g *GitHub) token() (string, error) {
	text, err := os.ReadFile(g.options.TokenFile)
	if err != nil {
		cause, cure := err, "check the path"
		var at *fs.PathError
		if errors.As(err, &at) {
			cause = at.Err
		}
		if errors.Is(err, fs.ErrPermission) {
			cure = "make it readable by the user that runs assay"
		}
		return "", fmt.Errorf("cannot read the GitHub token %s: %v: %s", g.options.TokenFile, cause, cure)
	}
	token := strings.TrimSpace(string(text))
	if !printable(token) || len(token) > maxToken {
		return "", fmt.Errorf("cannot use the GitHub token in %s: it must be one word: put the token and nothing else into the file", g.options.TokenFile)
	}
	return token, nil
}

// session is what belongs to one token.
type session struct {
	token  string
	client *github.Client

	mu     sync.Mutex
	userID int64 // whose token it is; 0 until asked
}

// session returns the session of the token that is in the file now.
func (g *GitHub) session() (*session, error) {
	token, err := g.token()
	if err != nil {
		return nil, &RetryError{Err: err} // the file may be on its way
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current == nil || g.current.token != token {
		client := github.NewClient(&http.Client{
			Transport:     &guard{base: g.base, token: token, agent: g.options.UserAgent, next: g.options.Transport},
			Timeout:       g.options.Timeout,
			CheckRedirect: stay,
		})
		client.BaseURL = g.base
		g.current = &session{token: token, client: client}
	}
	return g.current, nil
}

// user returns the id of the account that the token belongs to.
func (g *GitHub) user(ctx context.Context, s *session) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.userID != 0 {
		return s.userID, nil
	}
	user, _, err := s.client.Users.Get(ctx, "")
	if err != nil {
		return 0, g.fail(ctx, "find out whose token it is", "", err)
	}
	if user.GetID() == 0 {
		return 0, permanent("cannot find out whose token it is: %s names no account", g.base.Host)
	}
	s.userID = user.GetID()
	return s.userID, nil
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

// SetStatus does POST /repos/O/R/statuses/SHA.
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
	s, err := g.session()
	if err != nil {
		return err
	}
	_, _, err = s.client.Repositories.CreateStatus(ctx, at.owner, at.name, at.sha, gitHubStatus(status))
	return g.fail(ctx, "set the status "+status.Context+" on "+at.String(), needStatuses, err)
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
// every context.
func (g *GitHub) Status(ctx context.Context, commit assay.Commit, context string) (assay.Status, bool, error) {
	at, err := gitHubPlace(commit)
	if err != nil {
		return assay.Status{}, false, err
	}
	s, err := g.session()
	if err != nil {
		return assay.Status{}, false, err
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

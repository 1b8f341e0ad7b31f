package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/assay-ci/assay"
	gitlab "gitlab.com/gitlab-org/api/client-go"
)

// GitLabOptions say how to reach a GitLab server.
type GitLabOptions struct {
	// TokenFile holds the access token and nothing else but white space. It is
	// read again before every call, so that it can be replaced at any time.
	TokenFile string
	BaseURL   string            // of the pages: "https://HOST/"; "" for https://gitlab.com/
	UserAgent string            // "" for "assay"
	Timeout   time.Duration     // of one request; 0 for 30 seconds
	Transport http.RoundTripper // nil for SafeTransport(BaseURL)
}

// GitLab is the Forge of gitlab.com or a GitLab of one's own, through its REST
// API v4 (docs.gitlab.com/api) with GitLab's own client, whose waiting and
// repeating are switched off: a Forge never does either.
//
// The token is a personal, group or project access token with the scope api,
// whose account has the role Developer in the project. GitLab has no smaller
// right for statuses.
//
// States: pending is pending, success is success, failure is failed, and error,
// for which GitLab has no word, is canceled: it turns nothing red and lets
// nothing through. What GitLab calls running is read back as pending.
//
// A pending status can become running, and either can end; GitLab refuses
// everything else with 400 "Cannot transition status via …", even a repetition
// of what is there. So the status is looked up before it is first sent, what is
// there already is not sent, and a pending status with another text is sent as
// running. The text of a running status cannot be changed any more; it stays. A
// status that has ended is followed by a new one of the same name.
//
// GitLab keeps statuses in pipelines and prefers the newest. A status must end
// in the pipeline that it began in, or that pipeline never ends: GitLab
// remembers which, and finds it again by the status's name after a restart. The
// first status of a merge request goes to its head pipeline, if that belongs to
// the project and the commit, else to the source branch, or to
// refs/merge-requests/N/head when the source is a fork: without a ref GitLab
// takes only commits that are on a branch of the project.
//
// Comments are notes on a merge request and discussions on a commit; both can
// be edited (API documents, "Discussions", modify a commit thread note).
type GitLab struct {
	web   *webForge
	locks keyed
	notes memory[gitLabNote] // our comments, by key
	seen  memory[gitLabSeen] // our statuses, by commit and context

	mu      sync.Mutex
	current *gitLabSession
}

var (
	_ Forge        = (*GitLab)(nil)
	_ StatusReader = (*GitLab)(nil)
	_ Asker        = (*GitLab)(nil)
	_ Reactor      = (*GitLab)(nil)
)

// NewGitLab checks the options and that the token can be read; it does not talk
// to the server.
func NewGitLab(o GitLabOptions) (*GitLab, error) {
	if o.BaseURL == "" {
		o.BaseURL = "https://gitlab.com/"
	}
	web, err := newWebForge("GitLab", o.BaseURL, o.TokenFile, o.UserAgent, o.Timeout, o.Transport)
	if err != nil {
		return nil, err
	}
	web.header = "PRIVATE-TOKEN"
	return &GitLab{web: web}, nil
}

// gitLabSession is what belongs to one token.
type gitLabSession struct {
	token  string
	client *gitlab.Client

	mu     sync.Mutex
	userID int64 // whose token it is; 0 until asked
}

// session returns the session of the token that is in the file now.
func (g *GitLab) session() (*gitLabSession, error) {
	token, err := g.web.token()
	if err != nil {
		return nil, &RetryError{Err: err} // the file may be on its way
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current != nil && g.current.token == token {
		return g.current, nil
	}
	client, err := gitlab.NewClient("", // webGuard has the token
		gitlab.WithBaseURL(g.web.base.String()),
		gitlab.WithHTTPClient(g.web.client(token)),
		gitlab.WithCustomLimiter(noLimit{}),
		gitlab.WithoutRetries(),
		gitlab.WithCustomLeveledLogger(nil),
	)
	if err != nil {
		return nil, permanent("cannot speak to %s: %v", g.web.base.Host, err)
	}
	g.current = &gitLabSession{token: token, client: client}
	return g.current, nil
}

// noLimit keeps the client from making up a limit of its own and waiting for it.
type noLimit struct{}

func (noLimit) Wait(context.Context) error { return nil }

// user returns the id of the account that the token belongs to; a project or
// group access token has one of its own.
func (g *GitLab) user(ctx context.Context, s *gitLabSession) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.userID != 0 {
		return s.userID, nil
	}
	user, _, err := s.client.Users.CurrentUser(gitlab.WithContext(ctx))
	if err != nil {
		return 0, g.web.fail(ctx, "find out whose token it is", "", err)
	}
	if user == nil || user.ID == 0 {
		return 0, permanent("cannot find out whose token it is: %s names no account", g.web.base.Host)
	}
	s.userID = user.ID
	return s.userID, nil
}

// gitLabPlace is a commit in GitLab's terms.
type gitLabPlace struct {
	project, sha string // "group/name"
	pull         int64
}

func (p gitLabPlace) String() string { return p.project + " at " + p.sha }

func (g *GitLab) place(c assay.Commit) (gitLabPlace, error) {
	if err := checkCommit(c); err != nil {
		return gitLabPlace{}, err
	}
	project, err := g.project(c.Repo)
	if err != nil {
		return gitLabPlace{}, err
	}
	return gitLabPlace{project, c.SHA, int64(c.PullRequest)}, nil
}

// project finds the project's path in an address. A GitLab below a path of its
// host ("https://HOST/gitlab/") has that path in its https addresses, too.
func (g *GitLab) project(address string) (string, error) {
	_, path, err := ParseGitLab(address)
	if err != nil {
		return "", &PermanentError{err}
	}
	below := strings.TrimPrefix(g.web.base.Path, "/")
	if u, err := url.Parse(address); err == nil && strings.HasPrefix(u.Scheme, "http") && below != "" {
		path = strings.TrimPrefix(path, below)
		if !strings.Contains(path, "/") {
			return "", permanent("cannot find GROUP/NAME below /%s in the address %.100q", below, show(address))
		}
	}
	return path, nil
}

// mergeRequest asks for one; the error is the client's.
func mergeRequest(ctx context.Context, s *gitLabSession, project string, number int64) (*gitlab.MergeRequest, error) {
	mr, _, err := s.client.MergeRequests.GetMergeRequest(project, number, nil, gitlab.WithContext(ctx))
	if err == nil && mr == nil {
		err = fmt.Errorf("the merge request is null")
	}
	return mr, err
}

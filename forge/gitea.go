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
)

// GiteaOptions say how to reach a Gitea or Forgejo server.
type GiteaOptions struct {
	// BaseURL is the server as browsers reach it: "https://codeberg.org/", with
	// the path if it has one ("https://HOST/git/"). The API is below it.
	BaseURL string
	// TokenFile holds the access token and nothing else but white space. It is
	// read again before every call, so that it can be replaced at any time.
	TokenFile string
	UserAgent string            // "" for "assay"
	Timeout   time.Duration     // of one request; 0 for 30 seconds
	Transport http.RoundTripper // nil for SafeTransport(BaseURL)
}

// Gitea is the Forge of a Gitea or Forgejo server, through its REST API v1 (each
// server documents it at /api/swagger).
//
// The token needs the scopes write:repository (statuses), write:issue (comments
// and reactions, also below pull requests) and read:user (to know its own
// comments). The account may be one that writes to the repository; only MayWrite
// takes an administrator of the repository.
//
// It does not use the SDK code.gitea.io/sdk/gitea (v0.25): that keeps one context
// per client and reads answers without a limit; its GetCombinedStatus asks for
// the first page only and takes an answer that it cannot read for "no
// statuses", which would send a status twice; an error's whole body, the page of
// a proxy too, becomes its text; and it decodes all fields of every object, so
// that one in which Forgejo or a newer Gitea differs breaks what we ask. We look
// at few fields of eleven endpoints.
//
// What the server does not say: it takes about 70 statuses a second and gets
// slower after that, without limits or headers for them (a proxy before it may
// answer 429); it answers 500, without a text, for a status on a commit and a
// comment on a pull request that does not exist, so that a 500 is followed by a
// question whether it does; and a 500 may come after a status was written, which
// who tries again finds with Status.
type Gitea struct {
	options GiteaOptions
	root    *url.URL // BaseURL without a slash at the end
	client  *http.Client
	locks   keyed
	known   memory[int64] // ids of our comments

	mu      sync.Mutex
	account giteaAccount // whose token was used last
}

type giteaAccount struct {
	token string
	id    int64
}

var (
	_ Forge        = (*Gitea)(nil)
	_ StatusReader = (*Gitea)(nil)
	_ Asker        = (*Gitea)(nil)
	_ Reactor      = (*Gitea)(nil)
)

// NewGitea checks the options and that the token can be read; it does not talk
// to the server.
func NewGitea(o GiteaOptions) (*Gitea, error) {
	if o.UserAgent == "" {
		o.UserAgent = "assay"
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	root, err := url.Parse(strings.TrimRight(o.BaseURL, "/"))
	if err != nil || root.Host == "" || root.User != nil || root.RawQuery != "" || root.Fragment != "" || root.Scheme != "https" && root.Scheme != "http" {
		return nil, fmt.Errorf("cannot use %.100q as a Gitea server: write it as https://HOST/", show(o.BaseURL))
	}
	root.Path = strings.TrimSuffix(root.Path, "/api/v1") // people know that address, too
	if o.Transport == nil {
		o.Transport = SafeTransport(root.String())
	}
	g := &Gitea{options: o, root: root, client: &http.Client{Transport: o.Transport, Timeout: o.Timeout, CheckRedirect: stay}}
	if _, err := readToken(o.TokenFile, root.Host); err != nil {
		return nil, err
	}
	return g, nil
}

// giteaPlace is a commit in Gitea's terms.
type giteaPlace struct {
	repo string // "repos/OWNER/NAME", the beginning of paths
	sha  string
	pull int
}

func (p giteaPlace) String() string {
	return strings.TrimPrefix(p.repo, "repos/") + " at " + p.sha
}

// repo returns the beginning of the API's paths for a repository's address. An
// http address may have the server's own path before OWNER/NAME.
func (g *Gitea) repo(address string) (string, error) {
	host, path, err := splitAddress(address)
	if err != nil {
		return "", &PermanentError{err}
	}
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if own := strings.Trim(g.root.Path, "/"); own != "" {
		if rest, ok := strings.CutPrefix(path, own+"/"); ok && strings.Contains(rest, "/") {
			path = rest
		}
	}
	owner, name, _ := strings.Cut(path, "/")
	if host == "" || !gitHubWord(owner) || !gitHubWord(name) {
		return "", permanent("cannot find OWNER/NAME in the address %.100q: write it as %s/OWNER/NAME", show(address), g.root)
	}
	return "repos/" + owner + "/" + name, nil
}

func (g *Gitea) place(c assay.Commit) (giteaPlace, error) {
	if err := checkCommit(c); err != nil {
		return giteaPlace{}, err
	}
	repo, err := g.repo(c.Repo)
	return giteaPlace{repo, c.SHA, c.PullRequest}, err
}

// giteaStatus is a status as requests and answers have it.
type giteaStatus struct {
	State       string `json:"state,omitempty"`  // in requests
	Status      string `json:"status,omitempty"` // in answers
	Context     string `json:"context"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url"`
}

// SetStatus does POST /repos/O/R/statuses/SHA. Gitea keeps descriptions of any
// length; it gets what all forges take.
func (g *Gitea) SetStatus(ctx context.Context, commit assay.Commit, status assay.Status) error {
	at, err := g.place(commit)
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
	body := giteaStatus{State: string(status.State), Context: status.Context, Description: Line(status.Description), TargetURL: link(status.URL)}
	err = s.setStatus(ctx, at, body)
	return s.fail(ctx, "set the status "+status.Context+" on "+at.String(), "the scope write:repository and the right to write to the repository", err)
}

func (s *giteaSession) setStatus(ctx context.Context, at giteaPlace, body giteaStatus) error {
	var kept giteaStatus
	_, err := s.do(ctx, http.MethodPost, at.repo+"/statuses/"+at.sha, body, &kept)
	switch {
	case answered(err, http.StatusInternalServerError):
		return s.orMissing(ctx, err, "the commit", at.repo+"/git/commits/"+at.sha+"?stat=false&verification=false&files=false")
	case err == nil && (kept.Context != body.Context || kept.Status != body.State):
		return fmt.Errorf("it answers with another status, %.40q of %.40q", kept.Status, kept.Context)
	}
	return err
}

// giteaCombined is what we look at in a CombinedStatus.
type giteaCombined struct {
	SHA      string        `json:"sha"`
	Statuses []giteaStatus `json:"statuses"`
}

// Status does GET /repos/O/R/commits/SHA/status, which has the newest status of
// every context, by the order in which they were written; the list of all
// statuses orders by seconds. A commit that does not exist has no statuses.
func (g *Gitea) Status(ctx context.Context, commit assay.Commit, context string) (assay.Status, bool, error) {
	at, err := g.place(commit)
	if err != nil {
		return assay.Status{}, false, err
	}
	s, err := g.session()
	if err != nil {
		return assay.Status{}, false, err
	}
	found, err := s.status(ctx, at, context)
	if err != nil {
		return assay.Status{}, false, s.fail(ctx, "read the statuses of "+at.String(), "the scope read:repository", err)
	}
	if found == nil {
		return assay.Status{}, false, nil
	}
	return fromGitea(*found), true, nil
}

func (s *giteaSession) status(ctx context.Context, at giteaPlace, context string) (*giteaStatus, error) {
	for page, seen := 1, 0; page <= maxPages; page++ {
		var combined giteaCombined
		path := fmt.Sprintf("%s/commits/%s/status?page=%d&limit=%d", at.repo, at.sha, page, giteaPage)
		header, err := s.do(ctx, http.MethodGet, path, nil, orNothing{&combined})
		if err != nil {
			return nil, err
		}
		// A branch may be called like a commit: the server then tells of its head.
		if len(combined.Statuses) == 0 || combined.SHA != at.sha {
			return nil, nil
		}
		for _, status := range combined.Statuses {
			if status.Context == context {
				return &status, nil
			}
		}
		if seen += len(combined.Statuses); !moreThan(header, seen, true) {
			return nil, nil
		}
	}
	return nil, nil
}

// fromGitea bounds what was kept. Gitea has states that we never set: "warning",
// and "skipped" in newer versions.
func fromGitea(s giteaStatus) assay.Status {
	state := assay.StatusState(s.Status)
	switch state {
	case assay.StatusPending, assay.StatusSuccess, assay.StatusFailure:
	case "warning":
		state = assay.StatusFailure
	default:
		state = assay.StatusError
	}
	return assay.Status{Context: s.Context, State: state, Description: Line(s.Description), URL: link(s.TargetURL)}
}

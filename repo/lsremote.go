package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// Ref is a name in a repository and the object that it is at.
type Ref struct {
	Name string // "refs/heads/main"
	Hash string // 40 lower-case hexadecimal digits
	// PullRequest is the number of the pull or merge request whose head this is, 0
	// for a branch.
	PullRequest int
}

// Refs asks a repository for its branches, and for the heads of its pull requests
// if pulls says so, sorted by name; nothing is fetched. A repository without any
// has none. It is bounded by Limits.FetchTime and Limits.Files.
func (c *Cache) Refs(ctx context.Context, address string, pulls bool) ([]Ref, error) {
	return NewLister(c.limits).Refs(ctx, address, pulls)
}

// Lister asks repositories for their refs again and again. Where a web server says
// which state its answer is of, it is asked for the next one only if that is
// another. Its methods may be called from several goroutines.
type Lister struct {
	limits Limits

	mu   sync.Mutex
	seen map[string]advertised // by address.key; only those of such servers
}

// advertised is an answer that a server may confirm.
type advertised struct {
	etag, modified string // the headers ETag and Last-Modified (RFC 9110, 8.8)
	refs           listing
}

// NewLister returns one that remembers nothing yet.
func NewLister(limits Limits) *Lister {
	return &Lister{limits: limits.withDefaults(), seen: map[string]advertised{}}
}

// Heads is Refs without pull requests: commits by the full names of branches.
func (l *Lister) Heads(ctx context.Context, address string) (map[string]string, error) {
	refs, err := l.Refs(ctx, address, false)
	if err != nil {
		return nil, err
	}
	heads := make(map[string]string, len(refs))
	for _, ref := range refs {
		heads[ref.Name] = ref.Hash
	}
	return heads, nil
}

// Refs is as Cache.Refs.
func (l *Lister) Refs(ctx context.Context, address string, pulls bool) ([]Ref, error) {
	a, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.limits.FetchTime)
	defer cancel()
	found, err := l.list(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("cannot list the branches of %s: %w", a.show, err)
	}
	return found.pick(pulls), nil
}

func (l *Lister) list(ctx context.Context, a address) (listing, error) {
	l.mu.Lock()
	before := l.seen[a.key]
	l.mu.Unlock()
	ask := &asking{before: before}
	refs, err := advertisement(ctx, a, ask)
	switch {
	case errors.Is(err, errUnchanged):
		return before.refs, nil
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return listing{refs: packp.NewAdvRefs()}, nil
	case err != nil:
		return listing{}, remoteError(ctx, a, err)
	case len(refs.References) > l.limits.Files:
		return listing{}, &LimitError{What: "a repository with that many refs", Limit: "Files", Max: int64(l.limits.Files)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, a.key)
	if ask.etag != "" || ask.modified != "" {
		l.seen[a.key] = advertised{etag: ask.etag, modified: ask.modified, refs: listing{refs: refs}}
	}
	return listing{refs: refs}, nil
}

// advertisement is what a repository says first, with the session closed.
func advertisement(ctx context.Context, a address, ask *asking) (*packp.AdvRefs, error) {
	ep, err := transport.NewEndpoint(a.dial)
	if err != nil {
		return nil, errors.New("its address cannot be read: correct it in the configuration")
	}
	tr, err := client.NewClient(ep)
	if err != nil {
		return nil, errors.New("its protocol is not spoken here: use a path, file://, https:// or ssh://")
	}
	if ep.Protocol == "http" || ep.Protocol == "https" {
		tr = githttp.NewClient(&http.Client{Transport: ask})
	}
	auth, err := keysFor(ep)
	if err != nil {
		return nil, err
	}
	session, err := within(ctx, func() (transport.UploadPackSession, error) { return tr.NewUploadPackSession(ep, auth) })
	if err != nil {
		return nil, err
	}
	defer session.Close() // the answer is known; git says its errors before
	return session.AdvertisedReferencesContext(ctx)
}

// errUnchanged tells that the server confirmed what we have.
var errUnchanged = errors.New("it is as it was")

// maxAdvertisement bounds what a web server may answer, in bytes: 200,000 refs of
// 300 characters.
const maxAdvertisement = 64 << 20

// asking is the way to a web server: it makes requests conditional, and notes
// what the answer says of its own state.
type asking struct {
	before         advertised
	etag, modified string
}

func (ask *asking) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if ask.before.etag != "" {
		req.Header.Set("If-None-Match", ask.before.etag)
	}
	if ask.before.modified != "" {
		req.Header.Set("If-Modified-Since", ask.before.modified)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotModified && (ask.before.etag != "" || ask.before.modified != "") {
		_ = resp.Body.Close() // it is empty
		return nil, errUnchanged
	}
	if resp.StatusCode == http.StatusOK {
		ask.etag, ask.modified = bounded(resp.Header.Get("ETag")), bounded(resp.Header.Get("Last-Modified"))
	}
	resp.Body = limitedBody{io.LimitReader(resp.Body, maxAdvertisement), resp.Body}
	return resp, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}

// bounded is a header that may be sent back; "" for one that may not.
func bounded(header string) string {
	if len(header) > 1024 {
		return ""
	}
	return header
}

// pick takes the branches out of what a repository says, and pull requests' heads.
func (l listing) pick(pulls bool) []Ref {
	var refs []Ref
	for name, h := range l.refs.References {
		number, isPull := pullNumber(name)
		if strings.HasPrefix(name, "refs/heads/") || pulls && isPull {
			refs = append(refs, Ref{Name: name, Hash: h.String(), PullRequest: number})
		}
	}
	slices.SortFunc(refs, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return refs
}

// pullNumber reads the names that forges give to pull requests' heads:
// refs/pull/7/head (GitHub, Gitea, Forgejo, Pagure) and refs/merge-requests/7/head
// (GitLab).
func pullNumber(name string) (int, bool) {
	for _, prefix := range []string{"refs/pull/", "refs/merge-requests/"} {
		rest, ok := strings.CutPrefix(name, prefix)
		digits, isHead := strings.CutSuffix(rest, "/head")
		if !ok || !isHead {
			continue
		}
		number, err := strconv.ParseInt(digits, 10, 32)
		if err == nil && number > 0 && strconv.FormatInt(number, 10) == digits {
			return int(number), true
		}
	}
	return 0, false
}

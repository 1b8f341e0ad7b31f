package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// listing is what a repository says of itself at the beginning of an exchange.
type listing struct {
	refs    *packp.AdvRefs
	session transport.UploadPackSession
}

// listRemote asks a repository for its refs. The session is the caller's, to
// close in any case.
func listRemote(ctx context.Context, a address, limits Limits) (listing, func(), error) {
	session, err := connect(ctx, a, transport.Transport.NewUploadPackSession)
	if err != nil {
		return listing{}, nil, err
	}
	closing := func() { _ = session.Close() } // the answer is known; git says its errors before
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err == nil && len(refs.References) > limits.Files {
		err = &LimitError{What: "a repository with that many refs", Limit: "Files", Max: int64(limits.Files)}
	}
	if err != nil {
		closing()
		return listing{}, nil, remoteError(ctx, a, err)
	}
	return listing{refs: refs, session: session}, closing, nil
}

// remoteError puts go-git's errors into words with their cure.
func remoteError(ctx context.Context, a address, err error) error {
	var limit *LimitError
	switch {
	case errors.As(err, &limit):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("it was not done in time: %w", ctx.Err())
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return errors.New("there is no such repository, or it is not shown to us: check the address and who may read it")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return errors.New("the repository is empty: push to it first")
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return errors.New("it asks for a user and a password, or does not take ours: put a token into its address, or use ssh")
	case strings.Contains(err.Error(), "dubious ownership"):
		return fmt.Errorf("it belongs to another user, whom git does not trust: git config --global --add safe.directory %s", a.show)
	}
	return errors.New(a.clean(err.Error()))
}

// choose picks the first of the branches that exists, else the default branch.
func (l listing) choose(branches []string) (Revision, error) {
	for _, branch := range branches {
		if h, ok := l.refs.References["refs/heads/"+branch]; ok {
			return Revision{Branch: branch, Commit: h.String()}, nil
		}
	}
	tried := ""
	if len(branches) > 0 {
		tried = fmt.Sprintf("it has none of the branches %s, and ", clip(strings.Join(branches, ", ")))
	}
	branch, ok := l.defaultBranch()
	if !ok {
		return Revision{}, fmt.Errorf("%sits HEAD names no branch that exists: push that branch, or point HEAD at another (git symbolic-ref HEAD refs/heads/NAME)", tried)
	}
	return Revision{Branch: branch, Commit: l.refs.References["refs/heads/"+branch].String()}, nil
}

// defaultBranch is the branch that HEAD names. Servers too old to say which it
// is only tell HEAD's commit; then the branch is guessed as git does.
func (l listing) defaultBranch() (string, bool) {
	for _, symref := range l.refs.Capabilities.Get(capability.SymRef) {
		branch, ok := strings.CutPrefix(symref, "HEAD:refs/heads/")
		if _, exists := l.refs.References["refs/heads/"+branch]; ok && exists {
			return branch, true
		}
	}
	if l.refs.Head == nil {
		return "", false
	}
	var at []string
	for name, h := range l.refs.References {
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok && h == *l.refs.Head {
			at = append(at, branch)
		}
	}
	slices.Sort(at)
	for _, branch := range []string{"main", "master"} {
		if slices.Contains(at, branch) {
			return branch, true
		}
	}
	return strings.Join(at[:min(1, len(at))], ""), len(at) > 0
}

// tip tells whether some ref is at the commit: then anybody may ask for it.
func (l listing) tip(h plumbing.Hash) bool {
	for _, at := range l.refs.References {
		if at == h {
			return true
		}
	}
	return false
}

func (l listing) supports(c capability.Capability) bool { return l.refs.Capabilities.Supports(c) }

// branchesAnd returns the commits of all branches and of the extra refs.
func (l listing) branchesAnd(extra []string) []plumbing.Hash {
	var hashes []plumbing.Hash
	for name, h := range l.refs.References {
		if strings.HasPrefix(name, "refs/heads/") || slices.Contains(extra, name) {
			hashes = append(hashes, h)
		}
	}
	return hashes
}

// exchange connects to the repository once, lets choose say which objects are
// wanted, and fetches those that are missing, each with all that it refers to.
// When the mirror has no room left it is made anew, without what nobody wants.
func (m *mirror) exchange(ctx context.Context, choose func(listing) ([]plumbing.Hash, error)) error {
	ctx, cancel := context.WithTimeout(ctx, m.limits.FetchTime)
	defer cancel()
	err := m.exchangeOnce(ctx, choose)
	var limit *LimitError
	if errors.As(err, &limit) && limit.Limit == "MirrorBytes" && m.size() > 0 {
		if err := m.remake(); err != nil {
			return err
		}
		return m.exchangeOnce(ctx, choose)
	}
	return err
}

func (m *mirror) exchangeOnce(ctx context.Context, choose func(listing) ([]plumbing.Hash, error)) error {
	l, closing, err := listRemote(ctx, m.address, m.limits)
	if err != nil {
		return err
	}
	defer closing()
	wants, err := choose(l)
	if err != nil {
		return err
	}
	wants = slices.DeleteFunc(wants, m.has)
	if len(wants) == 0 {
		return nil
	}
	if err := m.download(ctx, l, wants); err != nil {
		return remoteError(ctx, m.address, err)
	}
	for _, h := range wants {
		if !m.has(h) {
			return fmt.Errorf("it did not send object %s: run git fsck there", h)
		}
	}
	return m.keepRefs(l.refs.References)
}

func (m *mirror) download(ctx context.Context, l listing, wants []plumbing.Hash) error {
	req := packp.NewUploadPackRequestFromCapabilities(l.refs.Capabilities)
	if l.supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	req.Wants, req.Haves = wants, m.haves()
	answer, err := l.session.UploadPack(ctx, req)
	if err != nil {
		return err
	}
	defer answer.Close()
	return m.addPack(ctx, demux(req.Capabilities, answer))
}

// haves lists commits that the other side need not send.
func (m *mirror) haves() []plumbing.Hash {
	var haves []plumbing.Hash
	for _, h := range m.refs() {
		if m.has(h) && !slices.Contains(haves, h) && len(haves) < maxHaves {
			haves = append(haves, h)
		}
	}
	return haves
}

// demux takes the pack out of the stream that carries messages, too.
func demux(c *capability.List, r io.Reader) io.Reader {
	switch {
	case c.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case c.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}

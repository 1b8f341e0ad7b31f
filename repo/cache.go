package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/assay-ci/assay"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// layoutVersion is what the file VERSION of a cache says. The layout: NAME.git,
// a bare repository, and NAME.lock, NAME being a hash of the address.
const layoutVersion = 1

// Cache keeps mirrors of repositories in one directory, which several processes
// may share. Its methods may be called from several goroutines.
type Cache struct {
	dir    string
	limits Limits

	mu    sync.Mutex
	gates map[string]chan struct{} // by mirror: held by the goroutine that uses its lock
}

// Revision is a branch and the commit it is at.
type Revision struct {
	Branch string // without refs/heads/
	Commit string // 40 lower-case hexadecimal digits
}

// Open opens the cache in dir, which is made if it is missing.
func Open(dir string, limits Limits) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the mirror cache %s: %v", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the mirror cache: %v: make its parent writable", err)
	}
	if err := checkVersion(filepath.Join(dir, "VERSION")); err != nil {
		return nil, err
	}
	return &Cache{dir: dir, limits: limits.withDefaults(), gates: map[string]chan struct{}{}}, nil
}

func checkVersion(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFile(path, []byte(strconv.Itoa(layoutVersion)+"\n"))
	}
	if err != nil {
		return fmt.Errorf("cannot read the mirror cache's version: %v: make it readable", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || version < 1 {
		return fmt.Errorf("cannot use the mirror cache: %s says %q and not a version: remove its directory; it is made anew", path, clip(string(data)))
	}
	if version > layoutVersion {
		return fmt.Errorf("cannot use the mirror cache: %s says version %d and this program knows %d: run a newer assay, or name another directory", path, version, layoutVersion)
	}
	return nil
}

// Resolve looks the branches up in the repository and returns the first that
// exists, else the repository's default branch, with its commit fetched. The
// error of a repository that has none of them names them all.
func (c *Cache) Resolve(ctx context.Context, address string, branches []string) (Revision, error) {
	a, err := parseAddress(address)
	if err != nil {
		return Revision{}, err
	}
	var found Revision
	err = c.locked(ctx, a, func(ctx context.Context, m *mirror) error {
		return m.exchange(ctx, func(l listing) ([]plumbing.Hash, error) {
			var err error
			found, err = l.choose(branches)
			return []plumbing.Hash{plumbing.NewHash(found.Commit)}, err
		})
	})
	if err != nil {
		return Revision{}, fmt.Errorf("cannot find a branch of %s: %w", a.show, err)
	}
	return found, nil
}

// Head tells where a branch ("" for the default one) is now, without fetching.
func (c *Cache) Head(ctx context.Context, address, branch string) (Revision, error) {
	a, err := parseAddress(address)
	if err != nil {
		return Revision{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.limits.FetchTime)
	defer cancel()
	var found Revision
	l, closeSession, err := listRemote(ctx, a, c.limits)
	if err == nil {
		closeSession()
		found, err = l.choose(nonEmpty(branch))
		if err == nil && branch != "" && found.Branch != branch {
			err = fmt.Errorf("it has no branch %q: check the name", clip(branch))
		}
	}
	if err != nil {
		return Revision{}, fmt.Errorf("cannot look up a branch of %s: %w", a.show, err)
	}
	return found, nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// FetchCommit makes one commit with its tree and history available. A commit
// that is there already costs no network. Otherwise it is asked for by name
// where the server lets us, and else all branches and the extra refs
// ("refs/pull/7/head") are fetched.
func (c *Cache) FetchCommit(ctx context.Context, address, commit string, extraRefs ...string) error {
	a, err := parseAddress(address)
	if err != nil {
		return err
	}
	h, err := parseCommit(commit)
	if err != nil {
		return err
	}
	err = c.locked(ctx, a, func(ctx context.Context, m *mirror) error { return m.fetchCommit(ctx, h, extraRefs) })
	if err != nil {
		return fmt.Errorf("cannot fetch commit %s of %s: %w", commit, a.show, err)
	}
	return nil
}

func (m *mirror) fetchCommit(ctx context.Context, h plumbing.Hash, extraRefs []string) error {
	if m.has(h) {
		return nil
	}
	byName := false
	err := m.exchange(ctx, func(l listing) ([]plumbing.Hash, error) {
		if l.tip(h) || l.supports(capability.AllowReachableSHA1InWant) {
			byName = true
			return []plumbing.Hash{h}, nil
		}
		return l.branchesAnd(extraRefs), nil
	})
	// A server may refuse a name although it said otherwise.
	if err != nil && byName && ctx.Err() == nil {
		err = m.exchange(ctx, func(l listing) ([]plumbing.Hash, error) { return l.branchesAnd(extraRefs), nil })
	}
	if err != nil {
		return err
	}
	if !m.has(h) {
		return fmt.Errorf("%w: none of its branches has it: push it there, or name another commit", assay.ErrNotFound)
	}
	return nil
}

// Tree shows the tree of a commit, which must have been fetched, as a read-only
// file system. Links are entries with fs.ModeSymlink and never followed,
// submodules are empty directories. It also has ReadDir, ReadFile, Stat (which
// is Lstat) and ReadLink; a file over Limits.FileBytes, a tree over
// Limits.Files or deeper than Limits.Depth is a *LimitError.
func (c *Cache) Tree(ctx context.Context, address, commit string) (fs.FS, error) {
	a, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	s, _ := c.source(a)
	tree, err := s.commitTree(commit)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot show the tree of %s: %w", a.show, err)
	}
	return newTreeFS(s, tree), nil
}

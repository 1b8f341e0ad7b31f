package repo

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// ChangedPaths lists the files, links and submodules that differ between two
// commits, gone ones too, sorted. after must have been fetched; if before is ""
// or is not there (a new branch, a forced push), all files of after are listed.
func (c *Cache) ChangedPaths(ctx context.Context, address, before, after string) ([]string, error) {
	a, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	s, closeStore := c.reading(a)
	defer closeStore()
	paths, err := s.changedPaths(ctx, before, after)
	if err != nil {
		return nil, fmt.Errorf("cannot tell what changed in %s: %w", a.show, err)
	}
	return paths, nil
}

func (s *source) changedPaths(ctx context.Context, before, after string) ([]string, error) {
	to, err := s.commitTree(after)
	if err != nil {
		return nil, err
	}
	var from plumbing.Hash
	if h, err := parseCommit(before); err == nil && s.isCommit(h) {
		if from, err = s.commitTree(before); err != nil {
			return nil, err
		}
	}
	d := differ{ctx: ctx, source: s}
	if err := d.trees("", from, to); err != nil {
		return nil, err
	}
	slices.Sort(d.paths)
	return slices.Compact(d.paths), nil
}

// differ compares trees. Equal ones have equal names and are not looked into.
type differ struct {
	ctx    context.Context
	source *source
	paths  []string
	seen   int
}

// trees compares two directories of the same path; the zero hash is an empty
// one.
func (d *differ) trees(dir string, from, to plumbing.Hash) error {
	if from == to {
		return nil
	}
	old, err := d.read(dir, from)
	if err != nil {
		return err
	}
	changed, err := d.read(dir, to)
	if err != nil {
		return err
	}
	byName := make(map[string]entry, len(old))
	for _, e := range old {
		byName[e.name] = e
	}
	for _, e := range changed {
		was := byName[e.name]
		delete(byName, e.name)
		if err := d.entries(join(dir, e.name), was, e); err != nil {
			return err
		}
	}
	for name, gone := range byName {
		if err := d.entries(join(dir, name), gone, entry{}); err != nil {
			return err
		}
	}
	return nil
}

// entries compares what has one path in both trees; an entry without a name is
// not there.
func (d *differ) entries(path string, from, to entry) error {
	if from == to {
		return nil
	}
	if err := checkPath(path, d.source.limits); err != nil {
		return err
	}
	for _, e := range []entry{from, to} {
		if e.name != "" && !isTree(e) {
			d.paths = append(d.paths, path)
		}
	}
	return d.trees(path, treeOf(from), treeOf(to))
}

func isTree(e entry) bool { return e.mode&fs.ModeDir != 0 && !e.sub }

func treeOf(e entry) plumbing.Hash {
	if isTree(e) {
		return e.hash
	}
	return plumbing.ZeroHash
}

func (d *differ) read(dir string, tree plumbing.Hash) ([]entry, error) {
	if tree.IsZero() {
		return nil, d.ctx.Err()
	}
	entries, err := d.source.readTree(tree, dir)
	if err != nil {
		return nil, err
	}
	if d.seen += len(entries); d.seen > 2*d.source.limits.Files {
		return nil, &LimitError{What: "a change with that many entries", Limit: "Files", Max: int64(d.source.limits.Files)}
	}
	return entries, d.ctx.Err()
}

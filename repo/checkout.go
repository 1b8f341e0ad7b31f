package repo

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
)

// Checkout writes the tree of the commit, or of its directory sub ("" for all
// of it), into dir, which is made if it is missing and must be empty. The
// commit must have been fetched. Submodules become empty directories, modes are
// 0644 and 0755 less the umask, links are relative and stay inside. When it
// fails, dir is empty; a *LimitError tells which bound was crossed.
func (c *Cache) Checkout(ctx context.Context, address, commit, sub, dir string) error {
	a, err := parseAddress(address)
	if err != nil {
		return err
	}
	s, closeStore := c.reading(a)
	defer closeStore()
	if err := s.checkout(ctx, commit, sub, dir); err != nil {
		return fmt.Errorf("cannot check out %s of %s: %w", clip(commit), a.show, err)
	}
	return nil
}

func (s *source) checkout(ctx context.Context, commit, sub, dir string) error {
	tree, err := s.commitTree(commit)
	if err != nil {
		return err
	}
	if tree, err = s.find(tree, sub); err != nil {
		return err
	}
	root, err := openEmpty(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &treeWriter{ctx: ctx, source: s, root: root}
	if err = w.dir(tree, ""); err == nil {
		err = w.makeLinks()
	}
	if err != nil {
		clearOut(root)
	}
	return err
}

func openEmpty(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the directory for it: %v", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the directory for it: %v", err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("the directory %s is not empty: name a new one", dir)
	}
	return os.OpenRoot(dir)
}

// clearOut removes what a failed checkout wrote. The directory was empty before.
func clearOut(root *os.Root) {
	d, err := root.Open(".")
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		_ = root.RemoveAll(name) // it is the caller's directory; what stays is seen there
	}
}

// treeWriter writes one tree. Links come last: until then everything below the
// root is a file or a directory of its own making.
type treeWriter struct {
	ctx    context.Context
	source *source
	root   *os.Root
	links  []link
	files  int
	bytes  int64
}

type link struct{ path, target string }

func (w *treeWriter) dir(tree plumbing.Hash, dir string) error {
	entries, err := w.source.readTree(tree, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.entry(e, join(dir, e.name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWriter) entry(e entry, name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := checkPath(name, w.source.limits); err != nil {
		return err
	}
	if w.files++; w.files > w.source.limits.Files {
		return &LimitError{What: "a tree with that many entries", Limit: "Files", Max: int64(w.source.limits.Files)}
	}
	switch {
	case e.mode.IsDir():
		if err := w.root.Mkdir(name, 0o755); err != nil || e.sub {
			return err
		}
		return w.dir(e.hash, name)
	case e.mode&fs.ModeSymlink != 0:
		target, err := w.source.readLink(e, name)
		w.links = append(w.links, link{name, target})
		return err
	}
	return w.file(e, name)
}

func (w *treeWriter) file(e entry, name string) error {
	data, err := w.source.readFile(e, name)
	if err != nil {
		return err
	}
	if w.bytes += int64(len(data)); w.bytes > w.source.limits.CheckoutBytes {
		return &LimitError{What: "the files of the tree together", Limit: "CheckoutBytes", Max: w.source.limits.CheckoutBytes}
	}
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.mode.Perm())
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (w *treeWriter) makeLinks() error {
	for _, l := range w.links {
		if err := w.root.Symlink(l.target, l.path); err != nil {
			return err
		}
	}
	return nil
}

package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

// objectReader is what reading needs of go-git's object stores.
type objectReader interface {
	EncodedObject(plumbing.ObjectType, plumbing.Hash) (plumbing.EncodedObject, error)
	EncodedObjectSize(plumbing.Hash) (int64, error)
}

// entry is one line of a tree object that passed every check but that of its
// path.
type entry struct {
	name string
	mode fs.FileMode // fs.ModeDir, fs.ModeSymlink or neither, and permissions
	sub  bool        // a submodule: a directory with nothing in it here
	hash plumbing.Hash
}

// source reads the objects of one repository. Its methods may be called from
// several goroutines.
type source struct {
	limits Limits
	open   func() objectReader
	// lost is told, once the store was opened anew and still lacks an object
	// that another one names.
	lost func()

	mu      sync.Mutex // go-git's stores are for one goroutine
	objects objectReader
	commit  plumbing.Hash // whose tree is read, once there is one
}

func newSource(limits Limits, open func() objectReader, lost func()) *source {
	return &source{limits: limits, open: open, lost: lost, objects: open()}
}

var hexHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// parseCommit reads the name of a commit, which must be a whole one.
func parseCommit(s string) (plumbing.Hash, error) {
	switch {
	case hexHash.MatchString(s):
		return plumbing.NewHash(s), nil
	case len(s) == 64:
		return plumbing.ZeroHash, fmt.Errorf("cannot read commit %q: repositories with SHA-256 names are not supported: use one with SHA-1 names", clip(s))
	}
	return plumbing.ZeroHash, fmt.Errorf("cannot use %q as a commit: give all 40 hexadecimal digits, in lower case", clip(s))
}

// size tells how long an object is, without reading it.
func (s *source) size(h plumbing.Hash) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sizeLocked(h)
}

// sizeLocked opens the store again when an object is not in it: the mirror may
// have been fetched into, or made anew, since.
func (s *source) sizeLocked(h plumbing.Hash) (int64, error) {
	size, err := s.objects.EncodedObjectSize(h)
	if err == nil {
		return size, nil
	}
	s.objects = s.open()
	return s.objects.EncodedObjectSize(h)
}

// read returns the content of an object that must be of the type and at most
// max bytes long; what names it in errors.
func (s *source) read(h plumbing.Hash, want plumbing.ObjectType, max int64, limit, what string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, err := s.sizeLocked(h)
	if err != nil {
		return nil, s.failed(what, h, err)
	}
	if size > max {
		return nil, &LimitError{What: fmt.Sprintf("%s of %d bytes", what, size), Limit: limit, Max: max}
	}
	object, err := s.objects.EncodedObject(plumbing.AnyObject, h)
	if err != nil {
		return nil, s.failed(what, h, err)
	}
	if object.Type() != want {
		return nil, fmt.Errorf("cannot read %s: object %s is a %s and not a %s: write it again with git", what, h, object.Type(), want)
	}
	r, err := object.Reader()
	if err != nil {
		return nil, s.failed(what, h, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, max))
	if err != nil {
		return nil, s.failed(what, h, err)
	}
	return data, nil
}

// failed puts a reading error into words. An object that is not there, although
// its commit is, means that the store is damaged; without the commit the mirror
// was made anew since, and has only what somebody wanted of it.
func (s *source) failed(what string, h plumbing.Hash, err error) error {
	missing := errors.Is(err, plumbing.ErrObjectNotFound)
	if _, commitErr := s.objects.EncodedObjectSize(s.commit); !missing || commitErr == nil {
		s.lost()
	}
	if missing {
		return fmt.Errorf("cannot read %s: object %s is missing: fetch the repository again", what, h)
	}
	return fmt.Errorf("cannot read %s: object %s: %v: fetch the repository again", what, h, err)
}

// isCommit tells whether the object is there and is a commit.
func (s *source) isCommit(h plumbing.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, err := s.sizeLocked(h)
	if err != nil || size > s.limits.FileBytes {
		return false
	}
	object, err := s.objects.EncodedObject(plumbing.AnyObject, h)
	return err == nil && object.Type() == plumbing.CommitObject
}

// commitTree returns the tree of a commit.
func (s *source) commitTree(commit string) (plumbing.Hash, error) {
	h, err := parseCommit(commit)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if _, err := s.size(h); errors.Is(err, plumbing.ErrObjectNotFound) {
		return plumbing.ZeroHash, fmt.Errorf("cannot read commit %s: it is not there: fetch it first", commit)
	}
	data, err := s.read(h, plumbing.CommitObject, s.limits.FileBytes, "FileBytes", "commit "+commit)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	s.mu.Lock()
	s.commit = h
	s.mu.Unlock()
	tree, ok := strings.CutPrefix(string(line), "tree ")
	if !ok || !hexHash.MatchString(tree) {
		return plumbing.ZeroHash, fmt.Errorf("cannot read commit %s: it does not begin with its tree: write it again with git", commit)
	}
	return plumbing.NewHash(tree), nil
}

// readTree returns the checked entries of a tree object; dir is its path, for
// errors.
func (s *source) readTree(h plumbing.Hash, dir string) ([]entry, error) {
	data, err := s.read(h, plumbing.TreeObject, maxTreeBytes, "of a tree object", fmt.Sprintf("directory %q", clip(dir)))
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read directory %q: %w", clip(dir), err)
	}
	if err := checkEntries(entries); err != nil {
		return nil, fmt.Errorf("cannot take an entry of directory %q: %w", clip(dir), err)
	}
	return entries, nil
}

// parseTree decodes a tree object (gitformat-pack, "mode SP name NUL hash").
func parseTree(data []byte) ([]entry, error) {
	var entries []entry
	for len(data) > 0 {
		head, rest, ok := bytes.Cut(data, []byte{0})
		mode, name, ok2 := strings.Cut(string(head), " ")
		if !ok || !ok2 || len(rest) < len(plumbing.ZeroHash) {
			return nil, fmt.Errorf("it is cut short: write the tree with git")
		}
		e := entry{name: name}
		copy(e.hash[:], rest)
		var err error
		if e.mode, e.sub, err = parseMode(mode); err != nil {
			return nil, fmt.Errorf("%q: %w", clip(name), err)
		}
		entries, data = append(entries, e), rest[len(plumbing.ZeroHash):]
	}
	return entries, nil
}

// parseMode reads the mode of an entry. Of the permissions only the owner's
// execute bit counts, as in git.
func parseMode(s string) (mode fs.FileMode, sub bool, err error) {
	bits, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return 0, false, fmt.Errorf("its mode %q is no number: write the tree with git", clip(s))
	}
	switch bits & 0o170000 {
	case 0o040000:
		return fs.ModeDir | 0o755, false, nil
	case 0o160000:
		return fs.ModeDir | 0o755, true, nil
	case 0o120000:
		return fs.ModeSymlink | 0o777, false, nil
	case 0o100000:
		return 0o644 | fs.FileMode(bits&0o100)/0o100*0o111, false, nil
	}
	return 0, false, fmt.Errorf("its mode %q is that of neither file, directory, link nor submodule: write the tree with git", clip(s))
}

func checkEntries(entries []entry) error {
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if err := checkName(e.name); err != nil {
			return err
		}
		if seen[e.name] {
			return fmt.Errorf("%q is in it twice: write the tree with git", e.name)
		}
		seen[e.name] = true
	}
	return nil
}

// readLink returns the checked target of the link at linkPath.
func (s *source) readLink(e entry, linkPath string) (string, error) {
	data, err := s.read(e.hash, plumbing.BlobObject, maxLinkLength, "of a link's target", fmt.Sprintf("link %q", clip(linkPath)))
	if err != nil {
		return "", err
	}
	if err := checkLink(linkPath, string(data)); err != nil {
		return "", fmt.Errorf("cannot take the link %q: %w", clip(linkPath), err)
	}
	return string(data), nil
}

// readFile returns the content of the file at filePath.
func (s *source) readFile(e entry, filePath string) ([]byte, error) {
	return s.read(e.hash, plumbing.BlobObject, s.limits.FileBytes, "FileBytes", fmt.Sprintf("file %q", clip(filePath)))
}

// find walks down to the tree of a directory. It follows no link.
func (s *source) find(root plumbing.Hash, dir string) (plumbing.Hash, error) {
	if dir == "" || dir == "." {
		return root, nil
	}
	if !fs.ValidPath(dir) {
		return root, fmt.Errorf("cannot use %q as a directory: give a clean relative path, with slashes", clip(dir))
	}
	at, seen := root, ""
	for part := range strings.SplitSeq(dir, "/") {
		entries, err := s.readTree(at, seen)
		if err != nil {
			return root, err
		}
		e, ok := lookup(entries, part)
		if !ok || !e.mode.IsDir() || e.sub {
			return root, fmt.Errorf("cannot find the directory %q in the commit: check its name", clip(dir))
		}
		at, seen = e.hash, join(seen, part)
	}
	return at, nil
}

func lookup(entries []entry, name string) (entry, bool) {
	for _, e := range entries {
		if e.name == name {
			return e, true
		}
	}
	return entry{}, false
}

// join puts a name behind a slash-separated directory, "" being the root.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

package repo

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// errLink answers whoever wants to read through a symbolic link.
var errLink = errors.New("it is, or lies behind, a symbolic link, and none is followed: name the file itself")

// treeFS shows a git tree as a file system. It implements fs.ReadDirFS,
// fs.ReadFileFS, fs.StatFS and fs.ReadLinkFS; Stat is Lstat.
type treeFS struct {
	source *source
	root   plumbing.Hash

	mu    sync.Mutex
	dirs  map[string][]entry // by path, "." being the root; sorted by name
	count int                // entries in dirs
}

func newTreeFS(s *source, root plumbing.Hash) *treeFS {
	return &treeFS{source: s, root: root, dirs: map[string][]entry{}}
}

// Open opens a file or a directory; a file's content is in memory from then on,
// at most Limits.FileBytes of it.
func (t *treeFS) Open(name string) (fs.File, error) {
	e, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	switch {
	case e.mode.IsDir():
		list, err := t.list(name, e)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &treeDir{info: t.info(e, 0), entries: t.dirEntries(name, list)}, nil
	case e.mode&fs.ModeSymlink != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: errLink}
	}
	data, err := t.source.readFile(e, name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &treeFile{Reader: bytes.NewReader(data), info: t.info(e, int64(len(data)))}, nil
}

// ReadFile returns a file's content, at most Limits.FileBytes of it.
func (t *treeFS) ReadFile(name string) ([]byte, error) {
	f, err := t.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

// ReadDir lists a directory by name; a submodule is an empty one.
func (t *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	list, err := t.list(name, e)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return t.dirEntries(name, list), nil
}

// Stat describes the entry itself, a link as a link.
func (t *treeFS) Stat(name string) (fs.FileInfo, error) {
	e, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return t.stat(name, e)
}

// Lstat is Stat.
func (t *treeFS) Lstat(name string) (fs.FileInfo, error) { return t.Stat(name) }

// ReadLink returns a link's target; one that leaves the tree is an error.
func (t *treeFS) ReadLink(name string) (string, error) {
	e, err := t.find("readlink", name)
	if err != nil {
		return "", err
	}
	if e.mode&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	target, err := t.source.readLink(e, name)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

func (t *treeFS) stat(name string, e entry) (fs.FileInfo, error) {
	if e.mode.IsDir() {
		return t.info(e, 0), nil
	}
	size, err := t.source.size(e.hash)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return t.info(e, size), nil
}

// find walks down to an entry without following links.
func (t *treeFS) find(op, name string) (entry, error) {
	at := entry{name: ".", mode: fs.ModeDir | 0o755, hash: t.root}
	if !fs.ValidPath(name) {
		return at, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return at, nil
	}
	dir := "."
	for part := range strings.SplitSeq(name, "/") {
		if at.mode&fs.ModeSymlink != 0 {
			return at, &fs.PathError{Op: op, Path: name, Err: errLink}
		}
		list, err := t.list(dir, at)
		if err != nil {
			return at, &fs.PathError{Op: op, Path: name, Err: err}
		}
		i, ok := slices.BinarySearchFunc(list, part, func(e entry, s string) int { return strings.Compare(e.name, s) })
		if !ok {
			return at, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		at, dir = list[i], path.Join(dir, part)
	}
	return at, nil
}

// list returns what is in a directory. Every directory is counted once for each
// path it is seen at, so that a tree of trees that repeat cannot grow without
// end in whoever walks it.
func (t *treeFS) list(dir string, e entry) ([]entry, error) {
	if !e.mode.IsDir() || e.sub {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if list, ok := t.dirs[dir]; ok {
		return list, nil
	}
	list, err := t.source.readTree(e.hash, dir)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if err := checkPath(path.Join(dir, e.name), t.source.limits); err != nil {
			return nil, err
		}
	}
	if t.count += len(list); t.count > t.source.limits.Files {
		return nil, &LimitError{What: "a tree with that many entries", Limit: "Files", Max: int64(t.source.limits.Files)}
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	t.dirs[dir] = list
	return list, nil
}

func (t *treeFS) dirEntries(dir string, list []entry) []fs.DirEntry {
	entries := make([]fs.DirEntry, len(list))
	for i, e := range list {
		entries[i] = treeEntry{fs: t, path: path.Join(dir, e.name), entry: e}
	}
	return entries
}

// info describes an entry. The file system is read-only: no write bits.
func (t *treeFS) info(e entry, size int64) fs.FileInfo {
	mode := e.mode
	if mode&fs.ModeSymlink == 0 {
		mode &^= 0o222
	}
	return treeInfo{name: e.name, mode: mode, size: size}
}

type treeInfo struct {
	name string
	mode fs.FileMode
	size int64
}

func (i treeInfo) Name() string       { return i.name }
func (i treeInfo) Size() int64        { return i.size }
func (i treeInfo) Mode() fs.FileMode  { return i.mode }
func (i treeInfo) ModTime() time.Time { return time.Time{} } // git keeps none
func (i treeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i treeInfo) Sys() any           { return nil }

type treeEntry struct {
	fs    *treeFS
	path  string
	entry entry
}

func (e treeEntry) Name() string               { return e.entry.name }
func (e treeEntry) IsDir() bool                { return e.entry.mode.IsDir() }
func (e treeEntry) Type() fs.FileMode          { return e.entry.mode.Type() }
func (e treeEntry) Info() (fs.FileInfo, error) { return e.fs.stat(e.path, e.entry) }
func (e treeEntry) String() string             { return fs.FormatDirEntry(e) }

type treeFile struct {
	*bytes.Reader // Read, ReadAt, Seek
	info          fs.FileInfo
}

func (f *treeFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *treeFile) Close() error               { return nil }

type treeDir struct {
	info    fs.FileInfo
	entries []fs.DirEntry // not yet given out
}

func (d *treeDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *treeDir) Close() error               { return nil }

func (d *treeDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.Name(), Err: errors.New("it is a directory")}
}

// ReadDir works as fs.ReadDirFile says.
func (d *treeDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.entries) {
		if n > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		n = len(d.entries)
	}
	given := d.entries[:n]
	d.entries = d.entries[n:]
	return given, nil
}

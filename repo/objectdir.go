package repo

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/helper/polyfill"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// openObjectDir opens a directory that is laid out like "objects" of a
// repository, wherever it is and whatever it is called.
func openObjectDir(dir string) *filesystem.Storage {
	gitDir := polyfill.New(objectDir{osfs.New(dir, osfs.WithBoundOS())})
	return filesystem.NewStorageWithOptions(gitDir, cache.NewObjectLRU(16*cache.MiByte), filesystem.Options{KeepDescriptors: true})
}

// objectDir shows a directory as "objects" of a repository in which there is
// nothing else. It is read-only.
type objectDir struct{ dir billy.Filesystem }

// inside translates a path of the repository; what is not below objects, and
// the list of alternates, which the caller has followed, does not exist.
func inside(name string) (string, error) {
	name = filepath.Clean(name)
	if name == "objects" {
		return ".", nil
	}
	rest, ok := strings.CutPrefix(name, "objects"+string(filepath.Separator))
	if !ok || rest == filepath.Join("info", "alternates") {
		return "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return rest, nil
}

func (o objectDir) Open(name string) (billy.File, error) {
	rest, err := inside(name)
	if err != nil {
		return nil, err
	}
	f, err := o.dir.Open(rest)
	if err != nil {
		return nil, err
	}
	return namedFile{f, name}, nil
}

// namedFile has the name that it was opened by: go-git opens large objects
// again by the name of their pack.
type namedFile struct {
	billy.File
	name string
}

func (f namedFile) Name() string { return f.name }

func (o objectDir) OpenFile(name string, flag int, _ os.FileMode) (billy.File, error) {
	if flag != os.O_RDONLY {
		return nil, billy.ErrReadOnly
	}
	return o.Open(name)
}

func (o objectDir) Stat(name string) (os.FileInfo, error) {
	rest, err := inside(name)
	if err != nil {
		return nil, err
	}
	return o.dir.Stat(rest)
}

func (o objectDir) ReadDir(name string) ([]os.FileInfo, error) {
	rest, err := inside(name)
	if err != nil {
		return nil, err
	}
	return o.dir.ReadDir(rest)
}

func (o objectDir) Join(parts ...string) string        { return filepath.Join(parts...) }
func (o objectDir) Create(string) (billy.File, error)  { return nil, billy.ErrReadOnly }
func (o objectDir) Rename(string, string) error        { return billy.ErrReadOnly }
func (o objectDir) Remove(string) error                { return billy.ErrReadOnly }
func (o objectDir) MkdirAll(string, os.FileMode) error { return billy.ErrReadOnly }
func (o objectDir) Capabilities() billy.Capability {
	return billy.ReadCapability | billy.SeekCapability
}

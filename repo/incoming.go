package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxAlternates bounds the object directories of one repository.
const maxAlternates = 64

// Incoming reads the objects of a push before its refs move. They lie in git's
// quarantine, a directory of their own, and build on what the repository and
// its alternates have (git-receive-pack, "QUARANTINE ENVIRONMENT").
type Incoming struct {
	source *source
	stores stores
}

// OpenIncoming opens the repository that a hook runs in: gitDir is GIT_DIR,
// often ".", and getenv looks up git's other variables. Close it when done.
func OpenIncoming(gitDir string, getenv func(string) string) (*Incoming, error) {
	dirs, err := objectDirs(gitDir, getenv)
	if err != nil {
		return nil, err
	}
	in := &Incoming{}
	for _, dir := range dirs {
		in.stores = append(in.stores, openObjectDir(dir))
	}
	in.source = newSource(DefaultLimits(), func() objectReader { return in.stores }, func() {})
	return in, nil
}

// Close gives back the files that reading opened.
func (i *Incoming) Close() error {
	var errs []error
	for _, s := range i.stores {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Tree shows the tree of a commit as Cache.Tree does. It can be read until
// Close.
func (i *Incoming) Tree(ctx context.Context, commit string) (fs.FS, error) {
	tree, err := i.source.commitTree(commit)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot show the pushed tree: %w", err)
	}
	return newTreeFS(i.source, tree), nil
}

// objectDirs lists where objects can be, the quarantine first, then the
// repository, then alternates in git's order.
func objectDirs(gitDir string, getenv func(string) string) ([]string, error) {
	common, err := commonDir(gitDir)
	if err != nil {
		return nil, err
	}
	main := filepath.Join(common, "objects")
	var dirs []string
	if dir := getenv("GIT_OBJECT_DIRECTORY"); dir != "" {
		dirs = append(dirs, dir)
	}
	dirs = append(dirs, main)
	dirs = append(dirs, splitAlternates(getenv("GIT_ALTERNATE_OBJECT_DIRECTORIES"))...)
	return followAlternates(dirs)
}

// followAlternates adds what the directories' own lists name, and makes all of
// them absolute, each once. What is not there is left out, as git does.
func followAlternates(dirs []string) ([]string, error) {
	var found []string
	for len(dirs) > 0 {
		dir, err := realDir(dirs[0])
		dirs = dirs[1:]
		if err != nil || slices.Contains(found, dir) {
			continue
		}
		if len(found) == maxAlternates {
			return nil, fmt.Errorf("cannot read the repository: it has over %d alternates: run git repack -a there", maxAlternates)
		}
		found = append(found, dir)
		dirs = append(dirs, listedAlternates(dir)...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("cannot read the repository: it has no objects directory: run this in a repository")
	}
	return found, nil
}

func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	if err == nil && !info.IsDir() {
		err = fs.ErrInvalid
	}
	return abs, err
}

// commonDir is where a repository's objects are: a linked worktree names it in
// the file commondir (gitrepository-layout).
func commonDir(gitDir string) (string, error) {
	abs, err := filepath.Abs(gitDir)
	if err != nil {
		return "", fmt.Errorf("cannot read the repository %s: %v", gitDir, err)
	}
	data, err := os.ReadFile(filepath.Join(abs, "commondir"))
	if errors.Is(err, fs.ErrNotExist) {
		return abs, nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the repository: %v: make it readable", err)
	}
	common := strings.TrimRight(string(data), "\r\n")
	if !filepath.IsAbs(common) {
		common = filepath.Join(abs, common)
	}
	return common, nil
}

// listedAlternates reads objects/info/alternates: a directory on each line,
// relative to objects, # before a comment.
func listedAlternates(objects string) []string {
	data, err := os.ReadFile(filepath.Join(objects, "info", "alternates"))
	if err != nil || len(data) > 1<<20 {
		return nil // git goes on, too, and misses the objects when it needs them
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		dir := splitQuoted(line)
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(objects, dir)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// splitAlternates reads GIT_ALTERNATE_OBJECT_DIRECTORIES: directories with
// colons between them; one that has a colon or begins with a quote is written
// as a C string in double quotes (git's manual page).
func splitAlternates(list string) []string {
	var dirs []string
	for list != "" {
		var dir string
		if end := quotedEnd(list); end > 0 {
			dir, list = splitQuoted(list[:end]), strings.TrimPrefix(list[end:], ":")
		} else {
			dir, list, _ = strings.Cut(list, ":")
		}
		if dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// quotedEnd tells where the C string that s begins with ends; 0 if there is
// none.
func quotedEnd(s string) int {
	if !strings.HasPrefix(s, `"`) {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// splitQuoted undoes the quotes, if there are any that are whole. Go reads all
// escapes that git writes: \a \b \f \n \r \t \v \" \\ and three octal digits.
func splitQuoted(s string) string {
	if plain, err := strconv.Unquote(s); err == nil && strings.HasPrefix(s, `"`) {
		return plain
	}
	return s
}

// stores looks an object up in several stores, one after the other.
type stores []*filesystem.Storage

func (s stores) EncodedObject(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	for _, store := range s {
		if store.HasEncodedObject(h) != nil {
			continue
		}
		// go-git would go on to look into the alternates, which are in s already.
		return store.EncodedObject(t, h)
	}
	return nil, plumbing.ErrObjectNotFound
}

func (s stores) EncodedObjectSize(h plumbing.Hash) (int64, error) {
	for _, store := range s {
		if store.HasEncodedObject(h) == nil {
			return store.EncodedObjectSize(h)
		}
	}
	return 0, plumbing.ErrObjectNotFound
}

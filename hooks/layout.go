package hooks

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Layout says how the git server that has a repository finds its hooks.
type Layout string

// The layouts.
const (
	// LayoutGit is git's own: hooks/NAME is ours, and runs what is in hooks/NAME.d
	// before itself.
	LayoutGit Layout = "git"
	// LayoutGitea is that of Gitea and Forgejo: hooks/NAME is the forge's, and runs
	// what is in hooks/NAME.d, where ours is one of them.
	LayoutGitea Layout = "gitea"
	// LayoutGitLab is that of Gitaly, which runs what is in custom_hooks/NAME.d.
	LayoutGitLab Layout = "gitlab"
	// LayoutGitolite is that of gitolite, which makes hooks/NAME of every repository
	// a link into one directory. Ours does nothing in repositories without a
	// configuration of their own.
	LayoutGitolite Layout = "gitolite"
)

// Layouts lists all of them.
func Layouts() []Layout {
	return []Layout{LayoutGit, LayoutGitea, LayoutGitLab, LayoutGitolite}
}

// ParseLayout reads the name of a layout; "" and "auto" are "", which is found out
// from the repository.
func ParseLayout(s string) (Layout, error) {
	if s == "" || s == "auto" {
		return "", nil
	}
	for _, l := range Layouts() {
		if string(l) == s {
			return l, nil
		}
	}
	return "", fmt.Errorf("cannot use the layout %q: use auto, git, gitea, gitlab or gitolite", clip(s))
}

// ownName is our hook where a server runs all hooks of a directory, by name: after
// the server's own, which say who may push, and know the push when they are done.
const ownName = "zz-assay"

// slot is the place of one of our hooks.
type slot struct {
	name string // "pre-receive"
	path string // of the stub
	// others is the directory for a hook that was there first; "" where the server
	// runs others by itself.
	others string
	link   string // in the repository, to path; "" for none
	root   string // the directory below which path's may be made
}

// detect tells the layout by what servers leave in a repository: gitolite its
// compiled rules, Gitea and Forgejo their hooks, GitLab its name for the
// repository or a directory of its own.
func detect(gitDir string) Layout {
	has := func(elem ...string) bool {
		_, err := os.Lstat(filepath.Join(append([]string{gitDir}, elem...)...))
		return err == nil
	}
	switch {
	case has("gl-conf"):
		return LayoutGitolite
	case has("hooks", "pre-receive.d", "gitea"), has("hooks", "pre-receive.d", "forgejo"):
		return LayoutGitea
	case has("custom_hooks"), strings.Contains(filepath.ToSlash(gitDir), "/@hashed/"):
		return LayoutGitLab
	}
	return LayoutGit
}

// slots lists where our hooks go.
func (l Layout) slots(gitDir, common string) ([]slot, error) {
	var slots []slot
	for _, name := range hookNames() {
		hook := filepath.Join(gitDir, "hooks", name)
		switch l {
		case LayoutGitea:
			slots = append(slots, slot{name: name, path: filepath.Join(hook+".d", ownName), root: gitDir})
		case LayoutGitLab:
			slots = append(slots, slot{name: name, path: filepath.Join(gitDir, "custom_hooks", name+".d", ownName), root: gitDir})
		case LayoutGitolite:
			dir, err := commonDir(gitDir, common, name)
			if err != nil {
				return nil, err
			}
			slots = append(slots, slot{name: name, path: filepath.Join(dir, name), link: hook, root: filepath.Dir(dir),
				others: filepath.Join(filepath.Dir(dir), "assay", name+".d")})
		default:
			slots = append(slots, slot{name: name, path: hook, others: hook + ".d", root: gitDir})
		}
	}
	return slots, nil
}

// commonDir is the directory that gitolite links hooks from: the one that is
// given, or else that of the hook which is linked already, or else that of
// gitolite's own hook.
func commonDir(gitDir, given, name string) (string, error) {
	if given != "" {
		abs, err := filepath.Abs(given)
		if info, statErr := os.Stat(abs); err != nil || statErr != nil || !info.IsDir() {
			return "", fmt.Errorf("cannot use %s as gitolite's directory of hooks: there is no such directory: name ~/.gitolite/hooks/common, or hooks/common below LOCAL_CODE", clip(given))
		}
		return abs, nil
	}
	for _, hook := range []string{name, "update"} {
		target, err := os.Readlink(filepath.Join(gitDir, "hooks", hook))
		if err == nil && filepath.IsAbs(target) && filepath.Base(filepath.Dir(target)) == "common" {
			return filepath.Dir(target), nil
		}
	}
	return "", fmt.Errorf("cannot find gitolite's directory of hooks: %s/hooks/update is no link into one: name ~/.gitolite/hooks/common with --hooks-dir", gitDir)
}

// install writes one hook.
func (s slot) install(exe string, m modes) error {
	for _, dir := range parents(s.root, filepath.Dir(s.path), s.others) {
		if err := makeDir(dir, m); err != nil {
			return err
		}
	}
	ours, err := isOurs(s.path)
	if err != nil {
		return err
	}
	if !ours {
		if err := s.keep(); err != nil {
			return err
		}
	}
	if err := m.writeMode(s.path, s.stub(exe), 0o755); err != nil {
		return err
	}
	return s.setLink()
}

// keep puts aside what is in our place.
func (s slot) keep() error {
	if s.others != "" {
		return keepExisting(s.path, s.others)
	}
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already, and is not assay's", s.path)
	}
	return nil
}

// setLink makes the repository's link, as gitolite does; what is there and is no
// link is left for gitolite to judge.
func (s slot) setLink() error {
	if s.link == "" {
		return nil
	}
	info, err := os.Lstat(s.link)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink == 0:
		return fmt.Errorf("%s is no link: move what it does to %s, and remove it", s.link, s.others)
	default:
		if target, err := os.Readlink(s.link); err == nil && target == s.path {
			return nil
		}
		if err := os.Remove(s.link); err != nil {
			return err
		}
	}
	return os.Symlink(s.path, s.link)
}

// parents lists the directories from below root down to each of dirs.
func parents(root string, dirs ...string) []string {
	var list []string
	for _, dir := range dirs {
		rel, err := filepath.Rel(root, dir)
		if dir == "" || err != nil || strings.HasPrefix(rel, "..") || rel == "." {
			continue
		}
		at := root
		for part := range strings.SplitSeq(filepath.ToSlash(rel), "/") {
			at = filepath.Join(at, part)
			list = append(list, at)
		}
	}
	return list
}

// uninstall takes one hook away, and puts back what was there before.
func (s slot) uninstall() error {
	ours, err := isOurs(s.path)
	if err != nil || !ours {
		return err
	}
	err = fs.ErrNotExist
	if s.others != "" {
		err = os.Rename(filepath.Join(s.others, existing), s.path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if target, linkErr := os.Readlink(s.link); linkErr == nil && target == s.path {
			_ = os.Remove(s.link) // it would lead nowhere, which git takes for no hook
		}
		err = os.Remove(s.path)
	}
	s.tidy()
	return err
}

// tidy removes directories that we may have made, and that are empty: those of
// others than us are not.
func (s slot) tidy() {
	switch {
	case s.link != "":
		_ = os.Remove(s.others)
		_ = os.Remove(filepath.Dir(s.others))
	case s.others != "":
		_ = os.Remove(s.others)
	case filepath.Base(filepath.Dir(filepath.Dir(s.path))) == "custom_hooks":
		_ = os.Remove(filepath.Dir(s.path))
		_ = os.Remove(filepath.Dir(filepath.Dir(s.path)))
	}
}

// usersDir has a file for each repository that uses a shared hook.
func (s slot) usersDir() string { return filepath.Join(filepath.Dir(s.others), "users") }

// userFile is the one of this repository.
func (s slot) userFile(gitDir string) string {
	sum := sha256.Sum256([]byte(gitDir))
	return filepath.Join(s.usersDir(), hex.EncodeToString(sum[:8]))
}

// enter notes that the repository uses the hook.
func (s slot) enter(gitDir string, m modes) error {
	for _, dir := range parents(s.root, s.usersDir()) {
		if err := makeDir(dir, m); err != nil {
			return err
		}
	}
	return m.writeMode(s.userFile(gitDir), []byte(gitDir+"\n"), 0o644)
}

// leave tells whether the repository was the last one that used the hook.
func (s slot) leave(gitDir string) (last bool, err error) {
	if err := os.Remove(s.userFile(gitDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if len(filesIn(s.usersDir(), "", "")) > 0 {
		return false, nil
	}
	_ = os.Remove(s.usersDir()) // there may be none
	return true, nil
}

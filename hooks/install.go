package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hookNames are the hooks that are installed.
func hookNames() []string { return []string{"pre-receive", "post-receive"} }

// existing is the name that a hook which was there first gets in its directory.
const existing = "50-existing"

// Options says what to install where.
type Options struct {
	GitDir     string // the repository, bare or with a worktree
	Exe        string // absolute path of assay
	Server     string // "http://localhost:8080"
	SecretFile string // file with the webhook secret
	Name       string // the repository for the server; "" for its absolute path
	// HooksPath is what git says for core.hooksPath there, "" if it is not set.
	HooksPath string
	// Layout says where the git server looks for hooks; "" finds it out.
	Layout Layout
	// Common is the directory that gitolite links hooks from; "" finds it out.
	Common string
}

// Install writes the configuration and the hooks pre-receive and post-receive,
// where the git server looks for them (see Layout). With git's own layout, and
// gitolite's, a hook of that name which is there already is kept as 50-existing;
// everything executable in hooks/<name>.d runs before assay, in the order of
// names. Installing again brings both up to date and changes nothing else.
func Install(o Options) error {
	gitDir, err := findGitDir(o.GitDir)
	if err != nil {
		return err
	}
	if o.Layout == "" {
		o.Layout = detect(gitDir)
	}
	if o.Layout != LayoutGitLab { // which never asks git
		if _, err := hooksDir(gitDir, o.HooksPath); err != nil {
			return err
		}
	}
	if o.Common != "" {
		if o.Common, err = filepath.Abs(o.Common); err != nil {
			return fmt.Errorf("cannot find the directory %s: %v", clip(o.Common), err)
		}
	}
	slots, err := o.Layout.slots(gitDir, o.Common)
	if err != nil {
		return err
	}
	exe, err := checkExe(o.Exe)
	if err != nil {
		return err
	}
	c, err := o.config(gitDir)
	if err != nil {
		return err
	}
	// The spool's directory is the configuration's, too.
	spool, err := NewSpool(gitDir, nil)
	if err != nil {
		return err
	}
	if err := c.save(gitDir, spool.modes); err != nil {
		return err
	}
	return installAll(gitDir, slots, exe, spool.modes)
}

func installAll(gitDir string, slots []slot, exe string, m modes) error {
	for _, s := range slots {
		err := s.replaceGit(gitDir)
		if err == nil && s.link != "" {
			err = s.enter(gitDir, m)
		}
		if err == nil {
			err = s.install(exe, m)
		}
		if err != nil {
			return fmt.Errorf("cannot install the hook %s: %v: run this as the owner of the repository", s.name, err)
		}
	}
	return nil
}

// replaceGit takes away a hook of ours in git's own place when it belongs
// elsewhere: an earlier version knew no other.
func (s slot) replaceGit(gitDir string) error {
	hook := filepath.Join(gitDir, "hooks", s.name)
	if hook == s.path {
		return nil
	}
	return slot{name: s.name, path: hook, others: hook + ".d"}.uninstall()
}

func (o Options) config(gitDir string) (Config, error) {
	secret, err := filepath.Abs(o.SecretFile)
	if err != nil || o.SecretFile == "" {
		return Config{}, errors.New("cannot install the hooks: no secret file is given: name the file with the server's webhook secret")
	}
	c := Config{Version: configVersion, Name: o.Name, Server: o.Server, SecretFile: secret, Layout: o.Layout, Common: o.Common}
	if c.Layout == LayoutGit {
		c.Layout = "" // what versions that knew no other wrote
	}
	if c.Name == "" {
		c.Name = gitDir
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("cannot install the hooks: %w", err)
	}
	return c, nil
}

func checkExe(exe string) (string, error) {
	if !filepath.IsAbs(exe) {
		return "", fmt.Errorf("cannot install the hooks: %q is no absolute path of assay: give one", exe)
	}
	info, err := os.Stat(exe)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("cannot install the hooks: %s is no program: build or install assay first", exe)
	}
	return exe, nil
}

// findGitDir finds the repository itself: the directory, its .git, or what a
// linked worktree or a submodule names there (gitrepository-layout).
func findGitDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("cannot find the repository %s: %v", dir, err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", fmt.Errorf("cannot find the repository: %v: give its directory", err)
	}
	for _, candidate := range []string{abs, filepath.Join(abs, ".git")} {
		candidate = followFile(candidate, "", "gitdir: ")
		candidate = followFile(candidate, "commondir", "")
		if isRepository(candidate) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("cannot find a repository in %s: give the directory of one (git init --bare makes one)", abs)
}

// followFile returns the path that the file at dir/name names after the prefix,
// dir itself if there is no such file.
func followFile(dir, name, prefix string) string {
	path := filepath.Join(dir, name)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() > 4096 {
		return dir
	}
	data, err := os.ReadFile(path)
	target, ok := strings.CutPrefix(strings.TrimRight(string(data), "\r\n"), prefix)
	if err != nil || !ok {
		return dir
	}
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	if name == "" {
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, target)
}

func isRepository(dir string) bool {
	_, headErr := os.Lstat(filepath.Join(dir, "HEAD"))
	info, err := os.Stat(filepath.Join(dir, "objects"))
	return headErr == nil && err == nil && info.IsDir()
}

// hooksDir is where git looks for the repository's hooks. Hooks that git shares
// among repositories are not ours to change.
func hooksDir(gitDir, hooksPath string) (string, error) {
	own := filepath.Join(gitDir, "hooks")
	if hooksPath == "" {
		return own, nil
	}
	path := hooksPath
	if !filepath.IsAbs(path) {
		path = filepath.Join(gitDir, path)
	}
	if filepath.Clean(path) == own {
		return own, nil
	}
	return "", fmt.Errorf("cannot install the hooks: git is told to look for them in %s (core.hooksPath), which other repositories may share: set core.hooksPath to %s for this repository, or call assay hook pre-receive and assay hook post-receive from the hooks there", clip(hooksPath), own)
}

// makeDir makes a directory of the repository that everybody may read.
func makeDir(dir string, m modes) error {
	m.dir |= 0o055
	return m.mkdir(dir)
}

// keepExisting gives the hook that is there a second name. It keeps the first
// one until our stub takes it over, in one step, so that a push in between, or
// after a crash, still runs it.
func keepExisting(path, others string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	kept, err := freeName(filepath.Join(others, existing), path, info)
	if err != nil || kept == "" {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return os.Link(path, kept)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	return os.Symlink(target, kept)
}

// freeName finds a name that nothing has; "" if the hook has one there already,
// from an installation that was killed.
func freeName(name, path string, hook fs.FileInfo) (string, error) {
	for i := range 100 {
		candidate := name
		if i > 0 {
			candidate = fmt.Sprintf("%s-%d", name, i+1)
		}
		info, err := os.Lstat(candidate)
		if errors.Is(err, fs.ErrNotExist) {
			return candidate, nil
		}
		if err != nil {
			return "", err
		}
		if os.SameFile(info, hook) || samePlace(candidate, path) {
			return "", nil
		}
	}
	return "", fmt.Errorf("there are 100 files %s already", name)
}

// samePlace tells whether two links lead to one file.
func samePlace(a, b string) bool {
	first, err := filepath.EvalSymlinks(a)
	second, err2 := filepath.EvalSymlinks(b)
	return err == nil && err2 == nil && first == second
}

// isOurs tells whether the hook is a stub that Install wrote.
func isOurs(path string) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	start := make([]byte, 256)
	n, _ := f.Read(start) // an unreadable or empty one is not ours
	return bytes.Contains(start[:n], []byte(stubMark)), nil
}

// Uninstall takes the hooks away and puts back those that were there before. A
// hook that gitolite's repositories share goes with the last of them. What else is
// in <name>.d stays; with git's own layout it no longer runs. Events that wait
// stay in the spool; without any, everything of assay's is removed.
func Uninstall(gitDir string) error {
	gitDir, err := findGitDir(gitDir)
	if err != nil {
		return err
	}
	slots, err := installedSlots(gitDir)
	if err != nil {
		return err
	}
	for _, s := range slots {
		last := true
		if s.link != "" {
			last, err = s.leave(gitDir)
		}
		if err == nil && last {
			err = s.uninstall()
		}
		if err != nil {
			return fmt.Errorf("cannot remove the hook %s: %v: run this as the owner of the repository", s.name, err)
		}
	}
	return removeOwn(gitDir)
}

// installedSlots are where the hooks were installed, by the configuration if it
// can be read.
func installedSlots(gitDir string) ([]slot, error) {
	layout, common := detect(gitDir), ""
	if c, err := Load(gitDir); err == nil {
		layout, common = c.layout(), c.Common
	}
	return layout.slots(gitDir, common)
}

// removeOwn removes the configuration, and the spool if nothing waits in it.
func removeOwn(gitDir string) error {
	if err := os.Remove(configPath(gitDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the hooks' configuration: %v: run this as the owner of the repository", err)
	}
	spool := filepath.Join(gitDir, "assay", "spool")
	if len(filesIn(spool, "", ".json")) > 0 {
		return nil
	}
	if err := os.RemoveAll(spool); err != nil {
		return fmt.Errorf("cannot remove the event spool: %v: run this as the owner of the repository", err)
	}
	_ = os.Remove(filepath.Dir(spool)) // others may have put something there
	return nil
}

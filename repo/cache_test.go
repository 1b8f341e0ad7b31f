package repo

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestResolveChoosesTheFirstBranchThatExists(t *testing.T) {
	src := newRepo(t)
	first := commit(t, src, "a", "1")
	git(t, src, "branch", "f41")
	second := commit(t, src, "a", "2")
	c := openCache(t, Limits{})
	cases := map[string]struct {
		branches []string
		want     Revision
	}{
		"first":      {[]string{"f41", "main"}, Revision{"f41", first}},
		"second":     {[]string{"f42", "f41"}, Revision{"f41", first}},
		"default":    {[]string{"f42"}, Revision{"main", second}},
		"none asked": {nil, Revision{"main", second}},
		"odd":        {[]string{"", "../../x"}, Revision{"main", second}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, address := range []string{src, "file://" + src, src + "/.git"} {
				got, err := c.Resolve(t.Context(), address, tc.branches)
				if err != nil || got != tc.want {
					t.Errorf("%s: got %v, %v, want %v", address, got, err, tc.want)
				}
			}
		})
	}
}

func TestResolveSaysWhatItTried(t *testing.T) {
	c := openCache(t, Limits{})
	unborn := newBare(t)
	src := newRepo(t)
	commit(t, src, "a", "1")
	git(t, src, "push", "-q", unborn, "main:other")
	cases := map[string]struct {
		address string
		words   []string
	}{
		"unborn head": {unborn, []string{"cannot", unborn, "f42, f41", "symbolic-ref"}},
		"empty":       {newBare(t), []string{"cannot", "empty", "push"}},
		"missing":     {"/nonexistent/x.git", []string{"cannot", "/nonexistent/x.git", "no such repository"}},
		"scheme":      {"ext::sh -c true", []string{"cannot"}},
		"dash":        {"--upload-pack=true", []string{"cannot", "dash"}},
		"empty name":  {" ", []string{"cannot", "address"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := c.Resolve(t.Context(), tc.address, []string{"f42", "f41"})
			wantError(t, err, tc.words...)
		})
	}
}

func TestHeadDoesNotFetch(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	got, err := c.Head(t.Context(), src, "")
	if want := (Revision{"main", at}); err != nil || got != want {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	if _, err := c.Tree(t.Context(), src, at); err == nil {
		t.Error("the commit was fetched")
	}
	_, err = c.Head(t.Context(), src, "other")
	wantError(t, err, "cannot", src, `"other"`)
}

func TestFetchCommit(t *testing.T) {
	src := newRepo(t)
	old := commit(t, src, "a", "1")
	commit(t, src, "a", "2")
	git(t, src, "checkout", "-q", "-b", "side")
	side := commit(t, src, "b", "3")
	git(t, src, "checkout", "-q", "--detach")
	pull := commit(t, src, "c", "4")
	git(t, src, "update-ref", "refs/pull/7/head", pull)
	pullOld := git(t, src, "rev-parse", "main")
	git(t, src, "checkout", "-q", "main")
	lost := commit(t, src, "d", "5")
	git(t, src, "reset", "-q", "--hard", "HEAD~1")

	for name, commit := range map[string]string{"old": old, "side": side, "pull": pull, "tip": pullOld} {
		t.Run(name, func(t *testing.T) {
			c := openCache(t, Limits{})
			if err := c.FetchCommit(t.Context(), src, commit, "refs/pull/7/head"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Tree(t.Context(), src, commit); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("lost", func(t *testing.T) {
		err := openCache(t, Limits{}).FetchCommit(t.Context(), src, lost)
		wantError(t, err, "cannot fetch", lost, src, "branches")
	})
	t.Run("no commit", func(t *testing.T) {
		for _, bad := range []string{"", "main", strings.Repeat("A", 40), strings.Repeat("a", 64), "--x"} {
			wantError(t, openCache(t, Limits{}).FetchCommit(t.Context(), src, bad), "cannot", bad)
		}
	})
}

func TestFetchCommitNeedsNoNetworkTwice(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	if err := c.FetchCommit(t.Context(), src, at); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(src); err != nil {
		t.Fatal(err)
	}
	if err := c.FetchCommit(t.Context(), src, at); err != nil {
		t.Error(err)
	}
}

func TestFetchesBuildOnEachOther(t *testing.T) {
	src := newRepo(t)
	c := openCache(t, Limits{})
	big := strings.Repeat("a long line that compresses badly 0123456789\n", 2000)
	for i := range 5 {
		at := commit(t, src, "a", big+strings.Repeat("x", i))
		got, err := c.Resolve(t.Context(), src, nil)
		if err != nil || got.Commit != at {
			t.Fatalf("got %v, %v, want %s", got, err, at)
		}
		tree := must[fs.FS](t)(c.Tree(t.Context(), src, at))
		data := must[[]byte](t)(fs.ReadFile(tree, "a"))
		if len(data) != len(big)+i {
			t.Errorf("read %d bytes, want %d", len(data), len(big)+i)
		}
	}
	a := must[address](t)(parseAddress(src))
	if out, err := tryGit(c.mirrorDir(a), "fsck", "--full"); err != nil {
		t.Errorf("git fsck: %v\n%s", err, out)
	}
}

func TestTreeIsAFileSystem(t *testing.T) {
	src := newRepo(t)
	put(t, filepath.Join(src, "run.sh"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(src, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("greets/task.yml", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	at := commit(t, src, "greets/task.yml", "name: greets\n", "greets/data/x", "", "greets.txt", "t")
	c := openCache(t, Limits{})
	must[Revision](t)(c.Resolve(t.Context(), src, nil))
	tree := must[fs.FS](t)(c.Tree(t.Context(), src, at))

	sub := must[fs.FS](t)(fs.Sub(tree, "greets"))
	if err := fstest.TestFS(sub, "task.yml", "data/x"); err != nil {
		t.Error(err)
	}
	if got := string(must[[]byte](t)(fs.ReadFile(tree, "greets/task.yml"))); got != "name: greets\n" {
		t.Errorf("read %q", got)
	}
	info := must[fs.FileInfo](t)(fs.Stat(tree, "link"))
	if info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("a link has mode %v", info.Mode())
	}
	if got := must[string](t)(fs.ReadLink(tree, "link")); got != "greets/task.yml" {
		t.Errorf("link to %q", got)
	}
	if info := must[fs.FileInfo](t)(fs.Stat(tree, "run.sh")); info.Mode() != 0o555 {
		t.Errorf("a script has mode %v", info.Mode())
	}
	for _, name := range []string{"link", "link/x"} {
		_, err := fs.ReadFile(tree, name)
		wantError(t, err, "symbolic link")
	}
}

func TestOpenChecksTheVersion(t *testing.T) {
	dir := t.TempDir()
	must[*Cache](t)(Open(dir, Limits{}))
	must[*Cache](t)(Open(dir, Limits{}))
	for content, word := range map[string]string{"2\n": "newer assay", "x": "version"} {
		put(t, filepath.Join(dir, "VERSION"), content)
		_, err := Open(dir, Limits{})
		wantError(t, err, "cannot", "VERSION", word)
	}
}

func TestCancelledContextEndsEverything(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Resolve(ctx, src, nil)
	wantError(t, err, "canceled")
	wantError(t, c.FetchCommit(ctx, src, at), "canceled")
}

package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
)

// appendLine is an edit that adds a line.
func appendLine(line string) func([]byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) { return append(bytes.Clone(old), line+"\n"...), nil }
}

func TestNotesAreWhatGitShows(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	bare := newBare(t)
	git(t, src, "push", "-q", bare, "main")
	for name, address := range map[string]string{"worktree": src, "bare": bare, "file": "file://" + bare} {
		t.Run(name, func(t *testing.T) {
			c := openCache(t, Limits{})
			dir := strings.TrimPrefix(address, "file://")
			git(t, dir, "update-ref", "-d", NotesRef)
			_, err := c.ReadNote(t.Context(), address, at, NotesRef)
			if !errors.Is(err, assay.ErrNotFound) {
				t.Errorf("got %v", err)
			}
			for _, line := range []string{"assay/greets: pending", "assay/greets: success"} {
				if err := c.EditNote(t.Context(), address, at, NotesRef, appendLine(line)); err != nil {
					t.Fatal(err)
				}
			}
			want := "assay/greets: pending\nassay/greets: success\n"
			if got := string(must[[]byte](t)(c.ReadNote(t.Context(), address, at, NotesRef))); got != want {
				t.Errorf("got %q", got)
			}
			if got := git(t, dir, "log", "-1", "--notes=assay", "--format=%N", at); got != strings.TrimSpace(want) {
				t.Errorf("git shows %q", got)
			}
			if got := git(t, dir, "log", "--format=%an <%ae>", NotesRef); got != "Assay <assay@localhost>\nAssay <assay@localhost>" {
				t.Errorf("authors are %q", got)
			}
			git(t, dir, "fsck", "--strict")
		})
	}
}

func TestNotesReadAndKeepEveryLayout(t *testing.T) {
	src := newRepo(t)
	var commits []string
	for i := range 6 {
		commits = append(commits, commit(t, src, "a", fmt.Sprint(i)))
	}
	blob := func(s string) string { return object(t, src, "blob", []byte(s)) }
	tree := func(lines ...string) string {
		slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[strings.Index(a, "\t"):], b[strings.Index(b, "\t"):]) })
		cmd := exec.Command("git", "mktree")
		cmd.Dir, cmd.Stdin = src, strings.NewReader(strings.Join(lines, "\n")+"\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	file := func(name, content string) string { return "100644 blob " + blob(content) + "\t" + name }
	dir := func(name, tree string) string { return "040000 tree " + tree + "\t" + name }
	c0, c1, c2 := commits[0], commits[1], commits[2]
	root := tree(
		file(c0, "flat\n"),
		dir(c1[:2], tree(file(c1[2:], "one\n"))),
		dir(c2[:2], tree(dir(c2[2:4], tree(file(c2[4:], "two\n"))))),
		file("README", "no note\n"),
	)
	git(t, src, "update-ref", NotesRef, git(t, src, "commit-tree", "-m", "notes", root))

	c := openCache(t, Limits{})
	for i, want := range []string{"flat\n", "one\n", "two\n"} {
		if got := string(must[[]byte](t)(c.ReadNote(t.Context(), src, commits[i], NotesRef))); got != want {
			t.Errorf("note %d is %q", i, got)
		}
	}
	for _, at := range commits {
		if err := c.EditNote(t.Context(), src, at, NotesRef, appendLine("more")); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"flat\nmore", "one\nmore", "two\nmore", "more", "more", "more"} {
		if got := git(t, src, "notes", "--ref=assay", "show", commits[i]); got != want {
			t.Errorf("note %d is %q, want %q", i, got, want)
		}
	}
	if got := git(t, src, "show", NotesRef+":README"); got != "no note" {
		t.Errorf("README is %q", got)
	}
	// git writes its own layout over ours, and we go on.
	git(t, src, "notes", "--ref=assay", "append", "-m", "by git", c1)
	if err := c.EditNote(t.Context(), src, c1, NotesRef, appendLine("last")); err != nil {
		t.Fatal(err)
	}
	if got := git(t, src, "notes", "--ref=assay", "show", c1); got != "one\nmore\n\nby git\nlast" {
		t.Errorf("the note is %q", got)
	}
}

func TestNotesCanBeRemovedAndLeftAlone(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	nothing := func([]byte) ([]byte, error) { return nil, nil }
	if err := c.EditNote(t.Context(), src, at, NotesRef, nothing); err != nil {
		t.Fatal(err)
	}
	if _, err := tryGit(src, "rev-parse", "--verify", NotesRef); err == nil {
		t.Error("nothing was written as something")
	}
	if err := c.EditNote(t.Context(), src, at, NotesRef, appendLine("x")); err != nil {
		t.Fatal(err)
	}
	before := git(t, src, "rev-parse", NotesRef)
	same := func(old []byte) ([]byte, error) { return old, nil }
	if err := c.EditNote(t.Context(), src, at, NotesRef, same); err != nil || git(t, src, "rev-parse", NotesRef) != before {
		t.Errorf("%v, or an unchanged note was written", err)
	}
	if err := c.EditNote(t.Context(), src, at, NotesRef, nothing); err != nil {
		t.Fatal(err)
	}
	if got := git(t, src, "ls-tree", "-r", NotesRef); got != "" {
		t.Errorf("left is %q", got)
	}
}

func TestNotesRefuse(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	c := openCache(t, Limits{})
	absent := strings.Repeat("1", 40)
	wantError(t, c.EditNote(t.Context(), src, absent, NotesRef, appendLine("x")), "cannot write the note", absent, src)
	for _, ref := range []string{"refs/heads/main", "assay", "refs/notes/", "refs/notes/a b", "refs/notes/../heads/x"} {
		wantError(t, c.EditNote(t.Context(), src, at, ref, appendLine("x")), "cannot", "refs/notes/")
	}
	mine := errors.New("mine")
	if err := c.EditNote(t.Context(), src, at, NotesRef, func([]byte) ([]byte, error) { return nil, mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	put(t, filepath.Join(src, ".git/hooks/pre-receive"), "#!/bin/sh\nexit 1\n")
	if err := os.Chmod(filepath.Join(src, ".git/hooks/pre-receive"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.EditNote(t.Context(), src, at, NotesRef, appendLine("x")), "hook declined")
}

// TestManyNotes holds that a hundred and more get directories that git reads.
func TestManyNotes(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	var b strings.Builder
	blob := object(t, src, "blob", []byte("old"))
	for i := range maxFlatNotes {
		fmt.Fprintf(&b, "100644 blob %s\t%040x\n", blob, i+1)
	}
	cmd := exec.Command("git", "mktree")
	cmd.Dir, cmd.Stdin = src, strings.NewReader(b.String())
	tree := must[[]byte](t)(cmd.Output())
	git(t, src, "update-ref", NotesRef, git(t, src, "commit-tree", "-m", "notes", strings.TrimSpace(string(tree))))
	c := openCache(t, Limits{})
	if err := c.EditNote(t.Context(), src, at, NotesRef, appendLine("new")); err != nil {
		t.Fatal(err)
	}
	if got := git(t, src, "show", NotesRef+":"+at[:2]+"/"+at[2:]); got != "new" {
		t.Errorf("got %q", got)
	}
	if got := git(t, src, "notes", "--ref=assay", "show", at); got != "new" {
		t.Errorf("git reads %q", got)
	}
}

func TestNoUpdateOfANoteIsLost(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1")
	bare := newBare(t)
	git(t, src, "push", "-q", bare, "main")
	const each = 3
	var want []string
	var group sync.WaitGroup
	for p := range 2 { // processes with caches of their own
		cmd := exec.Command(must[string](t)(os.Executable()))
		cmd.Env = append(os.Environ(), "REPO_TEST_ROLE=notes", "REPO_TEST_CACHE="+t.TempDir(), "REPO_TEST_ADDRESS="+bare,
			"REPO_TEST_COMMIT="+at, fmt.Sprintf("REPO_TEST_NAME=p%d", p))
		want = append(want, lineNames(fmt.Sprintf("p%d", p), each)...)
		group.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("a process failed: %v\n%s", err, out)
			}
		})
	}
	shared := openCache(t, Limits{})
	for g := range 8 { // half of them on one cache, half on their own
		c := shared
		if g%2 == 0 {
			c = openCache(t, Limits{})
		}
		names := lineNames(fmt.Sprintf("g%d", g), each)
		want = append(want, names...)
		group.Go(func() {
			for _, name := range names {
				if err := c.EditNote(t.Context(), bare, at, NotesRef, appendLine(name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	got := strings.Split(git(t, bare, "notes", "--ref=assay", "show", at), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d lines, want %d:\n%q\n%q", len(got), len(want), got, want)
	}
	git(t, bare, "fsck", "--strict")
}

func lineNames(prefix string, n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i))
	}
	return names
}

// FuzzTree holds that what is read of a tree and written again is the same.
func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x0001234567890123456789" + "40000 b\x0001234567890123456789"))
	f.Add([]byte("120000 l\x0001234567890123456789" + "160000 s\x0001234567890123456789"))
	f.Add([]byte("100755 x\x00012345678901234567"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseTree(data)
		if err != nil {
			return
		}
		again, err := parseTree(encodeTree(slices.Clone(entries)))
		if err != nil || len(again) != len(entries) {
			t.Errorf("%q comes back as %v, %v", data, again, err)
		}
		for _, e := range entries {
			if e.mode&^(fs.ModeDir|fs.ModeSymlink|0o777) != 0 {
				t.Errorf("%q has mode %v", e.name, e.mode)
			}
		}
	})
}

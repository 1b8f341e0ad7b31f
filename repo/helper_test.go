package repo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain keeps the machine's own git configuration out, and lets a test run
// this binary as a hook or as a second process.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
		"GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org",
	} {
		os.Setenv(name, value)
	}
	if role := os.Getenv("REPO_TEST_ROLE"); role != "" {
		os.Exit(playRole(role))
	}
	os.Exit(m.Run())
}

func playRole(role string) int {
	roles := map[string]func(context.Context) error{"hook": roleHook, "notes": roleNotes, "fetch": roleFetch}
	if err := roles[role](context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// git runs git in dir and returns what it printed; it must succeed.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func tryGit(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// newRepo makes a repository with a worktree and no commit.
func newRepo(t testing.TB) string {
	dir := t.TempDir()
	git(t, dir, "init", "-q")
	return dir
}

// newBare makes a bare repository.
func newBare(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "bare.git")
	git(t, filepath.Dir(dir), "init", "-q", "--bare", dir)
	return dir
}

// commit writes files, given as name and content by turns, and commits them.
func commit(t testing.TB, dir string, files ...string) string {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		put(t, filepath.Join(dir, files[i]), files[i+1])
	}
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "change")
	return git(t, dir, "rev-parse", "HEAD")
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// object writes an object of any content into the repository.
func object(t testing.TB, dir, kind string, content []byte) string {
	t.Helper()
	cmd := exec.Command("git", "hash-object", "-t", kind, "-w", "--stdin", "--literally")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git hash-object: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// treeObject writes a tree with entries "mode name hash" that git itself would
// not write, and a branch main with a commit of it.
func treeObject(t testing.TB, dir string, entries ...[3]string) (commit string) {
	t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\x00", e[0], e[1])
		for i := 0; i < 40; i += 2 {
			var v byte
			fmt.Sscanf(e[2][i:i+2], "%02x", &v)
			b.WriteByte(v)
		}
	}
	tree := object(t, dir, "tree", b.Bytes())
	text := "tree " + tree + "\nauthor A <a@example.org> 1700000000 +0000\ncommitter A <a@example.org> 1700000000 +0000\n\nm\n"
	commit = object(t, dir, "commit", []byte(text))
	git(t, dir, "update-ref", "refs/heads/main", commit)
	return commit
}

func openCache(t testing.TB, limits Limits) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"), limits)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantError checks that an error begins with "cannot" and has the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q lacks %q", err, word)
		}
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

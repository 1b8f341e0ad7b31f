package forgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
)

// GitNotes is a forge.NoteEditor that runs git, as a person at a terminal would.
// The zero value is ready.
type GitNotes struct {
	mu sync.Mutex // git notes reads, then writes
}

var (
	_ forge.NoteEditor = (*GitNotes)(nil)
	_ forge.NoteReader = (*GitNotes)(nil)
)

// EditNote reads with git notes show and writes with git notes add.
func (g *GitNotes) EditNote(ctx context.Context, address, commit, ref string, edit func(old []byte) ([]byte, error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, err := g.ReadNote(ctx, address, commit, ref)
	if err != nil {
		return err
	}
	text, err := edit(old)
	if err != nil || bytes.Equal(text, old) {
		return err
	}
	_, err = git(ctx, address, text, "notes", "--ref="+ref, "add", "--force", "--file=-", commit)
	return err
}

// ReadNote reads with git notes show.
func (g *GitNotes) ReadNote(ctx context.Context, address, commit, ref string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := git(ctx, address, nil, "cat-file", "-e", commit+"^{commit}"); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("cannot find the commit: %w", assay.ErrNotFound)
	}
	text, err := git(ctx, address, nil, "notes", "--ref="+ref, "show", commit)
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return nil, nil // there is no note
	}
	return text, err
}

// Repository makes a bare repository with so many commits and returns its path
// and their names, oldest first.
func Repository(t testing.TB, commits int) (path string, names []string) {
	t.Helper()
	path = t.TempDir()
	run := func(stdin string, args ...string) string {
		out, err := git(t.Context(), path, []byte(stdin), args...)
		if err != nil {
			t.Fatalf("git %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	run("", "init", "--quiet", "--bare", "--initial-branch=main")
	tree := run("", "hash-object", "-t", "tree", "-w", "--stdin")
	for i := range commits {
		args := []string{"commit-tree", tree, "-m", fmt.Sprintf("commit %d", i+1)}
		if i > 0 {
			args = append(args, "-p", names[i-1])
		}
		names = append(names, run("", args...))
	}
	run("", "update-ref", "refs/heads/main", names[len(names)-1])
	return path, names
}

func git(ctx context.Context, dir string, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=assay", "GIT_AUTHOR_EMAIL=assay@localhost", "GIT_COMMITTER_NAME=assay", "GIT_COMMITTER_EMAIL=assay@localhost")
	return cmd.Output()
}

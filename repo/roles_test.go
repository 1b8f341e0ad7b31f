package repo

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// roleNotes adds three lines to a note.
func roleNotes(ctx context.Context) error {
	c, err := Open(os.Getenv("REPO_TEST_CACHE"), Limits{})
	if err != nil {
		return err
	}
	for _, line := range lineNames(os.Getenv("REPO_TEST_NAME"), 3) {
		err := c.EditNote(ctx, os.Getenv("REPO_TEST_ADDRESS"), os.Getenv("REPO_TEST_COMMIT"), NotesRef, appendLine(line))
		if err != nil {
			return err
		}
	}
	return nil
}

// roleHook is a pre-receive hook that writes down what it sees of every commit:
// a line for the ref, and one for each file.
func roleHook(ctx context.Context) error {
	in, err := OpenIncoming(os.Getenv("GIT_DIR"), os.Getenv)
	if err != nil {
		return err
	}
	defer in.Close()
	report, err := os.OpenFile(os.Getenv("REPO_TEST_REPORT"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer report.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if err := describe(ctx, in, report, f[1], f[2]); err != nil {
			return err
		}
	}
	return lines.Err()
}

func describe(ctx context.Context, in *Incoming, report *os.File, hash, ref string) error {
	fmt.Fprintf(report, "%s commit=%v quarantine=%v\n", ref, isCommit(in, hash), os.Getenv("GIT_QUARANTINE_PATH") != "")
	if !isCommit(in, hash) {
		return nil
	}
	tree, err := in.Tree(ctx, hash)
	if err != nil {
		return err
	}
	return fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, path)
		fmt.Fprintf(report, "  %s %d %.8s\n", path, len(data), data)
		return err
	})
}

// isCommit tells whether there is a commit of that name among what a push
// brings and what was there.
func isCommit(in *Incoming, commit string) bool {
	h, err := parseCommit(commit)
	return err == nil && in.source.isCommit(h)
}

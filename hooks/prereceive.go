package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxMistakes bounds the lines that a refused push prints.
const maxMistakes = 100

// ErrRefused tells that the push is refused and that standard error says why:
// the hook has only to exit with 1.
var ErrRefused = errors.New("the push is refused")

// PreReceive is the hook that git runs before any ref of a push moves.
type PreReceive struct {
	// Lint says what is wrong with the whole tree of a commit, nil for nothing.
	// Several mistakes are several lines, or an error with Unwrap() []error.
	// It is called once for each commit.
	Lint func(ctx context.Context, commit string) error
}

// Run reads the updates from stdin and lints what every branch moves to. All
// mistakes of all branches go to stderr, one on each line, which git shows to
// whoever pushes; then the error is ErrRefused. Any other error, which the
// caller is to print, refuses the push as well.
func (p PreReceive) Run(ctx context.Context, stdin io.Reader, stderr io.Writer) error {
	updates, err := ReadUpdates(stdin)
	if err != nil {
		return err
	}
	commits := branchCommits(updates)
	var found []mistakes
	for _, c := range commits {
		if err := p.Lint(ctx, c.commit); err != nil {
			c.lines = errorLines(err)
			found = append(found, c)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cannot check the push: %w", err)
		}
	}
	if len(found) == 0 {
		return nil
	}
	_, err = io.WriteString(stderr, render(found, len(commits) > 1))
	if err != nil {
		return fmt.Errorf("cannot tell what is wrong with the push: %v", err)
	}
	return ErrRefused
}

// mistakes is what is wrong with one commit.
type mistakes struct {
	commit   string
	branches []string // that move to it
	lines    []string
}

// branchCommits lists the commits that branches move to, each once, in the
// order of the push.
func branchCommits(updates []Update) []mistakes {
	var commits []mistakes
	at := map[string]int{}
	for _, u := range updates {
		branch, ok := u.Branch()
		if !ok {
			continue
		}
		i, seen := at[u.New]
		if !seen {
			i = len(commits)
			at[u.New] = i
			commits = append(commits, mistakes{commit: u.New})
		}
		commits[i].branches = append(commits[i].branches, branch)
	}
	return commits
}

// errorLines takes an error apart into its lines, fit for a terminal.
func errorLines(err error) []string {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var lines []string
		for _, e := range many.Unwrap() {
			if e != nil {
				lines = append(lines, errorLines(e)...)
			}
		}
		if len(lines) > 0 {
			return lines
		}
	}
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, clip(line))
		}
	}
	if len(lines) == 0 {
		lines = []string{"cannot tell what is wrong: the check of the commit failed without a word"}
	}
	return lines
}

// render writes the answer to a push with mistakes. With several commits in the
// push each has a heading.
func render(found []mistakes, several bool) string {
	var b strings.Builder
	total, left := 0, maxMistakes
	for _, m := range found {
		total += len(m.lines)
		shown := m.lines[:min(left, len(m.lines))]
		left -= len(shown)
		if several && len(shown) > 0 {
			fmt.Fprintf(&b, "assay: in %s, commit %.12s:\n", clip(strings.Join(m.branches, ", ")), m.commit)
		}
		for _, line := range shown {
			b.WriteString(line + "\n")
		}
	}
	if total > maxMistakes {
		fmt.Fprintf(&b, "… and %d more\n", total-maxMistakes)
	}
	word := "mistakes"
	if total == 1 {
		word = "mistake"
	}
	fmt.Fprintf(&b, "assay: the push is refused for %d %s: correct, commit and push again (to try before a push: assay lint)\n", total, word)
	return b.String()
}

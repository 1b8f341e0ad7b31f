package dispatch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// command is what somebody wants, as written below a pull request.
type command struct {
	verb   string
	checks []string // names, for run, rerun and waive; none for all
	failed bool     // rerun: only what did not pass
	reason string   // of a waiver
}

// The verbs.
const (
	verbRun    = "run"
	verbRerun  = "rerun"
	verbCancel = "cancel"
	verbOK     = "ok"
	verbWaive  = "waive"
	verbHelp   = "help"
)

// Bounds of a comment's commands.
const (
	maxCommands = 20
	maxNames    = 100
)

// parseCommands reads the lines of a comment that begin with /assay. The error
// says what cannot be understood; then nothing of the comment is done.
func parseCommands(text string) ([]command, error) {
	var list []command
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "/assay" {
			continue
		}
		if len(list) == maxCommands || len(words) > maxNames {
			return nil, fmt.Errorf("the comment has more than %d commands, or a line more than %d words", maxCommands, maxNames)
		}
		c, err := parseCommand(words[1:])
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

func parseCommand(words []string) (command, error) {
	if len(words) == 0 {
		return command{verb: verbHelp}, nil
	}
	c := command{verb: strings.ToLower(words[0])}
	rest := words[1:]
	switch c.verb {
	case verbRun:
		c.checks = rest
		return c, nil
	case verbRerun:
		if c.failed = len(rest) > 0 && rest[0] == "failed"; c.failed {
			rest = rest[1:]
		}
		c.checks = rest
		return c, nil
	case verbWaive:
		if len(rest) < 2 {
			return c, fmt.Errorf("/assay waive wants a check and a reason: write /assay waive CHECK REASON")
		}
		c.checks, c.reason = rest[:1], strings.Join(rest[1:], " ")
		return c, nil
	case verbCancel, verbOK, verbHelp:
		if len(rest) > 0 {
			return c, fmt.Errorf("/assay %s takes no words after it", c.verb)
		}
		return c, nil
	}
	return c, fmt.Errorf("/assay %s is no command: write run, rerun, cancel, ok, waive or help", oneLineOf(words[0], 40))
}

// names tells whether an execution is meant: by its check's whole name, by what
// comes after its namespace, or by the context of its status, with "assay/" before
// it or without.
func (c command) names(x assay.Execution) bool {
	if len(c.checks) == 0 {
		return true
	}
	return slices.ContainsFunc(c.checks, func(name string) bool {
		return name == x.Check || strings.HasSuffix(x.Check, "."+name) || name == x.StatusContext() || name == x.Label()
	})
}

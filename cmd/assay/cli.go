package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/assay-ci/assay"
)

// Exit codes, as the help text of assay says them.
const (
	exitOK      = 0
	exitFailed  = 1 // a check failed, or the command did
	exitUsage   = 2
	exitErrored = 3 // a check could not be run
)

// exitError ends the program with a code; err may be nil when everything has
// been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// env is what a command works with besides its flags.
type env struct {
	in       io.Reader
	out, err io.Writer
}

// run is the whole program; tests call it in main's place.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	root := newRoot(&env{in, out, errw})
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(errw, "assay: %v\n", exit.err)
		}
		return exit.code
	case ctx.Err() != nil:
		fmt.Fprintln(errw, "assay: stopped: interrupted")
		return 128 + 2
	}
	fmt.Fprintf(errw, "assay: %v\n", err)
	return exitFailed
}

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "assay",
		Short: "Run package maintainers' own checks on every build, in throw-away machines",
		Long: `Assay runs package maintainers' own checks the way dist-git builds their
packages: push a check to a git repository, and every build of the package is
tested in a fresh virtual machine that is thrown away afterwards. Reviewers see
a commit status and one comment.

  maintainers   assay init, assay lint, assay run, then git push
  operators     assay image build, assay serve, assay hook install, assay doctor
  newcomers     assay demo

Exit codes: 0 good, 1 a check or the command failed, 2 wrong usage, 3 a check
could not be run, 130 interrupted.`,
		Version:       version().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(usageError)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(newHelpCommand(e))
	root.AddCommand(
		newRunCommand(e), newLintCommand(e), newInitCommand(e), newSchemaCommand(e), newServeCommand(e), newHookCommand(e),
		newImageCommand(e), newVMCommand(e), newTemplateCommand(e), newBenchCommand(e), newEventCommand(e), newDemoCommand(e), newDoctorCommand(e),
		newResultCommand(e), newVersionCommand(e),
	)
	wrapArgs(root)
	return root
}

// wrapArgs makes wrong arguments of every command a usage error.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError(cmd, err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

func usageError(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w\nTry: %s --help", err, cmd.CommandPath())}
}

// usagef is a usage error in our own words.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return usageError(cmd, fmt.Errorf(format, args...))
}

// require makes flags mandatory; to leave one out is a usage error.
func require(cmd *cobra.Command, names ...string) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		var missing []string
		for _, name := range names {
			if !cmd.Flags().Changed(name) {
				missing = append(missing, "--"+name)
			}
		}
		if len(missing) > 0 {
			return usagef(cmd, "%s must be given", strings.Join(missing, ", "))
		}
		return nil
	}
}

// exitCode is the program's for a verdict.
func exitCode(v assay.Verdict) int {
	switch v {
	case assay.VerdictPassed, assay.VerdictSkipped:
		return exitOK
	case assay.VerdictFailed, assay.VerdictCrashed:
		return exitFailed
	}
	return exitErrored
}

// isTerminal tells whether a person reads along.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// newLogger is the program's own log: words on a terminal, JSON elsewhere.
func newLogger(w io.Writer, level, format string) (zerolog.Logger, error) {
	lv, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("cannot log at level %q: write debug, info, warn or error", level)
	}
	if format == "text" || format == "" && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !isTerminal(w), TimeFormat: "15:04:05"}
	}
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	return zerolog.New(w).Level(lv).With().Timestamp().Logger(), nil
}

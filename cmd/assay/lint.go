package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
)

// lintOptions are the flags of assay lint.
type lintOptions struct {
	format            string // "text", "json", "sarif"
	json              bool   // short for format json
	fix, diff, strict bool
}

func newLintCommand(e *env) *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint PATH...",
		Short: "Find the mistakes in formulas",
		Long: `Lint reads formulas with the parser that the server and the git hook use, and
names every mistake as FILE:LINE:COLUMN with what to write instead. A directory
stands for every formula in it, a file for itself. Warnings tell of what works
but has a newer spelling.

--fix writes into the files what has only one cure: older spellings, keys and
directives that resemble just one known word, quotes that are missing, tabs for
indentation. Nothing else of a file changes. --diff shows that and writes nothing.

Exit codes: 0 no mistakes, 1 mistakes (with --strict: or warnings), 2 nothing
could be read.`,
		Example: "  assay lint .\n  assay lint greets/runtask.yml --fix --diff\n  assay lint checks --format sarif > lint.sarif",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return o.run(e, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "text", "text, json (a list of {file, line, column, severity, rule, message}) or sarif (2.1.0)")
	f.BoolVar(&o.json, "json", false, "the same as --format json")
	f.BoolVar(&o.fix, "fix", false, "mend what has only one cure, in the files")
	f.BoolVar(&o.diff, "diff", false, "with --fix: print what would change, and change nothing")
	f.BoolVar(&o.strict, "strict", false, "exit with 1 for warnings too")
	return cmd
}

func (o *lintOptions) check(cmd *cobra.Command) error {
	if o.json && cmd.Flags().Changed("format") && o.format != "json" {
		return usagef(cmd, "--json and --format %s exclude each other", o.format)
	}
	if o.json {
		o.format = "json"
	}
	switch o.format {
	case "text", "json", "sarif":
	default:
		return usagef(cmd, "cannot write the format %q: write text, json or sarif", o.format)
	}
	if o.diff && !o.fix {
		return usagef(cmd, "--diff needs --fix")
	}
	return nil
}

func (o *lintOptions) run(e *env, paths []string) error {
	all, err := lintPaths(paths)
	if err == nil && o.fix {
		all, err = o.fixAll(e, paths, all)
	}
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var found checks.Mistakes
	for _, l := range all {
		found = append(found, l.Mistakes...)
	}
	if err := o.report(e, found, len(all)); err != nil {
		return err
	}
	if len(found.Errors()) > 0 || o.strict && len(found) > 0 {
		return &exitError{exitFailed, nil}
	}
	return nil
}

// report writes what was found. A diff has standard output for itself.
func (o *lintOptions) report(e *env, found checks.Mistakes, read int) error {
	out := e.out
	if o.diff {
		out = e.err
	}
	switch o.format {
	case "json":
		return writeJSON(out, lintRows(found))
	case "sarif":
		return writeJSON(out, sarif(found))
	}
	for _, m := range found {
		fmt.Fprintln(out, m.Error())
	}
	if len(found.Errors()) == 0 {
		fmt.Fprintf(out, "no mistakes; formulas read: %d\n", read)
	}
	return nil
}

// lint names the mistakes, but no warnings, of every formula below the paths, and
// counts the formulas. The error is for a path that cannot be read at all.
func lint(paths []string) (mistakes checks.Mistakes, read int, err error) {
	all, err := lintPaths(paths)
	for _, l := range all {
		mistakes = append(mistakes, l.Mistakes.Errors()...)
	}
	return mistakes, len(all), err
}

// lintPaths reads every formula below the paths, each once. The error is for a
// path that cannot be read at all.
func lintPaths(paths []string) ([]checks.Linted, error) {
	var all []checks.Linted
	seen := map[string]bool{}
	for _, p := range paths {
		some, err := lintPath(p)
		if err != nil {
			return nil, err
		}
		// Several checks may share one file, within what one path stands for.
		all = append(all, slices.DeleteFunc(some, func(l checks.Linted) bool { return seen[l.Path] })...)
		for _, l := range all {
			seen[l.Path] = true
		}
	}
	return all, nil
}

// lintPath reads what one path stands for. Formulas and their mistakes go by the
// name that the user knows them by.
func lintPath(p string) ([]checks.Linted, error) {
	info, err := os.Stat(p)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", p, err)
	}
	if root, ok := strings.CutSuffix(filepath.ToSlash(filepath.Clean(p)), checks.ControlFile); ok && !info.IsDir() {
		return lintControl(filepath.Clean(root))
	}
	if !info.IsDir() {
		l := checks.LintFile(os.DirFS(filepath.Dir(p)), filepath.Base(p))
		return []checks.Linted{named(l, filepath.Clean(p))}, nil
	}
	all, err := checks.Lint(os.DirFS(p))
	var beyond checks.Mistakes
	switch {
	case errors.As(err, &beyond):
		return []checks.Linted{named(checks.Linted{Path: ".", Mistakes: beyond}, p)}, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read %s: %w", p, err)
	case len(all) == 0:
		return nil, fmt.Errorf("cannot find a formula below %s: it is called runtask.yml", p)
	}
	for i, l := range all {
		all[i] = named(l, filepath.Join(p, l.Path))
	}
	return all, nil
}

// lintControl reads the control file of a Debian source tree, which says more of
// it than the file itself.
func lintControl(root string) ([]checks.Linted, error) {
	all, err := checks.Lint(os.DirFS(root))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", root, err)
	}
	all = slices.DeleteFunc(all, func(l checks.Linted) bool { return l.Path != checks.ControlFile })
	for i, l := range all {
		all[i] = named(l, filepath.Join(root, l.Path))
	}
	return all, nil
}

// named gives a formula and its mistakes another path.
func named(l checks.Linted, path string) checks.Linted {
	mistakes := make(checks.Mistakes, len(l.Mistakes))
	for i, m := range l.Mistakes {
		m.File = path
		mistakes[i] = m
	}
	return checks.Linted{Path: path, Mistakes: mistakes}
}

// lintRow is a mistake for editors.
type lintRow struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"`
	Rule     string `json:"rule"`
	Message  string `json:"message"`
}

func lintRows(found checks.Mistakes) []lintRow {
	rows := make([]lintRow, 0, len(found))
	for _, m := range found {
		rows = append(rows, lintRow{m.File, m.Line, m.Col, severity(m.Warning), m.Rule(), m.Message})
	}
	return rows
}

// severity is a level of SARIF (2.1.0, 3.27.10).
func severity(warning bool) string {
	if warning {
		return "warning"
	}
	return "error"
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

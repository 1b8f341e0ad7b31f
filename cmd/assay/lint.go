package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
)

func newLintCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint PATH...",
		Short: "Find the mistakes in formulas",
		Long: `Lint reads formulas with the parser that the server and the git hook use, and
names every mistake as FILE:LINE:COLUMN with what to write instead. A directory
stands for every formula in it: runtask.yml, runtask.yaml, task.yml, formula.yml.`,
		Example: "  assay lint .\n  assay lint greets/runtask.yml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			mistakes, read, err := lint(args)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if asJSON {
				if err := writeMistakes(e, mistakes); err != nil {
					return err
				}
			} else {
				for _, m := range mistakes {
					fmt.Fprintln(e.out, m.Error())
				}
			}
			if len(mistakes) > 0 {
				return &exitError{exitFailed, nil}
			}
			if !asJSON {
				fmt.Fprintf(e.out, "no mistakes; formulas read: %d\n", read)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON: a list of {file, line, column, message}")
	return cmd
}

// lint reads every formula below the paths. The error is for a path that
// cannot be read at all.
func lint(paths []string) (mistakes checks.Mistakes, read int, err error) {
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read %s: %w", p, err)
		}
		var found error
		n := 1
		if info.IsDir() {
			n, found = lintDir(p)
		} else {
			found = lintFile(p)
		}
		read += n
		var some checks.Mistakes
		switch {
		case errors.As(found, &some):
			mistakes = append(mistakes, some...)
		case found != nil:
			return nil, 0, found
		case n == 0:
			return nil, 0, fmt.Errorf("cannot find a formula below %s: it is called runtask.yml", p)
		}
	}
	return mistakes, read, nil
}

func lintDir(dir string) (int, error) {
	formulas, err := checks.Load(os.DirFS(dir))
	var some checks.Mistakes
	if !errors.As(err, &some) {
		return len(formulas), err
	}
	files := map[string]bool{}
	for i := range some {
		files[some[i].File] = true
		some[i].File = filepath.Join(dir, some[i].File)
	}
	return len(formulas) + len(files), some
}

func lintFile(file string) error {
	formulas := checks.LoadFile(os.DirFS(filepath.Dir(file)), filepath.Base(file))
	return rename(formulas.Err, file)
}

// rename gives the mistakes of one file the name the user knows it by.
func rename(err error, file string) error {
	var some checks.Mistakes
	if errors.As(err, &some) {
		for i := range some {
			some[i].File = file
		}
		return some
	}
	return err
}

func writeMistakes(e *env, mistakes checks.Mistakes) error {
	type row struct {
		File    string `json:"file"`
		Line    int    `json:"line"`
		Column  int    `json:"column"`
		Message string `json:"message"`
	}
	rows := []row{}
	for _, m := range mistakes {
		rows = append(rows, row{m.File, m.Line, m.Col, m.Message})
	}
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

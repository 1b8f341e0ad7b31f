package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
)

// runOptions are the flags of assay run.
type runOptions struct {
	item, typ, arch string
	only            []string // checks' names or patterns
	uuid            string
	local, vm       bool
	ssh, sshKey     string
	keep            keepFlag
	debug           bool
	sources, builds string
	needs           string // directory with what other checks left
	artifacts       string
	results         string
	image           string
	vars, secrets   namedFlag
	from            fromOptions
}

func newRunCommand(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run DIR|FORMULA -i ITEM -t TYPE",
		Short: "Run a check here and now",
		Long:  runHelp,
		Example: `  assay run greets/runtask.yml -i hello-1.0-1 -t koji_build --sources ~/src/hello
  assay run checks/ -i hello-1.0-1 -t koji_build --vm
  assay run greets -i hello-1.0-1 -t koji_build --vm --keep=30m
  assay run ~/src/hello --check dep8.smoke --vm
  assay run greets -i hello-1.0-1 -t koji_build --ssh me@devel.example.org:2222
  assay run greets -i hello-1.0-1 -t koji_build --var python=3.12 --results-dir out
  assay run --from 0198c0de-0000-7000-8000-000000000001 --server https://ci.example.org`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.from.execution != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			if o.from.execution != "" {
				return replay(cmd.Context(), e, o)
			}
			return runChecks(cmd.Context(), e, args[0], o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

const runHelp = `Run runs one check, or every check below a directory, and prints the log that
the server would keep: time, step, stream, text. On a terminal it shows the steps
with their durations instead, folds away what passed, and leaves open what failed.
By default the steps run on this machine as you; --vm runs them in a disposable
machine, as the server does; --ssh on a host of yours, in a new directory that is
removed afterwards.

The item is what the check looks at, the type says what kind of thing that is:
koji_build (a build's name-version-release), dist_git_commit, pull_request, ….
--sources stands for the package's source, ${sources} in the formula.

Of several checks, --check NAME runs those of that name, with its namespace or
without; * and ? stand for what they do in a shell. What they need (needs: in the
formula) runs before them, and they are given what it left; or --needs DIR gives
it, in DIR/NAME, and it does not run.

A check with a matrix runs for each of its variants, one after the other; --var
NAME=VALUE runs those that have that value. --var also gives package.

With --ssh the host must be in ~/.ssh/known_hosts, and take a key of your key
agent, of ~/.ssh/id_* without a passphrase, or of --ssh-key. ~/.ssh/config is not
read. It needs /bin/sh and tar. What the formula's environment asks for is not
installed there, nor with --local: a notice names it.

With --vm --keep the machine stays when the check has ended, however it did,
until you press Ctrl-C or the time given is over; meanwhile assay vm shell enters
it from another terminal. Without --vm it is the check's directory that stays, and
you remove it.

With --from it runs what an execution of a server ran: the same commit of the
formula, item, variables, variant and, with --vm, image; then it prints how the
outcomes differ. Repositories and builds are fetched once you have confirmed
their addresses, or with --yes.

--results-dir takes a new or empty directory; below it are results.yml (as checks
report results), results.json (everything), log.txt, task_vars.json and artifacts/.
When several checks or variants run each has a directory of its own below it.

Options of Taskotron's runtask are understood: --libvirt for --vm, --ssh-privkey
for --ssh-key, --no-destroy for --keep, and --jobid, which changes nothing.

Exit codes: 0 passed, 1 failed, 2 wrong usage, 3 could not be run, 130 interrupted.`

// runChecks runs what a path stands for; its error carries the worst verdict's
// exit code.
func runChecks(ctx context.Context, e *env, target string, o runOptions) error {
	formulas, err := readTarget(target)
	if err != nil {
		return err
	}
	chosen, err := choose(formulas, o.only, target)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	formulas = o.withNeeded(formulas, chosen)
	errands, err := planErrands(formulas, o)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if o.keep.on && o.vm && len(errands) > 1 {
		return &exitError{exitUsage, fmt.Errorf("cannot keep the machines of %d checks: name one: %s", len(errands), titles(errands))}
	}
	for _, t := range formulas {
		if !o.wants(t.formula) {
			sayUnwanted(e, t.formula, o)
		}
	}
	if len(errands) == 0 {
		return &exitError{exitUsage, fmt.Errorf("nothing was run: no check below %s wants a %s", target, o.typ)}
	}
	s, err := openSession(ctx, e, o)
	if err != nil {
		return &exitError{exitErrored, err}
	}
	defer s.close()
	s.many = len(errands) > 1
	worst := exitOK
	for _, it := range errands {
		c, err := s.runOne(ctx, it)
		if err != nil {
			return err
		}
		worst = max(worst, exitCode(c.Verdict))
	}
	if worst != exitOK {
		return &exitError{worst, nil}
	}
	return nil
}

// target is one formula with the directory it lives in.
type target struct {
	dir     string
	formula *checks.Formula
}

// readTarget reads the formulas that a path stands for; mistakes are printed
// like lint prints them.
func readTarget(name string) ([]target, error) {
	mistakes, _, err := lint([]string{name})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if len(mistakes) > 0 {
		return nil, &exitError{exitUsage, mistakes}
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if tree, ok := controlTree(name); ok && !info.IsDir() {
		return readTests(tree)
	}
	if !info.IsDir() {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("cannot read the formula: %w", err)}
		}
		f, err := checks.Parse(name, data)
		return []target{{filepath.Dir(name), f}}, err
	}
	formulas, err := checks.Load(os.DirFS(name))
	var list []target
	for _, f := range formulas {
		list = append(list, target{filepath.Join(name, filepath.FromSlash(checks.RootOf(f.Path))), f})
	}
	return list, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/ssh"
)

// runOptions are the flags of assay run.
type runOptions struct {
	item, typ, arch string
	local, vm       bool
	ssh, sshKey     string
	keep            keepFlag
	sources, builds string
	artifacts       string
	image           string
}

func newRunCommand(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run DIR|FORMULA -i ITEM -t TYPE",
		Short: "Run a check here and now",
		Long: `Run runs one check, or every check below a directory, and prints the log that
the server would keep: time, step, stream, text. By default the steps run on
this machine as you; --vm runs them in a disposable machine, as the server does;
--ssh on a host of yours, in a new directory that is removed afterwards.

The item is what the check looks at, the type says what kind of thing that is:
koji_build (a build's name-version-release), dist_git_commit, pull_request, ….
--sources stands for the package's source, ${sources} in the formula.

With --ssh the host must be in ~/.ssh/known_hosts, and take a key of your key
agent, of ~/.ssh/id_* without a passphrase, or of --ssh-key. ~/.ssh/config is not
read. It needs /bin/sh and tar. What the formula's environment asks for is not
installed there, nor with --local: a notice names it.

With --vm --keep the machine stays when the check has ended, however it did,
until you press Ctrl-C or the time given is over; meanwhile assay vm shell enters
it from another terminal.`,
		Example: `  assay run greets/runtask.yml -i hello-1.0-1 -t koji_build --sources ~/src/hello
  assay run checks/ -i hello-1.0-1 -t koji_build --vm
  assay run greets -i hello-1.0-1 -t koji_build --vm --keep=30m
  assay run greets -i hello-1.0-1 -t koji_build --ssh me@devel.example.org:2222`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return runChecks(cmd.Context(), e, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.item, "item", "i", "", "what the check looks at, such as hello-1.0-1")
	f.StringVarP(&o.typ, "type", "t", "", "what kind of item it is, such as koji_build")
	f.StringVarP(&o.arch, "arch", "a", "noarch", "architecture")
	f.BoolVar(&o.local, "local", false, "run on this machine (the default)")
	f.BoolVar(&o.vm, "vm", false, "run in a disposable virtual machine")
	f.StringVar(&o.ssh, "ssh", "", "run on this host: user@host or user@host:port")
	f.StringVar(&o.sshKey, "ssh-key", "", "file with the one private key to try, for --ssh")
	f.Var(&o.keep, "keep", "with --vm, keep the machine afterwards, until Ctrl-C or for a time: --keep=30m")
	f.Lookup("keep").NoOptDefVal = "0s"
	f.StringVar(&o.sources, "sources", "", "directory with the package's source")
	f.StringVar(&o.builds, "builds", "", "directory with what was built")
	f.StringVar(&o.artifacts, "artifacts", "", "directory for what the check leaves (default: a new one)")
	f.StringVar(&o.image, "image", "", "image for --vm, instead of the formula's or "+config.Default().Machines.Image)
	return cmd
}

// check refuses flags that cannot go together.
func (o runOptions) check(cmd *cobra.Command) error {
	kinds := 0
	for _, chosen := range []bool{o.local, o.vm, cmd.Flags().Changed("ssh")} {
		if chosen {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return usagef(cmd, "--local, --vm and --ssh exclude each other")
	case o.keep.on && !o.vm:
		return usagef(cmd, "--keep needs --vm: only a virtual machine can be kept")
	case o.sshKey != "" && o.ssh == "":
		return usagef(cmd, "--ssh-key needs --ssh user@host")
	case o.typ == "" && o.item != "":
		return usagef(cmd, "--item needs --type: what kind of thing is %q?", o.item)
	case o.typ != "" && !slices.Contains(checks.ItemTypes(), o.typ):
		return usagef(cmd, "cannot use the type %q: write one of %s", o.typ, strings.Join(checks.ItemTypes(), ", "))
	}
	if cmd.Flags().Changed("ssh") {
		if _, _, err := ssh.ParseTarget(o.ssh); err != nil {
			return usageError(cmd, err)
		}
	}
	for flag, dir := range map[string]string{"--sources": o.sources, "--builds": o.builds} {
		if info, err := os.Stat(dir); dir != "" && (err != nil || !info.IsDir()) {
			return usagef(cmd, "cannot use %s %s: it is no directory", flag, dir)
		}
	}
	return nil
}

// runChecks runs what a path stands for; its error carries the worst verdict's
// exit code.
func runChecks(ctx context.Context, e *env, target string, o runOptions) error {
	formulas, err := readTarget(target)
	if err != nil {
		return err
	}
	if wanted := o.wanted(formulas); o.keep.on && len(wanted) > 1 {
		return &exitError{exitUsage, fmt.Errorf("cannot keep the machines of %d checks: name one: %s", len(wanted), strings.Join(wanted, ", "))}
	}
	machines, closeMachines, err := runMachines(ctx, e, o)
	if err != nil {
		return &exitError{exitErrored, err}
	}
	defer closeMachines()
	worst, ran := exitOK, 0
	for _, f := range formulas {
		c, err := runOne(ctx, e, machines, f, o)
		if err != nil {
			return err
		}
		if c.Verdict != assay.VerdictSkipped {
			ran++
		}
		worst = max(worst, exitCode(c.Verdict))
	}
	if ran == 0 {
		return &exitError{exitUsage, fmt.Errorf("nothing was run: no check below %s wants a %s", target, o.typ)}
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
		list = append(list, target{filepath.Join(name, filepath.Dir(filepath.FromSlash(f.Path))), f})
	}
	return list, err
}

// runOne runs one formula and says on the terminal how it went.
func runOne(ctx context.Context, e *env, machines runner.Machines, t target, o runOptions) (assay.Conclusion, error) {
	if !o.wants(t.formula) {
		fmt.Fprintf(e.err, "assay: %s does not want a %s, but %s: skipped\n", t.formula.Checkname(), o.typ, strings.Join(t.formula.Args, ", "))
		return assay.Conclusion{Verdict: assay.VerdictSkipped}, nil
	}
	for variable, dir := range map[string]string{assay.VarSources: o.sources, assay.VarBuilds: o.builds} {
		if t.formula.Uses(variable) && dir == "" {
			return assay.Conclusion{}, &exitError{exitUsage, fmt.Errorf("cannot run %s: it uses ${%s}: give the directory with --%s DIR", t.formula.Checkname(), variable, variable)}
		}
	}
	x := assay.Execution{
		ID: uuid.Must(uuid.NewV7()).String(), Check: t.formula.Checkname(),
		Item: o.item, Type: o.typ, Arch: o.arch, Attempt: 1, Package: t.formula.Name,
	}
	plan, err := t.formula.Plan(itemVars(x))
	if err != nil {
		return assay.Conclusion{}, &exitError{exitUsage, err}
	}
	artifacts, err := artifactsDir(o.artifacts)
	if err != nil {
		return assay.Conclusion{}, err
	}
	cfg := config.Default()
	spec, note := specOf(t.formula, x, images(cfg), cfg.Machines.Image)
	if note != "" && o.vm && o.image == "" {
		fmt.Fprintln(e.err, "assay:", note)
	}
	job := runner.Job{
		Execution: x, Plan: plan, Spec: spec, Vars: itemVars(x),
		Trees: map[string]string{assay.VarWorkdir: t.dir, assay.VarSources: o.sources, assay.VarBuilds: o.builds},
		Log:   e.out, Artifacts: artifacts,
		Console: func(b []byte) error { return os.WriteFile(filepath.Join(artifacts, "console.log"), b, 0o644) },
	}
	if o.image != "" {
		job.Spec.Image = o.image
	}
	if job.Spec.Arch == "noarch" {
		job.Spec.Arch = ""
	}
	if !o.vm {
		sayMissing(e, t.formula)
	}
	stays := &kept{env: e, execution: x.ID, flag: o.keep}
	job.Keep = stays.take
	c, err := newRunner(cfg, machines).Run(ctx, job)
	if err != nil {
		return c, errors.Join(err, stays.give(), removeEmpty(artifacts))
	}
	return c, errors.Join(sayEnd(e, t.formula, c, artifacts), stays.wait(ctx))
}

func sayEnd(e *env, f *checks.Formula, c assay.Conclusion, artifacts string) error {
	for _, r := range c.Results {
		fmt.Fprintf(e.err, "%-7s %s %s\n", r.Outcome, r.Checkname, r.Note)
	}
	fmt.Fprintf(e.err, "%s: %s: %s\n", f.Checkname(), c.Verdict, c.Reason)
	left, err := os.ReadDir(artifacts)
	if err == nil && len(left) > 0 {
		fmt.Fprintf(e.err, "artifacts: %s\n", artifacts)
	}
	return removeEmpty(artifacts)
}

// artifactsDir is the given directory, made if need be, or a new one.
func artifactsDir(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "assay-artifacts-")
		if err != nil {
			return "", fmt.Errorf("cannot make a directory for artifacts: %w", err)
		}
		return made, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the artifacts' directory: %w", err)
	}
	return filepath.Abs(dir)
}

// removeEmpty removes a directory that nothing was put into.
func removeEmpty(dir string) error {
	if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
		return os.Remove(dir)
	}
	return nil
}

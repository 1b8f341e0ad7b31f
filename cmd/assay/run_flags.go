package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner/ssh"
)

// addFlags enters the flags of assay run.
func (o *runOptions) addFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.item, "item", "i", "", "what the check looks at, such as hello-1.0-1")
	f.StringVarP(&o.typ, "type", "t", "", "what kind of item it is, such as koji_build")
	f.StringVarP(&o.arch, "arch", "a", "noarch", "architecture")
	f.StringArrayVar(&o.only, "check", nil, "run this check alone: a name, or a pattern; may be repeated")
	f.StringVar(&o.uuid, "uuid", "", "what ${uuid} is (default: a new UUID)")
	f.Var(&o.vars, "var", "NAME=VALUE: a variable; of a matrix, the variants with that value; may be repeated")
	f.Var(&o.secrets, "secret", "NAME=FILE: a secret that the formula asks for; may be repeated")
	f.BoolVar(&o.local, "local", false, "run on this machine (the default)")
	f.BoolVar(&o.vm, "vm", false, "run in a disposable virtual machine")
	f.StringVar(&o.ssh, "ssh", "", "run on this host: user@host or user@host:port")
	f.StringVar(&o.sshKey, "ssh-key", "", "file with the one private key to try, for --ssh")
	f.Var(&o.keep, "keep", "keep the machine afterwards, with --vm until Ctrl-C or for a time: --keep=30m; else its directory")
	f.Lookup("keep").NoOptDefVal = "0s"
	f.StringVar(&o.sources, "sources", "", "directory with the package's source")
	f.StringVar(&o.builds, "builds", "", "directory with what was built")
	f.StringVar(&o.needs, "needs", "", "directory with what other checks left, DIR/NAME for each, instead of running them")
	f.StringVar(&o.artifacts, "artifacts", "", "directory for what the check leaves (default: a new one)")
	f.StringVar(&o.results, "results-dir", "", "new directory for results, log, variables and artifacts")
	f.StringVar(&o.image, "image", "", "image for --vm, instead of the formula's or "+config.Default().Machines.Image)
	f.BoolVarP(&o.debug, "debug", "d", false, "tell every command, its exit code and time, and what is copied, on stderr")
	o.from.addFlags(f)
	o.addRuntaskFlags(f)
}

// addRuntaskFlags enters the spellings of Taskotron's runtask that mean the same
// (COMPAT.md 1.1, CLI).
func (o *runOptions) addRuntaskFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.vm, "libvirt", false, "--vm")
	f.StringVar(&o.sshKey, "ssh-privkey", "", "--ssh-key")
	f.Var(&o.keep, "no-destroy", "--keep")
	f.Lookup("no-destroy").NoOptDefVal = "0s"
	f.StringP("jobid", "j", "", "means nothing here")
	for _, name := range []string{"libvirt", "ssh-privkey", "no-destroy", "jobid"} {
		f.Lookup(name).Hidden = true
	}
}

// given is one NAME=VALUE of a flag.
type given struct{ name, value string }

// namedFlag is a flag of NAME=VALUE that may be repeated, but not for one name.
type namedFlag []given

// String is the flag's value as it would be written.
func (v *namedFlag) String() string {
	var parts []string
	for _, g := range *v {
		parts = append(parts, g.name+"="+g.value)
	}
	return strings.Join(parts, " ")
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,99}$`)

// Set reads a value.
func (v *namedFlag) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok || !identifier.MatchString(name) {
		return fmt.Errorf("cannot read %q: write NAME=VALUE", text)
	}
	if slices.ContainsFunc(*v, func(g given) bool { return g.name == name }) {
		return fmt.Errorf("cannot use two values for %s: write one", name)
	}
	*v = append(*v, given{name, value})
	return nil
}

// Type is what the help calls a value.
func (v *namedFlag) Type() string { return "NAME=VALUE" }

// runID is what an execution may be called.
var runID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// check refuses flags that cannot go together.
func (o runOptions) check(cmd *cobra.Command) error {
	for _, check := range []func(*cobra.Command) error{o.checkMachine, o.checkItem, o.checkPlaces, o.checkReplay} {
		if err := check(cmd); err != nil {
			return err
		}
	}
	return nil
}

func (o runOptions) checkMachine(cmd *cobra.Command) error {
	kinds := 0
	for _, chosen := range []bool{o.local, o.vm, cmd.Flags().Changed("ssh")} {
		if chosen {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return usagef(cmd, "--local, --vm and --ssh exclude each other")
	case o.keep.time > 0 && !o.vm:
		return usagef(cmd, "--keep=%s needs --vm: a directory stays until you remove it: write --keep", o.keep.time)
	case o.sshKey != "" && o.ssh == "":
		return usagef(cmd, "--ssh-key needs --ssh user@host")
	}
	if cmd.Flags().Changed("ssh") {
		if _, _, err := ssh.ParseTarget(o.ssh); err != nil {
			return usageError(cmd, err)
		}
	}
	return nil
}

func (o runOptions) checkItem(cmd *cobra.Command) error {
	switch {
	case o.typ == "" && o.item != "":
		return usagef(cmd, "--item needs --type: what kind of thing is %q?", o.item)
	case o.typ != "" && !slices.Contains(checks.ItemTypes(), o.typ):
		return usagef(cmd, "cannot use the type %q: write one of %s", o.typ, strings.Join(checks.ItemTypes(), ", "))
	case o.uuid != "" && !runID.MatchString(o.uuid):
		return usagef(cmd, "cannot use %q as --uuid: write letters, digits, - and _, at most 64", o.uuid)
	}
	return nil
}

func (o runOptions) checkPlaces(cmd *cobra.Command) error {
	for flag, dir := range map[string]string{"--sources": o.sources, "--builds": o.builds, "--needs": o.needs} {
		if info, err := os.Stat(dir); dir != "" && (err != nil || !info.IsDir()) {
			return usagef(cmd, "cannot use %s %s: it is no directory", flag, dir)
		}
	}
	if o.results == "" {
		return nil
	}
	if o.artifacts != "" {
		return usagef(cmd, "--artifacts and --results-dir exclude each other: artifacts go into artifacts/ below the results")
	}
	if left, err := os.ReadDir(o.results); err == nil && len(left) > 0 {
		return usagef(cmd, "cannot write results into %s: it is not empty: name a new directory", o.results)
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/local"
	"github.com/assay-ci/assay/runner/ssh"
)

// runMachines is where assay run runs.
func runMachines(ctx context.Context, cfg config.Config, log zerolog.Logger, o runOptions) (runner.Machines, func() error, error) {
	none := func() error { return nil }
	if o.ssh != "" {
		options, err := sshOptions(o.ssh, o.sshKey)
		options.Keep = o.keep.on
		options.Program = func(arch string) (string, error) { return agentFor(cfg, arch) }
		return ssh.Machines{Options: options}, none, err
	}
	if !o.vm {
		return local.Machines{Keep: o.keep.on}, none, nil
	}
	cfg.Machines.Waiting = 0 // nobody comes after this run
	return openMachines(ctx, cfg, log)
}

// located are machines that remember the directory of the newest one.
type located struct {
	runner.Machines
	dir string // "" while none came up
}

// Boot does as runner.Machines says.
func (l *located) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	m, err := l.Machines.Boot(ctx, spec)
	if err == nil {
		l.dir = m.Dir()
	}
	return m, err
}

// sshOptions are for a host of the user's own, with the user's own keys.
func sshOptions(target, key string) (ssh.Options, error) {
	user, address, err := ssh.ParseTarget(target)
	if err != nil {
		return ssh.Options{}, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ssh.Options{}, fmt.Errorf("cannot find ~/.ssh: %w: set HOME", err)
	}
	return ssh.Options{
		User: user, Address: address, Key: key, Dir: filepath.Join(home, ".ssh"),
		Known: []string{ssh.SystemKnown}, Agent: os.Getenv("SSH_AUTH_SOCK"),
	}, nil
}

// wants tells whether a check is to run.
func (o runOptions) wants(f *checks.Formula) bool { return o.typ == "" || f.Wants(o.typ) }

// sayMissing tells what a formula asks of its machine where that is taken as it
// is: nothing is installed on a host that stays.
func sayMissing(e *env, f *checks.Formula) {
	env := f.Environment
	var asks []string
	ask := func(what string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			asks = append(asks, what+" "+strings.Join(values, ", "))
		}
	}
	ask("image", env.Image)
	if env.CPUs > 0 {
		ask("cpus", fmt.Sprint(env.CPUs))
	}
	if env.Memory > 0 {
		ask("memory", runner.Bytes(env.Memory))
	}
	if env.Disk > 0 {
		ask("disk", runner.Bytes(env.Disk))
	}
	ask("rpm", env.RPM...)
	ask("deb", env.Deb...)
	ask("pip", env.Pip...)
	if len(env.Setup) > 0 {
		ask("setup", fmt.Sprintf("(%d commands)", len(env.Setup)))
	}
	ask("network", env.Network)
	if len(asks) > 0 {
		fmt.Fprintf(e.err, "assay: %s asks for what is not set up here, but only with --vm: %s\n", f.Checkname(), strings.Join(asks, "; "))
	}
}

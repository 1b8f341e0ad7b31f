// Package fake is a Machine that is steered by the formula itself, so that the
// story can be tested in milliseconds: commands really run, in a directory of
// this host, but some words make it behave as a disposable machine can.
//
//	image "unbootable"       Boot fails with a *runner.BootError
//	image "no-such-image"    Boot fails with an error of ours
//	command "poweroff"       the machine dies, and all that run on it
//
// It is for tests; it is no cage.
package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/local"
)

// Machines hands out fakes and counts them.
type Machines struct {
	Parent string // where their directories are made

	mu     sync.Mutex
	booted int
	alive  int
}

var _ runner.Machines = (*Machines)(nil)

// Console is what a fake says on its console when it dies.
const Console = "reboot: Power down\n"

// Boot makes a fake, or fails as Spec.Image asks.
func (m *Machines) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	switch spec.Image {
	case "unbootable":
		return nil, &runner.BootError{Console: []byte("Kernel panic - not syncing\n"), Err: errors.New("the guest never spoke")}
	case "no-such-image":
		return nil, fmt.Errorf("cannot find image %q: build it with: assay image build", spec.Image)
	}
	inner, err := local.Machines{Parent: m.Parent}.Boot(ctx, spec)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.booted, m.alive = m.booted+1, m.alive+1
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	return &machine{Machine: inner, owner: m, life: life, end: end}, nil
}

// Booted counts the machines that came up; Alive those that are not closed.
func (m *Machines) Booted() int { m.mu.Lock(); defer m.mu.Unlock(); return m.booted }

// Alive counts the machines that are not closed.
func (m *Machines) Alive() int { m.mu.Lock(); defer m.mu.Unlock(); return m.alive }

type machine struct {
	runner.Machine
	owner *Machines
	life  context.Context // ends when the machine dies or is closed
	end   context.CancelFunc
	once  sync.Once
}

var _ runner.Consoler = (*machine)(nil)

// during runs one call that ends with the machine.
func (m *machine) during(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.life, cancel)()
	if m.life.Err() != nil {
		return fmt.Errorf("%w: powered off", runner.ErrMachineDied)
	}
	err := call(ctx)
	if m.life.Err() != nil {
		return fmt.Errorf("%w: powered off", runner.ErrMachineDied)
	}
	return err
}

func (m *machine) Run(ctx context.Context, cmd runner.Command) (exit int, err error) {
	last := cmd.Argv[len(cmd.Argv)-1]
	if slices.Contains(strings.Fields(last), "poweroff") {
		m.end()
	}
	err = m.during(ctx, func(ctx context.Context) error {
		exit, err = m.Machine.Run(ctx, cmd)
		return err
	})
	return exit, err
}

func (m *machine) Push(ctx context.Context, dir string, tar io.Reader) error {
	return m.during(ctx, func(ctx context.Context) error { return m.Machine.Push(ctx, dir, tar) })
}

func (m *machine) Pull(ctx context.Context, dir string, tar io.Writer) error {
	return m.during(ctx, func(ctx context.Context) error { return m.Machine.Pull(ctx, dir, tar) })
}

func (m *machine) Console(limit int64) ([]byte, error) {
	return []byte(Console[:min(limit, int64(len(Console)))]), nil
}

func (m *machine) Close() error {
	m.once.Do(func() {
		m.end()
		m.owner.mu.Lock()
		defer m.owner.mu.Unlock()
		m.owner.alive--
	})
	return m.Machine.Close()
}

package main

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay/runner"
)

// traced are machines that tell of all that is done with them. Of a command's
// environment only the names are told: values may be secret.
type traced struct {
	runner.Machines
	log  zerolog.Logger
	mask func(string) string // hides secrets
}

// Boot does as runner.Machines says.
func (t traced) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	begun := time.Now()
	m, err := t.Machines.Boot(ctx, spec)
	e := t.log.Debug().Err(err).Str("execution", spec.Execution).Str("image", spec.Image).Str("arch", spec.Arch).
		Int("cpus", spec.CPUs).Str("memory", runner.Bytes(spec.Memory)).Str("network", spec.Network).Dur("took", time.Since(begun))
	if err != nil {
		e.Msg("no machine")
		return nil, err
	}
	e.Str("dir", m.Dir()).Msg("a machine is up")
	one := tracedMachine{m, t.log, t.mask}
	if full, ok := m.(fullMachine); ok {
		return tracedFull{one, full}, nil
	}
	return one, nil
}

// tracedMachine is one of them.
type tracedMachine struct {
	runner.Machine
	log  zerolog.Logger
	mask func(string) string
}

// fullMachine is what a virtual machine can do besides.
type fullMachine interface {
	runner.Consoler
	runner.Troubled
	Done() <-chan struct{}
}

// tracedFull is a traced virtual machine.
type tracedFull struct {
	tracedMachine
	fullMachine
}

// Run does as runner.Machine says.
func (m tracedMachine) Run(ctx context.Context, cmd runner.Command) (int, error) {
	var names []string
	for _, v := range cmd.Env {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	var argv []string
	for _, word := range cmd.Argv {
		argv = append(argv, m.mask(word))
	}
	begun := time.Now()
	exit, err := m.Machine.Run(ctx, cmd)
	m.log.Debug().Err(err).Strs("argv", argv).Str("dir", cmd.Dir).Strs("env", names).
		Int("exit", exit).Dur("took", time.Since(begun)).Msg("command")
	return exit, err
}

// Push does as runner.Machine says.
func (m tracedMachine) Push(ctx context.Context, dir string, tar io.Reader) error {
	n := &counted{r: tar}
	begun := time.Now()
	err := m.Machine.Push(ctx, dir, n)
	m.log.Debug().Err(err).Str("dir", dir).Int64("bytes", n.n.Load()).Dur("took", time.Since(begun)).Msg("pushed")
	return err
}

// Pull does as runner.Machine says.
func (m tracedMachine) Pull(ctx context.Context, dir string, tar io.Writer) error {
	n := &counted{w: tar}
	begun := time.Now()
	err := m.Machine.Pull(ctx, dir, n)
	m.log.Debug().Err(err).Str("dir", dir).Int64("bytes", n.n.Load()).Dur("took", time.Since(begun)).Msg("pulled")
	return err
}

// Close does as runner.Machine says.
func (m tracedMachine) Close() error {
	begun := time.Now()
	err := m.Machine.Close()
	m.log.Debug().Err(err).Dur("took", time.Since(begun)).Msg("the machine is given back")
	return err
}

// counted counts the bytes of a tar stream on their way; one of r and w is set.
type counted struct {
	r io.Reader
	w io.Writer
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Package local is this machine as a Machine: commands run as the user who
// started the program, in a directory that is removed afterwards. It keeps a
// check apart from nothing; it is for a maintainer's own checks.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/resulttool"
)

// Machines hands out directories of this machine.
type Machines struct {
	Parent string // where the directories are made; "" for the system's temporary one
	Keep   bool   // leave the directory behind on Close
}

var _ runner.Machines = Machines{}

// Boot makes a directory; Spec is not looked at.
func (m Machines) Boot(ctx context.Context, _ runner.Spec) (runner.Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(m.Parent, "assay-run-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory to run in: %w", err)
	}
	one := &machine{dir: dir, keep: m.Keep}
	if err := resulttool.Link(one.tools(), resulttool.Program()); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return one, nil
}

type machine struct {
	dir  string
	keep bool
	once sync.Once
	err  error
}

func (m *machine) Dir() string { return m.dir }

// tools is the directory with assay result, which every command has in its PATH.
func (m *machine) tools() string { return filepath.Join(m.dir, ".tools") }

// lingering is how long a command's output is still read after it has exited
// while a process that it left behind holds on to it.
const lingering = time.Second

func (m *machine) Run(ctx context.Context, cmd runner.Command) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	program := cmd.Argv[0]
	if slices.Contains(resulttool.Names(), program) {
		program = filepath.Join(m.tools(), program) // what is looked up here is looked up in our own PATH
	}
	c := exec.CommandContext(ctx, program, cmd.Argv[1:]...)
	c.Dir, c.Env = cmd.Dir, resulttool.InPath(append(os.Environ(), cmd.Env...), m.tools())
	if c.Dir == "" {
		c.Dir = m.dir
	}
	c.Stdin, c.Stdout, c.Stderr = cmd.Stdin, cmd.Stdout, cmd.Stderr
	// A group of its own, so that what the command started ends with it when
	// time is up.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = lingering
	return exitCode(ctx, c.Run())
}

// exitCode tells a command's own exit from our failing to run it.
func exitCode(ctx context.Context, err error) (int, error) {
	if ctx.Err() != nil {
		return 0, fmt.Errorf("the command was stopped: %w", ctx.Err())
	}
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		status, _ := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return 127, nil
	}
	return 0, fmt.Errorf("cannot run the command: %w", err)
}

func (m *machine) Push(ctx context.Context, dir string, tar io.Reader) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", dir, err)
	}
	return m.tar(ctx, runner.Command{Argv: []string{"tar", "-x", "-C", dir, "-f", "-"}, Stdin: tar})
}

func (m *machine) Pull(ctx context.Context, dir string, tar io.Writer) error {
	return m.tar(ctx, runner.Command{Argv: []string{"tar", "-c", "-C", dir, "-f", "-", "."}, Stdout: tar})
}

func (m *machine) tar(ctx context.Context, cmd runner.Command) error {
	var said bytes.Buffer
	cmd.Stderr = &said
	exit, err := m.Run(ctx, cmd)
	if err != nil {
		return err
	}
	if exit != 0 {
		return fmt.Errorf("cannot copy: tar exited with %d: %s", exit, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// Remove is os.RemoveAll for a tree that a check made: directories that it took
// its own permission away from are opened first.
func Remove(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) // what this cannot open, RemoveAll names
		}
		if err != nil {
			return fs.SkipDir
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func (m *machine) Close() error {
	m.once.Do(func() {
		if m.keep {
			return
		}
		m.err = Remove(m.dir)
	})
	if m.err != nil {
		return fmt.Errorf("cannot remove the run's directory: %w: remove %s by hand", m.err, m.dir)
	}
	return nil
}

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Machines hands out machines of one kind.
type Machines interface {
	// Boot brings up one machine for one execution and returns when it runs
	// commands. When the guest does not come up the error is a *BootError; any
	// other error is ours. Boot leaves nothing behind when it fails. The machine
	// outlives ctx, which bounds only the boot.
	Boot(ctx context.Context, spec Spec) (Machine, error)
}

// Spec says what machine an execution needs. Zero fields ask for the default of
// the kind of machine.
type Spec struct {
	Execution string // the execution's UUID: the machine's name and label
	Image     string // name of an image, "debian-12"
	Arch      string
	CPUs      int
	Memory    int64 // bytes
	Disk      int64 // bytes

	// Environment is installed before the machine is handed out.
	Environment Environment
	Network     string // "" or "none" for no network, "full"
	// Tell is told, in a line each, what takes long; it may be nil.
	Tell func(line string)
}

// Say tells Tell, if there is one.
func (s Spec) Say(format string, args ...any) {
	if s.Tell != nil {
		s.Tell(fmt.Sprintf(format, args...))
	}
}

// Machine is one machine, given to one execution. Its methods may be called
// from several goroutines. Whenever the machine itself is gone they return an
// error that wraps ErrMachineDied.
type Machine interface {
	// Dir is a directory in the machine that is the execution's own, absolute.
	Dir() string
	// Push unpacks a tar stream of plain files and directories into dir, an
	// absolute path, which is made if need be.
	Push(ctx context.Context, dir string, tar io.Reader) error
	// Run runs one command and waits for it. A non-zero exit is not an error; a
	// command that a signal ended exits with 128 + the signal. When ctx ends the
	// command is killed and the error wraps ctx.Err().
	Run(ctx context.Context, cmd Command) (exit int, err error)
	// Pull writes dir as a tar stream. What comes out is the guest's word:
	// reading it safely is the caller's part (see Extract).
	Pull(ctx context.Context, dir string, tar io.Writer) error
	// Close gives the machine back: a disposable one is destroyed with all that
	// belongs to it. It is safe to call twice; the second call does nothing.
	io.Closer
}

// Consoler is a Machine that keeps its console's output.
type Consoler interface {
	// Console returns the last limit bytes the machine printed on its console.
	// It works after Close and after the machine died.
	Console(limit int64) ([]byte, error)
}

// Troubled is a Machine that knows when its host is why something went wrong in it.
type Troubled interface {
	// Trouble tells what is wrong with the host right now, such as a full disk; nil
	// for nothing.
	Trouble() error
}

// Command is one command for a Machine.
type Command struct {
	Argv   []string // at least the program; looked up in the machine's PATH
	Dir    string   // working directory, absolute; "" for Machine.Dir
	Env    []string // "NAME=value", added to the machine's own
	Stdin  io.Reader
	Stdout io.Writer // nil discards
	Stderr io.Writer // nil discards
}

// ErrMachineDied tells that a machine that had come up is gone: powered off,
// panicked, or no longer speaking.
var ErrMachineDied = errors.New("the machine died")

// ErrMachineLost tells that a machine is gone for a reason of the host's, not of
// what ran in it: QEMU was killed, or nobody can tell. Such an error also wraps
// ErrMachineDied.
var ErrMachineLost = fmt.Errorf("%w, and not of itself", ErrMachineDied)

// BootError tells that a machine was started but never got as far as running
// commands.
type BootError struct {
	After   time.Duration // how long it was given
	Console []byte        // the end of what it printed
	Screen  []byte        // what was on its screen, as PNG; nil for a machine without one
	Err     error
}

func (e *BootError) Error() string {
	return fmt.Sprintf("cannot boot a machine (waited %s): %v", e.After.Round(time.Second), e.Err)
}

func (e *BootError) Unwrap() error { return e.Err }

var _ error = (*BootError)(nil)

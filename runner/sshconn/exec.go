package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
)

// stdinGrace is how long a command's end waits for a Stdin that is being read.
const stdinGrace = time.Second

// streams are what a command reads and writes; nil is nothing.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// execution is one command under way, on a channel of its own.
type execution struct {
	machine *Machine
	start   starting
	streams streams
	done    chan struct{} // closed when everything about it has ended
	exited  chan struct{} // closed when its exit status is here
	broken  chan error    // the first failure of a caller's stream
	moved   atomic.Uint64 // chunks of output so far

	mu      sync.Mutex
	channel ssh.Channel // nil until it is open
	killed  bool

	exit int   // valid after done
	err  error // valid after done
}

// starting is how a command is started.
type starting struct {
	line   string // for the peer's shell
	direct []byte // payload of an agent.ArgvRequest, tried first; nil for none
}

// exec runs a shell command line and returns when nothing of it is left here.
func (m *Machine) exec(ctx context.Context, line string, s streams) (int, error) {
	return m.execute(ctx, starting{line: line}, s)
}

func (m *Machine) execute(ctx context.Context, start starting, s streams) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, fmt.Errorf("cannot start a command: %w", err)
	}
	e := &execution{
		machine: m, start: start, streams: s, exit: -1,
		done: make(chan struct{}), exited: make(chan struct{}), broken: make(chan error, 1),
	}
	go func() {
		defer close(e.done)
		e.exit, e.err = e.run()
	}()
	if err := e.await(ctx); err != nil {
		return -1, err
	}
	return e.exit, e.err
}

// await returns when the command is done; with an error when it was ended for
// a reason of ours.
func (e *execution) await(ctx context.Context) error {
	var pause <-chan time.Time
	exited, seen := e.exited, uint64(0)
	for {
		select {
		case <-e.done:
			return nil
		case <-ctx.Done():
			e.abort()
			return fmt.Errorf("cannot finish the command, it was killed: %w", ctx.Err())
		case err := <-e.broken:
			e.abort()
			return err
		case <-exited:
			exited, seen = nil, e.moved.Load()
			pause = time.After(e.machine.options.Linger)
		case <-pause:
			// A stock sshd keeps the channel open as long as any process the command
			// left behind holds its output.
			if now := e.moved.Load(); now != seen {
				seen, pause = now, time.After(e.machine.options.Linger)
				continue
			}
			e.abort()
			return nil
		}
	}
}

// abort kills the command and waits until it is done. A machine that does not
// let go of it in time loses the connection, which ends every wait.
func (e *execution) abort() {
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		e.kill()
	}()
	late := time.AfterFunc(e.machine.options.KillGrace, func() {
		e.machine.giveUp(fmt.Errorf("it did not end a killed command within %s", e.machine.options.KillGrace))
	})
	defer late.Stop()
	<-killed
	<-e.done
}

// kill sends SIGKILL (RFC 4254, section 6.9) and closes the channel, which also
// ends it where signals are not served.
func (e *execution) kill() {
	e.mu.Lock()
	channel := e.channel
	e.killed = true
	e.mu.Unlock()
	if channel == nil {
		return // run closes it as soon as it is open
	}
	_, _ = channel.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{"KILL"}))
	_ = channel.Close() // errors say that the connection is gone, and run sees that
}

// opened hands the channel to kill; false when the command is to end already.
func (e *execution) opened(channel ssh.Channel) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.channel = channel
	return !e.killed
}

// run opens a channel, starts the command and carries its streams.
func (e *execution) run() (int, error) {
	channel, requests, err := e.machine.open()
	if err != nil {
		return -1, e.machine.failure("open a channel for", err)
	}
	if !e.opened(channel) {
		_ = channel.Close()
		ssh.DiscardRequests(requests) // until the machine has closed it too
		return -1, nil
	}
	status := make(chan exitStatus, 1)
	go func() { status <- e.watch(requests) }()
	if err = e.begin(channel); err != nil {
		_ = channel.Close()
		<-status
		return -1, e.machine.failure("start", err)
	}
	e.carry(channel, status)
	return (<-status).result(e)
}

// begin starts the command, in the quicker way if there is one. A peer that
// refuses that has started nothing.
func (e *execution) begin(channel ssh.Channel) error {
	if e.start.direct != nil {
		ok, err := channel.SendRequest(agent.ArgvRequest, true, e.start.direct)
		if ok || err != nil {
			return err
		}
	}
	ok, err := channel.SendRequest("exec", true, ssh.Marshal(struct{ Line string }{e.start.line}))
	if err == nil && !ok {
		err = errRefused
	}
	return err
}

var errRefused = errors.New("the machine refused to start it")

// carry copies the command's streams until the machine has closed the channel
// and all it sent is with the caller. It leaves the status in its channel.
func (e *execution) carry(channel ssh.Channel, status chan exitStatus) {
	var outputs sync.WaitGroup
	outputs.Go(func() { e.copyOut(e.streams.out, channel) })
	outputs.Go(func() { e.copyOut(e.streams.err, channel.Stderr()) })
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		e.feed(channel)
	}()
	outputs.Wait()
	status <- <-status // the channel is closed
	select {
	case <-fed:
	case <-time.After(stdinGrace):
	}
}

// copyOut copies one of the command's outputs.
func (e *execution) copyOut(w io.Writer, r io.Reader) {
	if w == nil {
		w = io.Discard
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Read(buffer)
		e.moved.Add(1)
		if n > 0 {
			if _, werr := w.Write(buffer[:n]); werr != nil {
				e.fail(fmt.Errorf("cannot take the command's output, it was killed: %w", werr))
				w = io.Discard // until the channel ends: nothing else may wait for us
			}
		}
		if err != nil {
			return // the only error is the channel's end
		}
	}
}

// feed copies the command's input and closes it.
func (e *execution) feed(channel ssh.Channel) {
	if e.streams.in != nil {
		input := &reader{Reader: e.streams.in}
		if _, err := io.Copy(channel, input); err != nil && input.err != nil {
			e.fail(fmt.Errorf("cannot read the command's input, it was killed: %w", input.err))
			return
		}
	}
	_ = channel.CloseWrite() // a command need not read its input
}

func (e *execution) fail(err error) {
	select {
	case e.broken <- err:
	default: // an earlier failure ends the command already
	}
}

// reader remembers the error that ended reading.
type reader struct {
	io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

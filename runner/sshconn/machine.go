// Package sshconn is a machine at the other end of an SSH connection: a
// disposable guest whose agent speaks SSH on a virtio-serial port, or a host
// with a stock sshd. It needs /bin/sh there, and tar for Push and Pull.
//
// The peer is not trusted. Its output is streamed with the flow control of
// RFC 4254, section 5.2, so that none of it piles up here; whatever it does not
// answer in time costs it the connection.
package sshconn

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/resulttool"
)

// Options tune a connection. Zero fields ask for the default.
type Options struct {
	Dir       string        // the execution's directory in the machine, absolute; it must exist
	KeepAlive time.Duration // how often the peer is asked whether it is there; 15 s
	Silence   time.Duration // how long it may take to answer; 60 s: an emulated guest can be slow
	KillGrace time.Duration // how long the end of a killed command may take; 30 s
	Linger    time.Duration // how long after a command's end its output may pause; 5 s
	// Tools is a directory in the machine that is in its PATH, and stays there for a
	// command with a PATH of its own; "" for none.
	Tools string
	// Direct tells that the peer is our agent, which starts programs without a
	// shell in between (agent.ArgvRequest).
	Direct bool
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.KeepAlive, 15 * time.Second}, {&o.Silence, time.Minute},
		{&o.KillGrace, 30 * time.Second}, {&o.Linger, 5 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}

// withTools is env, with Tools in the PATH that it may set.
func (o Options) withTools(env []string) []string {
	if o.Tools == "" || !slices.ContainsFunc(env, func(pair string) bool { return strings.HasPrefix(pair, "PATH=") }) {
		return env
	}
	return resulttool.InPath(env, o.Tools)
}

// Machine is a runner.Machine over one SSH connection, which it owns.
type Machine struct {
	client  *ssh.Client
	options Options
	closing chan struct{}  // closed by Close
	dead    chan struct{}  // closed when the connection is gone, whoever ended it
	owned   sync.WaitGroup // the connection's watchers, and what Listen began

	awake    sync.Mutex // held while the peer cannot answer, or is being asked
	forwards forwards   // what the machine listens on for us

	mu     sync.Mutex
	closed bool
	cause  error // why the connection was given up; nil while it was not
}

var _ runner.Machine = (*Machine)(nil)

// New makes a machine of an established connection and begins to watch it.
// Close ends both.
func New(client *ssh.Client, options Options) *Machine {
	m := &Machine{
		client:  client,
		options: options.withDefaults(),
		closing: make(chan struct{}),
		dead:    make(chan struct{}),
	}
	m.owned.Go(func() {
		err := client.Wait()
		m.giveUp(fmt.Errorf("the connection ended: %v", err))
		close(m.dead)
	})
	m.owned.Go(m.keepAlive)
	return m
}

// Dir is Options.Dir.
func (m *Machine) Dir() string { return m.options.Dir }

// Done is closed when the connection is gone, for whatever reason.
func (m *Machine) Done() <-chan struct{} { return m.dead }

// Run does as runner.Machine says. A Stdin whose Read blocks longer than the
// command runs is left behind after a second: nothing can interrupt it.
func (m *Machine) Run(ctx context.Context, cmd runner.Command) (int, error) {
	cmd.Env = m.options.withTools(cmd.Env)
	line, err := commandLine(cmd, m.options.Dir)
	if err != nil {
		return -1, err
	}
	start := starting{line: line}
	if m.options.Direct {
		start.direct = direct(cmd, m.options.Dir)
	}
	return m.execute(ctx, start, streams{cmd.Stdin, cmd.Stdout, cmd.Stderr})
}

// Push does as runner.Machine says; files belong to the user who logged in.
func (m *Machine) Push(ctx context.Context, dir string, tar io.Reader) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	said := &tail{limit: maxSaid}
	line := "mkdir -p " + quote(dir) + " && exec tar -x -o -C " + quote(dir) + " -f -"
	exit, err := m.exec(ctx, line, streams{tar, nil, said})
	if err != nil {
		return fmt.Errorf("cannot unpack into %s: %w", dir, err)
	}
	if exit != 0 {
		return fmt.Errorf("cannot unpack into %s: tar exited with %d: %s", dir, exit, said)
	}
	return nil
}

// Pull does as runner.Machine says. Files that change while they are read are
// no error: a check may leave processes behind.
func (m *Machine) Pull(ctx context.Context, dir string, tar io.Writer) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	said := &tail{limit: maxSaid}
	exit, err := m.exec(ctx, "LC_ALL=C exec tar -c -C "+quote(dir)+" -f - .", streams{nil, tar, said})
	if err != nil {
		return fmt.Errorf("cannot pack %s: %w", dir, err)
	}
	if exit != 0 && !(exit == 1 && said.has("we read it")) {
		return fmt.Errorf("cannot pack %s: tar exited with %d: %s", dir, exit, said)
	}
	return nil
}

// Close ends the connection, and with it every call that is under way.
func (m *Machine) Close() error {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	m.mu.Unlock()
	if first {
		close(m.closing)
		m.giveUp(errClosed)
	}
	m.owned.Wait()
	return nil
}

// keepAlive asks again and again whether the peer is there; one that does not
// answer in time has lost the connection.
func (m *Machine) keepAlive() {
	tick := time.NewTicker(m.options.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-m.closing:
			return
		case <-m.dead:
			return
		case <-tick.C:
		}
		if !m.awake.TryLock() {
			continue // it sleeps
		}
		silent := time.AfterFunc(m.options.Silence, func() {
			m.giveUp(fmt.Errorf("it has not answered for %s", m.options.Silence))
		})
		_, _, err := m.client.SendRequest("keepalive@openssh.com", true, nil)
		silent.Stop()
		m.awake.Unlock()
		if err != nil {
			return // the connection is gone, which client.Wait sees too
		}
	}
}

// Sleep tells that the peer is about to be paused: until Wake its silence means
// nothing. It waits for the answer to what it was asked last. The two are called
// in turn.
func (m *Machine) Sleep() { m.awake.Lock() }

// Wake tells that the peer runs on.
func (m *Machine) Wake() { m.awake.Unlock() }

// giveUp ends the connection. The first cause is kept.
func (m *Machine) giveUp(cause error) {
	m.mu.Lock()
	if m.cause == nil {
		m.cause = cause
	}
	m.mu.Unlock()
	_ = m.client.Close() // it may be closed already, and nothing is left to be lost
}

// died is the error for a call that the connection's end has cut off.
func (m *Machine) died(what error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cause != nil {
		what = m.cause
	}
	return fmt.Errorf("%w: %v", runner.ErrMachineDied, what)
}

func checkDir(dir string) error {
	if !path.IsAbs(dir) {
		return fmt.Errorf("cannot use the directory %q: it must be absolute", dir)
	}
	return checkText(dir)
}

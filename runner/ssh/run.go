package ssh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assay-ci/assay/runner"
)

// announce runs a command and says the number of its process first, which sshd
// has made the leader of a session and of a process group.
const announce = `echo $$; exec "$@"`

// announceWith does the same with the directory $1 in the command's PATH.
const announceWith = `echo $$; PATH=$1${PATH:+:$PATH}; export PATH; shift; exec "$@"`

// killTimeout is how long the command that kills another one may take.
const killTimeout = 10 * time.Second

// Run does as runner.Machine says. Commands run as the user who logged in.
//
// A command that is stopped is killed by another one: an sshd refuses to send
// signals to what root runs (OpenSSH, session_signal_req), and others do not
// know how to.
func (m *machine) Run(ctx context.Context, cmd runner.Command) (int, error) {
	if len(cmd.Argv) == 0 || strings.HasPrefix(cmd.Argv[0], "-") {
		return m.Machine.Run(ctx, cmd) // refuses it
	}
	if cmd.Dir == "" {
		cmd.Dir = m.dir
	}
	if err := ctx.Err(); err != nil {
		return -1, fmt.Errorf("cannot start a command: %w", err)
	}
	out := &numbered{w: cmd.Stdout}
	cmd.Argv, cmd.Stdout = append(m.announced(), cmd.Argv...), out
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		m.kill(ctx, out.number())
		cancel(context.Cause(ctx))
	})
	exit, err := m.Machine.Run(inner, cmd)
	if !stop() {
		<-killed
		return -1, fmt.Errorf("cannot finish the command, it was killed: %w", ctx.Err())
	}
	return exit, err
}

// announced is what stands before a command.
func (m *machine) announced() []string {
	if m.tools == "" {
		return []string{"/bin/sh", "-c", announce, "sh"}
	}
	return []string{"/bin/sh", "-c", announceWith, "sh", m.tools}
}

// kill kills a command with all that it started, if its number is known: one
// that has not said it yet ends with its channel.
func (m *machine) kill(ctx context.Context, number int) {
	if number == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	// Where it does not help the connection is given up.
	_, _ = m.Machine.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", `kill -s KILL -- "-$1"`, "sh", strconv.Itoa(number)}})
}

// numbered is the output of a command that says its process's number first.
type numbered struct {
	w io.Writer // nil discards

	mu    sync.Mutex
	begin []byte // while the line with the number is not whole
	whole bool
	pid   int // 0 while it is not known
}

// maxNumber bounds the line with the number, in bytes.
const maxNumber = 20

// Write takes the first line out and passes the rest on.
func (n *numbered) Write(p []byte) (int, error) {
	rest, err := n.take(p)
	if err == nil && len(rest) > 0 && n.w != nil {
		_, err = n.w.Write(rest)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// take is what of p is not of the first line.
func (n *numbered) take(p []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.whole {
		return p, nil
	}
	n.begin = append(n.begin, p[:min(len(p), maxNumber+1)]...)
	end := bytes.IndexByte(n.begin, '\n')
	if end < 0 && len(n.begin) <= maxNumber {
		return nil, nil
	}
	pid, err := strconv.Atoi(string(n.begin[:max(end, 0)]))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("the host said %q where a process's number was to come", clipped(string(n.begin)))
	}
	before := len(n.begin) - min(len(p), maxNumber+1) // of the line, in earlier writes
	n.whole, n.pid, n.begin = true, pid, nil
	return p[end+1-before:], nil
}

// number is the process's number; 0 while it is not known.
func (n *numbered) number() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pid
}

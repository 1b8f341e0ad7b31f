package agent

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxLeft is how much output is at most taken after the grace: all that a pipe
// can hold (pipe(7), F_SETPIPE_SZ), so that nothing the command itself printed
// is lost, however slowly the client reads.
const maxLeft = 1 << 20

// order is what a session wants to be started.
type order struct {
	line  string // for sh; without meaning for a login
	login bool   // the account's login shell
	path  string // a program, with argv, instead of line
	argv  []string
	env   []string
	dir   string // "" for Options.Dir
	tty   *tty   // nil for pipes
}

// command is one running process group with the pipes to it, or a session with
// its terminal.
type command struct {
	process *exec.Cmd
	group   *Group // nil without control groups
	grace   time.Duration
	tty     bool
	stdin   *os.File // with a terminal that, and stdout's file too
	stdout  *output
	stderr  *output // nil with a terminal

	mu     sync.Mutex
	reaped bool // the process group's number may mean another group now
}

// starter starts commands one after the other: protection from the
// out-of-memory killer is dropped for the moment of the fork, because a child
// inherits it and could fork again before anyone took it away.
type starter struct {
	options Options
	mu      sync.Mutex
}

// start does an order in a control group of its own, or without one where the
// kernel does not let it.
func (s *starter) start(o order) (*command, error) {
	if strings.IndexByte(o.line, 0) >= 0 {
		return nil, errors.New("cannot run a command line with a zero byte in it")
	}
	if s.options.Groups != nil {
		if c, err := s.startIn(s.options.Groups, o); err == nil {
			return c, nil
		}
	}
	return s.startIn(nil, o)
}

func (s *starter) startIn(groups *Groups, o order) (*command, error) {
	process := s.process(o)
	c := &command{process: process, grace: s.options.Grace, tty: o.tty != nil, group: groups.enter(process.SysProcAttr)}
	theirs, err := c.files(o.tty)
	if err == nil {
		err = s.fork(process)
	}
	closeAll(theirs)
	c.group.started()
	if err != nil {
		closeAll([]*os.File{c.stdin, c.stdout.file(), c.stderr.file()})
		c.group.leave()
		return nil, err
	}
	return c, nil
}

// process is the order's program with what it is given, not started.
func (s *starter) process(o order) *exec.Cmd {
	process := &exec.Cmd{SysProcAttr: &syscall.SysProcAttr{Setsid: true}, Env: append([]string{}, s.options.Env...)}
	switch {
	case o.login:
		own := ownAccount()
		// The hyphen makes it a login shell.
		process.Path, process.Args = own.shell, []string{"-" + filepath.Base(own.shell)}
		process.Env = append(process.Env, own.env()...)
	case o.path != "":
		process.Path, process.Args = o.path, o.argv
	default:
		process.Path, process.Args = "/bin/sh", []string{"/bin/sh", "-c", o.line}
	}
	if o.tty != nil {
		process.SysProcAttr.Setctty = true // its standard input
		process.Env = append(process.Env, "TERM="+o.tty.term)
	}
	process.Env = append(process.Env, o.env...)
	if process.Dir = o.dir; o.dir == "" {
		process.Dir = s.options.Dir
	}
	return process
}

// fork starts the process without the server's protection.
func (s *starter) fork(process *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Shielded {
		setScore(0)
		defer setScore(Shield)
	}
	return process.Start()
}

// files makes the terminal, or three pipes; theirs are the ends for the process.
func (c *command) files(t *tty) (theirs []*os.File, err error) {
	if t != nil {
		ours, their, err := t.open()
		if err != nil {
			return nil, err
		}
		c.stdin, c.stdout = ours, &output{pipe: ours, grace: c.grace}
		c.process.Stdin, c.process.Stdout, c.process.Stderr = their, their, their
		return []*os.File{their}, nil
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	theirs, c.stdin = append(theirs, in), stdin
	stdout, out, err := os.Pipe()
	if err != nil {
		return theirs, err
	}
	theirs, c.stdout = append(theirs, out), &output{pipe: stdout, grace: c.grace}
	stderr, errs, err := os.Pipe()
	if err != nil {
		return theirs, err
	}
	theirs, c.stderr = append(theirs, errs), &output{pipe: stderr, grace: c.grace}
	c.process.Stdin, c.process.Stdout, c.process.Stderr = in, out, errs
	return theirs, nil
}

// feed carries the command's input until the client ends it or the command
// takes no more.
func (c *command) feed(channel ssh.Channel) {
	if c.tty {
		c.typed(channel)
		return
	}
	_, _ = io.Copy(c.stdin, channel) // a command need not read its input
	_ = c.stdin.Close()
}

// carry brings the command's output to the channel until the command has
// ended and its output is with the client, and tells how it ended. Processes
// that the command left behind keep running, and their output is lost after the
// grace; but what it left on a terminal is killed.
func (c *command) carry(channel ssh.Channel) syscall.WaitStatus {
	var outputs sync.WaitGroup
	outputs.Go(func() { c.stdout.carry(channel) })
	if c.stderr != nil {
		outputs.Go(func() { c.stderr.carry(channel.Stderr()) })
	}
	if c.tty {
		awaitExit(c.process.Process.Pid)
		c.kill()
	}
	_ = c.process.Wait() // how it ended is in ProcessState
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	c.stdout.expire()
	c.stderr.expire()
	outputs.Wait()
	_ = c.stdin.Close() // a writer that waits for a reader gives up
	status, _ := c.process.ProcessState.Sys().(syscall.WaitStatus)
	return status
}

// signal sends a signal to the process group while the command runs, on a
// terminal to the one in the foreground.
func (c *command) signal(signal syscall.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return false
	}
	group := c.process.Process.Pid
	if c.tty {
		group = c.foreground()
	}
	return syscall.Kill(-group, signal) == nil
}

// kill ends the command with all that it started, if it still runs.
func (c *command) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.group.kill()
	_ = syscall.Kill(-c.process.Process.Pid, syscall.SIGKILL)
	if c.tty {
		killSession(c.process.Process.Pid)
	}
}

// output is the reading end of what a command prints to.
type output struct {
	pipe    *os.File
	grace   time.Duration
	expired atomic.Pointer[time.Time] // when the grace ends; nil while the command runs
}

func (o *output) file() *os.File {
	if o == nil {
		return nil
	}
	return o.pipe
}

// expire begins the grace.
func (o *output) expire() {
	if o == nil {
		return
	}
	end := time.Now().Add(o.grace)
	o.expired.Store(&end)
	_ = o.pipe.SetReadDeadline(end)
}

// carry copies to w until nobody can print any more, w takes no more, or the
// grace is over and the pipe is empty.
func (o *output) carry(w io.Writer) {
	defer func() { _ = o.pipe.Close() }() // whoever still prints gets SIGPIPE
	buffer := make([]byte, 32<<10)
	for left := maxLeft; left > 0; {
		late := o.late()
		if late {
			_ = o.pipe.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		}
		n, err := o.pipe.Read(buffer)
		if late {
			left -= n
		}
		if n > 0 {
			if _, werr := w.Write(buffer[:n]); werr != nil {
				return
			}
		}
		if err != nil && (late || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return
		}
	}
}

// late tells whether the grace is over.
func (o *output) late() bool {
	end := o.expired.Load()
	return end != nil && !time.Now().Before(*end)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is where a person sits, or what stands in for him.
type Terminal struct {
	In       *os.File  // what he types; nil for nothing
	Out, Err io.Writer // what he sees; nil discards
	Term     string    // what kind of terminal it is, his TERM
	Greeting string    // a line that tells how to leave; said on Err if In is a terminal
}

// interactive tells whether a person types and sees what comes.
func (t Terminal) interactive() bool {
	out, ok := t.Out.(*os.File)
	return ok && t.In != nil && term.IsTerminal(int(t.In.Fd())) && term.IsTerminal(int(out.Fd()))
}

// Shell enters the machine whose socket is served at that path, with a login
// shell, or with a command and its arguments, and returns when that has ended:
// exit is 0 to 255, and 128 with the signal's number after a signal. When In and
// Out are terminals the command has one, and In is raw meanwhile; otherwise the
// streams stay apart. Whatever happens, In is given back as it was. The error
// wraps fs.ErrNotExist or syscall.ECONNREFUSED when nobody serves the socket,
// fs.ErrPermission when it is somebody else's, and ctx.Err() when ctx ended.
func Shell(ctx context.Context, socket string, t Terminal, command []string) (exit int, err error) {
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("left the machine: %w", ctx.Err())
		}
	}()
	client, err := dial(ctx, socket)
	if err != nil {
		return -1, err
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	gone := make(chan struct{})
	go func() {
		_ = client.Wait()
		close(gone)
	}()
	defer func() {
		_ = client.Close() // everything has been said, or cannot be
		<-gone
	}()
	session, err := open(client, gone)
	if err != nil {
		return -1, err
	}
	p := &person{Terminal: t, client: client, session: session}
	return p.run(command)
}

// dial reaches the socket's server.
func dial(ctx context.Context, socket string) (*ssh.Client, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("cannot enter the machine: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	// Whoever serves the private socket is the right one: its key proves nothing.
	config := &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	conn, channels, requests, err := ssh.NewClientConn(raw, "", config)
	if err != nil {
		_ = raw.Close() // the failure is what counts
		return nil, fmt.Errorf("cannot enter the machine: whoever runs it turned us away: %v: too many are in it, or it is ending", err)
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// open opens a session, or finds that the connection is gone. The library waits
// for ever for the answer to a request that it takes just as its connection
// ends; that goroutine cannot be ended, and costs no more than its stack.
func open(client *ssh.Client, gone <-chan struct{}) (*ssh.Session, error) {
	type answer struct {
		session *ssh.Session
		err     error
	}
	answered := make(chan answer, 1)
	go func() {
		session, err := client.NewSession()
		answered <- answer{session, err}
	}()
	select {
	case a := <-answered:
		var refused *ssh.OpenChannelError
		if errors.As(a.err, &refused) {
			return nil, fmt.Errorf("cannot enter the machine: %s", refused.Message)
		}
		if a.err != nil {
			return nil, fmt.Errorf("cannot enter the machine: %v", a.err)
		}
		return a.session, nil
	case <-gone:
		return nil, errors.New("cannot enter the machine: whoever runs it has ended")
	}
}

// person is one session from the person's side.
type person struct {
	Terminal
	client  *ssh.Client
	session *ssh.Session
	unseen  atomic.Pointer[error] // why something could not be shown
}

// run starts the command and returns when it has ended, nothing is left to be
// shown and the terminal is as it was.
func (p *person) run(command []string) (exit int, err error) {
	p.session.Stdout, p.session.Stderr = p.guard(p.Out), p.guard(p.Err)
	input, err := p.session.StdinPipe()
	if err != nil {
		return -1, fmt.Errorf("cannot enter the machine: %w", err)
	}
	interactive := p.interactive()
	if interactive {
		if err := p.askForTerminal(); err != nil {
			return -1, err
		}
	}
	if err := p.start(command); err != nil {
		return -1, fmt.Errorf("cannot start it in the machine: %v", err)
	}
	if interactive {
		restore, err := p.raw()
		if err != nil {
			return -1, err
		}
		defer restore()
	}
	stop, err := copyInput(p.In, input)
	if err != nil {
		return -1, err
	}
	err = p.session.Wait()
	_ = p.client.Close() // so that nothing that is being typed holds us up
	stop()
	if unseen := p.unseen.Load(); unseen != nil {
		return -1, fmt.Errorf("cannot show what the machine prints: %w", *unseen)
	}
	return exitOf(err)
}

func (p *person) start(command []string) error {
	if len(command) == 0 {
		return p.session.Shell()
	}
	return p.session.Start(line(command))
}

func (p *person) askForTerminal() error {
	columns, rows, err := term.GetSize(int(p.In.Fd()))
	if err != nil {
		columns, rows = 0, 0 // the machine takes the usual
	}
	if err := p.session.RequestPty(p.Term, rows, columns, nil); err != nil {
		return fmt.Errorf("cannot have a terminal in the machine: %v: TERM is %q", err, p.Term)
	}
	return nil
}

// raw hands the terminal over to the machine; restore takes it back.
func (p *person) raw() (restore func(), err error) {
	if p.Greeting != "" && p.Err != nil {
		_, _ = fmt.Fprintln(p.Err, p.Greeting) // nobody who cannot be told needs to be
	}
	fd := int(p.In.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("cannot hand the terminal over: %w", err)
	}
	unwatch := p.watchWindow(fd)
	return func() {
		unwatch()
		_ = term.Restore(fd, before) // a terminal that is gone needs no more
	}, nil
}

// watchWindow tells the machine of each new size of the window.
func (p *person) watchWindow(fd int) (stop func()) {
	changed, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changed, unix.SIGWINCH)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			if columns, rows, err := term.GetSize(fd); err == nil {
				_ = p.session.WindowChange(rows, columns) // an ending session ends us
			}
		}
	})
	return func() {
		signal.Stop(changed)
		close(done)
		watcher.Wait()
	}
}

// guard ends the session when nobody takes what it prints: the machine would
// wait for ever.
func (p *person) guard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return guarded{w, p}
}

type guarded struct {
	io.Writer
	person *person
}

func (g guarded) Write(b []byte) (int, error) {
	n, err := g.Writer.Write(b)
	if err != nil {
		g.person.unseen.Store(&err)
		_ = g.person.client.Close()
	}
	return n, err
}

// exitOf reads a session's end.
func exitOf(err error) (int, error) {
	var ended *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &ended):
		return ended.ExitStatus() & 0xff, nil
	case errors.As(err, &missing):
		return -1, errors.New("the machine is gone: it was given back, or died")
	}
	return -1, fmt.Errorf("cannot tell how it ended in the machine: %v", err)
}

// line is a command for the machine's shell: each argument one word.
func line(command []string) string {
	words := make([]string, len(command))
	for i, word := range command {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

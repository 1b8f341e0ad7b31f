package attach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
)

func TestCommands(t *testing.T) {
	h := newHouse(t, nil)
	for _, test := range []struct {
		command     []string
		in          string
		out, errout string
		exit        int
	}{
		{command: []string{"echo", "it's", "a b", "$HOME", ""}, out: "it's a b $HOME \n"},
		{command: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}, out: "out\n", errout: "err\n", exit: 7},
		{command: []string{"sh", "-c", "kill -TERM $$"}, exit: 143},
		{command: []string{"no-such-program"}, exit: 127, errout: "not found"},
		{command: []string{"pwd"}, out: h.dir + "\n"},
		{command: []string{"cat"}, in: strings.Repeat("0123456789\n", 1<<17), out: strings.Repeat("0123456789\n", 1<<17)},
		{command: []string{"test", "-t", "0"}, exit: 1},
		{in: "echo from a shell; exit 3\n", out: "from a shell\n", exit: 3},
	} {
		var out, errout bytes.Buffer
		exit, err := Shell(t.Context(), h.socket, Terminal{In: input(t, test.in), Out: &out, Err: &errout, Greeting: "hello"}, test.command)
		if err != nil || exit != test.exit || out.String() != test.out || !strings.Contains(errout.String(), test.errout) {
			t.Errorf("%q: exit %d, %v; %d bytes of output: %.100q; %q", test.command, exit, err, out.Len(), out.String(), errout.String())
		}
		if strings.Contains(errout.String(), "hello") {
			t.Errorf("%q: a script was greeted", test.command)
		}
	}
}

func TestShellAtATerminal(t *testing.T) {
	h := newHouse(t, nil)
	s := newScreen(t)
	before := settings(t, s)
	done := h.enter(t.Context(), s)
	s.await(`(leave with exit)`)
	s.typed("PS1=rea''dy; stty -echo\n")
	s.await(`(ready)`)
	s.typed("echo \"$TERM <$(stty size)>\"\n")
	s.await(`xterm <(33 99)>`)
	s.await(`(ready)`)
	if err := pty.Setsize(s.tty, &pty.Winsize{Rows: 44, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	s.typed("until test \"$(stty size)\" = '44 111'; do :; done; echo new''size\n")
	s.await(`(newsize)`)
	s.await(`(ready)`)
	// It is up when it has printed something: a shell that has may still lose ^C.
	if err := os.WriteFile(filepath.Join(h.dir, "greeting"), []byte("up1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.typed("tail -f greeting\n")
	s.await(`(up1)`)
	s.typed("\x03") // reaches the machine, not this process
	s.await(`(ready)`)
	s.typed("exit 9\n")
	if r := <-done; r.exit != 9 || r.err != nil {
		t.Errorf("exit 9 came back as %d, %v", r.exit, r.err)
	}
	if after := settings(t, s); after != before {
		t.Error("the terminal is not as it was")
	}
}

func TestTerminalIsGivenBack(t *testing.T) {
	for name, cut := range map[string]func(*house, context.CancelFunc){
		"the person's process is told to end": func(_ *house, cancel context.CancelFunc) { cancel() },
		"the server ends":                     func(h *house, _ context.CancelFunc) { h.end() },
		"the machine dies":                    func(h *house, _ context.CancelFunc) { _ = h.machine.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			s := newScreen(t)
			before := settings(t, s)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := h.enter(ctx, s, "sh", "-c", "echo up$((1)); cat")
			s.await(`(up1)`)
			if during := settings(t, s); during == before {
				t.Error("the terminal is not raw")
			}
			cut(h, cancel)
			if r := <-done; r.err == nil || ctx.Err() != nil && !errors.Is(r.err, ctx.Err()) {
				t.Errorf("it ended with %d, %v", r.exit, r.err)
			}
			if after := settings(t, s); after != before {
				t.Error("the terminal is not as it was")
			}
		})
	}
}

func TestRecord(t *testing.T) {
	h := newHouse(t, nil)
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Shell(t.Context(), h.socket, Terminal{}, []string{"sh", "-c", "exit 3", "\x1b[2J\n" + strings.Repeat("x", 2000)}); err != nil {
		t.Fatal(err)
	}
	for i, ended := range []bool{false, true} {
		a := <-h.told
		if a.UID != os.Getuid() || a.PID != os.Getpid() || a.User != own.Username || a.Terminal || a.Begun.IsZero() || a.Ended.IsZero() == ended {
			t.Errorf("record %d: %+v", i, a)
		}
		if !strings.HasPrefix(a.Command, `'sh' '-c' 'exit 3' '\x1b[2J\nxxx`) || len(a.Command) > maxSaid+100 {
			t.Errorf("record %d: the command is %q", i, a.Command)
		}
		if want := map[bool]int{false: -1, true: 3}[ended]; a.Exit != want {
			t.Errorf("record %d: exit %d, want %d", i, a.Exit, want)
		}
	}
	s := newScreen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := h.enter(ctx, s)
	if a := <-h.told; a.Command != "" || !a.Terminal {
		t.Errorf("a shell is %+v", a)
	}
	cancel()
	<-done
	if a := <-h.told; a.Ended.IsZero() {
		t.Errorf("a shell that was left is %+v", a)
	}
}

func TestSlowReaderLosesNothing(t *testing.T) {
	h := newHouse(t, nil)
	const size = 8 << 20
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan result, 1)
	go func() {
		exit, err := Shell(t.Context(), h.socket, Terminal{Out: w}, []string{"head", "-c", strconv.Itoa(size), "/dev/zero"})
		_ = w.Close()
		done <- result{exit, err}
	}()
	total, buffer := 0, make([]byte, 1500)
	for {
		n, err := r.Read(buffer)
		total += n
		if err != nil {
			break
		}
	}
	if got := <-done; total != size || got != (result{}) {
		t.Errorf("%d of %d bytes came, %+v", total, size, got)
	}
}

// broken takes nothing.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestNobodyTakesTheOutput(t *testing.T) {
	h := newHouse(t, nil)
	if _, err := Shell(t.Context(), h.socket, Terminal{Out: broken{}}, []string{"yes"}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it ended with %v", err)
	}
	<-h.told
	if a := <-h.told; a.Ended.IsZero() {
		t.Errorf("the command goes on: %+v", a)
	}
}

func TestTooMany(t *testing.T) {
	h := newHouse(t, func(o *Options) { o.Sessions = 2 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan result, 2)
	for range 2 {
		go func() {
			exit, err := Shell(ctx, h.socket, Terminal{}, []string{"sleep", "1000"})
			done <- result{exit, err}
		}()
		<-h.told
	}
	if _, err := Shell(t.Context(), h.socket, Terminal{}, []string{"true"}); err == nil || !strings.Contains(err.Error(), "2 shells and commands run in this machine already") {
		t.Errorf("one more ended with %v", err)
	}
	cancel()
	<-done
	<-done
	<-h.told
	<-h.told
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	for path, want := range map[string]error{filepath.Join(dir, "none"): fs.ErrNotExist, dead: syscall.ECONNREFUSED} {
		if _, err := Shell(t.Context(), path, Terminal{}, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	h := newHouse(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Shell(ctx, h.socket, Terminal{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := h.machine.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Shell(t.Context(), h.socket, Terminal{}, nil); err == nil || !strings.Contains(err.Error(), "the machine died") {
		t.Errorf("a dead machine: %v", err)
	}
	info, err := os.Stat(h.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	pipe, far := net.Pipe()
	defer func() { _, _ = pipe.Close(), far.Close() }()
	if _, err := peer(pipe); err == nil {
		t.Error("a connection that tells no user was let in")
	}
}

func TestHostileMachines(t *testing.T) {
	agree := func(requests <-chan *ssh.Request) {
		for request := range requests {
			if request.WantReply {
				_ = request.Reply(true, nil)
			}
			if request.Type == "exec" {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		serve func(ssh.Channel, <-chan *ssh.Request)
		exit  int
		say   string
	}{
		"refuses the command": {exit: -1, say: "cannot start it", serve: func(_ ssh.Channel, requests <-chan *ssh.Request) {
			ssh.DiscardRequests(requests)
		}},
		"closes what was not started": {exit: -1, say: "cannot start it", serve: func(c ssh.Channel, requests <-chan *ssh.Request) {
			_ = c.Close()
			ssh.DiscardRequests(requests)
		}},
		"says nothing of the end": {exit: -1, say: "the machine is gone", serve: func(c ssh.Channel, requests <-chan *ssh.Request) {
			agree(requests)
			_ = c.Close()
		}},
		"floods with requests and ends": {exit: 5, serve: func(c ssh.Channel, requests <-chan *ssh.Request) {
			agree(requests)
			for range 200 {
				_, _ = c.SendRequest("exit-status", false, []byte("no number"))
				_, _ = c.SendRequest("x11-req", false, make([]byte, 1000))
			}
			for _, exit := range []uint32{5 + 256, 6} {
				_, _ = c.SendRequest("exit-status", false, ssh.Marshal(struct{ E uint32 }{exit}))
			}
			_ = c.Close()
		}},
		"is ended by a signal nobody knows": {exit: 128, serve: func(c ssh.Channel, requests <-chan *ssh.Request) {
			agree(requests)
			_, _ = c.SendRequest("exit-signal", false, ssh.Marshal(struct{ S, R string }{"\x1b[2J", "x"}))
			_ = c.Close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := guest(t, test.serve)
			exit, err := Shell(t.Context(), h.socket, Terminal{}, []string{"x"})
			if exit != test.exit || test.say == "" && err != nil || test.say != "" && (err == nil || !strings.Contains(err.Error(), test.say)) {
				t.Errorf("exit %d, %v; want %d, %s", exit, err, test.exit, test.say)
			}
		})
	}
}

func TestSilentMachineIsLeft(t *testing.T) {
	entered := make(chan struct{})
	h := guest(t, func(_ ssh.Channel, requests <-chan *ssh.Request) {
		for range requests { // never answered
			close(entered)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan result, 1)
	go func() {
		exit, err := Shell(ctx, h.socket, Terminal{}, []string{"x"})
		done <- result{exit, err}
	}()
	<-entered
	cancel()
	if r := <-done; !errors.Is(r.err, context.Canceled) {
		t.Errorf("it ended with %d, %v", r.exit, r.err)
	}
}

func TestOnlySessions(t *testing.T) {
	h := newHouse(t, nil)
	client, err := dial(t.Context(), h.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a connection was forwarded")
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"subsystem", "x11-req", "auth-agent-req@openssh.com", agent.DirRequest} {
		if ok, err := session.SendRequest(name, true, ssh.Marshal(struct{ S string }{"/"})); ok || err != nil {
			t.Errorf("%s was answered with %t, %v", name, ok, err)
		}
	}
	if err := session.Start("cat"); err != nil {
		t.Error(err)
	}
	if err := session.Start("cat"); err == nil {
		t.Error("a second command was started")
	}
}

// FuzzRecorded has what a client says it runs go into a log.
func FuzzRecorded(f *testing.F) {
	f.Add("exec", ssh.Marshal(struct{ L string }{"ls\n\x1b]0;title\x07 \"x\" \xff \u202e"}))
	f.Add("shell", []byte{})
	f.Add("exec", []byte{0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		a, ok := Access{}.started(&ssh.Request{Type: name, Payload: payload})
		if ok != !a.Begun.IsZero() || !ok && a.Command != "" {
			t.Errorf("%q %q is %+v", name, payload, a)
		}
		if len(a.Command) > 10*maxSaid+3 || strings.ContainsFunc(a.Command, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
			t.Errorf("%q is recorded as %q", payload, a.Command)
		}
	})
}

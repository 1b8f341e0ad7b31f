package attach

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/sshconn"
)

// house is a machine with its agent in this process, and its socket.
type house struct {
	t       *testing.T
	dir     string
	socket  string
	machine *sshconn.Machine
	cancel  context.CancelFunc
	served  chan error

	mu       sync.Mutex
	accesses []Access
	told     chan Access
}

// newHouse serves a machine; change may be nil.
func newHouse(t *testing.T, change func(*Options)) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), served: make(chan error, 1), told: make(chan Access, 100)}
	server, err := agent.NewServer(agent.Options{Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := sockets(t)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(context.Background(), theirs) }) // it says how we left
	conn, channels, requests, err := ssh.NewClientConn(ours, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	h.machine = sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: h.dir})
	options := Options{Open: h.machine.OpenSession, Dir: h.dir, Record: h.record}
	if change != nil {
		change(&options)
	}
	h.serve(options)
	t.Cleanup(func() {
		h.end()
		serving.Wait()
	})
	return h
}

func (h *house) serve(options Options) {
	h.t.Helper()
	h.socket = filepath.Join(h.t.TempDir(), SocketName)
	l, err := Listen(h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	go func() { h.served <- Serve(ctx, l, options) }()
}

// end ends the server the way its owner does; twice does nothing.
func (h *house) end() {
	if h.cancel == nil {
		return
	}
	h.cancel()
	h.cancel = nil
	if err := h.machine.Close(); err != nil {
		h.t.Error(err)
	}
	if err := <-h.served; err != nil {
		h.t.Errorf("the server ended with %v", err)
	}
}

func (h *house) record(a Access) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accesses = append(h.accesses, a)
	h.told <- a
}

// sockets are the two ends of one connection.
func sockets(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 2)
	for i, fd := range ends {
		file := os.NewFile(uintptr(fd), "socket")
		conns[i], err = net.FileConn(file)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return conns[0], conns[1]
}

// input is a file that holds text and then ends.
func input(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

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

// screen is a person's terminal: typed on one end, read by the program on the other.
type screen struct {
	t    *testing.T
	keys *os.File // the person's end
	tty  *os.File
	seen bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close(); _ = tty.Close() })
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	return &screen{t: t, keys: keys, tty: tty}
}

func (s *screen) typed(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, text); err != nil {
		s.t.Fatal(err)
	}
}

// await reads until a pattern has been shown and returns its first group.
func (s *screen) await(pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		if m := re.FindSubmatchIndex(s.seen.Bytes()); m != nil {
			group := string(s.seen.Bytes()[m[2]:m[3]])
			s.seen.Next(m[1])
			return group
		}
		if _, err := io.CopyN(&s.seen, s.keys, 1); err != nil {
			s.t.Fatalf("waited for %s: %v; got %q", pattern, err, s.seen.String())
		}
	}
}

// result is what Shell returned.
type result struct {
	exit int
	err  error
}

// enter starts Shell at a terminal.
func (h *house) enter(ctx context.Context, s *screen, command ...string) <-chan result {
	done := make(chan result, 1)
	go func() {
		exit, err := Shell(ctx, h.socket, Terminal{In: s.tty, Out: s.tty, Err: s.tty, Term: "xterm", Greeting: "leave with exit"}, command)
		done <- result{exit, err}
	}()
	return done
}

// settings are those of a terminal.
func settings(t *testing.T, s *screen) term.State {
	t.Helper()
	state, err := term.GetState(int(s.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return *state
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
	s.typed("sh -c 'echo up$((1)); sleep 1000'\n")
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

// guest is a machine that does with each session what serve says.
func guest(t *testing.T, serve func(ssh.Channel, <-chan *ssh.Request)) *house {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	ours, theirs := sockets(t)
	var parts sync.WaitGroup
	parts.Go(func() {
		conn, channels, requests, err := ssh.NewServerConn(theirs, config)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		parts.Go(func() { ssh.DiscardRequests(requests) })
		for offered := range channels {
			if channel, requests, err := offered.Accept(); err == nil {
				parts.Go(func() { serve(channel, requests) })
			}
		}
	})
	conn, channels, requests, err := ssh.NewClientConn(ours, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, served: make(chan error, 1), told: make(chan Access, 100)}
	h.machine = sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: "/"})
	h.serve(Options{Open: h.machine.OpenSession, Record: h.record})
	t.Cleanup(func() { h.end(); parts.Wait() })
	return h
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

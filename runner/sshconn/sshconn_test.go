package sshconn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/resulttool"
	"github.com/assay-ci/assay/runner/runnertest"
	"github.com/assay-ci/assay/runner/sshconn"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// connect makes the machine at the client's end.
func connect(t *testing.T, raw net.Conn, options sshconn.Options) *sshconn.Machine {
	t.Helper()
	return sshconn.New(sshtest.Client(t, raw, ssh.Config{}), options)
}

// agents boots machines whose agent runs in this process.
type agents struct {
	t       *testing.T
	dir     string
	tools   string // what is in PATH besides the host's programs
	direct  bool
	serving *sync.WaitGroup
}

func (a agents) Boot(ctx context.Context, _ runner.Spec) (runner.Machine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	server, err := agent.NewServer(agent.Options{Env: resulttool.InPath(os.Environ(), a.tools), Dir: a.dir})
	if err != nil {
		return nil, err
	}
	client, far := sshtest.Pair(a.t)
	a.serving.Go(func() { _ = server.Serve(a.t.Context(), far) }) // it says how the client left
	return connect(a.t, client, sshconn.Options{Dir: a.dir, Tools: a.tools, Direct: a.direct}), nil
}

func TestMain(m *testing.M) { runnertest.Main(m) }

// tools is a directory with assay result, as the agent's own program makes one.
func tools(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	dir := t.TempDir()
	if err == nil {
		err = resulttool.Link(dir, self)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestConformance demands the same of programs that the agent starts by itself
// and of those that a shell starts.
func TestConformance(t *testing.T) {
	for name, direct := range map[string]bool{"by a shell": false, "without a shell": true} {
		t.Run(name, func(t *testing.T) {
			machines := agents{t: t, dir: t.TempDir(), tools: tools(t), direct: direct, serving: &sync.WaitGroup{}}
			runnertest.Run(t, machines, runnertest.Options{})
			machines.serving.Wait()
		})
	}
}

// TestSleep has a peer that does not answer while it sleeps.
func TestSleep(t *testing.T) {
	client, server := sshtest.Pair(t)
	config := sshtest.Server(t)
	asked := make(chan *ssh.Request)
	go func() {
		_, channels, requests, err := ssh.NewServerConn(server, config)
		if err != nil {
			close(asked)
			return
		}
		go func() {
			for offered := range channels {
				_ = offered.Reject(ssh.Prohibited, "")
			}
		}()
		for request := range requests {
			asked <- request
		}
		close(asked)
	}()
	m := connect(t, client, sshconn.Options{KeepAlive: time.Millisecond, Silence: 10 * time.Second})
	first := <-asked // it is being asked: Sleep waits for the answer
	slept := make(chan struct{})
	go func() { m.Sleep(); close(slept) }()
	select {
	case <-slept:
		t.Error("it slept with a question open")
	default:
	}
	_ = first.Reply(true, nil)
	<-slept
	select {
	case <-asked:
		t.Error("it was asked while it slept")
	case <-m.Done():
		t.Error("it was given up while it slept")
	case <-time.After(50 * time.Millisecond):
	}
	m.Wake()
	next, ok := <-asked
	if !ok {
		t.Fatal("it is not asked any more")
	}
	_ = next.Reply(true, nil)
	m.Sleep()
	if err := m.Close(); err != nil { // a sleeping machine can be closed
		t.Error(err)
	}
	for range asked {
	}
}

// peer is a machine that does with each channel what serve says.
type peer struct {
	*sshconn.Machine
	conn  *stallable // the machine's end
	serve func(ssh.Channel, <-chan *ssh.Request)
}

// newPeer connects to a peer; its goroutines end with the connection.
func newPeer(t *testing.T, options sshconn.Options, serve func(ssh.Channel, <-chan *ssh.Request)) *peer {
	t.Helper()
	config := sshtest.Server(t)
	client, far := sshtest.Pair(t)
	p := &peer{conn: &stallable{Conn: far, released: make(chan struct{})}, serve: serve}
	var parts sync.WaitGroup
	parts.Go(func() { p.run(&parts, config) })
	if options.Dir == "" {
		options.Dir = "/"
	}
	p.Machine = connect(t, client, options)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		close(p.conn.released)
		_ = far.Close()
		parts.Wait()
	})
	return p
}

// stallable is a connection whose reader can be made to read nothing any more.
type stallable struct {
	net.Conn
	stalled  atomic.Bool
	released chan struct{}
}

func (s *stallable) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if s.stalled.Load() {
		<-s.released
		return 0, io.EOF
	}
	return n, err
}

func (p *peer) run(parts *sync.WaitGroup, config *ssh.ServerConfig) {
	conn, channels, requests, err := ssh.NewServerConn(p.conn, config)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	parts.Go(func() {
		for range requests { // never answered
		}
	})
	for offered := range channels {
		if p.serve == nil {
			_ = offered.Reject(ssh.ResourceShortage, "too many commands")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		parts.Go(func() { p.serve(channel, requests) })
	}
}

// started answers requests until the command is started.
func started(requests <-chan *ssh.Request) {
	for request := range requests {
		if request.WantReply {
			_ = request.Reply(true, nil)
		}
		if request.Type == "exec" {
			return
		}
	}
}

func exits(channel ssh.Channel, status uint32) {
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

var echo = runner.Command{Argv: []string{"echo"}}

// call makes one call that lasts until the machine or the test ends it.
func call(t *testing.T, m *sshconn.Machine, cmd runner.Command) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return m.Run(ctx, cmd)
}

func TestHowCommandsEnd(t *testing.T) {
	signal := struct {
		Signal  string
		Core    bool
		Message string
		Lang    string
	}{Signal: "KILL"}
	for _, c := range []struct {
		name  string
		serve func(ssh.Channel, <-chan *ssh.Request)
		exit  int
		died  bool
		say   string
	}{
		{name: "refuses channels", say: "too many commands", exit: -1},
		{name: "refuses to start it", exit: -1, say: "refused to start", serve: func(_ ssh.Channel, r <-chan *ssh.Request) {
			for request := range r {
				_ = request.Reply(false, nil)
			}
		}},
		{name: "exits", exit: 3, serve: func(c ssh.Channel, r <-chan *ssh.Request) {
			started(r)
			exits(c, 3)
			_ = c.Close()
		}},
		{name: "a signal", exit: 137, serve: func(c ssh.Channel, r <-chan *ssh.Request) {
			started(r)
			_, _ = c.SendRequest("exit-signal", false, ssh.Marshal(signal))
			_ = c.Close()
		}},
		{name: "an exit status of four bytes' worth", exit: 255, serve: func(c ssh.Channel, r <-chan *ssh.Request) {
			started(r)
			exits(c, 1<<32-1)
			_ = c.Close()
		}},
		{name: "says nothing about the end", exit: -1, died: true, say: "did not say", serve: func(c ssh.Channel, r <-chan *ssh.Request) {
			started(r)
			_ = c.Close()
		}},
		{name: "a malformed status", exit: -1, died: true, say: "did not say", serve: func(c ssh.Channel, r <-chan *ssh.Request) {
			started(r)
			_, _ = c.SendRequest("exit-status", false, []byte{1})
			_ = c.Close()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			exit, err := call(t, newPeer(t, sshconn.Options{}, c.serve).Machine, echo)
			if exit != c.exit || errors.Is(err, runner.ErrMachineDied) != c.died {
				t.Errorf("got %d, %v; want %d, died %v", exit, err, c.exit, c.died)
			}
			if (err == nil) != (c.say == "") || err != nil && !strings.Contains(err.Error(), c.say) {
				t.Errorf("the error %v does not say %q", err, c.say)
			}
		})
	}
}

// TestOutputHeldOpen is for a stock sshd: it keeps the channel open while a
// process that the command left behind holds its output.
func TestOutputHeldOpen(t *testing.T) {
	var out strings.Builder
	p := newPeer(t, sshconn.Options{Linger: time.Millisecond}, func(c ssh.Channel, r <-chan *ssh.Request) {
		started(r)
		_, _ = io.WriteString(c, "said")
		exits(c, 7)
		for range r { // until the client closes the channel
		}
		_ = c.Close()
	})
	exit, err := call(t, p.Machine, runner.Command{Argv: []string{"x"}, Stdout: &out})
	if exit != 7 || err != nil || out.String() != "said" {
		t.Errorf("got %d, %v, %q", exit, err, out.String())
	}
}

func TestLostConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		call func(context.Context, *sshconn.Machine) error
	}{
		{"run", func(ctx context.Context, m *sshconn.Machine) error { _, err := m.Run(ctx, echo); return err }},
		{"push", func(ctx context.Context, m *sshconn.Machine) error { return m.Push(ctx, "/x", endless{}) }},
		{"pull", func(ctx context.Context, m *sshconn.Machine) error { return m.Pull(ctx, "/x", io.Discard) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p *peer
			p = newPeer(t, sshconn.Options{}, func(_ ssh.Channel, r <-chan *ssh.Request) {
				started(r)
				_ = p.conn.Close()
			})
			for range 2 { // the second call finds the connection lost already
				if err := c.call(t.Context(), p.Machine); !errors.Is(err, runner.ErrMachineDied) {
					t.Errorf("the error is %v", err)
				}
			}
			<-p.Done()
		})
	}
}

// endless is a tar stream without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestSilentPeerLosesTheConnection(t *testing.T) {
	hold := make(chan struct{})
	p := newPeer(t, sshconn.Options{KeepAlive: time.Millisecond, Silence: 5 * time.Millisecond}, func(_ ssh.Channel, r <-chan *ssh.Request) {
		started(r)
		<-hold
	})
	defer close(hold)
	_, err := call(t, p.Machine, echo)
	if !errors.Is(err, runner.ErrMachineDied) || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("the error is %v", err)
	}
	<-p.Done()
}

func TestPeerThatDoesNotLetGo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var p *peer
	p = newPeer(t, sshconn.Options{KillGrace: time.Millisecond}, func(_ ssh.Channel, r <-chan *ssh.Request) {
		started(r)
		p.conn.stalled.Store(true)
		cancel()
	})
	if _, err := p.Run(ctx, echo); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	<-p.Done()
	if _, err := p.Run(t.Context(), echo); !errors.Is(err, runner.ErrMachineDied) || !strings.Contains(err.Error(), "did not end a killed command") {
		t.Errorf("afterwards the error is %v", err)
	}
}

func TestKillIsSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 10)
	p := newPeer(t, sshconn.Options{}, func(c ssh.Channel, r <-chan *ssh.Request) {
		started(r)
		cancel()
		for request := range r {
			seen <- request.Type + " " + string(request.Payload[4:])
		}
		close(seen)
		_ = c.Close()
	})
	if _, err := p.Run(ctx, echo); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if got := <-seen; got != "signal KILL" {
		t.Errorf("the machine was told %q", got)
	}
}

// failing is a stream that breaks.
type failing struct{}

var errStream = errors.New("the stream broke")

func (failing) Read([]byte) (int, error)  { return 0, errStream }
func (failing) Write([]byte) (int, error) { return 0, errStream }

func TestCallersStreamBreaks(t *testing.T) {
	serve := func(c ssh.Channel, r <-chan *ssh.Request) {
		started(r)
		_, _ = io.WriteString(c, "output")
		for range r { // until the command is killed
		}
		_ = c.Close()
	}
	for name, cmd := range map[string]runner.Command{
		"stdin":  {Argv: []string{"x"}, Stdin: failing{}},
		"stdout": {Argv: []string{"x"}, Stdout: failing{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := call(t, newPeer(t, sshconn.Options{}, serve).Machine, cmd)
			if !errors.Is(err, errStream) || errors.Is(err, runner.ErrMachineDied) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestTarComplains(t *testing.T) {
	serve := func(exit uint32, say string) func(ssh.Channel, <-chan *ssh.Request) {
		return func(c ssh.Channel, r <-chan *ssh.Request) {
			started(r)
			_, _ = io.WriteString(c.Stderr(), say)
			exits(c, exit)
			_ = c.Close()
		}
	}
	for _, c := range []struct {
		name string
		exit uint32
		say  string
		want string
	}{
		{"a file that changed", 1, "tar: ./x: file changed as we read it\n", ""},
		{"a missing directory", 2, "tar: /x: Cannot open: No such file\n", "cannot pack /x: tar exited with 2: tar: /x: Cannot open: No such file"},
		{"control characters", 1, "\x1b[2Jred\xff\n\n", "cannot pack /x: tar exited with 1: [2Jred?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := newPeer(t, sshconn.Options{}, serve(c.exit, c.say)).Pull(t.Context(), "/x", io.Discard); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRefusedBeforeAnythingIsSent(t *testing.T) {
	p := newPeer(t, sshconn.Options{}, nil) // rejects whatever reaches it
	for _, cmd := range []runner.Command{
		{},
		{Argv: []string{""}},
		{Argv: []string{"-x"}},
		{Argv: []string{"a\x00b"}},
		{Argv: []string{"x"}, Dir: "relative"},
		{Argv: []string{"x"}, Env: []string{"A B=1"}},
		{Argv: []string{"x"}, Env: []string{"1A=1"}},
		{Argv: []string{"x"}, Env: []string{"novalue"}},
		{Argv: []string{"x"}, Env: []string{"A=\x00"}},
		{Argv: []string{"x", strings.Repeat("y", 200_000)}},
	} {
		_, err := p.Run(t.Context(), cmd)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot ") || strings.Contains(err.Error(), "too many commands") {
			t.Errorf("%.60q: the error is %.200v", cmd, err)
		}
	}
	for _, dir := range []string{"", "x", "/a\x00"} {
		if err := p.Push(t.Context(), dir, strings.NewReader("")); err == nil || strings.Contains(err.Error(), "too many") {
			t.Errorf("push into %q: the error is %v", dir, err)
		}
	}
}

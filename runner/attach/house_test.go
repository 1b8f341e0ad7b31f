package attach

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/sshconn"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
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
	ours, theirs := sshtest.Pair(t)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(context.Background(), theirs) }) // it says how we left
	h.machine = sshconn.New(sshtest.Client(t, ours, ssh.Config{}), sshconn.Options{Dir: h.dir})
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

// guest is a machine that does with each session what serve says.
func guest(t *testing.T, serve func(ssh.Channel, <-chan *ssh.Request)) *house {
	t.Helper()
	config := sshtest.Server(t)
	ours, theirs := sshtest.Pair(t)
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
	h := &house{t: t, served: make(chan error, 1), told: make(chan Access, 100)}
	h.machine = sshconn.New(sshtest.Client(t, ours, ssh.Config{}), sshconn.Options{Dir: "/"})
	h.serve(Options{Open: h.machine.OpenSession, Record: h.record})
	t.Cleanup(func() { h.end(); parts.Wait() })
	return h
}

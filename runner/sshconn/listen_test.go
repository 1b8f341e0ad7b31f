package sshconn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/sshconn"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// agentMachine is a machine whose agent runs in this process.
func agentMachine(t *testing.T) *sshconn.Machine {
	t.Helper()
	server, err := agent.NewServer(agent.Options{Env: os.Environ(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	client, far := sshtest.Pair(t)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(context.WithoutCancel(t.Context()), far) }) // it says how the client left
	m := connect(t, client, sshconn.Options{Dir: "/"})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return m
}

// stockMachine is a machine with an OpenSSH server, which this test starts on a
// pair of sockets.
func stockMachine(t *testing.T) *sshconn.Machine {
	t.Helper()
	dir := t.TempDir()
	host, ours := sshtest.WriteKey(t, filepath.Join(dir, "host"), ""), sshtest.WriteKey(t, filepath.Join(dir, "user"), "")
	config := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %s/authorized\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n", dir, dir)
	for name, text := range map[string][]byte{"config": []byte(config), "authorized": ssh.MarshalAuthorizedKey(ours.PublicKey())} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client, far := sshtest.Pair(t)
	stream, err := far.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	server := exec.Command(sshtest.FindSSHD(t), "-i", "-e", "-f", filepath.Join(dir, "config"))
	var said bytes.Buffer
	server.Stdin, server.Stdout, server.Stderr = stream, stream, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	clientConfig := &ssh.ClientConfig{
		User: me.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(ours)}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
	}
	conn, channels, requests, err := ssh.NewClientConn(client, "", clientConfig)
	if err != nil {
		_ = server.Wait()
		t.Fatalf("%v: sshd says %s", err, &said)
	}
	m := sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: "/"})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // it exits with 255 when the client just leaves
	})
	return m
}

// onBoth runs a test against the agent and against a stock sshd.
func onBoth(t *testing.T, test func(*testing.T, *sshconn.Machine)) {
	t.Run("agent", func(t *testing.T) { test(t, agentMachine(t)) })
	t.Run("sshd", func(t *testing.T) { test(t, stockMachine(t)) })
}

func listenIn(t *testing.T, m *sshconn.Machine) net.Listener {
	t.Helper()
	l, err := m.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pairOf is a connection from a program in the machine: its end and ours.
func pairOf(t *testing.T, l net.Listener) (program, ours net.Conn) {
	t.Helper()
	program, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	return program, ours
}

type halfCloser interface{ CloseWrite() error }

func TestForwardedHalfClose(t *testing.T) {
	onBoth(t, func(t *testing.T, m *sshconn.Machine) {
		l := listenIn(t, m)
		for range 3 {
			program, ours := pairOf(t, l)
			if got := ours.RemoteAddr().String(); got != program.LocalAddr().String() {
				t.Errorf("the connection comes from %s, we are told %s", program.LocalAddr(), got)
			}
			for _, ends := range [][2]net.Conn{{program, ours}, {ours, program}} {
				sent := strings.Repeat("bytes", 1<<17)
				var sending sync.WaitGroup
				sending.Go(func() {
					if _, err := io.WriteString(ends[0], sent); err != nil {
						t.Error(err)
					}
					if err := ends[0].(halfCloser).CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				if got, err := io.ReadAll(ends[1]); string(got) != sent || err != nil {
					t.Errorf("%d of %d bytes: %v", len(got), len(sent), err)
				}
				sending.Wait()
			}
		}
	})
}

// TestServeHTTPInMachine has curl's kind of program talk to a server of ours; it
// needs deadlines that work.
func TestServeHTTPInMachine(t *testing.T) {
	onBoth(t, func(t *testing.T, m *sshconn.Machine) {
		l := listenIn(t, m)
		server := &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(w, io.MultiReader(strings.NewReader(r.URL.Path+" "), r.Body))
			}),
			ReadHeaderTimeout: time.Second,
		}
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
		client := &http.Client{Transport: &http.Transport{}}
		t.Cleanup(client.CloseIdleConnections)
		for i := range 5 {
			resp, err := client.Post(fmt.Sprintf("http://%s/%d", l.Addr(), i), "text/plain", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if want := fmt.Sprintf("/%d body", i); err != nil || string(got) != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		}
		slow, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = slow.Close() }()
		if _, err := io.WriteString(slow, "GET / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(slow); err != nil && !errors.Is(err, syscall.ECONNRESET) { // until the server's patience ends
			t.Error(err)
		}
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

func TestClosedListenerLeavesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, m *sshconn.Machine) {
		l := listenIn(t, m)
		program, ours := pairOf(t, l)
		unaccepted, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unaccepted.Close() }()
		for range 2 {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if conn, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("somebody still listens: %v, %v", conn, err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept says %v", err)
		}
		for name, conn := range map[string]net.Conn{"program": program, "ours": ours, "unaccepted": unaccepted} {
			if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %v", name, err)
			}
		}
		listenIn(t, m) // and again
		if exit, err := call(t, m, runner.Command{Argv: []string{"true"}}); exit != 0 || err != nil {
			t.Errorf("afterwards a command ends with %d, %v", exit, err)
		}
	})
}

func TestListenerEndsWithTheConnection(t *testing.T) {
	m := agentMachine(t)
	l := listenIn(t, m)
	program, ours := pairOf(t, l)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("Accept says %v", err)
	}
	for _, conn := range []net.Conn{program, ours} {
		if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.Listen(t.Context(), "127.0.0.1:0"); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("afterwards Listen says %v", err)
	}
}

func TestListenIsChecked(t *testing.T) {
	m := agentMachine(t)
	for _, address := range []string{"", "127.0.0.1", ":0", "0.0.0.0:0", "192.0.2.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http", "example.org:0"} {
		if _, err := m.Listen(t.Context(), address); err == nil || !strings.HasPrefix(err.Error(), "cannot listen") {
			t.Errorf("%q: %v", address, err)
		}
	}
	l, err := m.Listen(t.Context(), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Listen(t.Context(), fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port)); err == nil {
		t.Error("a taken port was given again")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Listen(gone, "127.0.0.1:0"); !errors.Is(err, context.Canceled) {
		t.Errorf("too late: %v", err)
	}
}

// hostile is a machine that answers requests, and opens channels, as it likes.
type hostile struct {
	*sshconn.Machine
	far *ssh.ServerConn
}

// newHostile answers each global request as answer says.
func newHostile(t *testing.T, options sshconn.Options, answer func(*ssh.Request)) hostile {
	t.Helper()
	config := sshtest.Server(t)
	client, raw := sshtest.Pair(t)
	far := make(chan *ssh.ServerConn, 1)
	var parts sync.WaitGroup
	parts.Go(func() {
		conn, channels, requests, err := ssh.NewServerConn(raw, config)
		if err != nil {
			t.Error(err)
			return
		}
		far <- conn
		parts.Go(func() {
			for range channels {
			}
		})
		for request := range requests {
			answer(request)
		}
	})
	options.Dir = "/"
	m := connect(t, client, options)
	h := hostile{m, <-far}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		_ = h.far.Close()
		parts.Wait()
	})
	return h
}

func port(number uint32) []byte { return ssh.Marshal(struct{ Port uint32 }{number}) }

// saysPort answers with the port 7, and all other requests with yes.
func saysPort(r *ssh.Request) {
	reply := []byte(nil)
	if r.Type == "tcpip-forward" {
		reply = port(7)
	}
	_ = r.Reply(true, reply)
}

func TestHostileReplies(t *testing.T) {
	for name, reply := range map[string][]byte{
		"no port": nil, "port 0": port(0), "a huge port": port(65536), "more": append(port(7), 0), "less": {0, 0},
	} {
		h := newHostile(t, sshconn.Options{}, func(r *ssh.Request) { _ = r.Reply(true, reply) })
		if l, err := h.Listen(t.Context(), "127.0.0.1:0"); err == nil {
			t.Errorf("%s: listens on %v", name, l.Addr())
		}
	}
	h := newHostile(t, sshconn.Options{}, saysPort)
	listenIn(t, h.Machine)
	if _, err := h.Listen(t.Context(), "127.0.0.1:0"); err == nil {
		t.Error("the same port was taken twice")
	}
	refuses := newHostile(t, sshconn.Options{}, func(r *ssh.Request) { _ = r.Reply(false, nil) })
	if _, err := refuses.Listen(t.Context(), "127.0.0.1:0"); err == nil || errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("a refusal is %v", err)
	}
}

func TestMachineThatNeverAnswers(t *testing.T) {
	options := sshconn.Options{KeepAlive: time.Millisecond, Silence: 20 * time.Millisecond}
	h := newHostile(t, options, func(*ssh.Request) {})
	if _, err := h.Listen(t.Context(), "127.0.0.1:0"); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("Listen says %v", err)
	}
	asked := make(chan struct{}, 100)
	patient := newHostile(t, sshconn.Options{}, func(*ssh.Request) { asked <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := patient.Listen(ctx, "127.0.0.1:0"); !errors.Is(err, context.Canceled) {
		t.Errorf("Listen says %v", err)
	}
}

// opening is the payload of a forwarded connection.
func opening(host string, port uint32) []byte {
	return ssh.Marshal(struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}{host, port, "\x1b[2J not an address", 1 << 31})
}

func TestUnaskedChannels(t *testing.T) {
	h := newHostile(t, sshconn.Options{}, saysPort)
	tryOpen := func(kind string, payload []byte) error {
		channel, requests, err := h.far.OpenChannel(kind, payload)
		if err == nil {
			go ssh.DiscardRequests(requests)
			_ = channel.Close()
		}
		return err
	}
	if err := tryOpen("forwarded-tcpip", opening("127.0.0.1", 7)); err == nil {
		t.Error("a channel was taken before anything was asked for")
	}
	l := listenIn(t, h.Machine)
	for name, payload := range map[string][]byte{
		"another port": opening("127.0.0.1", 8), "another host": opening("localhost", 7),
		"nothing": nil, "garbage": []byte("\xff\xff\xff\xff"), "more": append(opening("127.0.0.1", 7), 0),
	} {
		if err := tryOpen("forwarded-tcpip", payload); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, kind := range []string{"session", "direct-tcpip", "x11", "auth-agent@openssh.com"} {
		if err := tryOpen(kind, opening("127.0.0.1", 7)); err == nil {
			t.Errorf("a channel of type %s was taken", kind)
		}
	}
	if err := tryOpen("forwarded-tcpip", opening("127.0.0.1", 7)); err != nil {
		t.Errorf("what was asked for is refused: %v", err)
	}
	if conn, err := l.Accept(); err != nil || !strings.HasPrefix(conn.RemoteAddr().String(), ":") {
		t.Errorf("came from %v, %v", conn, err)
	}
}

// TestChannelsAreBounded has the machine open channel after channel.
func TestChannelsAreBounded(t *testing.T) {
	const most = 32
	h := newHostile(t, sshconn.Options{}, saysPort)
	l := listenIn(t, h.Machine)
	open := func() error {
		_, requests, err := h.far.OpenChannel("forwarded-tcpip", opening("127.0.0.1", 7))
		if err == nil {
			go ssh.DiscardRequests(requests) // ends with the connection
		}
		return err
	}
	var refused *ssh.OpenChannelError
	for i := range most + 10 {
		if err := open(); (err == nil) != (i < most) || err != nil && (!errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage) {
			t.Errorf("channel %d: %v", i, err)
		}
	}
	for range most {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil { // which closes the channel, too
			t.Error(err)
		}
	}
	for open() != nil { // until the machine has learnt of it
		if t.Context().Err() != nil {
			t.Fatal("no channel is free again")
		}
	}
}

package proxy

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/sshconn"
)

// machine is one whose agent runs in this process, on a pair of sockets.
func machine(t *testing.T) *sshconn.Machine {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		_ = file.Close() // FileConn made a copy
	}
	server, err := agent.NewServer(agent.Options{Env: os.Environ(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(context.WithoutCancel(t.Context()), ends[1]) }) // it says how the client left
	conn, channels, requests, err := ssh.NewClientConn(ends[0], "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	m := sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: "/"})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return m
}

// TestAptThroughTheChannel is the whole way: apt-get in a machine, its agent, the
// connection, the proxy, an archive.
func TestAptThroughTheChannel(t *testing.T) {
	m := archive(t)
	g := &guest{t: t, entries: make(chan Entry, 1000)}
	var err error
	if g.proxy, err = New(Options{Allow: rules(t, m.URL+"/debian/"), Cache: t.TempDir(), Log: func(e Entry) { g.entries <- e }}); err != nil {
		t.Fatal(err)
	}
	listener, err := machine(t).Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- g.proxy.Serve(t.Context(), listener) }()
	if _, output, err := apt(t, g, m.URL+"/debian", "download", "hello"); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(g.entries) < 3 {
		t.Errorf("the log is told of %d requests", len(g.entries))
	}
}

package proxy

import (
	"context"
	"os"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/sshconn"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// machine is one whose agent runs in this process, on a pair of sockets.
func machine(t *testing.T) *sshconn.Machine {
	t.Helper()
	server, err := agent.NewServer(agent.Options{Env: os.Environ(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	client, far := sshtest.Pair(t)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(context.WithoutCancel(t.Context()), far) }) // it says how the client left
	m := sshconn.New(sshtest.Client(t, client, ssh.Config{}), sshconn.Options{Dir: "/"})
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

package sshconn_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/sshconn"
)

func TestOpenSession(t *testing.T) {
	p := newPeer(t, sshconn.Options{}, func(c ssh.Channel, requests <-chan *ssh.Request) {
		started(requests)
		_, _ = io.Copy(c, c)
		exits(c, 4)
		_ = c.Close()
		ssh.DiscardRequests(requests)
	})
	ctx, cancel := context.WithCancel(t.Context())
	channel, requests, err := p.OpenSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // it bounded the opening alone
	if ok, err := channel.SendRequest("exec", true, ssh.Marshal(struct{ Line string }{"cat"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := io.WriteString(channel, "hello"); err != nil {
		t.Error(err)
	}
	_ = channel.CloseWrite()
	said := make(chan string, 10)
	go func() {
		defer close(said)
		for request := range requests {
			said <- request.Type
		}
	}()
	if out, err := io.ReadAll(channel); err != nil || string(out) != "hello" {
		t.Errorf("got %q, %v", out, err)
	}
	if got := <-said; got != "exit-status" {
		t.Errorf("it said %q", got)
	}
	for range said {
		t.Error("it said more")
	}
}

func TestOpenSessionFails(t *testing.T) {
	refusing := newPeer(t, sshconn.Options{}, nil)
	if _, _, err := refusing.OpenSession(t.Context()); err == nil || errors.Is(err, runner.ErrMachineDied) || !strings.Contains(err.Error(), "too many commands") {
		t.Errorf("refused: %v", err)
	}
	if err := refusing.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := refusing.OpenSession(t.Context()); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("closed: %v", err)
	}
	silent := newPeer(t, sshconn.Options{}, nil)
	silent.conn.stalled.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	open := func(ctx context.Context) {
		_, _, err := silent.OpenSession(ctx)
		failed <- err
	}
	go open(ctx)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("left: %v", err)
	}
	go open(t.Context())
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("closed meanwhile: %v", err)
	}
}

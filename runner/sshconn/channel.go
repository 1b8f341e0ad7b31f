package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// OpenSession opens a channel of type "session" (RFC 4254, section 6.1) for a
// caller who speaks on it himself: he takes every request from the channel that
// comes with it until that is closed, because what is left there holds up the
// whole connection. ctx bounds only the opening. It ends with the connection;
// the error wraps runner.ErrMachineDied when that is gone.
func (m *Machine) OpenSession(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error) {
	opened := make(chan session)
	late := make(chan struct{})
	defer close(late)
	if !m.own(func() { m.offer(opened, late) }) {
		return nil, nil, m.died(errClosed)
	}
	select {
	case s := <-opened:
		if s.err != nil {
			return nil, nil, m.failure("open a channel for", s.err)
		}
		return s.channel, s.requests, nil
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("cannot open a channel to the machine: %w", ctx.Err())
	}
}

// session is a channel that was opened, or why not.
type session struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
}

// offer opens a channel and hands it over, unless that has become too late.
func (m *Machine) offer(opened chan<- session, late <-chan struct{}) {
	var s session
	s.channel, s.requests, s.err = m.open()
	select {
	case opened <- s:
	case <-late:
		if s.err == nil {
			_ = s.channel.Close()
			ssh.DiscardRequests(s.requests) // until the machine has closed it too
		}
	}
}

// open opens a channel, or finds that the connection is gone. The library waits
// for ever for the answer to a request that it takes just as its connection
// ends; that goroutine cannot be ended, and costs no more than its stack.
func (m *Machine) open() (ssh.Channel, <-chan *ssh.Request, error) {
	answered := make(chan session, 1)
	go func() {
		channel, requests, err := m.client.OpenChannel("session", nil)
		answered <- session{channel, requests, err}
	}()
	select {
	case a := <-answered:
		return a.channel, a.requests, a.err
	case <-m.dead:
		return nil, nil, io.EOF
	}
}

// failure tells the machine's death from its refusal.
func (m *Machine) failure(what string, err error) error {
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) || errors.Is(err, errRefused) {
		return fmt.Errorf("cannot %s a command: %v", what, err)
	}
	return m.died(fmt.Errorf("cannot %s a command: %v", what, err))
}

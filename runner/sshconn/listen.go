package sshconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxForwarded bounds the connections that a machine has open to us, over all
// listeners. The library keeps up to 2 MiB of each that nobody has read yet.
const maxForwarded = 32

// endpoint is an address as RFC 4254, section 7.1, writes it.
type endpoint struct {
	Host string
	Port uint32
}

func (e endpoint) String() string {
	return net.JoinHostPort(e.Host, strconv.FormatUint(uint64(e.Port), 10))
}

// parseAddress reads "HOST:PORT" of the machine's loopback.
func parseAddress(address string) (endpoint, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return endpoint{}, fmt.Errorf("cannot listen in the machine: %v", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return endpoint{}, fmt.Errorf("cannot listen in the machine on port %q: write a number from 0 to 65535", port)
	}
	switch host {
	case "127.0.0.1", "::1", "localhost":
		return endpoint{host, uint32(number)}, nil
	}
	return endpoint{}, fmt.Errorf("cannot listen in the machine on %q: write 127.0.0.1, ::1 or localhost", host)
}

// forwards are the listeners that a machine has for us. The zero value has none.
type forwards struct {
	mu        sync.Mutex
	started   bool
	slots     chan struct{} // one for each channel that is not closed on both sides
	listeners map[endpoint]*listener
}

// Listen makes the machine listen on an address of its own loopback,
// "127.0.0.1:0" for any free port, and hands out the connections that programs
// in it make (RFC 4254, section 7). The listener's address has the port. Its
// connections take deadlines and can be closed for writing alone (they have
// CloseWrite). All of it ends with the connection to the machine; Close ends it
// in the machine, too: no socket is left there when it returns.
func (m *Machine) Listen(ctx context.Context, address string) (net.Listener, error) {
	at, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cannot listen in the machine: %w", err)
	}
	if err := m.startForwards(); err != nil {
		return nil, err
	}
	type answer struct {
		listener *listener
		err      error
	}
	answered := make(chan answer)
	asking := func() {
		l, err := m.askToListen(context.WithoutCancel(ctx), at)
		select {
		case answered <- answer{l, err}:
		case <-ctx.Done():
			if l != nil {
				_ = l.Close() // nobody is left to take it
			}
		}
	}
	if !m.own(asking) {
		return nil, m.died(errClosed)
	}
	select {
	case a := <-answered:
		if a.err != nil {
			return nil, a.err // not a listener that is nil
		}
		return a.listener, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot listen in the machine: %w", ctx.Err())
	}
}

var errClosed = errors.New("it was closed")

// own runs part of the machine's work, which Close waits for; false when the
// machine is closed already.
func (m *Machine) own(part func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.owned.Go(part)
	return true
}

// startForwards begins, once, to take what the machine opens.
func (m *Machine) startForwards() error {
	f := &m.forwards
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.started {
		return nil
	}
	offered := m.client.HandleChannelOpen("forwarded-tcpip")
	if offered == nil {
		return errors.New("cannot listen in the machine: its connections are taken by somebody else")
	}
	f.slots = make(chan struct{}, maxForwarded)
	f.listeners = map[endpoint]*listener{}
	if !m.own(func() { m.takeForwarded(offered) }) {
		return m.died(errClosed)
	}
	f.started = true
	return nil
}

// askToListen sends the request and waits for its answer, which a machine that
// does not give it loses the connection for (see keepAlive).
func (m *Machine) askToListen(ctx context.Context, at endpoint) (*listener, error) {
	ok, reply, err := m.client.SendRequest("tcpip-forward", true, ssh.Marshal(at))
	if err != nil {
		return nil, m.died(fmt.Errorf("cannot listen in it: %v", err))
	}
	if !ok {
		return nil, fmt.Errorf("cannot listen in the machine on %s: it refused", at)
	}
	if at.Port == 0 {
		if at.Port, err = parsePort(reply); err != nil {
			return nil, err
		}
	}
	l := &listener{machine: m, at: at, conns: make(chan *forwarded, maxForwarded)}
	l.ctx, l.end = context.WithCancelCause(ctx)
	if err := m.forwards.add(l); err != nil {
		return nil, err
	}
	return l, nil
}

// parsePort reads the port in the reply to a request for any (RFC 4254, 7.1).
func parsePort(reply []byte) (uint32, error) {
	var message struct{ Port uint32 }
	if err := ssh.Unmarshal(reply, &message); err != nil || message.Port == 0 || message.Port > 65535 {
		return 0, errors.New("cannot listen in the machine: it did not say on which port")
	}
	return message.Port, nil
}

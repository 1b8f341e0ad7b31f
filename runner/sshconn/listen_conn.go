package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/assay-ci/assay/runner/agent"
)

// listener is a net.Listener in the machine.
type listener struct {
	machine *Machine
	at      endpoint
	conns   chan *forwarded // not accepted yet
	ctx     context.Context // its cause says why the listener ended
	end     context.CancelCauseFunc
	closing sync.Once
}

// Accept gives the next connection; after Close net.ErrClosed, after the
// connection's end an error that wraps runner.ErrMachineDied.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Addr is a *net.TCPAddr; for "localhost" it has no IP.
func (l *listener) Addr() net.Addr { return tcpAddr(l.at.Host, l.at.Port) }

// Close ends the listener and its connections, here and in the machine.
func (l *listener) Close() error {
	l.closing.Do(func() {
		l.machine.forwards.remove(l)
		l.stop(net.ErrClosed)
		// A machine that refuses is none of ours any more; one that does not answer
		// loses the connection.
		_, _, _ = l.machine.client.SendRequest("cancel-tcpip-forward", true, ssh.Marshal(l.at))
	})
	return nil
}

// stop ends what the listener has here. It was removed before: nothing is added
// to its connections any more.
func (l *listener) stop(cause error) {
	l.end(cause)
	for {
		select {
		case conn := <-l.conns:
			_ = conn.Close()
		default:
			return
		}
	}
}

// add takes a new listener.
func (f *forwards) add(l *listener) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners == nil || f.listeners[l.at] != nil {
		return fmt.Errorf("cannot listen in the machine on %s: it gave the same port twice, or is gone", l.at)
	}
	f.listeners[l.at] = l
	return nil
}

// remove makes sure that nothing is added to the listener any more.
func (f *forwards) remove(l *listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners[l.at] == l {
		delete(f.listeners, l.at)
	}
}

// takeForwarded takes or refuses every connection that the machine offers, until
// there is no connection to it any more.
func (m *Machine) takeForwarded(offered <-chan ssh.NewChannel) {
	f := &m.forwards
	for offer := range offered {
		select {
		case f.slots <- struct{}{}:
		default:
			_ = offer.Reject(ssh.ResourceShortage, "too many connections at once")
			continue
		}
		if !m.takeOne(offer) {
			<-f.slots
		}
	}
	f.mu.Lock()
	ended := f.listeners
	f.listeners = nil
	f.mu.Unlock()
	for _, l := range ended {
		l.stop(m.died(errClosed))
	}
}

// takeOne takes one connection, if it is of a listener of ours; it then leaves
// its slot when the channel is closed on both sides.
func (m *Machine) takeOne(offer ssh.NewChannel) bool {
	at, from, err := parseForwarded(offer.ExtraData())
	if err != nil {
		_ = offer.Reject(ssh.ConnectionFailed, err.Error())
		return false
	}
	f := &m.forwards
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[at]
	if l == nil || len(l.conns) == cap(l.conns) {
		_ = offer.Reject(ssh.Prohibited, "nobody listens there")
		return false
	}
	ours, far, err := socketPair()
	if err != nil {
		_ = offer.Reject(ssh.ConnectionFailed, "too many files are open")
		return false
	}
	channel, requests, err := offer.Accept()
	if err != nil { // the connection is ending
		_, _ = ours.Close(), far.Close()
		return false
	}
	one := &forwarded{UnixConn: ours, at: l.Addr(), from: from}
	var closed context.Context
	closed, one.closed = context.WithCancel(l.ctx)
	m.owned.Go(func() {
		defer func() { <-f.slots }()
		ctx, end := context.WithCancel(l.ctx)
		defer end()
		agent.Splice(ctx, channel, requests, &farEnd{UnixConn: far, closed: closed, end: end})
		one.closed()
	})
	l.conns <- one // there is room
	return true
}

// parseForwarded reads what a channel's opening says: where the connection came
// in, and where from (RFC 4254, section 7.2).
func parseForwarded(payload []byte) (endpoint, net.Addr, error) {
	var message struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	if err := ssh.Unmarshal(payload, &message); err != nil {
		return endpoint{}, nil, fmt.Errorf("cannot read where the connection came in: %v", err)
	}
	return endpoint{message.Host, message.Port}, tcpAddr(message.FromHost, message.FromPort), nil
}

// tcpAddr is an address of the machine's; the machine may call it what it likes.
func tcpAddr(host string, port uint32) net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(host), Port: int(port & 0xffff)}
}

// forwarded is a connection that came in in the machine. It is one end of a pair
// of sockets, the other of which is joined with the channel: so the kernel keeps
// deadlines, which a channel has not, and little is buffered.
type forwarded struct {
	*net.UnixConn
	at, from net.Addr
	closed   context.CancelFunc
}

// Close closes both directions; what was written before still goes out.
func (f *forwarded) Close() error {
	err := f.UnixConn.Close()
	f.closed()
	return err
}

// LocalAddr is where the connection came in, in the machine.
func (f *forwarded) LocalAddr() net.Addr { return f.at }

// RemoteAddr is the program's end of it, as the machine says.
func (f *forwarded) RemoteAddr() net.Addr { return f.from }

// farEnd is the other end. Reading from a socket does not tell whether its peer
// has closed it or only its writing direction; closed does. Then the machine need
// not be waited for.
type farEnd struct {
	*net.UnixConn
	closed context.Context
	end    context.CancelFunc
}

func (f *farEnd) Read(p []byte) (int, error) {
	n, err := f.UnixConn.Read(p)
	if errors.Is(err, io.EOF) {
		context.AfterFunc(f.closed, f.end) // at once, if that is so already
	}
	return n, err
}

// socketPair makes two connected sockets.
func socketPair() (a, b *net.UnixConn, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a pair of sockets: %w", err)
	}
	a, err = socket(pair[0])
	b, err2 := socket(pair[1])
	if err == nil && err2 == nil {
		return a, b, nil
	}
	for _, conn := range []*net.UnixConn{a, b} {
		if conn != nil {
			_ = conn.Close()
		}
	}
	return nil, nil, fmt.Errorf("cannot use a pair of sockets: %v, %v", err, err2)
}

// socket makes a connection of a file's number, which it takes over.
func socket(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "forwarded")
	defer func() { _ = file.Close() }() // FileConn makes a copy
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	one, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot use %T", conn)
	}
	return one, nil
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of remote forwarding on one connection.
const (
	maxListeners = 8
	maxForwarded = 64 // connections at once, over all listeners
)

// The global requests of RFC 4254, section 7.1, and the channel of 7.2.
const (
	forwardRequest = "tcpip-forward"
	cancelRequest  = "cancel-tcpip-forward"
	forwardChannel = "forwarded-tcpip"
)

// endpoint is an address as RFC 4254, section 7.1, writes it: the payload of
// both requests. The host stays as the client wrote it, because that is how the
// client knows the connections that come of it.
type endpoint struct {
	Host string
	Port uint32
}

func (e endpoint) String() string {
	return net.JoinHostPort(e.Host, strconv.FormatUint(uint64(e.Port), 10))
}

// parseEndpoint reads such a payload. Only the guest's own programs are to reach
// what is forwarded, so that nothing but its loopback is listened on.
func parseEndpoint(payload []byte) (endpoint, error) {
	var e endpoint
	if err := ssh.Unmarshal(payload, &e); err != nil {
		return endpoint{}, fmt.Errorf("cannot read the address to listen on: %w", err)
	}
	switch e.Host {
	case "127.0.0.1", "::1", "localhost":
	default:
		return endpoint{}, fmt.Errorf("cannot listen on %.100q: only on 127.0.0.1, ::1 or localhost", e.Host)
	}
	if e.Port > 65535 {
		return endpoint{}, fmt.Errorf("cannot listen on port %d: there are 65535", e.Port)
	}
	return e, nil
}

// opener is what forwarding needs of an SSH connection.
type opener interface {
	OpenChannel(kind string, data []byte) (ssh.Channel, <-chan *ssh.Request, error)
}

// forwards are the listeners of one connection. One goroutine calls its methods:
// the one that answers the connection's requests.
type forwards struct {
	ctx       context.Context // ends with the connection
	end       context.CancelFunc
	client    opener
	slots     chan struct{} // one for each connection that is carried
	listeners map[endpoint]*forward
	parts     sync.WaitGroup
}

func newForwards(ctx context.Context, client opener) *forwards {
	ctx, end := context.WithCancel(ctx)
	return &forwards{
		ctx: ctx, end: end, client: client,
		slots: make(chan struct{}, maxForwarded), listeners: map[endpoint]*forward{},
	}
}

// close ends every listener and every connection, and returns when nothing of
// them is left: a machine may be frozen next.
func (f *forwards) close() {
	f.end()
	for _, one := range f.listeners {
		one.close()
	}
	f.parts.Wait()
}

// listen does a tcpip-forward request. The reply names the port if the client
// left it open (RFC 4254, section 7.1).
func (f *forwards) listen(payload []byte) ([]byte, error) {
	at, err := parseEndpoint(payload)
	if err != nil {
		return nil, err
	}
	if len(f.listeners) >= maxListeners {
		return nil, fmt.Errorf("cannot listen on more than %d addresses", maxListeners)
	}
	var config net.ListenConfig
	listener, err := config.Listen(f.ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen in the machine: %w", err)
	}
	var reply []byte
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && at.Port == 0 {
		at.Port = uint32(tcp.Port)
		reply = ssh.Marshal(struct{ Port uint32 }{at.Port})
	}
	one := &forward{all: f, at: at, listener: listener, ended: make(chan struct{})}
	one.ctx, one.end = context.WithCancel(f.ctx)
	f.listeners[at] = one
	go one.serve()
	return reply, nil
}

// cancel does a cancel-tcpip-forward request. Connections that came of the
// listener end with it: nobody is left to serve them.
func (f *forwards) cancel(payload []byte) error {
	at, err := parseEndpoint(payload)
	if err != nil {
		return err
	}
	one := f.listeners[at]
	if one == nil {
		return errors.New("cannot end a forwarding that is not there")
	}
	delete(f.listeners, at)
	one.close()
	return nil
}

// forward is one listener.
type forward struct {
	all      *forwards
	at       endpoint
	listener net.Listener
	ctx      context.Context // ends with the listener; its connections end then
	end      context.CancelFunc
	ended    chan struct{} // closed when serve has returned

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once the listener is closed
}

// close returns when the port is free again and no socket of it is open.
func (f *forward) close() {
	f.end()
	_ = f.listener.Close() // it cannot fail to be closed
	<-f.ended
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close() // what is still under way is lost with the listener
	}
	f.conns = nil
}

// serve accepts connections while there is room for them; others wait in the
// kernel's queue.
func (f *forward) serve() {
	defer close(f.ended)
	for {
		select {
		case f.all.slots <- struct{}{}:
		case <-f.ctx.Done():
			return
		}
		conn, err := f.listener.Accept()
		if err != nil {
			<-f.all.slots
			f.pause()
			continue
		}
		f.all.parts.Go(func() {
			defer func() { <-f.all.slots }()
			f.carry(conn)
		})
	}
}

// pause waits a moment after a connection could not be accepted: the machine may
// be short of files.
func (f *forward) pause() {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-f.ctx.Done():
	}
}

// carry opens a channel to the client and carries one connection on it.
func (f *forward) carry(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if !f.hold(conn, true) {
		return
	}
	defer f.hold(conn, false)
	channel, requests, err := f.open(conn.RemoteAddr())
	stream, ok := conn.(Stream)
	if err != nil || !ok {
		return // the client does not want it: the program sees its connection closed
	}
	Splice(f.ctx, channel, requests, stream)
}

// hold keeps note of an open connection, or forgets it; false when the listener
// is closed already.
func (f *forward) hold(conn net.Conn, open bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ctx.Err() != nil:
		return false
	case !open:
		delete(f.conns, conn)
	case f.conns == nil:
		f.conns = map[net.Conn]bool{conn: true}
	default:
		f.conns[conn] = true
	}
	return true
}

// open asks the client to take a connection. The library can wait for ever for
// the answer to what it sends just as its connection ends; that goroutine
// cannot be ended, and costs no more than its stack.
func (f *forward) open(from net.Addr) (ssh.Channel, <-chan *ssh.Request, error) {
	type answer struct {
		channel  ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	answered := make(chan answer)
	go func() {
		channel, requests, err := f.all.client.OpenChannel(forwardChannel, forwardPayload(f.at, from))
		select {
		case answered <- answer{channel, requests, err}:
		case <-f.ctx.Done():
			if err == nil {
				_ = channel.Close()
				ssh.DiscardRequests(requests)
			}
		}
	}()
	select {
	case a := <-answered:
		return a.channel, a.requests, a.err
	case <-f.ctx.Done():
		return nil, nil, f.ctx.Err()
	}
}

// forwardPayload says where a connection came in and where from (RFC 4254,
// section 7.2).
func forwardPayload(at endpoint, from net.Addr) []byte {
	origin := endpoint{Host: "127.0.0.1", Port: 1} // some clients insist on an address
	if tcp, ok := from.(*net.TCPAddr); ok {
		origin = endpoint{Host: tcp.IP.String(), Port: uint32(tcp.Port)}
	}
	return ssh.Marshal(struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}{at.Host, at.Port, origin.Host, origin.Port})
}

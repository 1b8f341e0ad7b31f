package attach

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of a server.
const (
	defaultSessions  = 8
	maxConnections   = 16
	handshakeTimeout = 30 * time.Second
	openTimeout      = 30 * time.Second
)

// Options say what a server serves.
type Options struct {
	// Open opens a channel of type "session" in the machine; ctx bounds only the
	// opening. When the machine's connection ends the channel and its requests
	// must end, too: nothing else ends the wait for a machine that stays silent.
	Open func(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error)
	// Dir is where a shell or a command starts, if the machine has it; "" is where
	// the machine starts them.
	Dir string
	// Record is told of each shell or command when it begins and when it has
	// ended, one call at a time; nil tells nobody.
	Record func(Access)
	// Sessions bounds how many there are at once; 0 for 8.
	Sessions int
}

// server serves one machine's socket.
type server struct {
	options Options
	config  *ssh.ServerConfig
	slots   chan struct{} // one for each session
	mu      sync.Mutex    // for Record
}

// Serve takes connections on a Unix socket and lets each open sessions in the
// machine, until ctx ends or the listener is closed. It returns when everything
// it began has ended: after ctx, close the machine's connection before you wait.
// Only the user who runs this process, and root, are served.
func Serve(ctx context.Context, l net.Listener, options Options) error {
	s, err := newServer(options)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // ends Accept
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	free := make(chan struct{}, maxConnections)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("cannot take who wants to enter a machine: %w", err), l.Close())
		}
		select {
		case free <- struct{}{}:
		default:
			_ = conn.Close() // the client says that it was turned away
			continue
		}
		conns.Go(func() {
			defer func() { <-free }()
			s.serve(ctx, conn)
		})
	}
}

func newServer(options Options) (*server, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key for the socket to enter a machine: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("cannot use the key for the socket to enter a machine: %w", err)
	}
	if options.Sessions <= 0 {
		options.Sessions = defaultSessions
	}
	if options.Record == nil {
		options.Record = func(Access) {}
	}
	// The socket's permissions say who may come.
	config := &ssh.ServerConfig{NoClientAuth: true, ServerVersion: "SSH-2.0-Assay"}
	config.AddHostKey(signer)
	return &server{options: options, config: config, slots: make(chan struct{}, options.Sessions)}, nil
}

// serve speaks with one client until it leaves or ctx ends. It closes conn.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	who, err := peer(conn)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if conn.SetDeadline(time.Now().Add(handshakeTimeout)) != nil {
		return
	}
	client, offered, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil || conn.SetDeadline(time.Time{}) != nil {
		return // what the client said is no SSH, and only it can be told
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	defer func() { _ = client.Close() }()
	parts.Go(func() { ssh.DiscardRequests(requests) })
	for one := range offered {
		if one.ChannelType() != "session" {
			_ = one.Reject(ssh.UnknownChannelType, "only shells and commands are served here")
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			_ = one.Reject(ssh.ResourceShortage, fmt.Sprintf("%d shells and commands run in this machine already: leave one of them", s.options.Sessions))
			continue
		}
		parts.Go(func() {
			defer func() { <-s.slots }()
			s.session(ctx, one, who)
		})
	}
}

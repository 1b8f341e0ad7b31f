package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

// ToolsDir is where commands in a machine find assay result: links to the agent,
// which goes by the name that it is called by.
const ToolsDir = "/run/assay/bin"

// PortName is the name of the virtio-serial port that the host gives a guest
// for its agent.
const PortName = "org.assay.agent.0"

// Bounds of what one connection may ask for.
const (
	maxChannels      = 64
	maxEnvNames      = 512
	maxEnvBytes      = 256 << 10
	handshakeTimeout = 30 * time.Second
)

// Options say how a server runs its commands.
type Options struct {
	// Env is the environment that every command starts from, as "NAME=value".
	Env []string
	// Dir is the directory that commands start in.
	Dir string
	// Groups gives each command a control group; nil runs them in the server's own.
	Groups *Groups
	// Shielded tells that the server's process is protected from the kernel's
	// out-of-memory killer and that its commands must not inherit that.
	Shielded bool
	// Grace is how long output is still taken from processes that a command left
	// behind; 0 for half a second.
	Grace time.Duration
	// Wake is called with what the host says about a machine that was frozen and
	// woken again; nil refuses such requests, and those to be ready to be frozen.
	Wake func(Wake) error
	// Canary keeps the machine's mark; nil keeps none.
	Canary *Canary
}

// Server serves SSH connections, one after the other or several at once. Make
// one with NewServer.
type Server struct {
	config  *ssh.ServerConfig
	options Options
	starter starter
}

// NewServer makes a server with a host key of its own that nobody else has and
// that is written nowhere.
func NewServer(options Options) (*Server, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("cannot use the host key: %w", err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true, ServerVersion: "SSH-2.0-Assay"}
	// The cheapest of the modern ones: under emulation the handshake is what a
	// command waits for.
	config.KeyExchanges = []string{ssh.KeyExchangeCurve25519}
	config.Ciphers = ciphers(cpu.X86.HasAES || cpu.ARM64.HasAES)
	config.RekeyThreshold = 1 << 40
	config.AddHostKey(signer)
	if options.Grace == 0 {
		options.Grace = 500 * time.Millisecond
	}
	return &Server{config: config, options: options, starter: starter{options: options}}, nil
}

// ciphers lists what is offered. The client chooses, and most prefer AES: without
// instructions for it, as on the simplest emulated processor, that takes almost
// four times as long.
func ciphers(fastAES bool) []string {
	if fastAES {
		return []string{ssh.CipherAES128GCM, ssh.CipherChaCha20Poly1305}
	}
	return []string{ssh.CipherChaCha20Poly1305}
}

// Serve speaks SSH on conn until the client goes away, says something that is
// not SSH, or ctx ends. It returns when every process that the connection's
// commands still had is killed and waited for, with nil when the client left in
// an orderly way. It closes conn.
func (s *Server) Serve(ctx context.Context, conn net.Conn) error {
	defer func() { _ = conn.Close() }() // nothing is lost: the streams ended before
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("cannot limit the time of the handshake: %w", err)
	}
	server, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return fmt.Errorf("cannot begin an SSH connection: %w", err)
	}
	defer func() { _ = server.Close() }()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("cannot lift the time limit of the handshake: %w", err)
	}
	var parts sync.WaitGroup
	parts.Go(func() { s.answer(ctx, server, requests) })
	s.accept(channels, &parts)
	parts.Wait()
	if err := server.Wait(); err != nil && err != io.EOF {
		return fmt.Errorf("the SSH connection broke: %w", err)
	}
	return nil
}

// accept serves channels until there are no more: when the connection ends.
func (s *Server) accept(channels <-chan ssh.NewChannel, parts *sync.WaitGroup) {
	slots := make(chan struct{}, maxChannels)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "this agent only runs commands")
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = offered.Reject(ssh.ResourceShortage, fmt.Sprintf("this agent runs at most %d commands at a time", maxChannels))
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			<-slots
			continue // the connection is ending
		}
		parts.Go(func() {
			defer func() { <-slots }()
			s.session(channel, requests)
		})
	}
}

// answer replies to the connection's own requests. What they made the machine
// listen on ends with the connection.
func (s *Server) answer(ctx context.Context, client opener, requests <-chan *ssh.Request) {
	forwards := newForwards(ctx, client)
	defer forwards.close()
	for request := range requests {
		ok, message := false, []byte(nil)
		switch {
		case request.Type == WakeRequest && s.options.Wake != nil:
			ok, message = s.wake(request.Payload)
		case request.Type == FreezeRequest && s.options.Wake != nil:
			ok, message = s.freeze()
		case request.Type == forwardRequest:
			reply, err := forwards.listen(request.Payload)
			ok, message = err == nil, reply
		case request.Type == cancelRequest:
			ok = forwards.cancel(request.Payload) == nil
		}
		if request.WantReply {
			_ = request.Reply(ok, message) // an ending connection ends the loop
		}
	}
}

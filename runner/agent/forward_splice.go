package agent

import (
	"context"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Stream is a connection whose two directions end apart: a TCP or Unix socket.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Splice joins an SSH channel (RFC 4254, section 5) with a connection: what one
// says the other gets, an end of either direction included. It returns when the
// channel is closed on both sides and the connection is closed, and nothing it
// started is left. When ctx ends both are closed, the channel as soon as its peer
// agrees. requests are the channel's; they are refused, and so
// is extended data.
func Splice(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request, conn Stream) {
	var in, both, others sync.WaitGroup
	ended := make(chan struct{})
	others.Go(func() {
		select {
		case <-ctx.Done():
			_ = conn.Close()
			_ = channel.Close() // it may be closed already, by the peer
		case <-ended:
		}
	})
	in.Go(func() {
		if _, err := io.Copy(conn, channel); err != nil || conn.CloseWrite() != nil {
			_ = channel.Close() // nobody reads any more
			_ = conn.Close()
		}
	})
	both.Go(in.Wait)
	both.Go(func() {
		if _, err := io.Copy(channel, conn); err != nil || channel.CloseWrite() != nil {
			_ = channel.Close() // what came in before still goes to the connection
		}
	})
	others.Go(func() { _, _ = io.Copy(io.Discard, channel.Stderr()) })
	others.Go(func() {
		both.Wait()
		_ = channel.Close()
	})
	ssh.DiscardRequests(requests) // until both sides have closed the channel
	in.Wait()                     // what came before the close is with the connection
	_ = conn.Close()
	close(ended)
	others.Wait()
}

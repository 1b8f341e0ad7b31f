package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// tunnel joins a guest with a host that is allowed as a whole (RFC 9110, section
// 9.3.6), until both directions have ended or neither side says anything.
func (p *Proxy) tunnel(a *reply, t target) error {
	ctx, cancel := context.WithCancel(a.r.Context())
	defer cancel()
	far, err := p.guard.connect(ctx, t)
	if err != nil {
		return fmt.Errorf("cannot reach %s: %w", t.address(), err)
	}
	defer func() { _ = far.Close() }() // the streams ended before
	near, buffered, err := a.limit.Hijack()
	if err != nil {
		return fmt.Errorf("cannot take over the guest's connection: %w", err)
	}
	defer func() { _ = near.Close() }()
	a.entry.Status, a.entry.From = http.StatusOK, FromTunnel
	if err := near.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("cannot take over the guest's connection: %w", err)
	}
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return fmt.Errorf("cannot answer the guest: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	idle := time.AfterFunc(p.options.Idle, cancel)
	defer idle.Stop()
	// What came with the request is here already. The rest is read from the
	// connection itself: the server's reader takes its end for the guest's.
	early := io.LimitReader(buffered.Reader, int64(buffered.Reader.Buffered()))
	var both sync.WaitGroup
	both.Go(func() { pump(far, io.MultiReader(early, near), idle, p.options.Idle) })
	both.Go(func() { a.entry.Bytes = pump(near, far, idle, p.options.Idle) })
	both.Wait()
	return nil
}

// pump carries one direction and hands on its end. Every piece puts off the end
// of both. It tells how many bytes went.
func pump(to net.Conn, from io.Reader, idle *time.Timer, wait time.Duration) (total int64) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			idle.Reset(wait)
			if _, werr := to.Write(buffer[:n]); werr != nil {
				_ = to.Close() // and the other direction, which reads from it
				return total
			}
			total += int64(n)
		}
		if err != nil {
			break
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // it may be gone as a whole
		return total
	}
	_ = to.Close()
	return total
}

// connect opens a connection to the target, through the host's own proxy if its
// environment names one.
func (g *guard) connect(ctx context.Context, t target) (net.Conn, error) {
	via, err := g.proxyFor(&http.Request{URL: &url.URL{Scheme: "https", Host: t.address()}})
	switch {
	case err != nil:
		return nil, err
	case via == nil:
		return g.dial(ctx, "tcp", t.address())
	case via.Scheme != "http":
		return nil, fmt.Errorf("the host's own proxy speaks %s: only http is supported for CONNECT", via.Scheme)
	}
	conn, err := g.dial(ctx, "tcp", proxyAddress(via))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := ask(conn, via, t.address()); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ask has the host's own proxy connect to an address.
func ask(conn net.Conn, via *url.URL, address string) error {
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if via.User != nil {
		password, _ := via.User.Password()
		sum := base64.StdEncoding.EncodeToString([]byte(via.User.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+sum)
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	// One byte at a time: what follows the head belongs to the tunnel.
	resp, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(oneByte{conn}, 64<<10), 16), request)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the host's own proxy answered %s", resp.Status)
	}
	return conn.SetDeadline(time.Time{})
}

// oneByte reads single bytes, so that no buffer takes more than it is asked for.
type oneByte struct{ io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(1, len(p))]) }

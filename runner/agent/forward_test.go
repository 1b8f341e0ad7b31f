package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// listen has the agent listen, through the stock client.
func listen(t *testing.T, client *ssh.Client, address string) net.Listener {
	t.Helper()
	l, err := client.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// connectTo is a program in the machine that connects to the listener.
func connectTo(t *testing.T, address net.Addr) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// accept takes the next connection that came in.
func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestForwardedBytes(t *testing.T) {
	client, _ := serve(t, Options{})
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := listen(t, client, address)
		program := connectTo(t, l.Addr())
		host := accept(t, l)
		if got := host.RemoteAddr().String(); got != program.LocalAddr().String() {
			t.Errorf("%s: the connection comes from %s, the host is told %s", address, program.LocalAddr(), got)
		}
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than a channel's window
		var sending sync.WaitGroup
		for _, from := range []net.Conn{program, host} {
			sending.Go(func() {
				if _, err := from.Write(sent); err != nil {
					t.Error(err)
				}
				if err := from.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Error(err)
				}
			})
		}
		for _, to := range []net.Conn{program, host} {
			sending.Go(func() {
				if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%s: %d of %d bytes arrived: %v", address, len(got), len(sent), err)
				}
			})
		}
		sending.Wait()
	}
}

// TestForwardedHalfClose has each side end its direction while the other goes on.
func TestForwardedHalfClose(t *testing.T) {
	client, _ := serve(t, Options{})
	l := listen(t, client, "127.0.0.1:0")
	type end interface {
		net.Conn
		CloseWrite() error
	}
	for _, first := range []string{"program", "host"} {
		program := connectTo(t, l.Addr())
		host := accept(t, l).(end)
		a, b := end(program), host
		if first == "host" {
			a, b = b, a
		}
		if _, err := io.WriteString(a, "question"); err != nil {
			t.Fatal(err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); string(got) != "question" || err != nil {
			t.Errorf("%s first: %q, %v", first, got, err)
		}
		if _, err := io.WriteString(b, "answer"); err != nil {
			t.Errorf("%s first: the other direction ended too: %v", first, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
			t.Errorf("%s first: %q, %v", first, got, err)
		}
	}
}

// TestForwardedReset has the program break off; the host must see an end.
func TestForwardedReset(t *testing.T) {
	client, _ := serve(t, Options{})
	l := listen(t, client, "127.0.0.1:0")
	program := connectTo(t, l.Addr())
	host := accept(t, l)
	if err := program.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(host); err != nil {
		t.Error(err)
	}
	for err := error(nil); err == nil; { // until the channel is closed
		_, err = io.WriteString(host, strings.Repeat("x", 1<<10))
	}
}

func TestForwardingIsRefused(t *testing.T) {
	client, _ := serve(t, Options{})
	taken := connectable(t)
	for name, payload := range map[string][]byte{
		"all interfaces":  ssh.Marshal(endpoint{"", 0}),
		"any address":     ssh.Marshal(endpoint{"0.0.0.0", 0}),
		"another address": ssh.Marshal(endpoint{"192.0.2.1", 0}),
		"loopback's kin":  ssh.Marshal(endpoint{"127.0.0.2", 0}),
		"a name":          ssh.Marshal(endpoint{"localhost.example.org", 0}),
		"a large port":    ssh.Marshal(endpoint{"127.0.0.1", 65536}),
		"a huge port":     ssh.Marshal(endpoint{"127.0.0.1", 1<<32 - 1}),
		"a taken port":    ssh.Marshal(endpoint{"127.0.0.1", taken}),
		"nothing":         nil,
		"garbage":         {0, 0, 1, 0, 'x'},
		"more":            append(ssh.Marshal(endpoint{"127.0.0.1", 0}), 0),
	} {
		if ok, _, err := client.SendRequest(forwardRequest, true, payload); ok || err != nil {
			t.Errorf("%s was answered with %t, %v", name, ok, err)
		}
		if ok, _, err := client.SendRequest(cancelRequest, true, payload); ok || err != nil {
			t.Errorf("ending %s was answered with %t, %v", name, ok, err)
		}
	}
}

// connectable is a port that somebody listens on.
func connectable(t *testing.T) uint32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

func TestListenersAreBounded(t *testing.T) {
	client, _ := serve(t, Options{})
	var all []net.Listener
	for range maxListeners {
		all = append(all, listen(t, client, "127.0.0.1:0"))
	}
	if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("one more was taken")
	}
	if err := all[0].Close(); err != nil {
		t.Error(err)
	}
	listen(t, client, "localhost:0")
}

// slow is a client that takes its time to refuse a connection.
type slow struct {
	asked   chan struct{} // one for each connection it is asked to take
	refuse  chan struct{} // lets it refuse one
	active  atomic.Int64
	highest atomic.Int64
}

func (s *slow) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	now := s.active.Add(1)
	for high := s.highest.Load(); now > high && !s.highest.CompareAndSwap(high, now); {
		high = s.highest.Load()
	}
	s.asked <- struct{}{}
	<-s.refuse
	s.active.Add(-1)
	return nil, nil, errors.New("no")
}

// TestForwardedConnectionsAreBounded wants the connections beyond the bound to
// wait, not to be lost.
func TestForwardedConnectionsAreBounded(t *testing.T) {
	const connections = 3 * maxForwarded
	client := &slow{asked: make(chan struct{}), refuse: make(chan struct{}, connections)}
	f := newForwards(t.Context(), client)
	port := listenOn(t, f)
	for range connections {
		connectTo(t, port)
	}
	for i := range connections {
		if i >= maxForwarded {
			client.refuse <- struct{}{} // one must end before another begins
		}
		<-client.asked
	}
	if got := client.highest.Load(); got != maxForwarded {
		t.Errorf("%d connections were carried at once, want %d", got, maxForwarded)
	}
	for range maxForwarded {
		client.refuse <- struct{}{}
	}
	f.close()
}

// listenOn listens on any port, without a connection to ask over.
func listenOn(t *testing.T, f *forwards) net.Addr {
	t.Helper()
	reply, err := f.listen(ssh.Marshal(endpoint{"127.0.0.1", 0}))
	var port struct{ Port uint32 }
	if err != nil || ssh.Unmarshal(reply, &port) != nil {
		t.Fatal(reply, err)
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port.Port)}
}

// refused tells that nobody listens there.
func refused(address net.Addr) bool {
	conn, err := net.Dial("tcp", address.String())
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestCancelLeavesNothing(t *testing.T) {
	client, _ := serve(t, Options{})
	l := listen(t, client, "127.0.0.1:0")
	program := connectTo(t, l.Addr())
	accept(t, l)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if !refused(l.Addr()) {
		t.Error("somebody still listens")
	}
	if _, err := io.ReadAll(program); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v", err)
	}
	if err := l.Close(); err == nil {
		t.Error("the agent ended it twice")
	}
}

func TestForwardingEndsWithTheConnection(t *testing.T) {
	client, ended := serve(t, Options{})
	l := listen(t, client, "127.0.0.1:0")
	idle := connectTo(t, l.Addr())
	accept(t, l)
	silent := connectTo(t, l.Addr()) // never accepted
	_ = client.Close()
	<-ended // Serve returns when all is closed
	if !refused(l.Addr()) {
		t.Error("somebody still listens")
	}
	for _, program := range []net.Conn{idle, silent} {
		if _, err := io.ReadAll(program); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the connection ended with %v", err)
		}
	}
}

// TestClientRefusesConnections is for a client that asked and then wants none.
func TestClientRefusesConnections(t *testing.T) {
	client, _ := serve(t, Options{})
	offers := client.HandleChannelOpen(forwardChannel)
	ok, reply, err := client.SendRequest(forwardRequest, true, ssh.Marshal(endpoint{"localhost", 0}))
	var port struct{ Port uint32 }
	if err != nil || !ok || ssh.Unmarshal(reply, &port) != nil {
		t.Fatal(ok, reply, err)
	}
	program := connectTo(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port.Port)})
	offer := <-offers
	var said struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	if err := ssh.Unmarshal(offer.ExtraData(), &said); err != nil {
		t.Error(err)
	}
	from := program.LocalAddr().(*net.TCPAddr)
	if said.Host != "localhost" || said.Port != port.Port || said.FromHost != "127.0.0.1" || int(said.FromPort) != from.Port {
		t.Errorf("the host is told %+v", said)
	}
	if err := offer.Reject(ssh.Prohibited, "no"); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(program); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program got %q, %v", got, err)
	}
}

// stuck is a client that never answers.
type stuck struct{ asked chan struct{} }

func (s stuck) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	close(s.asked)
	select {}
}

// TestClientThatNeverAnswers leaves one goroutine behind, as the library does.
func TestClientThatNeverAnswers(t *testing.T) {
	client := stuck{make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	f := newForwards(ctx, client)
	connectTo(t, listenOn(t, f))
	<-client.asked
	cancel()
	f.close()
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add(ssh.Marshal(endpoint{"127.0.0.1", 0}))
	f.Add(ssh.Marshal(endpoint{"localhost", 65535}))
	f.Add(ssh.Marshal(endpoint{"", 1 << 31}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := parseEndpoint(payload)
		if err != nil {
			return
		}
		if e.Port > 65535 || !bytes.Equal(ssh.Marshal(e), payload) {
			t.Errorf("%q became %v", payload, e)
		}
		address, err := net.ResolveTCPAddr("tcp", e.String())
		if err != nil || !address.IP.IsLoopback() {
			t.Errorf("%q would listen on %v: %v", payload, address, err)
		}
	})
}

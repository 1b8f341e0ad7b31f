package usernet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const website = "93.184.216.34:80"

// webServer is a server on this host's loopback that plays website.
func webServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func (g *guest) httpClient() *http.Client {
	transport := &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return g.dialTCP(addr) }}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTP(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // far more than all buffers hold
	server := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, big) {
			http.Error(w, "not what was sent", http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body) // the client checks
	})
	socket, _ := serve(t, Options{Allow: only(website), dial: detour(website, server.Listener.Addr())})
	client := newGuest(t, socket).httpClient()
	for range 3 {
		response, err := client.Post("http://"+website+"/", "text/plain", bytes.NewReader(big))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(got, big) {
			t.Fatalf("got %s, %d bytes, %v", response.Status, len(got), err)
		}
		_ = response.Body.Close() // read whole
		client.CloseIdleConnections()
	}
}

// TestHalfClose sees that the end of one direction is passed on alone.
func TestHalfClose(t *testing.T) {
	listener := listen(t)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return // the test fails on its own side
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		_, _ = fmt.Fprintf(conn, "got %s", all)
	}()
	socket, _ := serve(t, Options{Allow: only(website), dial: detour(website, listener.Addr())})
	conn, err := newGuest(t, socket).dialTCP(website)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "everything"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "got everything" {
		t.Errorf("got %q, %v", got, err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// TestRefusedAtOnce sees that what may not be reached is answered with a reset,
// and that the server there hears nothing.
func TestRefusedAtOnce(t *testing.T) {
	server := webServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the host's own server was reached") })
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var heard []Refused
	socket, stop := serve(t, Options{
		Allow: hostWith(PolicyOptions{}, "127.0.0.1/8", "8.8.4.4/24"),
		Log:   func(r Refused) { mu.Lock(); defer mu.Unlock(); heard = append(heard, r) },
		dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			return net.Dial("tcp", server.Listener.Addr().String()) // a policy that fails is seen
		},
	})
	g := newGuest(t, socket)
	wanted := []string{"10.0.2.2:" + port, "8.8.4.4:" + port, "9.9.9.9:" + port, "169.254.169.254:80", "192.168.0.1:80"}
	for range 2 {
		for _, addr := range wanted {
			conn, err := g.dialTCP(addr)
			if err == nil {
				_ = conn.Close() // the test has failed
			}
			if err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("a connection to %s ended with %v, want it refused", addr, err)
			}
		}
	}
	stop()
	if len(heard) != len(wanted) {
		t.Errorf("heard of %d refused destinations, want each of %d once: %v", len(heard), len(wanted), heard)
	}
	for i, r := range heard {
		if i < len(wanted) && (r.Addr.String() != wanted[i] || r.Proto != "tcp" || r.Err == nil) {
			t.Errorf("heard %+v, want %s", r, wanted[i])
		}
	}
}

// TestDefaultPolicyOnTheWire asks the default policy about this very host.
func TestDefaultPolicyOnTheWire(t *testing.T) {
	listener, err := net.Listen("tcp", ":0") // on every address of this host
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	go func() {
		if conn, err := listener.Accept(); err == nil {
			t.Errorf("the host was reached as %v", conn.LocalAddr())
			_ = conn.Close()
		}
	}()
	socket, _ := serve(t, Options{})
	g := newGuest(t, socket)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	targets := []netip.Addr{netip.MustParseAddr(GatewayAddress)}
	for _, a := range addrs {
		if own, ok := prefixOf(a); ok && own.Addr().Is4() && !own.Addr().IsLoopback() {
			targets = append(targets, own.Addr())
		}
	}
	for _, to := range targets {
		conn, err := g.dialTCP(netip.AddrPortFrom(to, uint16(port)).String())
		if err == nil {
			_ = conn.Close() // the test has failed
		}
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("a connection to this host as %s ended with %v, want it refused", to, err)
		}
	}
}

// TestNobodyThere sees that a dial that fails is a reset to the guest.
func TestNobodyThere(t *testing.T) {
	socket, _ := serve(t, Options{Allow: only(website), dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no route to host")
	}})
	if conn, err := newGuest(t, socket).dialTCP(website); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, %v, want it refused", conn, err)
	}
}

func udpEcho(t *testing.T) net.Addr {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		buf := make([]byte, maxDatagram)
		for {
			count, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:count], from)
		}
	})
	t.Cleanup(func() { _ = conn.Close(); ended.Wait() })
	return conn.LocalAddr()
}

func TestUDP(t *testing.T) {
	socket, _ := serve(t, Options{Allow: only(website), dial: detour(website, udpEcho(t))})
	conn := newGuest(t, socket).dialUDP(website)
	for _, size := range []int{1, 1400, 8000} { // the last in fragments
		sent := bytes.Repeat([]byte{'x'}, size)
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, maxDatagram)
		if count, err := conn.Read(buf); err != nil || !bytes.Equal(buf[:count], sent) {
			t.Fatalf("sent %d bytes, got %d, %v", size, count, err)
		}
	}
}

// TestUDPRefused sees that a guest hears of a refusal, not of nothing: ICMP
// destination unreachable, port unreachable (RFC 792).
func TestUDPRefused(t *testing.T) {
	socket, _ := serve(t, Options{})
	conn := plug(t, socket)
	for _, addr := range []string{"10.0.2.2:5353", "169.254.169.254:123"} {
		to := full(addr)
		writeRaw(t, conn, datagramFrame(tcpip.FullAddress{Addr: guestIP, Port: 7}, to, gatewayMAC, []byte("hello")))
		ip := readIPv4(t, conn)
		message := header.ICMPv4(ip.Payload())
		if ip.TransportProtocol() != header.ICMPv4ProtocolNumber || message.Type() != header.ICMPv4DstUnreachable ||
			message.Code() != header.ICMPv4PortUnreachable || header.IPv4(message.Payload()).DestinationAddress() != to.Addr {
			t.Errorf("a datagram to %s was answered with %x", addr, []byte(ip))
		}
	}
}

// TestLimits sees that one connection, one association and so many bytes are
// what a machine gets when that is the limit, and that places are given back.
func TestLimits(t *testing.T) {
	echo := echoServer(t)
	var mu sync.Mutex
	heard := map[string]bool{}
	socket, _ := serve(t, Options{
		Allow: func(netip.AddrPort, string) error { return nil }, Limits: Limits{Connections: 1},
		Log:  func(r Refused) { mu.Lock(); defer mu.Unlock(); heard[r.Err.Error()] = true },
		dial: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", echo.String()) },
	})
	g := newGuest(t, socket)
	first, err := g.dialTCP(website)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := g.dialTCP(website); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a second connection gave %v, %v, want it refused", conn, err)
	}
	mu.Lock()
	if !heard["cannot connect: the machine has too many connections"] {
		t.Errorf("heard %v", heard)
	}
	mu.Unlock()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for { // until the place is free
		second, err := g.dialTCP(website)
		if err == nil {
			_ = second.Close()
			return
		}
		if t.Context().Err() != nil || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("the place was not given back: %v", err)
		}
	}
}

func TestBytesLimit(t *testing.T) {
	echo := echoServer(t)
	socket, _ := serve(t, Options{Allow: only(website), dial: detour(website, echo), Limits: Limits{Bytes: 100_000}})
	g := newGuest(t, socket)
	conn, err := g.dialTCP(website)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(conn, bytes.NewReader(make([]byte, 10_000_000))) }() // until the connection is cut
	if got, err := io.Copy(io.Discard, conn); got > 100_000 {
		t.Errorf("moved %d bytes back and ended with %v, want it cut", got, err)
	}
	if _, err := g.dialTCP(website); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the next connection ended with %v, want it refused", err)
	}
}

func echoServer(t *testing.T) net.Addr {
	t.Helper()
	listener := listen(t)
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			ended.Go(func() { defer conn.Close(); _, _ = io.Copy(conn, conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); ended.Wait() })
	return listener.Addr()
}

// TestStopInTheMiddle cancels a network with connections in every state; stop
// sees that nothing is left of any.
func TestStopInTheMiddle(t *testing.T) {
	echo := echoServer(t)
	dialing := make(chan struct{})
	socket, stop := serve(t, Options{
		Allow: func(netip.AddrPort, string) error { return nil },
		dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "1.2.3.4:5" {
				close(dialing)
				<-ctx.Done() // nobody answers
				return nil, ctx.Err()
			}
			return net.Dial("tcp", echo.String())
		},
	})
	g := newGuest(t, socket)
	for i := range 20 {
		conn, err := g.dialTCP(website)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, 100_000*(i%3))); err != nil { // some never read what comes back
			t.Fatal(err)
		}
		if i%2 == 0 {
			_ = conn.CloseWrite()
		}
		if i%5 == 0 {
			_ = conn.Close()
		}
	}
	writeRaw(t, g.conn, synFrame(1, "1.2.3.4:5"))
	writeRaw(t, g.conn, synFrame(2, website)) // its handshake never ends: the guest's stack knows nothing of it
	<-dialing
	stop()
}

// synFrame is the first segment of a connection.
func synFrame(port uint16, to string) []byte {
	frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize)
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: gatewayMAC, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	dst := full(to)
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: guestIP, DstAddr: dst.Addr})
	ip.SetChecksum(^ip.CalculateChecksum())
	segment := header.TCP(ip[header.IPv4MinimumSize:])
	segment.Encode(&header.TCPFields{SrcPort: port, DstPort: dst.Port, SeqNum: 7, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, guestIP, dst.Addr, header.TCPMinimumSize)
	segment.SetChecksum(^segment.CalculateChecksum(sum))
	return frame
}

// TestFork sees that a machine that never asks for the gateway, because it
// knows it from its template, is answered: first a connection of its template,
// which is none any more, then a new one.
func TestFork(t *testing.T) {
	socket, _ := serve(t, Options{Allow: only(website), dial: detour(website, echoServer(t))})
	conn := plug(t, socket)
	old := synFrame(7, website)
	segment := header.TCP(old[header.EthernetMinimumSize+header.IPv4MinimumSize:])
	segment.SetFlags(uint8(header.TCPFlagAck | header.TCPFlagPsh))
	segment.SetChecksum(0)
	segment.SetChecksum(^segment.CalculateChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, guestIP, full(website).Addr, header.TCPMinimumSize)))
	for _, c := range []struct {
		frame []byte
		want  header.TCPFlags
	}{{old, header.TCPFlagRst}, {synFrame(8, website), header.TCPFlagSyn | header.TCPFlagAck}} {
		writeRaw(t, conn, c.frame)
		ip := readIPv4(t, conn)
		if got := header.TCP(ip.Payload()).Flags(); ip.SourceAddress() != full(website).Addr || got&c.want != c.want {
			t.Errorf("answered with %v from %v, want %v", got, ip.SourceAddress(), c.want)
		}
	}
}

// TestFlood sends first segments by the thousand and sees that no more than
// the limit are dialled, and that a machine that reads nothing meanwhile is
// served again when it does.
func TestFlood(t *testing.T) {
	var mu sync.Mutex
	dialled := 0
	socket, stop := serve(t, Options{
		Allow:  func(netip.AddrPort, string) error { return nil },
		Limits: Limits{NewPerSecond: 100_000},
		dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			dialled++
			mu.Unlock()
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	conn := plug(t, socket)
	for i := range 20_000 {
		writeRaw(t, conn, synFrame(uint16(i+1), fmt.Sprintf("1.2.%d.%d:80", i%256, i/256)))
	}
	ask(t, conn) // it is alive, and has seen all
	mu.Lock()
	if dialled == 0 || dialled > maxDialing {
		t.Errorf("%d connections were under way, want 1 to %d", dialled, maxDialing)
	}
	mu.Unlock()
	stop()
}

// TestSlowReader pings without reading the answers, and sees that those that
// wait are few, and that the network is there when the machine reads again.
func TestSlowReader(t *testing.T) {
	const pings = 30_000
	socket, _ := serve(t, Options{})
	conn := plug(t, socket)
	for range pings {
		writeRaw(t, conn, echoFrame(gatewayIP))
	}
	for answers := 0; ; answers++ {
		writeRaw(t, conn, arpFrame(gatewayIP)) // lost while too many answers wait
		if header.Ethernet(conn.next(t)).Type() == header.ARPProtocolNumber {
			return
		}
		if answers >= pings/2 {
			t.Fatalf("more than %d answers waited for a machine that does not read", answers)
		}
	}
}

// ask sends a question about the gateway (ARP) and waits for the answer.
func ask(t *testing.T, conn *wire) {
	t.Helper()
	writeRaw(t, conn, arpFrame(gatewayIP))
	for {
		frame := conn.next(t)
		eth := header.Ethernet(frame)
		reply := header.ARP(frame[header.EthernetMinimumSize:])
		if eth.Type() == header.ARPProtocolNumber && reply.IsValid() && reply.Op() == header.ARPReply {
			return
		}
	}
}

// TestNextConnection sees that a network comes up anew for a QEMU that comes
// again, also after one that sent garbage.
func TestNextConnection(t *testing.T) {
	socket, _ := serve(t, Options{})
	for _, garbage := range []string{"", "\xff\xff\xff\xffgarbage", "GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x40half a frame"} {
		conn := plug(t, socket)
		ask(t, conn)
		if _, err := io.WriteString(conn, garbage); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	ask(t, plug(t, socket))
}

package usernet

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// serve runs a network for one test and gives the socket that QEMU would
// connect to. stop ends it and waits. When the test and its guests have ended,
// nothing may be left.
func serve(t *testing.T, o Options) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "net.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		stop()
		nothingLeft(t)
	})
	return socket, stop
}

// nothingLeft waits until no goroutine but the test's own runs code of this
// package or of the stack: one that is counted as ended may still be on its way
// out.
func nothingLeft(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		left := leftovers()
		if len(left) == 0 {
			break
		}
		if ctx.Err() != nil {
			t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
			return
		}
		runtime.Gosched()
	}
	if dangling := tcpip.GetDanglingEndpoints(); len(dangling) > 0 {
		t.Errorf("%d connections are left in the stack's list", len(dangling))
	}
}

func leftovers() []string {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var left []string
	for _, one := range strings.Split(string(stacks), "\n\n") {
		ours := strings.Contains(one, "/runner/usernet.") || strings.Contains(one, "gvisor.dev/")
		if ours && !strings.Contains(one, "testing.tRunner") && !strings.Contains(one, "_test.go") {
			left = append(left, one)
		}
	}
	return left
}

// guest is the machine's side of the wire, with a stack of its own.
type guest struct {
	t     *testing.T
	conn  *wire
	stack *stack.Stack
	link  *channel.Endpoint
	ended sync.WaitGroup
}

const guestMAC = tcpip.LinkAddress("\x52\x54\x00\x12\x34\x56")

// wire is a connection to the network by which frames are sent by hand.
type wire struct {
	net.Conn
	frames *frameReader
}

// plug connects to the network as QEMU does.
func plug(t *testing.T, socket string) *wire {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // some tests do before
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &wire{Conn: conn, frames: newFrameReader(conn)}
}

func (w *wire) next(t *testing.T) []byte {
	t.Helper()
	frame, err := w.frames.next()
	if err != nil {
		t.Fatalf("the network is gone: %v", err)
	}
	return frame
}

func newGuest(t *testing.T, socket string) *guest {
	t.Helper()
	g := &guest{t: t, conn: plug(t, socket), link: channel.New(4096, maxFrame, guestMAC)}
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	g.must(g.stack.CreateNIC(nic, ethernet.New(g.link)))
	g.must(g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: guestIP, PrefixLen: 24},
	}, stack.AddressProperties{}))
	g.stack.SetRouteTable([]tcpip.Route{
		{Destination: tcpip.AddressWithPrefix{Address: guestIP, PrefixLen: 24}.Subnet(), NIC: nic},
		{Destination: header.IPv4EmptySubnet, Gateway: gatewayIP, NIC: nic},
	})
	ctx, cancel := context.WithCancel(t.Context())
	g.ended.Go(func() { g.send(ctx) })
	g.ended.Go(g.receive)
	t.Cleanup(func() {
		cancel()
		_ = g.conn.Close() // ends both directions
		g.ended.Wait()
		g.stack.Destroy()
	})
	return g
}

func (g *guest) must(err tcpip.Error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) send(ctx context.Context) {
	for {
		pkt := g.link.ReadContext(ctx)
		if pkt == nil {
			return
		}
		w := bufio.NewWriter(g.conn)
		err := writeFrame(w, pkt)
		pkt.DecRef()
		if err != nil || w.Flush() != nil {
			return
		}
	}
}

func (g *guest) receive() {
	for {
		frame, err := g.conn.frames.next()
		if err != nil {
			return
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		g.link.InjectInbound(0, pkt)
		pkt.DecRef()
	}
}

func full(addr string) tcpip.FullAddress {
	a := netip.MustParseAddrPort(addr)
	return tcpip.FullAddress{Addr: tcpip.AddrFrom4(a.Addr().As4()), Port: a.Port()}
}

// dialTCP connects, or fails within a minute: what is refused must be so at
// once, and a test that hangs instead ends there.
func (g *guest) dialTCP(addr string) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, full(addr), ipv4.ProtocolNumber)
}

func (g *guest) dialUDP(addr string) *gonet.UDPConn {
	g.t.Helper()
	to := full(addr)
	conn, err := gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() }) // twice at worst
	return conn
}

// detour has connections to one address go to another, so that a server of a
// test, which listens on this host's loopback, can play one of the internet.
func detour(from string, to net.Addr) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != from {
			return nil, fmt.Errorf("an unexpected connection to %s", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, to.String())
	}
}

func only(addr string) Policy {
	return func(to netip.AddrPort, _ string) error {
		if to != netip.MustParseAddrPort(addr) {
			return fmt.Errorf("cannot connect to %s: the test refuses it", to)
		}
		return nil
	}
}

func writeRaw(t *testing.T, w io.Writer, frame []byte) {
	t.Helper()
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		t.Fatal(err)
	}
}

// datagramFrame is a UDP datagram in a frame, as a guest would send it.
func datagramFrame(from, to tcpip.FullAddress, dst tcpip.LinkAddress, payload []byte) []byte {
	frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.UDPMinimumSize+len(payload))
	header.Ethernet(frame).Encode(&header.EthernetFields{SrcAddr: guestMAC, DstAddr: dst, Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: from.Addr, DstAddr: to.Addr,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	datagram := header.UDP(ip[header.IPv4MinimumSize:])
	datagram.Encode(&header.UDPFields{SrcPort: from.Port, DstPort: to.Port, Length: uint16(len(datagram))}) // no checksum
	copy(datagram[header.UDPMinimumSize:], payload)
	return frame
}

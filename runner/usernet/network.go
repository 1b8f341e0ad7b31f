package usernet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
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

// The network's addresses as the stack writes them.
const (
	nic        = tcpip.NICID(1)
	gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")
	queue      = 512 // frames on their way to the guest; what does not fit is lost, as on any wire
	// buffered is what one direction of a TCP connection holds at most.
	buffered = 128 << 10
)

var (
	guestIP          = tcpip.AddrFrom4([4]byte{10, 0, 2, 15})
	gatewayIP        = tcpip.AddrFrom4([4]byte{10, 0, 2, 2})
	networkBroadcast = tcpip.AddrFrom4([4]byte{10, 0, 2, 255})
	guestNetwork     = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 2, 0}), 24)
)

// network is one stack and what runs on it. receive is the only one that feeds
// it, so that all packets of the guest are handled by that goroutine.
type network struct {
	ctx   context.Context // ends with the connection to QEMU
	o     Options
	heard *refusals
	stack *stack.Stack
	link  *channel.Endpoint
	owned sync.WaitGroup // every goroutine but those of the stack itself

	fresh       *rate.Limiter // new connections and associations
	queries     *rate.Limiter
	connections chan struct{} // a place for each
	relays      chan struct{}
	spent       atomic.Int64

	mu      sync.Mutex
	dialing map[stack.TransportEndpointID]bool // connections of the guest that are not made yet
	open    map[io.Closer]bool                 // nil when all is over
}

func newNetwork(ctx context.Context, o Options, heard *refusals) (*network, error) {
	l := o.Limits
	n := &network{
		ctx: ctx, o: o, heard: heard,
		link:        channel.New(queue, maxFrame, gatewayMAC),
		fresh:       rate.NewLimiter(rate.Limit(l.NewPerSecond), l.NewPerSecond),
		queries:     rate.NewLimiter(rate.Limit(l.Queries), l.Queries),
		connections: make(chan struct{}, l.Connections),
		relays:      make(chan struct{}, l.Associations),
		dialing:     map[stack.TransportEndpointID]bool{},
		open:        map[io.Closer]bool{},
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		}),
	}
	err := errors.Join(n.tune(), n.wire())
	if err == nil {
		n.takeAll()
		err = errors.Join(n.serveDHCP(), n.serveDNS())
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("cannot make a virtual machine's network: %w", err)
	}
	return n, nil
}

// tune bounds the stack's own memory.
func (n *network) tune() error {
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: buffered, Max: buffered}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: buffered, Max: buffered}
	sack := tcpip.TCPSACKEnabled(true)
	retries := tcpip.TCPSynRetriesOption(3)
	linger := tcpip.TCPLingerTimeoutOption(5 * time.Second)
	wait := tcpip.TCPTimeWaitTimeoutOption(time.Second) // the wire reorders nothing
	for _, option := range []tcpip.SettableTransportProtocolOption{&receive, &send, &sack, &retries, &linger, &wait} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("cannot set %T: %s", option, err)
		}
	}
	return nil
}

// wire gives the stack its card, the gateway's address, and the packets for
// every other one.
func (n *network) wire() error {
	if err := n.stack.CreateNIC(nic, ethernet.New(n.link)); err != nil {
		return errors.New(err.String())
	}
	address := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: gatewayIP, PrefixLen: guestNetwork.Bits()},
	}
	if err := n.stack.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		return errors.New(err.String())
	}
	if err := n.stack.SetPromiscuousMode(nic, true); err != nil {
		return errors.New(err.String())
	}
	if err := n.stack.SetSpoofing(nic, true); err != nil {
		return errors.New(err.String())
	}
	n.stack.SetRouteTable([]tcpip.Route{{Destination: address.AddressWithPrefix.Subnet(), NIC: nic}})
	return nil
}

// takeAll has the packets that are for no service of the gateway handled here.
func (n *network) takeAll() {
	forwarder := tcp.NewForwarder(n.stack, buffered, maxDialing+1, n.connect)
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		return n.handleTCP(forwarder, id, pkt)
	})
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, n.handleUDP)
}

// receive hands the guest's frames to the stack until the connection ends. The
// stack handles each before the next is read: a flood waits in QEMU.
func (n *network) receive(conn io.Reader) {
	frames := newFrameReader(conn)
	card := tcpip.LinkAddress("")
	for {
		frame, err := frames.next()
		if err != nil {
			return // the connection is of no use any more; its end is the answer
		}
		if !admit(frame) {
			continue
		}
		if from := header.Ethernet(frame).SourceAddress(); from != card {
			card = from
			n.meet(card)
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		n.link.InjectInbound(0, pkt) // the Ethernet header names the protocol
		pkt.DecRef()
	}
}

// meet tells the stack which card the guest has, so that it never asks: it would
// ask in the name of whoever it answers for, and a fork knows the gateway from
// its template and does not ask either.
func (n *network) meet(card tcpip.LinkAddress) {
	if !header.IsMulticastEthernetAddress(card) {
		_ = n.stack.AddStaticNeighbor(nic, ipv4.ProtocolNumber, guestIP, card) // the card exists: this cannot fail
	}
}

// send writes the stack's frames to the guest until the connection or the
// context ends. Those that queued up meanwhile go in one write.
func (n *network) send(conn io.Writer) {
	w := bufio.NewWriterSize(conn, 64<<10)
	for {
		pkt := n.link.Read()
		if pkt == nil {
			if w.Flush() != nil {
				return
			}
			if pkt = n.link.ReadContext(n.ctx); pkt == nil {
				return
			}
		}
		err := writeFrame(w, pkt)
		pkt.DecRef()
		if err != nil {
			return
		}
	}
}

// allow asks the policy, and tells of what it refuses. The guest's own network
// has nobody but the gateway, whose services the stack finds before.
func (n *network) allow(to destination) error {
	var err error
	switch {
	case guestNetwork.Contains(to.addr.Addr()):
		err = fmt.Errorf("cannot connect to %s: the machine's own network has no such service", to.addr)
	case n.exhausted():
		err = fmt.Errorf("cannot connect to %s: the machine has moved its %d bytes", to.addr, n.o.Limits.Bytes)
	default:
		err = n.o.Allow(to.addr, to.proto)
	}
	if err != nil {
		n.heard.tell(to, err)
	}
	return err
}

func (n *network) exhausted() bool {
	return n.o.Limits.Bytes > 0 && n.spent.Load() >= n.o.Limits.Bytes
}

// metered counts what is read against the limit, and ends at it.
type metered struct {
	io.Reader
	n *network
}

func (m metered) Read(p []byte) (int, error) {
	if m.n.exhausted() {
		return 0, fmt.Errorf("cannot move more than %d bytes", m.n.o.Limits.Bytes)
	}
	count, err := m.Reader.Read(p)
	m.n.spent.Add(int64(count))
	return count, err
}

// keep has something closed when all is over; false means it is, and was closed.
// Whoever keeps it lets it go with drop.
func (n *network) keep(c io.Closer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open == nil {
		_ = c.Close() // nothing was sent on it yet
		return false
	}
	n.open[c] = true
	return true
}

func (n *network) drop(c io.Closer) {
	n.mu.Lock()
	delete(n.open, c)
	n.mu.Unlock()
	_ = c.Close() // closed twice at worst
}

// close ends everything and waits for it. The context has ended and receive has
// returned, or never began.
func (n *network) close() {
	n.mu.Lock()
	open := n.open
	n.open = nil
	n.mu.Unlock()
	for c := range open {
		_ = c.Close() // ends whoever reads from it
	}
	n.abort()
	n.stack.Destroy()
	n.link.Close()
}

// abort ends the stack's connections until their goroutines are gone: one that
// was being made may appear after the first round.
func (n *network) abort() {
	over := make(chan struct{})
	go func() {
		n.owned.Wait()
		close(over)
	}()
	for {
		for _, e := range n.stack.RegisteredEndpoints() {
			e.Abort()
		}
		select {
		case <-over:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// target is the destination that the stack calls its local end.
func target(id stack.TransportEndpointID, proto string) destination {
	return destination{addr: netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort), proto: proto}
}

// dial connects to an address that was allowed, and to no other.
func (n *network) dial(to destination) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTimeout)
	defer cancel()
	return n.o.dial(ctx, to.proto+"4", to.addr.String())
}

// dialTimeout is shorter than what clients wait.
const dialTimeout = 10 * time.Second

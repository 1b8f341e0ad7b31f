package usernet

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// silence ends an association (RFC 4787, section 4.3, asks for two minutes
	// of a router that cannot be asked again; here the next datagram begins a
	// new one).
	silence     = time.Minute
	maxDatagram = 65535
)

// handleUDP gets the datagrams that belong to no association. False has the
// stack answer that there is no such port.
func (n *network) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	if !n.fresh.Allow() {
		return true // lost: the guest asks again
	}
	to := target(id, "udp")
	if n.allow(to) != nil {
		return false
	}
	select {
	case n.relays <- struct{}{}:
	default:
		n.heard.tell(to, errors.New("cannot send: the machine has too many UDP associations"))
		return true
	}
	if !n.relay(to, id, pkt) {
		<-n.relays
		return false
	}
	return true
}

// relay begins an association whose first datagram pkt is. It gives its place
// back when it ends.
func (n *network) relay(to destination, id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	conn, err := n.dial(to) // sends nothing and does not wait
	if err != nil {
		return false
	}
	out, ok := conn.(*net.UDPConn)
	if !ok || !n.keep(out) {
		return false
	}
	var wq waiter.Queue
	var ep tcpip.Endpoint
	var failed tcpip.Error
	udp.NewForwarder(n.stack, func(r *udp.ForwarderRequest) { ep, failed = r.CreateEndpoint(&wq) }).HandlePacket(id, pkt)
	if failed != nil {
		n.drop(out)
		return false
	}
	n.owned.Go(func() {
		defer func() { <-n.relays }()
		defer n.drop(out)
		n.exchange(gonet.NewUDPConn(&wq, ep), out)
	})
	return true
}

// exchange carries datagrams both ways until neither came for a while, or one
// side fails.
func (n *network) exchange(guest *gonet.UDPConn, out *net.UDPConn) {
	var touched atomic.Int64
	touch := func() {
		now := time.Now()
		if now.Unix() == touched.Load() {
			return
		}
		touched.Store(now.Unix())
		_ = guest.SetReadDeadline(now.Add(silence)) // fails when it is closed, as the next read does
		_ = out.SetReadDeadline(now.Add(silence))
	}
	touch()
	both := func() {
		_ = guest.Close() // ends the other direction
		_ = out.Close()
	}
	var up sync.WaitGroup
	up.Go(func() {
		n.carry(out, guest, touch)
		both()
	})
	n.carry(guest, out, touch)
	both()
	up.Wait()
}

// carry moves datagrams one way. One that does not get through is lost, which
// is what datagrams are for; a read that fails is the end.
func (n *network) carry(to, from net.Conn, touch func()) {
	buf := make([]byte, maxDatagram)
	in := metered{from, n}
	for {
		count, err := in.Read(buf)
		if err != nil {
			return
		}
		touch()
		_, _ = to.Write(buf[:count]) // lost
	}
}

package usernet

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxDialing is how many connections of the guest may be on their way.
	maxDialing = 64
	// farewell is how long a connection whose two sides are done may take to
	// tell the guest; its place is held until then.
	farewell = 10 * time.Second
)

// handleTCP gets the segments that belong to no connection. False has the stack
// answer with a reset. A first segment that is one too many is lost: the guest
// sends it again, later.
func (n *network) handleTCP(f *tcp.Forwarder, id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	segment := header.TCP(pkt.TransportHeader().Slice())
	const kind = header.TCPFlagSyn | header.TCPFlagAck | header.TCPFlagRst
	if len(segment) < header.TCPMinimumSize || segment.Flags()&kind != header.TCPFlagSyn {
		return false
	}
	n.mu.Lock()
	known, full := n.dialing[id], len(n.dialing) >= maxDialing
	if known || full || !n.fresh.Allow() {
		n.mu.Unlock()
		return true
	}
	n.dialing[id] = true
	n.mu.Unlock()
	// The forwarder starts connect for each segment it takes, and what it has
	// under way is in n.dialing: so this count is exact.
	n.owned.Add(1)
	if !f.HandlePacket(id, pkt) {
		n.dialed(id)
		n.owned.Done()
		return false
	}
	return true
}

func (n *network) dialed(id stack.TransportEndpointID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.dialing, id)
}

// connect answers one connection of the guest: only when the other side has
// taken it, so that the guest sees a refusal as one.
func (n *network) connect(r *tcp.ForwarderRequest) {
	defer n.owned.Done()
	id := r.ID()
	out, err := n.dialTCP(target(id, "tcp"))
	if err != nil {
		r.Complete(n.ctx.Err() == nil)
		n.dialed(id)
		return
	}
	defer func() { <-n.connections }()
	defer n.drop(out)
	var wq waiter.Queue
	ep, failed := r.CreateEndpoint(&wq)
	r.Complete(false)
	n.dialed(id)
	if failed != nil {
		return // the guest gave up
	}
	n.splice(gonet.NewTCPConn(&wq, ep), ep, out)
	n.bury(ep, &wq)
}

// dialTCP takes a place and connects. Without an error the caller gives back
// both.
func (n *network) dialTCP(to destination) (*net.TCPConn, error) {
	if err := n.allow(to); err != nil {
		return nil, err
	}
	select {
	case n.connections <- struct{}{}:
	default:
		err := errors.New("cannot connect: the machine has too many connections")
		n.heard.tell(to, err)
		return nil, err
	}
	conn, err := n.dial(to)
	out, ok := conn.(*net.TCPConn)
	if err == nil && (!ok || !n.keep(out)) {
		err = net.ErrClosed
	}
	if err != nil {
		<-n.connections
	}
	return out, err
}

// splice moves bytes both ways until both are done. An end in one direction is
// passed on; a failure in one ends the other.
func (n *network) splice(guest *gonet.TCPConn, ep tcpip.Endpoint, out *net.TCPConn) {
	abort := func() {
		ep.Abort()
		_ = out.SetLinger(0) // a reset, as the guest gave or got
		_ = out.Close()
	}
	var up sync.WaitGroup
	up.Go(func() {
		if _, err := io.Copy(out, metered{guest, n}); err != nil {
			abort()
		} else {
			_ = out.CloseWrite() // the other direction notices
		}
	})
	if _, err := io.Copy(onlyWriter{guest}, metered{out, n}); err != nil {
		abort()
	} else {
		_ = guest.CloseWrite() // the other direction notices
	}
	up.Wait()
}

// onlyWriter keeps io.Copy to plain reads and writes.
type onlyWriter struct{ io.Writer }

// bury closes the guest's end and waits until the stack has forgotten it: a
// guest that acknowledges nothing must not pile up what it was sent.
func (n *network) bury(ep tcpip.Endpoint, wq *waiter.Queue) {
	entry, gone := waiter.NewChannelEntry(waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	ep.Close()
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateClose, tcp.StateError:
		return
	}
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
	case <-n.ctx.Done():
	}
	ep.Abort()
}

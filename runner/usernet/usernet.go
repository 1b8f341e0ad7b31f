// Package usernet is the network of one virtual machine, made in this process:
// QEMU hands over the card's Ethernet frames on a unix socket, a TCP/IP stack
// here ends every connection of the guest, and what the policy allows is dialled
// anew from the host. Unlike QEMU's own user-mode network, it has no address
// that stands for the host: the policy sees the real destination of every
// connection, and the default one refuses the host itself in all its forms.
//
// The guest finds a network that is the same for every machine: GuestAddress,
// GatewayAddress and the gateway's hardware address never differ, so a fork of
// a frozen machine wakes up in the network it fell asleep in. The gateway leases
// that address by DHCP, resolves names, answers pings, and is nothing else. There
// is no IPv6, no way in from outside and no way to another machine.
//
// The guest is hostile. A frame that does not belong is dropped before the stack
// sees it; connections, associations, queries, buffers and log lines are
// counted; and whatever the guest does not read waits in bounded queues.
package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// The guest's end of the wire, for those who configure it without DHCP
// (ip-address(8)). All machines have the same: they share no network.
const (
	GuestAddress   = "10.0.2.15/24"
	GatewayAddress = "10.0.2.2" // the default route, and the name server
)

// GuestScript is for /bin/sh in a Linux guest, as root: it brings up the machine's
// only card with the addresses above. It needs ip(8), waits a minute or two for
// the card, which in a machine that still boots may yet come and get its name,
// changes nothing that is right, and fails with what ip(8) said last.
const GuestScript = `(
modprobe -q virtio_net 2> /dev/null
udevadm settle -t 60 2> /dev/null # it cannot rename a card that is up, and networkd would then leave it alone
configure() {
	for card in /sys/class/net/*; do [ ! -e "$card/device" ] || set -- "${card##*/}"; done
	ip link set "$1" up && ip address replace ` + GuestAddress + ` dev "$1" &&
	ip route replace default via ` + GatewayAddress + ` dev "$1"
}
tries=0
until said=$(configure 2>&1); do
	tries=$((tries + 1))
	[ "$tries" -lt 300 ] || { echo "$said" >&2; exit 1; }
	sleep 0.2
done
rm -f /etc/resolv.conf
echo nameserver ` + GatewayAddress + ` > /etc/resolv.conf
)`

// Options tune a network. Zero fields ask for the default.
type Options struct {
	Allow    Policy        // nil: DefaultPolicy(PolicyOptions{})
	Log      func(Refused) // told of each refused destination once, 200 at most, one call at a time; nil: nobody is
	Resolver Resolver      // who answers the guest's DNS queries; nil: the host's resolver
	Limits   Limits

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: net.Dialer's
}

// Limits bound what one machine can make this process hold. Zero fields ask for
// the default.
type Limits struct {
	Connections  int   // TCP connections at once; 256. Each may hold 320 KiB and one file descriptor.
	Associations int   // UDP associations at once; 64. Each may hold 192 KiB and one file descriptor.
	NewPerSecond int   // new connections and associations a second, with a second's worth at once; 50
	Queries      int   // DNS queries a second, with a second's worth at once; 100
	Bytes        int64 // payload of all connections in both directions; 0: no limit
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Connections, 256}, {&l.Associations, 64}, {&l.NewPerSecond, 50}, {&l.Queries, 100}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return l
}

func (o Options) withDefaults() Options {
	if o.Allow == nil {
		o.Allow = DefaultPolicy(PolicyOptions{})
	}
	if o.Log == nil {
		o.Log = func(Refused) {}
	}
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{PreferGo: true} // ends with its context, and costs no thread
	}
	if o.dial == nil {
		o.dial = new(net.Dialer).DialContext
	}
	o.Limits = o.Limits.withDefaults()
	return o
}

// Serve runs the network of one machine on the connections of its QEMU, one
// after the other, until ctx ends. It owns the listener, and returns when
// everything it started has ended: nil when ctx did, else why it cannot go on.
// A connection that ends takes its network along, and with it the guest's
// connections; the next one finds a new network with the same addresses.
func Serve(ctx context.Context, listener net.Listener, o Options) error {
	o = o.withDefaults()
	heard := &refusals{log: o.Log, seen: map[destination]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	var closer sync.WaitGroup
	closer.Go(func() {
		<-ctx.Done()
		_ = listener.Close() // ends Accept
	})
	defer closer.Wait()
	defer cancel()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return closeLate(conn)
		}
		if err != nil {
			return fmt.Errorf("cannot accept the connection of a virtual machine's card: %w", err)
		}
		if err := serveConn(ctx, conn, o, heard); err != nil {
			return err
		}
	}
}

func closeLate(conn net.Conn) error {
	if conn != nil {
		_ = conn.Close() // it came when all was over
	}
	return nil
}

// serveConn runs one network until its connection or ctx ends. Only a network
// that cannot be built is an error.
func serveConn(ctx context.Context, conn net.Conn, o Options, heard *refusals) error {
	ctx, cancel := context.WithCancel(ctx)
	n, err := newNetwork(ctx, o, heard)
	if err != nil {
		cancel()
		return errors.Join(err, conn.Close())
	}
	var wire sync.WaitGroup
	wire.Go(func() {
		<-ctx.Done()
		_ = conn.Close() // ends both directions
	})
	wire.Go(func() {
		n.send(conn)
		cancel()
	})
	n.receive(conn)
	cancel()
	wire.Wait()
	n.close()
	return nil
}

// Refused is one destination that the machine was kept from.
type Refused struct {
	Addr  netip.AddrPort // where it wanted to
	Proto string         // "tcp" or "udp"
	Err   error          // why not: the policy's error, or the limit that was reached
}

// maxRefused is how many destinations are told of: a guest that scans would
// else fill log and memory.
const maxRefused = 200

type destination struct {
	addr  netip.AddrPort
	proto string
}

type refusals struct {
	mu   sync.Mutex
	log  func(Refused)
	seen map[destination]bool
}

func (r *refusals) tell(to destination, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[to] || len(r.seen) >= maxRefused {
		return
	}
	r.seen[to] = true
	r.log(Refused{Addr: to.addr, Proto: to.proto, Err: err})
}

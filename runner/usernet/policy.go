package usernet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Policy decides about one connection before it is dialled: nil lets it pass, an
// error is why not. It is given the destination's address, never a name, and
// "tcp" or "udp". Many goroutines call it at once.
type Policy func(addr netip.AddrPort, proto string) error

// PolicyOptions widen or narrow the default policy.
type PolicyOptions struct {
	// Own are more addresses that lead back to the host and that it cannot know
	// of, such as its public one behind a translating router. They are refused.
	Own []netip.Prefix
	// Private are the private ranges that the operator opened, such as
	// 10.1.0.0/16. They open nothing that is refused for another reason.
	Private []netip.Prefix
}

// DefaultPolicy lets a machine reach the public network alone. It refuses
// addresses that are not one host's (RFC 6890, RFC 5771), clouds' metadata
// services (whatever the operator says), everything that the host itself answers
// to at that moment, private ranges that are not opened, and IPv6 addresses that
// carry IPv4 ones; a mapped one (RFC 4291, section 2.5.5.2) is judged as the IPv4
// address that it is.
func DefaultPolicy(o PolicyOptions) Policy {
	p := policy{own: slices.Clone(o.Own), private: slices.Clone(o.Private), interfaces: net.InterfaceAddrs, source: sourceFor}
	return p.check
}

type policy struct {
	own, private []netip.Prefix
	interfaces   func() ([]net.Addr, error)
	source       func(netip.AddrPort) (netip.Addr, error)
}

func (p policy) check(addr netip.AddrPort, _ string) error {
	ip := addr.Addr().Unmap()
	switch {
	case !ip.IsValid():
		return errors.New("cannot connect to an address that is none")
	case ip.Zone() != "":
		return refused(ip, "it is of one link only")
	case addr.Port() == 0:
		return refused(ip, "no service has port 0")
	}
	if err := p.checkOwn(ip); err != nil {
		return err
	}
	if r, ok := special(ip); ok {
		return refused(ip, r)
	}
	if r, ok := private(ip); ok && !within(p.private, ip) {
		return fmt.Errorf("cannot connect to %s: %s: the operator may open it for this check repository", ip, r)
	}
	// What the host's routes deliver locally, whatever its interfaces say. An
	// error here is one of the dial, too.
	if source, err := p.source(netip.AddrPortFrom(ip, addr.Port())); err == nil && source == ip {
		return refused(ip, ownAddress)
	}
	return nil
}

const ownAddress = "it is one of the host's own addresses"

// checkOwn refuses the addresses of the host's interfaces as they are now, and
// those that the operator named.
func (p policy) checkOwn(ip netip.Addr) error {
	if within(p.own, ip) {
		return refused(ip, ownAddress)
	}
	addrs, err := p.interfaces()
	if err != nil {
		return fmt.Errorf("cannot connect to %s: the host's own addresses are not known: %w", ip, err)
	}
	for _, a := range addrs {
		own, ok := prefixOf(a)
		if ok && own.Addr() == ip {
			return refused(ip, ownAddress)
		}
		if ok && ip == broadcastOf(own) {
			return refused(ip, "it is a whole network's address")
		}
	}
	return nil
}

// sourceFor asks the routing table which of the host's addresses would speak to
// another one: one that is local speaks to itself. Nothing is sent.
func sourceFor(addr netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }() // it carried nothing
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("cannot read the address of a socket: %v", conn.LocalAddr())
	}
	return local.AddrPort().Addr().Unmap(), nil
}

func refused(ip netip.Addr, reason string) error {
	return fmt.Errorf("cannot connect to %s: %s", ip, reason)
}

func within(prefixes []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// prefixOf reads an interface's address, which is a *net.IPNet on Linux.
func prefixOf(a net.Addr) (netip.Prefix, bool) {
	ipnet, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(ipnet.IP)
	ones, bits := ipnet.Mask.Size()
	if ip = ip.Unmap(); ok && bits == 128 && ip.Is4() {
		ones -= 96
	}
	return netip.PrefixFrom(ip, ones), ok
}

// broadcastOf is the last address of an IPv4 network (RFC 919), or the zero
// Addr where there is none (RFC 3021).
func broadcastOf(own netip.Prefix) netip.Addr {
	if !own.Addr().Is4() || own.Bits() < 0 || own.Bits() > 30 {
		return netip.Addr{}
	}
	ip := own.Addr().As4()
	for bit := own.Bits(); bit < 32; bit++ {
		ip[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(ip)
}

type reason struct{ prefix, why string }

// special is why no operator's word opens an address (RFC 6890 and the IANA
// registries it began).
func special(ip netip.Addr) (string, bool) {
	return find(ip, []reason{
		{"169.254.169.254/32", "it is a cloud's metadata service"},
		{"168.63.129.16/32", "it is a cloud's metadata service"},
		{"100.100.100.200/32", "it is a cloud's metadata service"},
		{"fd00:ec2::/32", "it is a cloud's metadata service"},
		{"fd20:ce::/32", "it is a cloud's metadata service"},
		{"0.0.0.0/8", "it stands for this host"},
		{"127.0.0.0/8", "it is the host's loopback"},
		{"169.254.0.0/16", "it is of one link only"},
		{"192.0.0.0/24", "it is reserved for protocols"},
		{"224.0.0.0/4", "it is a group of hosts"},
		{"240.0.0.0/4", "it is reserved or a broadcast"},
		{"::/128", "it stands for this host"},
		{"::1/128", "it is the host's loopback"},
		{"::/96", "it carries an IPv4 address"},
		{"::ffff:0:0:0/96", "it carries an IPv4 address"},
		{"64:ff9b::/96", "it carries an IPv4 address"},
		{"64:ff9b:1::/48", "it carries an IPv4 address"},
		{"2001::/23", "it is reserved for protocols"},
		{"2002::/16", "it carries an IPv4 address"},
		{"100::/64", "it is where packets end"},
		{"fe80::/10", "it is of one link only"},
		{"ff00::/8", "it is a group of hosts"},
	})
}

// private is why an address needs the operator's word.
func private(ip netip.Addr) (string, bool) {
	return find(ip, []reason{
		{"10.0.0.0/8", "it is private"},
		{"172.16.0.0/12", "it is private"},
		{"192.168.0.0/16", "it is private"},
		{"100.64.0.0/10", "it is of a provider's inner network"},
		{"198.18.0.0/15", "it is for tests of networks"},
		{"192.0.2.0/24", "it is for examples"},
		{"198.51.100.0/24", "it is for examples"},
		{"203.0.113.0/24", "it is for examples"},
		{"fc00::/7", "it is private"},
		{"2001:db8::/32", "it is for examples"},
		{"3fff::/20", "it is for examples"},
		{"fec0::/10", "it is private"},
	})
}

func find(ip netip.Addr, reasons []reason) (string, bool) {
	for _, r := range reasons {
		if prefix, err := netip.ParsePrefix(r.prefix); err != nil || prefix.Contains(ip) {
			return r.why, true
		}
	}
	return "", false
}

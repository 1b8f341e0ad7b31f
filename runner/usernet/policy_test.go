package usernet

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// hostWith is a policy on a host that has some interfaces, and routes that
// deliver 9.9.9.9 to itself.
func hostWith(o PolicyOptions, cidrs ...string) Policy {
	interfaces := func() ([]net.Addr, error) {
		var addrs []net.Addr
		for _, cidr := range cidrs {
			ip, ipnet, err := net.ParseCIDR(cidr)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: ipnet.Mask})
		}
		return addrs, nil
	}
	source := func(addr netip.AddrPort) (netip.Addr, error) {
		if addr.Addr() == netip.MustParseAddr("9.9.9.9") {
			return addr.Addr(), nil
		}
		return netip.MustParseAddr("8.8.4.4"), nil
	}
	return policy{own: o.Own, private: o.Private, interfaces: interfaces, source: source}.check
}

// testHost opens nothing that is private.
func testHost() Policy {
	return hostWith(PolicyOptions{Own: []netip.Prefix{netip.MustParsePrefix("5.5.0.0/16")}},
		"127.0.0.1/8", "::1/128", "8.8.4.4/24", "2a00:1450::7/64", "fe80::1/64")
}

type verdict struct{ addr, want string } // want is a word of the refusal, or "" for none

func checkAll(t *testing.T, check Policy, table []verdict) {
	t.Helper()
	for _, c := range table {
		for _, proto := range []string{"tcp", "udp"} {
			checkVerdict(t, check(netip.MustParseAddrPort(c.addr), proto), c.addr, c.want)
		}
	}
}

func TestPolicyOnTheHost(t *testing.T) {
	checkAll(t, testHost(), []verdict{
		{"1.1.1.1:443", ""},
		{"8.8.4.5:443", ""},
		{"[2a00:1450::8]:443", ""},
		{"[::ffff:1.1.1.1]:443", ""},
		{"5.6.0.1:443", ""},
		{"172.32.0.1:80", ""},

		{"127.0.0.1:80", "own"},
		{"127.0.0.2:80", "loopback"},
		{"127.255.255.254:80", "loopback"},
		{"[::1]:80", "own"},
		{"[::ffff:127.0.0.1]:80", "own"},
		{"[::ffff:127.8.9.1]:80", "loopback"},
		{"[::127.0.0.1]:80", "carries an IPv4"},
		{"[::ffff:0:127.0.0.1]:80", "carries an IPv4"},
		{"[64:ff9b::7f00:1]:80", "carries an IPv4"},
		{"[64:ff9b:1::7f00:1]:80", "carries an IPv4"},
		{"[2002:7f00:1::]:80", "carries an IPv4"},
		{"[2001:0:4136:e378:8000:63bf:3fff:fdd2]:80", "protocols"},
		{"0.0.0.0:80", "this host"},
		{"0.1.2.3:80", "this host"},
		{"[::]:80", "this host"},
		{"[::ffff:0.0.0.0]:80", "this host"},

		{"8.8.4.4:443", "own"},
		{"[::ffff:8.8.4.4]:443", "own"},
		{"8.8.4.255:443", "whole network"},
		{"[2a00:1450::7]:443", "own"},
		{"[fe80::1]:443", "own"},
		{"5.5.3.1:443", "own"},
		{"[::ffff:5.5.3.1]:443", "own"},
		{"9.9.9.9:443", "own"}, // by a route, not an interface

	})
	checkVerdict(t, testHost()(netip.AddrPort{}, "tcp"), "the zero address", "none")
}

func TestPolicyOnSpecialAddresses(t *testing.T) {
	checkAll(t, testHost(), []verdict{
		{"169.254.169.254:80", "metadata"},
		{"[::ffff:169.254.169.254]:80", "metadata"},
		{"[fd00:ec2::254]:80", "metadata"},
		{"168.63.129.16:80", "metadata"},
		{"169.254.1.1:80", "one link"},
		{"[fe80::2]:80", "one link"},
		{"[fe80::2%eth0]:80", "one link"},
		{"[2a00:1450::8%eth0]:80", "one link"},
		{"224.0.0.251:5353", "group"},
		{"239.255.255.250:1900", "group"},
		{"[ff02::1]:80", "group"},
		{"255.255.255.255:67", "broadcast"},
		{"240.0.0.1:80", "reserved"},
		{"192.0.0.192:80", "protocols"},
		{"1.1.1.1:0", "port 0"},

		{"10.0.0.1:80", "operator may open"},
		{"172.16.0.1:80", "operator may open"},
		{"172.31.255.255:80", "operator may open"},
		{"192.168.1.1:80", "operator may open"},
		{"100.64.0.1:80", "operator may open"},
		{"198.18.0.1:80", "operator may open"},
		{"192.0.2.1:80", "operator may open"},
		{"[fd12::1]:80", "operator may open"},
		{"[fec0::1]:80", "operator may open"},
		{"[::ffff:10.0.0.1]:80", "operator may open"},
	})
}

func checkVerdict(t *testing.T, err error, addr, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v, want it allowed", addr, err)
	case want != "" && (err == nil || !strings.HasPrefix(err.Error(), "cannot connect to ") || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: %v, want it refused for %q", addr, err, want)
	}
}

// TestPrivateOpened sees that what the operator opens is open, and nothing else.
func TestPrivateOpened(t *testing.T) {
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	some := hostWith(PolicyOptions{Private: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, "10.1.0.7/24")
	all := hostWith(PolicyOptions{Private: everything}, "10.1.0.7/24")
	for _, c := range []struct{ addr, some, all string }{
		{"10.1.0.8:80", "", ""},
		{"[::ffff:10.1.0.8]:80", "", ""},
		{"10.2.0.8:80", "operator", ""},
		{"192.168.0.1:80", "operator", ""},
		{"10.1.0.7:80", "own", "own"},
		{"10.1.0.255:80", "whole network", "whole network"},
		{"127.0.0.1:80", "loopback", "loopback"},
		{"169.254.169.254:80", "metadata", "metadata"},
		{"100.100.100.200:80", "metadata", "metadata"},
		{"[fd00:ec2::254]:80", "metadata", "metadata"},
		{"255.255.255.255:80", "broadcast", "broadcast"},
	} {
		addr := netip.MustParseAddrPort(c.addr)
		checkVerdict(t, some(addr, "tcp"), c.addr, c.some)
		checkVerdict(t, all(addr, "tcp"), c.addr, c.all)
	}
}

// TestThisHost asks this host, whose interfaces and routes are what they are.
func TestThisHost(t *testing.T) {
	check := DefaultPolicy(PolicyOptions{Private: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}})
	addrs, err := net.InterfaceAddrs()
	if err != nil || len(addrs) == 0 {
		t.Fatalf("a host without addresses: %v", err)
	}
	for _, a := range addrs {
		own, ok := prefixOf(a)
		if !ok {
			t.Fatalf("cannot read %v", a)
		}
		checkVerdict(t, check(netip.AddrPortFrom(own.Addr(), 80), "tcp"), own.String(), "own")
	}
	source, err := sourceFor(netip.MustParseAddrPort("127.3.4.5:80"))
	if err != nil || !source.IsLoopback() {
		t.Errorf("127.3.4.5 is spoken to by %v, %v", source, err)
	}
}

// TestHostUnknown sees that a host that cannot tell its addresses refuses all.
func TestHostUnknown(t *testing.T) {
	p := policy{interfaces: func() ([]net.Addr, error) { return nil, errors.New("out of files") }}
	checkVerdict(t, p.check(netip.MustParseAddrPort("1.1.1.1:80"), "tcp"), "1.1.1.1", "not known")
}

func TestBroadcastOf(t *testing.T) {
	for own, want := range map[string]string{
		"10.0.0.7/24": "10.0.0.255", "10.0.0.7/30": "10.0.0.7", "10.0.0.7/31": "invalid IP", "10.0.0.7/32": "invalid IP",
		"172.16.5.4/20": "172.16.15.255", "10.1.2.3/0": "255.255.255.255", "fd00::1/64": "invalid IP",
	} {
		if got := broadcastOf(netip.MustParsePrefix(own)).String(); got != want {
			t.Errorf("the broadcast address of %s is %s, want %s", own, got, want)
		}
	}
}

package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/assay-ci/assay/internal/netaddr"
)

// dialTimeout is how long a mirror may take to accept a connection.
const dialTimeout = 30 * time.Second

// guard connects to mirrors, and to nothing that a mirror's name should not mean.
type guard struct {
	policy policy
	proxy  func(*http.Request) (*url.URL, error)

	mu      sync.Mutex
	proxies map[string]bool // HOST:PORT of the host's own proxies, which may be anywhere
}

func newGuard(p policy) *guard {
	return &guard{policy: p, proxy: http.ProxyFromEnvironment, proxies: map[string]bool{}}
}

// transport asks mirrors, directly or through the proxy of the host's
// environment. It follows no redirects and unpacks nothing.
func (g *guard) transport(idle time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                  g.proxyFor,
		DialContext:            g.dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  idle,
		IdleConnTimeout:        idle,
	}
}

// proxyFor is the host's own proxy for a request, nil for none.
func (g *guard) proxyFor(r *http.Request) (*url.URL, error) {
	u, err := g.proxy(r)
	if err != nil || u == nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proxies[proxyAddress(u)] = true
	return u, nil
}

// proxyAddress is HOST:PORT of a proxy.
func proxyAddress(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	port := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	return net.JoinHostPort(u.Hostname(), port)
}

// dial connects to HOST:PORT. The address is checked when its name is resolved,
// at the moment of connecting: a name that means something else the next time
// does not help.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	g.mu.Lock()
	ours := g.proxies[address]
	g.mu.Unlock()
	dialer := net.Dialer{Timeout: dialTimeout}
	if !ours {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		dialer.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			return g.check(host, resolved)
		}
	}
	return dialer.DialContext(ctx, network, address)
}

// errInner is why a mirror's address is not connected to.
type errInner struct{ host, address, cure string }

func (e *errInner) Error() string {
	return fmt.Sprintf("refused to connect to %s for %s: %s", e.address, e.host, e.cure)
}

// check refuses addresses that are not out in the network. Private ones are for
// hosts that a rule names in full: an operator's own mirror. The host itself and
// what answers only on its own link, as clouds' metadata does, must be written
// as such.
func (g *guard) check(host, resolved string) error {
	at, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("cannot read the address %q", resolved)
	}
	address := netaddr.Plain(at.Addr())
	literal := host == "localhost"
	if written, err := netip.ParseAddr(host); err == nil {
		literal = written.Unmap() == address
	}
	switch {
	case isOwn(address) && !(literal && g.named(host)):
		return &errInner{host, address.String(), "it is the host itself or on its own link: allow the address itself if that is meant"}
	case netaddr.OfSite(address) && !g.named(host):
		return &errInner{host, address.String(), "it is a private address: allow the host by its full name if that is meant"}
	}
	return nil
}

// named tells whether a rule names the host in full.
func (g *guard) named(host string) bool {
	for _, rule := range g.policy.allow {
		if rule.Host == host {
			return true
		}
	}
	return false
}

// isOwn tells addresses that mean this host, its link, or no host at all, and
// those where clouds answer for a host's credentials.
func isOwn(a netip.Addr) bool { return a.IsLoopback() || netaddr.NotOne(a) }

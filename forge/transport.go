package forge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/assay-ci/assay/internal/netaddr"
)

// Bounds of a connection.
const (
	dialTimeout   = 30 * time.Second
	idleTimeout   = 90 * time.Second
	maxHeaderSize = 256 << 10 // bytes
)

// SafeTransport makes a transport for requests to forges, or wherever else an
// address may lead that somebody else had a hand in. It connects to addresses
// that are out in the network only: not to this machine, its link, a site's own
// network, or where clouds tell credentials. Addresses are looked at when they
// are connected to, so that a name that means something else the next time does
// not help.
//
// allowed are the operator's own addresses ("https://git.example.org/api/v4",
// "127.0.0.1:3000"); only host and port count, the port of the scheme when it
// has none. Those may be on this machine or in a private network. Link-local
// and metadata addresses must be written as numbers to be allowed. What cannot
// be read allows nothing.
//
// Redirects are for http.Client to follow; the transport refuses one that leads
// to another host, port or scheme than the request before it.
//
// Requests go through the proxy of the environment (http.ProxyFromEnvironment)
// if there is one, which may be anywhere; then names are its to resolve, and
// only addresses in numbers are looked at here.
func SafeTransport(allowed ...string) http.RoundTripper {
	return newSafeTransport(http.ProxyFromEnvironment, allowed)
}

func newSafeTransport(proxy func(*http.Request) (*url.URL, error), allowed []string) *safeTransport {
	t := &safeTransport{allowed: map[string]bool{}, proxies: map[string]bool{}, proxy: proxy}
	for _, address := range allowed {
		for _, at := range allowedHosts(address) {
			t.allowed[at] = true
		}
	}
	t.http = &http.Transport{
		Proxy:                  t.proxyFor,
		DialContext:            t.dial,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: maxHeaderSize,
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        idleTimeout,
	}
	return t
}

// safeTransport is what SafeTransport makes.
type safeTransport struct {
	http    *http.Transport
	proxy   func(*http.Request) (*url.URL, error)
	allowed map[string]bool // HOST:PORT in lower case

	mu      sync.Mutex
	proxies map[string]bool // HOST:PORT of proxies in use
}

func (t *safeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.look(req); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return t.http.RoundTrip(req)
}

// CloseIdleConnections is for http.Client.CloseIdleConnections.
func (t *safeTransport) CloseIdleConnections() { t.http.CloseIdleConnections() }

// look refuses what can be refused without connecting.
func (t *safeTransport) look(req *http.Request) error {
	if before := req.Response; before != nil && before.Request != nil && !sameServer(before.Request.URL, req.URL) {
		return &strayError{req.URL.Host}
	}
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		return t.check(withPort(req.URL), ip)
	}
	return nil
}

// sameServer holds for two addresses on one server.
func sameServer(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && withPort(a) == withPort(b)
}

// withPort is HOST:PORT of an address, in lower case.
func withPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

// allowedHosts reads one of SafeTransport's arguments.
func allowedHosts(address string) []string {
	if strings.Contains(address, "://") {
		if u, err := url.Parse(address); err == nil && hostname(strings.ToLower(u.Hostname())) {
			return []string{withPort(u)}
		}
		return nil
	}
	host, port, err := net.SplitHostPort(strings.ToLower(address))
	if err == nil && hostname(host) {
		return []string{net.JoinHostPort(host, port)}
	}
	if host = strings.ToLower(strings.Trim(address, "[]")); !hostname(host) {
		return nil
	}
	return []string{net.JoinHostPort(host, "443"), net.JoinHostPort(host, "80")}
}

// proxyFor is the environment's proxy for a request, nil for none.
func (t *safeTransport) proxyFor(r *http.Request) (*url.URL, error) {
	u, err := t.proxy(r)
	if err != nil || u == nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proxies[withPort(u)] = true
	return u, nil
}

// dial connects to HOST:PORT.
func (t *safeTransport) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	t.mu.Lock()
	ours := t.proxies[strings.ToLower(address)]
	t.mu.Unlock()
	if !ours {
		dialer.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return fmt.Errorf("cannot read the address %q", resolved)
			}
			return t.check(strings.ToLower(address), at.Addr())
		}
	}
	return dialer.DialContext(ctx, network, address)
}

// InsideError tells that SafeTransport has refused to connect.
type InsideError struct {
	Host    string // HOST:PORT that was asked for
	Address string // what it means now
}

func (e *InsideError) Error() string {
	return fmt.Sprintf("cannot connect to %s for %.200q: it is an address inside: if that is meant, configure it as the forge's address", e.Address, e.Host)
}

// check refuses an address that a name must not mean.
func (t *safeTransport) check(host string, ip netip.Addr) error {
	ip = netaddr.Plain(ip)
	name, _, _ := net.SplitHostPort(host)
	written, err := netip.ParseAddr(name)
	literal := err == nil && netaddr.Plain(written) == ip
	switch {
	case netaddr.NotOne(ip) && !(literal && t.allowed[host]), insideSite(ip) && !t.allowed[host]:
		return &InsideError{Host: host, Address: ip.String()}
	}
	return nil
}

// insideSite tells addresses of this machine and of a site's own network.
func insideSite(a netip.Addr) bool { return a.IsLoopback() || netaddr.OfSite(a) }

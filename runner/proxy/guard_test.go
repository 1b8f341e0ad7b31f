package proxy

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestConnectsOnlyWhereItShould(t *testing.T) {
	g := newGuard(policy{allow: rules(t, "http://mirror.example.org/", "https://*.cdn.example.org/", "http://127.0.0.1:3142/",
		"http://localhost:3142/", "http://169.254.7.7/", "http://10.1.1.1/", "http://[::1]/")})
	for _, c := range []struct {
		host, address string
		ok            bool
	}{
		{"mirror.example.org", "203.0.113.80:80", true},
		{"mirror.example.org", "8.8.8.8:80", true},
		{"mirror.example.org", "[2001:4860::8888]:80", true},
		{"mirror.example.org", "10.0.0.7:80", true}, // an operator's own mirror
		{"mirror.example.org", "192.168.1.1:80", true},
		{"mirror.example.org", "[fd12::1]:80", true},
		{"mirror.example.org", "127.0.0.1:80", false},
		{"mirror.example.org", "127.8.8.8:80", false},
		{"mirror.example.org", "[::1]:80", false},
		{"mirror.example.org", "[::ffff:127.0.0.1]:80", false},
		{"mirror.example.org", "0.0.0.0:80", false},
		{"mirror.example.org", "[::]:80", false},
		{"mirror.example.org", "169.254.169.254:80", false},
		{"mirror.example.org", "[fe80::1]:80", false},
		{"mirror.example.org", "[fe80::1%eth0]:80", false},
		{"mirror.example.org", "[fd00:ec2::254]:80", false},
		{"mirror.example.org", "100.100.100.200:80", false},
		{"mirror.example.org", "168.63.129.16:80", false},
		{"mirror.example.org", "[fd20:ce::254]:80", false},
		{"mirror.example.org", "224.0.0.1:80", false},
		{"mirror.example.org", "240.0.0.1:80", false},
		{"mirror.example.org", "255.255.255.255:80", false},
		{"a.cdn.example.org", "203.0.113.80:443", true},
		{"a.cdn.example.org", "10.0.0.7:443", false},
		{"a.cdn.example.org", "100.64.0.1:443", false},
		{"a.cdn.example.org", "[64:ff9b::7f00:1]:443", false},
		{"a.cdn.example.org", "[2002:7f00:1::]:443", false},
		{"a.cdn.example.org", "[::127.0.0.1]:443", false},
		{"127.0.0.1", "127.0.0.1:3142", true},
		{"127.0.0.1", "127.0.0.2:3142", false},
		{"localhost", "127.0.0.1:3142", true},
		{"localhost", "[::1]:3142", true},
		{"::1", "[::1]:80", true},
		{"169.254.7.7", "169.254.7.7:80", true},
		{"10.1.1.1", "10.1.1.1:80", true},
		{"unknown.example.org", "10.1.1.1:80", false},
		{"x", "no address", false},
	} {
		if err := g.check(c.host, c.address); (err == nil) != c.ok {
			t.Errorf("%s at %s: %v", c.host, c.address, err)
		}
	}
}

// TestNameThatMeansTheHostItself is what DNS may answer for a mirror's name. The
// resolver's own file of names has localhost's kin.
func TestNameThatMeansTheHostItself(t *testing.T) {
	m := newMirror(t, serveContent)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(m.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	address := "http://a.localhost:" + port // RFC 6761: names below localhost mean it, too
	g := start(t, Options{Allow: rules(t, address), Cache: t.TempDir()})
	resp, body := g.get(address + "/x.deb")
	// Some resolvers do not know the name at all.
	if resp.StatusCode == 200 || len(m.requests()) > 0 {
		t.Errorf("got %d %.100q", resp.StatusCode, body)
	}
	dial := func(g *guard) error {
		conn, err := g.dial(t.Context(), "tcp", net.JoinHostPort("localhost", port))
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	var inner *errInner
	if err := dial(newGuard(policy{})); !errors.As(err, &inner) {
		t.Errorf("connected to the host itself: %v", err)
	}
	if err := dial(newGuard(policy{allow: rules(t, "http://localhost/")})); err != nil {
		t.Error(err)
	}
}

func TestUpstreamIsVerified(t *testing.T) {
	far := httptest.NewUnstartedServer(http.HandlerFunc(serveContent))
	far.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of us
	far.StartTLS()
	defer far.Close()
	g := start(t, Options{Allow: rules(t, far.URL)})
	resp, body := g.get(strings.Replace(far.URL, "https:", "http:", 1) + "/x.deb")
	if resp.StatusCode != 502 || !strings.Contains(body, "certificate") {
		t.Errorf("a certificate that nobody signed: %d %q", resp.StatusCode, body)
	}
}

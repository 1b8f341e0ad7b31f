package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestTunnel carries TLS to a host that is allowed as a whole.
func TestTunnel(t *testing.T) {
	far := httptest.NewTLSServer(http.HandlerFunc(serveContent))
	defer far.Close()
	g := start(t, Options{Allow: rules(t, far.URL)})
	g.client.Transport.(*http.Transport).TLSClientConfig = far.Client().Transport.(*http.Transport).TLSClientConfig
	if _, body := g.get(far.URL + "/x"); body != content("/x") {
		t.Errorf("got %d bytes", len(body))
	}
	g.client.CloseIdleConnections()
	if e := g.wantEntry(200, FromTunnel, ""); e.Bytes < int64(len(content("/x"))) || e.Method != "CONNECT" {
		t.Errorf("got %+v", e)
	}
}

// TestTunnelHalfClose is TCP's: each direction ends alone.
func TestTunnelHalfClose(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	served := make(chan error, 1)
	go func() {
		conn, err := far.Accept()
		if err == nil {
			_, err = io.Copy(conn, conn) // until the guest's direction ends
			_ = conn.Close()
		}
		served <- err
	}()
	g := start(t, Options{Allow: rules(t, "https://"+far.Addr().String())})
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// The tunnel's first bytes come together with the request.
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nearly", far.Addr()); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	if _, err := io.WriteString(conn, " and late"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(reader); string(got) != "early and late" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestIdleTunnelEnds(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	g := start(t, Options{Allow: rules(t, "https://"+far.Addr().String()), Idle: 200 * time.Millisecond})
	got := g.say("CONNECT " + far.Addr().String() + " HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
	g.wantEntry(200, FromTunnel, "")
}

// TestMirrorWithTLS is asked for with http:// and spoken to with TLS; so are its
// redirects to itself, and the kept files are of one address.
func TestMirrorWithTLS(t *testing.T) {
	var far *httptest.Server
	far = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/simple/away":
			http.Redirect(w, r, "https://elsewhere.example.org/x", http.StatusFound)
		case "/simple/here":
			http.Redirect(w, r, far.URL+"/simple/x.whl", http.StatusFound)
		case "/simple/relative":
			http.Redirect(w, r, "x.whl", http.StatusFound)
		default:
			serveContent(w, r)
		}
	}))
	defer far.Close()
	upstream := &http.Transport{TLSClientConfig: far.Client().Transport.(*http.Transport).TLSClientConfig}
	g := start(t, Options{Allow: rules(t, far.URL+"/simple/"), Cache: t.TempDir(), Upstream: upstream})
	plain := strings.Replace(far.URL, "https:", "http:", 1)
	if _, body := g.get(plain + "/simple/x.whl"); body != content("/simple/x.whl") {
		t.Errorf("got %.100q", body)
	}
	for path, want := range map[string]string{
		"/simple/here": plain + "/simple/x.whl", "/simple/away": "https://elsewhere.example.org/x", "/simple/relative": plain + "/simple/x.whl",
	} {
		if resp, _ := g.get(plain + path); resp.StatusCode != 302 || resp.Header.Get("Location") != want {
			t.Errorf("%s leads to %d %s", path, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
}

// TestHostsOwnProxy is for a host that reaches mirrors through a proxy itself,
// which may well be on the host.
func TestHostsOwnProxy(t *testing.T) {
	far := httptest.NewTLSServer(http.HandlerFunc(serveContent))
	defer far.Close()
	tunnels := make(chan string, 10)
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			_, _ = io.WriteString(w, "by way of the proxy: "+r.URL.String())
			return
		}
		tunnels <- r.Host + " " + r.Header.Get("Proxy-Authorization")
		to, err := net.Dial("tcp", far.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
		_, _ = io.Copy(conn, to)
		_ = conn.Close()
	}))
	defer own.Close()
	g := start(t, Options{Allow: rules(t, "http://mirror.example.org/debian/", "https://example.com/")})
	address, err := url.Parse(own.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("u", "p")
	g.proxy.guard.proxy = http.ProxyURL(address)
	if _, body := g.get("http://mirror.example.org/debian/x"); body != "by way of the proxy: http://mirror.example.org/debian/x" {
		t.Errorf("got %q", body)
	}
	config := far.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	g.client.Transport.(*http.Transport).TLSClientConfig = config // its certificate is for example.com
	if _, body := g.get("https://example.com/x"); body != content("/x") {
		t.Errorf("got %d bytes", len(body))
	}
	if got := <-tunnels; got != "example.com:443 Basic dTpw" {
		t.Errorf("the host's proxy was asked for %q", got)
	}
	g.client.CloseIdleConnections()
}

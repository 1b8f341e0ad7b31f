package forge

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

func TestSafeTransportAddresses(t *testing.T) {
	const ghe = "https://ghe.example.org/api/v3/"
	tests := []struct {
		host, means string // HOST:PORT that is asked for, address that it resolves to
		allowed     string
		want        bool
	}{
		{"api.github.com:443", "140.82.121.6", "", true},
		{"api.github.com:443", "2606:50c0:8000::64", "", true},
		{"api.github.com:443", "127.0.0.1", "", false},
		{"api.github.com:443", "::1", "", false},
		{"api.github.com:443", "::ffff:127.0.0.1", "", false},
		{"api.github.com:443", "::ffff:100.64.0.1", "", false},
		{"api.github.com:443", "10.1.2.3", "", false},
		{"api.github.com:443", "172.16.0.1", "", false},
		{"api.github.com:443", "192.168.1.1", "", false},
		{"api.github.com:443", "100.64.0.1", "", false},
		{"api.github.com:443", "169.254.169.254", "", false},
		{"api.github.com:443", "fd00:ec2::254", "", false},
		{"api.github.com:443", "fe80::1%eth0", "", false},
		{"api.github.com:443", "fc00::1", "", false},
		{"api.github.com:443", "0.0.0.0", "", false},
		{"api.github.com:443", "::", "", false},
		{"api.github.com:443", "255.255.255.255", "", false},
		{"api.github.com:443", "224.0.0.1", "", false},
		{"api.github.com:443", "64:ff9b::7f00:1", "", false},
		{"api.github.com:443", "2002:7f00:1::", "", false},
		{"api.github.com:443", "168.63.129.16", "", false},

		{"ghe.example.org:443", "10.1.2.3", ghe, true},
		{"ghe.example.org:443", "127.0.1.1", ghe, true},
		{"ghe.example.org:443", "169.254.169.254", ghe, false},
		{"ghe.example.org:80", "10.1.2.3", ghe, false},
		{"other.example.org:443", "10.1.2.3", ghe, false},
		{"127.0.0.1:3000", "127.0.0.1", "http://127.0.0.1:3000/", true},
		{"127.0.0.1:3001", "127.0.0.1", "http://127.0.0.1:3000/", false},
		{"[::1]:3000", "::1", "http://[::1]:3000", true},
		{"169.254.169.254:80", "169.254.169.254", "http://169.254.169.254/", true},
		{"10.0.0.1:443", "10.0.0.1", "10.0.0.1", true},
		{"git.example.org:8443", "10.0.0.1", "GIT.example.org:8443", true},
		{"git.example.org:443", "10.0.0.1", "://", false},
		{"git.example.org:443", "10.0.0.1", "git.example.org/x", false},
	}
	for _, test := range tests {
		ip, err := netip.ParseAddr(test.means)
		if err != nil {
			t.Fatal(err)
		}
		transport := newSafeTransport(noProxy, []string{test.allowed})
		err = transport.check(test.host, ip)
		if (err == nil) != test.want {
			t.Errorf("%s that means %s with %q allowed: %v, want allowed %v", test.host, test.means, test.allowed, err, test.want)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), "cannot ") || len(err.Error()) > 400) {
			t.Errorf("unfit error %q", err)
		}
	}
}

// counted is a server that counts what reaches it.
func counted(t *testing.T, answer http.HandlerFunc) (server *httptest.Server, asked func() int) {
	t.Helper()
	seen := make(chan struct{}, 100)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- struct{}{}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server, func() int { return len(seen) }
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func TestSafeTransportConnects(t *testing.T) {
	server, asked := counted(t, ok)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	for _, test := range []struct {
		address, allowed string
		want             bool
	}{
		{server.URL, server.URL, true},
		{server.URL, "", false},
		{"http://localhost:" + port, "", false},
		{"http://localhost:" + port, "localhost:" + port, true},
		{"http://0.0.0.0:" + port, server.URL, false},
		{"http://[::ffff:127.0.0.1]:" + port, "", false},
	} {
		before := asked()
		client := &http.Client{Transport: newSafeTransport(noProxy, []string{test.allowed})}
		resp, err := client.Get(test.address)
		var inside *InsideError
		switch {
		case err == nil:
			resp.Body.Close()
		case !errors.As(err, &inside):
			t.Errorf("%s: error %v is no InsideError", test.address, err)
		}
		if (err == nil) != test.want || (asked() > before) != test.want {
			t.Errorf("%s with %q allowed: %v, asked %d times", test.address, test.allowed, err, asked()-before)
		}
		client.CloseIdleConnections()
	}
}

// A client that follows redirects is not led away, whatever it allows itself.
func TestSafeTransportRedirects(t *testing.T) {
	thief, stolen := counted(t, ok)
	home, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, thief.URL, http.StatusFound)
		case "/other-name":
			http.Redirect(w, r, "http://localhost:"+r.Host[strings.LastIndexByte(r.Host, ':')+1:], http.StatusFound)
		case "/other-scheme":
			http.Redirect(w, r, "https://"+r.Host, http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/there", http.StatusFound)
		default:
			ok(w, r)
		}
	})
	client := &http.Client{Transport: newSafeTransport(noProxy, []string{home.URL, thief.URL})}
	for path, want := range map[string]bool{"/here": true, "/away": false, "/other-name": false, "/other-scheme": false} {
		resp, err := client.Get(home.URL + path)
		if err == nil {
			resp.Body.Close()
		}
		var stray *strayError
		if (err == nil) != want || err != nil && !errors.As(err, &stray) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	if stolen() != 0 {
		t.Error("another server was asked")
	}
}

// The proxy of the environment may be anywhere; what it is asked for may not.
func TestSafeTransportWithAProxy(t *testing.T) {
	proxy, asked := counted(t, ok)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: newSafeTransport(func(*http.Request) (*url.URL, error) { return at, nil }, nil)}
	resp, err := client.Get("http://git.example.org/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, address := range []string{"http://169.254.169.254/", "http://127.0.0.1/", "http://[::1]/", "http://10.0.0.1/"} {
		if _, err := client.Get(address); err == nil {
			t.Errorf("the proxy was asked for %s", address)
		}
	}
	if asked() != 1 {
		t.Errorf("the proxy was asked %d times", asked())
	}
}

// FuzzAllowedHosts holds what is read of an operator's address against what it
// must never allow by accident.
func FuzzAllowedHosts(f *testing.F) {
	for _, s := range []string{"https://ghe.example.org/api/v3/", "127.0.0.1:3000", "[::1]:80", "host", "", "a@b", "http://u:p@x:1/", "http://%zz", "["} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, at := range allowedHosts(s) {
			host, _, err := net.SplitHostPort(at)
			if err != nil || host == "" || !strings.Contains(strings.ToLower(s), host) {
				t.Errorf("%q allows %q", s, at)
			}
		}
	})
}

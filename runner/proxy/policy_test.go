package proxy

import (
	"bufio"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func rules(t testing.TB, addresses ...string) []Rule {
	t.Helper()
	var all []Rule
	for _, address := range addresses {
		rule, err := ParseRule(address)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rule)
	}
	return all
}

func testPolicy(t testing.TB) policy {
	return policy{setting: "the.setting", allow: rules(t,
		"http://deb.example.org/debian/", "https://secure.example.org/simple", "https://whole.example.org/",
		"https://odd.example.org:8443/a/", "http://10.0.0.1/", "http://[2001:db8::1]/x/", "https://*.cdn.example.org/")}
}

// read parses a request as the server does.
func read(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

func get(address string) string {
	return "GET " + address + " HTTP/1.1\r\nHost: other.example.org\r\n\r\n"
}

func connect(address string) string {
	return "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n\r\n"
}

func TestAllowed(t *testing.T) {
	p := testPolicy(t)
	for request, want := range map[string]string{
		get("http://deb.example.org/debian/pool/a/b_1%2b2_all.deb"):   "http://deb.example.org/debian/pool/a/b_1%2b2_all.deb",
		get("http://DEB.example.org:80/debian"):                       "http://deb.example.org/debian",
		get("http://deb.example.org/debian//x?y=%20"):                 "http://deb.example.org/debian//x?y=%20",
		get("http://secure.example.org/simple/six/"):                  "https://secure.example.org/simple/six/",
		get("http://whole.example.org"):                               "https://whole.example.org/",
		get("http://odd.example.org:8443/a/b"):                        "https://odd.example.org:8443/a/b",
		get("http://10.0.0.1/anything/..x/x.."):                       "http://10.0.0.1/anything/..x/x..",
		get("http://[2001:DB8::1]/x/y"):                               "http://[2001:db8::1]/x/y",
		get("http://a.cdn.example.org/y"):                             "https://a.cdn.example.org/y",
		get("http://a.b.cdn.example.org/y"):                           "https://a.b.cdn.example.org/y",
		"HEAD http://10.0.0.1/x HTTP/1.0\r\n\r\n":                     "http://10.0.0.1/x",
		connect("whole.example.org:443"):                              "https://whole.example.org/",
		connect("x.cdn.example.org:443"):                              "https://x.cdn.example.org/",
		get("http://deb.example.org/debian/%7Eu/1%3a2.0%2Bb_all.deb"): "http://deb.example.org/debian/%7Eu/1%3a2.0%2Bb_all.deb",
	} {
		target, err := p.decide(read(t, request))
		if err != nil {
			t.Errorf("%q: %v", request, err)
		} else if got := target.upstream().String(); got != want || target.tunnel != strings.HasPrefix(request, "CONNECT") {
			t.Errorf("%q: asks for %s (tunnel %t), want %s", request, got, target.tunnel, want)
		}
	}
}

func TestRefused(t *testing.T) {
	p := testPolicy(t)
	for _, c := range []struct {
		request string
		status  int
		say     string
	}{
		{get("http://evil.example.org/debian/x"), 403, "the host evil.example.org is not"},
		{get("http://deb.example.org/"), 403, "only other paths"},
		{get("http://deb.example.org/debianx/y"), 403, "only other paths"},
		{get("http://deb.example.org//debian/y"), 403, "only other paths"},
		{get("http://deb.example.org/Debian/y"), 403, "only other paths"},
		{get("http://deb.example.org:8080/debian/y"), 403, "deb.example.org:8080"},
		{get("http://deb.example.org.evil.example/debian/y"), 403, "not"},
		{get("http://xdeb.example.org/debian/y"), 403, "not"},
		{get("http://cdn.example.org/"), 403, "not"},
		{get("http://xcdn.example.org/"), 403, "not"},
		{get("http://*.cdn.example.org/"), 400, "no name"},
		{get("http://.cdn.example.org/"), 400, "no name"},
		{get("http://deb.example.org./debian/y"), 400, "no name"},
		{get("http://deb.example.org:/debian/y"), 400, "port"},
		{get("http://deb.example.org:080/debian/y"), 400, "port"},
		{get("http://0x7f.1/"), 400, "no name"},
		{get("http://2130706433/"), 400, "no name"},
		{get("http://127.1/"), 400, "no name"},
		{get("http://127.0.0.1/"), 403, "not"},
		{get("http://169.254.169.254/latest/meta-data/"), 403, "not"},
		{get("http://[::1]/"), 403, "not"},
		{get("http://[::ffff:10.0.0.1]/"), 403, "not"},
		{get("http://[fe80::1%25eth0]/"), 400, "no IPv6"},
		{get("http://user@deb.example.org/debian/y"), 400, "user"},
		{get("http://deb.example.org@evil.example.org/debian/y"), 400, "user"},
		{get("http://deb.example.org/debian/../x"), 400, ".."},
		{get("http://deb.example.org/debian/%2e%2e/x"), 400, ".."},
		{get("http://deb.example.org/debian/.%2E/x"), 400, ".."},
		{get("http://deb.example.org/debian/%252e%252e/x"), 400, ".."},
		{get("http://deb.example.org/debian/./x"), 400, ".."},
		{get("http://deb.example.org/debian/x/.."), 400, ".."},
		{get("http://deb.example.org/debian%2fx"), 400, "encoded /"},
		{get("http://deb.example.org/debian/%2fetc"), 400, "encoded /"},
		{get("http://deb.example.org/debian/a%5c..%5cb"), 400, "backslash"},
		{get("http://deb.example.org/debian/a%00b"), 400, "control"},
		{get("http://deb.example.org/debian/a%0d%0aHost:x"), 400, "control"},
		{get("http://deb.example.org/debian/?a=\x80"), 400, "query"},
		{get("http://deb.example.org/debian/" + strings.Repeat("x", maxURL)), 400, "too long"},
		{get("https://whole.example.org/"), 400, "http://"},
		{get("ftp://deb.example.org/debian/x"), 400, "http://"},
		{get("/debian/x"), 400, "whole address"},
		{"OPTIONS * HTTP/1.1\r\nHost: deb.example.org\r\n\r\n", 400, "whole address"},
		{"POST http://deb.example.org/debian/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 403, "POST http://deb.example.org/debian/x"},
		{"DELETE http://deb.example.org/debian/x HTTP/1.1\r\nHost: x\r\n\r\n", 403, "DELETE"},
		{"TRACE http://deb.example.org/debian/x HTTP/1.1\r\nHost: x\r\n\r\n", 403, "TRACE"},
		{"GET http://deb.example.org/debian/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 400, "body"},
		{"GET http://deb.example.org/debian/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "body"},
		{connect("deb.example.org:443"), 403, "as a whole"},
		{connect("secure.example.org:443"), 403, "with http://"},
		{connect("whole.example.org:80"), 403, "not"},
		{connect("whole.example.org:22"), 403, "not"},
		{connect("10.0.0.1:80"), 403, "not"},
		{connect("127.0.0.1:443"), 403, "not"},
		{"CONNECT whole.example.org:443 HTTP/1.1\r\nHost: other.example.org:443\r\n\r\n", 0, ""}, // the address counts
	} {
		target, err := p.decide(read(t, c.request))
		var no *refusal
		switch {
		case c.status == 0 && (err != nil || target.host != "whole.example.org"):
			t.Errorf("%.90q: %v, %v", c.request, target, err)
		case c.status == 0:
		case !errors.As(err, &no) || no.status != c.status || !strings.Contains(no.reason, c.say):
			t.Errorf("%.90q: %+v, want %d %q", c.request, err, c.status, c.say)
		case c.status == 403 && !strings.Contains(no.reason, "the.setting"):
			t.Errorf("%.90q: %q does not name the setting", c.request, no.reason)
		}
	}
}

func TestParseRule(t *testing.T) {
	for address, want := range map[string]string{
		"http://x.example.org":              "http://x.example.org/",
		"HTTPS://X.example.org:443/a/b":     "https://x.example.org/a/b/",
		"http://x.example.org:8080/a%20b/":  "http://x.example.org:8080/a%20b/",
		"http://[::1]:3142/debian":          "http://[::1]:3142/debian/",
		"https://*.example.org/":            "https://*.example.org/",
		"http://localhost/":                 "http://localhost/",
		"ftp://x.example.org/":              "",
		"x.example.org":                     "",
		"http:///debian":                    "",
		"http://u:p@x.example.org/":         "",
		"http://x.example.org/?a":           "",
		"http://x.example.org/?":            "",
		"http://x.example.org/a/../b":       "",
		"http://*/":                         "",
		"http://*.*.example.org/":           "",
		"http://a.*.org/":                   "",
		"http://*.10.0.0.1/":                "",
		"http://x.example.org:99999/":       "",
		"http://x.example.org\n/":           "",
		strings.Repeat("http://x/", maxURL): "",
	} {
		got, err := ParseRule(address)
		switch {
		case (err == nil) != (want != ""):
			t.Errorf("%.80q: %v, %v", address, got, err)
		case err != nil && !strings.HasPrefix(err.Error(), "cannot allow"):
			t.Errorf("%.80q: %v", address, err)
		case err == nil && got.String() != want:
			t.Errorf("%.80q became %s, want %s", address, got, want)
		}
	}
}

func FuzzDecide(f *testing.F) {
	for _, address := range []string{
		"http://deb.example.org/debian/x", "http://deb.example.org/debian/%2e%2e/x", "http://u@[::1]:80/", "http://x/?a#b", "//x/y", "*",
		"http://secure.example.org/simple/%252e%252e/", "http://a.cdn.example.org/%c0%ae%c0%ae/",
	} {
		f.Add("GET", address)
		f.Add("CONNECT", address)
	}
	f.Add("CONNECT", "whole.example.org:443")
	p := testPolicy(f)
	f.Fuzz(func(t *testing.T, method, address string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + address + " HTTP/1.1\r\nHost: h\r\n\r\n")))
		if err != nil {
			return
		}
		got, err := p.decide(r)
		if err != nil {
			var no *refusal
			if !errors.As(err, &no) || strings.ContainsAny(clean(no.reason, 600), "\r\n\x00") {
				t.Errorf("refused with %q", err)
			}
			return
		}
		checkDecision(t, p, got)
	})
}

// checkDecision wants that what is asked upstream is what the rule allows, when
// it is read again.
func checkDecision(t *testing.T, p policy, got target) {
	t.Helper()
	again, err := http.NewRequest(http.MethodGet, got.upstream().String(), nil)
	if err != nil {
		t.Fatalf("%+v cannot be asked for: %v", got, err)
	}
	host, port, err := splitHost(got.rule.Scheme, again.URL.Host)
	path, perr := cleanPath(again.URL.EscapedPath())
	if err != nil || perr != nil || !got.rule.allowsHost(host, port) || !got.rule.allowsPath(path) || again.URL.User != nil {
		t.Errorf("%+v asks for %s", got, again.URL)
	}
	if strings.Contains(path, "/../") || strings.ContainsAny(again.URL.String(), "\r\n ") {
		t.Errorf("%+v asks for %q", got, again.URL)
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add("http://deb.example.org/debian/")
	f.Add("https://*.example.org:8443/a%20b")
	f.Add("http://[::1]/")
	f.Fuzz(func(t *testing.T, address string) {
		rule, err := ParseRule(address)
		if err != nil {
			return
		}
		again, err := ParseRule(rule.String())
		if err != nil || again != rule {
			t.Errorf("%q became %+v, then %+v, %v", address, rule, again, err)
		}
	})
}

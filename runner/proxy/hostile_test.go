package proxy

import (
	"strings"
	"testing"
	"time"
)

func TestHostileRequests(t *testing.T) {
	m := newMirror(t, serveContent)
	host := strings.TrimPrefix(m.URL, "http://")
	g := start(t, Options{Allow: rules(t, m.URL+"/debian/"), Cache: t.TempDir(), Idle: 500 * time.Millisecond})
	for text, want := range map[string]string{
		"":                                 "",
		"\x16\x03\x01\x02\x00\x01\x00\x01": "HTTP/1.1 400 ",
		"GET " + m.URL + "/debian/x.deb HTTP/1.1\r\nHost: x\r\n":                                                                                                          "", // and then nothing more
		"GET " + m.URL + "/debian/x.deb HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20):                                                                          "HTTP/1.1 431 ",
		"GET " + m.URL + "/debian/x.deb HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n":                                                                                           "HTTP/1.1 400 ",
		"GET " + m.URL + "/debian/x.deb HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello":                                                       "HTTP/1.1 400 ",
		"GET " + m.URL + "/debian/x.deb HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET " + m.URL + "/secret HTTP/1.1\r\n\r\n": "HTTP/1.1 400 ",
		"GET " + m.URL + "/debian/x.deb HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n":                                                                       "HTTP/1.1 501 ",
		"GET " + m.URL + "/debian/a b.deb HTTP/1.1\r\nHost: x\r\n\r\n":                                                                                                    "HTTP/1.1 400 ",
		"GET " + m.URL + "/debian/../secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                                                                             "HTTP/1.1 400 ",
		"GET /debian/x.deb HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n":                                                                                   "HTTP/1.1 400 ",
		"CONNECT " + host + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n":                                                                                "HTTP/1.1 403 ",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                                                                                "HTTP/1.1 ",
	} {
		if got := g.say(text); !strings.HasPrefix(got, want) || want == "" && got != "" && !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%.120q is answered with %.120q, want %q", text, got, want)
		}
	}
	for _, r := range m.requests() {
		t.Errorf("the mirror was asked for %s", r.URL)
	}
}

package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// refusal is why a request is not served, and with which status.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

// target is what an allowed request asks for.
type target struct {
	rule   Rule
	host   string // as in rule
	port   string
	path   string // decoded, clean
	raw    string // as the guest wrote it
	query  string
	tunnel bool // CONNECT: host and port alone count
}

// upstream is the address that the proxy itself asks.
func (t target) upstream() *url.URL {
	return &url.URL{Scheme: t.rule.Scheme, Host: joinHost(t.host, t.port), Path: t.path, RawPath: t.raw, RawQuery: t.query}
}

// key is equal for addresses that mean the same.
func (t target) key() string {
	u := url.URL{Scheme: t.rule.Scheme, Host: joinHost(t.host, t.port), Path: t.path, RawQuery: t.query}
	return u.String()
}

// address is HOST:PORT to connect to.
func (t target) address() string {
	port := t.port
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.rule.Scheme]
	}
	return joinHost(t.host, port)
}

// policy decides what a guest may ask for.
type policy struct {
	allow   []Rule
	setting string // what an operator changes to allow more
}

// decide reads a request as RFC 9112, section 3.2, has it for proxies; the error
// is a *refusal.
func (p policy) decide(r *http.Request) (target, error) {
	switch {
	case r.Method == http.MethodConnect:
		return p.decideTunnel(r.Host, r.RequestURI)
	case r.URL.Host == "" || r.URL.Opaque != "":
		return target{}, bad("this is a proxy: ask it for a whole address, such as http://HOST/PATH")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return target{}, p.refuse(r.Method+" "+shown(r.URL), "only GET, HEAD and CONNECT are")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return target{}, bad("a request for a package has no body")
	case r.URL.Scheme != "http":
		return target{}, bad("ask for " + shown(r.URL) + " with http://: the proxy itself speaks TLS to the mirror where the operator says so")
	case r.URL.User != nil || r.URL.Fragment != "":
		return target{}, bad("an address must have no user and no #")
	case len(r.RequestURI) > maxURL:
		return target{}, bad("the address is too long")
	}
	return p.decideAddress(r.URL)
}

// decideAddress allows http://HOST/PATH where a rule does, be it with https.
func (p policy) decideAddress(u *url.URL) (target, error) {
	path, err := cleanPath(u.EscapedPath())
	if err != nil {
		return target{}, bad("cannot ask for " + shown(u) + ": " + err.Error())
	}
	if err := checkQuery(u.RawQuery); err != nil {
		return target{}, bad("cannot ask for " + shown(u) + ": " + err.Error())
	}
	host, port, err := splitHost(u.Scheme, u.Host)
	if err != nil {
		return target{}, bad("cannot ask for " + shown(u) + ": " + err.Error())
	}
	known := false
	for _, rule := range p.allow {
		if !rule.allowsHost(host, port) {
			continue
		}
		if known = true; rule.allowsPath(path) {
			return target{rule: rule, host: host, port: port, path: path, raw: u.EscapedPath(), query: u.RawQuery}, nil
		}
	}
	what := "the host " + joinHost(host, port) + " is not"
	if known {
		what = "of " + joinHost(host, port) + " only other paths are"
	}
	return target{}, p.refuse(shown(u), what)
}

// decideTunnel allows CONNECT HOST:PORT (RFC 9110, section 9.3.6) to hosts that
// are allowed as a whole, because nobody sees what is asked for inside.
func (p policy) decideTunnel(authority, uri string) (target, error) {
	host, port, err := splitHost("https", authority)
	if err != nil || authority != uri || !strings.Contains(authority, ":") {
		return target{}, bad("CONNECT needs HOST:PORT")
	}
	known := false
	for _, rule := range p.allow {
		if rule.Scheme != "https" || !rule.allowsHost(host, port) {
			continue
		}
		if known = true; rule.whole() {
			return target{rule: rule, host: host, port: port, path: "/", tunnel: true}, nil
		}
	}
	what := "the host " + joinHost(host, port) + " is not with https:// and as a whole, which a tunnel needs,"
	if known {
		what = "of that host only some paths are, and nobody sees into a tunnel: ask with http:// and the proxy speaks TLS; the host as a whole is not"
	}
	return target{}, p.refuse("https://"+joinHost(host, port), what)
}

// refuse words a refusal that the operator can lift.
func (p policy) refuse(what, why string) error {
	return &refusal{http.StatusForbidden, fmt.Sprintf("refused %s: %s in the runner's allow list: the setting %s allows more", what, why, p.setting)}
}

func bad(reason string) error { return &refusal{http.StatusBadRequest, "refused: " + reason} }

// checkQuery refuses what is no plain text.
func checkQuery(query string) error {
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f {
			return errors.New("its query has odd characters")
		}
	}
	return nil
}

// shown is an address in a message: short, and without what may be secret.
func shown(u *url.URL) string {
	const limit = 300
	s := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// maxURL bounds an address, in bytes.
const maxURL = 8 << 10

// Rule allows the addresses below one: a mirror as the operator names it.
type Rule struct {
	Scheme string // "http" or "https": how the proxy itself asks there
	Host   string // lower-case name, IP address, or "*.NAME" for every name below one
	Port   string // digits; "" for the scheme's own
	Path   string // begins and ends with "/"; "/" allows the host as a whole
}

// ParseRule reads "http://HOST/PATH/" or "https://HOST:PORT/PATH/". What is
// allowed is the path and what lies below it, whether or not it ends with "/".
func ParseRule(address string) (Rule, error) {
	u, err := url.Parse(address)
	switch {
	case len(address) > maxURL:
		err = errors.New("it is too long")
	case err != nil:
		err = errors.New("it is no address")
	case u.Scheme != "http" && u.Scheme != "https":
		err = errors.New("it must begin with http:// or https://")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		err = errors.New("it must have no user, ? and #")
	}
	if err != nil {
		return Rule{}, fmt.Errorf("cannot allow %.200q: %w: write such as https://HOST/PATH/", address, err)
	}
	name, below := strings.CutPrefix(u.Host, "*.")
	host, port, err := splitHost(u.Scheme, name)
	if below {
		host = "*." + host
	}
	if err == nil && below && !strings.ContainsFunc(host, unicode.IsLetter) {
		err = errors.New("there are no names below an address")
	}
	if err == nil {
		_, err = cleanPath(u.EscapedPath())
	}
	if err != nil {
		return Rule{}, fmt.Errorf("cannot allow %.200q: %w", address, err)
	}
	return Rule{Scheme: u.Scheme, Host: host, Port: port, Path: strings.TrimSuffix(u.Path, "/") + "/"}, nil
}

// String is the rule as ParseRule reads it.
func (r Rule) String() string {
	u := url.URL{Scheme: r.Scheme, Host: joinHost(r.Host, r.Port), Path: r.Path}
	return u.String()
}

// whole tells that the rule allows everything on its host.
func (r Rule) whole() bool { return r.Path == "/" }

// allowsHost tells whether the rule is about the host.
func (r Rule) allowsHost(host, port string) bool {
	if port != r.Port {
		return false
	}
	if below, ok := strings.CutPrefix(r.Host, "*"); ok {
		return strings.HasSuffix(host, below) && len(host) > len(below)
	}
	return host == r.Host
}

// allowsPath tells whether a clean path lies below the rule's.
func (r Rule) allowsPath(path string) bool {
	return strings.HasPrefix(path, r.Path) || path+"/" == r.Path
}

// splitHost reads HOST or HOST:PORT as it stands in an address. A port that is
// the scheme's own becomes "".
func splitHost(scheme, authority string) (host, port string, err error) {
	host = strings.ToLower(authority)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port != strconv.FormatUint(n, 10) {
			return "", "", fmt.Errorf("its port %.20q is no number from 1 to 65535", port)
		}
	}
	if port == map[string]string{"http": "80", "https": "443"}[scheme] {
		port = ""
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		address, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !address.Is6() || address.Zone() != "" {
			return "", "", errors.New("its host is no IPv6 address")
		}
		return address.String(), port, nil
	}
	if !isHostName(host) {
		return "", "", fmt.Errorf("its host %.100q is no name: write letters, digits, dots and hyphens", host)
	}
	return host, port, nil
}

// joinHost is the reverse of splitHost.
func joinHost(host, port string) string {
	switch {
	case port != "":
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

// isHostName tells a host's name or IPv4 address. Other numbers that some
// systems take for addresses (1, 0x7f.1, 017700000001) are none.
func isHostName(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	if last[0] >= '0' && last[0] <= '9' {
		address, err := netip.ParseAddr(host)
		return err == nil && address.Is4()
	}
	return len(host) <= 253
}

// cleanPath decodes the path of an address. It refuses what two programs might
// read in two ways: "." and ".." however they are written, encoded slashes,
// backslashes, control characters.
func cleanPath(escaped string) (string, error) {
	if escaped == "" {
		return "/", nil
	}
	path, err := url.PathUnescape(escaped)
	if err != nil || escaped[0] != '/' {
		return "", errors.New("its path is not well-formed")
	}
	if strings.Count(path, "/") != strings.Count(escaped, "/") {
		return "", errors.New("its path has an encoded /")
	}
	for _, c := range []byte(path) {
		if c < ' ' || c == 0x7f || c == '\\' {
			return "", errors.New("its path has a control character or a backslash")
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		// A second decoding must not make one of it either.
		again, err := url.PathUnescape(segment)
		if err != nil {
			again = segment
		}
		if again == "." || again == ".." || strings.ContainsAny(again, "/\\") {
			return "", errors.New("its path has . or .. in it")
		}
	}
	return path, nil
}

package forge

import (
	"fmt"
	"net/url"
	"strings"
)

// ParseGitHub takes the address of a repository on a GitHub server apart:
// "https://github.com/OWNER/NAME", "ssh://git@github.com/OWNER/NAME" or
// "git@github.com:OWNER/NAME", each with or without ".git". host is in lower
// case, without a port. Anything that is not exactly OWNER/NAME in GitHub's
// alphabet is refused, so that both may stand in an API's path.
func ParseGitHub(address string) (host, owner, name string, err error) {
	host, path, err := splitAddress(address)
	if err != nil {
		return "", "", "", err
	}
	owner, name, _ = strings.Cut(strings.TrimSuffix(strings.Trim(path, "/"), ".git"), "/")
	if host == "" || !gitHubWord(owner) || !gitHubWord(name) {
		return "", "", "", fmt.Errorf("cannot find OWNER/NAME in the address %.100q: write it as https://github.com/OWNER/NAME", show(address))
	}
	return host, owner, name, nil
}

// show is an address without the user name and password that it may have.
func show(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	at := strings.LastIndexByte(rest, '@')
	if !found || at < 0 {
		return address
	}
	return scheme + "://" + rest[at+1:]
}

// gitHubWord holds for what GitHub may call an owner or a repository.
func gitHubWord(s string) bool {
	outside := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	return s != "" && len(s) <= 100 && strings.IndexFunc(s, outside) < 0 && strings.Trim(s, ".") != "" && s[0] != '-'
}

// splitAddress returns the host of a repository's address, in lower case and
// without user and port, and the path on it. host is "" for a path on this
// machine. It knows the forms of git-clone(1), and refuses those that could
// make git run something: options and transport helpers ("ext::").
func splitAddress(address string) (host, path string, err error) {
	bad := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("cannot use the repository address %.100q: %s", show(address), why)
	}
	switch {
	case address == "" || len(address) > 4096:
		return bad("it is empty or too long")
	case strings.HasPrefix(address, "-"):
		return bad("it looks like an option")
	case strings.IndexFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
		return bad("it has control characters")
	case strings.Contains(address, "://"):
		return splitURL(address, bad)
	}
	before, after, colon := strings.Cut(address, ":")
	if !colon || strings.Contains(before, "/") {
		return "", address, nil // a path; git sees "./a:b" as one too
	}
	if strings.HasPrefix(after, ":") {
		return bad("transport helpers are not allowed")
	}
	host = strings.ToLower(before[strings.LastIndexByte(before, '@')+1:])
	if !hostname(host) || after == "" {
		return bad("it has no host")
	}
	return host, after, nil
}

func splitURL(address string, bad func(string) (string, string, error)) (host, path string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return bad("it is malformed")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || u.Path == "" {
			return bad("a file address has three slashes and a path")
		}
		return "", u.Path, nil
	case "http", "https", "ssh", "git":
	default:
		return bad("use https, http, ssh, git or file")
	}
	host = strings.ToLower(u.Hostname())
	if !hostname(host) {
		return bad("it has no host")
	}
	return host, u.Path, nil
}

// hostname holds for DNS names and IP addresses.
func hostname(s string) bool {
	return s != "" && len(s) <= 253 && s[0] != '-' && s[0] != '.' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-:") == ""
}

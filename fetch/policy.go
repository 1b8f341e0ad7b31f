package fetch

import (
	"net/url"
	"path"
	"strings"
)

// Prefixes are the addresses that may be asked: "https://build.example.org/packages/"
// stands for everything below it.
type Prefixes []string

// Allow tells whether an address is below one of the prefixes. Scheme and host
// are compared whole and the path by directories, after dots are resolved.
func (p Prefixes) Allow(u *url.URL) bool {
	if u.User != nil || strings.Contains(strings.ToLower(u.EscapedPath()), "%2f") {
		return false
	}
	for _, prefix := range p {
		base, err := url.Parse(prefix)
		if err != nil || base.Host == "" || base.Scheme != u.Scheme || !strings.EqualFold(base.Host, u.Host) {
			continue
		}
		dir := strings.TrimSuffix(path.Clean("/"+base.Path), "/") + "/"
		if at := path.Clean("/" + u.Path); strings.HasPrefix(at, dir) || at+"/" == dir {
			return true
		}
	}
	return false
}

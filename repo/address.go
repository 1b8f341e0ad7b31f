package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// address is where a repository is, in the form that go-git dials.
type address struct {
	dial string // a URL, user@host:path, or an absolute path
	key  string // equal for two spellings of one address
	show string // for messages: without a password
}

var scpLike = regexp.MustCompile(`^(?:([A-Za-z0-9._-]+)@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^:].*)$`)

// parseAddress reads a repository's address: a path, file://, http://,
// https://, ssh://, or user@host:path.
func parseAddress(s string) (address, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 4096 || strings.ContainsFunc(s, unicode.IsControl) {
		return address{}, fmt.Errorf("cannot use %q as a repository's address: write a path, or a file://, https:// or ssh:// address", clip(s))
	}
	if strings.Contains(s, "://") {
		return parseURL(s)
	}
	if m := scpLike.FindStringSubmatch(s); m != nil && !strings.Contains(s[:strings.Index(s, ":")], "/") {
		host := strings.ToLower(m[2])
		return address{dial: s, key: "ssh://" + m[1] + "@" + host + "/" + strings.Trim(m[3], "/"), show: s}, nil
	}
	if strings.HasPrefix(s, "-") {
		return address{}, fmt.Errorf("cannot use %q as a repository's address: it begins with a dash: write the path with ./ before it", clip(s))
	}
	return localAddress(s)
}

func localAddress(path string) (address, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return address{}, fmt.Errorf("cannot use %q as a repository's address: %v: write an absolute path", path, err)
	}
	return address{dial: abs, key: "file://" + abs, show: abs}, nil
}

func parseURL(s string) (address, error) {
	u, err := url.Parse(s)
	if err != nil {
		return address{}, fmt.Errorf("cannot read a repository's address that begins with %q as a URL: correct it in the configuration", s[:strings.Index(s, "://")+3])
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	show := u.Redacted()
	switch u.Scheme {
	case "file":
		if (u.Host != "" && u.Host != "localhost") || !filepath.IsAbs(u.Path) {
			return address{}, fmt.Errorf("cannot use %q as a repository's address: write file:// and an absolute path", show)
		}
		return localAddress(u.Path)
	case "http", "https", "ssh":
	default:
		return address{}, fmt.Errorf("cannot use %q as a repository's address: %s is no protocol that is spoken here: use a path, file://, https:// or ssh://", show, u.Scheme)
	}
	if u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") || u.RawQuery != "" || u.Fragment != "" {
		return address{}, fmt.Errorf("cannot use %q as a repository's address: write %s://host/path, without ? and #", show, u.Scheme)
	}
	return address{dial: u.String(), key: urlKey(*u), show: show}, nil
}

// urlKey drops what does not choose another repository: slashes at the end and
// the port that is meant anyway. Users stay: they may see different things.
func urlKey(u url.URL) string {
	ports := map[string]string{"http": "80", "https": "443", "ssh": "22"}
	if u.Port() == ports[u.Scheme] {
		u.Host = u.Hostname()
	}
	user := ""
	if u.User != nil {
		user = u.User.Username()
	}
	return u.Scheme + "://" + user + "@" + u.Host + "/" + strings.Trim(u.Path, "/")
}

// name is the mirror's name in the cache.
func (a address) name() string {
	sum := sha256.Sum256([]byte(a.key))
	return hex.EncodeToString(sum[:16])
}

// clean takes the password out of a message of a library.
func (a address) clean(message string) string {
	return clip(strings.ReplaceAll(message, a.dial, a.show))
}

// clip makes foreign text fit for one line of an error.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}

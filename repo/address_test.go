package repo

import (
	"strings"
	"testing"
)

func TestAddressesOfOneRepositoryShareAMirror(t *testing.T) {
	for _, same := range [][]string{
		{"https://Example.org/a/b.git", "https://example.org:443/a/b.git/", "HTTPS://example.org/a/b.git"},
		{"git@example.org:a/b.git", "ssh://git@example.org/a/b.git", "ssh://git@example.org:22/a/b.git/", "git@EXAMPLE.org:a/b.git"},
		{"/srv/git/a.git", "file:///srv/git/a.git", "/srv/git/./a.git/", "file://localhost/srv/git/a.git", "/srv/git/x/../a.git"},
	} {
		want := must[address](t)(parseAddress(same[0])).name()
		for _, s := range same[1:] {
			if got := must[address](t)(parseAddress(s)).name(); got != want {
				t.Errorf("%q and %q have two mirrors", same[0], s)
			}
		}
	}
	seen := map[string]string{}
	for _, s := range []string{"/a", "/b", "https://h/a", "http://h/a", "ssh://h/a", "ssh://u@h/a", "https://h:8443/a", "./h:a"} {
		name := must[address](t)(parseAddress(s)).name()
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share a mirror", s, other)
		}
		seen[name] = s
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "-a", "a\nb", "ext::sh", "ftp://h/a", "git://h/a", "https:///a", "https://h/a?x=1", "https://h/a#x",
		"file://elsewhere/a", "file://a", "https://-x/a", "https://h\x00/a", "https://%zz/",
	} {
		if a, err := parseAddress(s); err == nil && s != "ext::sh" {
			t.Errorf("%q is taken as %+v", s, a)
		} else if err != nil {
			wantError(t, err, "cannot")
		}
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	const address = "https://user:hunter2@localhost:1/a.git"
	c := openCache(t, Limits{})
	_, err := c.Resolve(t.Context(), address, nil)
	wantError(t, err, "cannot", "localhost:1")
	for _, e := range []error{err, c.FetchCommit(t.Context(), address, "1111111111111111111111111111111111111111")} {
		if a := e.Error(); strings.Contains(a, "hunter2") {
			t.Errorf("the error shows the password: %s", a)
		}
	}
}

// FuzzAddress holds that an address which passes is dialled as it is shown, on
// one line, and never as an option.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"/a", "https://h/a", "u@h:a", "-x", "ssh://-oProxyCommand=x/a", "a:b", "file:///x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s)
		if err != nil {
			return
		}
		if a.dial == "" || a.dial[0] == '-' || strings.Contains(a.show, "\n") || len(a.name()) != 32 {
			t.Errorf("%q becomes %+v", s, a)
		}
	})
}

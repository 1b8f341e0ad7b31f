package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newStore(t *testing.T, dir string, limit int64) *store {
	t.Helper()
	s, err := openStore(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put keeps a body as an exchange would.
func put(t *testing.T, s *store, key, body string) {
	t.Helper()
	m := meta{Key: key, Size: int64(len(body))}
	part, err := s.create(m)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = part.Close() }()
	if _, err := part.WriteAt([]byte(body), headSize); err != nil {
		t.Fatal(err)
	}
	if err := s.keep(part, m); err != nil {
		t.Fatal(err)
	}
}

// has reads what is kept of a key, "" for nothing.
func has(t *testing.T, s *store, key string) string {
	t.Helper()
	k := s.find(key)
	if k == nil {
		return ""
	}
	defer k.close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(k.body()); err != nil {
		t.Error(err)
	}
	return b.String()
}

// TestLeftovers is a start after kill -9: what is whole is used, what nobody
// writes any more is removed, what another process writes stays.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, 1<<20)
	put(t, s, "whole", "body")
	dead, err := s.create(meta{Key: "dead", Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close() // the kernel does that to a dead process
	alive, err := s.create(meta{Key: "alive", Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alive.Close() }()
	again := newStore(t, dir, 1<<20)
	if _, err := os.Stat(dead.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a dead process had begun is still there: %v", err)
	}
	if _, err := os.Stat(alive.Name()); err != nil {
		t.Errorf("what another process writes: %v", err)
	}
	if got := has(t, again, "whole"); got != "body" {
		t.Errorf("what is whole reads as %q", got)
	}
	if want := int64(2*headSize + 4); again.used != want {
		t.Errorf("%d bytes are counted, want %d", again.used, want)
	}
}

// TestSpoiltFiles are fetched again instead of being served.
func TestSpoiltFiles(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"cut":       func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 'x') },
		"empty":     func([]byte) []byte { return nil },
		"zeros":     func(b []byte) []byte { return make([]byte, len(b)) },
		"other key": func(b []byte) []byte { return bytes.Replace(b, []byte("the-key"), []byte("the-kez"), 1) },
		"no JSON":   func(b []byte) []byte { return bytes.Replace(b, []byte("{"), []byte("["), 1) },
		"huge size": func(b []byte) []byte { return bytes.Replace(b, []byte(`"Size":4`), []byte(`"Size":9`), 1) },
	} {
		s := newStore(t, t.TempDir(), 1<<20)
		put(t, s, "the-key", "body")
		whole, err := os.ReadFile(s.path("the-key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("the-key"), spoil(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := has(t, s, "the-key"); got != "" {
			t.Errorf("%s: read as %q", name, got)
		}
		if _, err := os.Stat(s.path("the-key")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: still there: %v", name, err)
		}
	}
}

// TestOldestGoesFirst fills a cache beyond its size; what was used lately stays.
func TestOldestGoesFirst(t *testing.T) {
	const each = headSize + 1000
	dir := t.TempDir()
	s := newStore(t, dir, 10*each)
	body := strings.Repeat("x", 1000)
	for i := range 10 {
		key := fmt.Sprint(i)
		put(t, s, key, body)
		old := time.Now().Add(time.Duration(i-100) * time.Hour)
		if err := os.Chtimes(s.path(key), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if has(t, s, "0") == "" { // and now it is the newest
		t.Fatal("the first is gone already")
	}
	put(t, s, "new", body)
	for key, stays := range map[string]bool{"0": true, "1": false, "9": true, "new": true} {
		if (has(t, s, key) != "") != stays {
			t.Errorf("%s: is there %t, want %t", key, !stays, stays)
		}
	}
	files, err := s.files()
	size := int64(0)
	for _, f := range files {
		size += f.size
	}
	if err != nil || size > 10*each || size != s.used {
		t.Errorf("the directory has %d bytes, %d are counted: %v", size, s.used, err)
	}
	if _, err := s.create(meta{Key: "huge", Size: 10 * each}); !errors.Is(err, errNoRoom) {
		t.Errorf("what is larger than the cache: %v", err)
	}
	if _, err := s.create(meta{Key: strings.Repeat("k", headSize), Size: 1}); !errors.Is(err, errNoRoom) {
		t.Errorf("a key that does not fit: %v", err)
	}
	if s.used != size {
		t.Errorf("what was refused is counted: %d, want %d", s.used, size)
	}
}

// TestUnwritableDirectory keeps nothing, and does not try again for a while.
func TestUnwritableDirectory(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir, 1<<20)
	path := s.path("key")
	if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil { // a file where a directory should be
		t.Fatal(err)
	}
	if _, err := s.create(meta{Key: "key", Size: 1}); err == nil || errors.Is(err, errNoRoom) {
		t.Errorf("got %v", err)
	}
	if _, err := s.create(meta{Key: "another", Size: 1}); !errors.Is(err, errNoRoom) {
		t.Errorf("right after that: %v", err)
	}
	if s.used != 0 {
		t.Errorf("%d bytes are counted", s.used)
	}
	if _, err := openStore(filepath.Dir(path), 1); err == nil {
		t.Error("a file was opened as a cache")
	}
}

// TestLockIsTheWritersUntilTheEnd of the file under its final name, too.
func TestLockIsTheWritersUntilTheEnd(t *testing.T) {
	s := newStore(t, t.TempDir(), 1<<20)
	part, err := s.create(meta{Key: "k", Size: 0})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = part.Close() }()
	other, err := os.Open(part.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("another process can lock it: %v", err)
	}
}

func TestImmutable(t *testing.T) {
	for path, want := range map[string]bool{
		"/debian/pool/main/h/hello/hello_2.10-3_amd64.deb":                     true,
		"/debian/pool/main/h/hello/hello_2.10.orig.tar.gz":                     true,
		"/debian/pool/main/h/hello/hello_2.10-3.dsc":                           true,
		"/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/0123":         true,
		"/debian/dists/bookworm/InRelease":                                     false,
		"/debian/dists/bookworm/main/binary-amd64/Packages.xz":                 false,
		"/debian/dists/bookworm/main/dep11/icons-64x64.tar.gz":                 false,
		"/fedora/42/Packages/h/hello-2.12-1.fc42.x86_64.rpm":                   true,
		"/fedora/42/repodata/repomd.xml":                                       false,
		"/fedora/42/repodata/" + strings.Repeat("ab", 32) + "-primary.xml.zst": true,
		"/fedora/42/repodata/primary.xml.gz":                                   false,
		"/fedora/42/repodata/" + strings.Repeat("xy", 32) + "-primary.xml.zst": false,
		"/packages/ab/cd/six-1.16.0-py2.py3-none-any.whl":                      true,
		"/simple/six/":   false,
		"/simple/x.whl/": false,
		"/.deb":          false,
		"/":              false,
	} {
		if isImmutable(path) != want {
			t.Errorf("%s: %t, want %t", path, !want, want)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add(meta{Key: "k", Type: "t", ETag: "e", Modified: "m", Size: 7}.head(), int64(headSize+7))
	f.Add([]byte(headMagic+`{"Size":-1}`+"\n"), int64(headSize-1))
	f.Add([]byte(headMagic), int64(0))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		m, err := parseHead(head, size)
		if err != nil {
			return
		}
		if m.Size < 0 || m.Size != size-headSize {
			t.Errorf("a file of %d bytes has a body of %d", size, m.Size)
		}
		if again := m.head(); again != nil {
			if n, err := parseHead(again, size); err != nil || n != m {
				t.Errorf("%+v came back as %+v, %v", m, n, err)
			}
		}
	})
}

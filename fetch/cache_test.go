package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/internal/filelock"
)

// fixed serves one file with an entity tag and counts what it sends.
type fixed struct {
	*httptest.Server
	mu     sync.Mutex
	data   string
	bodies atomic.Int32
}

func newFixed(t *testing.T, data string) *fixed {
	f := &fixed{data: data}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		data := f.data
		f.mu.Unlock()
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(data))))
		if r.Header.Get("If-None-Match") != w.Header().Get("ETag") {
			f.bodies.Add(1)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(data))
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fixed) set(data string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data = data
}

func (f *fixed) web() *Web {
	return &Web{HTTP: f.Client(), Allowed: Prefixes{f.URL}, Pauses: make([]time.Duration, 2)}
}

// have downloads one file into a new directory and returns what it holds.
func have(t *testing.T, c *Cache, web *Web, want Want) (string, error) {
	t.Helper()
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := c.Have(t.Context(), web, want, dir, "a/file", nil); err != nil {
		return "", err
	}
	data, err := dir.ReadFile("a/file")
	if err != nil {
		t.Fatal(err)
	}
	return string(data), nil
}

func TestCacheKeeps(t *testing.T) {
	server := newFixed(t, "one")
	c := &Cache{Dir: t.TempDir()}
	want := Want{URL: server.URL + "/f", Name: "f"}
	for i, tt := range []struct {
		data   string
		fixed  bool
		expect string
		bodies int32
	}{
		{"one", false, "one", 1},
		{"one", false, "one", 1},   // asked, and unchanged
		{"two!", false, "two!", 2}, // asked, and changed
		{"three", true, "two!", 2}, // not asked
		{"three", false, "three", 3},
	} {
		server.set(tt.data)
		want.Fixed = tt.fixed
		got, err := have(t, c, server.web(), want)
		if err != nil || got != tt.expect || server.bodies.Load() != tt.bodies {
			t.Errorf("%d: %q after %d bodies, %v", i, got, server.bodies.Load(), err)
		}
	}
}

// A kept file that is not what was kept is downloaded again, and one that a kill
// left without its note, or with another's, counts for nothing.
func TestCacheDoesNotTrustTheDisk(t *testing.T) {
	spoil := map[string]func(e entry) error{
		"other bytes":     func(e entry) error { return os.WriteFile(e.data, []byte("x"+strings.Repeat("y", 8)), 0o600) },
		"cut off":         func(e entry) error { return os.Truncate(e.data, 3) },
		"gone":            func(e entry) error { return os.Remove(e.data) },
		"no note":         func(e entry) error { return os.Remove(e.note) },
		"half a note":     func(e entry) error { return os.WriteFile(e.note, []byte(`{"URL":`), 0o600) },
		"another's note":  func(e entry) error { return os.WriteFile(e.note, []byte(`{"URL":"http://x/","Size":9}`), 0o600) },
		"a half new note": func(e entry) error { return os.WriteFile(e.note+".new", []byte(`{`), 0o600) },
	}
	for summary, do := range spoil {
		t.Run(summary, func(t *testing.T) {
			server := newFixed(t, "the bytes")
			c := &Cache{Dir: t.TempDir()}
			want := Want{URL: server.URL + "/f", Name: "f", Fixed: true}
			if _, err := have(t, c, server.web(), want); err != nil {
				t.Fatal(err)
			}
			if err := do(c.entry(want.URL)); err != nil {
				t.Fatal(err)
			}
			if got, err := have(t, c, server.web(), want); err != nil || got != "the bytes" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// What a killed process left half is gone on with, if it still is the same file.
func TestCacheGoesOn(t *testing.T) {
	data := strings.Repeat("0123456789", 100)
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(data)))
	for _, tt := range []struct {
		summary, part, note, rng string
	}{
		{"the same", data[:300], tag, "bytes=300-"},
		{"changed meanwhile", "old bytes", `"old"`, "bytes=9-"},
		{"a weak tag", data[:300], `W/"x"`, ""},
		{"no note", data[:300], "", ""},
		{"longer than it is", data + "more", tag, "bytes=1004-"},
		{"all of it", data, tag, "bytes=1000-"},
	} {
		t.Run(tt.summary, func(t *testing.T) {
			server := newFixed(t, data)
			first := ""
			inner := server.Config.Handler
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if first == "" {
					first = r.Header.Get("Range") + "."
				}
				inner.ServeHTTP(w, r)
			})
			c := &Cache{Dir: t.TempDir()}
			want := Want{URL: server.URL + "/f", Name: "f"}
			e := c.entry(want.URL)
			if err := os.MkdirAll(filepath.Dir(e.part), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(e.part, []byte(tt.part), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.note != "" {
				if err := writeNote(e.partNote, note{URL: want.URL, ETag: tt.note}); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := have(t, c, server.web(), want); err != nil || got != data {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if first != tt.rng+"." {
				t.Errorf("it asked for %q, want %q", first, tt.rng)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	server := newFixed(t, strings.Repeat("x", 1000))
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, err := w.Write(make([]byte, 100)); err == nil; _, err = w.Write(make([]byte, 100)) {
		}
	}))
	t.Cleanup(endless.Close)
	c := &Cache{Dir: t.TempDir()}
	if _, err := have(t, c, server.web(), Want{URL: server.URL + "/f", Max: 2000}); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{server.URL + "/f", server.URL + "/g", endless.URL} {
		web := server.web()
		web.Allowed = append(web.Allowed, endless.URL)
		_, err := have(t, c, web, Want{URL: address, Max: 999, Fixed: true})
		if !errors.Is(err, assay.ErrFetchRefused) || !strings.Contains(err.Error(), "larger than the limit") {
			t.Errorf("%s: %v", address, err)
		}
		if parts, _ := filepath.Glob(filepath.Join(c.Dir, "*", "*.part*")); len(parts) > 0 {
			t.Errorf("left behind: %v", parts)
		}
	}
}

// A file is written inside the directory or not at all.
func TestHaveStaysInside(t *testing.T) {
	server := newFixed(t, "x")
	outside := t.TempDir()
	inside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	dir, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := &Cache{Dir: t.TempDir()}
	for _, name := range []string{"../x", "link/x", "/tmp/x", "a/../../x"} {
		if _, err := c.Have(t.Context(), server.web(), Want{URL: server.URL}, dir, name, nil); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("outside there is %v", left)
	}
}

func TestSurplus(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(int64(minute)*60, 0) }
	entries := func() []kept { return []kept{{"new", 40, at(3)}, {"old", 30, at(1)}, {"middle", 20, at(2)}} }
	for limit, want := range map[int64]int{90: 0, 89: 1, 60: 1, 59: 2, 40: 2, 39: 3, 0: 3} {
		got := surplus(entries(), limit)
		if len(got) != want || want > 0 && got[0].base != "old" {
			t.Errorf("for %d: %v", limit, got)
		}
	}
}

// Trim removes the longest unused, half ones too, and nothing that is in use.
func TestTrim(t *testing.T) {
	server := newFixed(t, strings.Repeat("x", 1000))
	c := &Cache{Dir: t.TempDir(), Bytes: 4500}
	entries := make([]entry, 6)
	for i := range entries {
		want := Want{URL: fmt.Sprintf("%s/%d", server.URL, i), Fixed: true}
		if _, err := have(t, c, server.web(), want); err != nil {
			t.Fatal(err)
		}
		entries[i] = c.entry(want.URL)
		used := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(entries[i].note, used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(entries[0].part, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(entries[0].part, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	unlock, err := filelock.Try(entries[1].lock) // somebody is at it
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Trim(); err != nil {
		t.Fatal(err)
	}
	unlock()
	for i, e := range entries {
		_, err := os.Stat(e.data)
		if there, want := err == nil, i == 1 || i >= 3; there != want {
			t.Errorf("%d is there: %v", i, there)
		}
	}
	if _, err := os.Stat(entries[0].part); err == nil {
		t.Error("a half one stays")
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(0, 0)
	var lines []string
	tell := &Teller{Say: func(line string) { lines = append(lines, line) }, Now: func() time.Time { return now }}
	p := tell.begin("a.rpm")
	for second, done := range []int64{0, 100, 2048, 3000, 4000, 5000, 6000, 4 << 20} {
		now = time.Unix(int64(second), 0)
		total := int64(0)
		if second > 5 {
			total = 8 << 20
		}
		p.at(done, total)
	}
	if got, want := strings.Join(lines, "\n"), "downloading a.rpm: 2 KiB\ndownloading a.rpm: 4 MiB of 8 MiB"; got != want {
		t.Errorf("it said\n%s\nwant\n%s", got, want)
	}
	(*Teller)(nil).begin("x").at(1, 2) // says nothing
}

// A server that falls silent is given up; one that goes on is not.
func TestSilence(t *testing.T) {
	hold := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("some"))
		w.(http.Flusher).Flush()
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hold) })
	web := &Web{HTTP: server.Client(), Allowed: Prefixes{server.URL}, Silence: 20 * time.Millisecond}
	if _, err := web.Get(t.Context(), server.URL, nil, 100); !errors.Is(err, errSilent) || errors.Is(err, assay.ErrFetchRefused) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := web.Get(ctx, server.URL, nil, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

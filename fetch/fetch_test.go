package fetch_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay/fetch"
)

// builds answers as a build system's download server does, and as one that has
// turned against us.
func builds(t *testing.T) *httptest.Server {
	t.Helper()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) }))
	t.Cleanup(other.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/packages/hello.rpm", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("an rpm")) })
	mux.HandleFunc("/packages/moved.rpm", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/packages/hello.rpm", http.StatusFound)
	})
	mux.HandleFunc("/packages/away.rpm", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/packages/x", http.StatusFound)
	})
	mux.HandleFunc("/packages/out.rpm", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/private", http.StatusFound) })
	mux.HandleFunc("/packages/loop.rpm", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/packages/loop.rpm", http.StatusFound)
	})
	mux.HandleFunc("/packages/big.rpm", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2000)) })
	for name, size := range map[string]int{"half": 500, "most": 600, "all": 1000} {
		mux.HandleFunc("/packages/"+name+".rpm", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
	}
	mux.HandleFunc("/private", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// client downloads from a server, without a lasting cache and for a thousand bytes.
func client(t *testing.T, server *httptest.Server, from ...string) *fetch.Client {
	return &fetch.Client{Web: &fetch.Web{HTTP: server.Client(), Allowed: from}, Scratch: t.TempDir(), Bytes: 1000}
}

func TestAll(t *testing.T) {
	server := builds(t)
	dir := t.TempDir()
	c := client(t, server, "https://elsewhere.example/", server.URL+"/packages/")
	if err := c.All(t.Context(), []string{server.URL + "/packages/hello.rpm", server.URL + "/packages/moved.rpm"}, dir, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hello.rpm", "moved.rpm"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != "an rpm" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	server := builds(t)
	base := server.URL
	tests := []struct {
		summary, address, want string
		notAllowed             bool
		before                 []string // addresses that are asked for before
	}{
		{"another path", base + "/private", "builds.from", true, nil},
		{"another host", "http://evil.example/packages/x.rpm", "builds.from", true, nil},
		{"another scheme", strings.Replace(base, "http:", "https:", 1) + "/packages/hello.rpm", "builds.from", true, nil},
		{"a local file", "file:///etc/passwd", "builds.from", true, nil},
		{"a path that climbs", base + "/packages/../private", "builds.from", true, nil},
		{"a path that climbs in disguise", base + "/packages/%2e%2e/private", "builds.from", true, nil},
		{"a slash in disguise", base + "/packages/..%2fprivate", "builds.from", true, nil},
		{"a prefix that only looks like it", base + "/packagesX/hello.rpm", "builds.from", true, nil},
		{"a user", strings.Replace(base, "http://", "http://me@", 1) + "/packages/hello.rpm", "builds.from", true, nil},
		{"a redirect to another host", base + "/packages/away.rpm", "redirected", true, nil},
		{"a redirect out of the prefix", base + "/packages/out.rpm", "redirected", true, nil},
		{"a redirect without an end", base + "/packages/loop.rpm", "redirected", true, nil},
		{"what is not there", base + "/packages/none.rpm", "404", false, nil},
		{"too large", base + "/packages/big.rpm", "larger than the limit", false, nil},
		{"too large together", base + "/packages/half.rpm", "larger than the limit", false, []string{base + "/packages/most.rpm"}},
		{"nothing left", base + "/packages/half.rpm", "larger than the limit of", false, []string{base + "/packages/all.rpm"}},
		{"the same name", base + "/packages/x/hello.rpm", "another file is called hello.rpm", false, []string{base + "/packages/hello.rpm"}},
		{"no name", base + "/packages/..", "builds.from", true, nil},
		{"an odd name", base + "/packages/a%0ab", "is no name for a file", false, nil},
		{"no address", "http://[", "no address", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			dir := t.TempDir()
			c := client(t, server, base+"/packages/")
			err := c.All(t.Context(), append(tt.before, tt.address), dir, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, fetch.ErrNotAllowed) != tt.notAllowed {
				t.Errorf("got %v", err)
			}
			left, _ := os.ReadDir(dir)
			for _, f := range left {
				if data, _ := os.ReadFile(filepath.Join(dir, f.Name())); strings.Contains(string(data), "secret") {
					t.Errorf("%s was downloaded", f.Name())
				}
			}
		})
	}
}

// TestAllFromTheCache asks about what is kept, and takes it for another execution
// where the server says that it is the same.
func TestAllFromTheCache(t *testing.T) {
	asked, sent := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		_, _ = w.Write([]byte("an rpm"))
	}))
	t.Cleanup(server.Close)
	c := client(t, server, server.URL)
	c.Cache = &fetch.Cache{Dir: filepath.Join(t.TempDir(), "cache")}
	for range 3 {
		dir := t.TempDir()
		if err := c.All(t.Context(), []string{server.URL + "/hello.rpm"}, dir, nil); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "hello.rpm")); err != nil || string(data) != "an rpm" {
			t.Errorf("%q, %v", data, err)
		}
	}
	if asked != 3 || sent != 1 {
		t.Errorf("asked %d times, sent %d times", asked, sent)
	}
}

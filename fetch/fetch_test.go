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
	mux.HandleFunc("/private", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestAll(t *testing.T) {
	server := builds(t)
	dir := t.TempDir()
	c := &fetch.Client{HTTP: server.Client(), From: []string{"https://elsewhere.example/", server.URL + "/packages/"}, Bytes: 1000}
	if err := c.All(t.Context(), []string{server.URL + "/packages/hello.rpm", server.URL + "/packages/moved.rpm"}, dir); err != nil {
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
	}{
		{"another path", base + "/private", "builds.from", true},
		{"another host", "http://evil.example/packages/x.rpm", "builds.from", true},
		{"another scheme", strings.Replace(base, "http:", "https:", 1) + "/packages/hello.rpm", "builds.from", true},
		{"a local file", "file:///etc/passwd", "builds.from", true},
		{"a path that climbs", base + "/packages/../private", "builds.from", true},
		{"a path that climbs in disguise", base + "/packages/%2e%2e/private", "builds.from", true},
		{"a slash in disguise", base + "/packages/..%2fprivate", "builds.from", true},
		{"a prefix that only looks like it", base + "/packagesX/hello.rpm", "builds.from", true},
		{"a user", strings.Replace(base, "http://", "http://me@", 1) + "/packages/hello.rpm", "builds.from", true},
		{"a redirect to another host", base + "/packages/away.rpm", "redirected", true},
		{"a redirect out of the prefix", base + "/packages/out.rpm", "redirected", true},
		{"a redirect without an end", base + "/packages/loop.rpm", "redirected", true},
		{"what is not there", base + "/packages/none.rpm", "404", false},
		{"too large", base + "/packages/big.rpm", "larger than the limit", false},
		{"no name", base + "/packages/..", "builds.from", true},
		{"an odd name", base + "/packages/a%0ab", "is no name for a file", false},
		{"no address", "http://[", "no address", false},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			dir := t.TempDir()
			c := &fetch.Client{HTTP: server.Client(), From: []string{base + "/packages/"}, Bytes: 1000}
			err := c.All(t.Context(), []string{tt.address}, dir)
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

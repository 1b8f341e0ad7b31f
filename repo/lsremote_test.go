package repo

import (
	"context"
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// withRefs makes a repository with two branches, a tag, and pull requests as
// forges name them.
func withRefs(t *testing.T) (bare string, one, two string) {
	t.Helper()
	src := newRepo(t)
	bare = newBare(t)
	one = commit(t, src, "a", "1")
	git(t, src, "push", "-q", bare, "HEAD:refs/heads/main", "HEAD:refs/tags/v1", "HEAD:refs/pull/12/merge")
	two = commit(t, src, "a", "2")
	git(t, src, "push", "-q", bare, "HEAD:refs/heads/f42", "HEAD:refs/pull/12/head", "HEAD:refs/merge-requests/3/head",
		"HEAD:refs/pull/0/head", "HEAD:refs/pull/007/head", "HEAD:refs/pull/99999999999/head")
	return bare, one, two
}

func TestRefs(t *testing.T) {
	bare, one, two := withRefs(t)
	c := openCache(t, Limits{})
	heads := []Ref{{Name: "refs/heads/f42", Hash: two}, {Name: "refs/heads/main", Hash: one}}
	pulls := append(heads[:2:2], Ref{"refs/merge-requests/3/head", two, 3}, Ref{"refs/pull/12/head", two, 12})
	for _, address := range []string{bare, "file://" + bare} {
		if got := must[[]Ref](t)(c.Refs(t.Context(), address, false)); !reflect.DeepEqual(got, heads) {
			t.Errorf("%s: the branches are %v, want %v", address, got, heads)
		}
		if got := must[[]Ref](t)(c.Refs(t.Context(), address, true)); !reflect.DeepEqual(got, pulls) {
			t.Errorf("%s: with pull requests: %v, want %v", address, got, pulls)
		}
	}
	want := map[string]string{"refs/heads/main": one, "refs/heads/f42": two}
	if got := must[map[string]string](t)(NewLister(Limits{}).Heads(t.Context(), bare)); !reflect.DeepEqual(got, want) {
		t.Errorf("the heads are %v, want %v", got, want)
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(c.dir)); len(entries) != 1 {
		t.Errorf("something was fetched: %v", entries) // VERSION alone
	}
}

func TestRefsOfAnEmptyRepository(t *testing.T) {
	bare := newBare(t)
	for _, address := range []string{bare, backend(t, filepath.Dir(bare), nil) + "/bare.git"} {
		refs, err := openCache(t, Limits{}).Refs(t.Context(), address, true)
		if len(refs) != 0 || err != nil {
			t.Errorf("%s: got %v, %v", address, refs, err)
		}
	}
}

func TestRefsRefuses(t *testing.T) {
	bare, _, _ := withRefs(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer silent.Close()
	password := strings.Replace(silent.URL, "://", "://u:hunter2@", 1) + "/x.git"
	cases := map[string]struct {
		ctx     context.Context
		address string
		limits  Limits
		words   []string
	}{
		"no address":    {t.Context(), "ext::sh", Limits{}, []string{"cannot"}},
		"a dash":        {t.Context(), "--upload-pack=x", Limits{}, []string{"cannot use", "dash"}},
		"not there":     {t.Context(), filepath.Join(t.TempDir(), "no"), Limits{}, []string{"cannot list the branches", "no such repository"}},
		"too many":      {t.Context(), bare, Limits{Files: 2}, []string{"cannot list the branches", "limit Files of 2"}},
		"given up":      {gone, bare, Limits{}, []string{"cannot list the branches", "in time"}},
		"not let in":    {t.Context(), password, Limits{}, []string{"cannot list the branches", "put a token"}},
		"other program": {t.Context(), "gopher://h/x", Limits{}, []string{"cannot use", "no protocol"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := openCache(t, tc.limits).Refs(tc.ctx, tc.address, false)
			wantError(t, err, tc.words...)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
	_, err := openCache(t, Limits{Files: 2}).Refs(t.Context(), bare, false)
	if limit := new(LimitError); !errors.As(err, &limit) {
		t.Errorf("%v is no LimitError", err)
	}
}

// backend serves a directory as git does over HTTP.
func backend(t *testing.T, root string, before func(http.Handler) http.Handler) string {
	t.Helper()
	var h http.Handler = &cgi.Handler{
		Path: filepath.Join(git(t, root, "--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/"},
	}
	if before != nil {
		h = before(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// TestListerAsksForWhatIsNew holds that an answer that has not changed is not
// sent again, and that one that has is.
func TestListerAsksForWhatIsNew(t *testing.T) {
	for _, header := range [][2]string{{"ETag", "If-None-Match"}, {"Last-Modified", "If-Modified-Since"}} {
		t.Run(header[0], func(t *testing.T) {
			bare, one, two := withRefs(t)
			state, full, confirmed := "1", 0, 0
			address := backend(t, filepath.Dir(bare), func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get(header[1]) == state {
						confirmed++
						w.WriteHeader(http.StatusNotModified)
						return
					}
					full++
					w.Header().Set(header[0], state)
					next.ServeHTTP(w, r)
				})
			}) + "/bare.git"
			l := NewLister(Limits{})
			look := func(want string) {
				t.Helper()
				if got := must[map[string]string](t)(l.Heads(t.Context(), address)); got["refs/heads/main"] != want {
					t.Errorf("main is at %s, want %s", got["refs/heads/main"], want)
				}
			}
			look(one)
			look(one)
			git(t, bare, "update-ref", "refs/heads/main", two)
			look(one) // the server says that nothing changed
			state = "2"
			look(two)
			look(two)
			if full != 2 || confirmed != 3 {
				t.Errorf("%d answers were sent and %d confirmed, want 2 and 3", full, confirmed)
			}
		})
	}
}

// TestListerBelievesNoStray304 holds that a server which confirms what nobody has
// is not believed.
func TestListerBelievesNoStray304(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) }))
	defer s.Close()
	_, err := NewLister(Limits{}).Heads(t.Context(), s.URL+"/x.git")
	wantError(t, err, "cannot list the branches")
}

func FuzzPullNumber(f *testing.F) {
	for _, name := range []string{"refs/pull/7/head", "refs/merge-requests/12/head", "refs/pull/-1/head", "refs/pull/1/merge", "refs/heads/main", "refs/pull/007/head", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		number, ok := pullNumber(name)
		if ok != (number > 0) || number < 0 {
			t.Errorf("%q is %d, %v", name, number, ok)
		}
		if ok && !strings.HasPrefix(name, "refs/") {
			t.Errorf("%q is a pull request", name)
		}
	})
}

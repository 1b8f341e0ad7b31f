package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// webServer serves the repositories below root with git's own program. It can
// be told to send only the beginning of the next answers.
type webServer struct {
	*httptest.Server
	mu      sync.Mutex
	room    int           // bytes of an answer to a fetch before it stalls; 0 for all
	stalled chan struct{} // one for each answer that stalls
}

func newWebServer(t *testing.T, root string) *webServer {
	s := &webServer{stalled: make(chan struct{}, 100)}
	backend := &cgi.Handler{
		Path:   filepath.Join(git(t, root, "--exec-path"), "git-http-backend"),
		Stderr: io.Discard, Logger: log.New(io.Discard, "", 0),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=tester", "GIT_CONFIG_GLOBAL=/dev/null"},
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		room := s.room
		s.mu.Unlock()
		if room > 0 && r.Method == "POST" {
			w = &stallingWriter{ResponseWriter: w, server: s, room: room, done: r.Context().Done()}
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *webServer) stallAfter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = n
}

type stallingWriter struct {
	http.ResponseWriter
	server *webServer
	room   int
	done   <-chan struct{}
}

func (w *stallingWriter) Write(p []byte) (int, error) {
	if len(p) <= w.room {
		w.room -= len(p)
		return w.ResponseWriter.Write(p)
	}
	if _, err := w.ResponseWriter.Write(p[:w.room]); err != nil {
		return 0, err
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	w.server.stalled <- struct{}{}
	<-w.done
	return 0, errors.New("the client is gone")
}

// noise is text that does not compress below half.
func noise(t *testing.T, n int) string {
	t.Helper()
	data := make([]byte, n/2)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(data)
}

func TestFetchAndPushOverHTTP(t *testing.T) {
	bare, src := newBare(t), newRepo(t)
	at := commit(t, src, "a", noise(t, 100_000))
	git(t, src, "push", "-q", bare, "main")
	s := newWebServer(t, filepath.Dir(bare))
	c := openCache(t, Limits{})
	address := s.URL + "/bare.git"
	if got, err := c.Resolve(t.Context(), address, []string{"x"}); err != nil || got.Commit != at {
		t.Fatalf("got %v, %v", got, err)
	}
	dir := t.TempDir()
	if err := c.Checkout(t.Context(), address, at, "", dir); err != nil {
		t.Fatal(err)
	}
	if err := c.EditNote(t.Context(), address, at, NotesRef, appendLine("over http")); err != nil {
		t.Fatal(err)
	}
	if got := git(t, bare, "notes", "--ref=assay", "show", at); got != "over http" {
		t.Errorf("the note is %q", got)
	}
	_, err := c.Resolve(t.Context(), s.URL+"/other.git", nil)
	wantError(t, err, "cannot", "no such repository")
}

// roleFetch fetches, and is killed while it does.
func roleFetch(ctx context.Context) error {
	c, err := Open(os.Getenv("REPO_TEST_CACHE"), Limits{})
	if err != nil {
		return err
	}
	_, err = c.Resolve(ctx, os.Getenv("REPO_TEST_ADDRESS"), nil)
	return err
}

func TestFetchAfterKill(t *testing.T) {
	bare, src := newBare(t), newRepo(t)
	commit(t, src, "a", noise(t, 200_000))
	at := commit(t, src, "b", noise(t, 200_000))
	git(t, src, "push", "-q", bare, "main")
	s := newWebServer(t, filepath.Dir(bare))
	c := openCache(t, Limits{})
	for _, room := range []int{1, 100, 5_000, 100_000, 180_000} {
		s.stallAfter(room)
		cmd := exec.Command(must[string](t)(os.Executable()))
		cmd.Env = append(os.Environ(), "REPO_TEST_ROLE=fetch", "REPO_TEST_CACHE="+c.dir, "REPO_TEST_ADDRESS="+s.URL+"/bare.git")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-s.stalled
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	s.stallAfter(0)
	got, err := c.Resolve(t.Context(), s.URL+"/bare.git", nil)
	if err != nil || got.Commit != at {
		t.Fatalf("got %v, %v", got, err)
	}
	m := c.mirrorDir(must[address](t)(parseAddress(s.URL + "/bare.git")))
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(m, "objects/pack"))) {
		if strings.HasPrefix(e.Name(), "tmp_") {
			t.Errorf("%s is left", e.Name())
		}
	}
	git(t, m, "fsck", "--full")
}

func TestFetchThatStallsEnds(t *testing.T) {
	bare, src := newBare(t), newRepo(t)
	commit(t, src, "a", noise(t, 200_000))
	git(t, src, "push", "-q", bare, "main")
	s := newWebServer(t, filepath.Dir(bare))
	s.stallAfter(50_000)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		<-s.stalled
		cancel()
	})
	c := openCache(t, Limits{})
	if _, err := c.Resolve(ctx, s.URL+"/bare.git", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	group.Wait()
	short := openCache(t, Limits{FetchTime: 100 * time.Millisecond})
	_, err := short.Resolve(t.Context(), s.URL+"/bare.git", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s.stallAfter(0)
	if _, err := c.Resolve(t.Context(), s.URL+"/bare.git", nil); err != nil {
		t.Error(err)
	}
}

// TestDamagedMirrorsAreMadeAnew breaks a mirror in every way that a crash, a
// full disk or a person could.
func TestDamagedMirrorsAreMadeAnew(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", noise(t, 50_000))
	packs := func(t *testing.T, dir, suffix string) string {
		all := must[[]string](t)(filepath.Glob(filepath.Join(dir, "objects/pack/pack-*"+suffix)))
		if len(all) != 1 {
			t.Fatalf("there are %q", all)
		}
		if err := os.Chmod(all[0], 0o600); err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	damages := map[string]func(t *testing.T, dir string) error{
		"no HEAD":     func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "HEAD")) },
		"no index":    func(t *testing.T, dir string) error { return os.Remove(packs(t, dir, ".idx")) },
		"no pack":     func(t *testing.T, dir string) error { return os.Remove(packs(t, dir, ".pack")) },
		"empty index": func(t *testing.T, dir string) error { return os.Truncate(packs(t, dir, ".idx"), 0) },
		"short index": func(t *testing.T, dir string) error { return os.Truncate(packs(t, dir, ".idx"), 1100) },
		"empty pack":  func(t *testing.T, dir string) error { return os.Truncate(packs(t, dir, ".pack"), 0) },
		"short pack":  func(t *testing.T, dir string) error { return os.Truncate(packs(t, dir, ".pack"), 5000) },
		"gone":        os2(os.RemoveAll),
		"a file": func(t *testing.T, dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		},
		"half made":    func(t *testing.T, dir string) error { return os.MkdirAll(dir+".new/objects", 0o700) },
		"half removed": func(t *testing.T, dir string) error { return os.Rename(dir, dir+".old") },
		"half a pack": func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "objects/pack/tmp_pack_1"), []byte("PACK"), 0o600)
		},
		"bad packed-refs": func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "packed-refs"), []byte("\x00\xff"), 0o600)
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			c := openCache(t, Limits{})
			must[Revision](t)(c.Resolve(t.Context(), src, nil))
			if err := damage(t, c.mirrorDir(must[address](t)(parseAddress(src)))); err != nil {
				t.Fatal(err)
			}
			// What a reader finds broken, the next fetch mends.
			if c.Checkout(t.Context(), src, at, "", t.TempDir()) == nil && (name == "no pack" || name == "short pack") {
				t.Fatal("the damage shows nowhere")
			}
			if err := c.FetchCommit(t.Context(), src, at); err != nil {
				t.Fatal(err)
			}
			if err := c.Checkout(t.Context(), src, at, "", t.TempDir()); err != nil {
				t.Error(err)
			}
		})
	}
}

func os2(f func(string) error) func(*testing.T, string) error {
	return func(_ *testing.T, dir string) error { return f(dir) }
}

// TestTreesOutliveTheirMirror reads on in a tree whose mirror was made anew.
func TestTreesOutliveTheirMirror(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", "1", "c", "unread", "d/b", noise(t, 50_000))
	c := openCache(t, Limits{})
	must[Revision](t)(c.Resolve(t.Context(), src, nil))
	tree := must[fs.FS](t)(c.Tree(t.Context(), src, at))
	must[[]byte](t)(fs.ReadFile(tree, "a"))

	a := must[address](t)(parseAddress(src))
	if err := os.WriteFile(filepath.Join(c.mirrorDir(a), damagedFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next := commit(t, src, "a", "2") // so that the packs are others
	must[Revision](t)(c.Resolve(t.Context(), src, nil))
	if got := must[[]byte](t)(fs.ReadFile(tree, "d/b")); len(got) != 50_000 {
		t.Errorf("read %d bytes", len(got))
	}

	// What is gone is gone, which is no damage.
	git(t, src, "checkout", "-q", "--orphan", "other")
	git(t, src, "rm", "-rfq", ".")
	commit(t, src, "x", "1")
	git(t, src, "branch", "-q", "-D", "main")
	if err := os.RemoveAll(c.mirrorDir(a)); err != nil {
		t.Fatal(err)
	}
	must[Revision](t)(c.Resolve(t.Context(), src, []string{"other"}))
	_, err := fs.ReadFile(tree, "c")
	wantError(t, err, "missing", "fetch")
	if _, err := os.Stat(filepath.Join(c.mirrorDir(a), damagedFile)); err == nil {
		t.Error("the new mirror counts as damaged")
	}
	wantError(t, c.FetchCommit(t.Context(), src, next), "cannot fetch")
}

func TestManyFetchOneMirror(t *testing.T) {
	src := newRepo(t)
	var commits []string
	for i := range 6 {
		commits = append(commits, commit(t, src, "a", noise(t, 20_000), "b", fmt.Sprint(i)))
		git(t, src, "branch", fmt.Sprintf("b%d", i))
	}
	dir := t.TempDir()
	var group sync.WaitGroup
	for i, at := range commits {
		c := must[*Cache](t)(Open(dir, Limits{})) // as other processes would
		group.Go(func() {
			got, err := c.Resolve(t.Context(), src, []string{fmt.Sprintf("b%d", i)})
			if err != nil || got.Commit != at {
				t.Errorf("got %v, %v", got, err)
			}
			if err := c.FetchCommit(t.Context(), src, commits[0]); err != nil {
				t.Error(err)
			}
			tree, err := c.Tree(t.Context(), src, at)
			if err == nil {
				err = walkAll(tree)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestMirrorThatIsFullDropsWhatNobodyWants(t *testing.T) {
	src := newRepo(t)
	commit(t, src, "a", noise(t, 120_000))
	git(t, src, "checkout", "-q", "--orphan", "other")
	other := commit(t, src, "a", noise(t, 120_000))
	c := openCache(t, Limits{MirrorBytes: 100_000})
	for _, branch := range []string{"main", "other", "main", "other"} {
		if _, err := c.Resolve(t.Context(), src, []string{branch}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.FetchCommit(t.Context(), src, other); err != nil {
		t.Error(err)
	}
	m := &mirror{dir: c.mirrorDir(must[address](t)(parseAddress(src)))}
	if size := m.size(); size > 100_000 {
		t.Errorf("the mirror is %d bytes large", size)
	}
}

func TestObjectsThatSwellAreNotRead(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "zeros", strings.Repeat("\x00", 3<<20))
	if err := os.Remove(filepath.Join(src, "zeros")); err != nil {
		t.Fatal(err)
	}
	at2 := commit(t, src, "a", "1") // it is still in the history
	c := openCache(t, Limits{FileBytes: 1 << 20})
	for _, commit := range []string{at, at2} {
		var limit *LimitError
		if err := c.FetchCommit(t.Context(), src, commit); !errors.As(err, &limit) || limit.Limit != "FileBytes" {
			t.Errorf("got %v", err)
		}
	}
	in := must[*Incoming](t)(OpenIncoming(filepath.Join(src, ".git"), func(string) string { return "" }))
	defer in.Close()
	in.source.limits.FileBytes = 1 << 20
	tree := must[fs.FS](t)(in.Tree(t.Context(), at))
	_, err := fs.ReadFile(tree, "zeros")
	wantError(t, err, "zeros", "FileBytes")
}

func TestDeltaTarget(t *testing.T) {
	cases := map[string]int64{
		"\x01\x02": 2, "\x80\x01\x05rest": 5, "\x81\x80\x01\xff\x01": 255,
		"\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f": 1<<63 - 1, "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f": -1, "": 0,
	}
	for in, want := range cases {
		var p prefix
		for _, b := range []byte(in) {
			if _, err := p.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if got := p.deltaTarget(); got != want {
			t.Errorf("%x: got %d, want %d", in, got, want)
		}
	}
}

// FuzzPack holds that no pack, however broken, panics or leaves the bounds.
func FuzzPack(f *testing.F) {
	src := newRepo(f)
	commit(f, src, "a", strings.Repeat("line\n", 1000))
	commit(f, src, "a", strings.Repeat("line\n", 1000)+"more")
	cmd := exec.Command("git", "pack-objects", "--stdout", "--all", "--delta-base-offset")
	cmd.Dir = src
	pack, err := cmd.Output()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pack)
	f.Add(pack[:len(pack)/2])
	f.Add([]byte("PACK\x00\x00\x00\x02\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := filepath.Join(t.TempDir(), "m.git")
		if err := initBare(dir, "x"); err != nil {
			t.Fatal(err)
		}
		m := &mirror{dir: dir, limits: Limits{FileBytes: 1 << 20, MirrorBytes: 1 << 20}.withDefaults()}
		m.limits.FileBytes = 1 << 20
		if err := m.prepare(); err != nil {
			t.Fatal(err)
		}
		err := m.addPack(t.Context(), bytes.NewReader(data))
		names := must[[]os.DirEntry](t)(os.ReadDir(m.packDir()))
		if want := map[bool]int{true: 2, false: 0}[err == nil]; len(names) != want {
			t.Errorf("%v leaves %v", err, names)
		}
		for _, e := range names {
			if strings.HasPrefix(e.Name(), "tmp_") {
				t.Errorf("%s is left", e.Name())
			}
		}
	})
}

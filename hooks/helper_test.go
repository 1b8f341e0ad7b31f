package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestMain keeps the machine's own git configuration out, and is assay itself
// when a hook calls it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "hook" {
		os.Exit(playAssay(os.Args[2]))
	}
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
		"GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org",
	} {
		os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

func playAssay(hook string) int {
	play := map[string]func(context.Context) error{"pre-receive": playPre, "post-receive": playPost, "deliver": playDeliver}
	err := play[hook](context.Background())
	if err != nil && !errors.Is(err, ErrRefused) {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		return 1
	}
	return 0
}

// playPre finds a mistake in every line of the file "formula" with bad in it.
func playPre(ctx context.Context) error {
	lint := func(_ context.Context, commit string) error {
		out, err := exec.Command("git", "show", commit+":formula").CombinedOutput()
		if err != nil {
			return fmt.Errorf("cannot read the formula: %s", out)
		}
		var errs []error
		for i, line := range strings.Split(string(out), "\n") {
			if strings.Contains(line, "bad") {
				errs = append(errs, fmt.Errorf("formula:%d:1: cannot use %q", i+1, line))
			}
		}
		return errors.Join(errs...)
	}
	return PreReceive{Lint: lint}.Run(ctx, os.Stdin, os.Stderr)
}

func playPost(ctx context.Context) error {
	config, err := Load(os.Getenv("GIT_DIR"))
	if err != nil {
		return err
	}
	spool, err := NewSpool(os.Getenv("GIT_DIR"), nil)
	if err != nil {
		return err
	}
	p := PostReceive{Repository: config.Name, Server: config.Server, Spool: spool, Post: poster(config)}
	p.Start = func() error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		return StartDeliverer(exe, os.Getenv("GIT_DIR"))
	}
	return p.Run(ctx, os.Stdin, os.Stderr)
}

// playDeliver logs what of the hook's surroundings came through to it.
func playDeliver(ctx context.Context) error {
	dir := os.Args[4]
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	fmt.Printf("own session: %v\n", int(sid) == os.Getpid())
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "GIT_") {
			fmt.Println("leaked", v)
		}
	}
	config, err := Load(dir)
	if err != nil {
		return err
	}
	spool, err := NewSpool(dir, func(line string) { fmt.Println(line) })
	if err != nil {
		return err
	}
	return spool.DeliverUntilEmpty(ctx, poster(config))
}

func poster(c Config) func(context.Context, Entry) error {
	return func(ctx context.Context, e Entry) error {
		req, err := http.NewRequestWithContext(ctx, "POST", c.Server+"/git", bytes.NewReader(e.JSON))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		switch {
		case resp.StatusCode < 300:
			return nil
		case resp.StatusCode < 500:
			return &Refusal{Reason: resp.Status}
		}
		return errors.New(resp.Status)
	}
}

// server is where events are sent. It answers with the status that is set, and
// keeps what it took.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	took   []string
	got    chan string // every body taken
}

func newServer(t *testing.T, status int) *server {
	s := &server{status: status, got: make(chan string, 1000)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status < 300 {
		s.took = append(s.took, string(body))
		s.got <- string(body)
	}
	w.WriteHeader(s.status)
}

func (s *server) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func tryGit(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func newRepo(t testing.TB, args ...string) string {
	dir := filepath.Join(t.TempDir(), "it's a repo")
	git(t, t.TempDir(), append(append([]string{"init", "-q"}, args...), dir)...)
	return dir
}

// commit writes the file "formula" and commits it.
func commit(t testing.TB, dir, formula string) string {
	t.Helper()
	put(t, filepath.Join(dir, "formula"), formula, 0o644)
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "change")
	return git(t, dir, "rev-parse", "HEAD")
}

func put(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func options(t testing.TB, gitDir, address string) Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	put(t, secret, "s", 0o600)
	return Options{GitDir: gitDir, Exe: exe, Server: address, SecretFile: secret, Name: "checks/hello"}
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", words)
	}
	wantWords(t, err.Error(), words...)
}

func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q lacks %q", text, word)
		}
	}
}

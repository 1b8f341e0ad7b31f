package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
	"github.com/assay-ci/assay/webhook"
)

// site is a whole installation: package and check repositories made with real
// git, and a server with a real store, queue and listener.
type site struct {
	t        *testing.T
	dir      string
	cfg      config.Config
	machines *fake.Machines
	secret   []byte

	srv   *server
	stop  context.CancelFunc
	ended chan error
	log   *lockedBuffer
}

// lockedBuffer is a log that is written and read at the same time.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newSite makes the repositories rpms/hello and checks/hello, empty, and the
// configuration; change may be nil.
func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), machines: &fake.Machines{Parent: t.TempDir()}, log: &lockedBuffer{}}
	s.secret = []byte("a secret of the test's own")
	secretFile := filepath.Join(s.dir, "webhook.secret")
	s.write(secretFile, string(s.secret))
	s.cfg = config.Default()
	s.cfg.Listen = "127.0.0.1:0"
	s.cfg.Data = filepath.Join(s.dir, "data")
	s.cfg.Limits.Retries = []time.Duration{time.Millisecond, time.Millisecond}
	s.cfg.Webhook.SecretFiles = []string{secretFile}
	s.cfg.Packages = []config.Package{{Name: "rpms/*", Checks: s.dir + "/checks/*.git", Source: s.dir + "/rpms/*.git"}}
	if change != nil {
		change(&s.cfg)
	}
	for _, name := range []string{"rpms/hello", "checks/hello"} {
		s.repository(name)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
	})
	return s
}

// repository makes one more, empty.
func (s *site) repository(name string) {
	s.t.Helper()
	s.git(s.dir, "init", "-q", "--bare", "--initial-branch=main", s.bare(name))
}

func (s *site) bare(name string) string { return filepath.Join(s.dir, name+".git") }

// write writes a file and makes its directories.
func (s *site) write(file, data string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// files are the names of what lies in the site's directory.
func (s *site) files() []string {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// git runs git and returns what it prints.
func (s *site) git(dir string, args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit adds a commit with these files to a repository's branch and returns
// its hash; a file with the content "" is removed.
func (s *site) commit(name, branch string, files map[string]string) string {
	s.t.Helper()
	work := filepath.Join(s.dir, "work", uuid.NewString())
	s.git(s.dir, "clone", "-q", s.bare(name), work)
	if s.git(work, "ls-remote", "origin", "refs/heads/"+branch) != "" {
		s.git(work, "checkout", "-q", "-B", branch, "origin/"+branch)
	} else {
		s.git(work, "checkout", "-q", "-B", branch)
	}
	for file, data := range files {
		s.write(filepath.Join(work, file), data)
	}
	s.git(work, "add", "-A")
	s.git(work, "commit", "-q", "--allow-empty", "-m", "change")
	s.git(work, "push", "-q", "origin", branch)
	return s.git(work, "rev-parse", "HEAD")
}

// start starts the server in this process.
func (s *site) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	log := zerolog.New(s.log).Level(zerolog.InfoLevel)
	srv, err := newServer(ctx, s.cfg, log, func(context.Context, config.Config, zerolog.Logger) (runner.Machines, func() error, error) {
		return s.machines, func() error { return nil }, nil
	})
	if err != nil {
		cancel()
		s.t.Fatal(err)
	}
	s.srv, s.stop, s.ended = srv, cancel, make(chan error, 1)
	go func() { s.ended <- srv.Run(ctx) }()
	s.t.Cleanup(s.shutdown)
}

// shutdown ends the server and waits for it; twice does nothing.
func (s *site) shutdown() {
	if s.srv == nil {
		return
	}
	s.stop()
	if err := <-s.ended; err != nil {
		s.t.Errorf("the server ended with: %v", err)
	}
	if err := s.srv.Close(); err != nil {
		s.t.Errorf("the server closed with: %v", err)
	}
	s.srv = nil
	if n := s.machines.Alive(); n != 0 {
		s.t.Errorf("%d machines are left", n)
	}
}

// post delivers an event and returns its receipt.
func (s *site) post(source, delivery string, body any) webhook.Receipt {
	s.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	receipt, err := webhook.Post(s.t.Context(), nil, s.srv.url, source, delivery, s.secret, data)
	if err != nil {
		s.t.Fatal(err)
	}
	return receipt
}

// build reports a build of rpms/hello.
func (s *site) build(version, commit string) webhook.Receipt {
	s.t.Helper()
	return s.post("build", "build-"+version, buildEvent{
		Package: "rpms/hello", Version: version, Release: "1.fc42", Commit: commit, BuildID: "b-" + version,
	})
}

// patience bounds every wait; it is only ever used up by a failing test.
const patience = 5 * time.Minute

// until asks again and again until the answer is true.
func until(t *testing.T, what string, ask func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %s for %s", patience, what)
		case <-t.Context().Done():
			t.Fatalf("the test ended while waiting for %s", what)
		}
	}
}

// executions waits until the event is planned and all of its executions are
// finished, and returns them.
func (s *site) executions(event string) []assay.Execution {
	s.t.Helper()
	var list []assay.Execution
	until(s.t, "the executions of event "+event, func() bool {
		record, err := s.srv.store.Event(s.t.Context(), event)
		if err != nil {
			s.t.Fatal(err)
		}
		list, err = s.srv.store.Executions(s.t.Context(), assay.ExecutionFilter{EventID: event})
		if err != nil {
			s.t.Fatal(err)
		}
		open := slices.ContainsFunc(list, func(x assay.Execution) bool { return x.State != assay.StateFinished })
		return record.State != assay.EventNew && !open
	})
	return list
}

// one is executions where there is exactly one.
func (s *site) one(event string) assay.Execution {
	s.t.Helper()
	list := s.executions(event)
	if len(list) != 1 {
		s.t.Fatalf("event %s made %d executions, want 1", event, len(list))
	}
	return list[0]
}

// settled waits until no forge is owed anything.
func (s *site) settled() {
	s.t.Helper()
	until(s.t, "the reports", func() bool {
		all, err := s.srv.store.Executions(s.t.Context(), assay.ExecutionFilter{Limit: 1000})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, x := range all {
			reports, err := s.srv.store.ReportHistory(s.t.Context(), x.Target)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, r := range reports {
				if r.State == results.ReportOwed || r.State == results.ReportSending {
					return false
				}
			}
		}
		return true
	})
}

// note is the git note on a commit, "" for none.
func (s *site) note(name, commit string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), "git", "-C", s.bare(name), "notes", "--ref=assay", "show", commit).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// statusLine is a status in a note: "assay/greets: success - reason <page>".
var statusLine = regexp.MustCompile(`(?m)^assay/\S+: (pending|success|failure|error)(?: - .*)? <[^<>]+>$`)

// states is the history of the states that a commit's status went through in
// its note, oldest first.
func (s *site) states(name, commit string) []string {
	s.t.Helper()
	var states []string
	for rev := range strings.FieldsSeq(s.git(s.bare(name), "rev-list", "--reverse", "refs/notes/assay")) {
		s.git(s.bare(name), "update-ref", "refs/notes/look", rev)
		out, err := exec.CommandContext(s.t.Context(), "git", "-C", s.bare(name), "notes", "--ref=look", "show", commit).Output()
		m := statusLine.FindStringSubmatch(string(out))
		if err != nil || m == nil {
			continue
		}
		if len(states) == 0 || states[len(states)-1] != m[1] {
			states = append(states, m[1])
		}
	}
	return states
}

// get fetches a page of the server in this process.
func (s *site) get(path string) (status int, body string) {
	s.t.Helper()
	return s.request(s.srv.url + path)
}

// fetch is the body of a page.
func (s *site) fetch(address string) string {
	s.t.Helper()
	_, body := s.request(address)
	return body
}

// getPage reads a page of a server that may be away.
func getPage(address string) (string, error) {
	resp, err := (&http.Client{Timeout: patience}).Get(address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", address, resp.Status)
	}
	return string(body), err
}

func (s *site) request(address string) (status int, body string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, buf.String()
}

// overHTTP serves the repositories below dir as a web forge does, by git's own
// http-backend.
func overHTTP(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	})
	t.Cleanup(server.Close)
	return server
}

// formula is a check of one shell step.
func formula(name, command string) string {
	return fmt.Sprintf("name: %s\ndesc: a check\nmaintainer: tests\nactions:\n  - name: look\n    shell:\n      - %s\n", name, command)
}

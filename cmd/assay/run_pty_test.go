package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// seen is a terminal that is written to and looked at by several goroutines.
type seen struct {
	mu sync.Mutex
	terminal
}

func (s *seen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.terminal.Write(p)
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.terminal.String()
}

func (s *seen) widen(columns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.columns = columns
}

// onPty starts the real program on a terminal of 70 columns; ended is closed when
// all that it wrote was shown.
func onPty(t *testing.T, args ...string) (cmd *exec.Cmd, screen *seen, master *os.File, ended chan struct{}) {
	t.Helper()
	screen = &seen{terminal: *newTerminal(70)}
	cmd = exec.CommandContext(t.Context(), filepath.Join(bin, "assay"), append([]string{"run"}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8", "NO_COLOR=1", "TMPDIR="+t.TempDir())
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 70})
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = screen.Write(buf[:n])
			if err != nil {
				return // EIO: the program has ended
			}
		}
	}()
	t.Cleanup(func() { _ = master.Close() })
	return cmd, screen, master, ended
}

// TestRunOnATerminal is what a maintainer sees: live, and when it has ended.
func TestRunOnATerminal(t *testing.T) {
	dir := t.TempDir()
	gate := filepath.Join(dir, "gate")
	write(t, filepath.Join(dir, "runtask.yml"), `name: greets
desc: greets
maintainer: test
actions:
  - name: builds
    shell: [echo compiling]
  - name: waits
    shell:
      - echo waiting; while [ ! -e `+gate+` ]; do sleep 0.05; done; echo why >&2; exit 3
  - name: tidies
    if: always
    shell: [echo tidying]
  - name: never
    shell: ["true"]
`)
	cmd, screen, master, ended := onPty(t, dir)
	live := func(what, pattern string) {
		t.Helper()
		until(t, what, func() bool { return regexp.MustCompile(pattern).MatchString(screen.String()) })
	}
	live("a live step", `(?m)^  ✓ 1 builds  \d\.\ds  2 lines\n  ▸ 2 waits  0\.\ds\n`)
	live("its output", `(?m)^      waiting$`)
	live("its duration", `(?m)^  ▸ 2 waits  ([1-9]\.\ds|\d+s)$`)
	screen.widen(90)
	if err := pty.Setsize(master, &pty.Winsize{Rows: 10, Cols: 90}); err != nil {
		t.Fatal(err)
	}
	write(t, gate, "")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("it ended with %v", err)
	}
	<-ended
	want := `greets, on this machine
  ✓ 1 builds  T  2 lines
  ✗ 2 waits  T  failed
      $ echo waiting; while GATE
      waiting
      why
      step 2 "waits" failed: exit 3: why
  ✓ 3 tidies  T  2 lines
  - 4 never  not run
FAILED  greets step 2 "waits" failed: exit 3: why
greets: failed: step 2 "waits" failed: exit 3: why
`
	got := regexp.MustCompile(`  \d+(\.\d)?s`).ReplaceAllString(screen.String(), "  T")
	got = regexp.MustCompile(`(?s)while .*?exit 3\n`).ReplaceAllString(got, "while GATE\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestRunInterrupted presses Ctrl-C, as people do.
func TestRunInterrupted(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "runtask.yml"), formula("c", "echo on; sleep 600"))
	cmd, screen, master, ended := onPty(t, dir)
	until(t, "the step", func() bool { return strings.Contains(screen.String(), "      on\n") })
	if _, err := master.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("it ended with %v", err)
	}
	<-ended
	if !strings.HasSuffix(screen.String(), "assay: stopped: interrupted: the check's directory is removed\n") {
		t.Errorf("it said:\n%s", screen.String())
	}
	for _, v := range cmd.Env {
		if tmp, ok := strings.CutPrefix(v, "TMPDIR="); ok {
			if left, err := filepath.Glob(filepath.Join(tmp, "assay-*")); len(left) > 0 || err != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

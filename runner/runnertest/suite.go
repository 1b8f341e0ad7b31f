// Package runnertest is the suite that every kind of machine passes. A new kind
// is one package and one test that calls Run.
package runnertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay/runner"
)

// Options says what of the suite a kind of machine takes part in.
type Options struct {
	// Disposable tells that the machine is of its own: it can be powered off, and
	// its Close leaves nothing.
	Disposable bool
	// PowerOff is the command that takes a disposable machine down.
	PowerOff []string
}

// deadline bounds each call: generous, since emulated machines are slow.
const deadline = 4 * time.Minute

// Run boots one machine and runs the suite on it, then a second one to die. The
// subtests share a machine because a boot may take half a minute.
func Run(t *testing.T, machines runner.Machines, opts Options) {
	t.Helper()
	t.Run("one machine", func(t *testing.T) {
		m := Boot(t, machines)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { c.test(t, m) })
		}
		closeTwice(t, m)
	})
	t.Run("cancelled boot", func(t *testing.T) { cancelledBoot(t, machines) })
	if opts.Disposable {
		t.Run("a machine that dies", func(t *testing.T) { dies(t, machines, opts) })
	}
}

// Boot boots a machine and closes it when the test ends.
func Boot(t *testing.T, machines runner.Machines) runner.Machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	m, err := machines.Boot(ctx, runner.Spec{Execution: "0198c0de-0000-7000-8000-00000000cafe"})
	if err != nil {
		t.Fatalf("cannot boot: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("cannot close: %v", err)
		}
	})
	return m
}

var cases = []struct {
	name string
	test func(*testing.T, runner.Machine)
}{
	{"exit codes", exitCodes},
	{"stdout and stderr apart", streams},
	{"stdin", stdin},
	{"environment and directory", environment},
	{"arguments stay apart", arguments},
	{"a command that is not there", missingCommand},
	{"a command that a signal ends", signalled},
	{"a command that is stopped takes its children along", stopped},
	{"a process left behind does not hold a command up", leftBehind},
	{"much output", muchOutput},
	{"commands at the same time", concurrent},
	{"files there and back", thereAndBack},
	{"pull of a directory that is not there", pullMissing},
	{"pull that nobody reads", pullUnread},
	{"results from several processes", severalResults},
}

// result is what one command came to.
type result struct {
	exit           int
	stdout, stderr string
}

func sh(t *testing.T, m runner.Machine, script string) result {
	t.Helper()
	return run(t, m, runner.Command{Argv: []string{"/bin/sh", "-c", script}})
}

func run(t *testing.T, m runner.Machine, cmd runner.Command) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	exit, err := m.Run(ctx, cmd)
	if err != nil {
		t.Fatalf("cannot run %q: %v", cmd.Argv, err)
	}
	return result{exit, stdout.String(), stderr.String()}
}

func exitCodes(t *testing.T, m runner.Machine) {
	for _, want := range []int{0, 1, 77, 255} {
		if got := run(t, m, runner.Command{Argv: []string{"sh", "-c", "exit $0", itoa(want)}}); got.exit != want {
			t.Errorf("exit %d came back as %d", want, got.exit)
		}
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0 || b == nil; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func streams(t *testing.T, m runner.Machine) {
	got := sh(t, m, "echo one; echo two >&2; printf three")
	if want := (result{0, "one\nthree", "two\n"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func stdin(t *testing.T, m runner.Machine) {
	got := run(t, m, runner.Command{Argv: []string{"cat"}, Stdin: strings.NewReader("a\x00b\n")})
	if got.stdout != "a\x00b\n" {
		t.Errorf("cat gave back %q", got.stdout)
	}
	if got := sh(t, m, "cat; echo end"); got.stdout != "end\n" {
		t.Errorf("without stdin, cat gave %q", got.stdout)
	}
}

func environment(t *testing.T, m runner.Machine) {
	value := `it's "$HOME" \ and` + "\ta tab"
	got := run(t, m, runner.Command{
		Argv: []string{"sh", "-c", `pwd; printf %s "$ASSAY_TEST"`},
		Dir:  "/", Env: []string{"ASSAY_TEST=" + value},
	})
	if want := "/\n" + value; got.stdout != want {
		t.Errorf("got %q, want %q", got.stdout, want)
	}
	if got := sh(t, m, "pwd"); strings.TrimSpace(got.stdout) != m.Dir() {
		t.Errorf("a command starts in %q, not in %q", got.stdout, m.Dir())
	}
}

func arguments(t *testing.T, m runner.Machine) {
	args := []string{"", " ", "$HOME", "a'b", `c"d`, "e\nf", "*", "-n", "ü"}
	got := run(t, m, runner.Command{Argv: append([]string{"printf", "<%s>"}, args...)})
	if want := "<" + strings.Join(args, "><") + ">"; got.stdout != want {
		t.Errorf("got %q, want %q", got.stdout, want)
	}
}

func missingCommand(t *testing.T, m runner.Machine) {
	if got := run(t, m, runner.Command{Argv: []string{"assay-no-such-command"}}); got.exit != 127 {
		t.Errorf("exit %d, want 127", got.exit)
	}
}

func signalled(t *testing.T, m runner.Machine) {
	if got := sh(t, m, "kill -9 $$"); got.exit != 128+9 {
		t.Errorf("exit %d, want 137", got.exit)
	}
}

// onFirst cancels when the command has printed something: the moment it runs.
type onFirst struct{ cancel context.CancelFunc }

func (w onFirst) Write(p []byte) (int, error) { w.cancel(); return len(p), nil }

func stopped(t *testing.T, m runner.Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	_, err := m.Run(ctx, runner.Command{
		Argv:   []string{"sh", "-c", "echo $$ > child; sleep 3617 & echo on; wait"},
		Stdout: onFirst{cancel},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the error of a stopped command is %v", err)
	}
	// The group is killed at once; its end is seen when nothing bears its name.
	gone := `i=0; while [ $i -lt 100 ]; do ps -eo args 2>/dev/null | grep -q '[s]leep 3617' || exit 0; i=$((i+1)); sleep 0.1; done; exit 1`
	if got := sh(t, m, gone); got.exit != 0 {
		t.Errorf("the stopped command's child still runs")
	}
}

func leftBehind(t *testing.T, m runner.Machine) {
	got := sh(t, m, "sleep 3618 & echo $! > left; echo done")
	if got.exit != 0 || got.stdout != "done\n" {
		t.Errorf("got %+v", got)
	}
	if got := sh(t, m, "kill $(cat left)"); got.exit != 0 {
		t.Errorf("what a command leaves behind must go on: %+v", got)
	}
}

// counter counts bytes.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func muchOutput(t *testing.T, m runner.Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var out counter
	if _, err := m.Run(ctx, runner.Command{Argv: []string{"head", "-c", "5000000", "/dev/zero"}, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if out.n != 5_000_000 {
		t.Errorf("%d of 5000000 bytes came out", out.n)
	}
}

func concurrent(t *testing.T, m runner.Machine) {
	done := make(chan string, 5)
	for range cap(done) {
		go func() {
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			_, err := m.Run(ctx, runner.Command{Argv: []string{"echo", "hello"}, Stdout: &out})
			if err != nil {
				out.WriteString(err.Error())
			}
			done <- out.String()
		}()
	}
	for range cap(done) {
		if got := <-done; got != "hello\n" {
			t.Errorf("one of several commands printed %q", got)
		}
	}
}

func thereAndBack(t *testing.T, m runner.Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	files := map[string]string{"a/b/run.sh": "#!/bin/sh\necho ran\n", "empty": "", "odd name ü": "x"}
	dir := path.Join(m.Dir(), "there")
	if err := m.Push(ctx, dir, archive(t, files)); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, m, "there/a/b/run.sh"); got.stdout != "ran\n" {
		t.Errorf("the pushed program did not run: %+v", got)
	}
	var back bytes.Buffer
	if err := m.Pull(ctx, dir, &back); err != nil {
		t.Fatal(err)
	}
	host := t.TempDir()
	got, err := runner.Extract(&back, host, runner.ArchiveLimits{Bytes: 1000, Files: 10})
	if err != nil || len(got.Files) != len(files) {
		t.Errorf("%d of %d files came back: %v", len(got.Files), len(files), err)
	}
}

func archive(t *testing.T, files map[string]string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for name, data := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(data))}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func pullMissing(t *testing.T, m runner.Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := m.Pull(ctx, path.Join(m.Dir(), "no-such-directory"), io.Discard); err == nil {
		t.Error("no error")
	}
}

// broken refuses to take more.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func pullUnread(t *testing.T, m runner.Machine) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if got := sh(t, m, "mkdir -p big && head -c 3000000 /dev/zero > big/file"); got.exit != 0 {
		t.Fatalf("cannot make a big file: %+v", got)
	}
	if err := m.Pull(ctx, path.Join(m.Dir(), "big"), broken{}); err == nil {
		t.Error("no error although nobody took what was pulled")
	}
	if got := sh(t, m, "echo alive"); got.stdout != "alive\n" {
		t.Errorf("the machine does not go on after it: %+v", got)
	}
}

func closeTwice(t *testing.T, m runner.Machine) {
	for range 2 {
		if err := m.Close(); err != nil {
			t.Errorf("cannot close: %v", err)
		}
	}
}

func cancelledBoot(t *testing.T, machines runner.Machines) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := machines.Boot(ctx, runner.Spec{}); err == nil {
		t.Error("a cancelled boot gave a machine")
		_ = m.Close()
	}
}

func dies(t *testing.T, machines runner.Machines, opts Options) {
	m := Boot(t, machines)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	waiting := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		_, err := m.Run(ctx, runner.Command{Argv: []string{"sh", "-c", "echo on; sleep 3619"}, Stdout: onFirst{func() { close(started) }}})
		waiting <- err
	}()
	<-started
	// The command may or may not get to answer before the machine is gone.
	_, _ = m.Run(ctx, runner.Command{Argv: opts.PowerOff})
	if err := <-waiting; !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("a command that ran meanwhile ended with: %v", err)
	}
	if _, err := m.Run(ctx, runner.Command{Argv: []string{"true"}}); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("a command afterwards ended with: %v", err)
	}
	if err := m.Push(ctx, m.Dir(), archive(t, nil)); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("a push afterwards ended with: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Errorf("cannot close: %v", err)
	}
	if c, ok := m.(runner.Consoler); ok {
		if out, err := c.Console(1 << 20); err != nil || len(out) == 0 {
			t.Errorf("the dead machine's console: %d bytes, %v", len(out), err)
		}
	}
}

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// serve gives a client of a server with these options, and what Serve returned
// once the client or the test is done with it.
func serve(t *testing.T, options Options) (client *ssh.Client, ended <-chan error) {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	options.Env = append(options.Env, "PATH="+os.Getenv("PATH"))
	server, err := NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, server)
}

func dial(t *testing.T, server *Server) (*ssh.Client, <-chan error) {
	t.Helper()
	return dialWith(t, server, ssh.Config{})
}

func dialWith(t *testing.T, server *Server, config ssh.Config) (*ssh.Client, <-chan error) {
	t.Helper()
	ours, theirs := sshtest.Pair(t)
	result := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		result <- server.Serve(ctx, theirs)
	}()
	t.Cleanup(func() { cancel(); <-done })
	client := sshtest.Client(t, ours, config)
	t.Cleanup(func() { _ = client.Close() })
	return client, result
}

func open(t *testing.T, client *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommandEnds(t *testing.T) {
	tests := []struct {
		line   string
		stdout string
		stderr string
		status int
		signal string
	}{
		{line: "true"},
		{line: "exit 3", status: 3},
		{line: "exit 255", status: 255},
		{line: "echo out; echo err >&2; exit 1", stdout: "out\n", stderr: "err\n", status: 1},
		{line: "no-such-program-anywhere 2>/dev/null", status: 127},
		{line: "kill -TERM $$", status: 143, signal: "TERM"},
		{line: "kill -KILL $$", status: 137, signal: "KILL"},
		{line: "kill -XCPU $$", status: 152}, // RFC 4254 has no name for it
		{line: "printf %s \"$((6 * 7))\"", stdout: "42"},
	}
	client, _ := serve(t, Options{})
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			s := open(t, client)
			s.Stdout, s.Stderr = &stdout, &stderr
			status, signal := result(t, s.Run(test.line))
			if status != test.status || signal != test.signal {
				t.Errorf("ended with %d %q, want %d %q", status, signal, test.status, test.signal)
			}
			if stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("printed %q and %q, want %q and %q", stdout.String(), stderr.String(), test.stdout, test.stderr)
			}
		})
	}
}

func result(t *testing.T, err error) (int, string) {
	t.Helper()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, ""
	case errors.As(err, &exit):
		return exit.ExitStatus(), exit.Signal()
	}
	t.Fatalf("the command has no end: %v", err)
	return 0, ""
}

func TestEnvironment(t *testing.T) {
	client, _ := serve(t, Options{Env: []string{"BASE=base", "BOTH=base"}})
	s := open(t, client)
	for name, value := range map[string]string{"BOTH": "sent", "MULTI": "two\nlines", "_x1": ""} {
		if err := s.Setenv(name, value); err != nil {
			t.Errorf("Setenv(%q): %v", name, err)
		}
	}
	refused := map[string]string{"": "x", "1A": "x", "A=B": "x", "A B": "x", "ZERO": "a\x00b"}
	for name, value := range refused {
		if err := s.Setenv(name, value); err == nil {
			t.Errorf("Setenv(%q) was taken", name)
		}
	}
	out, err := s.Output(`printf '%s|' "$BASE" "$BOTH" "$MULTI" "${_x1-unset}" "${ZERO-unset}"`)
	if want := "base|sent|two\nlines||unset|"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func TestEnvironmentIsBounded(t *testing.T) {
	client, _ := serve(t, Options{})
	s := open(t, client)
	taken := 0
	for i := range maxEnvNames + 10 {
		if s.Setenv("V"+strconv.Itoa(i), "x") == nil {
			taken++
		}
	}
	if taken != maxEnvNames {
		t.Errorf("%d variables were taken, want %d", taken, maxEnvNames)
	}
	s = open(t, client)
	for i, ok := range []bool{true, true, false} {
		if err := s.Setenv("HUGE", strings.Repeat("x", 100<<10)); (err == nil) != ok {
			t.Errorf("100 KiB more, time %d: %v", i, err)
		}
	}
}

func TestStandardInput(t *testing.T) {
	client, _ := serve(t, Options{})
	sent := strings.Repeat("0123456789abcde\n", 1<<16)
	s := open(t, client)
	s.Stdin = strings.NewReader(sent)
	out, err := s.Output("cat; echo end")
	if err != nil || string(out) != sent+"end\n" {
		t.Errorf("got %d bytes, %v; want %d", len(out), err, len(sent)+4)
	}
}

func TestCommandThatReadsNoInput(t *testing.T) {
	client, _ := serve(t, Options{})
	s := open(t, client)
	input, err := s.StdinPipe() // stays open
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	if out, err := s.Output("exec <&-; echo done"); err != nil || string(out) != "done\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestMuchOutputReadSlowly(t *testing.T) {
	const size = 64 << 20
	// With no grace at all only what is left in the pipe counts.
	client, _ := serve(t, Options{Grace: time.Nanosecond})
	s := open(t, client)
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(fmt.Sprintf("head -c %d /dev/zero", size)); err != nil {
		t.Fatal(err)
	}
	total, buffer := 0, make([]byte, 1500)
	for {
		n, err := out.Read(buffer)
		total += n
		if err != nil {
			break
		}
	}
	if err := s.Wait(); err != nil || total != size {
		t.Errorf("got %d bytes, %v; want %d", total, err, size)
	}
}

func TestBackgroundProcess(t *testing.T) {
	client, _ := serve(t, Options{Grace: time.Millisecond})
	for _, line := range []string{
		"sleep 1000 & echo $!",               // keeps the output open
		"(trap '' PIPE; yes) & echo $! >pid", // keeps printing
	} {
		s := open(t, client)
		s.Stdout = io.Discard
		var out bytes.Buffer
		if !strings.Contains(line, "yes") {
			s.Stdout = &out
		}
		if err := s.Run(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if out.Len() == 0 {
			s := open(t, client)
			s.Stdout = &out
			if err := s.Run("cat pid"); err != nil {
				t.Fatal(err)
			}
		}
		pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && strings.Contains(line, "sleep") {
			t.Errorf("%s: what it left behind is gone: %v", line, err)
		}
	}
}

func TestManyCommandsAtOnce(t *testing.T) {
	client, _ := serve(t, Options{})
	var running []*ssh.Session
	for range maxChannels {
		s := open(t, client)
		if _, err := s.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start("cat"); err != nil {
			t.Fatal(err)
		}
		running = append(running, s)
	}
	var refused *ssh.OpenChannelError
	if _, err := client.NewSession(); !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
		t.Errorf("one more was answered with %v", err)
	}
	for _, s := range running {
		if err := s.Signal(ssh.SIGKILL); err != nil {
			t.Error(err)
		}
		if status, signal := result(t, s.Wait()); signal != "KILL" {
			t.Errorf("ended with %d %q", status, signal)
		}
	}
	if out, err := open(t, client).Output("echo again"); err != nil || string(out) != "again\n" {
		t.Errorf("afterwards: %q, %v", out, err)
	}
}

func TestSignals(t *testing.T) {
	client, _ := serve(t, Options{})
	s := open(t, client)
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("trap 'kill -KILL $!; exit 7' TERM; sleep 1000 >/dev/null 2>&1 & echo up; wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.SendRequest("signal", true, ssh.Marshal(struct{ Name string }{"NONE"})); ok || err != nil {
		t.Errorf("an unknown signal was answered with %t, %v", ok, err)
	}
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Error(err)
	}
	if status, _ := result(t, s.Wait()); status != 7 {
		t.Errorf("ended with %d, want 7", status)
	}
}

func TestRefusedRequests(t *testing.T) {
	client, _ := serve(t, Options{})
	s := open(t, client)
	for name, payload := range map[string][]byte{
		"shell": {1}, "pty-req": nil, "window-change": nil, DirRequest: ssh.Marshal(struct{ Dir string }{"relative"}), "subsystem": ssh.Marshal(struct{ Name string }{"sftp"}),
		"signal": ssh.Marshal(struct{ Name string }{"TERM"}), // nothing runs yet
		"exec":   []byte("not a string"), "env": {1},
	} {
		if ok, err := s.SendRequest(name, true, payload); ok || err != nil {
			t.Errorf("%s was answered with %t, %v", name, ok, err)
		}
	}
	if err := open(t, client).Start("echo a\x00b"); err == nil {
		t.Error("a zero byte was taken")
	}
	if err := open(t, client).Start(": " + strings.Repeat("x", 200<<10)); err == nil {
		t.Error("a line that no process can be given was taken")
	}
	if _, err := client.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a connection was forwarded")
	}
	if err := s.Start("cat"); err != nil {
		t.Error(err)
	}
	if ok, err := s.SendRequest("exec", true, ssh.Marshal(struct{ Line string }{"true"})); ok || err != nil {
		t.Errorf("a second command was answered with %t, %v", ok, err)
	}
}

// held is a FIFO that says when every process which has it open is gone.
func held(t *testing.T) (path string, gone func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	return path, func() {
		if _, err := io.Copy(io.Discard, reader); err != nil {
			t.Error(err)
		}
	}
}

func TestClosedChannelKills(t *testing.T) {
	client, _ := serve(t, Options{})
	path, gone := held(t)
	s := open(t, client)
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("exec 3>" + path + "; sleep 1000 & echo up; wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	gone()
	if out, err := open(t, client).Output("echo on"); err != nil || string(out) != "on\n" {
		t.Errorf("afterwards: %q, %v", out, err)
	}
}

func TestDroppedConnectionKills(t *testing.T) {
	server, err := NewServer(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	path, gone := held(t)
	client, ended := dial(t, server)
	s := open(t, client)
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("exec 3>" + path + "; /bin/sleep 1000 & echo up; wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	<-ended
	gone()
	client, _ = dial(t, server)
	if out, err := open(t, client).Output("echo again"); err != nil || string(out) != "again\n" {
		t.Errorf("the next client got %q, %v", out, err)
	}
}

func TestGarbage(t *testing.T) {
	server, err := NewServer(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, garbage := range []string{
		strings.Repeat("x", 4096),
		"SSH-2.0-x\r\n\xff\xff\xff\xff" + strings.Repeat("\x00", 4096),
	} {
		ours, theirs := sshtest.Pair(t)
		result := make(chan error, 1)
		go func() { result <- server.Serve(context.Background(), theirs) }()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_, _ = io.WriteString(ours, garbage) // the server may close before it has read all
		if err := <-result; err == nil || !strings.HasPrefix(err.Error(), "cannot begin") {
			t.Errorf("%.20q was answered with %v", garbage, err)
		}
	}
	client, _ := dial(t, server)
	if out, err := open(t, client).Output("echo good"); err != nil || string(out) != "good\n" {
		t.Errorf("afterwards: %q, %v", out, err)
	}
}

func TestCiphers(t *testing.T) {
	for _, fast := range []bool{true, false} {
		for _, name := range ciphers(fast) {
			server, err := NewServer(Options{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			server.config.Ciphers = ciphers(fast)
			client, _ := dialWith(t, server, ssh.Config{Ciphers: []string{name}})
			if out, err := open(t, client).Output("echo secret"); err != nil || string(out) != "secret\n" {
				t.Errorf("with %s: %q, %v", name, out, err)
			}
		}
	}
}

func TestServeEndsWithContext(t *testing.T) {
	server, err := NewServer(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	_, theirs := sshtest.Pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Serve(ctx, theirs); err == nil {
		t.Error("a connection was served after the end")
	}
}

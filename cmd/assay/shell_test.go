package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/attach"
	"github.com/assay-ci/assay/runner/sshconn"
)

var (
	doorA = door{"assay-11111111-0198c0de-0000", "0198c0de-0000", "running", "/run/a"}
	doorB = door{"assay-11222222-0198c0de-0001", "0198c0de-0001", "running", "/run/b"}
	doorC = door{"assay-33333333-0198c0de-0001", "0198c0de-0001", "paused", "/run/c"}
)

func TestFindDoor(t *testing.T) {
	all := []door{doorA, doorB, doorC}
	tests := []struct {
		doors []door
		want  string
		found door
		err   []string // what the error tells
	}{
		{doors: all[:1], want: "", found: doorA},
		{doors: all, want: "0198c0de-0000", found: doorA},
		{doors: all[:2], want: "0198c0de-0001", found: doorB},
		{doors: all, want: "assay-112", found: doorB},
		{doors: all, want: "assay-33333333-0198c0de-0001", found: doorC},
		{doors: all[:2], want: "0198", err: []string{`"0198": write more`, doorA.execution, doorB.name}},
		{doors: all, want: "0198c0de-0001", err: []string{"write more", doorB.name, doorC.name}},
		{doors: all, want: "", err: []string{"name one of", doorA.name, doorB.name, doorC.name, "(paused)"}},
		{doors: all, want: "ffff", err: []string{`cannot find a machine for "ffff"`, "there are", doorA.name}},
		{doors: all, want: "0198c0de-0000-7000-8000-00000000cafe", err: []string{"it is over", "another host or as another user", doorA.name}},
		{doors: nil, want: "0198c0de-0000-7000-8000-00000000cafe", err: []string{"it is over", "no machines", "--keep", "machines.hold"}},
		{doors: nil, want: "", err: []string{"there is none", "--keep"}},
	}
	for _, tt := range tests {
		got, err := findDoor(tt.doors, tt.want)
		if (err != nil) != (tt.err != nil) || got != tt.found {
			t.Errorf("%q of %d: %v, %v", tt.want, len(tt.doors), got, err)
		}
		for _, part := range tt.err {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%q of %d: the error lacks %q: %v", tt.want, len(tt.doors), part, err)
			}
		}
	}
}

func TestDoorsThatDoNotOpen(t *testing.T) {
	for cause, want := range map[error]string{
		&fs.PathError{Op: "dial", Path: "x", Err: syscall.EACCES}:       "another user's machine",
		&fs.PathError{Op: "dial", Path: "x", Err: syscall.ENOENT}:       "still on its way up",
		&fs.PathError{Op: "dial", Path: "x", Err: syscall.ECONNREFUSED}: "assay vm reap",
		errors.New("cannot do it"):                                      "cannot do it",
	} {
		err := doorA.explain(fmt.Errorf("cannot enter the machine: %w", cause))
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

// openDoor is a machine whose agent runs in this process, with somebody who lets
// people in.
func openDoor(t *testing.T) door {
	t.Helper()
	dir := t.TempDir()
	server, err := agent.NewServer(agent.Options{Env: os.Environ(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	port, err := net.Listen("unix", filepath.Join(dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	parts.Go(func() {
		if conn, err := port.Accept(); err == nil {
			_ = server.Serve(ctx, conn)
		}
	})
	raw, err := net.Dial("unix", port.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, channels, requests, err := ssh.NewClientConn(raw, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	machine := sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: dir})
	d := door{name: "assay-1", execution: "0198", socket: filepath.Join(dir, attach.SocketName)}
	l, err := attach.Listen(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	parts.Go(func() {
		if err := attach.Serve(ctx, l, attach.Options{Open: machine.OpenSession, Dir: dir}); err != nil {
			t.Errorf("nobody is let in any more: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = port.Close()
		if err := machine.Close(); err != nil {
			t.Error(err)
		}
		parts.Wait()
	})
	return d
}

func TestVMShell(t *testing.T) {
	d := openDoor(t)
	var out, errout bytes.Buffer
	e := &env{in: strings.NewReader(""), out: &out, err: &errout}
	err := vmShell(t.Context(), e, []door{doorA, d}, "0198", []string{"sh", "-c", "pwd; echo err >&2; exit 7"})
	if err == nil || !strings.Contains(err.Error(), "write more") {
		t.Errorf("two of them: %v", err)
	}
	err = vmShell(t.Context(), e, []door{doorA, d}, "assay-1", []string{"sh", "-c", "pwd; echo err >&2; exit 7"})
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != 7 || exit.err != nil {
		t.Errorf("exit 7 came back as %v", err)
	}
	if out.String() != filepath.Dir(d.socket)+"\n" || errout.String() != "err\n" {
		t.Errorf("it printed %q and %q", out.String(), errout.String())
	}
	if err := vmShell(t.Context(), e, []door{d}, "", []string{"true"}); err != nil {
		t.Error(err)
	}
	d.socket += ".none"
	if err := vmShell(t.Context(), e, []door{d}, "", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a machine on its way: %v", err)
	}
}

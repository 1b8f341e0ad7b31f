package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// runArgv runs a program without a shell; ok tells whether it was started.
func runArgv(t *testing.T, client *ssh.Client, a Argv) (stdout string, exit int, ok bool) {
	t.Helper()
	payload, fine := a.Marshal()
	if !fine {
		t.Fatalf("cannot send %+v", a)
	}
	channel, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = channel.Close() }()
	status := make(chan int, 1)
	go func() {
		for request := range requests {
			if code, ok := ExitCode(request.Type, request.Payload); ok {
				status <- code
			}
		}
		close(status)
	}()
	if ok, err = channel.SendRequest(ArgvRequest, true, payload); err != nil || !ok {
		return "", 0, false
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(channel); err != nil {
		t.Fatal(err)
	}
	return out.String(), <-status, true
}

func TestProgramsWithoutAShell(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "here")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0 $1\"; exit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	client, _ := serve(t, Options{Env: []string{"PATH=/usr/bin:/bin", "KEPT=yes"}, Dir: dir})
	for name, c := range map[string]struct {
		argv    Argv
		stdout  string
		exit    int
		refused bool
	}{
		"words are not a shell's": {argv: Argv{Args: []string{"printf", "<%s>", "$HOME", "a b", ""}}, stdout: "<$HOME><a b><>"},
		"directory and variables": {argv: Argv{Dir: "/", Env: []string{"NEW=a=b"}, Args: []string{"sh", "-c", "pwd; echo $NEW $KEPT"}}, stdout: "/\na=b yes\n"},
		"where commands start":    {argv: Argv{Args: []string{"pwd"}}, stdout: dir + "\n"},
		"a program beside":        {argv: Argv{Args: []string{"./here", "x"}}, stdout: "./here x\n", exit: 7},
		"a PATH of its own":       {argv: Argv{Env: []string{"PATH=" + dir}, Args: []string{"here", "x"}}, stdout: script + " x\n", exit: 7},
		"no such program":         {argv: Argv{Args: []string{"assay-no-such-program"}}, refused: true},
		"no such directory":       {argv: Argv{Dir: "/nowhere", Args: []string{"true"}}, refused: true},
		"a PATH that depends":     {argv: Argv{Env: []string{"PATH=."}, Args: []string{"here"}}, refused: true},
		"a directory as program":  {argv: Argv{Args: []string{"/usr"}}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, exit, ok := runArgv(t, client, c.argv)
			if ok == c.refused || stdout != c.stdout || exit != c.exit {
				t.Errorf("said %q, exit %d, started: %v", stdout, exit, ok)
			}
		})
	}
}

func TestArgvThatCannotBeSent(t *testing.T) {
	for _, a := range []Argv{{}, {Args: []string{"a\x00b"}}, {Dir: "/\x00", Args: []string{"a"}}, {Env: []string{"A=\x00"}, Args: []string{"a"}}} {
		if _, ok := a.Marshal(); ok {
			t.Errorf("%+v is sent", a)
		}
	}
}

func FuzzParseArgv(f *testing.F) {
	for _, a := range []Argv{{Args: []string{"true"}}, {Dir: "/", Env: []string{"A=b"}, Args: []string{"x", "", "y z"}}} {
		payload, _ := a.Marshal()
		f.Add(payload)
	}
	f.Add(ssh.Marshal(argvMessage{"rel", "", "x\x00"}))
	f.Add(ssh.Marshal(argvMessage{"", "NOVALUE\x00", "x\x00"}))
	f.Add(ssh.Marshal(argvMessage{"", "", "x"}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, ok := ParseArgv(payload)
		if !ok {
			return
		}
		if len(a.Args) == 0 || a.Args[0] == "" || strings.Contains(a.Dir, "\x00") {
			t.Fatalf("took %+v", a)
		}
		again, fine := a.Marshal()
		if back, ok := ParseArgv(again); !fine || !ok || !reflect.DeepEqual(back, a) {
			t.Errorf("%+v comes back as %+v", a, back)
		}
	})
}

func FuzzExitCode(f *testing.F) {
	f.Add("exit-status", []byte{0, 0, 0, 1})
	f.Add("exit-status", []byte{0})
	f.Add("exit-signal", ssh.Marshal(struct{ A string }{"TERM"}))
	f.Add("exit-signal", []byte{0xff, 0xff, 0xff, 0xff})
	f.Add("eow@openssh.com", []byte(nil))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		exit, ok := ExitCode(kind, payload)
		if exit < 0 || exit > 255 || !ok && exit != 0 {
			t.Errorf("got %d, %v", exit, ok)
		}
	})
}

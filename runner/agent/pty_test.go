package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// quiet are modes of a terminal that repeats nothing of what is typed.
var quiet = ssh.TerminalModes{ssh.ECHO: 0, ssh.ONLCR: 0}

// onTerminal runs a command at a terminal and returns what it showed.
func onTerminal(t *testing.T, client *ssh.Client, modes ssh.TerminalModes, line string) string {
	t.Helper()
	s := open(t, client)
	if err := s.RequestPty("xterm-256color", 40, 120, modes); err != nil {
		t.Fatal(err)
	}
	out, err := s.Output(line)
	if err != nil {
		t.Errorf("%s: %v", line, err)
	}
	return string(out)
}

func TestTerminal(t *testing.T) {
	dir := t.TempDir()
	client, _ := serve(t, Options{Dir: dir})
	for line, want := range map[string]string{
		`test -t 0 && test -t 1 && test -t 2 && echo "$TERM"`: "xterm-256color\n",
		"stty size":              "40 120\n",
		"ps -o tpgid= -p $$":     "", // it has a controlling terminal: see below
		"echo out; echo err >&2": "out\nerr\n",
		"pwd":                    dir + "\n",
	} {
		got := onTerminal(t, client, quiet, line)
		if want == "" {
			if tpgid, err := strconv.Atoi(strings.TrimSpace(got)); err != nil || tpgid <= 0 {
				t.Errorf("%s: %q", line, got)
			}
		} else if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestTerminalModes(t *testing.T) {
	client, _ := serve(t, Options{})
	got := onTerminal(t, client, ssh.TerminalModes{
		ssh.ECHO: 0, ssh.ICRNL: 0, ssh.OPOST: 0, ssh.VINTR: 'X', ssh.TTY_OP_ISPEED: 14400,
	}, "stty -a")
	for _, want := range []string{"-echo ", "-icrnl", "-opost", "intr = X;", " iutf8"} {
		if !strings.Contains(got, want) {
			t.Errorf("stty lacks %q:\n%s", want, got)
		}
	}
	got = onTerminal(t, client, ssh.TerminalModes{ssh.IUTF8: 0}, "stty -a")
	for _, want := range []string{" echo ", " icrnl", "\nopost ", "intr = ^C;", "-iutf8", "\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("stty lacks %q:\n%s", want, got)
		}
	}
}

// dialogue is a shell with what is typed and shown.
type dialogue struct {
	*ssh.Session
	t    *testing.T
	in   io.WriteCloser
	out  io.Reader
	seen bytes.Buffer
}

// talk starts a login shell at a terminal, or without one.
func talk(t *testing.T, s *ssh.Session, terminal bool) *dialogue {
	t.Helper()
	d := &dialogue{Session: s, t: t}
	var err error
	if d.in, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if d.out, err = s.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if terminal {
		if err := s.RequestPty("dumb", 24, 80, quiet); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *dialogue) typed(text string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, text); err != nil {
		d.t.Fatal(err)
	}
}

// await reads until a pattern has been shown and returns its first group.
func (d *dialogue) await(pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		if m := re.FindSubmatchIndex(d.seen.Bytes()); m != nil {
			group := string(d.seen.Bytes()[m[2]:m[3]])
			d.seen.Next(m[1])
			return group
		}
		if _, err := io.CopyN(&d.seen, d.out, 1); err != nil {
			d.t.Fatalf("waited for %s: %v; got %q", pattern, err, d.seen.String())
		}
	}
}

func TestLoginShell(t *testing.T) {
	dir := t.TempDir()
	client, _ := serve(t, Options{})
	own := ownAccount()
	for _, terminal := range []bool{true, false} {
		s := open(t, client)
		if ok, err := s.SendRequest(DirRequest, true, ssh.Marshal(struct{ Dir string }{dir})); !ok || err != nil {
			t.Fatal(ok, err)
		}
		d := talk(t, s, terminal)
		d.typed("echo \"<$0|$HOME|$PWD>\"\n")
		if got, want := d.await(`<(-[^>$]*)>`), "-"+filepath.Base(own.shell)+"|"+own.home+"|"+dir; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		d.typed("exit 5\n")
		if status, _ := result(t, d.Wait()); status != 5 {
			t.Errorf("exit 5 came back as %d", status)
		}
	}
}

func TestTerminalKeysAndWindow(t *testing.T) {
	// It is up when it has printed something: a shell that has may still lose ^C.
	greeting := filepath.Join(t.TempDir(), "greeting")
	if err := os.WriteFile(greeting, []byte("up1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, _ := serve(t, Options{})
	d := talk(t, open(t, client), true)
	d.typed("PS1=rea''dy\n")
	d.await(`(ready)`)
	d.typed("stty size\n")
	d.await(`(24) 80\r?\n`)
	d.await(`(ready)`)
	if err := d.WindowChange(50, 132); err != nil {
		t.Error(err)
	}
	d.typed("stty size\n")
	d.await(`(50) 132\r?\n`)
	d.await(`(ready)`)
	d.typed("tail -f " + greeting + "\n")
	d.await(`(up1)`)
	d.typed("\x03")
	d.await(`(ready)`) // what is typed before it may be thrown away
	d.typed("echo after $?\n")
	d.await(`after (130)`)
	d.await(`(ready)`)
	d.typed("tail -f " + greeting + "\n")
	d.await(`(up1)`)
	if err := d.Signal(ssh.SIGTERM); err != nil { // the one in the foreground
		t.Error(err)
	}
	d.await(`(ready)`)
	d.typed("echo after $?\n")
	d.await(`after (143)`)
	d.await(`(ready)`)
	if err := d.in.Close(); err != nil {
		t.Error(err)
	}
	if status, _ := result(t, d.Wait()); status != 143 && status != 0 {
		t.Errorf("the end of the input ended it with %d", status)
	}
}

// TestTerminalIsEndedWhole has jobs that made a process group of their own,
// without control groups.
func TestTerminalIsEndedWhole(t *testing.T) {
	client, _ := serve(t, Options{})
	for name, leave := range map[string]func(*dialogue){
		"closed": func(d *dialogue) { _ = d.Close() },
		"exit":   func(d *dialogue) { d.typed("exit\n"); _, _ = io.Copy(io.Discard, d.out); _ = d.Wait() },
	} {
		path, gone := held(t)
		d := talk(t, open(t, client), true)
		d.typed("set -m; sh -c 'trap \"\" HUP; exec 3>" + path + "; sleep 1000 & echo up$((3)); wait' &\n")
		d.await(`(up3)`)
		d.typed("disown 2>/dev/null; exit_code=0\n")
		leave(d)
		gone()
		if out, err := open(t, client).Output("echo on"); err != nil || string(out) != "on\n" {
			t.Errorf("%s: afterwards: %q, %v", name, out, err)
		}
	}
}

func TestTerminalIsAskedForOnce(t *testing.T) {
	client, _ := serve(t, Options{})
	s := open(t, client)
	if err := s.RequestPty("../../etc/passwd", 1, 1, nil); err == nil {
		t.Error("a path was taken for a terminal's kind")
	}
	s = open(t, client)
	if err := s.WindowChange(1, 1); err != nil { // asks for no answer
		t.Error(err)
	}
	if err := s.RequestPty("dumb", 1, 1, nil); err != nil {
		t.Error(err)
	}
	if err := s.RequestPty("dumb", 1, 1, nil); err == nil {
		t.Error("a second terminal was given")
	}
	if err := s.Shell(); err != nil {
		t.Error(err)
	}
	if err := s.Shell(); err == nil {
		t.Error("a second shell was started")
	}
}

func TestTerminalOutputIsWhole(t *testing.T) {
	client, _ := serve(t, Options{})
	const lines = 100_000
	got := onTerminal(t, client, quiet, fmt.Sprintf("seq %d", lines))
	if n := strings.Count(got, "\n"); n != lines || !strings.HasSuffix(got, "\n100000\n") {
		t.Errorf("%d lines came out, want %d", n, lines)
	}
}

func TestParseTTY(t *testing.T) {
	type message struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	tests := []struct {
		in   message
		want string
	}{
		{message{"xterm", 80, 24, 0, 0, ""}, "xterm 80x24 0"},
		{message{"", 0, 0, 0, 0, ""}, "dumb 80x24 0"},
		{message{"screen.xterm-256color", 1 << 31, 1 << 16, 1 << 31, 1, "\x00"}, "screen.xterm-256color 2000x2000 0"},
		{message{"a", 1, 1, 0, 0, "\x35\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00"}, "a 1x1 2"},
		{message{"a", 1, 1, 0, 0, "\xa0\x01"}, "a 1x1 0"},
		{message{"a", 1, 1, 0, 0, "\x35\x00"}, "refused"},
		{message{"a", 1, 1, 0, 0, strings.Repeat("\x01\x00\x00\x00\x00", maxModes+1)}, "refused"},
		{message{"x/y", 1, 1, 0, 0, ""}, "refused"},
		{message{"..", 1, 1, 0, 0, ""}, "refused"},
		{message{"-x", 1, 1, 0, 0, ""}, "refused"},
		{message{"x\x00", 1, 1, 0, 0, ""}, "refused"},
		{message{strings.Repeat("x", maxTerm+1), 1, 1, 0, 0, ""}, "refused"},
	}
	for _, test := range tests {
		got := "refused"
		if parsed, ok := parseTTY(ssh.Marshal(test.in)); ok {
			got = fmt.Sprintf("%s %dx%d %d", parsed.term, parsed.size.Cols, parsed.size.Rows, len(parsed.modes))
		}
		if got != test.want {
			t.Errorf("%+v: got %s, want %s", test.in, got, test.want)
		}
	}
}

func TestParseAccount(t *testing.T) {
	passwd := "odd\nx:y:0\nroot:x:0:0:root:/root:/bin/bash\nother:x:0:0::/:/bin/sh\nme:x:7:7:::/bin/sh\nyou:x:8:8::/home/you:\n"
	for uid, want := range map[int]account{0: {"root", "/root", "/bin/bash"}, 8: {"you", "/home/you", "/bin/sh"}} {
		if got, ok := parseAccount(passwd, uid); !ok || got != want {
			t.Errorf("%d is %v", uid, got)
		}
	}
	for _, uid := range []int{7, 9} {
		if got, ok := parseAccount(passwd, uid); ok {
			t.Errorf("%d is %v", uid, got)
		}
	}
}

func TestParseSession(t *testing.T) {
	for stat, want := range map[string]int{
		"12 (sh) S 1 12 10 34816 12 ":   10,
		"12 (a) S 9 9 9) R 1 12 10 0 0": 10,
		"12 (sh) Z 1 12 10 0":           0,
		"12 (sh) S 1 12 x 0":            0,
		"12 (sh) S 1":                   0,
		"":                              0,
	} {
		if got := parseSession(stat); got != want {
			t.Errorf("%q is of session %d, want %d", stat, got, want)
		}
	}
	own, err := unix.Getsid(0)
	if err != nil || own > 0 && !slices.Contains(sessionMembers("/proc", own), os.Getpid()) {
		t.Errorf("this process is not in its session %d: %v", own, err)
	}
}

// FuzzTerminalRequests feeds a session what a client may say before anything
// runs, and looks at what it remembers of it.
func FuzzTerminalRequests(f *testing.F) {
	f.Add("pty-req", ssh.Marshal(struct {
		Term       string
		C, R, W, H uint32
		Modes      string
	}{"xterm", 80, 24, 0, 0, "\x35\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00"}), []byte{})
	f.Add("window-change", ssh.Marshal(struct{ C, R, W, H uint32 }{1 << 31, 0, 5, 6}), []byte("pty"))
	f.Add(DirRequest, ssh.Marshal(struct{ Dir string }{"/"}), []byte{1})
	f.Add("env", ssh.Marshal(struct{ A, B string }{"A", "b"}), []byte{})
	f.Add("signal", ssh.Marshal(struct{ A string }{"TERM"}), []byte{})
	f.Add("shell", []byte{1}, []byte{})
	f.Fuzz(func(t *testing.T, name string, payload, second []byte) {
		if name == "exec" || name == "shell" && len(payload) == 0 {
			return // these start what they say
		}
		s := &session{}
		s.handle(&ssh.Request{Type: name, Payload: payload})
		s.handle(&ssh.Request{Type: "pty-req", Payload: second})
		s.handle(&ssh.Request{Type: "window-change", Payload: payload})
		if s.command != nil || s.dir != "" && !filepath.IsAbs(s.dir) {
			t.Errorf("%q %q made %+v", name, payload, s)
		}
		if s.tty == nil {
			return
		}
		if !validTerm(s.tty.term) || len(s.tty.modes) > maxModes {
			t.Errorf("took %+v", s.tty)
		}
		if z := s.tty.size; z.Cols == 0 || z.Rows == 0 || z.Cols > maxSide || z.Rows > maxSide {
			t.Errorf("took the size %+v", z)
		}
		s.tty.settle(&unix.Termios{})
	})
}

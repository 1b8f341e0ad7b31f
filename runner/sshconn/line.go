package sshconn

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/agent"
)

// maxLine is how long a command line may be: Linux takes one argument of at
// most 128 KiB (execve(2), MAX_ARG_STRLEN), and sh gets the line as one.
const maxLine = 120 << 10

// maxSaid is how much of what tar complains about is kept.
const maxSaid = 2 << 10

// commandLine is cmd for a POSIX shell. It uses nothing but cd, export and
// exec, so that it works with any sshd, whatever variables that lets through.
func commandLine(cmd runner.Command, dir string) (string, error) {
	if len(cmd.Argv) == 0 || cmd.Argv[0] == "" {
		return "", errors.New("cannot run a command without a program")
	}
	if strings.HasPrefix(cmd.Argv[0], "-") {
		return "", fmt.Errorf("cannot run %q: a shell takes it for an option: write ./%s", cmd.Argv[0], cmd.Argv[0])
	}
	if cmd.Dir != "" {
		dir = cmd.Dir
	}
	if err := checkDir(dir); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("cd " + quote(dir) + " || exit 126; ")
	for _, pair := range cmd.Env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !validName(name) {
			return "", fmt.Errorf("cannot set the variable %q: its name must be letters, digits and _", name)
		}
		if err := checkText(value); err != nil {
			return "", err
		}
		b.WriteString("export " + name + "=" + quote(value) + "; ")
	}
	b.WriteString("exec")
	for _, arg := range cmd.Argv {
		if err := checkText(arg); err != nil {
			return "", err
		}
		b.WriteString(" " + quote(arg))
	}
	if b.Len() > maxLine {
		return "", fmt.Errorf("cannot run a command line of %d bytes: at most %d: put it into a file", b.Len(), maxLine)
	}
	return b.String(), nil
}

// direct is cmd for our agent, when commandLine has found it to be sound; nil
// when it cannot be sent so.
func direct(cmd runner.Command, dir string) []byte {
	if cmd.Dir != "" {
		dir = cmd.Dir
	}
	payload, ok := agent.Argv{Dir: dir, Env: cmd.Env, Args: cmd.Argv}.Marshal()
	if !ok {
		return nil
	}
	return payload
}

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	safe := s != ""
	for _, c := range []byte(s) {
		if !nameByte(c) && strings.IndexByte("./:@%+,-", c) < 0 {
			safe = false
		}
	}
	if safe {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func checkText(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("cannot use %q in a command: it has a zero byte", s)
	}
	return nil
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		if !nameByte(c) {
			return false
		}
	}
	return name != "" && (name[0] < '0' || name[0] > '9')
}

func nameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	data  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.limit; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

func (t *tail) has(s string) bool { return bytes.Contains(t.data, []byte(s)) }

func (t *tail) String() string { return OneLine(t.data) }

// OneLine is what a peer printed, on one line: UTF-8 without control characters,
// and with single spaces.
func OneLine(data []byte) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(data), "?"))
	return strings.Join(strings.Fields(text), " ")
}

package sshconn

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
)

func TestCommandLine(t *testing.T) {
	got, err := commandLine(runner.Command{
		Argv: []string{"prog", "a b", "", "it's", "$x"},
		Env:  []string{"A=1", "B=x y=z"},
	}, "/work")
	want := `cd /work || exit 126; export A=1; export B='x y=z'; exec prog 'a b' '' 'it'\''s' '$x'`
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

func TestCommandLineInADirectoryThatIsGone(t *testing.T) {
	line, err := commandLine(runner.Command{Argv: []string{"true"}}, "/no/such/directory")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", line)
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 126 {
		t.Errorf("the shell says %v", err)
	}
}

// FuzzCommandLine asks a real shell what it makes of the words.
func FuzzCommandLine(f *testing.F) {
	for _, seed := range []string{"", "a b", "'", "$(id)", "`id`", "\\", "\n", "*", "~", "-n", "a=b", "\xff", "#", "!", "{a,b}"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, arg, value string) {
		line, err := commandLine(runner.Command{
			Argv: []string{"/bin/sh", "-c", `printf '%s\000%s\000' "$1" "$V"`, "sh", arg},
			Env:  []string{"V=" + value},
		}, "/")
		if err != nil {
			if !strings.Contains(arg+value, "\x00") && len(arg)+len(value) < 10_000 {
				t.Fatal(err)
			}
			return
		}
		out, err := exec.Command("/bin/sh", "-c", line).Output()
		if want := arg + "\x00" + value + "\x00"; err != nil || string(out) != want {
			t.Errorf("the shell made %q of it (%v), want %q", out, err, want)
		}
	})
}

func TestTail(t *testing.T) {
	tail := &tail{limit: 5}
	for _, part := range []string{"ab", "cdefgh", "", "i"} {
		if n, err := tail.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write gave %d, %v", n, err)
		}
	}
	if !bytes.Equal(tail.data, []byte("efghi")) {
		t.Errorf("kept %q", tail.data)
	}
}

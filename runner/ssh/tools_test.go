package ssh

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/runnertest"
)

func TestMain(m *testing.M) { runnertest.Main(m) }

// ownProgram is this test binary, which answers to the names of assay result.
func ownProgram(string) (string, error) { return os.Executable() }

func TestAssayResultIsBrought(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho broken >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		program func(string) (string, error)
		says    string // "" when it is there
	}{
		"it is there":                 {ownProgram, ""},
		"nobody has it":               {nil, "without its program"},
		"not for that architecture":   {func(arch string) (string, error) { return "", errors.New("cannot find the agent for " + arch) }, "cannot find the agent for "},
		"a program that does not run": {func(string) (string, error) { return broken, nil }, "exit 3: broken"},
		"a program that is not there": {func(string) (string, error) { return broken + "x", nil }, "cannot read the program"},
	} {
		t.Run(name, func(t *testing.T) {
			_, options := newHost(t)
			options.Program = test.program
			var said []string
			one, err := Machines{options}.Boot(t.Context(), runner.Spec{Tell: func(line string) { said = append(said, line) }})
			if err != nil {
				t.Fatal(err)
			}
			defer one.Close()
			var out bytes.Buffer
			exit, err := one.Run(t.Context(), runner.Command{Argv: []string{"/bin/sh", "-c", "taskotron_result --help && echo $PATH"}, Stdout: &out})
			if err != nil {
				t.Fatal(err)
			}
			there := exit == 0 && strings.Contains(out.String(), one.Dir()+"/.tools:/")
			if there != (test.says == "") {
				t.Errorf("exit %d, it said %s", exit, out.String())
			}
			if all := strings.Join(said, "\n"); len(said) > 1 || !strings.Contains(all, test.says) || (all == "") != (test.says == "") {
				t.Errorf("it was told %q", said)
			}
		})
	}
}

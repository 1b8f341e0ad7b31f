package checks

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

// called is what became of one call of a Python function.
type called struct {
	exit           int
	stdout, stderr string
	value          any // nil if there is no value file
}

// call runs a python action as a runner would: the check in one directory, the
// runner's own files in another.
func call(t *testing.T, module, arguments string) called {
	t.Helper()
	work, private := t.TempDir(), t.TempDir()
	put(t, filepath.Join(work, "check.py"), []byte(module))
	put(t, filepath.Join(work, "beside.py"), []byte("answer = 42\n"))
	f, err := Parse("runtask.yml", []byte("name: x\ndesc: y\nmaintainer: z\nactions:\n  - name: call\n    python:\n      file: check.py\n"+arguments))
	if err != nil {
		t.Fatal(err)
	}
	vars := runVars()
	vars["workdir"], vars["assaydir"] = work, private
	plan, err := f.Plan(vars)
	if err != nil {
		t.Fatal(err)
	}
	act, err := plan.Steps[0].Resolve(vars)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range act.Files {
		put(t, filepath.Join(private, name), data)
	}
	return run(t, work, act)
}

func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir string, act assay.Action) called {
	t.Helper()
	command := act.Commands[0]
	cmd := exec.CommandContext(t.Context(), command.Argv[0], command.Argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(command.Stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	c := called{exit: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	data, err := os.ReadFile(act.Value)
	if err == nil {
		err = json.Unmarshal(data, &c.value)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the value %q: %v", data, err)
	}
	return c
}

func TestPythonCalls(t *testing.T) {
	tests := []struct {
		name, module, arguments string
		want                    called
	}{
		{
			"keyword arguments come as they are",
			"import sys\ndef run(**kwargs):\n    print('seen')\n    sys.stderr.write('err')\n    return kwargs\n",
			"      callable: run\n      a: [1, 2.5, yes, null, '${arch}']\n      b: {c: ü🎉}\n      item: ${item}\n",
			called{
				stdout: "seen\n", stderr: "err",
				value: map[string]any{"a": []any{1.0, 2.5, true, nil, "x86_64"}, "b": map[string]any{"c": "ü🎉"}, "item": "gzip-1.13-3.fc42"},
			},
		},
		{"a text", "def run():\n    return 'results:'\n", "      callable: run\n", called{value: "results:"}},
		{"nothing", "def run():\n    pass\n", "      callable: run\n", called{}},
		{"what is no JSON becomes text", "class A:\n    def __str__(self):\n        return 'an A'\ndef run():\n    return A()\n", "      callable: run\n", called{value: "an A"}},
		{"a set within a list", "def run():\n    return [{7}]\n", "      callable: run\n", called{value: "[{7}]"}},
		{"no number", "def run():\n    return float('nan')\n", "      callable: run\n", called{value: "nan"}},
		{"a value that holds itself", "def run():\n    a = []\n    a.append(a)\n    return a\n", "      callable: run\n", called{value: "[[...]]"}},
		{"a class is a callable", "class Run(dict):\n    pass\n", "      callable: Run\n      x: 1\n", called{value: map[string]any{"x": 1.0}}},
		{"modules beside the file", "import beside\ndef run():\n    return beside.answer\n", "      callable: run\n", called{value: 42.0}},
		{"it is not the main program", "if __name__ == '__main__':\n    raise SystemExit(9)\ndef run():\n    return __name__\n", "      callable: run\n", called{value: "check"}},
		{"the standard input is empty", "import sys\ndef run():\n    return sys.stdin.read()\n", "      callable: run\n", called{value: ""}},
		{"a program that it starts has none either", "import subprocess\ndef run():\n    return subprocess.check_output(['cat']).decode()\n", "      callable: run\n", called{value: ""}},
		{"the working directory", "import os\ndef run():\n    return sorted(os.listdir('.'))\n", "      callable: run\n", called{value: []any{"beside.py", "check.py"}}},
		{"exit with 0", "import sys\ndef run():\n    sys.exit()\n", "      callable: run\n", called{}},
		{"exit with 3", "import sys\ndef run():\n    sys.exit(3)\n", "      callable: run\n", called{exit: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, tt.module, tt.arguments)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(called{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPythonFails(t *testing.T) {
	tests := []struct {
		name, module, arguments string
		want                    []string // on standard error
	}{
		{"an exception", "def run():\n    raise ValueError('no such build')\n", "      callable: run\n", []string{"Traceback", "check.py\", line 2, in run", "ValueError: no such build"}},
		{"a mistake in the file", "def run(:\n", "      callable: run\n", []string{"SyntaxError", "check.py"}},
		{"a module that is not there", "import no_such_module_here\n", "      callable: run\n", []string{"no_such_module_here"}},
		{"no such function", "def walk(): pass\n_x = print\n", "      callable: run\n", []string{"cannot find the function run", "it has walk\n"}},
		{"no function", "run = 7\n", "      callable: run\n", []string{"cannot find the function run", "it has none"}},
		{"an argument that it does not take", "def run(): pass\n", "      callable: run\n      x: 1\n", []string{"TypeError", "unexpected keyword argument 'x'"}},
		{"interrupted", "def run():\n    raise KeyboardInterrupt\n", "      callable: run\n", []string{"KeyboardInterrupt"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, tt.module, tt.arguments)
			if got.exit != 1 || got.value != nil {
				t.Errorf("exit %d, value %v", got.exit, got.value)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("standard error has no %q:\n%s", want, got.stderr)
				}
			}
			if strings.Contains(got.stderr, shimName) {
				t.Errorf("the traceback shows the shim:\n%s", got.stderr)
			}
		})
	}
}

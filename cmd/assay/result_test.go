package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner/resulttool"
)

func TestArguments(t *testing.T) {
	for _, test := range []struct{ args, want []string }{
		{[]string{"/usr/bin/assay", "run", "x"}, []string{"run", "x"}},
		{[]string{"/tmp/x/taskotron_result", "-o", "PASSED"}, []string{"result", "-o", "PASSED"}},
		{[]string{"taskotron_result"}, []string{"result"}},
		{nil, nil},
	} {
		if got := arguments(test.args); len(got) != len(test.want) || len(got) > 0 && !reflect.DeepEqual(got, test.want) {
			t.Errorf("arguments(%q) = %q, want %q", test.args, got, test.want)
		}
	}
}

// TestResult runs the real program under both names, and without one that a link
// to it could have: what a check's machine does.
func TestResult(t *testing.T) {
	dir := t.TempDir()
	if err := resulttool.Link(dir, filepath.Join(bin, "assay")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "r.yml")
	for _, argv := range [][]string{
		{filepath.Join(dir, "taskotron_result"), "-f", file, "-o", "PASSED", "-n", "one"},
		{filepath.Join(dir, "assay"), "result", "--file=" + file, "--outcome", "INFO", "-n", "two"},
	} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "ASSAY_ITEM=hello", "ASSAY_TYPE=koji_build")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%q: %v: %s", argv, err, out)
		}
	}
	data, err := os.ReadFile(file)
	want := `results:
- {"item": "hello", "type": "koji_build", "outcome": "PASSED", "note": "one"}
- {"item": "hello", "type": "koji_build", "outcome": "INFO", "note": "two"}
`
	if err != nil || string(data) != want {
		t.Errorf("%v\n%s", err, data)
	}
	out, err := exec.Command(filepath.Join(bin, "assay"), "help", "result").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "Usage: assay result -o OUTCOME") {
		t.Errorf("help: %v: %s", err, out)
	}
	err = exec.Command(filepath.Join(bin, "assay"), "result", "-o", "GOOD").Run()
	if exit := (*exec.ExitError)(nil); err == nil || !asExit(err, &exit) || exit.ExitCode() != exitUsage {
		t.Errorf("a wrong outcome ended with %v", err)
	}
}

func asExit(err error, exit **exec.ExitError) (ok bool) {
	*exit, ok = err.(*exec.ExitError)
	return ok
}

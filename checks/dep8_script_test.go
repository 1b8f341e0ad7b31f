package checks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ranTest is what running one test left.
type ranTest struct{ stdout, stderr, outcome, artifacts string }

// runTest runs dep8_test.sh as whoever runs this, on a tree with one test.
func runTest(t *testing.T, kind, what, content string) ranTest {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"check/debian/tests", "artifacts"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if content != "" {
		if err := os.WriteFile(filepath.Join(dir, "check", what), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ran := ranTest{artifacts: filepath.Join(dir, "artifacts")}
	outcome := filepath.Join(dir, "outcome")
	act := script(dep8Test, filepath.Join(dir, "check"), ran.artifacts, outcome, "no", "", "", kind, what)
	argv := act.Commands[0].Argv
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "LC_ALL=C", "HOME="+t.TempDir())
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	left, err := os.ReadFile(outcome)
	if err != nil {
		t.Fatal(err)
	}
	ran.stdout, ran.stderr, ran.outcome = stdout.String(), stderr.String(), string(left)
	return ran
}

// TestScriptEndings runs real tests and reads how they ended.
func TestScriptEndings(t *testing.T) {
	const file = "debian/tests/smoke"
	for name, c := range map[string]struct{ kind, what, content, stdout, stderr, outcome string }{
		"passes":    {"file", file, "#!/bin/sh\necho fine\n", "fine\n", "", "exit 0\n"},
		"fails":     {"file", file, "#!/bin/sh\nexit 77\n", "", "", "exit 77\n"},
		"complains": {"file", file, "#!/bin/sh\necho oh >&2\necho no >/dev/stderr\n", "", "oh\nno\n", "exit 0\nstderr oh\n"},
		"leaks":     {"file", file, "#!/bin/sh\nsleep 10000 &\necho done\n", "done\n", "", "exit 0\n"},
		"reads":     {"file", file, "#!/bin/sh\ncat\n", "", "", "exit 0\n"},
		"not there": {"file", file, "", "", "", "badpkg debian/tests/smoke does not exist\n"},
		"command":   {"command", `echo "it's" '$HOME'; false; echo not reached`, "", "it's $HOME\n", "", "exit 1\n"},
		"its place": {"command", "test -d debian/tests; test ! -t 0; test -d \"$AUTOPKGTEST_TMP\"; test -z \"$(ls -A \"$AUTOPKGTEST_TMP\")\"; test \"$ADTTMP\" = \"$AUTOPKGTEST_TMP\"; : >\"$AUTOPKGTEST_TMP/x\"", "", "", "", "exit 0\n"},
		"variables": {"command", `echo "$DEBIAN_FRONTEND $LANG ${LC_ALL-unset} ${DEP8_WHAT-unset} ${AUTOPKGTEST_NORMAL_USER-unset}"`, "", "noninteractive C.UTF-8 unset unset unset\n", "", "exit 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := runTest(t, c.kind, c.what, c.content)
			if got.stdout != c.stdout || got.stderr != c.stderr || got.outcome != c.outcome {
				t.Errorf("stdout %q, stderr %q, outcome %q", got.stdout, got.stderr, got.outcome)
			}
			if _, err := readEnd(got.outcome); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScriptArtifacts keeps what a test leaves.
func TestScriptArtifacts(t *testing.T) {
	got := runTest(t, "command", `echo kept >"$AUTOPKGTEST_ARTIFACTS/a b"`, "")
	data, err := os.ReadFile(filepath.Join(got.artifacts, "a b"))
	if err != nil || string(data) != "kept\n" {
		t.Errorf("%q, %v; %s", data, err, got.stderr)
	}
}

// TestScriptLook says something that is understood, on any machine.
func TestScriptLook(t *testing.T) {
	builds := t.TempDir()
	look := func() testbed {
		argv := script(dep8Look, builds).Commands[0].Argv
		said, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return readTestbed(string(said))
	}
	m := look()
	if m.arch == "" || m.root != (os.Geteuid() == 0) || m.root != (m.user != "") || m.debs {
		t.Errorf("%+v", m)
	}
	if err := os.WriteFile(filepath.Join(builds, "frob_1_all.deb"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !look().debs {
		t.Error("a package that was built is not seen")
	}
}

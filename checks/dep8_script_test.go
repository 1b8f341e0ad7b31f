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

// TestScriptSetup installs with an apt-get that says what is in files: it fails for
// a dependency whose file is there, with the file's text.
func TestScriptSetup(t *testing.T) {
	const (
		away = "E: Failed to fetch http://mirror.example/x.deb  Could not connect"
		none = "E: Unable to locate package"
	)
	for name, c := range map[string]struct {
		own, others, skippable string
		says                   map[string]string
		exit, asked            int
		left                   string // name and first line of what is left in the state
	}{
		"installs":               {"frob (= 1)", "make, gcc", "no", nil, 0, 1, ""},
		"nothing to install":     {"", "", "no", nil, 0, 0, ""},
		"no such package":        {"", "make", "no", map[string]string{"make": none}, 1, 1, ""},
		"to be skipped":          {"", "make", "yes", map[string]string{"make": none}, 0, 1, "uninstallable " + none},
		"own is not there yet":   {"frob (= 1)", "make", "no", map[string]string{"frob": none}, 0, 2, "missing " + none},
		"own and another":        {"frob (= 1)", "make", "no", map[string]string{"frob": none, "make": none}, 1, 2, ""},
		"the mirror is away":     {"", "make", "no", map[string]string{"make": away}, 75, 4, ""},
		"away, not skipped":      {"", "make", "yes", map[string]string{"make": away}, 75, 4, ""},
		"away, not missing":      {"frob (= 1)", "make", "no", map[string]string{"frob": away}, 75, 4, ""},
		"away for what is added": {"frob (= 1)", "make", "no", map[string]string{"frob": none, "make": away}, 75, 5, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &setupRun{t: t, dir: t.TempDir()}
			for _, program := range []string{"id", "useradd", "sleep"} {
				s.program(program, "exit 0")
			}
			s.program("apt-get", `echo "$*" >>"$SAYS/asked"
for d in "$SAYS"/says-*; do
	[ -e "$d" ] || continue
	case "$*" in *"${d##*says-}"*) cat "$d"; exit 100 ;; esac
done`)
			for dependency, says := range c.says {
				s.write("says-"+dependency, says+"\n")
			}
			script := setupScript(&debTest{depends: dependencies(c.own, c.others), restricts: skippable(c.skippable)}, false)
			exit := s.run(script)
			asked, _ := os.ReadFile(filepath.Join(s.dir, "asked"))
			if n := strings.Count(string(asked), "\n"); exit != c.exit || n != c.asked {
				t.Errorf("exit %d, asked %d times, want %d and %d:\n%s", exit, n, c.exit, c.asked, asked)
			}
			if left := s.left(); exit == 0 && left != c.left {
				t.Errorf("left %q, want %q", left, c.left)
			}
		})
	}
}

func dependencies(own, others string) []dependency {
	var list []dependency
	for text := range strings.SplitSeq(others, ", ") {
		if text != "" {
			list = append(list, dependency{text: text})
		}
	}
	if own != "" {
		list = append(list, dependency{text: own, own: true})
	}
	return list
}

func skippable(yes string) []string {
	if yes == "yes" {
		return []string{"skip-not-installable"}
	}
	return nil
}

// setupRun runs a set-up script with its own programs and its own state.
type setupRun struct {
	t   *testing.T
	dir string
}

func (s *setupRun) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setupRun) program(name, body string) { s.write(name, "#!/bin/sh\n"+body+"\n") }

func (s *setupRun) run(script string) (exit int) {
	s.t.Helper()
	const state = "state=/var/lib/assay-dep8\n"
	if !strings.Contains(script, state) {
		s.t.Fatal("the script keeps its state elsewhere")
	}
	cmd := exec.Command("/bin/sh", "-e", "-c", strings.Replace(script, state, "state="+s.dir+"/state\n", 1))
	cmd.Env = []string{"PATH=" + s.dir + ":/usr/bin:/bin", "SAYS=" + s.dir, "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() < 0 {
		s.t.Fatalf("%v: %s", err, out)
	}
	return cmd.ProcessState.ExitCode()
}

// left is the state's file that decides about the test, with its first line.
func (s *setupRun) left() string {
	for _, name := range []string{"missing", "uninstallable"} {
		if data, err := os.ReadFile(filepath.Join(s.dir, "state", name)); err == nil {
			first, _, _ := strings.Cut(string(data), "\n")
			return name + " " + first
		}
	}
	return ""
}

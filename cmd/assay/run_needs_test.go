package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runHere runs assay run in this process.
func runHere(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"run"}, args...), strings.NewReader(""), &o, &e)
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "assay-needs-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return code, e.String()
}

var ends = regexp.MustCompile(`(?m)^([a-z]+(?: \([^)]*\))?): (passed|failed|skipped|crashed|errored): (.*)$`)

// TestRunNeeds runs checks that need others: behind them, with what they left, by
// the server's rule.
func TestRunNeeds(t *testing.T) {
	dir := t.TempDir()
	switched := filepath.Join(dir, "broken")
	flavours := "matrix: {flavour: [mild, hot]}"
	writeFiles(t, dir, map[string]string{
		"a/use/runtask.yml":    with("use", `grep "made ${flavour}" ${needs}/build/out && test ! -e ${needs}/build/flavour=hot`, flavours+"\nneeds: build"),
		"a/both/runtask.yml":   with("both", `cat ${needs}/build/flavour=mild/out ${needs}/build/flavour=hot/out ${needs}/empty/* || test -d ${needs}/empty`, "needs: [build, empty]"),
		"build/runtask.yml":    with("build", "test ! -e "+switched+" && echo made ${flavour} > ${artifactsdir}/out", flavours),
		"empty/runtask.yml":    with("empty", "true", ""),
		"unneeded/runtask.yml": with("unneeded", "true", ""),
	})
	writeFiles(t, filepath.Join(dir, "given"), map[string]string{"build/out": "made hot\n", "build/flavour=mild/out": "", "build/flavour=hot/out": ""})
	given := filepath.Join(dir, "given")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // what ended, in order; a part of what is said where nothing did
	}{
		{"all", nil, 0, "build (flavour=mild) passed, use (flavour=mild) passed, build (flavour=hot) passed, use (flavour=hot) passed, empty passed, both passed, unneeded passed"},
		{"one, and what it needs", []string{"--check", "both"}, 0, "build (flavour=mild) passed, build (flavour=hot) passed, empty passed, both passed"},
		{"one variant", []string{"--check", "use", "--var", "flavour=hot"}, 0, "build (flavour=hot) passed, use (flavour=hot) passed"},
		{"given", []string{"--check", "use", "--needs", given, "--var", "flavour=mild"}, 1, "use (flavour=mild) failed"},
		{"given in part", []string{"--check", "both", "--needs", given}, 0, "empty passed, both passed"},
		{"not there", []string{"--needs", filepath.Join(dir, "none")}, 2, "cannot use --needs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, said := runHere(t, append([]string{dir}, c.args...)...)
			if code != c.code {
				t.Errorf("it ended with %d", code)
			}
			wantEnds(t, said, c.want)
		})
	}
	t.Run("a formula alone", func(t *testing.T) {
		code, said := runHere(t, filepath.Join(dir, "a", "both", "runtask.yml"))
		if code != exitUsage {
			t.Errorf("it ended with %d", code)
		}
		wants(t, said, "cannot run both: it needs build, which is not run: run the directory that has both, with --check both, or give what build left in DIR/build with --needs DIR")
	})
	t.Run("what is needed wants something else", func(t *testing.T) {
		writeFiles(t, dir, map[string]string{"one/build/runtask.yml": with("build", "true", "input: {args: [koji_tag]}"), "one/use/runtask.yml": with("use", "true", "needs: build")})
		code, said := runHere(t, filepath.Join(dir, "one"), "-i", "hello-1-1", "-t", "koji_build")
		if code != exitUsage {
			t.Errorf("it ended with %d", code)
		}
		wants(t, said, "cannot run use: it needs build, which does not want a koji_build: give what build left in DIR/build with --needs DIR")
		if err := os.RemoveAll(filepath.Join(dir, "one")); err != nil {
			t.Fatal(err)
		}
	})
	writeFiles(t, dir, map[string]string{"broken": ""})
	t.Run("what is needed fails", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		code, said := runHere(t, dir, "--check", "both", "--results-dir", out)
		if code != exitFailed {
			t.Errorf("it ended with %d", code)
		}
		wantEnds(t, said, "build (flavour=mild) failed, build (flavour=hot) failed, empty passed, both skipped")
		wants(t, said, "both: skipped: needs build/flavour=mild, which failed, and build/flavour=hot, which failed")
		if data, err := os.ReadFile(filepath.Join(out, "both", "results.json")); err != nil || !bytes.Contains(data, []byte(`"verdict": "skipped"`)) {
			t.Errorf("%s, %v", data, err)
		}
	})
}

func wantEnds(t *testing.T, said, want string) {
	t.Helper()
	var got []string
	for _, m := range ends.FindAllStringSubmatch(said, -1) {
		got = append(got, m[1]+" "+m[2])
	}
	if len(got) == 0 && strings.Contains(said, want) {
		return
	}
	if strings.Join(got, ", ") != want {
		t.Errorf("ended: %s\nwant   %s\n%s", strings.Join(got, ", "), want, said)
	}
}

// TestArtifactsOfSeveral keeps what each of several checks left apart.
func TestArtifactsOfSeveral(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	writeFiles(t, dir, map[string]string{
		"a/runtask.yml": with("a", "echo a > ${artifactsdir}/out", ""),
		"b/runtask.yml": with("b", "echo b > ${artifactsdir}/out", ""),
	})
	if code, said := runHere(t, dir, "--artifacts", out); code != exitOK {
		t.Errorf("it ended with %d: %s", code, said)
	}
	for _, name := range []string{"a", "b"} {
		if data, err := os.ReadFile(filepath.Join(out, name, "out")); err != nil || string(data) != name+"\n" {
			t.Errorf("%s left %q, %v", name, data, err)
		}
	}
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

package checks

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
)

// The rules that keep updates free of comments nobody wants (COMPAT.md 1.1,
// "Bodhi comments & de-spam").
func TestCommentWanted(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	before := func(o assay.Outcome, ago time.Duration) *lastComment { return &lastComment{o, now.Add(-ago)} }
	tests := []struct {
		summary string
		outcome assay.Outcome
		which   string
		last    *lastComment
		want    bool
	}{
		{"a first failure", assay.Failed, reportOnlyFail, nil, true},
		{"a first pass", assay.Passed, reportOnlyFail, nil, false},
		{"a first pass, all are told", assay.Passed, reportAll, nil, true},
		{"what needs inspection is no failure", assay.NeedsInspection, reportOnlyFail, nil, false},
		{"aborted says nothing", assay.Aborted, reportAll, nil, false},
		{"crashed says nothing", assay.Crashed, reportAll, before(assay.Passed, time.Hour), false},
		{"still failing, soon after", assay.Failed, reportOnlyFail, before(assay.Failed, 4319*time.Minute), false},
		{"still failing, three days after", assay.Failed, reportOnlyFail, before(assay.Failed, 4320*time.Minute), true},
		{"failing now", assay.Failed, reportOnlyFail, before(assay.Passed, time.Minute), true},
		{"passing now, failures are told", assay.Passed, reportOnlyFail, before(assay.Failed, time.Minute), false},
		{"passing now, all are told", assay.Passed, reportAll, before(assay.Failed, time.Minute), true},
		{"still passing, for ever", assay.Passed, reportAll, before(assay.Passed, 1000*time.Hour), false},
	}
	for _, tt := range tests {
		if got := commentWanted(tt.outcome, tt.which, tt.last, now, commentSpan); got != tt.want {
			t.Errorf("%s: %v", tt.summary, got)
		}
	}
}

// What is said is one bounded, printable line.
func TestCommentsText(t *testing.T) {
	one := assay.Result{Item: "FEDORA-1\x1b[31m\n", Type: "bodhi_id", Checkname: "dist.a", Outcome: assay.Failed, Note: strings.Repeat("n", 5000)}
	var many []assay.Result
	for range 100 {
		many = append(many, one)
	}
	got := commentsText(many, reportOnlyFail)
	if strings.ContainsAny(got, "\n\x1b") || len(got) > 20_000 || !strings.HasSuffix(got, "; and 80 more") {
		t.Errorf("%d bytes: %.300q", len(got), got)
	}
}

// tools makes a directory of programs that stand for those of a machine; each is
// a shell script.
func tools(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runScript runs a directive's script with tools first in PATH.
func runScript(t *testing.T, c assay.Command, path string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.Argv[0], c.Argv[1:]...)
	cmd.Env = []string{"PATH=" + path}
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			t.Fatal(err)
		}
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

func TestCreaterepoScript(t *testing.T) {
	usual := os.Getenv("PATH")
	tests := []struct {
		summary, script string
		dir             string // "" for one that is there
		out, said       string
		code            int
	}{
		{"well", `echo "made $1"`, "", "made DIR\n", "", 0},
		{"it says something on standard error", "echo out; echo warning >&2", "", "out\n", "warning\n", 1},
		{"it fails without a word", "exit 3", "", "", "", 3},
		{"no directory", "echo never", "/nonexistent/dir", "", "cannot find the directory /nonexistent/dir\n", 1},
	}
	for _, tt := range tests {
		dir := tt.dir
		if dir == "" {
			dir = filepath.Join(t.TempDir(), "a $(touch x) dir")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		path := tools(t, map[string]string{"createrepo_c": tt.script}) + ":" + usual
		out, said, code := runScript(t, ownScript(createrepoScript, "createrepo", dir), path)
		if out != strings.ReplaceAll(tt.out, "DIR", dir) || said != tt.said || code != tt.code {
			t.Errorf("%s: %q, %q, %d", tt.summary, out, said, code)
		}
	}
	_, said, code := runScript(t, ownScript(createrepoScript, "createrepo", t.TempDir()), "/nonexistent")
	if code != 1 || !strings.Contains(said, "cannot find createrepo_c in this machine: write rpm: [createrepo_c]") {
		t.Errorf("without the tool: %q, %d", said, code)
	}
}

// fakeRPM tells of a package what the file itself holds: NAME ARCH SOURCEPACKAGE
// in its first line, its files in the others.
const fakeRPM = `for last; do :; done
grep -q broken "$last" && exit 1
case $* in
*--qf*) head -n 1 "$last" | tr -d '\n' ;;
*-qpl*) tail -n +2 "$last" ;;
esac
`

func TestMashScript(t *testing.T) {
	packages := map[string]string{
		"hello.x86_64.rpm":  "hello x86_64 (none)\n/usr/bin/hello\n",
		"hello.i686.rpm":    "hello i686 (none)\n/usr/bin/hello\n/usr/share/lib/x.so\n",
		"libs.i686.rpm":     "libhello i686 (none)\n/usr/lib/libhello.so.1.2\n",
		"old-libs.i386.rpm": "libold i386 (none)\n/lib/libold.so.1\n",
		"pam.i686.rpm":      "pam i686 (none)\n/usr/lib/security/pam_unix.so\n",
		"devel.i686.rpm":    "hello-devel i686 (none)\n/usr/include/hello.h\n",
		"debug.i686.rpm":    "hello-debuginfo i686 (none)\n/usr/lib/debug.so.1\n",
		"kernel.i686.rpm":   "kernel i686 (none)\n/lib/x.so\n",
		"doc.noarch.rpm":    "hello-doc noarch (none)\n/usr/share/doc/hello\n",
		"hello.aarch64.rpm": "hello aarch64 (none)\n/usr/lib64/x.so\n",
		"hello.src.rpm":     "hello x86_64 1\nhello.spec\n",
		"only64.x86_64.rpm": "lib x86_64 (none)\n/usr/lib64/lib.so.1\n",
		"a b'c.x86_64.rpm":  "odd x86_64 (none)\n/x\n",
	}
	fill := func(dir string) {
		for name, data := range packages {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	x86 := []string{"hello.x86_64.rpm", "libs.i686.rpm", "old-libs.i386.rpm", "pam.i686.rpm", "devel.i686.rpm", "doc.noarch.rpm", "only64.x86_64.rpm", "a b'c.x86_64.rpm"}
	i386 := []string{"hello.i686.rpm", "libs.i686.rpm", "old-libs.i386.rpm", "pam.i686.rpm", "devel.i686.rpm", "debug.i686.rpm", "kernel.i686.rpm", "doc.noarch.rpm"}
	path := tools(t, map[string]string{"rpm": fakeRPM, "createrepo_c": `echo "made $*"`}) + ":" + os.Getenv("PATH")
	for _, tt := range []struct {
		arch, deltas string
		inPlace      bool
		want         []string
	}{
		{"x86_64", "0", false, x86}, {"x86_64", "0", true, x86}, {"i386", "1", false, i386},
		{"aarch64", "0", false, []string{"hello.aarch64.rpm", "doc.noarch.rpm"}},
	} {
		in, out := t.TempDir(), filepath.Join(t.TempDir(), "new", "repo")
		if tt.inPlace {
			out = in
		}
		fill(in)
		said, wrong, code := runScript(t, ownScript(mashScript, "mash", in, out, tt.arch, tt.deltas), path)
		made := "made " + map[string]string{"0": "", "1": "--deltas "}[tt.deltas] + out + "\n"
		if code != 0 || wrong != "" || !strings.HasSuffix(said, made) {
			t.Errorf("%s: %q, %q, %d", tt.arch, said, wrong, code)
		}
		for name := range packages {
			_, err := os.Stat(filepath.Join(out, name))
			if there, want := err == nil, slices.Contains(tt.want, name); there != want {
				t.Errorf("%s: %s is there: %v", tt.arch, name, there)
			}
		}
	}
	in := t.TempDir()
	fill(in)
	if err := os.WriteFile(filepath.Join(in, "x.rpm"), []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, said, code := runScript(t, ownScript(mashScript, "mash", in, in, "x86_64", "0"), path); code != 1 || said != "cannot read the package x.rpm\n" {
		t.Errorf("with a broken package: %q, %d", said, code)
	}
	if _, said, code := runScript(t, ownScript(mashScript, "mash", in, in, "x86_64", "0"), "/nonexistent"); code != 1 || !strings.Contains(said, "cannot find createrepo_c") {
		t.Errorf("without tools: %q, %d", said, code)
	}
}

func TestCutNVR(t *testing.T) {
	for text, want := range map[string][2]string{
		"gzip-1.13-3.fc42": {"gzip", "f42"}, "a-b-c-1-2.el9": {"a-b-c", ""}, "bind-32:9-1.fc41.2": {"bind", "f41"}, "x-1-1.fc": {"x", ""},
	} {
		if name, branch, ok := cutNVR(text); !ok || name != want[0] || branch != want[1] {
			t.Errorf("%s: %q, %q, %v", text, name, branch, ok)
		}
	}
	for _, bad := range []string{"", "a", "a-1", "-1-1", "a--1", "a-1-"} {
		if name, branch, ok := cutNVR(bad); ok {
			t.Errorf("%q: %q, %q", bad, name, branch)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
)

func TestControlTree(t *testing.T) {
	for file, want := range map[string]string{
		"debian/tests/control": ".", "./debian/tests/control": ".", "/debian/tests/control": "/",
		"a/b/debian/tests/control": "a/b", "/a/debian/tests//control": "/a", "../debian/tests/control": "..",
		"xdebian/tests/control": "", "control": "", "debian/tests/control/x": "", "debian/control": "",
	} {
		got, ok := controlTree(file)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s belongs to %q, %v, want %q", file, got, ok, want)
		}
	}
}

// writeTree writes a source tree with two tests and a formula.
func writeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"debian/control":       "Source: frob\n\nPackage: frob\nArchitecture: all\n",
		"debian/tests/control": "Tests: smoke\n\nTest-Command: frob\nRestrictions: needs-internet\n",
		"debian/tests/smoke":   "#!/bin/sh\n",
		"greets/runtask.yml":   "name: greets\ndesc: x\nmaintainer: x\nactions: [{name: x, shell: ['true']}]\n",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTargetsOfTree gives every test the whole tree, and every other check its
// own directory.
func TestTargetsOfTree(t *testing.T) {
	dir := writeTree(t)
	for path, want := range map[string]map[string]string{
		dir: {"dep8.smoke": dir, "dep8.command1": dir, "greets": filepath.Join(dir, "greets")},
		filepath.Join(dir, "debian", "tests", "control"): {"dep8.smoke": dir, "dep8.command1": dir},
	} {
		targets, err := readTarget(path)
		if err != nil || len(targets) != len(want) {
			t.Fatalf("%s: %d targets, %v", path, len(targets), err)
		}
		for _, it := range targets {
			if name := it.formula.Checkname(); it.dir != want[name] {
				t.Errorf("%s: %s runs in %q, want %q", path, name, it.dir, want[name])
			}
		}
	}
}

// TestChoose keeps the checks that are named, and says what there is.
func TestChoose(t *testing.T) {
	dir := writeTree(t)
	all, err := readTarget(dir)
	if err != nil {
		t.Fatal(err)
	}
	for only, want := range map[string]string{
		"":                     "dep8.command1 dep8.smoke greets",
		"dep8.smoke":           "dep8.smoke",
		"smoke":                "dep8.smoke",
		"greets dep8.smoke":    "dep8.smoke greets",
		"dep8.*":               "dep8.command1 dep8.smoke",
		"gree?s":               "greets",
		"greets greets":        "greets",
		"smok":                 `cannot find a check called "smok" below x: there are `,
		"greets [":             `cannot find a check called "[" below x: there are `,
		"dep8.smoke dep8.none": `cannot find a check called "dep8.none" below x: there are `,
	} {
		kept, err := choose(all, strings.Fields(only), "x")
		var names []string
		for _, k := range kept {
			names = append(names, k.formula.Checkname())
		}
		slices.Sort(names)
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.HasPrefix(got, want) || !strings.Contains(got, "greets")) {
			t.Errorf("%q keeps %q, want %q", only, got, want)
		}
	}
	if _, err := choose(nil, []string{"x"}, "y"); err == nil || !strings.HasSuffix(err.Error(), "below y: there is none") {
		t.Error(err)
	}
}

// TestFormulaAt finds an execution's test again, and skips it where it cannot
// have the network that it needs.
func TestFormulaAt(t *testing.T) {
	dir := writeTree(t)
	e := assay.Execution{Path: checks.ControlFile, Check: "dep8.command1"}
	for _, network := range []bool{true, false} {
		f, err := formulaAt(dir, e, network)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Environment.Network == "full"; got != network || (f.Skipped() == "") != network {
			t.Errorf("allowed %v: network %q, skipped %q", network, f.Environment.Network, f.Skipped())
		}
	}
	e.Check = "dep8.gone"
	if f, err := formulaAt(dir, e, true); err == nil {
		t.Errorf("found %v", f)
	}
}

// TestReplayOfTest replays a test of a control file, which has its whole tree.
func TestReplayOfTest(t *testing.T) {
	s := newSite(t, nil)
	restrictions := ""
	if os.Geteuid() == 0 { // else they run as a normal user, who may not enter a test's directory
		restrictions = "Restrictions: needs-root\n"
	}
	s.commit("checks/hello", "main", map[string]string{
		"debian/control":       "Source: hello\n\nPackage: hello\nArchitecture: all\n",
		"debian/tests/control": "Tests: other\n" + restrictions + "\nTests: smoke\n" + restrictions,
		"debian/tests/other":   "#!/bin/sh\nexit 1\n",
		"debian/tests/smoke":   "#!/bin/sh\ncat src/hello.c\n",
		"src/hello.c":          "the whole tree\n",
	})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	event := s.build("1.0", commit).Event
	list := s.executions(event)
	s.wantVerdicts(list, "dep8.other failed, dep8.smoke passed")
	s.shutdown()
	code, out, said := runFrom(t, "", byLabel(list)["dep8.smoke"].ID, "--data", s.cfg.Data, "--yes")
	if code != exitOK {
		t.Errorf("it ended with %d", code)
	}
	wants(t, out, " out the whole tree\n")
	wants(t, said, "same     verdict: passed\n")
}

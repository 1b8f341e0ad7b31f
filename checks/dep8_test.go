package checks

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/assay-ci/assay"
)

const controlCorpus = "../fixtures/dep8"

// TestControlCorpus reads every control file of the corpus; see its README.
func TestControlCorpus(t *testing.T) {
	files, err := filepath.Glob(controlCorpus + "/*.control")
	if err != nil || len(files) < 15 {
		t.Fatalf("cannot find the corpus: %d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".control")
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, failed := controlOutcome(t, name)
			expect(t, name+".json", got)
			expect(t, name+".err", failed)
			if strings.HasPrefix(filepath.Base(name), "bad-") != (failed != nil) {
				t.Errorf("a case named bad-… must fail, and no other: %s", failed)
			}
		})
	}
}

// sourceTree is a tree with a control file.
func sourceTree(t *testing.T, control, source []byte) fstest.MapFS {
	t.Helper()
	list, err := os.ReadFile(controlCorpus + "/tree")
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{
		ControlFile:      {Data: control, Mode: 0o644},
		"debian/control": {Data: source, Mode: 0o644},
	}
	for _, name := range strings.Fields(string(list)) {
		tree[name] = &fstest.MapFile{Mode: 0o644}
	}
	return tree
}

func controlOutcome(t *testing.T, name string) (got, failed []byte) {
	t.Helper()
	control, err := os.ReadFile(name + ".control")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(name + ".source")
	if err != nil {
		if source, err = os.ReadFile(controlCorpus + "/source"); err != nil {
			t.Fatal(err)
		}
	}
	formulas, err := Load(sourceTree(t, control, source))
	if err != nil {
		var ms Mistakes
		if !errors.As(err, &ms) || len(formulas) > 0 {
			t.Errorf("Load: %d formulas with the error %T", len(formulas), err)
		}
		return nil, []byte(err.Error() + "\n")
	}
	rows := []controlRow{}
	for _, f := range formulas {
		rows = append(rows, controlRowOf(t, f))
	}
	got, err = json.MarshalIndent(rows, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(got, '\n'), nil
}

// controlRow is what the corpus records of one check.
type controlRow struct {
	Check, Position, Desc, Maintainer string
	Skipped                           string   `json:",omitempty"`
	Warnings                          []string `json:",omitempty"`
	Restrictions, Architectures       []string `json:",omitempty"`
	Network                           string   `json:",omitempty"`
	Setup                             []string // but for what is the same in all
	Steps                             []string
	// Test are the arguments of the script that runs the test, in a machine of
	// the check's own.
	Test []string `json:",omitempty"`
	Says string
}

// ownMachine is what a machine of the check's own says of itself.
const ownMachine = "arch=amd64\ndisposable=yes\nroot=yes\nuser=dep8\nsudo=yes\n"

func controlRowOf(t *testing.T, f *Formula) controlRow {
	t.Helper()
	d := f.actions[0].does.(*dep8)
	row := controlRow{
		Check: f.Checkname(), Position: f.nameAt.Error(), Desc: f.Desc, Maintainer: f.Maintainer, Skipped: f.Skipped(),
		Restrictions: d.test.restricts, Architectures: d.test.arches, Network: f.Environment.Network, Setup: []string{},
	}
	for _, w := range f.Warnings {
		row.Warnings = append(row.Warnings, w.Error())
	}
	for _, command := range f.Environment.Setup {
		values, ok := strings.CutSuffix(command, dep8Setup)
		if !ok {
			t.Errorf("%s: its set-up does not end with the script", f.Name)
		}
		row.Setup = append(row.Setup, strings.Split(strings.TrimSpace(values), "\n")...)
	}
	plan := planned(t, f)
	var last assay.Action
	for _, step := range plan.Steps {
		row.Steps = append(row.Steps, step.Name)
		act, err := step.Resolve(assay.Vars{varTestbed: ownMachine})
		if err != nil {
			t.Fatal(err)
		}
		last = act
	}
	row.Says = last.Message
	for _, c := range last.Commands {
		row.Test = c.Argv[4:]
	}
	return row
}

func planned(t *testing.T, f *Formula) assay.Plan {
	t.Helper()
	plan, err := f.Plan(assay.Vars{
		assay.VarWorkdir: "/assay/check", assay.VarPrivate: "/assay/.assay",
		assay.VarArtifacts: "/assay/artifacts", assay.VarBuilds: "/assay/builds",
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// loadOne is the one check of a control file.
func loadOne(t *testing.T, control string) *Formula {
	t.Helper()
	source, err := os.ReadFile(controlCorpus + "/source")
	if err != nil {
		t.Fatal(err)
	}
	formulas, err := Load(sourceTree(t, []byte(control), source))
	if err != nil || len(formulas) != 1 {
		t.Fatalf("%d formulas, %v", len(formulas), err)
	}
	return formulas[0]
}

// resolveLast resolves the step that ends a plan.
func resolveLast(t *testing.T, f *Formula, vars assay.Vars) assay.Action {
	t.Helper()
	steps := planned(t, f).Steps
	act, err := steps[len(steps)-1].Resolve(vars)
	if err != nil {
		t.Fatal(err)
	}
	return act
}

// theResult is the one result of an action, as "OUTCOME note".
func theResult(t *testing.T, text string) string {
	t.Helper()
	results, err := ParseResults([]byte(text))
	if err != nil || len(results) != 1 {
		t.Fatalf("results %q: %v", text, err)
	}
	return string(results[0].Outcome) + " " + results[0].Note
}

// TestVerdicts holds the table of docs/dep8.md.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct{ restrictions, left, want string }{
		{"", "exit 0\n", "PASSED PASS"},
		{"superficial", "exit 0\n", "INFO PASS (superficial)"},
		{"", "exit 1\n", "FAILED FAIL non-zero exit status 1"},
		{"superficial", "exit 1\n", "FAILED FAIL non-zero exit status 1"},
		{"flaky", "exit 1\n", "INFO FLAKY non-zero exit status 1"},
		{"flaky", "exit 0\n", "PASSED PASS"},
		{"", "exit 77\n", "FAILED FAIL non-zero exit status 77"},
		{"skippable", "exit 77\n", "INFO SKIP exit status 77 and marked as skippable"},
		{"skippable", "exit 77\nstderr why\n", "INFO SKIP exit status 77 and marked as skippable"},
		{"skippable", "exit 78\n", "FAILED FAIL non-zero exit status 78"},
		{"skippable flaky", "exit 77\n", "INFO SKIP exit status 77 and marked as skippable"},
		{"", "exit 0\nstderr warning: x\n", "FAILED FAIL stderr: warning: x"},
		{"", "exit 0\nstderr \n", "FAILED FAIL stderr: "},
		{"", "exit 2\nstderr warning: x\n", "FAILED FAIL non-zero exit status 2"},
		{"flaky", "exit 0\nstderr warning: x\n", "INFO FLAKY stderr: warning: x"},
		{"superficial", "exit 0\nstderr warning: x\n", "FAILED FAIL stderr: warning: x"},
		{"allow-stderr", "exit 0\nstderr warning: x\n", "PASSED PASS"},
		{"allow-stderr", "exit 1\nstderr warning: x\n", "FAILED FAIL non-zero exit status 1"},
		{"flaky", "badpkg debian/tests/smoke does not exist\n", "FAILED FAIL badpkg: debian/tests/smoke does not exist"},
		{"", "exit 137\n", "FAILED FAIL non-zero exit status 137"},
		{"", "exit 0\nstderr \x1b[2J\"}]\n", `FAILED FAIL stderr: \x1b[2J"}]`},
	} {
		f := loadOne(t, "Tests: smoke\nRestrictions: "+c.restrictions+"\n")
		act := resolveLast(t, f, assay.Vars{varTestbed: ownMachine})
		turned, err := act.Turn.Make([]byte(c.left))
		if err != nil {
			t.Fatal(err)
		}
		if got := theResult(t, turned.Results); got != c.want {
			t.Errorf("%s: %q is %s, want %s", c.restrictions, c.left, got, c.want)
		}
	}
	for _, left := range []string{"", "exit\n", "exit x\n", "exit -1\n", "stderr x\n", "exit 99999999999999999999\n"} {
		act := resolveLast(t, loadOne(t, "Tests: smoke\n"), assay.Vars{varTestbed: ownMachine})
		if turned, err := act.Turn.Make([]byte(left)); err == nil {
			t.Errorf("%q: %s, want an error", left, turned.Results)
		}
	}
}

// TestRefusals holds what a machine must be like for a test to be run there.
func TestRefusals(t *testing.T) {
	host := "arch=x86_64\ndisposable=no\nsudo=no\n"
	for _, c := range []struct{ fields, machine, built, want string }{
		{"", host, "", ""},
		{"Restrictions: needs-root", host, "", "INFO SKIP it must be run as root (needs-root)"},
		{"Restrictions: needs-root", host + "root=yes\n", "", ""},
		{"Restrictions: needs-sudo", host, "", "INFO SKIP there is no user who may use sudo without a password (needs-sudo)"},
		{"Restrictions: needs-sudo", ownMachine, "", ""},
		{"Restrictions: breaks-testbed", host, "", "INFO SKIP this machine stays as it is, and the test needs one of its own (breaks-testbed)"},
		{"Restrictions: isolation-machine", host, "", "INFO SKIP this machine stays as it is, and the test needs one of its own (isolation-machine)"},
		{"Restrictions: isolation-container", host, "", "INFO SKIP this machine stays as it is, and the test needs one of its own (isolation-container)"},
		{"Restrictions: isolation-machine breaks-testbed", ownMachine, "", ""},
		{"Architecture: amd64", host, "", ""},
		{"Architecture: arm64", host, "", "INFO SKIP it is for other architectures than amd64"},
		{"Architecture: !amd64", host, "", "INFO SKIP it is not for the architecture amd64"},
		{"Architecture: any", "arch=riscv64\n", "", ""},
		{"", ownMachine + "missing=E: no frob\n", "", "FAILED FAIL badpkg: its dependencies cannot be installed: E: no frob"},
		{"", ownMachine + "missing=E: no frob\ndebs=yes\n", "", ""},
		{"", ownMachine + "debs=yes\n", "E: conflict\n", "FAILED FAIL badpkg: its dependencies cannot be installed: E: conflict"},
		{"Restrictions: skip-not-installable", ownMachine + "debs=yes\n", "E: conflict\n", "INFO SKIP its dependencies cannot be installed: E: conflict"},
		{"Restrictions: skip-not-installable", ownMachine + "uninstallable=E: no less\n", "", "INFO SKIP its dependencies cannot be installed: E: no less"},
	} {
		f := loadOne(t, "Tests: smoke\n"+c.fields+"\n")
		act := resolveLast(t, f, assay.Vars{varTestbed: c.machine, varBuilt: c.built})
		got := ""
		if act.Results != nil {
			got = theResult(t, act.Results.Text)
		}
		if got != c.want || (got == "") != (len(act.Commands) == 1) {
			t.Errorf("%s on %q: %q with %d commands, want %q", c.fields, c.machine, got, len(act.Commands), c.want)
		}
	}
}

// TestArchitectures compares with what dpkg says of the same.
func TestArchitectures(t *testing.T) {
	for _, c := range []struct {
		arch, meant string
		want        bool
	}{
		{"amd64", "amd64", true}, {"amd64", "i386", false}, {"amd64", "any", true},
		{"amd64", "any-amd64", true}, {"amd64", "linux-any", true}, {"amd64", "gnu-any-any", true},
		{"armhf", "any-arm", true}, {"armhf", "any-armhf", false}, {"arm64", "any-arm", false},
		{"armhf", "eabihf-any-any-any", true}, {"armel", "eabihf-any-any-any", false},
		{"x32", "any-amd64", true}, {"hurd-i386", "any-i386", true}, {"kfreebsd-amd64", "linux-any", false},
		{"mips64el", "any-mips64el", true}, {"amd64", "musl-linux-any", false},
		{"musl-linux-amd64", "musl-linux-any", true}, {"amd64", "amd64-any", false}, {"amd64", "any-any-any-any-any", false},
	} {
		if got := archMatches(c.arch, c.meant); got != c.want {
			t.Errorf("%s is %s: %v, want %v", c.arch, c.meant, got, c.want)
		}
	}
}

// TestOneOfMany finds a check again by its path and name.
func TestOneOfMany(t *testing.T) {
	tree := sourceTree(t, []byte("Tests: smoke unit\n"), nil)
	tree["debian/control"] = &fstest.MapFile{Data: []byte("Source: frob\n\nPackage: frob\nArchitecture: any\n")}
	f, err := FormulaOf(tree, ControlFile, "dep8.unit")
	if err != nil || f.Name != "unit" {
		t.Fatalf("%v, %v", f, err)
	}
	if f, err := FormulaOf(tree, ControlFile, "dep8.nosuch"); err == nil {
		t.Errorf("found %v", f)
	}
	tree["greets/runtask.yml"] = &fstest.MapFile{Data: []byte("name: x\ndesc: x\nmaintainer: x\nactions: [{name: x, shell: ['true']}]\n")}
	if f, err := FormulaOf(tree, "greets/runtask.yml", "x"); err != nil || f.Name != "x" {
		t.Errorf("%v, %v", f, err)
	}
	paths, err := Find(tree)
	if want := []string{ControlFile, "greets/runtask.yml"}; err != nil || !reflect.DeepEqual(paths, want) {
		t.Errorf("Find: %v, %v", paths, err)
	}
	if RootOf(ControlFile) != "." || RootOf("greets/runtask.yml") != "greets" {
		t.Error("a check is given another directory than its own")
	}
	if formulas, err := Load(tree); err != nil || len(formulas) != 3 {
		t.Errorf("Load: %d formulas, %v", len(formulas), err)
	}
}

// TestNoControl tells why @ cannot be understood.
func TestNoControl(t *testing.T) {
	tree := sourceTree(t, []byte("Tests: smoke\n\nTests: unit\nDepends: less\n"), nil)
	delete(tree, "debian/control")
	_, err := Load(tree)
	want := ControlFile + `:1:1: cannot tell what "@" stands for: cannot find the file "debian/control": file does not exist: write it beside the formula`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestWithoutNetwork skips what needs a network, and nothing else.
func TestWithoutNetwork(t *testing.T) {
	f := loadOne(t, "Tests: smoke\nRestrictions: needs-internet\n")
	if f.Environment.Network != "full" || f.Skipped() != "" {
		t.Fatalf("network %q, skipped %q", f.Environment.Network, f.Skipped())
	}
	without := f.WithoutNetwork()
	if without.Skipped() == "" || without.Environment.Network != "" || f.Skipped() != "" {
		t.Errorf("network %q, skipped %q, the first %q", without.Environment.Network, without.Skipped(), f.Skipped())
	}
	if other := loadOne(t, "Tests: smoke\n"); other.WithoutNetwork() != other {
		t.Error("a test that needs no network became another")
	}
}

// TestPatches are applied where the tree has some that are not.
func TestPatches(t *testing.T) {
	source := []byte("Source: frob\n\nPackage: frob\nArchitecture: any\n")
	tree := sourceTree(t, []byte("Tests: smoke\n"), source)
	tree["debian/patches/series"] = &fstest.MapFile{Data: []byte("one\n")}
	for _, applied := range []bool{true, false} {
		if !applied {
			delete(tree, ".pc/applied-patches")
		}
		formulas, err := Load(tree)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range planned(t, formulas[0]).Steps {
			names = append(names, s.Name)
		}
		setup := formulas[0].Environment.Setup[0]
		if got := strings.Contains(fmt.Sprint(names), "apply the patches"); got == applied {
			t.Errorf("applied already %v: steps %v", applied, names)
		}
		if got := strings.Contains(setup, "others=dpkg-dev"); got == applied {
			t.Errorf("applied already %v: dpkg-dev installed %v", applied, got)
		}
	}
}

// FuzzControl reads control files that anybody may have written.
func FuzzControl(f *testing.F) {
	files, err := filepath.Glob(controlCorpus + "/*.control")
	if err != nil || len(files) == 0 {
		f.Fatalf("cannot find the corpus: %v", err)
	}
	source, err := os.ReadFile(controlCorpus + "/source")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), string(source))
	}
	f.Fuzz(func(t *testing.T, control, source string) {
		tree := fstest.MapFS{
			ControlFile: {Data: []byte(control)}, "debian/control": {Data: []byte(source)},
			"debian/tests/smoke": {}, "debian/tests/unit": {},
		}
		loaded, err := LoadEach(tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range loaded {
			checkControl(t, l, control)
		}
	})
}

// checkControl holds what is true of every check of any control file.
func checkControl(t *testing.T, l Loaded, control string) {
	var ms Mistakes
	if (l.Formula == nil) != errors.As(l.Err, &ms) {
		t.Fatalf("formula %v with error %v", l.Formula, l.Err)
	}
	if l.Formula != nil {
		ms = l.Formula.Warnings
	}
	lines := strings.Count(control, "\n") + 1
	for _, m := range ms {
		if m.Line < 1 || m.Line > lines || m.Col < 1 || m.Col > len(control)+1 || len(m.Message) > 2*maxMessage || strings.ContainsAny(m.Error(), "\n\x1b") {
			t.Errorf("mistake %q at %d:%d of %d lines", m.Message, m.Line, m.Col, lines)
		}
	}
	if l.Formula == nil {
		return
	}
	if !isSafeName(l.Formula.Name) {
		t.Errorf("name %q", l.Formula.Name)
	}
	for _, setup := range l.Formula.Environment.Setup {
		values := strings.TrimSuffix(setup, dep8Setup)
		if strings.Count(values, "\n") != 4 || strings.ContainsAny(values, "$`;&\x00") {
			t.Errorf("set-up begins with %q", values)
		}
	}
	plan := planned(t, l.Formula)
	for _, s := range plan.Steps {
		act, err := s.Resolve(assay.Vars{varTestbed: control})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range act.Commands {
			if c.Shell != "" || c.Argv[0] != "/bin/sh" || strings.Contains(c.Argv[2], "frob") {
				t.Errorf("step %s runs %q", s.Name, c.Argv)
			}
			for _, word := range c.Argv {
				if strings.ContainsRune(word, 0) {
					t.Errorf("step %s has a zero byte in %q", s.Name, word)
				}
			}
		}
	}
}

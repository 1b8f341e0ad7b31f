package checks

import (
	_ "embed" // for the scripts
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// The scripts that a machine runs. What they are to do comes as arguments.
var (
	//go:embed dep8_setup.sh
	dep8Setup string
	//go:embed dep8_look.sh
	dep8Look string
	//go:embed dep8_builds.sh
	dep8Builds string
	//go:embed dep8_patch.sh
	dep8Patch string
	//go:embed dep8_build.sh
	dep8Build string
	//go:embed dep8_test.sh
	dep8Test string
)

// dep8 is one part of the work on a test of debian/tests/control. Formulas cannot
// name it: such checks have no formula of their own.
type dep8 struct {
	test    *debTest
	patched bool
	do      func(*dep8, *scope, testbed) (assay.Action, error)
}

// Variables that the parts leave for each other.
const (
	varTestbed = "dep8_testbed" // what dep8_look.sh says
	varBuilt   = "dep8_built"   // what dep8_builds.sh says
)

// dep8Actions are the steps of one test, in order.
func dep8Actions(t *debTest, patched bool) []action {
	position := fmt.Sprintf("%s:%d:%d", ControlFile, t.line, t.col)
	part := func(name, export string, do func(*dep8, *scope, testbed) (assay.Action, error)) action {
		return action{name: name, kind: "dep8", export: export, position: position, does: &dep8{t, patched, do}}
	}
	if t.skip != "" {
		return []action{part("skip "+t.name, "", (*dep8).skip)}
	}
	actions := []action{part("look at the machine", varTestbed, (*dep8).look), part("install what was built", varBuilt, (*dep8).install)}
	if patched {
		actions = append(actions, part("apply the patches", "", (*dep8).patch))
	}
	if t.restricted("build-needed") {
		actions = append(actions, part("build the tree", "", (*dep8).build))
	}
	return append(actions, part("test "+t.name, "", (*dep8).run))
}

func (d *dep8) read(p *parser, args *yaml.Node) {
	p.mistake(args, "use dep8 in a formula: write the test into %s", ControlFile)
}

func (*dep8) manual() manual { return manual{short: "run a test of " + ControlFile} }

func (d *dep8) resolve(s *scope) (assay.Action, error) {
	said, _ := s.vars[varTestbed].(string)
	return d.do(d, s, readTestbed(said))
}

// testbed is what a machine said of itself. It is the machine's word.
type testbed struct {
	arch          string // Debian's name
	disposable    bool   // made of the check's own template: it may be spoilt
	root, sudo    bool
	user          string // a normal user, when root
	debs          bool   // something was built
	missing       string // why the tree's own packages are not installed
	uninstallable string // why dependencies are not installed, and the test is to be skipped
}

func readTestbed(said string) testbed {
	values := map[string]string{}
	for line := range strings.Lines(said) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[key] = oneLine(value, maxMessage)
	}
	return testbed{
		arch:       debianArch(values["arch"]),
		disposable: values["disposable"] == "yes", root: values["root"] == "yes", sudo: values["sudo"] == "yes",
		user: values["user"], debs: values["debs"] == "yes",
		missing: values["missing"], uninstallable: values["uninstallable"],
	}
}

// refusal says why a test is skipped on a machine, "" when it is not.
func (t *debTest) refusal(m testbed) string {
	if reason := archRefusal(m.arch, t.arches); reason != "" {
		return reason
	}
	if !m.disposable {
		for _, r := range []string{"breaks-testbed", "isolation-container", "isolation-machine"} {
			if t.restricted(r) {
				return "this machine stays as it is, and the test needs one of its own (" + r + ")"
			}
		}
	}
	switch {
	case t.restricted("needs-root") && !m.root:
		return "it must be run as root (needs-root)"
	case m.uninstallable != "":
		return "its dependencies cannot be installed: " + m.uninstallable
	case t.restricted("needs-sudo") && !m.sudo:
		return "there is no user who may use sudo without a password (needs-sudo)"
	}
	return ""
}

// notInstalled says why the packages under test are not there, "" when they are;
// built is what installing those that were built came to.
func notInstalled(m testbed, built string) string {
	if m.disposable && m.missing != "" && !m.debs {
		return m.missing
	}
	return oneLine(strings.TrimSpace(built), maxMessage)
}

// stopped is how a test ends that is not run: skipped, or without the packages
// it is about.
func (d *dep8) stopped(s *scope, m testbed) (testEnd, bool) {
	built, _ := s.vars[varBuilt].(string)
	missing := notInstalled(m, built)
	switch reason := d.test.refusal(m); {
	case reason != "":
		return testEnd{skip: reason}, true
	case missing != "" && d.test.restricted("skip-not-installable"):
		return testEnd{skip: "its dependencies cannot be installed: " + missing}, true
	case missing != "":
		return testEnd{broken: "its dependencies cannot be installed: " + missing}, true
	}
	return testEnd{}, false
}

// script is an action that runs one of the scripts.
func script(text string, args ...string) assay.Action {
	return assay.Action{Commands: []assay.Command{{Argv: append([]string{"/bin/sh", "-c", text, "sh"}, args...)}}}
}

func (d *dep8) skip(*scope, testbed) (assay.Action, error) {
	return d.test.report(testEnd{skip: d.test.skip})
}

func (d *dep8) look(s *scope, _ testbed) (assay.Action, error) {
	builds, _ := s.vars[assay.VarBuilds].(string)
	return script(dep8Look, builds), nil
}

func (d *dep8) install(s *scope, m testbed) (assay.Action, error) {
	if !m.debs || d.test.refusal(m) != "" {
		return assay.Action{}, nil
	}
	if !m.disposable || !m.root {
		return assay.Action{Message: "what was built is not installed: this machine stays as it is"}, nil
	}
	builds, _ := s.vars[assay.VarBuilds].(string)
	args := []string{builds, ""}
	var own []string
	for _, dep := range d.test.depends {
		if !dep.own {
			continue
		}
		own = append(own, dep.text)
		for _, a := range strings.Split(dep.text, " | ") {
			name, _, _ := strings.Cut(a, " ")
			name, _, _ = strings.Cut(name, ":")
			if !slices.Contains(args[2:], name) {
				args = append(args, name)
			}
		}
	}
	args[1] = strings.Join(own, ", ")
	return script(dep8Builds, args...), nil
}

func (d *dep8) patch(s *scope, m testbed) (assay.Action, error) {
	tree, _, err := s.directories()
	if _, stop := d.stopped(s, m); stop || err != nil {
		return assay.Action{}, err
	}
	return script(dep8Patch, tree), nil
}

func (d *dep8) build(s *scope, m testbed) (assay.Action, error) {
	tree, _, err := s.directories()
	if _, stop := d.stopped(s, m); stop || err != nil {
		return assay.Action{}, err
	}
	return script(dep8Build, tree, m.user), nil
}

func (d *dep8) run(s *scope, m testbed) (assay.Action, error) {
	if end, stop := d.stopped(s, m); stop {
		return d.test.report(end)
	}
	tree, private, err := s.directories()
	if err != nil {
		return assay.Action{}, err
	}
	artifacts, _ := s.vars[assay.VarArtifacts].(string)
	outcome := path.Join(private, "dep8-outcome")
	as := m.user
	if d.test.restricted("needs-root") {
		as = "root"
	}
	kind, what := "file", d.test.file
	if what == "" {
		kind, what = "command", d.test.command
	}
	act := script(dep8Test, tree, artifacts, outcome, yesNo(m.root), m.user, as, kind, what)
	act.Message = "test " + d.test.name + ": " + oneLine(d.test.what(), maxMessage)
	act.Turn = &assay.Turn{File: outcome, Make: func(file []byte) (assay.Turned, error) {
		end, err := readEnd(string(file))
		if err != nil {
			return assay.Turned{}, err
		}
		report, err := d.test.report(end)
		if err != nil {
			return assay.Turned{}, err
		}
		return assay.Turned{Results: report.Results.Text, Message: report.Message}, nil
	}}
	return act, nil
}

// testEnd is how a test ended. Exactly one of the texts is set, or none for one
// that ran.
type testEnd struct {
	skip   string // why it did not run
	broken string // why it could not
	exit   int
	stderr bool   // it wrote there
	first  string // the first line of that
}

// readEnd reads what dep8_test.sh left.
func readEnd(file string) (testEnd, error) {
	var end testEnd
	ran := false
	for line := range strings.Lines(file) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		rest = oneLine(rest, maxMessage)
		switch word {
		case "exit":
			code, err := strconv.Atoi(rest)
			if err != nil || code < 0 {
				return end, fmt.Errorf("cannot tell how the test ended: %s is no exit code", shown(rest))
			}
			end.exit, ran = code, true
		case "stderr":
			end.stderr, end.first = true, rest
		case "badpkg":
			return testEnd{broken: rest}, nil
		}
	}
	if !ran {
		return end, fmt.Errorf("cannot tell how the test ended: it left no exit code")
	}
	return end, nil
}

// judge is the contract of autopkgtest: what it would write in its summary, and
// the outcome that this is. What its users call neutral is INFO.
func (t *debTest) judge(end testEnd) (assay.Outcome, string) {
	failed := ""
	switch {
	case end.skip != "":
		return assay.Info, "SKIP " + end.skip
	case end.broken != "":
		return assay.Failed, "FAIL badpkg: " + end.broken
	case end.exit == 77 && t.restricted("skippable"):
		return assay.Info, "SKIP exit status 77 and marked as skippable"
	case end.exit != 0:
		failed = fmt.Sprintf("non-zero exit status %d", end.exit)
	case end.stderr && !t.restricted("allow-stderr"):
		failed = "stderr: " + end.first
	case t.restricted("superficial"):
		return assay.Info, "PASS (superficial)"
	default:
		return assay.Passed, "PASS"
	}
	if t.restricted("flaky") {
		return assay.Info, "FLAKY " + failed
	}
	return assay.Failed, "FAIL " + failed
}

// report hands in the one result of a test.
func (t *debTest) report(end testEnd) (assay.Action, error) {
	outcome, note := t.judge(end)
	text, err := encodeJSON(map[string]any{"results": []any{map[string]any{"outcome": outcome, "note": note}}})
	if err != nil {
		return assay.Action{}, fmt.Errorf("cannot write the result: %v", err)
	}
	return assay.Action{Message: "test " + t.name + ": " + note, Results: &assay.ResultsSource{Text: string(text)}}, nil
}

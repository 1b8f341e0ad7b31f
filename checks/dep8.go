package checks

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ControlFile is where a Debian source tree says what tests it has (DEP-8,
// README.package-tests of autopkgtest), from the tree's root. A repository with
// it is a check repository: every test is one check, called "dep8.TEST".
const ControlFile = "debian/tests/control"

// dep8Namespace is the namespace of the checks of a control file.
const dep8Namespace = "dep8"

// dep8Memory is what autopkgtest's own machines have, in bytes.
const dep8Memory = 1 << 30

// FormulaOf reads one check again, by the path of its formula and, as several
// may share one file, its check name. A formula's own name counts for no other.
func FormulaOf(fsys fs.FS, name, check string) (*Formula, error) {
	if name != ControlFile {
		l := LoadFile(fsys, name)
		return l.Formula, l.Err
	}
	loaded := loadControl(fsys)
	for _, l := range loaded {
		if l.Err != nil || l.Formula.Checkname() == check {
			return l.Formula, l.Err
		}
	}
	return nil, Mistakes{cannot(name, "find the test %s: it was there when the check was planned", shown(check))}
}

// RootOf is the directory, in the repository, that the check with a formula at
// that path is given as its own.
func RootOf(name string) string {
	if name == ControlFile {
		return "."
	}
	return path.Dir(name)
}

// Skipped says why a formula is known never to run, "" for one that may. Only
// checks of a control file are.
func (f *Formula) Skipped() string {
	for _, a := range f.actions {
		if d, ok := a.does.(*dep8); ok {
			return d.test.skip
		}
	}
	return ""
}

// WithoutNetwork is the formula for a machine that cannot have a network: a test
// that needs one is skipped then, as its contract wants it. Other formulas stay
// as they are.
func (f *Formula) WithoutNetwork() *Formula {
	for _, a := range f.actions {
		d, ok := a.does.(*dep8)
		if !ok || !d.test.restricted("needs-internet") {
			continue
		}
		test := *d.test
		test.refuse(test.line, test.col, "its machine has no network (needs-internet)")
		out := *f
		out.Environment.Network = ""
		out.actions = dep8Actions(&test, d.patched)
		return &out
	}
	return f
}

// loadControl reads the tests of a tree: one Loaded each, or a single one with
// every mistake.
func loadControl(fsys fs.FS) []Loaded {
	data, err := readPlain(fsys, ControlFile)
	if err != nil {
		return []Loaded{{Path: ControlFile, Err: Mistakes{cannot(ControlFile, "%s", err)}}}
	}
	formulas, err := parseControl(fsys, data)
	if err != nil {
		return []Loaded{{Path: ControlFile, Err: err}}
	}
	loaded := make([]Loaded, len(formulas))
	for i, f := range formulas {
		loaded[i] = Loaded{Path: ControlFile, Formula: f}
	}
	return loaded
}

// controlTogether is loadControl for who wants one Loaded of one file: the first
// formula stands for all.
func controlTogether(fsys fs.FS) Loaded {
	loaded := loadControl(fsys)
	if len(loaded) == 0 {
		return Loaded{Path: ControlFile, Err: Mistakes{cannot(ControlFile, "find a test: write Tests: NAME or Test-Command: COMMAND")}}
	}
	return loaded[0]
}

// parseControl makes a formula of every test.
func parseControl(fsys fs.FS, data []byte) ([]*Formula, error) {
	p := &parser{file: ControlFile}
	if len(data) > MaxFormula {
		return nil, Mistakes{cannot(ControlFile, "read a control file larger than %d KiB: write a smaller one", MaxFormula>>10)}
	}
	source := sourceOf(fsys)
	exists := func(name string) bool {
		info, err := fs.Lstat(fsys, name)
		return err == nil && !info.IsDir()
	}
	tests := readTests(p, strings.TrimPrefix(string(data), "\uFEFF"), source, exists)
	if err := p.mistakes.err(); err != nil {
		return nil, err
	}
	patched := !exists(".pc/applied-patches") && exists("debian/patches/series")
	formulas := make([]*Formula, len(tests))
	for i, t := range tests {
		formulas[i] = dep8Formula(t, source, patched)
	}
	if len(formulas) > 0 {
		formulas[0].Warnings = skipWarnings(tests)
	}
	return formulas, nil
}

// sourceOf reads debian/control of a tree.
func sourceOf(fsys fs.FS) sourcePackage {
	const name = "debian/control"
	data, err := readPlain(fsys, name)
	switch {
	case err != nil:
		return sourcePackage{missing: "cannot " + err.Error(), builds: []string{"build-essential"}}
	case len(data) > MaxFormula:
		return sourcePackage{missing: fmt.Sprintf("cannot read a %s larger than %d KiB: write a smaller one", name, MaxFormula>>10), builds: []string{"build-essential"}}
	}
	return readSource(string(data))
}

// skipWarnings tells of the tests that never run, but for those that are not
// meant to.
func skipWarnings(tests []*debTest) Mistakes {
	var warnings Mistakes
	for _, t := range tests {
		if t.skip == "" || strings.Contains(t.skip, "hint-testsuite-triggers") || len(warnings) == maxFileMistake {
			continue
		}
		warnings = append(warnings, Mistake{
			File: ControlFile, Line: t.skipAt[0], Col: t.skipAt[1], Warning: true,
			Message: oneLine(fmt.Sprintf("the test %s is always skipped: %s", shown(t.name), t.skip), maxMessage),
		})
	}
	return warnings.sorted()
}

// dep8Formula is the formula of one test. patched tells that the tree's patches
// are yet to be applied.
func dep8Formula(t *debTest, source sourcePackage, patched bool) *Formula {
	at := cannot(ControlFile, "")
	at.Line, at.Col = t.line, t.col
	f := &Formula{
		Path: ControlFile, Namespace: dep8Namespace, Name: t.name, nameAt: at,
		Maintainer: oneLine(source.maintainer, maxLine), Desc: "the test " + t.what(),
		actions: dep8Actions(t, patched), uses: map[string]bool{},
	}
	if t.skip != "" {
		return f
	}
	f.Environment = Environment{Memory: dep8Memory, Deb: []string{"bash"}, Setup: []string{setupScript(t, patched)}}
	if t.restricted("needs-internet") {
		f.Environment.Network = "full"
	}
	return f
}

// what names a test for people.
func (t *debTest) what() string {
	if t.file != "" {
		return t.file
	}
	return shown(t.command)
}

// setupScript is what a template runs: it installs what the test depends on, and
// makes a normal user.
func setupScript(t *debTest, patched bool) string {
	var own, others []string
	for _, d := range t.depends {
		if d.own {
			own = append(own, d.text)
		} else if !slices.Contains(others, d.text) {
			others = append(others, d.text)
		}
	}
	if patched && !slices.Contains(others, "dpkg-dev") {
		others = append(others, "dpkg-dev")
	}
	values := []struct{ name, value string }{
		{"own", strings.Join(own, ", ")}, {"others", strings.Join(others, ", ")},
		{"skippable", yesNo(t.restricted("skip-not-installable"))}, {"sudo", yesNo(t.restricted("needs-sudo"))},
	}
	var b strings.Builder
	for _, v := range values {
		quoted, _ := quoteFor(v.value, quoteBare)
		fmt.Fprintf(&b, "%s=%s\n", v.name, quoted)
	}
	return b.String() + dep8Setup
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// withoutControl reads the tests of a control file that is among the paths, and
// returns the other paths.
func withoutControl(fsys fs.FS, paths []string) (tests []Loaded, others []string) {
	i := slices.Index(paths, ControlFile)
	if i < 0 {
		return nil, paths
	}
	return loadControl(fsys), slices.Delete(slices.Clone(paths), i, i+1)
}

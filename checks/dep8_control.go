package checks

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
)

// maxTests bounds the tests of one control file.
const maxTests = 1000

// maxTestCommand bounds a Test-Command, in bytes.
const maxTestCommand = 16 << 10

// debTest is one test of a debian/tests/control.
type debTest struct {
	name      string
	line, col int
	file      string // in the tree, "" for a command
	command   string // for bash -e
	arches    []string
	depends   []dependency
	skip      string   // why it can never run, "" if it can
	skipAt    [2]int   // line and column of what makes it so
	restricts []string // sorted
}

func (t *debTest) restricted(restriction string) bool {
	return slices.Contains(t.restricts, restriction)
}

// runnable are the restrictions that a test may have here. What they mean is in
// README.package-tests of Debian's autopkgtest, and in docs/dep8.md.
func runnable() []string {
	return []string{
		"allow-stderr", "breaks-testbed", "build-needed", "flaky", "isolation-container", "isolation-machine",
		"needs-internet", "needs-recommends", "needs-root", "needs-sudo", "rw-build-tree",
		"skip-foreign-architecture", "skip-not-installable", "skippable", "superficial",
	}
}

// controlFields are the fields of a stanza, as they are written. A stanza with
// any other is skipped.
func controlFields() []string {
	return []string{"Tests", "Test-Command", "Restrictions", "Features", "Depends", "Tests-Directory", "Classes", "Architecture"}
}

func isControlField(name string) bool {
	return slices.ContainsFunc(controlFields(), func(known string) bool { return strings.ToLower(known) == name })
}

// meantField is the end of a message about an unknown field.
func meantField(name string) string {
	fields := controlFields()
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = strings.ToLower(f)
	}
	if i := slices.Index(known, nearest(name, known)); i >= 0 {
		return "write " + fields[i]
	}
	return "write " + oneOf(fields)
}

// testsReader makes tests of the stanzas of a control file.
type testsReader struct {
	p        *parser
	source   sourcePackage
	exists   func(name string) bool
	commands int // that have no name of their own, so far
	tests    []*debTest
}

// readTests reads debian/tests/control; exists tells which files the tree has.
func readTests(p *parser, data string, source sourcePackage, exists func(string) bool) []*debTest {
	r := &testsReader{p: p, source: source, exists: exists}
	for _, s := range readStanzas(p, data, true) {
		r.stanza(s)
		if p.full() {
			break
		}
	}
	r.refuseTwins()
	return r.tests
}

// stanza reads the tests that one stanza names.
func (r *testsReader) stanza(s stanza) {
	tests, hasTests := s.field("tests")
	command, hasCommand := s.field("test-command")
	switch {
	case hasTests && hasCommand:
		r.p.mistakeAt(command.line, command.col, "use Tests and Test-Command in one stanza: write two stanzas")
		return
	case !hasTests && !hasCommand:
		first := s.fields[0]
		r.p.mistakeAt(first.line, first.col, "find a test in this stanza: write Tests: NAME or Test-Command: COMMAND%s", s.instead())
		return
	}
	common := debTest{}
	r.unknownFields(s, &common)
	r.architecture(s, &common)
	r.restrictions(s, &common)
	name := r.testName(s, hasTests)
	common.depends = r.depends(s, common)
	if hasTests {
		r.files(s, tests, common)
	} else {
		r.command(command, common, name)
	}
}

// instead names the first field that has no meaning, as it may be a slip.
func (s stanza) instead() string {
	for _, f := range s.fields {
		if !isControlField(f.name) {
			return ", not " + shown(f.written)
		}
	}
	return ""
}

// refuse notes why the tests of a stanza never run; the first reason counts.
func (t *debTest) refuse(line, col int, format string, args ...any) {
	if t.skip == "" {
		t.skip, t.skipAt = oneLine(fmt.Sprintf(format, args...), maxMessage), [2]int{line, col}
	}
}

func (r *testsReader) unknownFields(s stanza, t *debTest) {
	for _, f := range s.fields {
		if !isControlField(f.name) {
			t.refuse(f.line, f.col, "unknown field %s: %s", shown(f.written), meantField(f.name))
		}
	}
}

func (r *testsReader) restrictions(s stanza, t *debTest) {
	f, _ := s.field("restrictions")
	for _, word := range f.value.words() {
		if t.skip != "" {
			break
		}
		line, col := word.at(0)
		switch {
		case word.text == "hint-testsuite-triggers":
			t.refuse(line, col, "it only names packages whose changes matter (hint-testsuite-triggers)")
		case word.text == "needs-reboot":
			t.refuse(line, col, "its machine cannot be started again while it runs (needs-reboot)")
		case !slices.Contains(runnable(), word.text):
			t.refuse(line, col, "unknown restriction %s: %s", shown(word.text), didYouMean(word.text, runnable()))
		case !t.restricted(word.text):
			t.restricts = append(t.restricts, word.text)
		}
	}
	slices.Sort(t.restricts)
}

func (r *testsReader) architecture(s stanza, t *debTest) {
	f, _ := s.field("architecture")
	for _, word := range f.value.words() {
		if len(t.arches) < maxTests {
			t.arches = append(t.arches, word.text)
		}
	}
	// What is wrong on every architecture is known already.
	if len(t.arches) > 0 && (slices.Contains(t.arches, "all") || mixed(t.arches)) {
		line, col := f.value.at(0)
		t.refuse(line, col, "%s", archRefusal("", t.arches))
	}
}

func mixed(names []string) bool {
	not := func(name string) bool { return strings.HasPrefix(name, "!") }
	return slices.ContainsFunc(names, not) && slices.ContainsFunc(names, func(name string) bool { return !not(name) })
}

// testName reads the one feature that means something.
func (r *testsReader) testName(s stanza, hasTests bool) placed {
	var name placed
	f, _ := s.field("features")
	for _, word := range f.value.words() {
		key, value, ok := strings.Cut(word.text, "=")
		if key != "test-name" || r.p.full() {
			continue
		}
		line, col := word.at(0)
		switch {
		case hasTests:
			r.p.mistakeAt(line, col, "name a test of Tests: delete test-name, the file's name is the test's")
		case !ok || value == "":
			r.p.mistakeAt(line, col, "read test-name without a name: write test-name=NAME")
		case name.text != "":
			r.p.mistakeAt(line, col, "give a test two names: write test-name once")
		default:
			name = word.cut(len("test-name="), len(word.text))
		}
	}
	return name
}

// depends are the packages that the tests of a stanza need.
func (r *testsReader) depends(s stanza, t debTest) []dependency {
	f, ok := s.field("depends")
	if !ok {
		f.value = placed{text: "@", pieces: []piece{{0, s.line, 1}}}
	}
	list := readDepends(r.p, r.source, f.value)
	if t.restricted("needs-recommends") {
		line, col := s.line, 1
		list = append(list, readDepends(r.p, r.source, placed{text: "@recommends@", pieces: []piece{{0, line, col}}})...)
	}
	if t.restricted("build-needed") {
		for _, b := range r.source.builds {
			list = append(list, dependency{text: b})
		}
	}
	if t.restricted("needs-sudo") {
		list = append(list, dependency{text: "sudo"})
	}
	return list
}

// files makes a test of every name in Tests.
func (r *testsReader) files(s stanza, tests controlField, common debTest) {
	dir := r.directory(s)
	words := tests.value.words()
	if len(words) == 0 {
		r.p.mistakeAt(tests.line, tests.col, "find a test in an empty Tests: write the names of files in %s", dir)
	}
	for _, word := range words {
		if r.p.full() {
			break
		}
		t := common
		t.line, t.col = word.at(0)
		t.name, t.file = word.text, path.Join(dir, word.text)
		if strings.Contains(t.name, "/") {
			t.refuse(t.line, t.col, "a test's name may not contain a slash: %s", shown(t.name))
			t.name = strings.ReplaceAll(strings.Trim(t.name, "/"), "/", ".")
		}
		if r.add(&t) && t.skip == "" && !t.restricted("build-needed") && !r.exists(t.file) {
			r.p.mistakeAt(t.line, t.col, "find the test %s: write it into the tree, or its name right", shown(t.file))
		}
	}
}

// directory is where the tests of a stanza lie.
func (r *testsReader) directory(s stanza) string {
	f, ok := s.field("tests-directory")
	if !ok || f.value.text == "" {
		return path.Dir(ControlFile)
	}
	dir := path.Clean(f.value.text)
	if path.IsAbs(dir) || dir == ".." || strings.HasPrefix(dir, "../") {
		line, col := f.value.at(0)
		r.p.mistakeAt(line, col, "use %s as Tests-Directory: write a path below the tree's root", shown(f.value.text))
		return path.Dir(ControlFile)
	}
	return dir
}

// command makes a test of a Test-Command.
func (r *testsReader) command(f controlField, t debTest, name placed) {
	t.line, t.col = f.value.at(0)
	t.command, t.name = f.value.text, name.text
	if name.text == "" {
		r.commands++
		t.name = fmt.Sprintf("command%d", r.commands)
	} else {
		t.line, t.col = name.at(0)
	}
	switch {
	case t.command == "":
		r.p.mistakeAt(f.line, f.col, "run an empty Test-Command: write a command")
	case len(t.command) > maxTestCommand:
		r.p.mistakeAt(f.line, f.col, "run a Test-Command of more than %d KiB: write a file below debian/tests, and name it in Tests", maxTestCommand>>10)
	default:
		r.add(&t)
	}
}

// add takes a test whose name can be a check's.
func (r *testsReader) add(t *debTest) bool {
	switch {
	case !isSafeName(t.name) || strings.ContainsFunc(t.name, unicode.IsControl):
		r.p.mistakeAt(t.line, t.col, "use %s as a test's name: write 1 to %d of A-Z a-z 0-9 . _ + -, the first a letter or digit", shown(t.name), maxName)
		return false
	case len(r.tests) >= maxTests:
		r.p.mistakeAt(t.line, t.col, "read more than %d tests: write fewer", maxTests)
		return false
	}
	r.tests = append(r.tests, t)
	return true
}

// refuseTwins makes mistakes of names that an earlier test has.
func (r *testsReader) refuseTwins() {
	first := make(map[string]int)
	for _, t := range r.tests {
		if line, twice := first[t.name]; twice {
			r.p.mistakeAt(t.line, t.col, "use the test's name %s, which the one in line %d has too: write another name, for a command with Features: test-name=NAME", shown(t.name), line)
			continue
		}
		first[t.name] = t.line
	}
}

package checks

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-ci/assay"
)

// Bounds of TAP.
const (
	maxTAPDepth  = 16            // of subtests
	maxTAPNumber = 1_000_000_000 // of a test
)

// tapKind says what a line of TAP is.
type tapKind int

const (
	tapOther   tapKind = iota // not TAP
	tapVersion                // TAP version 14
	tapPlan                   // 1..5
	tapPoint                  // ok 1 - it works
	tapBail                   // Bail out! no disk
	tapPragma                 // pragma +strict
	tapComment                // # anything
)

// tapKindOf tells the kind of a line without its indentation and what is behind
// the words that make it one.
func tapKindOf(text string) (tapKind, string) {
	for _, k := range []struct {
		word string
		kind tapKind
	}{{"TAP version ", tapVersion}, {"Bail out!", tapBail}, {"pragma ", tapPragma}, {"#", tapComment}} {
		if rest, ok := strings.CutPrefix(text, k.word); ok {
			return k.kind, rest
		}
	}
	if rest, ok := strings.CutPrefix(text, "1.."); ok && rest != "" && isDigit(rest[0]) {
		return tapPlan, rest
	}
	after, ok := strings.CutPrefix(strings.TrimPrefix(text, "not "), "ok")
	if ok && (after == "" || strings.ContainsRune(" \t#", rune(after[0]))) {
		return tapPoint, text
	}
	return tapOther, ""
}

// tapReader reads one stream of TAP line by line.
type tapReader struct {
	stack     []*tapLevel // the stream itself, then the subtests that are open
	announced string      // by "# Subtest: NAME", of the next subtest
	points    int
	bail      *assay.Result
	noted     *tapPoints // the point that comments and YAML belong to, nil for none
	block     int        // the indentation of the YAML block that is open; 0 for none
}

// tapLevel is a stream or a subtest.
type tapLevel struct {
	name    string // of a subtest, by its announcement
	planned int    // -1 without a plan
	skipped string // why the plan is empty
	plans   int
	next    int // the number of the next test that has none
	points  []*tapPoints
	strict  bool
	strange int // lines that are not TAP where pragma +strict forbids them
	first   int // the first of them
}

// tapPoints is one test with the tests of its subtest.
type tapPoints struct {
	number  int
	result  assay.Result
	excused bool // by SKIP or TODO
	bad     bool // its line says not ok
	group   bool // only inner counts
	indent  int
	inner   []assay.Result
	said    strings.Builder // its YAML and comments
}

// own is the test's own result.
func (p *tapPoints) own() assay.Result {
	r := p.result
	r.Note = testNote(r.Note + "\n" + p.said.String())
	return r
}

// parseTAP reads TAP 13 or 14 (the specifications of testanything.org). A test
// that is not ok is FAILED; with TODO, and every one with SKIP, INFO. Tests that
// the plan promises and that are not there, tests beyond it, and a missing plan
// are FAILED: whoever wrote it may have died. Bail out! is CRASHED. The tests of
// a subtest are named SUBTEST/TEST.
func parseTAP(data []byte) ([]assay.Result, error) {
	r := &tapReader{stack: []*tapLevel{newTAPLevel("")}}
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\uFEFF"))) {
		number++
		if err := r.line(strings.TrimRight(string(line), " \t\r\n"), number); err != nil {
			return nil, resultError(number, "%v", err)
		}
		if r.bail != nil {
			break
		}
	}
	for len(r.stack) > 1 {
		r.orphan()
	}
	results := r.finish(r.stack[0], false)
	if r.bail != nil {
		results = append(results, *r.bail)
	}
	return results, nil
}

func newTAPLevel(name string) *tapLevel { return &tapLevel{name: name, planned: -1, next: 1} }

// line takes one line, without white space at its end.
func (r *tapReader) line(line string, number int) error {
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	if r.inBlock(text, indent) || text == "" {
		return nil
	}
	kind, rest := tapKindOf(text)
	level, ok := r.level(kind, rest, indent)
	if !ok {
		r.other(kind, rest, number)
		return nil
	}
	switch kind {
	case tapVersion:
		return checkTAPVersion(rest)
	case tapPlan:
		return level.plan(rest)
	case tapPoint:
		return r.point(level, text, indent)
	case tapPragma:
		level.pragma(rest)
	case tapBail:
		r.bail = &assay.Result{Outcome: assay.Crashed, Note: "bailed out"}
		if why := testName(rest); why != "" {
			r.bail.Note += ": " + why
		}
	}
	return nil
}

// inBlock takes lines of a YAML block, which is indented more than the test that
// it belongs to, from --- to ... (TAP 13, "YAML blocks").
func (r *tapReader) inBlock(text string, indent int) bool {
	switch {
	case r.block > 0 && text == "..." && indent <= r.block:
		r.block = 0
		return true
	case r.block > 0 && (indent >= r.block || text == ""):
		r.note(strings.Repeat(" ", max(indent-r.block, 0)) + text)
		return true
	case r.noted != nil && text == "---" && indent > r.noted.indent:
		r.block = indent
		return true
	}
	r.block = 0
	return false
}

// note adds a line to the note of the newest test.
func (r *tapReader) note(text string) {
	if r.noted != nil && r.noted.said.Len() < maxTestNote {
		r.noted.said.WriteString(cut(text, maxTestNote) + "\n")
	}
}

// level finds the level that a line belongs to: the deepest, one more, or one
// further up, which ends those below it. It is false for a line that is not TAP,
// and for comments.
func (r *tapReader) level(kind tapKind, rest string, indent int) (*tapLevel, bool) {
	depth := indent / 4
	name, announces := strings.CutPrefix(rest, " Subtest: ")
	switch {
	case kind == tapComment && announces:
		r.announced = testName(name)
		return nil, false
	case kind == tapOther, kind == tapComment, indent%4 != 0, depth > len(r.stack), depth > maxTAPDepth:
		return nil, false
	case depth == len(r.stack):
		r.stack = append(r.stack, newTAPLevel(r.announced))
		r.stack[depth].strict = r.stack[depth-1].strict
		r.announced, r.noted = "", nil
	}
	for len(r.stack) > depth+2 || len(r.stack) == depth+2 && kind != tapPoint && kind != tapBail {
		r.orphan()
	}
	return r.stack[depth], true
}

// other takes a line that is not TAP, or a comment, which belongs to the failed
// test before it.
func (r *tapReader) other(kind tapKind, rest string, number int) {
	if kind == tapComment {
		if r.noted != nil && !strings.HasPrefix(rest, " Subtest: ") && r.noted.result.Outcome == assay.Failed {
			r.note(strings.TrimPrefix(rest, " "))
		}
		return
	}
	r.noted = nil
	level := r.stack[len(r.stack)-1]
	if level.strict {
		if level.strange++; level.strange == 1 {
			level.first = number
		}
	}
}

func checkTAPVersion(rest string) error {
	switch strings.TrimSpace(rest) {
	case "12", "13", "14":
		return nil
	}
	return fmt.Errorf("read TAP version %s: write TAP 13 or 14", shown(rest))
}

// plan takes what stands behind "1..".
func (l *tapLevel) plan(rest string) error {
	digits, after := cutDigits(rest)
	n, err := strconv.Atoi(digits)
	if err != nil || n > maxTAPNumber {
		return fmt.Errorf("take a plan of %s tests: write 1..N", shown(digits))
	}
	if l.plans++; l.plans > 1 {
		return nil // told at the end
	}
	l.planned = n
	if _, word, reason := tapDirective(after); n == 0 && word != "" {
		l.skipped = reason
	}
	return nil
}

// pragma turns strictness on or off; other pragmas are for other harnesses.
func (l *tapLevel) pragma(rest string) {
	for _, word := range strings.FieldsFunc(rest, func(r rune) bool { return r == ',' || r == ' ' }) {
		switch word {
		case "+strict":
			l.strict = true
		case "-strict":
			l.strict = false
		}
	}
}

// point takes a test. A subtest that is open is its own and ends with it.
func (r *tapReader) point(level *tapLevel, text string, indent int) error {
	if r.points++; r.points > MaxResults {
		return fmt.Errorf("read more than %d tests: write fewer", MaxResults)
	}
	p := readTAPPoint(text, level.next)
	p.indent = indent
	level.next = min(p.number, maxTAPNumber) + 1
	level.points = append(level.points, p)
	r.noted = p
	if last := len(r.stack) - 1; r.stack[last] != level {
		inner := r.stack[last]
		r.stack = r.stack[:last]
		r.adopt(p, inner)
	}
	return nil
}

// readTAPPoint reads a line such as "not ok 2 - it works # TODO later"; next is
// the number of a test that has none.
func readTAPPoint(text string, next int) *tapPoints {
	rest, bad := strings.CutPrefix(text, "not ")
	rest = strings.TrimSpace(strings.TrimPrefix(rest, "ok"))
	p := &tapPoints{number: next, bad: bad, result: assay.Result{Outcome: assay.Passed}}
	if digits, after := cutDigits(rest); digits != "" && (after == "" || strings.ContainsRune(" \t-#", rune(after[0]))) {
		rest, p.number = strings.TrimSpace(after), maxTAPNumber+1
		if n, err := strconv.Atoi(digits); err == nil && n <= maxTAPNumber {
			p.number = n
		}
	}
	description, word, reason := tapDirective(strings.TrimPrefix(rest, "- "))
	p.excused = word != ""
	switch {
	case word == "skip":
		p.result.Outcome, p.result.Note = assay.Info, testNote(joined("skipped", reason))
	case word == "todo" && bad:
		p.result.Outcome, p.result.Note = assay.Info, testNote(joined("not done yet", reason))
	case word == "todo":
		p.result.Note = testNote(joined("passed, though not expected to yet", reason))
	case bad:
		p.result.Outcome = assay.Failed
	}
	if description = testName(description); description == "" || description == "-" {
		description = fmt.Sprintf("test %d", p.number)
	}
	p.result.Checkname = "." + description
	return p
}

func joined(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// tapDirective cuts a description at the # that begins SKIP or TODO, in any case
// of letters; word is "" without. \# and \\ are a # and a \ of the text.
func tapDirective(text string) (description, word, reason string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '#' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
			continue
		case c == '#':
			if word, reason := tapWord(text[i+1:]); word != "" {
				return strings.TrimSpace(b.String()), word, reason
			}
		}
		b.WriteByte(text[i])
	}
	return strings.TrimSpace(b.String()), "", ""
}

// tapWord reads a directive and its reason. "SKIPPED" is SKIP, too (TAP 13).
func tapWord(text string) (word, reason string) {
	text = strings.TrimLeft(text, " \t")
	for _, word := range []string{"skip", "todo"} {
		if len(text) < len(word) || !strings.EqualFold(text[:len(word)], word) {
			continue
		}
		rest := text[len(word):]
		if word == "skip" {
			rest = strings.TrimLeft(rest, "pedPED")
		}
		if rest == "" || !isAlnum(rest[0]) {
			return word, strings.Trim(rest, " \t:")
		}
	}
	return "", ""
}

// adopt makes what a subtest came to that of the test which concludes it. Its
// own line is only told where the subtest does not say the same.
func (r *tapReader) adopt(p *tapPoints, level *tapLevel) {
	inner := r.finish(level, true)
	if p.result.Checkname == fmt.Sprintf(".test %d", p.number) && level.name != "" {
		p.result.Checkname = "." + level.name
	}
	for i := range inner {
		if p.excused && !inner[i].Outcome.Good() {
			inner[i].Outcome, inner[i].Note = assay.Info, testNote(p.result.Note+"\n"+inner[i].Note)
		}
		inner[i].Checkname = inside(p.result.Checkname, inner[i].Checkname)
	}
	p.inner = inner
	if p.bad && !p.excused && worstOf(inner).Good() && len(inner) > 0 {
		p.inner = append(p.inner, assay.Result{Checkname: p.result.Checkname, Outcome: assay.Failed, Note: "the subtest failed, though none of its tests did"})
	}
}

// inside names a test of a subtest: ".SUBTEST/TEST".
func inside(outer, inner string) string {
	return "." + cut(strings.TrimPrefix(outer, ".")+"/"+strings.TrimPrefix(inner, "."), maxTestName)
}

// orphan ends the deepest subtest without a test that concludes it: its own
// tests count, and that it was not concluded is one that failed.
func (r *tapReader) orphan() {
	last := len(r.stack) - 1
	level, outer := r.stack[last], r.stack[last-1]
	r.stack, r.noted = r.stack[:last], nil
	name := "." + level.name
	if level.name == "" {
		name = ".subtest"
	}
	p := &tapPoints{group: true, inner: r.finish(level, true)}
	for i := range p.inner {
		p.inner[i].Checkname = inside(name, p.inner[i].Checkname)
	}
	if r.bail == nil {
		p.inner = append(p.inner, assay.Result{Checkname: name, Outcome: assay.Failed, Note: "the subtest was never concluded"})
	}
	outer.points = append(outer.points, p)
}

// finish makes results of a level and holds them against its plan, unless the
// tests bailed out.
func (r *tapReader) finish(l *tapLevel, inner bool) []assay.Result {
	var results []assay.Result
	var numbers []int
	for _, p := range l.points {
		if l.planned >= 0 && p.number > l.planned && r.bail == nil {
			p.result.Outcome, p.result.Note = assay.Failed, testNote(fmt.Sprintf("not planned: the plan is 1..%d\n%s", l.planned, p.result.Note))
			p.inner = nil
		}
		numbers = append(numbers, p.number)
		if p.group || len(p.inner) > 0 {
			results = append(results, p.inner...)
		} else {
			results = append(results, p.own())
		}
	}
	if r.bail != nil {
		return results
	}
	return append(results, l.against(numbers, inner)...)
}

// against tells what is wrong with the numbers of the tests.
func (l *tapLevel) against(numbers []int, inner bool) []assay.Result {
	var bad []assay.Result
	fail := func(name, note string) {
		bad = append(bad, assay.Result{Checkname: "." + name, Outcome: assay.Failed, Note: note})
	}
	for _, gap := range gaps(numbers, l.planned) {
		name := fmt.Sprintf("test %d", gap[0])
		if gap[0] != gap[1] {
			name = fmt.Sprintf("tests %d to %d", gap[0], gap[1])
		}
		fail(name, fmt.Sprintf("missing: the plan is 1..%d", l.planned))
	}
	switch {
	case l.plans == 0:
		fail("plan", "there is no plan: the tests may have ended early")
	case l.plans > 1:
		fail("plan", fmt.Sprintf("there are %d plans: there may be one", l.plans))
	case l.planned == 0 && len(numbers) == 0 && !inner:
		bad = append(bad, assay.Result{Outcome: assay.Info, Note: testNote(joined("skipped", l.skipped))})
	}
	if l.strange > 0 {
		fail("strict", fmt.Sprintf("what is not TAP is forbidden by pragma +strict: lines: %d, the first: %d", l.strange, l.first))
	}
	return bad
}

// gaps lists what of 1 to planned is not among the numbers, as first and last.
func gaps(numbers []int, planned int) [][2]int {
	slices.Sort(numbers)
	var list [][2]int
	next := 1
	for _, n := range append(numbers, planned+1) {
		if n = min(n, planned+1); n > next {
			list = append(list, [2]int{next, n - 1})
		}
		next = max(next, n+1)
	}
	return list
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// cutDigits cuts the digits off that a text begins with.
func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
)

// terminal is what a terminal shows of what is written to it: as much of ECMA-48
// as the screen uses. Rows never leave it.
type terminal struct {
	columns  int
	rows     [][]rune
	row, col int
}

func newTerminal(columns int) *terminal { return &terminal{columns: columns, rows: [][]rune{nil}} }

func (t *terminal) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		if strings.HasPrefix(text, "\x1b[") {
			end := strings.IndexAny(text[2:], "ABCDHJKm") + 2
			t.control(text[end], text[2:end])
			text = text[end+1:]
			continue
		}
		r := []rune(text)[0]
		t.put(r)
		text = text[len(string(r)):]
	}
	return len(p), nil
}

func (t *terminal) control(final byte, argument string) {
	n := 1
	_, _ = fmt.Sscan(argument, &n)
	switch final {
	case 'A':
		t.row = max(0, t.row-n)
	case 'J':
		t.rows = t.rows[:t.row+1]
		t.rows[t.row] = t.rows[t.row][:min(t.col, len(t.rows[t.row]))]
	}
}

func (t *terminal) put(r rune) {
	switch r {
	case '\r':
		t.col = 0
		return
	case '\n': // as a terminal driver makes of it (ONLCR)
		t.row, t.col = t.row+1, 0
	default:
		if t.col == t.columns {
			t.row, t.col = t.row+1, 0
		}
		for len(t.rows) <= t.row {
			t.rows = append(t.rows, nil)
		}
		line := t.rows[t.row]
		t.rows[t.row] = append(line[:min(t.col, len(line))], r)
		t.col++
	}
	for len(t.rows) <= t.row {
		t.rows = append(t.rows, nil)
	}
}

func (t *terminal) String() string {
	var b strings.Builder
	for _, row := range t.rows {
		b.WriteString(strings.TrimRight(string(row), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// testScreen draws for 40 columns, with a clock that the test moves.
func testScreen(w *terminal, clock *time.Time) *screen {
	env := map[string]string{"LANG": "C.UTF-8", "NO_COLOR": "1"}
	return &screen{
		w: w, now: func() time.Time { return *clock }, marks: marksFor(func(name string) string { return env[name] }),
		met: map[int]bool{}, size: func() (int, int) { return w.columns, 12 },
	}
}

// TestScreen holds what is shown at each moment against what a person would see.
func TestScreen(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newTerminal(40)
	s := testScreen(w, &clock)
	say := func(number int, stream, format string, args ...any) {
		fmt.Fprintf(s, "2026-01-01T00:00:00.000Z %d %s %s\n", number, stream, fmt.Sprintf(format, args...))
	}
	begin := func(number int, name string) assay.StepRun {
		run := assay.StepRun{Number: number, Name: name, Started: clock}
		s.step(run)
		return run
	}
	end := func(run assay.StepRun, took time.Duration, outcome string) {
		clock = run.Started.Add(took)
		run.Finished, run.Outcome = clock, outcome
		s.step(run)
	}
	shows := func(what, want string) {
		t.Helper()
		if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), w.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}

	s.begin("greets: hello-1.0-1 (koji_build)", assay.Plan{Steps: []assay.Step{{Name: "build"}, {Name: "greet"}, {Name: "tidy"}, {Name: "never"}}})
	boot := begin(0, "boot")
	say(0, "run", "boot: waiting for a machine")
	clock = clock.Add(2500 * time.Millisecond)
	s.redraw()
	shows("a machine comes up", `
greets: hello-1.0-1 (koji_build)
  ▸ boot  2.5s
      boot: waiting for a machine
`)
	end(boot, 21*time.Second, "ok")
	upload := begin(0, "upload")
	end(upload, 3*time.Millisecond, "ok")
	build := begin(1, "build")
	for i := range 20 {
		say(1, "out", "line %d of what is longer than the window is wide", i)
	}
	clock = clock.Add(65 * time.Second)
	s.redraw()
	shows("a step runs", `
greets: hello-1.0-1 (koji_build)
  ✓ boot  21s
  ▸ 1 build  1m05s
      line 12 of what is longer than th
      line 13 of what is longer than th
      line 14 of what is longer than th
      line 15 of what is longer than th
      line 16 of what is longer than th
      line 17 of what is longer than th
      line 18 of what is longer than th
      line 19 of what is longer than th
`)
	end(build, 66*time.Second, "ok")
	greet := begin(2, "greet")
	say(2, "out", "\x1b[31mred\x1b[0m and \x1b]0;title\x07 10%%\r 99%%\rdone\ttab")
	say(2, "err", "why")
	end(greet, 300*time.Millisecond, "failed")
	say(2, "run", `step 2 "greet" failed: exit 1: why`)
	say(3, "run", "step 3: tidy (shell): skipped, no step has failed")
	collect := begin(0, "collect")
	say(0, "run", "artifacts kept: 1, 5 B")
	say(0, "run", `left out "x": neither a plain file nor a directory`)
	end(collect, 3*time.Millisecond, "ok")
	s.close()
	shows("it has ended", `
greets: hello-1.0-1 (koji_build)
  ✓ boot  21s
  ✓ 1 build  1m06s  20 lines
  ✗ 2 greet  0.3s  failed
      done    tab
      why
      step 2 "greet" failed: exit 1: why
  - 3 tidy  skipped
      left out "x": neither a plain file
 nor a directory
  - 4 never  not run
`)
}

// TestScreenInANarrowerWindow draws over lines that the terminal has broken.
func TestScreenInANarrowerWindow(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newTerminal(40)
	s := testScreen(w, &clock)
	s.begin("c", assay.Plan{Steps: []assay.Step{{Name: "one"}}})
	s.step(assay.StepRun{Number: 1, Name: "one", Started: clock})
	fmt.Fprint(s, "x 1 out "+strings.Repeat("a", 60)+"\n")
	s.redraw()
	// A terminal that breaks lines anew: 39 columns become two rows of 20.
	narrow := newTerminal(20)
	_, _ = narrow.Write([]byte(w.String()))
	s.w, s.size = narrow, func() (int, int) { return 20, 12 }
	s.redraw()
	if diff := cmp.Diff("c\n  ▸ 1 one  0.0s\n      aaaaaaaaaaaaa\n", narrow.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMarks(t *testing.T) {
	for _, tt := range []struct {
		env    map[string]string
		mark   string
		colour bool
	}{
		{map[string]string{"LANG": "de_DE.UTF-8"}, "✓", true},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "ok", true},
		{map[string]string{"LC_CTYPE": "C.utf8", "NO_COLOR": "yes"}, "✓", false},
		{nil, "ok", true},
	} {
		if m := marksFor(func(name string) string { return tt.env[name] }); m.passed != tt.mark || m.colour != tt.colour {
			t.Errorf("%v: %+v", tt.env, m)
		}
	}
	if newScreen(&bytes.Buffer{}) != nil {
		t.Error("a buffer is no terminal")
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 50 * time.Millisecond: "0.0s", 1290 * time.Millisecond: "1.2s", 12 * time.Second: "12s",
		185 * time.Second: "3m05s", 62*time.Minute + time.Second: "1h02m",
	} {
		if got := duration(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := count(1, "line") + count(1234567, " line"); got != "1 line1,234,567  lines" {
		t.Errorf("%q", got)
	}
}

func FuzzPlainLine(f *testing.F) {
	for _, seed := range []string{"", "a\tb", "\x1b[2J\x1b]0;x\x07", "\xff\x1b", "a\rb\r", "\u202eabc", "\x9b31m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := plainLine(text)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' }) {
			t.Errorf("%q became %q", text, got)
		}
		if cut := fit(got, 20); width(cut) > 20 {
			t.Errorf("%q is wider than 20", cut)
		}
	})
}

func TestDifferences(t *testing.T) {
	result := func(name string, o assay.Outcome) runResult {
		return runResult{Item: "i", Type: "t", Checkname: name, Outcome: o}
	}
	then := outcome{"failed", 1, []runResult{result("a", assay.Failed), result("b", assay.Passed), result("c", assay.Passed), result("a", assay.Passed)}}
	now := outcome{"passed", 0, []runResult{result("a", assay.Passed), result("a", assay.Passed), result("b", assay.Passed), result("d", assay.Info)}}
	var b bytes.Buffer
	writeDifference(&b, then, now)
	want := `
Against the server's execution:
  changed  verdict: failed -> passed
  changed  exit code: 1 -> 0
  changed  a of i: FAILED -> PASSED
  gone     c of i: PASSED -> -
  new      d of i: - -> INFO
  same     2 more results
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestResultYAML reads back what is written.
func TestResultYAML(t *testing.T) {
	want := []assay.Result{
		{Item: "i: x", Type: "koji_build", Checkname: "c.a", Outcome: assay.Passed, Note: "two\nlines: #", Artifact: "log.txt", Data: map[string][]string{"arch": {"x86_64", "no"}, "n": {"3"}}},
		{Checkname: "yes", Outcome: assay.NeedsInspection},
	}
	data, err := resultYAML(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := checks.ParseResults(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, data)
	}
}

func TestPlainRepository(t *testing.T) {
	for address, good := range map[string]bool{
		"https://src.example.org/checks/hello.git": true, "ssh://git@src.example.org/x": true, "git@src.example.org:x.git": true,
		"/srv/git/x.git": false, "file:///srv/git/x.git": false, "../x": false, "-oProxyCommand=x": false, "ssh://-oProxyCommand=x/y": false,
		"ext::sh -c x": false, "-x@host:y": false, "git@host:-y": false, "": false,
	} {
		if err := plainRepository(need{what: "the check", address: address}); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := plainRepository(need{address: "/srv/git/x.git", local: true}); err != nil {
		t.Error(err)
	}
}

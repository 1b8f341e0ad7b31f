package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

// screen shows a run on a terminal: a line for each step, the one that runs with
// its duration and its newest output below, which is folded away when it passes
// and stays, all of it, when it does not. It owns the lines from the first that
// it draws until close. Its methods may be called from several goroutines.
type screen struct {
	w     io.Writer
	size  func() (columns, rows int) // asked at each drawing: windows change
	now   func() time.Time
	marks marks

	stopTicking func() // ends the clock and joins it; nil for none

	mu      sync.Mutex
	plan    []assay.Step
	met     map[int]bool  // steps that ran or were skipped
	running assay.StepRun // Name is "" while nothing runs
	said    openLines     // what the running one printed
	drawn   []int         // widths of the lines that will be drawn over
	out     bytes.Buffer  // what is written in one go
	failed  error         // of writing
}

// marks are what stands before a step, and how it is coloured.
type marks struct {
	passed, failed, skipped, running, gap string
	colour                                bool
}

// marksFor are the marks that a terminal can show, by its user's environment:
// locale(7), and NO_COLOR, which asks for no colours when it is set to anything.
func marksFor(getenv func(string) string) marks {
	locale := getenv("LANG")
	for _, name := range []string{"LC_CTYPE", "LC_ALL"} {
		if v := getenv(name); v != "" {
			locale = v
		}
	}
	m := marks{passed: "ok", failed: "!!", skipped: "--", running: ">>", gap: "...", colour: getenv("NO_COLOR") == ""}
	if locale = strings.ToLower(locale); strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8") {
		m.passed, m.failed, m.skipped, m.running, m.gap = "✓", "✗", "-", "▸", "…"
	}
	return m
}

// ticks is how often the durations move.
const ticks = 200 * time.Millisecond

// newScreen draws on a terminal, nil for what is none or cannot move its cursor.
func newScreen(w io.Writer) *screen {
	f, ok := w.(*os.File)
	if kind := os.Getenv("TERM"); !ok || !isTerminal(w) || kind == "" || kind == "dumb" {
		return nil
	}
	s := &screen{w: w, now: time.Now, marks: marksFor(os.Getenv), met: map[int]bool{}, size: func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || rows <= 0 {
			return 80, 24
		}
		return columns, rows
	}}
	s.startTicking()
	return s
}

// startTicking draws again as time goes by and whenever the window changes.
func (s *screen) startTicking() {
	done, ended := make(chan struct{}), make(chan struct{})
	tick := time.NewTicker(ticks)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		defer close(ended)
		for {
			select {
			case <-tick.C:
			case <-resized:
			case <-done:
				return
			}
			s.redraw()
		}
	}()
	s.stopTicking = func() {
		tick.Stop()
		signal.Stop(resized)
		close(done)
		<-ended
	}
}

// begin writes the headline.
func (s *screen) begin(headline string, plan assay.Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = plan.Steps
	s.line(s.paint("1", plainLine(headline)))
	s.flush()
}

// Write takes whole lines of a runner.Log.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range bytes.Lines(p) {
		s.take(string(line))
	}
	s.flush()
	return len(p), s.failed
}

// take keeps one line for the step that runs, or writes it.
func (s *screen) take(line string) {
	number, stream, text, ok := cutLogLine(line)
	if !ok {
		return
	}
	name := s.stepName(number)
	switch {
	case stream == runner.StreamRun && strings.HasPrefix(text, fmt.Sprintf("step %d: ", number)):
		if strings.Contains(text, ": skipped, ") && s.running.Name == "" {
			s.met[number] = true
			s.erase()
			s.line(s.title(s.marks.skipped, "2", number, name) + "  skipped")
		}
	case s.running.Name != "" && s.running.Number == number:
		s.said.add(plainLine(text))
	case number > 0: // why it failed comes when it has ended
		s.erase()
		s.line("      " + plainLine(text))
	case warns(text):
		s.erase()
		s.line("  " + plainLine(text))
	}
}

// warns tells that a line of the runner's own is no matter of course.
func warns(text string) bool {
	for _, start := range []string{"left out ", "the artifacts are incomplete", "cannot "} {
		if strings.HasPrefix(text, start) {
			return true
		}
	}
	return false
}

// cutLogLine reads "TIME STEP STREAM TEXT"; see runner.Log.
func cutLogLine(line string) (number int, stream, text string, ok bool) {
	parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
	if len(parts) < 4 {
		return 0, "", "", false
	}
	number, err := strconv.Atoi(parts[1])
	return number, parts[2], parts[3], err == nil
}

func (s *screen) stepName(number int) string {
	if number < 1 || number > len(s.plan) {
		return ""
	}
	return s.plan[number-1].Name
}

// step is told of every begin and end.
func (s *screen) step(run assay.StepRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	if run.Finished.IsZero() {
		s.running, s.met[run.Number] = run, true
		s.said = openLines{}
		s.draw()
	} else {
		s.running = assay.StepRun{}
		s.ended(run)
	}
	s.flush()
}

// longPhase is when a part of the run that is no step is worth a line.
const longPhase = time.Second

// ended writes what stays of a step.
func (s *screen) ended(run assay.StepRun) {
	took := run.Finished.Sub(run.Started)
	good := run.Outcome == "ok"
	switch {
	case good && (run.Number > 0 || took >= longPhase):
		line := s.title(s.marks.passed, "32", run.Number, run.Name) + "  " + duration(took)
		if n := s.said.count; n > 0 && run.Number > 0 {
			line += "  " + s.paint("2", count(n, "line"))
		}
		s.line(line)
	case !good:
		s.line(s.title(s.marks.failed, "31", run.Number, run.Name) + "  " + duration(took) + "  " + run.Outcome)
	}
	lines, before := s.said.last(len(s.said.lines))
	if !good && before > 0 {
		s.line("      " + s.marks.gap + " " + count(before, "line") + " before; --results-dir keeps them all")
	}
	for _, text := range lines {
		if !good || warns(text) {
			s.line("      " + text)
		}
	}
}

// title is a step's mark, number and name.
func (s *screen) title(mark, colour string, number int, name string) string {
	if number > 0 {
		name = strconv.Itoa(number) + " " + name
	}
	return "  " + s.paint(colour, mark) + " " + plainLine(name)
}

// redraw moves the duration on.
func (s *screen) redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running.Name == "" {
		return
	}
	s.erase()
	s.draw()
	s.flush()
}

// liveLines is how many lines of a running step's output are shown.
const liveLines = 8

// draw writes the running step and its newest output. No line of it reaches the
// window's edge, so that each takes one row.
func (s *screen) draw() {
	columns, rows := s.size()
	room := min(liveLines, rows-2)
	if s.running.Name == "" || rows < 2 || columns < 8 {
		return
	}
	head := plainLine(s.running.Name)
	if s.running.Number > 0 {
		head = strconv.Itoa(s.running.Number) + " " + head
	}
	took := "  " + duration(s.now().Sub(s.running.Started))
	head = fit("  "+s.marks.running+" "+head, columns-1-width(took)) + took
	s.live(head)
	lines, _ := s.said.last(room)
	for _, text := range lines {
		s.live(fit("      "+text, columns-1))
	}
}

func (s *screen) live(text string) {
	s.drawn = append(s.drawn, width(text))
	s.out.WriteString(s.paint("2", text))
	s.out.WriteByte('\n')
}

// erase takes away what draw wrote. In a window that became narrower the
// terminal may have broken lines into several rows.
func (s *screen) erase() {
	if len(s.drawn) == 0 {
		return
	}
	columns, height := s.size()
	rows := 0
	for _, w := range s.drawn {
		rows += max(1, (w+columns-1)/columns)
	}
	fmt.Fprintf(&s.out, "\x1b[%dA\r\x1b[J", min(rows, max(1, height-1)))
	s.drawn = s.drawn[:0]
}

func (s *screen) line(text string) {
	s.out.WriteString(text)
	s.out.WriteByte('\n')
}

func (s *screen) flush() {
	if _, err := s.w.Write(s.out.Bytes()); err != nil && s.failed == nil {
		s.failed = err
	}
	s.out.Reset()
}

func (s *screen) paint(code, text string) string {
	if !s.marks.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// close ends the drawing and names the steps that did not run.
func (s *screen) close() {
	if s.stopTicking != nil {
		s.stopTicking()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.running = assay.StepRun{}
	for i, step := range s.plan {
		if !s.met[i+1] {
			s.line(s.title(s.marks.skipped, "2", i+1, step.Name) + "  not run")
		}
	}
	s.flush()
}

// openLines are the newest lines of a step, within bounds.
type openLines struct {
	lines []string
	count int // all there were
}

// keptLines is how many lines of a step's output are kept, for when it fails.
const keptLines = 500

func (o *openLines) add(text string) {
	o.count++
	if o.lines = append(o.lines, text); len(o.lines) >= 2*keptLines {
		o.lines = slices.Clone(o.lines[len(o.lines)-keptLines:])
	}
}

// last returns at most n of the newest lines, and how many came before them.
func (o *openLines) last(n int) (lines []string, before int) {
	n = max(0, min(n, keptLines, len(o.lines)))
	return o.lines[len(o.lines)-n:], o.count - n
}

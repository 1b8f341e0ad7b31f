package web

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// timeline is one attempt: what happened, when, for how long.
type timeline struct {
	Attempt int
	Entries []entry
	More    int // entries left out
	Took    string
	LogURL  string
}

// entry is one bar of a timeline. X and Width are in percent of the attempt, for
// the attributes of an SVG rectangle.
type entry struct {
	Label, Took string
	Number      int // of a formula's step, 0 for what the runner does
	Chip        chip
	Class       string // of the bar
	X, Width    string
	LogURL      string // the first line of the step in the log, "" if unknown
	Started     moment
}

// timelines lays out the attempts, newest first. The wait in the queue belongs
// to the first attempt.
func (s *server) timelines(e assay.Execution, steps []assay.StepRun, lines map[int]int64) []timeline {
	byAttempt := map[int][]assay.StepRun{}
	for _, st := range steps {
		byAttempt[st.Attempt] = append(byAttempt[st.Attempt], st)
	}
	var all []timeline
	for n := max(e.Attempt, 1); n >= max(1, e.Attempt-maxOldAttempt); n-- {
		spans := s.spans(e, n, byAttempt[n])
		if len(spans) == 0 {
			continue
		}
		t := s.layOut(spans)
		t.Attempt, t.LogURL = n, executionURL(e.ID)+"/log?attempt="+strconv.Itoa(n)
		if n == e.Attempt {
			linkSteps(t.Entries, e.ID, lines)
		}
		all = append(all, t)
	}
	return all
}

// span is an entry before it is laid out.
type span struct {
	assay.StepRun
	queue bool
}

func (s *server) spans(e assay.Execution, attempt int, steps []assay.StepRun) []span {
	var spans []span
	if attempt == 1 && !e.Created.IsZero() {
		begun := e.Started
		if len(steps) > 0 {
			begun = steps[0].Started
		} else if e.Attempt > 1 {
			begun = e.Created
		}
		spans = append(spans, span{assay.StepRun{Name: "waiting in the queue", Started: e.Created, Finished: begun, Outcome: "ok"}, true})
	}
	for _, st := range steps {
		if st.Finished.IsZero() && (e.State == assay.StateFinished || attempt < e.Attempt) {
			// Its runner died: nobody will say when it ended.
			st.Finished = e.Finished
			if attempt < e.Attempt {
				st.Finished = st.Started
			}
			if st.Outcome == "" {
				st.Outcome = "never finished"
			}
		}
		spans = append(spans, span{st, false})
	}
	return spans
}

func (s *server) layOut(spans []span) timeline {
	now := s.Now()
	first, last := spans[0].Started, spans[0].Started
	for _, sp := range spans {
		if sp.Started.Before(first) {
			first = sp.Started
		}
		if end := sp.end(now); end.After(last) {
			last = end
		}
	}
	total := max(last.Sub(first), time.Millisecond)
	t := timeline{Took: human(last.Sub(first))}
	for i, sp := range spans {
		if i == maxTimeline {
			t.More = len(spans) - maxTimeline
			break
		}
		t.Entries = append(t.Entries, s.entry(sp, first, total))
	}
	return t
}

func (sp span) end(now time.Time) time.Time {
	if sp.Finished.IsZero() {
		return now
	}
	return sp.Finished
}

func (s *server) entry(sp span, first time.Time, total time.Duration) entry {
	const least = 0.6 // percent: a bar that cannot be seen says nothing
	took := max(sp.end(s.Now()).Sub(sp.Started), 0)
	width := max(100*took.Seconds()/total.Seconds(), least)
	x := min(100*sp.Started.Sub(first).Seconds()/total.Seconds(), 100-width)
	en := entry{
		Label: plain(sp.Name), Number: sp.Number, Chip: stepChip(sp.Outcome), Took: human(took),
		X: percent(max(x, 0)), Width: percent(width), Started: s.moment(sp.Started),
	}
	en.Class = "bar-" + en.Chip.Class
	if sp.queue {
		en.Class, en.Chip = "bar-queued", chip{}
		if sp.Finished.IsZero() {
			en.Chip = chip{"queued", "queued"}
		}
	}
	return en
}

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

func linkSteps(entries []entry, id string, lines map[int]int64) {
	for i := range entries {
		if n, ok := lines[entries[i].Number]; ok && entries[i].Number > 0 {
			entries[i].LogURL = fmt.Sprintf("%s/log?line=%d#L%d", executionURL(id), n, n)
		}
	}
}

// localCommands are the shell commands that do the same on the reader's own
// machine. They are given only when every part is a plain word or can be quoted
// so that what is read is what runs.
func localCommands(e assay.Execution) string {
	repo, source := showAddress(e.ChecksRepo).Text, showAddress(e.SourceRepo).Text
	for _, part := range []string{repo, source, e.ChecksCommit, e.SourceCommit, e.Path, e.Check, e.Item, e.Type, e.Arch, e.Variant} {
		if strings.ContainsFunc(part, deceptive) || strings.ContainsRune(part, '\uFFFD') {
			return ""
		}
	}
	if repo == "" || e.Path == "" || e.Item == "" || e.Type == "" {
		return ""
	}
	dir := "checks-" + safeName(e.Package)
	run := "assay run " + localTarget(e, dir) + " -i " + quote(e.Item) + " -t " + quote(e.Type)
	if e.Arch != "" && e.Arch != "noarch" {
		run += " -a " + quote(e.Arch)
	}
	if e.Variant != "" {
		for choice := range strings.SplitSeq(e.Variant, ",") {
			run += " --var " + quote(choice)
		}
	}
	commands := cloneCommands(repo, e.ChecksCommit, dir)
	if source != "" {
		dir := "source-" + safeName(e.Package)
		commands += cloneCommands(source, e.SourceCommit, dir)
		run += " --sources " + dir
	}
	if len(e.Builds) > 0 {
		run += " --builds DIRECTORY-OF-THE-BUILDS"
	}
	return commands + run + " --vm"
}

// localTarget is what assay run is to run: the formula's file, or, where that has
// more than this check in it or the check needs others, the whole repository's check
// of this name.
func localTarget(e assay.Execution, dir string) string {
	if ext := path.Ext(e.Path); len(e.Needs) == 0 && (ext == ".yml" || ext == ".yaml") {
		return quote(dir + "/" + e.Path)
	}
	return quote(dir) + " --check " + quote(e.Check)
}

// cloneCommands bring a repository into a directory, at a commit.
func cloneCommands(repo, commit, dir string) string {
	commands := "git clone -- " + quote(repo) + " " + dir + "\n"
	if isSHA(commit) {
		commands += "git -C " + dir + " checkout --detach " + quote(commit) + "\n"
	}
	return commands
}

func isSHA(s string) bool {
	return len(s) >= 40 && strings.Trim(s, "0123456789abcdef") == ""
}

// quote makes one word of a POSIX shell.
func quote(s string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%"
	if s != "" && strings.Trim(s, safe) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// safeName is the last part of a package's name, fit for a directory.
func safeName(name string) string {
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, name[strings.LastIndexByte(name, '/')+1:])
	if base == "" {
		return "repository"
	}
	return base[:min(len(base), 60)]
}

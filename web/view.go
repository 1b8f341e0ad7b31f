package web

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// chip is a word with a symbol and a colour. Class is one of a fixed set, never
// a word from outside.
type chip struct{ Class, Word string }

// executionChip is the verdict, or the state while there is none.
func executionChip(e assay.Execution) chip {
	if e.State == assay.StateQueued || e.State == assay.StateRunning {
		return chip{string(e.State), string(e.State)}
	}
	switch e.Verdict {
	case assay.VerdictPassed, assay.VerdictFailed, assay.VerdictCrashed,
		assay.VerdictErrored, assay.VerdictCancelled, assay.VerdictSkipped:
		return chip{string(e.Verdict), string(e.Verdict)}
	}
	return chip{"errored", "no verdict"}
}

// outcomeChip is a result's outcome in ResultsDB's words.
func outcomeChip(o assay.Outcome) chip {
	classes := map[assay.Outcome]string{
		assay.Passed: "passed", assay.Info: "info", assay.Failed: "failed",
		assay.NeedsInspection: "errored", assay.Aborted: "cancelled", assay.Crashed: "crashed",
	}
	if o == "" {
		o = assay.NeedsInspection
	}
	word := strings.ToLower(strings.ReplaceAll(string(o), "_", " "))
	if class, ok := classes[o]; ok {
		return chip{class, word}
	}
	return chip{"errored", clip(plain(word), 18)}
}

// stepChip is the outcome of one entry of the timeline.
func stepChip(outcome string) chip {
	switch outcome {
	case "":
		return chip{"running", "running"}
	case "ok":
		return chip{"passed", "ok"}
	case "failed", "crashed", "errored":
		return chip{outcome, outcome}
	case "timed out":
		return chip{"failed", outcome}
	}
	return chip{"errored", clip(plain(outcome), 18)}
}

// moment is a time in the three ways a page needs it. The zero moment is shown
// as a dash.
type moment struct{ ISO, Full, Relative string }

func (s *server) moment(t time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	t = t.UTC()
	return moment{t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC"), relative(s.Now().Sub(t), t)}
}

func relative(ago time.Duration, t time.Time) string {
	switch {
	case ago < -time.Minute:
		return t.Format("2 Jan 2006, 15:04")
	case ago < 10*time.Second:
		return "just now"
	case ago < time.Minute:
		return fmt.Sprintf("%d s ago", ago/time.Second)
	case ago < time.Hour:
		return fmt.Sprintf("%d min ago", ago/time.Minute)
	case ago < 48*time.Hour:
		return fmt.Sprintf("%d h ago", ago/time.Hour)
	case ago < 30*24*time.Hour:
		return fmt.Sprintf("%d days ago", ago/(24*time.Hour))
	}
	return t.Format("2 Jan 2006")
}

// human writes a duration for people: "120 ms", "4.2 s", "1 min 05 s",
// "2 h 03 min".
func human(d time.Duration) string {
	switch {
	case d < 0:
		return "0 ms"
	case d < 995*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 59500*time.Millisecond:
		return fmt.Sprintf("%d s", d.Round(time.Second)/time.Second)
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
}

// size writes a number of bytes for people, in powers of 1,000.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", max(n, 0))
	}
	units := []string{"kB", "MB", "GB", "TB"}
	f, unit := float64(n)/1000, 0
	for f >= 999.5 && unit < len(units)-1 {
		f, unit = f/1000, unit+1
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %s", f, units[unit])
	}
	return fmt.Sprintf("%.0f %s", f, units[unit])
}

// count writes a number with commas: "1,234,567".
func count(n int64) string {
	digits := fmt.Sprintf("%d", n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// clip shortens text to at most n characters and says so with an ellipsis.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// short is a commit as people say it.
func short(sha string) string {
	if len(sha) > 10 {
		return sha[:10]
	}
	return sha
}

// deceptive tells whether a character can change how the text around it is
// shown: controls and the marks that reorder text. A page shows each as U+FFFD.
func deceptive(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// plain makes one line of safe text out of anything: no controls, no
// reordering, valid UTF-8, and not longer than a page can bear.
func plain(s string) string {
	const longest = 4096
	return clip(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case deceptive(r):
			return utf8.RuneError
		}
		return r
	}, s), longest)
}

// address is a repository or a download as a page shows it: without the
// password that a configured address may carry, and as a link only if it is
// one that a browser opens. Label is Text without what everybody knows.
type address struct{ Text, Label, Link string }

func showAddress(raw string) address {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		return address{Text: plain(raw), Label: plain(raw)}
	}
	u.User = withoutSecret(u)
	a := address{Text: plain(u.String()), Label: plain(u.String())}
	if (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		a.Link = u.String()
		a.Label = strings.TrimPrefix(strings.TrimPrefix(a.Text, "https://"), "http://")
	}
	return a
}

// withoutSecret keeps the user of an ssh address, where it is part of the
// address, and drops everything else before the @.
func withoutSecret(u *url.URL) *url.Userinfo {
	if u.User == nil || u.Scheme == "http" || u.Scheme == "https" {
		return nil
	}
	return url.User(u.User.Username())
}

// commitView is a commit, linked where the forge's addresses are known.
type commitView struct {
	Short, SHA string
	Link       string
	Repo       address
	Pull       int
}

func showCommit(repo, sha string, pull int) commitView {
	v := commitView{Short: plain(short(sha)), SHA: plain(sha), Repo: showAddress(repo), Pull: pull}
	u, err := url.Parse(v.Repo.Link)
	if err == nil && u.Host == "github.com" && sha != "" {
		v.Link = strings.TrimSuffix(strings.TrimSuffix(v.Repo.Link, "/"), ".git") + "/commit/" + url.PathEscape(sha)
	}
	return v
}

// Addresses of pages.

func executionURL(id string) string { return "/executions/" + url.PathEscape(id) }
func eventURL(id string) string     { return "/events/" + url.PathEscape(id) }

func packageURL(name string) string {
	return (&url.URL{Path: "/packages/" + name}).EscapedPath()
}

func artifactURL(id, path string) string {
	return executionURL(id) + "/artifacts" + (&url.URL{Path: "/" + path}).EscapedPath()
}

// row is one execution in a list.
type row struct {
	URL, Package, PackageURL string
	Check, Arch, Item        string
	Variant                  string
	Chip                     chip
	Commit                   string
	When                     moment
	Took                     string
	Reason                   string
}

func (s *server) row(e assay.Execution) row {
	const longest = 200 // characters of a name or a reason in a list
	name := func(s string) string { return clip(plain(s), longest) }
	return row{
		URL: executionURL(e.ID), Package: name(e.Package), PackageURL: packageURL(e.Package),
		Check: name(e.Check), Arch: name(e.Arch), Variant: name(e.Variant), Item: name(e.Item), Chip: executionChip(e),
		Commit: plain(short(itemCommit(e))), When: s.moment(e.Created), Took: s.took(e), Reason: name(e.Reason),
	}
}

func (s *server) rows(executions []assay.Execution) []row {
	rows := make([]row, len(executions))
	for i, e := range executions {
		rows[i] = s.row(e)
	}
	return rows
}

// itemCommit is the commit that an execution is about: its item's, or else the
// one that its status lands on.
func itemCommit(e assay.Execution) string {
	if e.SourceCommit != "" {
		return e.SourceCommit
	}
	return e.Target.SHA
}

// took is how long the newest attempt ran, so far if it still does.
func (s *server) took(e assay.Execution) string {
	switch {
	case e.Started.IsZero():
		return ""
	case e.State == assay.StateFinished && e.Finished.IsZero():
		return ""
	case e.State == assay.StateFinished:
		return human(e.Finished.Sub(e.Started))
	}
	return human(s.Now().Sub(e.Started))
}

func unfinished(executions []assay.Execution) bool {
	for _, e := range executions {
		if e.State != assay.StateFinished {
			return true
		}
	}
	return false
}

// lines makes safe text of several lines out of anything.
func lines(b []byte) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r':
			return -1
		case deceptive(r):
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(string(b), "\uFFFD"))
}

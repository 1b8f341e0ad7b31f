package checks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// bodhiComment says what Taskotron would have commented on updates; nothing is
// sent (COMPAT.md 1.1, bodhi_comment).
type bodhiComment struct {
	results expr
	report  *template
}

// The values of doreport.
const (
	reportAll      = "all"
	reportOnlyFail = "onlyfail"
)

func (c *bodhiComment) read(p *parser, args *yaml.Node) {
	words := []string{reportAll, reportOnlyFail}
	p.mapping(args, "bodhi_comment", []key{
		{name: "results", required: true, read: func(p *parser, n *yaml.Node) { c.results = p.reportText(n, "results", "") }},
		{name: "doreport", read: func(p *parser, n *yaml.Node) {
			before := len(p.mistakes)
			p.readLine(n, "doreport", &c.report)
			if len(p.mistakes) == before && !c.report.hasReference() && !slices.Contains(words, n.Value) {
				p.mistake(n, "use %s as doreport: %s", shown(n.Value), didYouMean(n.Value, words))
			}
		}},
	}, nil)
}

func (c *bodhiComment) resolve(s *scope) (assay.Action, error) {
	which := reportOnlyFail
	if c.report != nil {
		var err error
		if which, err = lineText(s, c.report, "doreport"); err != nil {
			return assay.Action{}, err
		}
	}
	if which != reportAll && which != reportOnlyFail {
		return assay.Action{}, fmt.Errorf("cannot use %s as doreport: write %s or %s", shown(which), reportAll, reportOnlyFail)
	}
	text, err := reportOf(c.results, s)
	if err != nil {
		return assay.Action{}, err
	}
	results, err := ParseReport([]byte(text))
	if err != nil {
		return assay.Action{}, err
	}
	said := commentsText(s.filled(results), which)
	return assay.Action{Turn: &assay.Turn{Make: func([]byte) (assay.Turned, error) {
		return assay.Turned{Value: said, Message: said}, nil
	}}}, nil
}

// filled are results with what a check may leave out of them.
func (s *scope) filled(results []assay.Result) []assay.Result {
	word := func(name string) string { v, _ := s.vars[name].(string); return v }
	filled := slices.Clone(results)
	for i := range filled {
		r := &filled[i]
		r.Item = orElse(r.Item, word(assay.VarItem))
		r.Type = orElse(r.Type, word(assay.VarType))
		r.Checkname = orElse(r.Checkname, word(assay.VarCheckname))
	}
	return filled
}

// maxComments bounds how many comments are said.
const maxComments = 20

// commentsText says what would be commented, in one line for the log.
func commentsText(results []assay.Result, which string) string {
	var comments []string
	for _, r := range results {
		if currentType(r.Type) == "bodhi_update" && commentWanted(r.Outcome, which, nil, time.Time{}, commentSpan) {
			comments = append(comments, "on "+oneLine(r.Item, maxLine)+": "+commentText(r))
		}
	}
	switch n := len(comments); {
	case n == 0:
		return "bodhi_comment: there is nothing to comment"
	case n > maxComments:
		comments = append(comments[:maxComments], fmt.Sprintf("and %d more", n-maxComments))
	}
	return "bodhi_comment: nothing is sent; the comments would be, " + strings.Join(comments, "; ")
}

// commentText is one comment. The word FAILED in it keeps an update from being
// pushed by karma alone.
func commentText(r assay.Result) string {
	text := fmt.Sprintf("%s test %s", oneLine(r.Checkname, maxLine), r.Outcome)
	if arches := r.Data["arch"]; len(arches) > 0 {
		text += " on " + oneLine(strings.Join(arches, ", "), maxLine)
	}
	if r.Note != "" {
		text += ": " + oneLine(r.Note, maxLine)
	}
	return text + " (results are informative only)"
}

// commentSpan is how long an unchanged failure is not told again (COMPAT.md 1.1,
// bodhi_email_failed_span: 4320 minutes).
const commentSpan = 4320 * time.Minute

// lastComment is what was commented before on the same update by the same check
// on the same architecture.
type lastComment struct {
	outcome assay.Outcome
	at      time.Time
}

// commentWanted keeps updates free of what nobody wants to read (COMPAT.md 1.1,
// "Bodhi comments & de-spam"): what was aborted or crashed says nothing about the
// update and is never told; onlyfail tells failures alone; and what was told
// before is told again only when it changed, or is a failure and span has gone by.
func commentWanted(outcome assay.Outcome, which string, last *lastComment, now time.Time, span time.Duration) bool {
	switch {
	case outcome == assay.Aborted || outcome == assay.Crashed:
		return false
	case which != reportAll && outcome != assay.Failed:
		return false
	case last == nil || last.outcome != outcome:
		return true
	}
	return outcome == assay.Failed && now.Sub(last.at) >= span
}

func (*bodhiComment) manual() manual {
	return manual{
		short: "say what would be commented on updates",
		text: "Nothing is sent to Bodhi: the log says what would be. Only results whose type is\n" +
			"bodhi_update count, and those that were aborted or crashed never do.",
		args: []argument{
			{name: "results", required: true, shape: shapeAny(), text: "ResultYAML, or a variable that holds it."},
			{name: "doreport", shape: shapeEither(shapeWords(reportAll, reportOnlyFail), shapeText()), otherwise: reportOnlyFail, text: "Which results are told: all, or onlyfail for failures."},
		},
		value:   "the line that is said",
		example: "name: comment\nbodhi_comment:\n  results: ${report}\n  doreport: onlyfail\n",
	}
}

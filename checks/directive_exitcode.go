package checks

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// exitcode ends the check with 0 or 100 by what it found, for a check that
// reports nothing: exactly one of result_last and result_worst holds results,
// PASSED, INFO and no results at all are 0. The worst of several uses counts
// (COMPAT.md 1.1, exitcode).
type exitcode struct {
	last, worst expr
}

// exitBad is what a check ends with whose results are not good.
const exitBad = 100

func (c *exitcode) read(p *parser, args *yaml.Node) {
	ok := p.mapping(args, "exitcode", []key{
		{name: "result_last", read: func(p *parser, n *yaml.Node) { c.last = p.reportText(n, "result_last", "") }},
		{name: "result_worst", read: func(p *parser, n *yaml.Node) { c.worst = p.reportText(n, "result_worst", "") }},
	}, nil)
	switch {
	case !ok:
	case c.last != nil && c.worst != nil:
		p.mistake(args, "take the exit code from both result_last and result_worst: write only one of them")
	case c.last == nil && c.worst == nil && !has(args, "result_last", "result_worst"):
		p.mistake(args, "take the exit code from nowhere: write result_last: or result_worst:")
	}
}

func (c *exitcode) resolve(s *scope) (assay.Action, error) {
	from, which := c.worst, "worst"
	if c.last != nil {
		from, which = c.last, "last"
	}
	text, err := reportOf(from, s)
	if err != nil {
		return assay.Action{}, err
	}
	results, err := ParseReport([]byte(text))
	if err != nil {
		return assay.Action{}, err
	}
	a := assay.Action{Message: "exit code 0: there are no results"}
	if len(results) > 0 {
		outcome := worstOf(results)
		if which == "last" {
			outcome = results[len(results)-1].Outcome
		}
		if !outcome.Good() {
			a.Exit = exitBad
		}
		a.Message = fmt.Sprintf("exit code %d: the %s outcome is %s", a.Exit, which, outcome)
	}
	if s.export != "" {
		err = s.giveValue(&a, a.Exit)
	}
	return a, err
}

func (*exitcode) manual() manual {
	return manual{
		short: "end the check with an exit code by its results",
		text: "Exactly one of result_last and result_worst is given. The exit code is 0 when that outcome is\n" +
			"PASSED or INFO, or when there are no results, and 100 otherwise. Of several uses the worst counts.\n\n" +
			"The exit code decides only when the check reports nothing: reported results beat it.",
		args: []argument{
			{name: "result_last", shape: shapeAny(), text: "Results, as resultsdb takes them; the last one decides."},
			{name: "result_worst", shape: shapeAny(), text: "Results, as resultsdb takes them; the worst one decides."},
		},
		value:   "the exit code, 0 or 100",
		example: "name: end with what was found\nexitcode:\n  result_worst: \"results: [{item: hello-1.0-1, outcome: PASSED}]\"\n",
	}
}

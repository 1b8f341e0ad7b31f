package checks

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// dummy does nothing: result says whether the step passes, FAIL in any case of
// letters failing it; msg is said in the log and is the step's value
// (COMPAT.md 1.1, dummy).
type dummy struct{ result, msg template }

func (d *dummy) read(p *parser, args *yaml.Node) {
	p.mapping(args, "dummy", []key{
		{name: "result", required: true, read: d.readResult},
		{name: "msg", read: func(p *parser, n *yaml.Node) { d.msg = p.textTemplate(n, "msg") }},
	}, nil)
}

// readResult takes any word, as Taskotron did, but one that only just is not
// FAIL: that must not pass unseen.
func (d *dummy) readResult(p *parser, n *yaml.Node) {
	before := len(p.mistakes)
	d.result = p.lineTemplate(n, "result")
	word := strings.ToUpper(strings.TrimSpace(n.Value))
	if len(p.mistakes) == before && almostFail(word) {
		p.mistake(n, "use %s as the result of a dummy: write FAIL, or PASS", shown(n.Value))
	}
}

// almostFail holds for FAILED, FIAL, FAL and the like.
func almostFail(word string) bool {
	sorted := []rune(word)
	slices.Sort(sorted)
	return word != failWord && (strings.HasPrefix(word, "FAI") || string(sorted) == "AFIL" || nearest(word, []string{failWord}) != "")
}

// failWord is the result that fails, in any case of letters.
const failWord = "FAIL"

func (d *dummy) resolve(s *scope) (assay.Action, error) {
	result, err := d.result.text(s)
	if err != nil {
		return assay.Action{}, err
	}
	msg, err := d.msg.text(s)
	if err != nil {
		return assay.Action{}, err
	}
	a := assay.Action{Message: msg}
	if strings.EqualFold(strings.TrimSpace(result), failWord) {
		a.Fail = "dummy: " + msg
		if msg == "" {
			a.Fail = "dummy: result is FAIL"
		}
		return a, nil
	}
	if s.export != "" {
		err = s.giveValue(&a, msg)
	}
	return a, err
}

func (*dummy) manual() manual {
	return manual{
		short: "pass or fail, for trying things out",
		args: []argument{
			{name: "result", required: true, shape: shapeText(), text: "FAIL, in any case of letters, fails the step; every other word passes it."},
			{name: "msg", shape: shapeText(), text: "What is said in the log."},
		},
		value:   "msg",
		example: "name: try the reporting\ndummy:\n  result: FAIL\n  msg: this is only a test\n",
	}
}

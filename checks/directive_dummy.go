package checks

import (
	"fmt"
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

// readResult refuses a word that is neither PASS nor FAIL: a misspelt FAIL must
// not pass.
func (d *dummy) readResult(p *parser, n *yaml.Node) {
	d.result = p.lineTemplate(n, "result")
	words := []string{"PASS", "PASSED", "FAIL", "FAILED"}
	if !strings.Contains(n.Value, "$") && n.Value != "" && !slices.Contains(words, strings.ToUpper(strings.TrimSpace(n.Value))) {
		p.mistake(n, "use %s as the result of a dummy: write PASS or FAIL", shown(n.Value))
	}
}

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
	switch strings.ToUpper(strings.TrimSpace(result)) {
	case "PASS", "PASSED":
	case "FAIL", "FAILED":
		a.Fail = "dummy: " + msg
		if msg == "" {
			a.Fail = "dummy: result is FAIL"
		}
		return a, nil
	default:
		return assay.Action{}, fmt.Errorf("cannot use %s as the result of a dummy: write PASS or FAIL", shown(result))
	}
	if s.export != "" {
		err = s.giveValue(&a, msg)
	}
	return a, err
}

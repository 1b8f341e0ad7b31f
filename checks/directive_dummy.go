package checks

import (
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
		{name: "result", required: true, read: func(p *parser, n *yaml.Node) { d.result = p.lineTemplate(n, "result") }},
		{name: "msg", read: func(p *parser, n *yaml.Node) { d.msg = p.textTemplate(n, "msg") }},
	}, nil)
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
	if strings.EqualFold(strings.TrimSpace(result), "FAIL") {
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

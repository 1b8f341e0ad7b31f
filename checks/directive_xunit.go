package checks

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// xunit turns a file of xunit's XML in the machine into ResultYAML, which is its
// value; without an export the step reports it itself. item, type and checkname
// are the check's unless they are given (COMPAT.md 1.1, xunit).
type xunit struct {
	file                 template
	item, typ, checkname *template
	aggregation          string
}

// The words of aggregation.
const (
	aggregateAll  = "allpass"
	aggregateNone = "none"
)

func aggregations() []string { return []string{aggregateAll, aggregateNone} }

func (c *xunit) read(p *parser, args *yaml.Node) {
	line := func(name string, to **template) key {
		return key{name: name, read: func(p *parser, n *yaml.Node) {
			t := p.lineTemplate(n, name)
			*to = &t
		}}
	}
	c.aggregation = aggregateAll
	p.mapping(args, "xunit", []key{
		{name: "file", required: true, read: func(p *parser, n *yaml.Node) { c.file = p.lineTemplate(n, "file") }},
		{name: "aggregation", read: c.readAggregation},
		line("item", &c.item), line("type", &c.typ), line("checkname", &c.checkname),
	}, nil)
}

func (c *xunit) readAggregation(p *parser, n *yaml.Node) {
	word, ok := p.text(n, "aggregation")
	if ok && !slices.Contains(aggregations(), word) {
		p.mistake(n, "use %s as aggregation: %s", shown(word), didYouMean(word, aggregations()))
	}
	c.aggregation = word
}

func (c *xunit) resolve(s *scope) (assay.Action, error) {
	file, err := s.machineFile(c.file, "tests")
	if err != nil {
		return assay.Action{}, err
	}
	whole := assay.Result{Artifact: s.artifact(file)}
	for _, f := range []struct {
		given *template
		name  string
		to    *string
	}{{c.item, assay.VarItem, &whole.Item}, {c.typ, assay.VarType, &whole.Type}, {c.checkname, assay.VarCheckname, &whole.Checkname}} {
		if f.given == nil {
			*f.to, _ = s.vars[f.name].(string)
			continue
		}
		if *f.to, err = f.given.text(s); err != nil {
			return assay.Action{}, err
		}
	}
	return assay.Action{Turn: &assay.Turn{File: file, Make: func(data []byte) (assay.Turned, error) {
		cases, err := parseXUnit(data)
		if err != nil {
			return assay.Turned{}, err
		}
		return turnedXUnit(c.aggregation, whole, cases, s.export == "")
	}}}, nil
}

// turnedXUnit makes one result of all tests, or one of each.
func turnedXUnit(aggregation string, whole assay.Result, cases []xunitCase, report bool) (assay.Turned, error) {
	each := make([]assay.Result, len(cases))
	simple := make([]assay.Result, len(cases)) // PASSED or FAILED, as the summary counts
	for i, c := range cases {
		each[i] = whole
		each[i].Checkname += "." + c.name
		each[i].Outcome, each[i].Note = c.outcome, c.note
		simple[i].Outcome = assay.Passed
		if !c.good() {
			simple[i].Outcome = assay.Failed
		}
	}
	results := each
	if aggregation == aggregateAll {
		whole.Outcome, whole.Note = worstOf(simple), tally(simple)
		results = []assay.Result{whole}
	}
	text, err := resultYAML(results)
	made := assay.Turned{Value: text, Message: "read " + summaryOr(each, "no tests")}
	if report {
		made.Results = text
	}
	return made, err
}

func summaryOr(results []assay.Result, none string) string {
	if len(results) == 0 {
		return none
	}
	return tally(results)
}

// artifact is a file of the machine by its path within the artifacts, "" for one
// that lies elsewhere.
func (s *scope) artifact(file string) string {
	dir, _ := s.vars[assay.VarArtifacts].(string)
	inner, ok := strings.CutPrefix(file, strings.TrimSuffix(dir, "/")+"/")
	if dir == "" || !ok {
		return ""
	}
	return inner
}

func (*xunit) manual() manual {
	return manual{
		short: "turn xunit's (JUnit's) XML into results",
		text: "Without export the results are reported, too. A file that is not there means that the check\n" +
			"crashed before it was written. A file in ${artifactsdir} is linked from the results.",
		args: []argument{
			{name: "file", required: true, shape: shapeText(), text: "The XML file in the machine, relative to the check's directory."},
			{name: "aggregation", shape: shapeWords(aggregateAll, aggregateNone), otherwise: aggregateAll, text: "allpass makes one result, PASSED if no test failed; none makes one of every test, named CHECKNAME.TEST."},
			{name: "item", shape: shapeText(), otherwise: "${item}", text: "The results' item."},
			{name: "type", shape: shapeText(), otherwise: "${type}", text: "The results' type."},
			{name: "checkname", shape: shapeText(), otherwise: "${checkname}", text: "The results' checkname, or what it begins with."},
		},
		value:   "the results, as ResultYAML",
		example: "name: read what the tests said\nxunit:\n  file: ${artifactsdir}/tests.xml\n  aggregation: none\nexport: tests\n",
	}
}

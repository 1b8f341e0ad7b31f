package checks

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	page "html/template"
	"net/url"
	"path"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// reportPage is our own report.
//
//go:embed report.html.tmpl
var reportPage string

// render is the program that renders a check's own template in the machine. It
// needs python3 and Jinja2 there.
//
//go:embed render.py
var render string

const renderName = "render.py" // below VarPrivate

// maxReported is how many results our own report shows.
const maxReported = 10_000

// createReport writes an HTML page about results, from exactly one of results
// and file, to path, relative to artifactsdir. With template, a Jinja2 file of
// the check's, it is rendered in the machine; its variables are results, a list
// of mappings with checkname, outcome, note, item, type and artifact, and
// artifactsdir (COMPAT.md 1.1, create_report). Its value is the page's path.
type createReport struct {
	reported
	dir, path *template
	template  *template
	at        Mistake // where template stands
}

func (c *createReport) read(p *parser, args *yaml.Node) {
	format := ""
	keys := append(c.keys(&format),
		key{name: "artifactsdir", read: func(p *parser, n *yaml.Node) {
			t := p.lineTemplate(n, "artifactsdir")
			c.dir = &t
		}},
		key{name: "path", read: c.readPath},
		key{name: "template", read: c.readTemplate},
	)
	if p.mapping(args, "create_report", keys, nil) {
		c.check(p, args)
	}
}

func (c *createReport) readPath(p *parser, n *yaml.Node) {
	before := len(p.mistakes)
	t := p.lineTemplate(n, "path")
	c.path = &t
	if len(p.mistakes) > before || t.hasReference() {
		return
	}
	if _, err := cleanReport(t.parts[0].text); err != nil {
		p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
	}
}

func (c *createReport) readTemplate(p *parser, n *yaml.Node) {
	before := len(p.mistakes)
	t := p.lineTemplate(n, "template")
	c.template = &t
	c.at = cannot(p.file, "")
	c.at.Line, c.at.Col = n.Line, n.Column
	if len(p.mistakes) > before || t.hasReference() {
		return
	}
	if _, err := cleanFile(t.parts[0].text, ""); err != nil {
		p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
	}
}

// localFile is the template that must be in the repository, "" for none or if
// only a run can tell.
func (c *createReport) localFile() (string, Mistake) {
	if c.template == nil || c.template.hasReference() || len(c.template.parts) == 0 {
		return "", c.at
	}
	name, err := cleanFile(c.template.parts[0].text, "")
	if err != nil {
		return "", c.at
	}
	return name, c.at
}

// cleanReport makes a path relative to the artifacts and refuses one that leads
// out of them.
func cleanReport(name string) (string, error) {
	clean := path.Clean(name)
	if name == "" || clean == "." || path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.HasSuffix(name, "/") || strings.ContainsAny(name, "\\\x00\n\r") {
		return "", fmt.Errorf("cannot write a report to %s: write a file's path within ${artifactsdir}", shown(name))
	}
	return clean, nil
}

// output is where the page goes, relative to the artifacts.
func (c *createReport) output(s *scope) (string, error) {
	artifacts, _ := s.vars[assay.VarArtifacts].(string)
	if !path.IsAbs(artifacts) {
		return "", fmt.Errorf("cannot resolve this action without a machine: %s must be set to an absolute path", assay.VarArtifacts)
	}
	dir, name := artifacts, "report.html"
	var err error
	if c.dir != nil {
		if dir, err = c.dir.text(s); err != nil {
			return "", err
		}
	}
	if c.path != nil {
		if name, err = c.path.text(s); err != nil {
			return "", err
		}
	}
	if name, err = cleanReport(name); err != nil {
		return "", err
	}
	whole := path.Join(dir, name)
	inner := s.artifact(whole)
	if inner == "" || !path.IsAbs(dir) || path.Clean(dir) != path.Clean(artifacts) && s.artifact(path.Clean(dir)) == "" {
		return "", fmt.Errorf("cannot write a report to %s: write artifactsdir: ${artifactsdir}", shown(whole))
	}
	return inner, nil
}

func (c *createReport) resolve(s *scope) (assay.Action, error) {
	out, err := c.output(s)
	if err != nil {
		return assay.Action{}, err
	}
	file, text := "", ""
	if c.file != nil {
		file, err = c.reported.path(s)
	} else {
		text, err = reportOf(c.results, s)
	}
	if err != nil {
		return assay.Action{}, err
	}
	if c.template != nil {
		return c.resolveTemplate(s, out, file, text)
	}
	head := reportHead(s)
	dir, _ := s.vars[assay.VarArtifacts].(string)
	turn := &assay.Turn{File: file, Make: func(data []byte) (assay.Turned, error) {
		if file == "" {
			data = []byte(text)
		}
		html, err := head.html(data, out)
		return assay.Turned{
			Value: path.Join(dir, out), Files: map[string][]byte{out: html}, Message: "wrote " + oneLine(out, maxLine),
		}, err
	}}
	return assay.Action{Turn: turn}, nil
}

// resolveTemplate renders the check's own template in the machine.
func (c *createReport) resolveTemplate(s *scope, out, file, text string) (assay.Action, error) {
	workdir, private, err := s.directories()
	if err != nil {
		return assay.Action{}, err
	}
	name, err := c.template.text(s)
	if err == nil {
		name, err = cleanFile(name, workdir)
	}
	if err != nil {
		return assay.Action{}, err
	}
	dir, _ := s.vars[assay.VarArtifacts].(string)
	head := reportHead(s)
	order := map[string]any{
		"template": name, "base": workdir, "output": path.Join(dir, out), "artifactsdir": dir,
		"checkname": head.Check, "item": head.Item, "type": head.Type, "file": file,
	}
	if file == "" {
		results, err := ParseReport([]byte(text))
		if err != nil {
			return assay.Action{}, err
		}
		order["results"] = reportEntries(results)
	}
	stdin, err := encodeJSON(order)
	if err != nil {
		return assay.Action{}, fmt.Errorf("cannot pass the results on as JSON: %v", err)
	}
	a := assay.Action{
		Files:    map[string][]byte{renderName: []byte(render)},
		Commands: []assay.Command{{Argv: []string{"python3", path.Join(private, renderName)}, Stdin: stdin}},
	}
	if s.export == "" {
		return a, nil
	}
	value := assay.Action{}
	err = s.giveValue(&value, path.Join(dir, out))
	a.Value, a.Files[s.valueName()] = value.Value, value.Files[s.valueName()]
	return a, err
}

// reportEntries are results as a template gets them.
func reportEntries(results []assay.Result) []any {
	entries := make([]any, len(results))
	for i, r := range results {
		entries[i] = map[string]any{
			"checkname": r.Checkname, "outcome": string(r.Outcome), "note": r.Note, "item": r.Item, "type": r.Type, "artifact": r.Artifact,
		}
	}
	return entries
}

// reportView is what our own report shows.
type reportView struct {
	Check, Item, Type string
	Summary           string
	Results           []reportRow
	More              int // results that are left out

	dir string // the artifacts', in the machine
}

type reportRow struct {
	assay.Result
	Good bool
}

// reportHead is the part of a report that is known before the results are.
func reportHead(s *scope) reportView {
	text := func(name string) string { v, _ := s.vars[name].(string); return v }
	return reportView{Check: text(assay.VarCheckname), Item: text(assay.VarItem), Type: text(assay.VarType), dir: text(assay.VarArtifacts)}
}

// html is the page about results, to be written to out.
func (v reportView) html(data []byte, out string) ([]byte, error) {
	results, err := ParseReport(data)
	if err != nil {
		return nil, err
	}
	v.Summary = summaryOr(results, "no results")
	for _, r := range results[:min(len(results), maxReported)] {
		r.Item = cmp.Or(r.Item, v.Item)
		if r.Checkname == "" || strings.HasPrefix(r.Checkname, ".") {
			r.Checkname = v.Check + r.Checkname
		}
		r.Artifact = linkFrom(out, strings.TrimPrefix(r.Artifact, strings.TrimSuffix(v.dir, "/")+"/"))
		v.Results = append(v.Results, reportRow{r, r.Outcome.Good()})
	}
	v.More = len(results) - len(v.Results)
	t, err := page.New("report").Parse(reportPage)
	if err != nil {
		return nil, fmt.Errorf("cannot read the report's own template: %v", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("cannot write the report: %v", err)
	}
	return b.Bytes(), nil
}

// linkFrom is the address of an artifact as the page at out says it: relative,
// "" for one that does not lie among the artifacts.
func linkFrom(out, artifact string) string {
	clean, err := cleanReport(artifact)
	if err != nil {
		return ""
	}
	link := url.URL{Path: strings.Repeat("../", strings.Count(out, "/")) + clean}
	return link.String()
}

func (*createReport) manual() manual {
	return manual{
		short: "write an HTML page about results",
		text: "Exactly one of results and file is given. The page is made on the host and kept with the\n" +
			"artifacts, everything in it escaped. With template, a Jinja2 file of the check, it is rendered in the\n" +
			"machine, which needs python3 and Jinja2 (and PyYAML for file). Its variables are artifactsdir and\n" +
			"results, a list of mappings with checkname, outcome, note, item, type and artifact.",
		args: []argument{
			{name: "results", shape: shapeAny(), text: "ResultYAML, TAP or xunit's XML, or a variable that holds one of them."},
			{name: "file", shape: shapeText(), text: "A file with them in the machine, relative to the check's directory."},
			{name: "artifactsdir", shape: shapeText(), otherwise: "${artifactsdir}", text: "The directory that path is relative to: ${artifactsdir}, or one in it."},
			{name: "path", shape: shapeText(), otherwise: "report.html", text: "Where the page goes, relative to artifactsdir."},
			{name: "template", shape: shapeText(), text: "A Jinja2 template, relative to the formula."},
		},
		value:   "the page's path in the machine",
		example: "name: make a page\ncreate_report:\n  file: results.yml\n  artifactsdir: ${artifactsdir}\n  path: report.html\n",
	}
}

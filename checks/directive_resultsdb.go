package checks

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// resultsdb hands in results, from exactly one of: results, which is ResultYAML
// or a variable that holds it as text or decoded; file, a path in the machine,
// relative to the check's directory (COMPAT.md 1.1, resultsdb). The format, if
// it is named, is not told from the text. Its value is the ResultYAML.
type resultsdb struct {
	reported
	format string
}

func (c *resultsdb) read(p *parser, args *yaml.Node) {
	keys := []key{{name: "format", read: func(p *parser, n *yaml.Node) { c.format = p.reportFormat(n) }}}
	keys = append(keys, c.keys(&c.format)...)
	ok := p.mapping(args, "resultsdb", keys, nil)
	if ok {
		c.check(p, args)
	}
}

// reportFormat reads one of the formats.
func (p *parser) reportFormat(n *yaml.Node) string {
	word, ok := p.text(n, "format")
	if ok && !slices.Contains(formats(), word) {
		p.mistake(n, "use %s as format: %s", shown(word), didYouMean(word, formats()))
		return ""
	}
	return word
}

// reported are the arguments of which exactly one says what is reported.
type reported struct {
	results expr
	file    *template
}

// keys reads the arguments; format is that of the text in results.
func (r *reported) keys(format *string) []key {
	return []key{
		{name: "results", read: func(p *parser, n *yaml.Node) { r.results = p.reportText(n, "results", *format) }},
		{name: "file", read: func(p *parser, n *yaml.Node) {
			t := p.lineTemplate(n, "file")
			r.file = &t
		}},
	}
}

// check wants exactly one of the arguments.
func (r *reported) check(p *parser, args *yaml.Node) {
	switch {
	case r.results != nil && r.file != nil:
		p.mistake(args, "take results from both results and file: write only one of them")
	case r.results == nil && r.file == nil && !has(args, "results", "file"):
		p.mistake(args, "hand in results from nowhere: write results: or file:")
	}
}

// has tells whether a mapping has one of the keys, or one much like it, which is
// a mistake already.
func has(n *yaml.Node, keys ...string) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if slices.Contains(keys, n.Content[i].Value) || nearest(n.Content[i].Value, keys) != "" {
			return true
		}
	}
	return false
}

// reportText takes a report as text, or one variable. Variables within
// ResultYAML are substituted value by value, after the YAML is read: what they
// hold can never add a key or a result.
func (p *parser) reportText(n *yaml.Node, what, format string) expr {
	if n.Kind != yaml.ScalarNode {
		return p.texts(n)
	}
	if _, ok := p.text(n, what); !ok {
		return literal{}
	}
	if isReference(n.Value) {
		return p.template(n)
	}
	if !strings.Contains(n.Value, "$") {
		if _, err := parseAs(format, []byte(n.Value)); err != nil {
			p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
		}
		return literal{n.Value}
	}
	if format == formatTAP || format == formatXUnit {
		t := p.template(n)
		if t.hasReference() {
			p.mistake(n, "use variables within a report that is not ResultYAML, where a value could add tests: write one variable that holds all of it")
		}
		return t
	}
	root, err := decode([]byte(n.Value))
	if err != nil {
		p.resultMistake(n, err)
		return literal{}
	}
	moveTo(root, n)
	return p.texts(root)
}

// resultMistake notes what decode found in the text of a scalar.
func (p *parser) resultMistake(n *yaml.Node, err error) {
	if ye := (*yamlError)(nil); errors.As(err, &ye) {
		err = resultError(ye.line, "%s", ye.message)
	}
	p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
}

// texts reads a tree as values whose scalars are all text, as ResultYAML's are:
// 1.10 stays 1.10.
func (p *parser) texts(n *yaml.Node) expr {
	switch {
	case n.Kind == yaml.SequenceNode:
		var l list
		for _, item := range n.Content {
			l = append(l, p.texts(item))
		}
		return l
	case n.Kind == yaml.MappingNode:
		var d dict
		for i := 0; i+1 < len(n.Content); i += 2 {
			d = append(d, entry{p.template(n.Content[i]), p.texts(n.Content[i+1])})
		}
		return d
	case isNull(n):
		return literal{nil}
	}
	return p.template(n)
}

// moveTo gives every node of a tree the place of another, since lines within a
// scalar are not lines of the file.
func moveTo(tree, place *yaml.Node) {
	tree.Line, tree.Column = place.Line, place.Column
	for _, child := range tree.Content {
		moveTo(child, place)
	}
}

func (c *resultsdb) resolve(s *scope) (assay.Action, error) {
	if c.file != nil {
		return c.resolveFile(s)
	}
	text, err := reportOf(c.results, s)
	if err == nil && c.format != "" {
		text, err = asResultYAML(c.format, []byte(text))
	}
	if err != nil {
		return assay.Action{}, err
	}
	a := assay.Action{Results: &assay.ResultsSource{Text: text}}
	if s.export != "" {
		err = s.giveValue(&a, text)
	}
	return a, err
}

// resolveFile leaves the file to the runner, or takes it as what it is said to be.
func (c *resultsdb) resolveFile(s *scope) (assay.Action, error) {
	file, err := c.path(s)
	if err != nil {
		return assay.Action{}, err
	}
	if c.format != "" {
		return assay.Action{Turn: &assay.Turn{File: file, Make: func(data []byte) (assay.Turned, error) {
			text, err := asResultYAML(c.format, data)
			return assay.Turned{Value: text, Results: text}, err
		}}}, nil
	}
	a := assay.Action{Results: &assay.ResultsSource{File: file}}
	if s.export != "" {
		a.Commands = []assay.Command{{Argv: []string{"cat", "--", file}}}
	}
	return a, nil
}

// path is the file's absolute path in the machine.
func (r *reported) path(s *scope) (string, error) { return s.machineFile(*r.file, "results") }

// machineFile resolves a path in the machine, relative to the check's directory.
func (s *scope) machineFile(t template, what string) (string, error) {
	workdir, _, err := s.directories()
	if err != nil {
		return "", err
	}
	file, err := t.text(s)
	switch {
	case err != nil:
		return "", err
	case file == "":
		return "", fmt.Errorf("cannot take %s from a file without a name", what)
	case !path.IsAbs(file):
		file = path.Join(workdir, file)
	}
	return file, nil
}

// reportOf is the text of a report that an argument holds.
func reportOf(e expr, s *scope) (string, error) {
	v, err := e.eval(s)
	if err != nil {
		return "", err
	}
	return resultText(v)
}

// asResultYAML turns a report of any format into ResultYAML.
func asResultYAML(format string, data []byte) (string, error) {
	results, err := parseAs(format, data)
	if err != nil {
		return "", err
	}
	return resultYAML(results)
}

// resultText makes ResultYAML of a variable's value: text as it is; a mapping,
// or a list of results, as JSON, which is YAML.
func resultText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []any:
		return yamlText(map[string]any{"results": v})
	case map[string]any:
		return yamlText(v)
	}
	return "", fmt.Errorf("cannot take results from a value that is neither a text nor a mapping: export what ResultYAML is made of")
}

// yamlText encodes a value as JSON that any YAML reader takes: characters that
// YAML does not allow bare are escaped.
func yamlText(v any) (string, error) {
	b, err := encodeJSON(v)
	if err != nil {
		return "", fmt.Errorf("cannot write the results as YAML: %v", err)
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, b[:size]...)
		}
		b = b[size:]
	}
	return string(out), nil
}

func (*resultsdb) manual() manual {
	return manual{
		short: "report results",
		text: "Exactly one of results and file is given. What is reported decides about the check, whatever\n" +
			"its commands end with. A file that is not there means that the check crashed before it was written.",
		args: []argument{
			{name: "results", shape: shapeAny(), text: "ResultYAML, TAP or xunit's XML, or a variable that holds one of them."},
			{name: "file", shape: shapeText(), text: "A file with them in the machine, relative to the check's directory."},
			{name: "format", shape: shapeWords(formatYAML, formatTAP, formatXUnit), otherwise: "told from the text", text: "What the text is."},
		},
		value:   "the results, as ResultYAML; with file and without format the file's text",
		example: "name: report\nresultsdb:\n  file: ${artifactsdir}/results.yml\n",
	}
}

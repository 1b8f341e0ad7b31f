package checks

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// resultsdb hands in results, from exactly one of: results, which is ResultYAML
// or a variable that holds it as text or decoded; file, a path in the machine,
// relative to the check's directory (COMPAT.md 1.1, resultsdb). Its value is
// the ResultYAML.
type resultsdb struct {
	results expr
	file    *template
}

func (c *resultsdb) read(p *parser, args *yaml.Node) {
	ok := p.mapping(args, "resultsdb", []key{
		{name: "results", read: c.readResults},
		{name: "file", read: func(p *parser, n *yaml.Node) {
			t := p.lineTemplate(n, "file")
			c.file = &t
		}},
	}, nil)
	switch {
	case !ok:
	case c.results != nil && c.file != nil:
		p.mistake(args, "take results from both results and file: write only one of them")
	case c.results == nil && c.file == nil && len(args.Content) == 0:
		p.mistake(args, "hand in results from nowhere: write results: or file:")
	}
}

// readResults takes ResultYAML as text, or one variable. Variables within the
// text are substituted value by value, after the YAML is read: what they hold
// can never add a key or a result.
func (c *resultsdb) readResults(p *parser, n *yaml.Node) {
	c.results = literal{}
	if n.Kind != yaml.ScalarNode {
		c.results = p.texts(n)
		return
	}
	if _, ok := p.text(n, "results"); !ok {
		return
	}
	if isReference(n.Value) {
		c.results = p.template(n)
		return
	}
	if !strings.Contains(n.Value, "$") {
		c.results = literal{n.Value}
		if _, err := ParseResults([]byte(n.Value)); err != nil {
			p.mistake(n, "%s", strings.TrimPrefix(err.Error(), "cannot "))
		}
		return
	}
	root, err := decode([]byte(n.Value))
	if err != nil {
		p.resultMistake(n, err)
		return
	}
	moveTo(root, n)
	c.results = p.texts(root)
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
	v, err := c.results.eval(s)
	if err != nil {
		return assay.Action{}, err
	}
	text, err := resultText(v)
	if err != nil {
		return assay.Action{}, err
	}
	a := assay.Action{Results: &assay.ResultsSource{Text: text}}
	if s.export != "" {
		err = s.giveValue(&a, text)
	}
	return a, err
}

func (c *resultsdb) resolveFile(s *scope) (assay.Action, error) {
	workdir, _, err := s.directories()
	if err != nil {
		return assay.Action{}, err
	}
	file, err := c.file.text(s)
	if err != nil {
		return assay.Action{}, err
	}
	if file == "" {
		return assay.Action{}, fmt.Errorf("cannot take results from a file without a name")
	}
	if !path.IsAbs(file) {
		file = path.Join(workdir, file)
	}
	a := assay.Action{Results: &assay.ResultsSource{File: file}}
	if s.export != "" {
		a.Commands = []assay.Command{{Argv: []string{"cat", "--", file}}}
	}
	return a, nil
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
		text:  "Exactly one of results and file is given.",
		args: []argument{
			{name: "results", shape: shapeAny(), text: "ResultYAML, or a variable that holds it."},
			{name: "file", shape: shapeText(), text: "A file with them in the machine, relative to the check's directory."},
		},
		value:   "the results, as ResultYAML",
		example: "name: report\nresultsdb:\n  file: ${artifactsdir}/results.yml\n",
	}
}

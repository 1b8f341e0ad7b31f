package checks

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// The arguments that the directives which download have in common.

// readWords reads an argument that is a text or a list of texts, or a variable
// that holds either. An empty list is one.
func (p *parser) readWords(n *yaml.Node, what string) expr {
	if n.Kind != yaml.SequenceNode {
		return p.textTemplate(n, what)
	}
	return p.readList(n, what)
}

// readList reads an argument that is a list of texts, or a variable that holds one.
func (p *parser) readList(n *yaml.Node, what string) expr {
	if n.Kind == yaml.ScalarNode && isReference(n.Value) {
		return p.template(n)
	}
	if n.Kind != yaml.SequenceNode {
		p.mistake(n, "read %s as %s: write a list: [ONE, TWO]", kindOf(n), what)
		return literal{}
	}
	l := make(list, len(n.Content))
	for i, item := range n.Content {
		l[i] = p.textTemplate(item, "an entry of "+what)
	}
	return l
}

// maxWords bounds such a list.
const maxWords = 1000

// wordsOf evaluates what readWords or readList read; nil is an argument that was
// not given. No word is empty.
func wordsOf(s *scope, value expr, what string) ([]string, error) {
	if value == nil {
		return nil, nil
	}
	v, err := value.eval(s)
	if err != nil {
		return nil, err
	}
	items, ok := v.([]any)
	if !ok {
		items = []any{v}
	}
	var words []string
	for _, item := range items {
		word, ok := item.(string)
		switch {
		case !ok:
			return nil, fmt.Errorf("cannot use %s as an entry of %s: write texts", kindOfValue(item), what)
		case strings.TrimSpace(word) == "" || strings.ContainsAny(word, "\x00\n"):
			return nil, fmt.Errorf("cannot use %s as an entry of %s: write one line of text", shown(word), what)
		}
		words = append(words, word)
	}
	if len(words) > maxWords {
		return nil, fmt.Errorf("cannot use more than %d entries of %s", maxWords, what)
	}
	return words, nil
}

func kindOfValue(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case bool:
		return "a boolean"
	}
	return "a number"
}

// readFlag reads an argument that is true or false, in the words of YAML 1.1, or
// a variable that holds it.
func (p *parser) readFlag(n *yaml.Node, what string) expr {
	if b, ok := parseBool(n); ok {
		return literal{b}
	}
	if n.Kind == yaml.ScalarNode && isReference(n.Value) {
		return p.template(n)
	}
	p.mistake(n, "read %s as %s: write true or false", valueOf(n), what)
	return literal{}
}

// flagOf evaluates what readFlag read; nil is false.
func flagOf(s *scope, value expr, what string) (bool, error) {
	if value == nil {
		return false, nil
	}
	v, err := value.eval(s)
	if err != nil {
		return false, err
	}
	switch w := v.(type) {
	case bool:
		return w, nil
	case nil:
		return false, nil
	case string:
		if b, ok := parseBool(&yaml.Node{Kind: yaml.ScalarNode, Value: w}); ok && w != "" {
			return b, nil
		}
		return false, fmt.Errorf("cannot read %s as %s: write true or false", shown(w), what)
	}
	return false, fmt.Errorf("cannot read %s as %s: write true or false", kindOfValue(v), what)
}

// lineText evaluates an argument that is one line; nil is "".
func lineText(s *scope, t *template, what string) (string, error) {
	if t == nil {
		return "", nil
	}
	text, err := t.text(s)
	text = strings.TrimSpace(text)
	if err == nil && (text == "" || oneLine(text, maxLine*10) != text) {
		err = fmt.Errorf("cannot use %s as %s: write one plain line of text", shown(text), what)
	}
	return text, err
}

// readLine is lineTemplate for an argument that may be left out.
func (p *parser) readLine(n *yaml.Node, what string, into **template) {
	t := p.lineTemplate(n, what)
	*into = &t
}

// targetDir is where downloads go in the machine: what target_dir says, relative
// to the check's directory, or that itself (formulas before 0.4 did not say).
// It must lie in the execution's own directories.
func targetDir(s *scope, t *template) (string, error) {
	workdir, _, err := s.directories()
	if err != nil || t == nil {
		return workdir, err
	}
	dir, err := lineText(s, t, "target_dir")
	if err != nil {
		return "", err
	}
	return ownDir(s, dir, "target_dir")
}

// ownDir makes a path absolute and wants it below the check's directory or its
// artifacts'.
func ownDir(s *scope, dir, what string) (string, error) {
	workdir, _, err := s.directories()
	if err != nil {
		return "", err
	}
	if !path.IsAbs(dir) {
		dir = path.Join(workdir, dir)
	}
	dir = path.Clean(dir)
	for _, name := range []string{assay.VarWorkdir, assay.VarArtifacts, assay.VarBuilds} {
		own, _ := s.vars[name].(string)
		if path.IsAbs(own) && (dir == own || strings.HasPrefix(dir, strings.TrimSuffix(own, "/")+"/")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cannot use %s as %s: write a directory below ${%s} or ${%s}", shown(dir), what, assay.VarWorkdir, assay.VarArtifacts)
}

// The manual's words for them.
func targetDirArgument() argument {
	return argument{name: "target_dir", shape: shapeText(), otherwise: "${workdir}", text: "The directory in the machine, below ${workdir} or ${artifactsdir}; it is made if need be."}
}

func shapeWordsOrText() shape {
	return shapeEither(shapeText(), shape{"type": "array", "items": shapeText()})
}

// shapeFlag takes a variable too.
func shapeFlag() shape { return shapeEither(shapeBool(), shapeText()) }

// archesOf evaluates arch. The word src among them asks for source packages, as
// old formulas do.
func archesOf(s *scope, value expr, what string) (arches []string, source bool, err error) {
	words, err := wordsOf(s, value, what)
	if err != nil {
		return nil, false, err
	}
	for _, word := range words {
		switch {
		case word == "src":
			source = true
		case !isArch(word):
			return nil, false, fmt.Errorf("cannot use %s as %s: write an architecture, such as x86_64", shown(word), what)
		case !slices.Contains(arches, word):
			arches = append(arches, word)
		}
	}
	return arches, source, nil
}

// isArch matches [A-Za-z0-9_]{1,20}.
func isArch(s string) bool {
	return s != "" && len(s) <= 20 && strings.IndexFunc(s, func(r rune) bool { return r > 'z' || r != '_' && !isAlnum(byte(r)) }) < 0
}

package checks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// maxResolved bounds what one step may grow to by its variables, in bytes.
const maxResolved = 16 << 20

// scope is what one resolving of one step has at hand.
type scope struct {
	vars   assay.Vars
	number int    // of the action, from 1
	export string // the variable its value goes into, "" for none
	left   int    // bytes that values may still add
}

// take counts what a value adds to the step.
func (s *scope) take(n int) error {
	if s.left -= n; s.left < 0 {
		return fmt.Errorf("cannot let the variables of one action grow beyond %d MiB: write large values into files", maxResolved>>20)
	}
	return nil
}

// expr is a value with variables in it.
type expr interface {
	eval(s *scope) (any, error)
}

type (
	literal struct{ value any }
	list    []expr
	dict    []entry
	entry   struct {
		key   template
		value expr
	}
)

// value reads any node as a value, as PyYAML would: yes, no, on and off are
// booleans unless they are quoted (COMPAT.md 2.1, traps).
func (p *parser) value(n *yaml.Node) expr {
	switch n.Kind {
	case yaml.SequenceNode:
		l := make(list, len(n.Content))
		for i, item := range n.Content {
			l[i] = p.value(item)
		}
		return l
	case yaml.MappingNode:
		var d dict
		for i := 0; i+1 < len(n.Content); i += 2 {
			d = append(d, entry{p.template(n.Content[i]), p.value(n.Content[i+1])})
		}
		return d
	}
	if b, ok := parseBool(n); ok {
		return literal{b}
	}
	return p.scalar(n)
}

// scalar reads a scalar that is no boolean.
func (p *parser) scalar(n *yaml.Node) expr {
	switch n.ShortTag() {
	case "!!null":
		return literal{nil}
	case "!!int", "!!float":
		var v any
		if err := guarded(func() error { return n.Decode(&v) }); err != nil {
			p.mistake(n, "read %s as a number: write it in quotes for a text", shown(n.Value))
		} else if _, err := json.Marshal(v); err != nil {
			p.mistake(n, "pass on the number %s: write a finite one", shown(n.Value))
		}
		return literal{v}
	}
	return p.template(n)
}

// parseBool reads a boolean of YAML 1.1 as PyYAML knows them; ok is false for
// anything else, and for a quoted word.
func parseBool(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0 {
		return false, false
	}
	word := n.Value
	if w := strings.ToLower(word); word != w && word != strings.ToUpper(w) && word != strings.ToUpper(w[:1])+w[1:] {
		return false, false
	}
	switch strings.ToLower(word) {
	case "true", "yes", "on":
		return true, true
	case "false", "no", "off":
		return false, true
	}
	return false, false
}

func (l literal) eval(*scope) (any, error) { return l.value, nil }

func (l list) eval(s *scope) (any, error) {
	values := make([]any, len(l))
	for i, item := range l {
		v, err := item.eval(s)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

func (d dict) eval(s *scope) (any, error) {
	values := make(map[string]any, len(d))
	for _, e := range d {
		key, err := e.key.text(s)
		if err != nil {
			return nil, err
		}
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("cannot use the key %s twice: write variables in keys that differ", shown(key))
		}
		if values[key], err = e.value.eval(s); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// eval gives the variable itself when the template is exactly one reference,
// else a string.
func (t template) eval(s *scope) (any, error) {
	if len(t.parts) == 1 && t.parts[0].path != nil {
		v, err := lookup(s.vars, t.parts[0].path)
		if err != nil {
			return nil, err
		}
		return v, s.take(sizeOf(v, s.left))
	}
	return t.text(s)
}

// text gives the template as a string, its variables substituted.
func (t template) text(s *scope) (string, error) {
	var b strings.Builder
	for _, part := range t.parts {
		text := part.text
		if part.path != nil {
			var err error
			if text, err = t.substitute(s, part); err != nil {
				return "", err
			}
		}
		if err := s.take(len(text)); err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// substitute gives the text of one reference.
func (t template) substitute(s *scope, ref part) (string, error) {
	v, err := lookup(s.vars, ref.path)
	if err != nil {
		return "", err
	}
	text, err := stringify(v)
	if err != nil {
		return "", fmt.Errorf("cannot write %s as text: %v", reference(ref.path), err)
	}
	if strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("cannot use %s here: its value %s holds a zero byte", reference(ref.path), shown(text))
	}
	if !t.shell {
		return text, nil
	}
	quoted, ok := quoteFor(text, ref.quoting)
	if !ok {
		return "", fmt.Errorf("cannot write %s safely here: its value %s has a meaning to the shell: write VALUE=%s in a line before and \"$VALUE\" here",
			reference(ref.path), shown(text), reference(ref.path))
	}
	return quoted, nil
}

func reference(path []string) string { return "${" + oneLine(strings.Join(path, "."), maxLine) + "}" }

// lookup finds a variable and follows its keys.
func lookup(vars assay.Vars, path []string) (any, error) {
	v, ok := vars[path[0]]
	if !ok {
		return nil, fmt.Errorf("cannot find a value for %s: nothing has set it in this run", reference(path[:1]))
	}
	for i, name := range path[1:] {
		m, isMap := v.(map[string]any)
		if !isMap {
			return nil, fmt.Errorf("cannot find %s: %s has no keys", reference(path), reference(path[:i+1]))
		}
		if v, ok = m[name]; !ok {
			return nil, fmt.Errorf("cannot find %s: %s has %s", reference(path), reference(path[:i+1]), keysOf(m))
		}
	}
	return v, nil
}

// keysOf names some keys of a mapping, for a message.
func keysOf(m map[string]any) string {
	if len(m) == 0 {
		return "no keys"
	}
	const most = 8
	keys := slices.Sorted(maps.Keys(m))
	more := ""
	if len(keys) > most {
		keys, more = keys[:most], ", …"
	}
	return "only the keys " + oneLine(strings.Join(keys, ", ")+more, maxLine)
}

// stringify writes a value as text: a string as it is, the rest as JSON.
func stringify(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := encodeJSON(v)
	return string(b), err
}

// encodeJSON encodes without escaping for HTML and without a line end.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// sizeOf estimates the bytes of a value and stops counting beyond limit.
func sizeOf(v any, limit int) int {
	const each = 8
	size := each
	switch v := v.(type) {
	case string:
		size += len(v)
	case []any:
		for _, item := range v {
			if size > limit {
				break
			}
			size += sizeOf(item, limit-size)
		}
	case map[string]any:
		for key, item := range v {
			if size > limit {
				break
			}
			size += len(key) + sizeOf(item, limit-size)
		}
	}
	return size
}

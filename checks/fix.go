package checks

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxFixRounds bounds how often a file is read again: a mistake in the YAML hides
// all that stand behind it.
const maxFixRounds = 100

// Fixed is what Fix made of a formula.
type Fixed struct {
	Data []byte   // the whole file; the one that was given when nothing is done
	Done Mistakes // what was cured, warnings among them, in the order of the cures
}

// Fix cures what has exactly one cure that no person need think about: older
// spellings, misspelt keys and directives that resemble one word only, values
// that need quotes, tabs for indentation. All else of the file stays byte for
// byte as it is. Fix of what it made changes nothing.
func Fix(path string, data []byte) Fixed {
	mark := len(data) - len(bytes.TrimPrefix(data, []byte("\uFEFF")))
	done := Fixed{Data: data}
	if isDEP8(path) {
		return done
	}
	for range maxFixRounds {
		p := parse(path, done.Data)
		text, cured := p.fixRound()
		if len(cured) == 0 {
			break
		}
		done.Data = slices.Concat(data[:mark], text)
		done.Done = append(done.Done, cured...)
	}
	return done
}

// isDEP8 tells a control file of Debian's, which is no YAML.
func isDEP8(path string) bool {
	return strings.HasSuffix("/"+filepath.ToSlash(path), "/"+ControlFile)
}

// fixRound is the file, without a byte order mark, with everything cured that
// can be at once.
func (p *parser) fixRound() (text []byte, cured Mistakes) {
	if p.syntax {
		if text := p.fixSyntax(); text != nil {
			return text, p.mistakes[:1]
		}
		return nil, nil
	}
	all := slices.Concat(p.mistakes, p.warnings).sorted()
	if len(p.data) > MaxFormula {
		return nil, nil
	}
	var edits fix
	for _, m := range all {
		if m.fix != nil && !edits.touches(*m.fix) {
			edits, cured = append(edits, *m.fix...), append(cured, m)
		}
	}
	if text := p.try(edits); text != nil {
		return text, cured
	}
	for _, m := range cured {
		if text := p.try(*m.fix); text != nil {
			return text, Mistakes{m}
		}
	}
	return nil, nil
}

// try makes edits, unless they make a file that cannot be read: one key twice.
func (p *parser) try(edits fix) []byte {
	if text := apply(p.data, edits); !parse(p.file, text).syntax {
		return text
	}
	return nil
}

// fix is a mistake's cure as edits of the file, which are made all or none.
type fix []edit

// edit replaces the bytes from start to end, of the file without a byte order
// mark, by a text.
type edit struct {
	start, end int
	text       string
}

// touches tells whether an edit of one is at the place of an edit of the other.
func (f fix) touches(other fix) bool {
	return slices.ContainsFunc(f, func(a edit) bool {
		return slices.ContainsFunc(other, func(b edit) bool { return a.start <= b.end && b.start <= a.end })
	})
}

// apply makes the edits, which do not overlap.
func apply(data []byte, edits fix) []byte {
	sorted := slices.SortedFunc(slices.Values(edits), func(a, b edit) int { return a.start - b.start })
	var out []byte
	at := 0
	for _, e := range sorted {
		out = append(append(out, data[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, data[at:]...)
}

// cure gives the mistake noted last, if it is one at this node, the edits that
// cure it.
func (ms Mistakes) cure(n *yaml.Node, f fix) {
	if last := len(ms) - 1; last >= 0 && len(f) > 0 && ms[last].Line == n.Line && ms[last].Col == n.Column {
		ms[last].fix = &f
	}
}

// span is where a scalar's text stands in the file, without its quotes. It is
// not ok for a scalar that is written in another way than it reads: with escapes,
// over several lines, as a block, or by an alias.
func (p *parser) span(n *yaml.Node) (start, end int, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Value == "" || strings.ContainsAny(n.Value, "\r\n") {
		return 0, 0, false
	}
	quote := byte(0)
	switch n.Style {
	case 0:
	case yaml.SingleQuotedStyle:
		quote = '\''
	case yaml.DoubleQuotedStyle:
		quote = '"'
	default:
		return 0, 0, false
	}
	start = p.offset(n)
	if quote != 0 {
		if start >= len(p.data) || p.data[start] != quote {
			return 0, 0, false
		}
		start++
	}
	end = start + len(n.Value)
	ok = start <= len(p.data) && bytes.HasPrefix(p.data[start:], []byte(n.Value)) &&
		(quote == 0 || end < len(p.data) && p.data[end] == quote)
	return start, end, ok
}

// respell writes another plain word in the place of a scalar's text.
func (p *parser) respell(n *yaml.Node, word string) fix {
	start, end, ok := p.span(n)
	if !ok {
		return nil
	}
	return fix{{start, end, word}}
}

// respellKey writes the known key that a misspelt one resembles, if it is the
// only such key and the mapping does not have it already.
func (p *parser) respellKey(mapping, key *yaml.Node, known []string) fix {
	near := allNear(key.Value, known)
	if len(near) != 1 {
		return nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == near[0] {
			return nil
		}
	}
	return p.respell(key, near[0])
}

// quote puts a plain scalar into double quotes.
func (p *parser) quote(n *yaml.Node) fix {
	start, end, ok := p.span(n)
	if !ok || n.Style != 0 || strings.ContainsAny(n.Value, "\"\\") {
		return nil
	}
	return fix{{start, end, `"` + n.Value + `"`}}
}

// quoteMapping puts quotes around one line of text that YAML takes for a mapping
// of one key: echo note: done.
func (p *parser) quoteMapping(n *yaml.Node) fix {
	if len(n.Content) != 2 || n.Style != 0 || n.Content[0].Style != 0 {
		return nil
	}
	start, end, ok := p.span(n.Content[0])
	value := n.Content[1]
	switch {
	case !ok:
		return nil
	case isNull(value) && value.Value == "" && end < len(p.data) && p.data[end] == ':':
		end++
	case value.Style != 0 || value.Line != n.Content[0].Line:
		return nil
	default:
		if _, end, ok = p.span(value); !ok {
			return nil
		}
	}
	return fix{{start, end, singleQuoted(string(p.data[start:end]))}}
}

// renameItem writes the present name of an item type in input.args, and in all
// variables of the actions.
func (p *parser) renameItem(item *yaml.Node, now string) fix {
	all := p.respell(item, now)
	if all == nil || p.root == nil {
		return nil
	}
	ok := true
	for i := 0; i+1 < len(p.root.Content); i += 2 {
		switch p.root.Content[i].Value {
		case "input":
			ok = ok && !mentions(p.root.Content[i+1], now)
		case "actions", "task":
			ok = ok && p.renameVariable(p.root.Content[i+1], item.Value, now, &all)
		}
	}
	if !ok {
		return nil
	}
	return all
}

// mentions tells whether a scalar below a node is just this word.
func mentions(n *yaml.Node, word string) bool {
	return n.Kind == yaml.ScalarNode && n.Value == word || slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return mentions(c, word) })
}

// renameVariable adds the edits that rename a variable wherever a scalar below a
// node refers to it. It is false when one of the places cannot be found.
func (p *parser) renameVariable(n *yaml.Node, name, now string, edits *fix) bool {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, name) {
		for t := range scan(n.Value) {
			if t.kind == tokenRef && t.path[0] == name && !p.renameToken(n, t, now, edits) {
				return false
			}
		}
	}
	for _, child := range n.Content {
		if !p.renameVariable(child, name, now, edits) {
			return false
		}
	}
	return true
}

func (p *parser) renameToken(n *yaml.Node, t token, now string, edits *fix) bool {
	line, col := p.locate(n, t)
	start := p.offset(&yaml.Node{Line: line, Column: col})
	if start > len(p.data) || !bytes.HasPrefix(p.data[start:], []byte(t.source)) {
		return false
	}
	text := strings.Replace(t.source, t.path[0], now, 1)
	if e := (edit{start, start + len(t.source), text}); !slices.Contains(*edits, e) {
		*edits = append(*edits, e)
	}
	return true
}

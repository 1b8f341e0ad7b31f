package checks

import (
	"bytes"
	"iter"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// tokenKind says what a token of a text with variables is.
type tokenKind int

const (
	tokenText  tokenKind = iota // as it stands
	tokenRef                    // $name, ${name}, ${name.key}
	tokenStray                  // a $ that begins none of these
)

// token is one piece of a text with variables.
type token struct {
	kind   tokenKind
	source string   // as written
	text   string   // of a tokenText: what it says, $$ made $
	path   []string // of a tokenRef: the name and the keys
	offset int      // of source, in bytes
}

// scan cuts a text into tokens, by the rules of Python's string.Template with
// COMPAT.md's dots. The sources of the tokens joined are the text.
func scan(text string) iter.Seq[token] {
	return func(yield func(token) bool) {
		for at := 0; at < len(text); {
			t := nextToken(text[at:])
			t.offset = at
			if !yield(t) {
				return
			}
			at += len(t.source)
		}
	}
}

// isReference tells that a text is exactly one reference.
func isReference(text string) bool {
	if text == "" {
		return false
	}
	t := nextToken(text)
	return t.kind == tokenRef && t.source == text
}

// nextToken reads the first token of a text that is not empty.
func nextToken(s string) token {
	if s[0] != '$' {
		end := strings.IndexByte(s, '$')
		if end < 0 {
			end = len(s)
		}
		return token{source: s[:end], text: s[:end]}
	}
	if strings.HasPrefix(s, "$$") {
		return token{source: "$$", text: "$"}
	}
	if end := identifierEnd(s[1:]); end > 0 {
		return token{kind: tokenRef, source: s[:1+end], path: []string{s[1 : 1+end]}}
	}
	if path, end := bracedPath(s); end > 0 {
		return token{kind: tokenRef, source: s[:end], path: path}
	}
	return token{kind: tokenStray, source: "$", text: "$"}
}

// bracedPath reads ${name} or ${name.key}; end is behind it, 0 if s begins with
// something else. It looks no further than the first character that does not
// belong there.
func bracedPath(s string) (path []string, end int) {
	end = 1
	for next := byte('{'); ; next = '.' {
		if end >= len(s) || s[end] != next {
			return nil, 0
		}
		n := identifierEnd(s[end+1:])
		if n == 0 {
			return nil, 0
		}
		path = append(path, s[end+1:end+1+n])
		if end += 1 + n; end < len(s) && s[end] == '}' {
			return path, end + 1
		}
	}
}

// identifierEnd is the length of the identifier that s begins with, 0 for none.
func identifierEnd(s string) int {
	for i := range len(s) {
		c := s[i]
		if c != '_' && !isAlnum(c) || i == 0 && c >= '0' && c <= '9' {
			return i
		}
	}
	return len(s)
}

// template is a text whose variables are known names.
type template struct {
	parts []part
	shell bool // for /bin/sh: values are quoted
}

// part is a piece of a template: a text, or a reference if path is set.
type part struct {
	text    string
	path    []string
	quoting quoting // of a reference in shell text
}

// template reads a scalar's text. Mistakes in it stand where the reference does.
func (p *parser) template(n *yaml.Node) template {
	var b builder
	p.refuseZero(n)
	for t := range scan(n.Value) {
		switch {
		case t.kind == tokenText:
			b.text.WriteString(t.text)
		case t.kind == tokenStray:
			p.mistakeIn(n, t, "use a single $ here: write $$ for a dollar sign, ${name} for a variable")
		case p.known[t.path[0]]:
			p.formula.uses[t.path[0]] = true
			b.reference(t.path)
		default:
			p.unknownVariable(n, t, ", or $"+t.source+" for the text as it is")
		}
	}
	return template{parts: b.finish()}
}

// refuseZero refuses a text that no path, command or environment can hold.
func (p *parser) refuseZero(n *yaml.Node) {
	if strings.ContainsRune(n.Value, 0) {
		p.mistake(n, "use %s, which holds a zero byte: write a text without \\0", shown(n.Value))
	}
}

// shellTemplate reads a scalar's text as commands for /bin/sh, which leaves the
// shell what is the shell's.
func (p *parser) shellTemplate(n *yaml.Node) template {
	var b builder
	p.refuseZero(n)
	for t := range scan(n.Value) {
		switch {
		case t.kind == tokenRef && p.known[t.path[0]]:
			p.formula.uses[t.path[0]] = true
			b.reference(t.path)
		case t.kind == tokenRef && p.own[t.path[0]]:
			b.text.WriteString(t.source)
		case t.kind == tokenRef && strings.ToUpper(t.source) != t.source:
			p.unknownVariable(n, t, ", or $"+t.source+" for the shell's own variable")
		case t.kind == tokenRef:
			b.text.WriteString(t.source)
		default:
			b.text.WriteString(t.text)
		}
	}
	parts := b.finish()
	setQuoting(parts)
	return template{parts: parts, shell: true}
}

// builder collects the parts of a template; neighbouring texts become one.
type builder struct {
	parts []part
	text  strings.Builder
}

func (b *builder) reference(path []string) {
	b.parts = append(b.finish(), part{path: path})
}

// finish returns the parts so far.
func (b *builder) finish() []part {
	if b.text.Len() > 0 {
		b.parts = append(b.parts, part{text: b.text.String()})
		b.text.Reset()
	}
	return b.parts
}

// unknownVariable notes a reference to a name that nothing sets.
func (p *parser) unknownVariable(n *yaml.Node, t token, or string) {
	if p.full() {
		return
	}
	name := t.path[0]
	known := make([]string, 0, len(p.known))
	for k := range p.known {
		known = append(known, k)
	}
	near := nearest(name, known)
	switch {
	case p.isSecret(name):
		p.mistakeIn(n, t, "use the secret %s as a variable: write a command that finds it in its environment%s", name, or)
	case p.later[name]:
		p.mistakeIn(n, t, "use the variable %s before it is exported: write the action that exports it further up%s", t.source, or)
	case isItemType(name):
		p.mistakeIn(n, t, "use the variable %s without declaring it: write it under input: args: [%s]", t.source, name)
	case near != "":
		p.mistakeIn(n, t, "find the variable %s: write ${%s}%s", t.source, near, or)
	default:
		p.mistakeIn(n, t, "find the variable %s: write the name of a built-in variable, of an argument or of an earlier export%s", t.source, or)
	}
}

// mistakeIn notes a mistake at a token within a scalar.
func (p *parser) mistakeIn(n *yaml.Node, t token, format string, args ...any) {
	if p.full() {
		return
	}
	line, col := p.locate(n, t)
	p.mistakeAt(line, col, format, args...)
}

// locate finds a token in the file. The scalar's value is not its source (there
// are quotes, indentation, folded lines), but a token is never changed or torn
// on the way, so the same number of equal texts stands before it in both. An
// escaped token ("\x24name") is not found; the scalar's own place serves then.
func (p *parser) locate(n *yaml.Node, t token) (line, col int) {
	before := strings.Count(n.Value[:t.offset], t.source)
	at := p.offset(n)
	for {
		i := bytes.Index(p.data[at:], []byte(t.source))
		if i < 0 {
			return n.Line, n.Column
		}
		at += i
		if before--; before < 0 {
			break
		}
		at += len(t.source)
	}
	line = 1 + bytes.Count(p.data[:at], []byte("\n"))
	start := bytes.LastIndexByte(p.data[:at], '\n') + 1
	return line, 1 + utf8.RuneCount(p.data[start:at])
}

// offset is where a node begins in the file, in bytes.
func (p *parser) offset(n *yaml.Node) int {
	at := 0
	for range n.Line - 1 {
		at += bytes.IndexByte(p.data[at:], '\n') + 1
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(p.data[at:])
		at += size
	}
	return at
}

// hasReference tells whether a template has any variable in it.
func (t template) hasReference() bool {
	for _, part := range t.parts {
		if part.path != nil {
			return true
		}
	}
	return false
}

package checks

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// Bounds of single values.
const (
	maxName = 100      // bytes of name and of namespace
	maxLine = 200      // bytes of a value that is one line
	maxDesc = 64 << 10 // bytes of desc
)

// Parse reads one formula. The path is only for messages and positions. The
// error is a Mistakes that holds every mistake of the file; the formula is nil
// then. Nothing is read but data (COMPAT.md 2.1 is the grammar).
func Parse(path string, data []byte) (*Formula, error) {
	p := parse(path, data)
	if err := p.mistakes.err(); err != nil {
		return nil, err
	}
	p.formula.Warnings = p.warnings.sorted()
	return p.formula, nil
}

// parse reads one formula. What is wrong with it is in the parser that it
// returns; the formula there is whole only without mistakes.
func parse(path string, data []byte) *parser {
	p := &parser{file: path, data: bytes.TrimPrefix(data, []byte("\uFEFF")), known: builtins(), formula: &Formula{Path: path, uses: map[string]bool{}}}
	if len(data) > MaxFormula {
		p.mistakes = Mistakes{tooLarge(path)}
		return p
	}
	root, err := decode(data)
	var ye *yamlError
	switch {
	case errors.Is(err, errEmpty):
		p.mistakes = Mistakes{cannot(path, "read a formula from an empty file: write at least name, desc, maintainer and actions")}
	case errors.As(err, &ye):
		p.mistakeAt(ye.line, ye.col, "%s", ye.message)
		p.syntax, p.mistakes[0].yaml = true, true
	case root.Kind != yaml.MappingNode:
		p.mistake(root, "read %s as a formula: write KEY: VALUE lines, name first", kindOf(root))
	default:
		p.root = root
		p.mapping(root, "a formula", formulaKeys(), nil)
	}
	return p
}

func tooLarge(path string) Mistake {
	return cannot(path, "read a formula larger than %d KiB: write data into files beside the formula", MaxFormula>>10)
}

func builtins() map[string]bool {
	known := make(map[string]bool)
	for _, name := range assay.BuiltinVars() {
		known[name] = true
	}
	return known
}

// parser reads one formula and collects its mistakes.
type parser struct {
	file     string
	data     []byte
	mistakes Mistakes
	warnings Mistakes
	syntax   bool            // the one mistake is that the file is no YAML
	root     *yaml.Node      // of the document; nil when it is no mapping
	known    map[string]bool // the variables known so far
	later    map[string]bool // those that any action exports
	own      map[string]bool // those of the shell that this action's env sets
	formula  *Formula
}

// mistake notes a mistake at a node; the message goes on after "cannot ".
func (p *parser) mistake(n *yaml.Node, format string, args ...any) {
	p.mistakeAt(n.Line, n.Column, format, args...)
}

func (p *parser) mistakeAt(line, col int, format string, args ...any) {
	switch {
	case p.full():
		return
	case len(p.mistakes) == maxFileMistake:
		format, args = "list more than %d mistakes of one file: mend these first", []any{maxFileMistake}
	}
	m := cannot(p.file, format, args...)
	m.Line, m.Col = max(line, 1), max(col, 1)
	p.mistakes = append(p.mistakes, m)
}

// warn notes at a node what works but ought to be written otherwise; the message
// says both.
func (p *parser) warn(n *yaml.Node, format string, args ...any) {
	if len(p.warnings) < maxFileMistake {
		m := Mistake{File: p.file, Line: max(n.Line, 1), Col: max(n.Column, 1), Message: oneLine(fmt.Sprintf(format, args...), maxMessage), Warning: true}
		p.warnings = append(p.warnings, m)
	}
}

// full tells that no more mistakes are told, so that none need to be looked for.
func (p *parser) full() bool { return len(p.mistakes) > maxFileMistake }

// position is FILE:LINE:COL of a node.
func (p *parser) position(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", oneLine(p.file, maxShownPath), n.Line, n.Column)
}

// key is one entry of a table of keys. Keys are read in the table's order, not
// the file's, so that what one needs stands before it.
type key struct {
	name     string
	older    string // another spelling, read alike; "" for none
	required bool
	read     func(*parser, *yaml.Node)
}

// field is one KEY: VALUE of a mapping.
type field struct{ key, value *yaml.Node }

// mapping reads a mapping by a table. A key that is in no table goes to other,
// or is a mistake if that is nil. It tells false when n is no mapping.
func (p *parser) mapping(n *yaml.Node, what string, keys []key, other func(field)) bool {
	if n.Kind != yaml.MappingNode {
		p.mistake(n, "read %s as %s: write KEY: VALUE lines with %s", kindOf(n), what, oneOf(names(keys)))
		return false
	}
	fields, meant := p.sortFields(n, what, keys, other)
	for _, k := range keys {
		switch f, ok := fields[k.name]; {
		case ok:
			k.read(p, f.value)
		case k.required && !meant[k.name]:
			p.mistake(n, "read %s without %s: write %s: VALUE", what, k.name, k.name)
		}
	}
	return true
}

// sortFields assigns the fields of a mapping to the table's names. It tells too
// which names were probably meant by misspelt keys: these are not missing.
func (p *parser) sortFields(n *yaml.Node, what string, keys []key, other func(field)) (fields map[string]field, meant map[string]bool) {
	fields, meant = make(map[string]field), make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		f := field{n.Content[i], n.Content[i+1]}
		name := f.key.Value
		at := slices.IndexFunc(keys, func(k key) bool { return name == k.name || name == k.older && name != "" })
		switch {
		case at >= 0 && fields[keys[at].name].key != nil:
			p.mistake(f.key, "use both %s and %s, they mean the same: write only %s", keys[at].older, keys[at].name, keys[at].name)
		case at >= 0:
			fields[keys[at].name] = f
			if name == keys[at].older {
				p.warn(f.key, "%s is the older spelling of %s: write %s", name, keys[at].name, keys[at].name)
				p.warnings.cure(f.key, p.respell(f.key, keys[at].name))
			}
		case other != nil:
			other(f)
		default:
			meant[nearest(name, names(keys))] = true
			p.mistake(f.key, "use the key %s in %s: %s", shown(name), what, didYouMean(name, names(keys)))
			p.mistakes.cure(f.key, p.respellKey(n, f.key, names(keys)))
		}
	}
	return fields, meant
}

func names(keys []key) []string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = k.name
	}
	return all
}

// formulaKeys is the table of a formula's own keys.
func formulaKeys() []key {
	return []key{
		{name: "name", required: true, read: readName},
		{name: "desc", required: true, read: readDesc},
		{name: "maintainer", required: true, read: readMaintainer},
		{name: "namespace", read: readNamespace},
		{name: "input", read: readInput},
		{name: "environment", read: readEnvironment},
		{name: "timeout", read: readTimeout},
		{name: "required", read: readRequired},
		{name: "on", read: readOn},
		{name: "matrix", read: readMatrix},
		{name: "needs", read: readNeeds},
		{name: "retries", read: readRetries},
		{name: "secrets", read: readSecrets},
		{name: "actions", older: "task", required: true, read: readActions},
	}
}

func readName(p *parser, n *yaml.Node) {
	at := cannot(p.file, "")
	at.Line, at.Col = n.Line, n.Column
	p.formula.nameAt = at
	p.formula.Name = p.safeName(n, "name")
}

func readNamespace(p *parser, n *yaml.Node) { p.formula.Namespace = p.safeName(n, "namespace") }

func readMaintainer(p *parser, n *yaml.Node) { p.formula.Maintainer = p.line(n, "maintainer") }

func readDesc(p *parser, n *yaml.Node) {
	s, ok := p.text(n, "desc")
	switch {
	case ok && strings.TrimSpace(s) == "":
		p.mistake(n, "use an empty text as desc: write what the check looks for")
	case len(s) > maxDesc:
		p.mistake(n, "use more than %d KiB as desc: write a shorter text", maxDesc>>10)
	}
	p.formula.Desc = strings.TrimSpace(s)
}

// readInput takes an empty input too, as it takes an empty environment: what is
// below may be commented out.
func readInput(p *parser, n *yaml.Node) {
	if !isNull(n) {
		p.mapping(n, "input", inputKeys(), nil)
	}
}

// inputKeys is the table of the keys below input.
func inputKeys() []key { return []key{{name: "args", required: true, read: readArgs}} }

// readArgs reads input.args. Only known names are taken: what no event and no
// command line can give would make a check that never runs.
func readArgs(p *parser, n *yaml.Node) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		p.mistake(n, "read %s as input.args: write a list: args: [koji_build]", kindOf(n))
		return
	}
	for _, item := range n.Content {
		name, ok := p.text(item, "an argument")
		switch {
		case !ok:
		case !slices.Contains(inputNames(), name):
			p.mistake(item, "take %s as an argument: %s", shown(name), didYouMean(name, inputNames()))
		case slices.Contains(p.formula.Args, name):
			p.mistake(item, "take the argument %s twice: write it once", name)
		default:
			p.formula.Args = append(p.formula.Args, name)
			p.known[name] = true
			if now := currentType(name); now != name {
				p.warn(item, "%s is the older name of %s: write %s, and ${%s} where its value is used", name, now, now, now)
				p.warnings.cure(item, p.renameItem(item, now))
			}
		}
	}
}

// readRequired reads whether a bad verdict is one for the whole commit.
func readRequired(p *parser, n *yaml.Node) {
	required, ok := parseBool(n)
	if !ok {
		p.mistake(n, "read %s as required: write true or false", valueOf(n))
		return
	}
	p.formula.Optional = !required
}

func readTimeout(p *parser, n *yaml.Node) { p.formula.Timeout = p.duration(n) }

// duration reads a timeout, of a formula or of one action; 0 with a mistake.
func (p *parser) duration(n *yaml.Node) time.Duration {
	d, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil:
		p.mistake(n, "read %s as a timeout: write a number with a unit, such as 90s, 10m or 2h", valueOf(n))
	case d < MinTimeout || d > MaxTimeout:
		p.mistake(n, "use the timeout %s: write one from 1s to 24h", shown(n.Value))
	default:
		return d
	}
	return 0
}

// text reads a scalar that is a string. What YAML takes for a number or a
// boolean must be quoted.
func (p *parser) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!timestamp":
			return n.Value, true
		case "!!int", "!!float", "!!bool":
			p.mistake(n, "read %s as %s: write it in quotes: \"%s\"", kindOf(n), what, oneLine(n.Value, 40))
			p.mistakes.cure(n, p.quote(n))
			return "", false
		}
	}
	p.mistake(n, "read %s as %s: write a text", kindOf(n), what)
	return "", false
}

// line reads a string that is one printable line of 1 to maxLine bytes.
func (p *parser) line(n *yaml.Node, what string) string {
	s, ok := p.text(n, what)
	s = strings.TrimSpace(s)
	switch {
	case !ok:
	case s == "":
		p.mistake(n, "use an empty text as %s: write one line", what)
	case len(s) > maxLine:
		p.mistake(n, "use more than %d bytes as %s: write a shorter text", maxLine, what)
	case oneLine(s, maxLine+1) != s:
		p.mistake(n, "use control characters or line ends as %s: write one plain line", what)
	default:
		return s
	}
	return ""
}

// safeName reads a name that becomes part of a status context.
func (p *parser) safeName(n *yaml.Node, what string) string {
	s, ok := p.text(n, what)
	if ok && !isSafeName(s) {
		p.mistake(n, "use %s as %s: write 1 to %d of A-Z a-z 0-9 . _ + -, the first a letter or digit", shown(s), what, maxName)
		return ""
	}
	return s
}

// isSafeName matches [A-Za-z0-9][A-Za-z0-9._+-]{0,99}.
func isSafeName(s string) bool {
	if s == "" || len(s) > maxName || !isAlnum(s[0]) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r >= utf8.RuneSelf || !isAlnum(byte(r)) && !strings.ContainsRune("._+-", r)
	}) < 0
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// kindOf names what a node is, for "cannot read a list as …".
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	}
	return "a text"
}

// valueOf shows a scalar's text, and what any other node is.
func valueOf(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return kindOf(n)
	}
	return shown(n.Value)
}

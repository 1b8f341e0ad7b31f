package checks

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// manual documents one directive. The schema, assay help directive NAME and the
// page of directives are made of it, and of nothing else.
type manual struct {
	short   string // one line without a full stop: "run commands"
	text    string // paragraphs, separated by empty lines; "" for none
	args    []argument
	bare    shape  // what stands in place of the arguments' mapping, nil when only the mapping does
	value   string // what export stores; "" for nothing
	example string // one action, in YAML, that lint finds no mistake in
}

// argument documents one argument of a directive.
type argument struct {
	name      string
	text      string // one sentence
	required  bool
	shape     shape
	otherwise string // the default, "" for none
}

// shape is a fragment of JSON Schema (draft 2020-12).
type shape map[string]any

func shapeText() shape { return shape{"type": "string"} }
func shapeBool() shape { return shape{"type": "boolean"} }
func shapeAny() shape  { return shape{} }

// shapeListOf is a list of at least one.
func shapeListOf(item shape) shape { return shape{"type": "array", "items": item, "minItems": 1} }

func shapeWords(words ...string) shape { return shape{"enum": words} }

func shapeEither(shapes ...shape) shape { return shape{"anyOf": shapes} }

// Directive is one directive for who writes formulas.
type Directive struct {
	Name  string
	Short string // one line without a full stop
}

// Directives lists what formulas may use, sorted by name.
func Directives() []Directive {
	var all []Directive
	for _, name := range slices.Sorted(maps.Keys(directives())) {
		all = append(all, Directive{name, directives()[name]().manual().short})
	}
	return all
}

// DirectiveHelp is all about one directive, as plain text for a terminal of 80
// columns. An older spelling serves as well. The error names the directive that
// was probably meant.
func DirectiveHelp(name string) (string, error) {
	kind := olderDirective(name)
	empty, ok := directives()[kind]
	if !ok {
		return "", fmt.Errorf("cannot find the directive %s: %s", shown(name), didYouMean(name, slices.Collect(maps.Keys(directives()))))
	}
	var b strings.Builder
	if kind != name {
		fmt.Fprintf(&b, "%s is the older spelling of %s.\n\n", name, kind)
	}
	m := empty().manual()
	fmt.Fprintf(&b, "%s: %s\n", kind, m.short)
	if m.text != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(m.text))
	}
	for i, a := range m.args {
		if i == 0 {
			b.WriteString("\nArguments:\n")
		}
		fmt.Fprintf(&b, "  %s (%s)\n%s", a.name, a.kind(), indented(a.text, 6, 74))
	}
	if m.bare != nil {
		fmt.Fprintf(&b, "\nIt takes %s.\n", shapeWordsOf(m.bare))
	}
	fmt.Fprintf(&b, "\nexport stores %s.\n\nExample:\n", cmp.Or(m.value, "nothing"))
	for i, line := range strings.Split(strings.TrimSpace(m.example), "\n") {
		b.WriteString(map[bool]string{true: "  - ", false: "    "}[i == 0] + line + "\n")
	}
	return b.String(), nil
}

// DirectivesPage is the page docs/directives.md, in Markdown.
func DirectivesPage() string {
	var b strings.Builder
	b.WriteString("# Directives\n\nWhat an action of a formula may do. [formulas.md](formulas.md) tells the rest of the language.\n" +
		"`assay help directive NAME` prints the same. This page is made from the source: change the\n" +
		"directive's `manual()`, then `go test ./checks -run TestDirectivesPage -update`.\n\n| directive | what it does |\n|---|---|\n")
	for _, d := range Directives() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s |\n", d.Name, d.Name, cell(d.Short))
	}
	for _, d := range Directives() {
		b.WriteString(directives()[d.Name]().manual().section(d.Name))
	}
	return b.String()
}

// section is a directive's part of the page.
func (m manual) section(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s.\n", name, strings.ToUpper(m.short[:1])+m.short[1:])
	if m.text != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(m.text))
	}
	for i, a := range m.args {
		if i == 0 {
			b.WriteString("\n| argument | takes | meaning |\n|---|---|---|\n")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", a.name, cell(a.kind()), cell(a.text))
	}
	if m.bare != nil {
		fmt.Fprintf(&b, "\nIt takes %s.\n", shapeWordsOf(m.bare))
	}
	fmt.Fprintf(&b, "\n`export` stores %s.\n\n```yaml\n", cmp.Or(m.value, "nothing"))
	for i, line := range strings.Split(strings.TrimSpace(m.example), "\n") {
		b.WriteString(map[bool]string{true: "- ", false: "  "}[i == 0] + line + "\n")
	}
	b.WriteString("```\n")
	return b.String()
}

// cell is a text within a table of Markdown.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// kind says what an argument takes, whether it must be there, and its default.
func (a argument) kind() string {
	words := shapeWordsOf(a.shape)
	switch {
	case a.required:
		return words + ", required"
	case a.otherwise != "":
		return words + ", default " + a.otherwise
	}
	return words
}

// shapeWordsOf says a shape in words.
func shapeWordsOf(s shape) string {
	if either, ok := s["anyOf"].([]shape); ok {
		return eitherWords(either)
	}
	if words, ok := s["enum"].([]string); ok {
		last := len(words) - 1
		return strings.TrimPrefix(strings.Join(words[:last], ", ")+" or "+words[last], " or ")
	}
	if kinds, ok := s["type"].([]string); ok && slices.Contains(kinds, "number") {
		return "a text or a number"
	}
	switch s["type"] {
	case "string":
		return "a text"
	case "boolean":
		return "true or false"
	case "integer", "number":
		return "a number"
	case "array":
		items, _ := s["items"].(shape)
		if words := shapeWordsOf(items); words != "anything" {
			return "a list, each " + words
		}
		return "a list"
	case "object":
		properties, _ := s["properties"].(map[string]any)
		if names := slices.Sorted(maps.Keys(properties)); len(names) > 0 {
			return "a mapping with " + strings.Join(names, ", ")
		}
		return "a mapping"
	case "null":
		return "nothing"
	}
	return "anything"
}

// eitherWords says what may stand in one place. That nothing may goes without
// saying, and what is deprecated better does.
func eitherWords(either []shape) string {
	var all []string
	for _, one := range either {
		words := shapeWordsOf(one)
		if item, ok := strings.CutPrefix(words, "a list, each "); ok && slices.Contains(all, item) {
			words = "a list of them"
		}
		if one["type"] != "null" && one["deprecated"] == nil && !slices.Contains(all, words) {
			all = append(all, words)
		}
	}
	return strings.Join(all, ", or ")
}

// indented breaks a text into lines of so many columns.
func indented(text string, by, columns int) string {
	var b strings.Builder
	room := 0
	for _, word := range strings.Fields(text) {
		if n := utf8.RuneCountInString(word); b.Len() == 0 || n+1 > room {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			b.WriteString(strings.Repeat(" ", by) + word)
			room = columns - by - n
		} else {
			b.WriteString(" " + word)
			room -= n + 1
		}
	}
	return b.String() + "\n"
}

package checks

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// fixSyntax is the file with one mistake in its YAML cured, nil when the cure is
// not plain.
func (p *parser) fixSyntax() []byte {
	m := p.mistakes[0]
	var fixed []byte
	switch message := strings.TrimPrefix(m.Message, "cannot "); {
	case strings.HasPrefix(message, "indent with a tab"):
		return untab(p.data)
	case strings.HasPrefix(message, "begin a value with "):
		fixed = quoteRest(p.data, m.Line, m.Col-1)
	case strings.HasPrefix(message, `read a second ": "`):
		fixed = quoteRest(p.data, m.Line, valueStart(lineOf(p.data, m.Line)))
	}
	if fixed == nil {
		return nil
	}
	// One mistake may stand behind another, but the next one must be further down.
	if after := parse(p.file, fixed); after.syntax && after.mistakes[0].Line <= m.Line {
		return nil
	}
	return fixed
}

// valueStart is where the value of KEY: VALUE begins in a line, counted in
// characters, -1 if the line is something else. A list's item may be a command
// with a colon in it as well as a mapping, but for one that begins with name.
func valueStart(line string) int {
	form := regexp.MustCompile(`^( *(?:- +name|[A-Za-z_][A-Za-z0-9_.-]*): +)[^\s'"\[{|>&*!#%@` + "`" + `-]`)
	m := form.FindStringSubmatch(line)
	if m == nil {
		return -1
	}
	return len(m[1])
}

// quoteRest puts single quotes around the rest of a line from a character on,
// but for a comment. It is nil where that rest may be part of a list or a mapping
// in brackets.
func quoteRest(data []byte, number, from int) []byte {
	line := lineOf(data, number)
	if from < 0 || from >= len(line) || strings.ContainsAny(line[:from], "[{\"'") || !isASCII(line[:from]) {
		return nil
	}
	value, _, _ := strings.Cut(line[from:], " #")
	value = strings.TrimRight(value, " \t")
	if value == "" || strings.ContainsAny(value[len(value)-1:], ",]}") {
		return nil
	}
	start := lineOffset(data, number) + from
	return apply(data, fix{{start, start + len(value), singleQuoted(value)}})
}

// isASCII tells that a text has as many bytes as characters.
func isASCII(s string) bool { return utf8.RuneCountInString(s) == len(s) }

// lineOffset is where a line with a number (from 1) begins.
func lineOffset(data []byte, number int) int {
	at := 0
	for range number - 1 {
		at += bytes.IndexByte(data[at:], '\n') + 1
	}
	return at
}

func singleQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// untab writes spaces for the tabs that lines begin with. It is nil unless all
// widths of a tab that make YAML of the file make the same of it, and nil in a
// file with blocks of text, which may hold tabs of their own.
func untab(data []byte) []byte {
	if regexp.MustCompile(`(?m)[|>][-+0-9]*[ \t]*(#.*)?\r?$`).Match(data) {
		return nil
	}
	var fixed []byte
	var tree *yaml.Node
	for _, width := range []int{2, 4, 8} {
		text := expandTabs(data, width)
		root, err := decode(text)
		switch {
		case err != nil:
		case tree == nil:
			fixed, tree = text, root
		case !sameTree(tree, root):
			return nil
		}
	}
	return fixed
}

// expandTabs writes so many spaces for each tab that a line begins with.
func expandTabs(data []byte, width int) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		rest := bytes.TrimLeft(line, " \t")
		indent := bytes.ReplaceAll(line[:len(line)-len(rest)], []byte("\t"), bytes.Repeat([]byte(" "), width))
		out.Write(indent)
		out.Write(rest)
	}
	return out.Bytes()
}

// sameTree tells that two trees say the same.
func sameTree(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.Value == b.Value && a.ShortTag() == b.ShortTag() && slices.EqualFunc(a.Content, b.Content, sameTree)
}

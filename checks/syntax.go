package checks

import (
	"bytes"
	"sort"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// syntaxError says in our words, and at the right place, what the YAML library
// cannot read.
func syntaxError(data []byte, err error) error {
	line := syntaxLine(data, err)
	text := lineOf(data, line)
	problem := err.Error()
	problem = problem[strings.LastIndex(problem, ": ")+1:]
	problem = strings.TrimSpace(strings.TrimPrefix(problem, "yaml:"))
	tab := strings.IndexByte(text[:len(text)-len(strings.TrimLeft(text, " \t"))], '\t')
	if tab >= 0 {
		return &yamlError{line, tab + 1, "indent with a tab: write spaces"}
	}
	col := len(text) - len(strings.TrimLeft(text, " ")) + 1
	if strings.TrimSpace(text) == "" {
		col = 1
	}
	if strings.Contains(err.Error(), "cannot start any token") {
		if at := specialStart(text); at >= 0 {
			col = utf8.RuneCountInString(text[:at]) + 1
			return &yamlError{line, col, "begin a value with " + shown(text[at:at+1]) + ": write it in quotes"}
		}
	}
	return &yamlError{line, col, syntaxMessage(err.Error(), problem)}
}

// syntaxLine finds the line that the library stumbles over. The line it names
// is often that of the block around, and off by one; but it reads from the
// front, so the shortest beginning of the file that fails in the same way ends
// with the line in question. A long file keeps the library's own word.
func syntaxLine(data []byte, err error) int {
	const longest = 128 << 10
	ends := lineEnds(data)
	if len(data) > longest {
		return min(statedLine(err.Error()), len(ends))
	}
	want := err.Error()
	i := sort.Search(len(ends)-1, func(i int) bool {
		var n yaml.Node
		err := guarded(func() error { return yaml.Unmarshal(data[:ends[i]], &n) })
		return err != nil && err.Error() == want
	})
	return i + 1
}

// lineEnds lists the offsets behind every line's last byte.
func lineEnds(data []byte) []int {
	var ends []int
	for start := 0; start < len(data); {
		n := bytes.IndexByte(data[start:], '\n')
		if n < 0 {
			break
		}
		start += n + 1
		ends = append(ends, start)
	}
	if len(ends) == 0 || ends[len(ends)-1] < len(data) {
		ends = append(ends, len(data))
	}
	return ends
}

// statedLine reads N of "yaml: line N: …"; 1 if it names none.
func statedLine(s string) int {
	_, s, _ = strings.Cut(s, "line ")
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' || n > MaxFormula {
			break
		}
		n = n*10 + int(r-'0')
	}
	return max(n, 1)
}

// syntaxWords are the library's problems and what we say instead.
func syntaxWords() [][2]string {
	return [][2]string{
		{"mapping values are not allowed", "read a second \": \" in this line: write the value in quotes, or begin a new line"},
		{"did not find expected key", "fit this line into the mapping around it: write KEY: VALUE, indented exactly like its neighbours"},
		{"did not find expected '-' indicator", "fit this line into the list around it: write it indented exactly like its neighbours, with \"- \" for another item"},
		{"could not find expected ':'", "find the value of this key: write KEY: VALUE with a colon and a space"},
		{"did not find expected ',' or ']'", "find the end of the list in brackets: write , between its values and ] after them, and ${…} in quotes"},
		{"did not find expected ',' or '}'", "find the end of the mapping in braces: write , between its values and } after them, and ${…} in quotes"},
		{"found unexpected end of stream", "find the end of the quoted text: write the closing quote"},
		{"found unexpected document indicator", "find the end of the quoted text: write the closing quote"},
		{"found unknown escape character", "read the escape after \\: write \\\\ for a backslash, or use single quotes"},
		{"unknown anchor", "find the anchor that this alias names: write the value itself"},
		{"block sequence entries are not allowed", "begin a list here: write the \"- \" on a line of its own, indented"},
		{"mapping keys are not allowed", "begin a key here: write the value in quotes"},
		{"cannot start any token", "begin a value with this character: write it in quotes"},
		{"exceeded max depth", "read lists and mappings nested so deep: write it flatter"},
		{"did not find expected <document start>", "read what follows the document: write everything as one mapping of KEY: VALUE lines"},
		{"did not find expected node content", "find a value here: write one, in quotes if it begins with a special character"},
		{"did not find expected alphabetic or numeric character", "begin a value with & or *: write it in quotes"},
		{"while scanning a block scalar", "read the indentation of this text: write every line of it indented alike"},
	}
}

// syntaxMessage picks the words for a problem.
func syntaxMessage(full, problem string) string {
	for _, w := range syntaxWords() {
		if strings.Contains(full, w[0]) {
			return w[1]
		}
	}
	return "read this as YAML (" + problem + "): write KEY: VALUE lines, and quotes around unusual values"
}

// specialStart finds the character that YAML reserves at the beginning of a
// value, as far as it can be told from the line; -1 if it cannot.
func specialStart(text string) int {
	begins := true
	for i := range len(text) {
		switch c := text[i]; {
		case begins && strings.IndexByte("@`%\t", c) >= 0:
			return i
		case c == ' ' && !begins && i > 0:
			begins = strings.IndexByte(":-,?", text[i-1]) >= 0
		case c != ' ':
			begins = c == '[' || c == '{'
		}
	}
	return -1
}

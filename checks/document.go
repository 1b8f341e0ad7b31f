package checks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Bounds of a formula file.
const (
	// MaxFormula is the size of the largest formula that is read, in bytes.
	MaxFormula = 1 << 20

	maxDepth   = 64      // of nested lists and mappings
	maxAliased = 1000    // nodes that aliases may stand for, all together
	maxCopied  = 1 << 20 // bytes of text that aliases may stand for, all together
)

// yamlError is what is wrong with YAML text as such. Its message is the end of
// a sentence: "cannot …".
type yamlError struct {
	line, col int
	message   string
}

func (e *yamlError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.message) }

// errEmpty tells of a file without any YAML in it.
var errEmpty = errors.New("cannot find any YAML in it")

// decode reads exactly one YAML document and returns its root, every alias
// replaced by what it stands for. The tree is a plain tree of at most maxDepth
// levels with unique keys.
func decode(data []byte) (*yaml.Node, error) {
	if err := checkBytes(data); err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	root, err := decodeOne(data)
	if err != nil {
		return nil, err
	}
	c := cleaner{nodes: maxAliased, bytes: maxCopied}
	if err := c.clean(root, 0, false); err != nil {
		return nil, err
	}
	return root, nil
}

// checkBytes refuses what is not text, with the place of the first bad byte.
func checkBytes(data []byte) error {
	line, col := 1, 0
	for i := 0; i < len(data); {
		r, size := rune(data[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(data[i:])
		}
		col++
		switch {
		case r == '\n':
			line, col = line+1, 0
		case r == utf8.RuneError && size == 1:
			return &yamlError{line, col, "read this file as text: the byte " + fmt.Sprintf("0x%02x", data[i]) + " is not UTF-8: write plain UTF-8 text"}
		case isControl(r):
			return &yamlError{line, col, fmt.Sprintf("read this file as text: it holds the control character U+%04X: write plain UTF-8 text", r)}
		}
		i += size
	}
	return nil
}

// isControl tells the characters that YAML does not allow (YAML 1.1, 4.1).
func isControl(r rune) bool {
	switch r {
	case '\t', '\n', '\r', 0x85:
		return false
	}
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffe || r == 0xffff
}

// decodeOne decodes the first document and makes sure that it is the last.
func decodeOne(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := guarded(func() error { return dec.Decode(&doc) }); errors.Is(err, io.EOF) {
		return nil, errEmpty
	} else if err != nil {
		return nil, syntaxError(data, err)
	}
	err := guarded(func() error { return dec.Decode(&more) })
	if errors.Is(err, io.EOF) && len(doc.Content) > 0 {
		return doc.Content[0], nil
	}
	if errors.Is(err, io.EOF) {
		return nil, errEmpty
	}
	if err != nil {
		return nil, syntaxError(data, err)
	}
	return nil, &yamlError{more.Line, max(more.Column, 1), "read more than one YAML document: write one formula a file, without a second ---"}
}

// guarded turns a panic of the YAML library into an error: its input is hostile
// and the library is not ours.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: internal error: %v", r)
		}
	}()
	return f()
}

// cleaner walks a fresh tree and makes it plain.
type cleaner struct {
	nodes int // that aliases may still stand for
	bytes int // of their text
}

// clean checks a node and all below it. Aliases are followed at every place
// they stand, so that their cost is counted as often as it is paid.
func (c *cleaner) clean(n *yaml.Node, depth int, aliased bool) error {
	if depth > maxDepth {
		return at(n, "read lists and mappings nested more than %d deep: write it flatter", maxDepth)
	}
	if aliased {
		c.nodes, c.bytes = c.nodes-1, c.bytes-len(n.Value)
		if c.nodes < 0 || c.bytes < 0 {
			return at(n, "expand aliases to more than %d values or %d KiB: write the values themselves", maxAliased, maxCopied>>10)
		}
	}
	if err := checkTag(n); err != nil {
		return err
	}
	for i, child := range n.Content {
		below := aliased
		if child.Kind == yaml.AliasNode {
			below, child = true, child.Alias
			n.Content[i] = child
		}
		if err := c.clean(child, depth+1, below); err != nil {
			return err
		}
	}
	if n.Kind == yaml.MappingNode && !aliased {
		return checkKeys(n)
	}
	return nil
}

// checkTag refuses what a tag might make of a value. What PyYAML writes before
// the strings of Python 2 is a string.
func checkTag(n *yaml.Node) error {
	if n.Style&yaml.TaggedStyle == 0 {
		return nil
	}
	switch n.ShortTag() {
	case "!!str", "!!python/unicode", "!!python/str":
		if n.Kind == yaml.ScalarNode {
			n.Tag = "!!str"
			return nil
		}
	}
	return at(n, "use the YAML tag %s: write the value without a tag", shown(n.Tag))
}

// checkKeys wants keys that are text and differ.
func checkKeys(n *yaml.Node) error {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			return at(key, "use a list or a mapping as a key: write a word")
		case key.ShortTag() == "!!merge":
			return at(key, "merge mappings with <<: write the keys themselves")
		case seen[key.Value] > 0:
			return at(key, "use the key %s twice, it stands in line %d already: write it once", shown(key.Value), seen[key.Value])
		}
		seen[key.Value] = key.Line
	}
	return nil
}

// at makes a yamlError about a node.
func at(n *yaml.Node, format string, args ...any) error {
	return &yamlError{max(n.Line, 1), max(n.Column, 1), fmt.Sprintf(format, args...)}
}

// lineOf returns the line with a number (from 1) without its end.
func lineOf(data []byte, number int) string {
	for ; number > 1; number-- {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return strings.TrimSuffix(string(line), "\r")
}

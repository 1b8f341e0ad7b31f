package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxDepth is how deeply a payload may nest. GitHub's go to about ten.
const maxDepth = 64

// checkShape refuses what no decoder should be given: bytes that are not UTF-8
// (encoding/json would replace them), bottomless nesting, and objects that have
// a key twice (encoding/json would take the last one, others take the first).
// What else is wrong with the JSON the decoder will say.
func checkShape(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	var s shape
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '"':
			end := stringEnd(body, i)
			if err := s.text(body[i:end]); err != nil {
				return err
			}
			i = end - 1
		case '{', '[':
			if err := s.open(c == '{'); err != nil {
				return err
			}
		case '}', ']':
			s.depth = max(0, s.depth-1)
			s.key = false
		case ',':
			s.key = s.depth > 0 && s.levels[s.depth-1].object
		case ':':
			s.key = false
		}
	}
	return nil
}

// shape is where in the nesting a reader is. A level's keys are kept for the
// next object at the same depth, to be emptied then.
type shape struct {
	levels []level
	depth  int
	key    bool // the next string is a key
}

type level struct {
	object bool
	keys   map[string]struct{}
}

func (s *shape) open(object bool) error {
	if s.depth++; s.depth > maxDepth {
		return fmt.Errorf("it nests more than %d deep", maxDepth)
	}
	if len(s.levels) < s.depth {
		s.levels = append(s.levels, level{keys: map[string]struct{}{}})
	}
	at := &s.levels[s.depth-1]
	at.object, s.key = object, object
	switch {
	case object && len(at.keys) > 64: // emptying a map costs as much as it was ever large
		at.keys = map[string]struct{}{}
	case object:
		clear(at.keys)
	}
	return nil
}

// text takes a string with its quotes, and counts it if it is a key.
func (s *shape) text(quoted []byte) error {
	if !s.key {
		return nil
	}
	s.key = false
	name := keyName(quoted)
	keys := s.levels[s.depth-1].keys
	if _, twice := keys[name]; twice {
		return fmt.Errorf("%s is given twice", quote(name))
	}
	keys[name] = struct{}{}
	return nil
}

// keyName undoes escapes: "\u0061" is the key "a".
func keyName(quoted []byte) string {
	var name string
	switch {
	case len(quoted) < 2:
		return "" // the payload ends here; the decoder says so
	case bytes.IndexByte(quoted, '\\') >= 0 && json.Unmarshal(quoted, &name) == nil:
		return name
	}
	return string(quoted[1 : len(quoted)-1])
}

// stringEnd is the index after the string that begins at a quotation mark. Most
// have no escapes, and are searched at once.
func stringEnd(body []byte, at int) int {
	quick := bytes.IndexByte(body[at+1:], '"')
	if quick < 0 {
		return len(body)
	}
	end := at + 1 + quick
	if bytes.IndexByte(body[at+1:end], '\\') < 0 {
		return end + 1
	}
	for i := at + 1; i < len(body); i++ {
		switch body[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(body)
}

// members is a JSON object with those members of body, an object of good shape,
// that have one of the keys: so that a decoder need not look at the others. What is
// no object, or not JSON at all, comes back as it is.
func members(body []byte, keys ...string) []byte {
	if !json.Valid(body) {
		return body
	}
	out := []byte{'{'}
	depth, begun, wanted := 0, 0, false
	end := func(at int) {
		if wanted {
			out = append(append(out, body[begun:at]...), ',')
		}
		wanted = false
	}
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			after := stringEnd(body, i)
			if depth == 1 && begun == 0 {
				begun, wanted = i, slices.Contains(keys, string(body[i+1:after-1]))
			}
			i = after - 1
		case '{', '[':
			if depth++; depth == 1 && body[i] == '[' {
				return body
			}
		case ',':
			if depth == 1 {
				end(i)
				begun = 0
			}
		case '}', ']':
			if depth--; depth == 0 {
				end(i)
			}
		}
	}
	if len(out) == 1 {
		return body // nothing of it: the decoder says what it is
	}
	out[len(out)-1] = '}'
	return out
}

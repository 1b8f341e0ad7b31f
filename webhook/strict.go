package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// field is one key that an object may have.
type field struct {
	name     string
	optional bool
	set      func(raw json.RawMessage) error // its error begins with "must"
}

// readObject reads one JSON object that has no keys but those of fields, none
// of them twice, and all that are not optional. encoding/json by itself takes
// the last of two equal keys and does not mind their case. A last field without
// a name stands for all other keys.
func readObject(body []byte, fields []field) error {
	if err := checkShape(body); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return objectError(err)
	}
	seen := map[string]bool{}
	for dec.More() {
		if err := readKey(dec, fields, seen); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return objectError(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	for _, f := range fields {
		if !f.optional && !seen[f.name] {
			return fmt.Errorf("%q is missing", f.name)
		}
	}
	return nil
}

func readKey(dec *json.Decoder, fields []field, seen map[string]bool) error {
	token, err := dec.Token()
	if err != nil {
		return objectError(err)
	}
	key, _ := token.(string) // the decoder takes nothing else here
	known := find(fields, key)
	if known == nil {
		return fmt.Errorf("the key %s is unknown%s", quote(key), didYouMean(key, fields))
	}
	if known.name != "" && seen[key] {
		return fmt.Errorf("%q is given twice", key)
	}
	seen[key] = true
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return objectError(err)
	}
	if err := known.set(raw); err != nil {
		return fmt.Errorf("%s %v", quote(key), err)
	}
	return nil
}

func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	if last := len(fields) - 1; last >= 0 && fields[last].name == "" {
		return &fields[last]
	}
	return nil
}

// objectError puts the decoder's word in ours. err is nil when the JSON is fine
// but no object.
func objectError(err error) error {
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return errors.New("it is not a JSON object")
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON: %v, at byte %d", syntax, syntax.Offset)
	default:
		return errors.New("it is not JSON: it ends too early")
	}
}

// text takes a string for which valid holds; want says what that is.
func text(to *string, valid func(string) bool, want string) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if kind := kindOf(raw); kind != "a string" {
			return fmt.Errorf("must be a string, not %s", kind)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return errors.New("must be a string")
		}
		if !valid(*to) {
			return fmt.Errorf("must be %s, not %s", want, quote(*to))
		}
		return nil
	}
}

// texts takes a list of at most limit such strings.
func texts(to *[]string, limit int, valid func(string) bool, want string) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		if kind := kindOf(raw); kind != "a list" {
			return fmt.Errorf("must be a list of strings, not %s", kind)
		}
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return errors.New("must be a list of strings")
		}
		if len(items) > limit {
			return fmt.Errorf("must have at most %d entries, not %d", limit, len(items))
		}
		*to = make([]string, len(items))
		for i, item := range items {
			if err := text(&(*to)[i], valid, want)(item); err != nil {
				return fmt.Errorf("entry %d %v", i+1, err)
			}
		}
		return nil
	}
}

// kindOf names the kind of a JSON value for a person.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '[':
		return "a list"
	case '{':
		return "an object"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null: leave it out"
	default:
		return "a number"
	}
}

// didYouMean suggests the known key that is nearest to an unknown one, if one
// is near.
func didYouMean(key string, fields []field) string {
	if len(key) > maxQuote {
		return ""
	}
	best, at := 3, ""
	for _, f := range fields {
		if d := distance(strings.ToLower(key), f.name); d < best && d < len(f.name) {
			best, at = d, f.name
		}
	}
	if at == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", at)
}

// distance counts the bytes to insert, delete or replace to make b of a
// (Levenshtein), and is symmetric.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

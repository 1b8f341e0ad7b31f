package resulttool

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// datum is one key of the check's own.
type datum struct {
	key    string
	values []string
}

// data sorts the -k options by their keys, in the order of their first use.
func (o options) data(warn func(string)) ([]datum, error) {
	var data []datum
	for _, pair := range o.keyvals {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok || key == "":
			return nil, fmt.Errorf("cannot use -k %q: write -k KEY=VALUE", clip(pair))
		case slices.Contains(reserved(), key):
			warn(fmt.Sprintf("the key %s is the format's own, and ignored", key))
			continue
		case len(key) > maxKey || strings.ContainsFunc(key, unicode.IsControl) || strings.Contains(key, ":"):
			return nil, fmt.Errorf("cannot use the key %q: write one line of 1 to %d bytes without a colon", clip(key), maxKey)
		}
		if err := checkValue(key, value, maxValue, false); err != nil {
			return nil, err
		}
		at := slices.IndexFunc(data, func(d datum) bool { return d.key == key })
		if at < 0 {
			at, data = len(data), append(data, datum{key: key})
		}
		data[at].values = append(data[at].values, value)
	}
	if len(data) > maxKeys {
		return nil, fmt.Errorf("cannot use more than %d keys in one result: write fewer", maxKeys)
	}
	return data, nil
}

// checkValue refuses what the reader of the file would refuse.
func checkValue(key, value string, limit int, line bool) error {
	switch {
	case len(value) > limit:
		return fmt.Errorf("cannot use more than %d bytes for %s: write less, and leave the rest in an artifact", limit, key)
	case line && strings.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("cannot use control characters or line ends in %s: write one plain line", key)
	}
	return nil
}

// mapping is YAML's flow mapping, on one line, that JSON's readers take too.
type mapping struct{ words []string }

// add writes a key with its value, or its list of values; without any, or with
// one that is empty, it writes nothing.
func (m *mapping) add(key string, values ...string) {
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
	case len(values) == 1:
		m.words = append(m.words, quote(key)+": "+quote(values[0]))
	default:
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = quote(v)
		}
		m.words = append(m.words, quote(key)+": ["+strings.Join(quoted, ", ")+"]")
	}
}

func (m *mapping) String() string { return "{" + strings.Join(m.words, ", ") + "}" }

// quote writes a text in double quotes. Whatever a reader of YAML 1.1 may not
// see in a file (4.1 of its specification), or takes for a line's end, is escaped
// as JSON does; what is not UTF-8 becomes U+FFFD.
func quote(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return string(append(b, '"'))
}

package runner

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// Bounds of a secret's value, in bytes. A shorter one is in every other word.
const (
	MinSecret = 6
	MaxSecret = 32 << 10
)

// masked is what stands in the place of a secret.
const masked = "***"

// minTail is how much of a secret's beginning is masked at the end of a text that
// may have been cut.
const minTail = 4

// Mask hides secrets in what a check says: as they are, in base64 (whatever stands
// before and behind them in the encoded text), escaped for a URL or for JSON; also
// where a line break is in the middle of one. A nil Mask hides nothing. It cannot
// hide what a check does with a secret otherwise: what is printed backwards or
// encrypted is not found.
type Mask struct {
	by    [256][]string // the forms to look for by their first byte, longest first; no line breaks in them
	pairs [1 << 16]bool // two bytes that a form may begin with: most of a log is none
}

// NewMask makes a mask of the values of secrets by name; nil for none. A value
// that is too short or too long to be masked is an error.
func NewMask(secrets map[string]string) (*Mask, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	m := &Mask{}
	for name, value := range secrets {
		if err := CheckSecret(value); err != nil {
			return nil, fmt.Errorf("cannot use the secret %s: %w", name, err)
		}
		for _, form := range secretForms(value) {
			m.add(form)
		}
	}
	for i := range m.by {
		slices.SortFunc(m.by[i], func(a, b string) int { return len(b) - len(a) })
	}
	return m, nil
}

// CheckSecret tells why a value cannot be a secret's: its error goes on after
// "cannot use the secret NAME: ".
func CheckSecret(value string) error {
	switch {
	case len(value) < MinSecret:
		return fmt.Errorf("it is shorter than %d bytes, so that nothing could be shown any more: make a longer one", MinSecret)
	case len(value) > MaxSecret:
		return fmt.Errorf("it is longer than %s: give the check a key to it instead", Bytes(MaxSecret))
	case strings.IndexByte(value, 0) >= 0:
		return fmt.Errorf("it has a zero byte, which no variable can hold: write it in base64")
	case len(withoutBreaks(value)) < MinSecret:
		return fmt.Errorf("it is line breaks for the most part: make a longer one")
	}
	return nil
}

// secretForms are the ways in which a value is looked for. Of one with several
// lines each is looked for by itself, too.
func secretForms(value string) []string {
	forms := []string{value, url.QueryEscape(value), url.PathEscape(value), jsonForm(value)}
	for line := range strings.SplitSeq(value, "\n") {
		forms = append(forms, strings.TrimSpace(line))
	}
	for _, form := range forms[1:3] {
		forms = append(forms, lowerEscapes(form))
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, base64Forms(encoding, value)...)
	}
	return forms
}

func jsonForm(value string) string {
	text, err := json.Marshal(value)
	if err != nil {
		return value
	}
	return strings.Trim(string(text), `"`)
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// base64Forms is what stands in a text in base64 wherever the value stands in the
// text that was encoded: at each of the three places within a group, without the
// letters that tell of its neighbours, too.
func base64Forms(encoding *base64.Encoding, value string) []string {
	forms := []string{encoding.EncodeToString([]byte(value))}
	for before, skip := range []int{0, 2, 3} {
		text := encoding.EncodeToString([]byte(strings.Repeat("\x00", before) + value))
		whole := (before + len(value)) * 8 / 6
		forms = append(forms, text[skip:whole])
	}
	return forms
}

func withoutBreaks(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, s)
}

func (m *Mask) add(form string) {
	form = withoutBreaks(form)
	if len(form) < MinSecret || slices.Contains(m.by[form[0]], form) {
		return
	}
	m.by[form[0]] = append(m.by[form[0]], form)
	for _, second := range []byte{form[1], '\r', '\n'} {
		m.pairs[pair(form[0], second)] = true
	}
}

func pair(a, b byte) int { return int(a)<<8 | int(b) }

// Text hides the secrets in a text. At its end the beginning of one is hidden, too:
// the text may have been cut there, with or without a word of it.
func (m *Mask) Text(s string) string {
	if m == nil || s == "" {
		return s
	}
	s, cut := strings.CutSuffix(s, "…")
	out, rest := m.hide(nil, []byte(s), false)
	if len(rest) < minTail {
		more, _ := m.hide(nil, rest, true)
		out = append(out, more...)
	} else {
		out = append(out, masked...)
	}
	if cut {
		out = append(out, "…"...)
	}
	return string(out)
}

// hide appends data to out with the secrets hidden. What at its end may be the
// beginning of a secret is returned, unless final is set.
func (m *Mask) hide(out, data []byte, final bool) (hidden, rest []byte) {
	from := 0
	for i := 0; i < len(data); {
		if i+1 < len(data) && !m.pairs[pair(data[i], data[i+1])] {
			i++
			continue
		}
		n, more := 0, false
		for _, form := range m.by[data[i]] {
			if n, more = match(data[i:], form); n > 0 || more && !final {
				break
			}
		}
		switch {
		case n > 0:
			out = append(append(out, data[from:i]...), masked...)
			i += n
			from = i
		case more && !final:
			return append(out, data[from:i]...), data[i:]
		default:
			i++
		}
	}
	return append(out, data[from:]...), nil
}

// match tells how many bytes of data are the form, with at most one line break
// between two of its bytes; 0 for none. more tells that data ended too early.
func match(data []byte, form string) (n int, more bool) {
	for i := range len(form) {
		if i > 0 {
			n += lineBreak(data[n:])
		}
		if n == len(data) {
			return 0, true
		}
		if data[n] != form[i] {
			return 0, false
		}
		n++
	}
	return n, false
}

// lineBreak is how long the line break is that data begins with.
func lineBreak(data []byte) int {
	n := 0
	if n < len(data) && data[n] == '\r' {
		n++
	}
	if n < len(data) && data[n] == '\n' {
		n++
	}
	return n
}

// Writer hides the secrets in what is written to it, and passes it on. What may be
// the beginning of one is held back until it is known. Close writes that, and does
// not close w.
func (m *Mask) Writer(w io.Writer) io.WriteCloser {
	if m == nil {
		return unmasked{w}
	}
	return &maskWriter{mask: m, w: w}
}

type unmasked struct{ io.Writer }

func (unmasked) Close() error { return nil }

type maskWriter struct {
	mask *Mask
	w    io.Writer
	held []byte
	buf  []byte
}

func (w *maskWriter) Write(p []byte) (int, error) {
	return len(p), w.write(p, false)
}

func (w *maskWriter) Close() error { return w.write(nil, true) }

func (w *maskWriter) write(p []byte, final bool) error {
	data := p
	if len(w.held) > 0 {
		data = append(w.held, p...)
	}
	out, rest := w.mask.hide(w.buf[:0], data, final)
	w.held = append([]byte(nil), rest...)
	w.buf = out
	if len(out) == 0 {
		return nil
	}
	_, err := w.w.Write(out)
	return err
}

// conclusion hides the secrets in how an attempt ended.
func (m *Mask) conclusion(c assay.Conclusion) assay.Conclusion {
	if m == nil {
		return c
	}
	c.Reason = m.Text(c.Reason)
	c.Results = slices.Clone(c.Results)
	for i := range c.Results {
		r := &c.Results[i]
		for _, text := range []*string{&r.Item, &r.Type, &r.Checkname, &r.Note, &r.Artifact} {
			*text = m.Text(*text)
		}
		r.Data = m.data(r.Data)
	}
	return c
}

func (m *Mask) data(data map[string][]string) map[string][]string {
	if data == nil {
		return nil
	}
	hidden := make(map[string][]string, len(data))
	for key, values := range data {
		list := make([]string, len(values))
		for i, value := range values {
			list[i] = m.Text(value)
		}
		hidden[m.Text(key)] = list
	}
	return hidden
}

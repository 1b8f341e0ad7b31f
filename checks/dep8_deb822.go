package checks

import (
	"strings"
	"unicode/utf8"
)

// Bounds of one control file (deb822(5)).
const (
	maxStanzas = 1000
	maxFields  = 100      // of one stanza
	maxValue   = 64 << 10 // bytes of one field
)

// stanza is one paragraph of a control file.
type stanza struct {
	line   int // its first
	fields []controlField
}

// controlField is one field; its name is in lower case.
type controlField struct {
	name      string
	written   string // the name as it is written
	line, col int    // of the name
	value     placed
}

// field returns a field by its lower-case name.
func (s stanza) field(name string) (controlField, bool) {
	for _, f := range s.fields {
		if f.name == name {
			return f, true
		}
	}
	return controlField{}, false
}

// text is a field's value, "" for one that is not there.
func (s stanza) text(name string) string {
	f, _ := s.field(name)
	return f.value.text
}

// placed is a value in one line, or a part of one, that knows where it was
// written. The place is looked for only when it is asked for.
type placed struct {
	text   string
	pieces []piece
	whole  string // that the text is a part of; "" for the text itself
	base   int    // where in it
}

// piece is what one line gave to a value.
type piece struct {
	start     int // in the value, in bytes
	line, col int
}

// at is the line and column of a byte of the text.
func (v placed) at(offset int) (line, col int) {
	whole := v.whole
	if whole == "" {
		whole = v.text
	}
	offset = min(v.base+offset, len(whole))
	for i := len(v.pieces) - 1; i >= 0; i-- {
		if p := v.pieces[i]; p.start <= offset {
			return p.line, p.col + utf8.RuneCountInString(whole[p.start:offset])
		}
	}
	return 1, 1
}

// cut is a part of a value, without the white space around it.
func (v placed) cut(from, to int) placed {
	for from < to && isBlank(v.text[from]) {
		from++
	}
	for from < to && isBlank(v.text[to-1]) {
		to--
	}
	whole := v.whole
	if whole == "" {
		whole = v.text
	}
	return placed{text: v.text[from:to], pieces: v.pieces, whole: whole, base: v.base + from}
}

// split cuts a value at every separator; empty parts are left out.
func (v placed) split(separators string) []placed {
	var parts []placed
	begin := 0
	for i := 0; i <= len(v.text); i++ {
		if i < len(v.text) && strings.IndexByte(separators, v.text[i]) < 0 {
			continue
		}
		if part := v.cut(begin, i); part.text != "" {
			parts = append(parts, part)
		}
		begin = i + 1
	}
	return parts
}

// words splits at commas and white space, as most fields are read.
func (v placed) words() []placed { return v.split(", \t") }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// controlReader collects the stanzas of one file.
type controlReader struct {
	p       *parser
	inline  bool // what follows a # anywhere is a comment
	stanzas []stanza
	open    bool // the last stanza may get more fields
	skip    bool // continuation lines belong to what was not understood
}

// readStanzas reads a control file. inline tells that comments may begin in the
// middle of a line, which only debian/tests/control has.
func readStanzas(p *parser, data string, inline bool) []stanza {
	r := &controlReader{p: p, inline: inline}
	number := 0
	for line := range strings.Lines(data) {
		number++
		r.line(number, strings.TrimRight(line, "\r\n"))
		if p.full() || len(r.stanzas) > maxStanzas {
			break
		}
	}
	if len(r.stanzas) > maxStanzas {
		p.mistakeAt(number, 1, "read more than %d stanzas: write fewer", maxStanzas)
	}
	return r.stanzas
}

func (r *controlReader) line(number int, line string) {
	if strings.HasPrefix(line, "#") {
		return
	}
	if i := strings.IndexByte(line, '#'); r.inline && i >= 0 {
		if line = line[:i]; strings.TrimSpace(line) == "" {
			return
		}
	}
	switch {
	case strings.TrimSpace(line) == "":
		r.open, r.skip = false, false
	case !utf8.ValidString(line) || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
		r.skip = true
		r.p.mistakeAt(number, 1, "read a line with control characters or bytes that are not UTF-8: write plain text")
	case isBlank(line[0]):
		r.continued(number, line)
	default:
		r.field(number, line)
	}
}

// continued adds a line to the field above it.
func (r *controlReader) continued(number int, line string) {
	switch {
	case r.skip:
	case !r.open:
		r.skip = true
		r.p.mistakeAt(number, 1, "continue a field where none has begun: write FIELD: VALUE from the line's first character on")
	default:
		last := &r.stanzas[len(r.stanzas)-1]
		value := &last.fields[len(last.fields)-1].value
		if value.add(number, line, 0); len(value.text) > maxValue {
			r.skip = true
			r.p.mistakeAt(number, 1, "read more than %d KiB in one field: write less", maxValue>>10)
		}
	}
}

// add appends the part of a line behind from, joined by one space.
func (v *placed) add(number int, line string, from int) {
	text := strings.TrimLeft(line[from:], " \t")
	col := utf8.RuneCountInString(line[:len(line)-len(text)]) + 1
	if v.text != "" && text != "" {
		v.text += " "
	}
	v.pieces = append(v.pieces, piece{len(v.text), number, col})
	v.text += strings.TrimRight(text, " \t")
}

// field begins a field, and a stanza if none is open.
func (r *controlReader) field(number int, line string) {
	name, _, ok := strings.Cut(line, ":")
	if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.skip = true
		r.p.mistakeAt(number, 1, "read %s as a field: write FIELD: VALUE, or begin the line with a space to go on with the field above", shown(line))
		return
	}
	if !r.open {
		r.open = true
		r.stanzas = append(r.stanzas, stanza{line: number})
	}
	r.skip = false
	s := &r.stanzas[len(r.stanzas)-1]
	f := controlField{name: strings.ToLower(name), written: name, line: number, col: 1}
	f.value.add(number, line[:min(len(line), len(name)+1+maxValue)], len(name)+1)
	_, twice := s.field(f.name)
	s.fields = append(s.fields, f)
	switch {
	case twice:
		r.p.mistakeAt(number, 1, "use the field %s twice in one stanza: write it once, or an empty line between two stanzas", shown(name))
	case len(s.fields) > maxFields:
		r.skip, r.open = true, false
		r.p.mistakeAt(number, 1, "read more than %d fields in one stanza: write fewer", maxFields)
	}
}

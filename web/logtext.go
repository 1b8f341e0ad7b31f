package web

import (
	"bytes"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxShown is how much of one line a page shows; the raw log has all of it.
const maxShown = 64 << 10

// logRow is a line with its place in the log.
type logRow struct {
	Number int64 // from 1
	Line   logLine
	Cut    int64 // bytes of the line beyond Line.Text
}

// logHTML renders rows as the insides of a log element. prefix goes before the
// fragment of each line's own address: "" for the page itself. mark is the
// number of the line that was asked for, 0 for none; start is the log's first
// time, from which the others are counted.
func logHTML(rows []logRow, prefix string, mark int64, start time.Time) template.HTML {
	var b strings.Builder
	b.Grow(len(rows) * 200)
	for _, r := range rows {
		writeRow(&b, r, prefix, mark, start)
	}
	return template.HTML(b.String())
}

func writeRow(b *strings.Builder, r logRow, prefix string, mark int64, start time.Time) {
	n := strconv.FormatInt(r.Number, 10)
	b.WriteString(`<div class="l`)
	if r.Line.Stream != "" {
		b.WriteString(" " + r.Line.Stream) // one of three constants
	}
	if r.Number == mark {
		b.WriteString(" hit")
	}
	b.WriteString(`" id="L` + n + `"><a href="`)
	if prefix != "" {
		b.WriteString(template.HTMLEscapeString(prefix) + "line=" + n)
	}
	b.WriteString(`#L` + n + `">` + n + `</a>`)
	writeTime(b, r.Line.At, start)
	b.WriteString(`<b>` + streamTag(r.Line.Stream) + `</b><span>`)
	writeText(b, r.Line.Text)
	if r.Cut > 0 {
		b.WriteString(`<i> … ` + count(r.Cut) + ` more bytes in the raw log</i>`)
	}
	b.WriteString("</span></div>\n")
}

// streamTag tells the streams apart in words; plain output needs none.
func streamTag(stream string) string {
	if stream == streamErr || stream == streamRun {
		return stream
	}
	return ""
}

func writeTime(b *strings.Builder, at, start time.Time) {
	if at.IsZero() {
		b.WriteString(`<time></time>`)
		return
	}
	b.WriteString(`<time datetime="` + at.Format("2006-01-02T15:04:05.000Z07:00") + `">` + clock(at.Sub(start)) + `</time>`)
}

// clock writes the time since the start of a log: "0:04.21", "1:02:03.00".
func clock(d time.Duration) string {
	sign := ""
	if d < 0 {
		d, sign = -max(d, -math.MaxInt64), "-" // the least duration has no opposite
	}
	hundredths := int64(d / (10 * time.Millisecond))
	h, m, s, c := hundredths/360000, hundredths/6000%60, hundredths/100%60, hundredths%100
	if h > 0 {
		return sign + strconv.FormatInt(h, 10) + ":" + two(m) + ":" + two(s) + "." + two(c)
	}
	return sign + strconv.FormatInt(m, 10) + ":" + two(s) + "." + two(c)
}

func two(n int64) string {
	return string([]byte{'0' + byte(n/10), '0' + byte(n%10)})
}

// writeText escapes the text of a line and renders the colours in it. Nothing
// is dropped in silence that could hide evidence: a carriage return becomes a
// line break, any other control character is shown as its picture.
func writeText(b *strings.Builder, text []byte) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	p := painter{b: b}
	for len(text) > 0 {
		if text[0] == 0x1b {
			text = p.escape(text)
			continue
		}
		n := writeRune(b, text)
		text = text[n:]
	}
	p.close()
}

func writeRune(b *strings.Builder, text []byte) (n int) {
	r, n := utf8.DecodeRune(text)
	switch {
	case r == '<':
		b.WriteString("&lt;")
	case r == '>':
		b.WriteString("&gt;")
	case r == '&':
		b.WriteString("&amp;")
	case r == '"':
		b.WriteString("&#34;")
	case r == '\'':
		b.WriteString("&#39;")
	case r == '\t':
		b.WriteByte('\t')
	case r == '\r' || r == '\n':
		b.WriteByte('\n')
	case r < 0x20:
		b.WriteRune(0x2400 + r) // ␀ to ␟
	case r == 0x7f:
		b.WriteRune(0x2421) // ␡
	case deceptive(r):
		b.WriteRune(utf8.RuneError)
	default:
		b.WriteRune(r) // invalid bytes decode to U+FFFD
	}
	return n
}

// painter renders the graphic rendition (SGR, ECMA-48 8.3.117) in one line:
// bold, dim, italic, underlined, and the sixteen colours a style sheet can make
// readable. It knows no others and drops every other escape sequence.
type painter struct {
	b     *strings.Builder
	open  bool
	style style
}

type style struct {
	bold, dim, italic, under bool
	colour                   int // 1 to 16, 0 for none
}

// escape takes the escape sequence that text begins with and returns what is
// behind it.
func (p *painter) escape(text []byte) []byte {
	if len(text) < 2 {
		return nil
	}
	switch text[1] {
	case '[':
		return p.control(text[2:])
	case ']', 'P', 'X', '^', '_': // strings up to BEL or ST; an unended one would hide the line
		if end := stringEnd(text); end > 0 {
			return text[end:]
		}
	}
	if text[1] >= 0x20 && text[1] < 0x7f {
		return text[2:]
	}
	return text[1:]
}

// control takes a control sequence: parameters, intermediates, a final byte. One
// that is broken is shown from where it broke.
func (p *painter) control(text []byte) []byte {
	n := 0
	for n < len(text) && text[n] >= 0x20 && text[n] <= 0x3f {
		n++
	}
	if n == len(text) || text[n] < 0x40 || text[n] > 0x7e {
		return text[n:]
	}
	if text[n] == 'm' && n <= 64 {
		p.paint(string(text[:n]))
	}
	return text[n+1:]
}

func stringEnd(text []byte) int {
	for i := 2; i < len(text); i++ {
		if text[i] == 0x07 {
			return i + 1
		}
		if text[i] == 0x1b {
			if i+1 < len(text) && text[i+1] == '\\' {
				return i + 2
			}
			return i
		}
	}
	return 0
}

func (p *painter) paint(parameters string) {
	before := p.style
	codes := strings.Split(parameters, ";")
	for i := 0; i < len(codes); i++ {
		code, err := strconv.Atoi(codes[i])
		if err != nil && codes[i] != "" {
			return // private or sub-parameters: none that we know
		}
		if code == 38 || code == 48 {
			i = p.extended(codes, i, code == 38)
			continue
		}
		p.style.set(code)
	}
	if p.style != before {
		p.close()
		p.begin()
	}
}

// extended takes 38;5;N and 38;2;R;G;B (and 48 for backgrounds, which we leave
// out) and returns the index of its last parameter.
func (p *painter) extended(codes []string, i int, foreground bool) int {
	if i+2 < len(codes) && codes[i+1] == "5" {
		if n, err := strconv.Atoi(codes[i+2]); foreground && err == nil && n >= 0 && n < 16 {
			p.style.colour = n + 1
		}
		return i + 2
	}
	if i+1 < len(codes) && codes[i+1] == "2" {
		return i + 4
	}
	return i
}

func (s *style) set(code int) {
	switch {
	case code == 0:
		*s = style{}
	case code == 1:
		s.bold = true
	case code == 2:
		s.dim = true
	case code == 3:
		s.italic = true
	case code == 4:
		s.under = true
	case code == 22:
		s.bold, s.dim = false, false
	case code == 23:
		s.italic = false
	case code == 24:
		s.under = false
	case code >= 30 && code <= 37:
		s.colour = code - 30 + 1
	case code == 39:
		s.colour = 0
	case code >= 90 && code <= 97:
		s.colour = code - 90 + 9
	}
}

func (p *painter) begin() {
	if p.style == (style{}) {
		return
	}
	p.b.WriteString(`<span class="` + p.style.classes() + `">`)
	p.open = true
}

func (p *painter) close() {
	if p.open {
		p.b.WriteString("</span>")
		p.open = false
	}
}

func (s style) classes() string {
	var names []string
	for _, f := range []struct {
		on   bool
		name string
	}{{s.bold, "sb"}, {s.dim, "sd"}, {s.italic, "si"}, {s.under, "su"}} {
		if f.on {
			names = append(names, f.name)
		}
	}
	if s.colour > 0 {
		names = append(names, "c"+strconv.Itoa(s.colour-1))
	}
	return strings.Join(names, " ")
}

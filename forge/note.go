package forge

import (
	"slices"
	"strings"
	"unicode"

	"github.com/assay-ci/assay"
)

// The form of a note, for people first:
//
//	assay/pkg.greets: failure - 1 of 3 failed: greets by name <http://…/executions/…>
//	assay/pkg.size/x86_64: success
//
//	--- assay comment summary ---
//	Markdown, as a web forge would get it
//	--- end of assay comment summary ---
//
//	whatever other people or programs wrote
//
// Statuses come in the order of their contexts, comments in that of their
// markers. Lines that are neither stay where they are put: at the end, in the
// order found. Parsing and rendering again changes nothing; git's own clean-up
// of notes (git-stripspace(1)) does not either.

// maxNote is the largest note that is read or written, in bytes; it leaves other
// people's text room.
const maxNote = 1 << 20

// maxNoteComment is the longest comment kept, in characters.
const maxNoteComment = 65536

const (
	openComment  = "--- assay comment "
	closeComment = "--- end of assay comment "
	closeLine    = " ---"
)

// note is a note taken apart.
type note struct {
	statuses map[string]assay.Status // by context
	comments map[string][]string     // lines as they are rendered, by marker
	other    []string                // lines that are not ours
}

// block is a comment that has begun.
type block struct {
	marker string
	lines  []string // the opening line, then what is in it
}

// parseNote takes a note apart in one pass. Blocks may nest, as they do when
// somebody pastes a note into a note; the outer one then loses the inner one. A
// block without an end, and an end without a beginning, are other people's text.
// Of two that have one name the first that ends counts and the rest is dropped.
func parseNote(text []byte) note {
	n := note{statuses: map[string]assay.Status{}, comments: map[string][]string{}}
	open := []block{{}} // the first holds what is in no comment
	for line := range strings.SplitSeq(string(text), "\n") {
		plain, top := strings.TrimRight(line, "\r"), &open[len(open)-1]
		if marker, ok := between(plain, openComment, closeLine); ok && checkMarker(marker) == nil {
			open = append(open, block{marker, []string{line}})
		} else if len(open) > 1 && plain == closeComment+top.marker+closeLine {
			n.keepComment(*top)
			open = open[:len(open)-1]
		} else {
			top.lines = append(top.lines, line)
		}
	}
	for _, b := range open {
		n.keepOther(b.lines)
	}
	n.other = trimBlank(n.other)
	return n
}

func (n *note) keepComment(b block) {
	if _, double := n.comments[b.marker]; !double {
		n.comments[b.marker] = trimBlank(b.lines[1:])
	}
}

// keepOther sorts lines outside of comments into statuses and the rest.
func (n *note) keepOther(lines []string) {
	for _, line := range lines {
		status, ok := parseStatus(strings.TrimRight(line, "\r"))
		if !ok {
			n.other = append(n.other, line)
		} else if _, double := n.statuses[status.Context]; !double {
			n.statuses[status.Context] = status
		}
	}
}

func between(s, prefix, suffix string) (string, bool) {
	s, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, suffix)
}

// parseStatus reads "CONTEXT: STATE[ - DESCRIPTION][ <URL>]". A line that
// renders otherwise than it reads is somebody else's.
func parseStatus(line string) (assay.Status, bool) {
	context, rest, ok := strings.Cut(line, ": ")
	if !ok || !ourContext(context) {
		return assay.Status{}, false
	}
	s := assay.Status{Context: context}
	if body, url, ok := cutURL(rest); ok {
		rest, s.URL = body, url
	}
	state, description, _ := strings.Cut(rest, " - ")
	s.State, s.Description = assay.StatusState(state), description
	if checkStatus(s) != nil || renderStatus(s) != line {
		return assay.Status{}, false
	}
	return s, true
}

// cutURL takes " <URL>" off the end; the URL may be empty, see renderStatus.
func cutURL(s string) (before, url string, ok bool) {
	open := strings.LastIndex(s, " <")
	if open < 0 || !strings.HasSuffix(s, ">") {
		return s, "", false
	}
	url = s[open+2 : len(s)-1]
	if url != "" && link(url) == "" {
		return s, "", false
	}
	return s[:open], url, true
}

// ourContext holds for contexts that a note keeps: those of assay.Status.
func ourContext(context string) bool {
	return (context == "assay" || strings.HasPrefix(context, "assay/")) && printable(context) && !strings.HasSuffix(context, ":")
}

func renderStatus(s assay.Status) string {
	line := s.Context + ": " + string(s.State)
	if description := Line(s.Description); description != "" {
		line += " - " + description
	}
	if url := link(s.URL); url != "" {
		return line + " <" + url + ">"
	}
	if strings.HasSuffix(line, ">") {
		return line + " <>" // so that a description's own end is not read as the address
	}
	return line
}

func (n *note) setStatus(s assay.Status) {
	s.Description, s.URL = Line(s.Description), link(s.URL)
	n.statuses[s.Context] = s
}

// setComment puts the body's lines where the marker's were.
func (n *note) setComment(marker, body string) {
	body = shorten(strings.ToValidUTF8(body, "\uFFFD"), maxNoteComment)
	lines := strings.Split(strings.ReplaceAll(body, "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = commentLine(line)
	}
	lines = slices.CompactFunc(trimBlank(lines), func(a, b string) bool { return a == "" && b == "" })
	n.comments[marker] = lines
}

// commentLine makes a line safe to print on a terminal and impossible to take
// for a delimiter.
func commentLine(line string) string {
	line = strings.Map(func(r rune) rune {
		if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, line)
	line = strings.TrimRightFunc(line, unicode.IsSpace)
	if strings.HasPrefix(line, openComment) || strings.HasPrefix(line, closeComment) {
		return `\` + line
	}
	return line
}

func (n *note) render() []byte {
	var blocks []string
	if len(n.statuses) > 0 {
		var lines []string
		for _, context := range sortedKeys(n.statuses) {
			lines = append(lines, renderStatus(n.statuses[context]))
		}
		blocks = append(blocks, strings.Join(lines, "\n"))
	}
	for _, marker := range sortedKeys(n.comments) {
		lines := slices.Concat([]string{openComment + marker + closeLine}, n.comments[marker], []string{closeComment + marker + closeLine})
		blocks = append(blocks, strings.Join(lines, "\n"))
	}
	if len(n.other) > 0 {
		blocks = append(blocks, strings.Join(n.other, "\n"))
	}
	if len(blocks) == 0 {
		return nil
	}
	return []byte(strings.Join(blocks, "\n\n") + "\n")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// trimBlank drops empty lines at both ends.
func trimBlank(lines []string) []string {
	blank := func(s string) bool { return strings.TrimSpace(s) == "" }
	for len(lines) > 0 && blank(lines[0]) {
		lines = lines[1:]
	}
	for len(lines) > 0 && blank(lines[len(lines)-1]) {
		lines = lines[:len(lines)-1]
	}
	return lines
}

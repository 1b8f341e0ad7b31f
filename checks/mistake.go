package checks

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is said about a file.
const (
	maxMessage     = 500 // bytes of one message
	maxShownPath   = 300 // bytes of a path in a message
	maxFileMistake = 100 // mistakes told of one file
)

// Mistake is one thing that a maintainer must change in a formula, or, as a
// warning, ought to.
type Mistake struct {
	File    string // the path given to Parse, or the path in the repository
	Line    int    // 1 for the first line; 1 too when the whole file is meant
	Col     int    // in characters, 1 for the first
	Message string // "cannot …: write …"; one line, printable, at most 500 bytes
	// Warning tells that the formula works all the same. Its message says what to
	// write instead, and does not begin with "cannot".
	Warning bool

	yaml bool // it is one of the YAML, which hides what stands behind it
	fix  *fix // what lint --fix writes instead; nil for nothing
}

// Error is FILE:LINE:COL: MESSAGE, always a single line, as compilers print it
// so that editors can jump to it. A warning's message has "warning: " before it.
func (m Mistake) Error() string {
	kind := ""
	if m.Warning {
		kind = "warning: "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", oneLine(m.File, maxShownPath), m.Line, m.Col, kind, oneLine(m.Message, maxMessage))
}

// Mistakes are all mistakes of one or more files, sorted by file, line and
// column. As an error they are one line each, and none is a warning. errors.As
// finds a Mistakes, or the first Mistake.
type Mistakes []Mistake

func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single mistakes to errors.Is and errors.As.
func (ms Mistakes) Unwrap() []error {
	errs := make([]error, len(ms))
	for i, m := range ms {
		errs[i] = m
	}
	return errs
}

// Of returns the mistakes of one file, by the path they carry.
func (ms Mistakes) Of(file string) Mistakes {
	var some Mistakes
	for _, m := range ms {
		if m.File == file {
			some = append(some, m)
		}
	}
	return some
}

// err sorts the mistakes, drops repeated ones and makes them an error; none are
// nil.
func (ms Mistakes) err() error {
	if len(ms) == 0 {
		return nil
	}
	return ms.sorted()
}

// sorted sorts the mistakes in place and drops repeated ones.
func (ms Mistakes) sorted() Mistakes {
	slices.SortStableFunc(ms, func(a, b Mistake) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Col-b.Col)
	})
	return slices.CompactFunc(ms, func(a, b Mistake) bool {
		a.fix, b.fix = nil, nil
		return a == b
	})
}

// cannot makes a mistake about a whole file.
func cannot(file, format string, args ...any) Mistake {
	return Mistake{File: file, Line: 1, Col: 1, Message: oneLine("cannot "+fmt.Sprintf(format, args...), maxMessage)}
}

// oneLine escapes what is not printable, so that no text out of a formula can
// forge a line, drive a terminal or turn the reading direction, and cuts the
// text to about limit bytes.
func oneLine(s string, limit int) string {
	var b strings.Builder
	for i, r := range s {
		if b.Len() >= limit {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// shown is a piece of the formula in a message: quoted and short.
func shown(s string) string {
	const limit = 60
	return `"` + oneLine(s, limit) + `"`
}

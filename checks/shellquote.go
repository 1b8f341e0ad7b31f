package checks

import "strings"

// quoting says how a value must be written where a reference stands in shell
// text.
type quoting int

const (
	quoteBare    quoting = iota // outside of quotes
	quoteDouble                 // within "…"
	quoteSingle                 // within '…'
	quoteComment                // behind a #
	quoteUnsure                 // cannot be told: only values without special characters
)

// quoteFor writes a value so that the shell reads exactly the value; ok is
// false where that cannot be promised.
func quoteFor(value string, q quoting) (text string, ok bool) {
	if isShellSafe(value) {
		return value, true
	}
	switch q {
	case quoteBare:
		return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'", true
	case quoteSingle:
		return strings.ReplaceAll(value, "'", `'\''`), true
	case quoteDouble:
		return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value), true
	case quoteComment:
		return strings.Map(func(r rune) rune {
			if r == '~' || !isShellSafe(string(r)) {
				return '_'
			}
			return r
		}, value), true
	}
	return "", false
}

// isShellSafe tells that a value has no meaning to a shell, wherever it stands:
// [A-Za-z0-9_@%+=:,./^~-]*, and no ~ where a shell would put a home directory.
func isShellSafe(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte("_@%+=:,./^~-", s[i]) < 0 {
			return false
		}
		if s[i] == '~' && (i == 0 || strings.IndexByte(":=", s[i-1]) >= 0) {
			return false
		}
	}
	return true
}

// setQuoting finds out for every reference in shell text where it stands.
func setQuoting(parts []part) {
	l := shellLexer{last: '\n'}
	for i := range parts {
		if parts[i].path == nil {
			l.feed(parts[i].text)
			continue
		}
		parts[i].quoting = l.reference()
	}
}

// shellLexer follows the quotes of shell text (POSIX.1-2017, Shell Command
// Language, 2.2 and 2.3) just far enough to know what surrounds a reference. It
// errs on one side only: whatever it does not follow makes it unsure for the
// rest of the text.
type shellLexer struct {
	stack  []byte // open contexts: " ' # and ( for $(…) or a parenthesis in it
	last   byte   // the character before, 'x' if it was quoted
	broken bool   // the last character was a backslash or $, which joins what follows
	unsure bool
}

func (l *shellLexer) top() byte {
	if len(l.stack) == 0 {
		return 0
	}
	return l.stack[len(l.stack)-1]
}

func (l *shellLexer) push(c byte) { l.stack = append(l.stack, c) }
func (l *shellLexer) pop()        { l.stack = l.stack[:len(l.stack)-1] }

// reference tells the quoting for a value at this place, and steps over it.
func (l *shellLexer) reference() quoting {
	joined := l.broken
	l.last, l.broken = 'x', false
	switch {
	case l.unsure || joined:
		return quoteUnsure
	case l.top() == '"':
		return quoteDouble
	case l.top() == '\'':
		return quoteSingle
	case l.top() == '#':
		return quoteComment
	}
	return quoteBare
}

// feed reads literal text up to the next reference.
func (l *shellLexer) feed(s string) {
	for len(s) > 0 && !l.unsure {
		n := l.step(s)
		s = s[n:]
	}
}

// step reads one character, or one short unit, and returns its length.
func (l *shellLexer) step(s string) int {
	c := s[0]
	l.broken = false
	if l.top() == '\'' || l.top() == '#' {
		l.verbatim(c)
		return 1
	}
	switch c {
	case '\\':
		return l.backslash(s)
	case '$':
		return l.dollar(s)
	case '`':
		l.unsure = true
	case '"':
		l.last = 'x'
		if l.top() == '"' {
			l.pop()
		} else {
			l.push('"')
		}
		return 1
	}
	if l.top() != '"' {
		l.bare(s)
	}
	if l.last = c; l.top() == '"' || l.top() == '\'' {
		l.last = 'x'
	}
	return 1
}

// verbatim reads a character where only one has a meaning: the end of single
// quotes or of a comment.
func (l *shellLexer) verbatim(c byte) {
	switch {
	case l.top() == '#' && c == '\n':
		l.pop()
		l.last = c
	case l.top() == '\'' && c == '\'':
		l.pop()
		l.last = 'x'
	}
}

// bare reads a character outside of quotes.
func (l *shellLexer) bare(s string) {
	starts := strings.IndexByte(" \t\n;&|", l.last) >= 0
	switch c := s[0]; {
	case c == '\'':
		l.push('\'')
	case c == '#' && starts:
		l.push('#')
	case c == '#' && strings.IndexByte("()<>", l.last) >= 0:
		l.unsure = true // a comment or not: shells differ
	case strings.HasPrefix(s, "<<"):
		l.unsure = true // a here-document
	case c == '(' && l.top() == '(':
		l.push('(')
	case c == ')' && l.top() == '(':
		l.pop()
	case l.top() == '(' && (starts || l.last == '(') && strings.HasPrefix(s, "case"):
		l.unsure = true // its patterns have unbalanced parentheses
	}
}

// backslash steps over the character that a backslash quotes. A line that it
// joins to the next leaves everything as it was.
func (l *shellLexer) backslash(s string) int {
	switch {
	case len(s) == 1:
		l.broken = true
	case s[1] == '\n':
		return 2
	}
	l.last = 'x'
	return min(len(s), 2)
}

// dollar steps into $(…), over ${…} and over a lone $.
func (l *shellLexer) dollar(s string) int {
	l.last = 'x'
	switch {
	case len(s) == 1:
		l.broken = true
	case strings.IndexByte("$?#!@*-0123456789", s[1]) >= 0:
		return 2
	case strings.HasPrefix(s, "$(("), s[1] == '[':
		l.unsure = true // arithmetic
	case s[1] == '\\':
		l.unsure = true // a line may be joined here
	case s[1] == '(':
		l.push('(')
		l.last = '('
		return 2
	case s[1] == '{':
		return l.expansion(s)
	case s[1] == '\'' && l.top() != '"':
		l.unsure = true // quotes of their own kind in some shells
	}
	return 1
}

// expansion steps over ${…}. Quotes within one are read differently by
// different shells, and a reference within one too.
func (l *shellLexer) expansion(s string) int {
	end := strings.IndexByte(s, '}')
	if end < 0 || strings.ContainsAny(s[2:end], "'\"\\$`{") {
		l.unsure = true
		return 1
	}
	return end + 1
}

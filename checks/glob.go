package checks

import (
	"errors"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of the patterns of on.
const (
	maxPatterns = 100 // of one key
	maxPattern  = maxLine

	// maxMatching bounds the work of one look at on.paths: bytes of changed names
	// times tokens of patterns.
	maxMatching = 1 << 25
)

// glob is a pattern for branches and for paths: * stands for any characters but
// /, ? for one of them, [a-z] for one of a class, ** for any characters, / too;
// **/ stands for nothing as well, and a / at the end for everything below. A \
// takes the next character as it is. There is no catastrophe in it: it is read
// as a machine of one state a token, and the work is bytes times tokens.
type glob []globToken

// globKind says what a token of a pattern matches.
type globKind int

const (
	globRune  globKind = iota // exactly its rune
	globClass                 // one rune of its class, never /
	globStar                  // any runes but /
	globDeep                  // any runes
	globMaybe                 // nothing: the two tokens behind it may be left out
)

type globToken struct {
	kind  globKind
	char  rune
	class string // "[a-z]", as path.Match reads it; "?" for any rune
}

// parseGlob reads a pattern. Its errors are the end of a sentence, "cannot …".
func parseGlob(pattern string) (glob, error) {
	switch {
	case strings.HasPrefix(pattern, "!"):
		return nil, errors.New("turn a pattern round with !: write what is wanted, or \\! for the character")
	case strings.HasPrefix(pattern, "/"), strings.HasPrefix(pattern, "./"):
		return nil, errors.New("match " + shown(pattern) + " with anything: write it without / or ./ in front")
	}
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	var g glob
	for rest := pattern; rest != ""; {
		tokens, size := globTokens(rest, len(rest) == len(pattern) || pattern[len(pattern)-len(rest)-1] == '/')
		if size == 0 {
			return nil, errors.New("read the pattern " + shown(pattern) + ": write ] behind every [, and \\[ for the character")
		}
		g, rest = append(g, tokens...), rest[size:]
	}
	return g, nil
}

// globTokens reads the first piece of a pattern, of so many bytes; 0 for one
// that has no end. first tells that it begins a directory's name.
func globTokens(s string, first bool) (tokens glob, size int) {
	switch {
	case first && strings.HasPrefix(s, "**/"):
		return glob{{kind: globMaybe}, {kind: globDeep}, {kind: globRune, char: '/'}}, 3
	case strings.HasPrefix(s, "**"):
		return glob{{kind: globDeep}}, 2
	case s[0] == '*':
		return glob{{kind: globStar}}, 1
	case s[0] == '?':
		return glob{{kind: globClass, class: "?"}}, 1
	case s[0] == '[':
		return globClassOf(s)
	case s[0] == '\\' && len(s) == 1:
		return nil, 0
	case s[0] == '\\':
		char, size := utf8.DecodeRuneInString(s[1:])
		return glob{{kind: globRune, char: char}}, 1 + size
	}
	char, size := utf8.DecodeRuneInString(s)
	return glob{{kind: globRune, char: char}}, size
}

// globClassOf reads [a-z] or [!a-z].
func globClassOf(s string) (glob, int) {
	end := strings.IndexByte(s[1:], ']') + 1
	if end > 0 && s[end-1] == '\\' {
		return nil, 0 // a ] in a class is not worth another rule
	}
	class := s[:end+1]
	if strings.HasPrefix(class, "[!") {
		class = "[^" + class[2:]
	}
	if _, err := path.Match(class, "x"); err != nil || end < 2 {
		return nil, 0
	}
	return glob{{kind: globClass, class: class}}, end + 1
}

// match tells whether the whole name is what the pattern stands for. It takes
// its work from left, and goes on to the end of the name if that is too little.
func (g glob) match(name string, left *int) bool {
	now, next := make([]bool, len(g)+1), make([]bool, len(g)+1)
	now[0] = true
	for _, char := range name {
		*left -= len(g)
		g.skip(now)
		clear(next)
		for i, t := range g {
			if !now[i] || !t.takes(char) {
				continue
			}
			if t.kind == globStar || t.kind == globDeep {
				next[i] = true
			} else {
				next[i+1] = true
			}
		}
		if now, next = next, now; !slices.Contains(now, true) {
			return false
		}
	}
	g.skip(now)
	return now[len(g)]
}

// skip goes on to every state that needs no character.
func (g glob) skip(states []bool) {
	for i, t := range g {
		switch {
		case !states[i]:
		case t.kind == globMaybe:
			states[i+1], states[i+3] = true, true
		case t.kind == globStar, t.kind == globDeep:
			states[i+1] = true
		}
	}
}

func (t globToken) takes(char rune) bool {
	switch t.kind {
	case globRune:
		return char == t.char
	case globStar:
		return char != '/'
	case globDeep:
		return true
	case globClass:
		ok, err := path.Match(t.class, string(char))
		return ok && err == nil && char != '/'
	}
	return false
}

package checks

import (
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, matches, others string // names, separated by spaces
	}{
		{"main", "main", "mai mainn a/main Main"},
		{"*", "a ab .x", "a/b /"},
		{"**", "a a/b a/b/c", ""},
		{"f[0-9][0-9]", "f42 f00", "f4 f421 fx2"},
		{"[!a-c]x", "dx éx", "ax cx /x x"},
		{"[^a-c]x", "dx", "ax"},
		{"?.c", "a.c é.c", ".c ab.c /.c"},
		{"*.spec", "hello.spec .spec", "a/hello.spec hello.spec2"},
		{"**/*.c", "a.c x/a.c x/y/a.c", "a.h x/a.cc"},
		{"src/**/*.c", "src/a.c src/x/a.c src/x/y/a.c", "a.c src/a.h lib/src/a.c srca.c"},
		{"src/**", "src/a src/a/b src/", "src srcs/a"},
		{"src/", "src/a src/a/b", "src a/src/b"},
		{"**/test/**", "test/a x/test/a x/y/test/a/b", "test atest/a x/atest/a"},
		{"a**b", "ab axb a/x/b", "a/x/c"},
		{"**/**/x", "x a/x a/b/x", "ax"},
		{"release/*/x", "release/1/x release//x", "release/x release/1/2/x"},
		{`\*\?\[`, "*?[", `ab[ \*\?\[`},
		{`\!x`, "!x", "x"},
		{"a]", "a]", "a"},
		{"é*", "é éa été", "e"},
	}
	for _, tt := range tests {
		g, err := parseGlob(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		for name := range strings.FieldsSeq(tt.matches) {
			if !g.match(name, new(int)) {
				t.Errorf("%q does not match %q", tt.pattern, name)
			}
		}
		for name := range strings.FieldsSeq(tt.others) {
			if g.match(name, new(int)) {
				t.Errorf("%q matches %q", tt.pattern, name)
			}
		}
	}
}

// globExpression is the regular expression of a pattern, written independently
// of the matcher: one alternative of a list after the other.
func globExpression(pattern string) string {
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	var b strings.Builder
	for begins := true; pattern != ""; begins = strings.HasSuffix(b.String(), "/") {
		switch {
		case begins && strings.HasPrefix(pattern, "**/"):
			b.WriteString("(?:.*/)?")
			pattern = pattern[3:]
			for strings.HasPrefix(pattern, "**/") { // one is as good as several
				pattern = pattern[3:]
			}
			if strings.HasPrefix(pattern, "/") {
				b.WriteString("/")
				pattern = pattern[1:]
			}
			continue
		case strings.HasPrefix(pattern, "**"):
			b.WriteString(".*")
			pattern = pattern[2:]
		case pattern[0] == '*':
			b.WriteString("[^/]*")
			pattern = pattern[1:]
		case pattern[0] == '?':
			b.WriteString("[^/]")
			pattern = pattern[1:]
		default:
			_, size := utf8.DecodeRuneInString(pattern)
			b.WriteString(regexp.QuoteMeta(pattern[:size]))
			pattern = pattern[size:]
		}
	}
	return "(?s)^" + b.String() + "$"
}

// FuzzMatch: a pattern that is taken matches what its regular expression
// matches, and one of a single directory without classes what path.Match does.
func FuzzMatch(f *testing.F) {
	for _, pattern := range []string{"", "*", "**", "**/", "**/*.c", "src/**/x", "a**b", "[a-z]", "[!a]", "[", "\\", "\\*", "a?c", strings.Repeat("*a", 50) + "b", strings.Repeat("**/", 60), "x/", "!x", "é?"} {
		for _, name := range []string{"", "a", "a/b/c.c", "src/x", strings.Repeat("a", 300), strings.Repeat("a/", 100), "\xff", "é"} {
			f.Add(pattern, name)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > maxPattern || len(name) > maxPathname || !utf8.ValidString(pattern) || !utf8.ValidString(name) {
			return
		}
		g, err := parseGlob(pattern)
		if err != nil {
			checkMessage(t, "cannot "+err.Error())
			return
		}
		got := g.match(name, new(int))
		if strings.ContainsAny(pattern, `[\`) {
			return
		}
		if !strings.HasSuffix(pattern, "**/") && !strings.Contains(pattern, "***") && !strings.Contains(pattern, "//") {
			if want := regexp.MustCompile(globExpression(pattern)).MatchString(name); got != want {
				t.Errorf("%q matches %q: %v; the expression %s says %v", pattern, name, got, globExpression(pattern), want)
			}
		}
		if !strings.Contains(pattern, "**") && !strings.HasSuffix(pattern, "/") {
			if want, err := path.Match(pattern, name); err == nil && got != want {
				t.Errorf("%q matches %q: %v; path.Match says %v", pattern, name, got, want)
			}
		}
	})
}

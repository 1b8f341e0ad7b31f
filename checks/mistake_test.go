package checks

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMistakesAreErrors(t *testing.T) {
	ms := Mistakes{
		{File: "b.yml", Line: 1, Col: 1, Message: "cannot b"},
		{File: "a.yml", Line: 2, Col: 1, Message: "cannot two"},
		{File: "a.yml", Line: 1, Col: 10, Message: "cannot ten"},
		{File: "a.yml", Line: 1, Col: 9, Message: "cannot nine"},
		{File: "a.yml", Line: 1, Col: 9, Message: "cannot nine"},
	}
	err := fmt.Errorf("lint: %w", ms.err())
	var all Mistakes
	if !errors.As(err, &all) {
		t.Fatal("no Mistakes in it")
	}
	want := "a.yml:1:9: cannot nine\na.yml:1:10: cannot ten\na.yml:2:1: cannot two\nb.yml:1:1: cannot b"
	if all.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", all, want)
	}
	var first Mistake
	if !errors.As(err, &first) || first.Col != 9 {
		t.Errorf("the first mistake: %v", first)
	}
	if got := all.Of("b.yml"); len(got) != 1 || got[0].Message != "cannot b" {
		t.Errorf("Of = %v", got)
	}
	if Mistakes(nil).err() != nil {
		t.Error("no mistakes are an error")
	}
}

func TestMistakeIsOneBoundedLine(t *testing.T) {
	m := Mistake{File: "a\nb/\x1b[2J\xff\u202e.yml", Line: 3, Col: 4, Message: "cannot " + strings.Repeat("é\n", 1000)}
	got := m.Error()
	if !strings.HasPrefix(got, `a\nb/\x1b[2J\xff\u202e.yml:3:4: cannot é\né`) || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\x1b\u202e") {
		t.Errorf("%q", got)
	}
	checkMessage(t, got)
}

func TestMistakesOfOneFileAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "k%d: ${x}\n", i)
	}
	_, err := Parse("f.yml", []byte(text.String()))
	got := lines(t, err)
	if last := got[len(got)-1]; len(got) != maxFileMistake+1 || !strings.Contains(last, "cannot list more than 100 mistakes") {
		t.Errorf("%d mistakes, the last is %s", len(got), last)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"name", "desc", "maintainer", "namespace", "input", "environment", "timeout", "actions"}
	for word, want := range map[string]string{
		"nmae": "name", "Name": "name", "description": "desc", "maintaner": "maintainer", "enviroment": "environment", "action": "actions",
		"env": "environment", "timeuot": "timeout", "frobnicate": "", "x": "", "": "", strings.Repeat("n", 1<<20): "", "é": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xabc", 1}, {"abc", "axc", 1}, {"", "abc", 3}, {"ca", "abc", 3}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// Files that would take the parser long, or far too much memory.
func TestParseOfHostileFiles(t *testing.T) {
	head := "name: x\ndesc: y\nmaintainer: z\n"
	var anchors strings.Builder
	anchors.WriteString("input: &a0 [x]\n")
	for i := range 2000 {
		fmt.Fprintf(&anchors, "k%d: *a0\n", i)
	}
	for name, text := range map[string]string{
		"10 MB":               head + strings.Repeat("# comment\n", 1<<20),
		"open brackets":       strings.Repeat("[", MaxFormula),
		"open braces":         strings.Repeat("{a: ", MaxFormula/4),
		"nested lists":        strings.Repeat("- ", MaxFormula/2),
		"deep indentation":    nestedMappings(1000),
		"one long line":       strings.Repeat("x", MaxFormula),
		"many quotes":         strings.Repeat("'", MaxFormula),
		"many aliases":        anchors.String(),
		"many documents":      strings.Repeat("---\n", MaxFormula/4),
		"many bad lines":      strings.Repeat("a b c\n", MaxFormula/6),
		"many duplicate keys": strings.Repeat("a: b\n", MaxFormula/5),
		"many actions":        head + "actions:\n" + strings.Repeat("  - {name: x, shell: [x]}\n", maxActions+1),
		"many dollars":        head + "actions:\n  - name: x\n    shell: [[" + strings.Repeat("$", MaxFormula-1001) + "]]\n",
		"many variables":      head + "actions:\n  - name: x\n    shell: '" + strings.Repeat("$a", MaxFormula/2-1000) + "'\n",
		"unclosed variables":  head + "actions:\n  - name: x\n    shell: [['" + strings.Repeat("${", MaxFormula/2-1000) + "']]\n",
		"shell parameters":    head + "actions:\n  - name: x\n    shell: '" + strings.Repeat("$1", MaxFormula/2-1000) + "'\nx:",
		"copied text":         head + "actions:\n  - name: &a '" + strings.Repeat("$1", MaxFormula/4) + "'\n    shell: [" + strings.Repeat("*a, ", 900) + "]\n",
		"many escapes":        "\"" + strings.Repeat("\\x00", MaxFormula/4-10) + "\"",
		"many packages":       head + "environment: {rpm: [" + strings.Repeat("x,", maxPackages+1) + "]}\n",
		"a tab far down":      head + strings.Repeat("# comment\n", 20_000) + "actions:\n\t- x\n",
		"long desc":           "name: x\nmaintainer: z\ndesc: " + strings.Repeat("y", maxDesc+1) + "\n",
		"utf-16":              "\xff\xfea\x00",
	} {
		f, err := Parse("runtask.yml", []byte(text))
		if err == nil || f != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		lines(t, err)
	}
}

// The library names the line before the one that it stumbles over, or the
// beginning of the block around it.
func TestSyntaxMistakesAreWhereTheyAre(t *testing.T) {
	head := "name: x\ndesc: y\n# comment\nmaintainer: z\n"
	for text, want := range map[string]string{
		"actions:\n  - name: x\n    shell: [a]\n   bad: x\n  - name: y\n": "f.yml:8:4: cannot fit this line",
		"a: 'open\nb: c\nd: e\n":      "f.yml:5:1: cannot find the end of the quoted text",
		"a: b\n\tc: d\n":              "f.yml:6:1: cannot indent with a tab",
		"a:\n  - b\n  c: d\n":         "f.yml:7:3: cannot fit this line",
		"a: [b, @c]\n":                "f.yml:5:8: cannot begin a value with \"@\"",
		"a: %b\n":                     "f.yml:5:4: cannot begin a value with \"%\"",
		"a: *b\n":                     "f.yml:5:1: cannot find the anchor",
		"é: \"${x}\" # c\nß: ü: $x\n": "f.yml:6:1: cannot read a second \": \"",
	} {
		_, err := Parse("f.yml", []byte(head+text))
		if got := lines(t, err); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%q: %q; want %s…", text, got, want)
		}
	}
}

func nestedMappings(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

package checks

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// docs/directives.md is made of the manuals.
func TestDirectivesPage(t *testing.T) {
	expect(t, "../docs/directives.md", []byte(DirectivesPage()))
}

func TestDirectiveHelp(t *testing.T) {
	for _, d := range Directives() {
		text, err := DirectiveHelp(d.Name)
		if err != nil || !strings.HasPrefix(text, d.Name+": "+d.Short+"\n") || !strings.Contains(text, "\nExample:\n  - name: ") {
			t.Errorf("%s: %v\n%s", d.Name, err, text)
		}
		for _, a := range directives()[d.Name]().manual().args {
			if !strings.Contains(text, "\n  "+a.name+" (") {
				t.Errorf("%s: no word about %s:\n%s", d.Name, a.name, text)
			}
		}
		for line := range strings.Lines(text) {
			if utf8.RuneCountInString(line) > 121 {
				t.Errorf("%s: a long line: %s", d.Name, line)
			}
		}
	}
	older, err := DirectiveHelp("bash")
	if err != nil || !strings.HasPrefix(older, "bash is the older spelling of shell.\n\nshell: ") {
		t.Errorf("bash: %v\n%s", err, older)
	}
	if _, err := DirectiveHelp("shel"); err == nil || err.Error() != `cannot find the directive "shel": write shell` {
		t.Errorf("shel: %v", err)
	}
}

func TestIndented(t *testing.T) {
	if got, want := indented("a bb  ccc\ndd é", 2, 8), "  a bb\n  ccc dd\n  é\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

package checks

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

const formulasPage = "../docs/formulas.md"

// The table of keys of docs/formulas.md is made of the keys' documentation.
func TestFormulasPage(t *testing.T) {
	page, err := os.ReadFile(formulasPage)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- keys -->\n"
	before, _, ok := strings.Cut(string(page), mark)
	if !ok {
		t.Fatalf("%s has no mark %s", formulasPage, mark)
	}
	expect(t, formulasPage, []byte(before+mark+KeysTable()))
}

// Every example of the page is one that lint finds nothing in, not even a
// warning. What is no whole formula is a part of one: its actions, or some keys.
func TestFormulasPageExamples(t *testing.T) {
	page, err := os.ReadFile(formulasPage)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)```\n").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 10 {
		t.Errorf("%d examples: that cannot be all", len(blocks))
	}
	const head, actions = "name: example\ndesc: is one\nmaintainer: somebody\n", "actions:\n  - {name: list, shell: [ls]}\n"
	for _, b := range blocks {
		text := b[1]
		switch {
		case strings.HasPrefix(text, "- "):
			text = head + "actions:\n" + text
		case !strings.HasPrefix(text, "name: "):
			text = head + text
		}
		if !strings.Contains(text, "\nactions:\n") {
			text += actions
		}
		f, err := Parse("example.yml", []byte(text))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
		} else if len(f.Warnings) > 0 {
			t.Errorf("%v\n%s", f.Warnings, text)
		}
		if err := schemaError(t, compiledSchema(t), []byte(text)); err != nil {
			t.Errorf("the schema: %v\n%s", err, text)
		}
	}
}

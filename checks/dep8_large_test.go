package checks

import (
	"strings"
	"testing"
)

// TestHostileControl reads files that are as large as they may be, each in a way
// that a careless reader takes for ever for.
func TestHostileControl(t *testing.T) {
	fill := func(head, part string) string { return head + strings.Repeat(part, (MaxFormula-len(head))/len(part)) }
	for name, control := range map[string]string{
		"words":        fill("Tests:", " a"),
		"lines":        fill("Tests:", "\n a"),
		"restrictions": fill("Tests: smoke\nRestrictions:", "\n x"),
		"dependencies": fill("Tests: smoke\nDepends: a", ",\n a"),
		"alternatives": fill("Tests: smoke\nDepends: a", "|a"),
		"fields":       fill("", "a:\n"),
		"stanzas":      fill("", "a:\n\n"),
		"comments":     fill("", "#\n"),
		"no fields":    fill("", "x\n"),
		"features":     fill("Test-Command: x\nFeatures:", " test-name"),
		"too large":    fill("", "x") + "xxxx",
	} {
		formulas, err := Load(sourceTree(t, []byte(control), []byte("Source: x\n\nPackage: x\n")))
		if len(formulas) > 0 && err != nil || len(formulas) > maxTests {
			t.Errorf("%s: %d formulas, %v", name, len(formulas), err)
		}
	}
}

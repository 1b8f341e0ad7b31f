package checks

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// addCorpus gives every formula of the corpus to a fuzz target.
func addCorpus(f *testing.F) {
	files, err := filepath.Glob(corpus + "/*.yml")
	if err != nil || len(files) == 0 {
		f.Fatalf("cannot find the corpus: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// FuzzParse: whatever a file holds, it is a formula that plans and resolves, or
// it has mistakes with a place in the file and a message of one line.
func FuzzParse(f *testing.F) {
	addCorpus(f)
	for _, seed := range []string{
		"a: &a [*a]", "? a\n: b", "&a : b", "*a", "!!binary x", "- - - -", "a: |\n \t", "%YAML 1.1\n---\n", "{", "\"\\U00110000\"", "a: !<x> b", "\u2028\na: \t",
		"name: x\r\ractions: [", "#\u0085x: y\n  z",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		formula, err := Parse("dir/runtask.yml", data)
		if err != nil {
			checkMistakes(t, data, err)
			return
		}
		if !isSafeName(formula.Name) || formula.nameAt.Line < 1 {
			t.Errorf("the name %q is not safe", formula.Name)
		}
		if _, why := formula.WantsEvent(assay.EventPush, "git_commit", "main", []string{"a/b.c"}); oneLine(why, maxMessage) != why {
			t.Errorf("no line of ours: %q", why)
		}
		if len(formula.Matrix) > maxVariants || len(formula.Needs) != len(formula.needsAt) {
			t.Errorf("beyond bounds: %+v", formula)
		}
		if _, err := record(formula, everyVariable(formula)); err != nil {
			checkMessage(t, err.Error())
		}
	})
}

// everyVariable gives the formula's arguments and hostile exports.
func everyVariable(f *Formula) assay.Vars {
	vars := runVars()
	for _, arg := range f.Args {
		vars[arg] = "x'\n$(y)"
	}
	if len(f.Matrix) > 0 {
		for name, value := range f.Matrix[0].Vars {
			vars[name] = value
		}
	}
	for i, a := range f.actions {
		vars[a.export] = []any{"a b", []any{1.5, nil, true}, map[string]any{"name": strings.Repeat("'", i)}}[i%3]
	}
	return vars
}

func checkMistakes(t *testing.T, data []byte, err error) {
	var ms Mistakes
	if !errors.As(err, &ms) || len(ms) == 0 || len(ms) > maxFileMistake+1 {
		t.Fatalf("%T with %d mistakes", err, len(ms))
	}
	ends := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") +
		strings.Count(string(data), "\u0085") + strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029")
	for i, m := range ms {
		if m.Line < 1 || m.Col < 1 || m.Line > ends+2 || m.File != "dir/runtask.yml" {
			t.Errorf("a mistake is nowhere in a file of %d lines: %#v", ends+1, m)
		}
		if i > 0 && m.Line < ms[i-1].Line {
			t.Errorf("mistakes are not sorted: %v", ms)
		}
		checkMessage(t, m.Error())
		if m.Message != oneLine(m.Message, maxMessage) && len(m.Message) > maxMessage+len("…") {
			t.Errorf("the message is no bounded line: %q", m.Message)
		}
	}
}

// FuzzExpand: tokens joined are the text; a text without references is left as
// it is but for $$; in shell text a value never changes how many words there
// are, which TestShellReadsTheValue shows with a real shell.
func FuzzExpand(f *testing.F) {
	for _, text := range []string{"", "$", "$$", "${item}", "$item.", "${item.a.b}", "${", "${}", "${a b}", "echo '$item' \"${item}\" # ${item}", "$$$item", "$(${item})", "\\${item}"} {
		for _, value := range []string{"", "plain", "a b", "'", "\x00", "~", "$item"} {
			f.Add(text, value)
		}
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		var joined strings.Builder
		for token := range scan(text) {
			if token.offset != joined.Len() || token.source == "" {
				t.Fatalf("token %+v is at %d", token, joined.Len())
			}
			joined.WriteString(token.source)
		}
		if joined.String() != text {
			t.Errorf("scan(%q) joins to %q", text, joined.String())
		}
		if !strings.Contains(text, "$") || !utf8.ValidString(text) {
			return
		}
		checkExpansion(t, text, value)
	})
}

func checkExpansion(t *testing.T, text, value string) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: 1, Column: 1}
	p := &parser{file: "f.yml", data: []byte(text), known: builtins(), formula: &Formula{uses: map[string]bool{}}}
	vars := assay.Vars{"item": value}
	for _, tpl := range []template{p.template(n), p.shellTemplate(n)} {
		got, err := tpl.text(&scope{vars: vars, left: maxResolved})
		if err != nil {
			checkMessage(t, err.Error())
		} else if isShellSafe(value) && len(got) > len(text)*(len(value)+1) {
			t.Errorf("%q with %q became %q", text, value, got)
		}
	}
	for _, m := range p.mistakes {
		checkMessage(t, m.Error())
		if m.Line < 1 || m.Col < 1 {
			t.Errorf("a mistake is nowhere: %+v", m)
		}
	}
}

// FuzzParseResults: results are within bounds and say only what is legal, or
// the error is a line.
func FuzzParseResults(f *testing.F) {
	for _, seed := range []string{
		"results:\n", "results:\n  - item: x\n    outcome: PASSED\n    k: [a, b]\n", `{"results":[{"note":"\ud83d"}]}`,
		"results: [{outcome: GOOD}]", "results: &a [*a]", "results: [{? [a] : b}]", "- a", "", "results:\n  - !!python/unicode x: y\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		results, err := ParseResults(data)
		if err != nil {
			checkMessage(t, err.Error())
			return
		}
		for _, r := range results {
			if _, ok := assay.ParseOutcome(string(r.Outcome)); !ok || len(r.Data) > maxDataKeys || len(r.Note) > maxResultNote {
				t.Errorf("not a result: %+v", r)
			}
			if strings.ContainsAny(r.Item+r.Type+r.Checkname+r.Artifact, "\n\x00\x1b") {
				t.Errorf("control characters: %+v", r)
			}
		}
	})
}

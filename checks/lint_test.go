package checks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Warnings are told and stop nothing; beside mistakes they are told, too.
func TestWarnings(t *testing.T) {
	const older = "name: x\ndesc: y\nmaintainer: z\ninput: {args: [bodhi_id, module]}\ntask:\n  - name: n\n    bash: ls\n"
	want := []string{
		"f.yml:4:16: warning: bodhi_id is the older name of bodhi_update: write bodhi_update, and ${bodhi_update} where its value is used",
		"f.yml:4:26: warning: module is the older name of module_build: write module_build, and ${module_build} where its value is used",
		"f.yml:5:1: warning: task is the older spelling of actions: write actions",
		"f.yml:7:5: warning: bash is the older spelling of shell: write shell",
	}
	f, err := Parse("f.yml", []byte(older))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(f.Warnings.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	tree := fstest.MapFS{"f.yml": {Data: []byte(older + "colour: red\n")}}
	all := LintFile(tree, "f.yml").Mistakes
	if len(all) != len(want)+1 || len(all.Errors()) != 1 || all[4].Warning {
		t.Errorf("beside a mistake: %v", all)
	}
	var ms Mistakes
	if _, err := Parse("f.yml", []byte(older+"colour: red\n")); !errors.As(err, &ms) || len(ms) != 1 || ms[0].Warning {
		t.Errorf("the error holds warnings: %v", err)
	}
	if f, err := Parse("f.yml", []byte(fixHead+"actions: [{name: n, shell: ls}]\n")); err != nil || len(f.Warnings) > 0 {
		t.Errorf("warnings without a reason: %v, %v", err, f.Warnings)
	}
}

// Lint tells of the whole tree, of formulas and of what they have with each other.
func TestLint(t *testing.T) {
	good := func(name string) string {
		return "name: " + name + "\ndesc: y\nmaintainer: z\nactions: [{name: n, shell: ls}]\n"
	}
	tree := fstest.MapFS{
		"a/runtask.yml": {Data: []byte(good("a"))}, "b/runtask.yml": {Data: []byte(good("a"))},
		"c/runtask.yml": {Data: []byte(strings.Replace(good("c"), "actions", "task", 1))}, "d/runtask.yml": {Data: []byte("colour: red")},
	}
	all, err := Lint(tree)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range all {
		got = append(got, fmt.Sprintf("%s %d %d", l.Path, len(l.Mistakes.Errors()), len(l.Mistakes)))
	}
	if want := "a/runtask.yml 0 0, b/runtask.yml 1 1, c/runtask.yml 0 1, d/runtask.yml 5 5"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
}

// Every mistake of the corpus has one of the rules, and every rule has a mistake
// in the corpus or is one of the whole repository.
func TestRules(t *testing.T) {
	seen := map[string]int{}
	files, err := filepath.Glob(corpus + "/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := parse(file, data)
		for _, m := range slices.Concat(p.mistakes, p.warnings) {
			seen[m.Rule()]++
		}
	}
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, r := range Rules() {
		if seen[r.ID] == 0 && r.ID != "file" {
			t.Errorf("no case of the corpus breaks the rule %s", r.ID)
		}
		if !form.MatchString(r.ID) || !strings.HasSuffix(r.Short, ".") {
			t.Errorf("%s: %q", r.ID, r.Short)
		}
		delete(seen, r.ID)
	}
	if len(seen) > 0 {
		t.Errorf("no rules: %v", seen)
	}
}

func TestRuleOfAMistake(t *testing.T) {
	const tail = "actions: [{name: n, shell: [ls]}]\n"
	for text, want := range map[string]string{
		fixHead + tail + "colour: red\n":                              "unknown-key",
		"name: x\ndesc: y\n" + tail:                                   "missing-key",
		fixHead + tail + "name: y\n":                                  "duplicate",
		fixHead + tail + "task: []\n":                                 "duplicate",
		fixHead + "actions: [{name: n, shel: [ls]}]\n":                "unknown-directive",
		fixHead + "actions: [{name: n}]\n":                            "one-directive",
		fixHead + "actions: [{name: n, shell: ls, dummy: x}]\n":       "one-directive",
		fixHead + "actions: [{name: n, shell: 'ls ${nobody}'}]\n":     "unknown-variable",
		fixHead + "actions: [{name: n, shell: [[ls, $]]}]\n":          "unknown-variable",
		fixHead + "actions: x\n":                                      "wrong-type",
		fixHead + tail + "timeout: 25h\n":                             "invalid-value",
		fixHead + tail + "x: [\n":                                     "yaml",
		fixHead + tail + "timeout: !!int 5\n":                         "yaml",
		fixHead + tail + "namespace: " + strings.Repeat("x", 1<<20):   "too-large",
		"name: x\nmaintainer: z\ndesc: " + strings.Repeat("y", 1<<17): "too-large",
	} {
		p := parse("f.yml", []byte(text))
		if len(p.mistakes) == 0 || p.mistakes.sorted()[0].Rule() != want && p.mistakes[len(p.mistakes)-1].Rule() != want {
			t.Errorf("%.80q: %v is no %s", text, p.mistakes, want)
		}
	}
	tree := fstest.MapFS{"runtask.yml": {Data: []byte(fixHead + "actions: [{name: n, python: {file: x.py, callable: run}}]\n")}}
	if ms := LintFile(tree, "runtask.yml").Mistakes; len(ms) != 1 || ms[0].Rule() != "file" {
		t.Errorf("a missing file: %v", ms)
	}
}

// BenchmarkLint1000 lints a tree of 1,000 formulas on the disk.
func BenchmarkLint1000(b *testing.B) {
	data, err := os.ReadFile("../fixtures/checks/nvr/runtask.yml")
	if err != nil {
		b.Fatal(err)
	}
	root := b.TempDir()
	for i := range 1000 {
		dir := filepath.Join(root, fmt.Sprintf("check-%d", i))
		text := strings.Replace(string(data), "name: nvr\n", fmt.Sprintf("name: nvr-%d\n", i), 1)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "runtask.yml"), []byte(text), 0o644),
			os.WriteFile(filepath.Join(dir, "nvr.py"), nil, 0o644)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		all, err := Lint(os.DirFS(root))
		if err != nil || len(all) != 1000 || len(all[999].Mistakes) > 0 {
			b.Fatalf("%v: %v", err, all[len(all)-1])
		}
	}
}

package checks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// hostileWords are what somebody would try in the place of a path, a name or an
// item.
func hostileWords() []string {
	return []string{
		"", ".", "..", "/", "../../etc/passwd", "a/../../..", "/etc/passwd", "/run/check/../../etc", "/run/assay", "/run/assay/../..",
		"//etc//passwd", "~root/.ssh", "-rf", "--help", "a\x00b", "a\nb", "a\r\nb", "\x1b[2J", "\u202egpj", "$(reboot)", "; reboot", "'", "\\",
		"${item}", "$$", "http://169.254.169.254/", strings.Repeat("a/", 2500), "\xff", ".git/config", "LD_PRELOAD=x",
	}
}

// The directories of the execution, as runVars names them.
func executionDirs() []string {
	return []string{"/run/check", "/run/artifacts", "/run/sources", "/run/builds", "/run/assay"}
}

func insideExecution(file string) bool {
	return path.Clean(file) == file && slices.ContainsFunc(executionDirs(), func(dir string) bool {
		return file == dir || strings.HasPrefix(file, dir+"/")
	})
}

// checkAction wants that nothing of an action reaches the host: what the host
// writes goes into the execution's directories, and everything else is a command
// or a path for the machine.
func checkAction(t *testing.T, what string, act assay.Action) {
	t.Helper()
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%.200s: "+format, append([]any{what}, args...)...)
	}
	for name := range act.Files {
		if !filepath.IsLocal(name) || path.Clean(name) != name {
			bad("the host writes the file %.200q", name)
		}
	}
	if act.Value != "" && !strings.HasPrefix(act.Value, "/run/assay/value-") {
		bad("the value comes from %.200q", act.Value)
	}
	if act.Dir != "" && (!path.IsAbs(act.Dir) || path.Clean(act.Dir) != act.Dir || strings.ContainsAny(act.Dir, "\x00\n")) {
		bad("commands start in %.200q", act.Dir)
	}
	for _, e := range act.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || !isIdentifier(name) || strings.ContainsRune(e, 0) {
			bad("the environment %.200q", e)
		}
	}
	for _, c := range act.Commands {
		if strings.ContainsRune(c.Shell+strings.Join(c.Argv, ""), 0) || len(c.Argv) > 0 && c.Argv[0] == "" {
			bad("the command %.200q", c)
		}
	}
	if act.Results != nil && act.Results.File != "" && !path.IsAbs(act.Results.File) {
		bad("results come from %.200q", act.Results.File)
	}
	checkFetch(bad, act.Fetch)
	checkTurn(bad, act.Turn)
}

func checkFetch(bad func(string, ...any), f *assay.Fetch) {
	if f == nil {
		return
	}
	if !insideExecution(f.Dir) {
		bad("downloads go to %.200q", f.Dir)
	}
	for _, name := range fetchNames(f) {
		if strings.ContainsAny(name, "\x00\n\r") {
			bad("what is asked for is called %.200q", name)
		}
	}
	if f.DistGit == nil {
		return
	}
	for _, name := range []string{f.DistGit.Namespace, f.DistGit.Package, f.DistGit.Ref} {
		if slices.Contains(strings.Split(name, "/"), "..") {
			bad("a download is addressed by %.200q", name)
		}
	}
	for _, local := range f.DistGit.LocalPaths {
		if !filepath.IsLocal(local) {
			bad("a download goes to %.200q", local)
		}
	}
	for _, p := range f.DistGit.Paths {
		if !filepath.IsLocal(p) {
			bad("a download comes from %.200q", p)
		}
	}
}

// fetchNames are the words of a download that become part of an address.
func fetchNames(f *assay.Fetch) []string {
	var names []string
	if k := f.Koji; k != nil {
		names = append(names, k.Build, k.Tag)
	}
	if b := f.Bodhi; b != nil {
		names = append(names, b.Update)
	}
	if d := f.DistGit; d != nil {
		names = append(names, d.Namespace, d.Package, d.Ref)
	}
	return names
}

func checkTurn(bad func(string, ...any), turn *assay.Turn) {
	if turn == nil {
		return
	}
	if turn.File != "" && (!path.IsAbs(turn.File) || strings.ContainsRune(turn.File, 0)) {
		bad("the host reads %.200q of the machine", turn.File)
	}
	for _, file := range []string{"", "\x00", "results:\n- outcome: PASSED\n", "TAP version 13\n1..1\nok 1\n", "<testsuite><testcase name='a'/></testsuite>", "{}", "[]"} {
		made, err := turn.Make([]byte(file))
		if err != nil {
			continue
		}
		for name := range made.Files {
			if !filepath.IsLocal(name) {
				bad("the host writes the artifact %.200q", name)
			}
		}
	}
}

// example is the example of a directive as data, and with every argument that
// its manual knows.
func exampleOf(t *testing.T, kind string, m manual) map[string]any {
	t.Helper()
	var act map[string]any
	if err := yaml.Unmarshal([]byte(m.example), &act); err != nil || act[kind] == nil {
		t.Fatalf("%s: %v in the example %s", kind, err, m.example)
	}
	return act
}

// replaced lists copies of a value in which one scalar each is another value.
func replaced(v, by any) []any {
	switch v := v.(type) {
	case map[string]any:
		var all []any
		for _, key := range slices.Sorted(maps.Keys(v)) {
			for _, sub := range replaced(v[key], by) {
				c := maps.Clone(v)
				c[key] = sub
				all = append(all, c)
			}
		}
		return all
	case []any:
		var all []any
		for i := range v {
			for _, sub := range replaced(v[i], by) {
				c := slices.Clone(v)
				c[i] = sub
				all = append(all, c)
			}
		}
		return all
	}
	return []any{by}
}

// hostileArguments are the argument values to try for one directive: its example with
// one scalar replaced, and with one more argument.
func hostileArguments(act map[string]any, kind string, m manual, by any) []any {
	all := replaced(act[kind], by)
	args, ok := act[kind].(map[string]any)
	for _, arg := range m.args {
		if !ok || arg.name == "…" {
			continue
		}
		for _, v := range []any{by, []any{by}} {
			c := maps.Clone(args)
			c[arg.name] = v
			all = append(all, c)
		}
	}
	return all
}

// tryAction parses, plans and resolves a formula of one action, behind one whose
// results it may use, and tells whether something came of it.
func tryAction(t *testing.T, act map[string]any, item string) bool {
	t.Helper()
	first := map[string]any{"name": "first", "shell": "./report", "export": "report"}
	text, err := json.Marshal(map[string]any{"name": "hostile", "desc": "x", "maintainer": "x", "input": map[string]any{"args": inputNames()}, "actions": []any{first, act}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("f/runtask.yml", text)
	if err != nil {
		for _, m := range lines(t, err) {
			checkMessage(t, m)
		}
		return false
	}
	vars := runVars()
	vars[assay.VarItem], vars["report"] = item, "results:\n- {item: x, outcome: FAILED}\n"
	for _, typ := range itemTypes() {
		vars[typ] = item
	}
	plan, err := f.Plan(vars)
	if err != nil {
		checkMessage(t, err.Error())
		return false
	}
	got, err := plan.Steps[1].Resolve(nil)
	if err != nil {
		checkMessage(t, err.Error())
		return false
	}
	checkAction(t, fmt.Sprintf("%s with the item %q", text, item), got)
	return true
}

// No argument of any directive makes the host do anything outside of the
// execution, neither as it stands in the formula nor by a variable's value.
func TestHostileArguments(t *testing.T) {
	for kind, make := range directives() {
		m := make().manual()
		act := exampleOf(t, kind, m)
		if !tryAction(t, act, "gzip-1.13-3.fc42") {
			t.Errorf("%s: its own example cannot be resolved", kind)
		}
		for _, word := range hostileWords() {
			for text, item := range map[string]string{word: "x", "${item}": word, "${workdir}/${item}": word} {
				for _, args := range hostileArguments(act, kind, m, text) {
					c := maps.Clone(act)
					c[kind] = args
					tryAction(t, c, item)
				}
			}
		}
	}
}

// Nor do the keys that every action has.
func TestHostileActionKeys(t *testing.T) {
	for _, word := range hostileWords() {
		for text, item := range map[string]string{word: "x", "${item}": word, "a/${item}": word, "${workdir}/${item}": word, "/${item}": word} {
			for _, key := range []string{"workdir", "if", "timeout", "export", "name"} {
				tryAction(t, map[string]any{"name": "x", "shell": "date", key: text}, item)
			}
			tryAction(t, map[string]any{"name": "x", "shell": "date", "env": map[string]any{"A": text}}, item)
			tryAction(t, map[string]any{"name": "x", "shell": "date", "env": map[string]any{text: "a"}}, item)
		}
	}
}

// A relative workdir never leads out of the check's directory.
func TestHostileWorkdirStaysInside(t *testing.T) {
	for _, word := range hostileWords() {
		f, err := Parse("f.yml", []byte("name: x\ndesc: x\nmaintainer: x\nactions:\n  - {name: a, workdir: '${item}', shell: ls}\n  - {name: b, workdir: 'a/${item}', shell: ls}\n"))
		if err != nil {
			t.Fatal(err)
		}
		vars := runVars()
		vars[assay.VarItem] = word
		plan, err := f.Plan(vars)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range plan.Steps {
			if act, err := step.Resolve(nil); err == nil && act.Dir != "/run/check" && !strings.HasPrefix(act.Dir, "/run/check/") {
				t.Errorf("with %.100q commands start in %.100q", word, act.Dir)
			}
		}
	}
}

// YAML that grows, in every key that a formula may hold.
func TestHostileYAML(t *testing.T) {
	bomb := "\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		bomb += fmt.Sprintf("  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	wide := "[" + strings.Repeat("x, ", 10_000) + "x]"
	large := "{" + strings.Repeat("? [] : x, ", 3) + "}"
	many := "\n"
	for i := range 2000 {
		many += fmt.Sprintf("  k%d: [%d, %d]\n", i, i, i+1)
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	long := strings.Repeat("x", 50_000)
	for _, value := range []string{bomb, wide, large, many, deep, long, "|\n" + strings.Repeat("  ${x}\n", 5000), "&a {b: *a}", "!!binary AAAA", "!!python/object/apply:os.system [id]"} {
		for _, k := range append(names(formulaKeys()), "nothing") {
			checkParseFails(t, k+": "+value+"\n")
		}
		for _, k := range append(names(actionKeys(&action{})), "shell", "python", "nothing") {
			nested := strings.ReplaceAll(value, "\n", "\n    ")
			checkParseFails(t, "name: x\ndesc: x\nmaintainer: x\nactions:\n  - name: y\n    "+k+": "+nested+"\n")
		}
	}
}

// checkParseFails wants mistakes that say something; but a formula may be good
// after all (a wide list is a legal command).
func checkParseFails(t *testing.T, text string) {
	t.Helper()
	_, err := Parse("f/runtask.yml", []byte(text))
	if err == nil {
		return
	}
	var ms Mistakes
	if !errors.As(err, &ms) || len(ms) > maxFileMistake+1 {
		t.Fatalf("%T of %d mistakes for %.100q", err, len(ms), text)
	}
	for _, m := range ms {
		checkMessage(t, m.Error())
	}
}

// A matrix does not multiply without bounds.
func TestHostileMatrix(t *testing.T) {
	list := make([]string, maxVariants)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	values := "[" + strings.Join(list, ", ") + "]"
	var wide, rows strings.Builder
	for i := range maxMatrixVars {
		fmt.Fprintf(&wide, "  v%d: %s\n", i, values)
	}
	for i := range maxMatrixList {
		fmt.Fprintf(&rows, "    - {v0: %d, w%d: x}\n", i, i)
	}
	for name, matrix := range map[string]string{
		"product": wide.String(),
		"include": "  v0: " + values + "\n  include:\n" + rows.String(),
		"exclude": "  v0: " + values + "\n  exclude:\n" + rows.String(),
		"alone":   "  include:\n" + rows.String(),
		"entries": "  include:\n" + rows.String() + "    - {a: b}\n",
	} {
		_, err := Parse("f.yml", []byte("name: x\ndesc: x\nmaintainer: x\nmatrix:\n"+matrix+"actions:\n  - {name: a, shell: [x]}\n"))
		if err == nil {
			t.Errorf("%s: no mistake", name)
			continue
		}
		lines(t, err)
	}
}

// A pattern written to make a matcher go back again and again is only slow to
// write.
func TestHostilePatterns(t *testing.T) {
	name := strings.Repeat("a/", 2000) + strings.Repeat("a", 95)
	for _, pattern := range []string{
		strings.Repeat("*a", 99) + "b", strings.Repeat("**/", 66) + "b", strings.Repeat("a**", 66) + "b",
		strings.Repeat("**", 100), strings.Repeat("[a-z]*", 33) + "0", strings.Repeat("?*", 99) + "b", strings.Repeat("**/*", 49) + "b",
	} {
		g, err := parseGlob(pattern)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			continue
		}
		left := len(name) * 3 * len(pattern)
		if got, want := g.match(name, &left), !strings.HasSuffix(pattern, "b") && !strings.HasSuffix(pattern, "0"); got != want || left < 0 {
			t.Errorf("%q matches: %v, with %d steps left", pattern, got, left)
		}
	}
}

// Links in a check repository lead nowhere, whatever they are called and
// wherever they stand.
func TestHostileLinks(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret.yml")
	if err := os.WriteFile(secret, []byte(formulaText("secret")), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var errs []error
	for i, name := range append(FileNames(), "rpmlint.yml", "rpmlint.yaml", "DIRECTORY") {
		sub := filepath.Join(dir, fmt.Sprint(i))
		errs = append(errs, os.Mkdir(sub, 0o755))
		if name == "DIRECTORY" {
			errs = append(errs, os.Symlink(outside, filepath.Join(sub, "linked")))
		} else {
			errs = append(errs, os.Symlink(secret, filepath.Join(sub, name)))
		}
	}
	errs = append(errs, os.Symlink(dir, filepath.Join(dir, "loop")), os.Symlink(secret, filepath.Join(dir, "top.yml")))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	good, err := Load(os.DirFS(dir))
	if len(good) != 0 || err == nil || strings.Contains(err.Error(), outside) {
		t.Fatalf("Load = %v, %v", good, err)
	}
	if got := lines(t, err); len(got) != len(FileNames()) {
		t.Errorf("%d mistakes: %q", len(got), got)
	}
}

package checks

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

func TestFindByContent(t *testing.T) {
	const playbook = "---\n- hosts: all\n  name: x\n  tasks:\n    - name: y\n"
	tests := []struct {
		name string
		text string
		want bool
	}{
		{"rpmlint.yml", formulaText("rpmlint"), true},
		{"upgradepath.yaml", "---\n" + formulaText("upgradepath"), true},
		{"deep/er/depcheck.yml", "# a comment\n\nname: depcheck\ntask:\n  - name: x\n", true},
		{"quoted.yml", "\"name\": x\n'actions' : []\n", true},
		{"windows.yml", "\uFEFFname: x\r\nactions:\r\n", true},
		{"broken.yml", "name: x\n\tdesc: y\nactions:\n", true},
		{"beside/other.yml", formulaText("other"), false}, // beside a runtask.yml
		{"beside/below/other.yml", formulaText("other2"), true},
		{"playbook.yml", playbook, false},
		{".travis.yml", "language: go\nname: x\n", false},
		{".github/workflows/ci.yml", "name: ci\non: [push]\njobs:\n  x:\n    actions: []\n", false},
		{"action.yml", "name: x\nruns: {using: composite}\n", false},
		{"two-documents.yml", "name: x\n---\nactions: []\n", false},
		{"no-name.yml", "desc: x\nactions: []\n", false},
		{"indented.yml", " name: x\n actions: []\n", false},
		{"a-url.yml", "name:x\nactions://x\n", false},
		{"empty.yml", "", false},
		{"formula.txt", formulaText("text"), false},
		{".git/hooks.yml", formulaText("git"), false},
	}
	files := map[string]string{"beside/runtask.yml": formulaText("beside")}
	want := []string{"beside/runtask.yml"}
	for _, tt := range tests {
		files[tt.name] = tt.text
		if tt.want {
			want = append(want, tt.name)
		}
	}
	slices.Sort(want)
	got, err := Find(tree(files))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Find = %q, %v; want %q", got, err, want)
	}
}

// At the top a file counts even beside a runtask.yml.
func TestFindAtTheTop(t *testing.T) {
	got, err := Find(tree(map[string]string{"runtask.yml": "", "rpmlint.yml": formulaText("rpmlint"), "data.yml": "name: x\n"}))
	if want := []string{"rpmlint.yml", "runtask.yml"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Find = %q, %v; want %q", got, err, want)
	}
}

// What only may be a formula is never a mistake, whatever it is.
func TestFindPassesOverWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("large.yml", append([]byte(formulaText("large")), bytes.Repeat([]byte("#"), MaxFormula)...), 0o644)
	write("late.yml", []byte("name: late\n#"+strings.Repeat("x", maxSniff)+"\nactions: []\n"), 0o644)
	write("binary.yml", []byte("\x7fELF\x00\xff"), 0o644)
	write("good.txt", []byte(formulaText("good")), 0o644)
	err := errors.Join(
		os.Symlink("good.txt", filepath.Join(dir, "linked.yml")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "outside.yml")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling.yml")),
		os.Mkdir(filepath.Join(dir, "dir.yml"), 0o755),
		syscall.Mkfifo(filepath.Join(dir, "pipe.yml"), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	good, err := Load(os.DirFS(dir))
	if err != nil || len(good) != 0 {
		t.Errorf("Load = %v, %v", good, err)
	}
}

// countingFS counts what is read of its files.
type countingFS struct {
	fstest.MapFS
	opened *int
}

func (c countingFS) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, ".yml") {
		*c.opened++
	}
	return c.MapFS.Open(name)
}

func TestFindIsCheap(t *testing.T) {
	files := tree(nil)
	for i := range maxOthers + 50 {
		files[fmt.Sprintf("data/%05d.yml", i)] = &fstest.MapFile{Data: []byte("name: x\nvalue: y\n")}
	}
	opened := 0
	got, err := Find(countingFS{files, &opened})
	if err != nil || len(got) != 0 || opened != maxOthers {
		t.Errorf("Find = %d files, %v; opened %d, want %d", len(got), err, opened, maxOthers)
	}
}

func TestFindReadsNoMoreThanItsBound(t *testing.T) {
	files := tree(nil)
	data := []byte(formulaText("x") + strings.Repeat("#", maxSniff))
	for i := range maxSniffTotal/maxSniff + 3 {
		files[fmt.Sprintf("%05d.yml", i)] = &fstest.MapFile{Data: data}
	}
	got, err := Find(files)
	if err != nil || len(got) != maxSniffTotal/maxSniff {
		t.Errorf("Find = %d files, %v", len(got), err)
	}
}

func TestLoadRefusesNeedsThatCannotBeMet(t *testing.T) {
	needing := func(name, needs string) string { return formulaText(name + "\nneeds: " + needs) }
	tests := []struct {
		name  string
		files map[string]string
		bad   []string
	}{
		{"met", map[string]string{"a/runtask.yml": needing("a", "[dist.b, c]"), "b/runtask.yml": formulaText("b\nnamespace: dist"), "c/runtask.yml": needing("c", "dist.b")}, nil},
		{
			"missing",
			map[string]string{"a/runtask.yml": needing("a", "[c, dist.lnit]"), "b/runtask.yml": formulaText("lint\nnamespace: dist")},
			[]string{
				"a/runtask.yml:2:9: cannot find the check c in this repository: write the name of another check",
				"a/runtask.yml:2:12: cannot find the check dist.lnit in this repository: write dist.lint",
			},
		},
		{
			"missing, but perhaps it is the broken one",
			map[string]string{"a/runtask.yml": needing("a", "b"), "b/runtask.yml": "name: b\n"},
			[]string{"b/runtask.yml:1:1: cannot read a formula without actions: write actions: VALUE", "b/runtask.yml:1:1: cannot read a formula without desc: write desc: VALUE", "b/runtask.yml:1:1: cannot read a formula without maintainer: write maintainer: VALUE"},
		},
		{
			"in turn",
			map[string]string{"a/runtask.yml": needing("a", "b"), "b/runtask.yml": needing("b", "[c]"), "c/runtask.yml": needing("c", "a"), "d/runtask.yml": needing("d", "a")},
			[]string{
				"a/runtask.yml:2:8: cannot let a need b, which needs it in turn: delete one of them",
				"b/runtask.yml:2:9: cannot let b need c, which needs it in turn: delete one of them",
				"c/runtask.yml:2:8: cannot let c need a, which needs it in turn: delete one of them",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tree(tt.files))
			var bad []string
			if err != nil {
				bad = lines(t, err)
			}
			slices.Sort(bad)
			slices.Sort(tt.bad)
			if !slices.Equal(bad, tt.bad) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(bad, "\n"), strings.Join(tt.bad, "\n"))
			}
		})
	}
}

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

	"github.com/google/go-cmp/cmp"
)

// formulaText is a formula without mistakes.
func formulaText(name string) string {
	return "name: " + name + "\ndesc: one\nmaintainer: releng\nactions:\n  - name: hello\n    shell: [echo hello]\n"
}

// pythonText is a formula that calls a function of a file.
func pythonText(name, file string) string {
	return "name: " + name + "\ndesc: one\nmaintainer: releng\nactions:\n  - name: call\n    python: {file: " + file + ", callable: run}\n"
}

func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return fsys
}

// checkMessage wants what every message promises: one printable line of bounded
// length that says what cannot be done.
func checkMessage(t *testing.T, s string) {
	t.Helper()
	if !strings.Contains(s, "cannot ") || len(s) > maxMessage+maxShownPath+40 || oneLine(s, len(s)+1) != s {
		t.Errorf("no message of ours: %q", s)
	}
}

// lines lists the mistakes of an error.
func lines(t *testing.T, err error) []string {
	t.Helper()
	var ms Mistakes
	if !errors.As(err, &ms) {
		t.Fatalf("%T is no Mistakes: %v", err, err)
	}
	var got []string
	for _, m := range ms {
		checkMessage(t, m.Error())
		got = append(got, m.Error())
	}
	return got
}

func TestFind(t *testing.T) {
	fsys := tree(map[string]string{
		"runtask.yml": "", "b/runtask.yaml": "", "a/task.yml": "", "a/deep/er/formula.yml": "",
		"a/other.yml": "", "runtask.yml.orig": "", ".git/runtask.yml": "", "a/.git/task.yml": "", "README": "",
	})
	got, err := Find(fsys)
	want := []string{"a/deep/er/formula.yml", "a/task.yml", "b/runtask.yaml", "runtask.yml"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Find = %q, %v; want %q", got, err, want)
	}
}

// manyFS shows everything in its root many times.
type manyFS struct {
	fs.FS
	times int
}

func (m manyFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(m.FS, name)
	if name == "." {
		entries = slices.Repeat(entries, m.times)
	}
	return entries, err
}

func TestFindIsBounded(t *testing.T) {
	deep := tree(map[string]string{strings.Repeat("d/", maxTreeDepth+2) + "runtask.yml": ""})
	many := manyFS{tree(map[string]string{"d/runtask.yml": ""}), maxFormulas + 1}
	wide := manyFS{tree(map[string]string{"README": ""}), maxEntries + 1}
	for want, fsys := range map[string]fs.FS{"nested more than 32 deep": deep, "more than 10000 formulas": many, "more than 500000 files": wide} {
		_, err := Find(fsys)
		if err == nil || !strings.Contains(lines(t, err)[0], want) {
			t.Errorf("Find: %v; want %q", err, want)
		}
		if _, err := Load(fsys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load: %v; want %q", err, want)
		}
	}
}

func TestFindTellsWhatItCannotRead(t *testing.T) {
	_, err := Find(os.DirFS(filepath.Join(t.TempDir(), "absent")))
	if !errors.Is(err, fs.ErrNotExist) || errors.As(err, new(Mistakes)) {
		t.Errorf("Find of a missing tree: %v", err)
	}
}

func TestLoad(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		good  []string // names
		bad   []string
	}{
		{"no formula", map[string]string{"README": "x"}, nil, nil},
		{"good ones", map[string]string{"runtask.yml": formulaText("a"), "b/runtask.yml": formulaText("b")}, []string{"b", "a"}, nil},
		{
			"good ones beside bad ones",
			map[string]string{"a/runtask.yml": "nmae: x\ndesc: y\nmaintainer: z\nactions: []\n", "b/runtask.yml": formulaText("b"), "c/runtask.yml": ""},
			[]string{"b"},
			[]string{
				`a/runtask.yml:1:1: cannot use the key "nmae" in a formula: write name`,
				"a/runtask.yml:4:10: cannot read an empty list of actions: write at least one action",
				"c/runtask.yml:1:1: cannot read a formula from an empty file: write at least name, desc, maintainer and actions",
			},
		},
		{
			"the same name twice",
			map[string]string{"a/runtask.yml": formulaText("same"), "b/runtask.yml": formulaText("same"), "c/runtask.yml": formulaText("same\nnamespace: dist")},
			[]string{"same", "same"},
			[]string{`b/runtask.yml:1:7: cannot use the check name same, which "a/runtask.yml" has too: write another name`},
		},
		{
			"python files",
			map[string]string{
				"a/runtask.yml": pythonText("a", "lib/run.py"), "a/lib/run.py": "",
				"b/runtask.yml": pythonText("b", "run.py"),
				"c/runtask.yml": pythonText("c", "lib"), "c/lib/x.py": "",
				"d/runtask.yml": pythonText("d", "'${arch}.py'"),
				"runtask.yml":   pythonText("e", "./run.py"), "run.py": "",
			},
			[]string{"a", "d", "e"},
			[]string{
				`b/runtask.yml:6:20: cannot find the file "b/run.py": file does not exist: write it beside the formula`,
				`c/runtask.yml:6:20: cannot read "c/lib", which is not a plain file: write a plain file`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good, err := Load(tree(tt.files))
			var names, bad []string
			for _, f := range good {
				names = append(names, f.Name)
			}
			if err != nil {
				bad = lines(t, err)
			}
			if diff := cmp.Diff([][]string{tt.good, tt.bad}, [][]string{names, bad}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadEachTellsOfEveryFile(t *testing.T) {
	all, err := LoadEach(tree(map[string]string{"a/runtask.yml": "", "b/runtask.yml": formulaText("b")}))
	if err != nil || len(all) != 2 {
		t.Fatalf("LoadEach = %v, %v", all, err)
	}
	if all[0].Path != "a/runtask.yml" || all[0].Formula != nil || len(lines(t, all[0].Err)) != 1 {
		t.Errorf("the bad one: %+v", all[0])
	}
	if all[1].Path != "b/runtask.yml" || all[1].Formula.Name != "b" || all[1].Err != nil {
		t.Errorf("the good one: %+v", all[1])
	}
}

// A real directory with what a check repository must not hold.
func TestLoadHostileTree(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret.yml")
	write := func(name string, data []byte) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("a-large/runtask.yml", append([]byte(formulaText("large")), bytes.Repeat([]byte("# 10 MB\n"), 10<<20/8)...))
	write("b-binary/runtask.yml", []byte("\x7fELF\x02\x01\x01\x00"))
	write("b-latin1/runtask.yml", []byte("name: x\ndesc: Gr\xfc\xdfe\n"))
	write("b-utf16/runtask.yml", []byte("\xff\xfen\x00a\x00m\x00e\x00"))
	write("c/plain.yml", []byte(formulaText("plain")))
	write("d/runtask.yml", []byte(pythonText("d", "lib/run.py")))
	write("d/real/run.py", nil)
	write("e-\x1b[31m\n/runtask.yml", nil)
	if err := os.WriteFile(outside, []byte(formulaText("secret")), 0o644); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(
		os.Symlink("plain.yml", filepath.Join(dir, "c/runtask.yml")),
		os.Symlink(outside, filepath.Join(dir, "c/task.yml")),
		os.Symlink("real", filepath.Join(dir, "d/lib")),
		os.Symlink(filepath.Dir(outside), filepath.Join(dir, "linked")),
		os.Mkdir(filepath.Join(dir, "formula.yml"), 0o755),
		syscall.Mkfifo(filepath.Join(dir, "runtask.yaml"), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	good, err := Load(os.DirFS(dir))
	want := []string{
		"a-large/runtask.yml:1:1: cannot read a formula larger than 1024 KiB: write data into files beside the formula",
		"b-binary/runtask.yml:1:1: cannot read this file as text: it holds the control character U+007F: write plain UTF-8 text",
		"b-latin1/runtask.yml:2:9: cannot read this file as text: the byte 0xfc is not UTF-8: write plain UTF-8 text",
		"b-utf16/runtask.yml:1:1: cannot read this file as text: the byte 0xff is not UTF-8: write plain UTF-8 text",
		`c/runtask.yml:1:1: cannot read "c/runtask.yml", which is a symbolic link: write a plain file`,
		`c/task.yml:1:1: cannot read "c/task.yml", which is a symbolic link: write a plain file`,
		`d/runtask.yml:6:20: cannot read "d/lib", which is a symbolic link: write a plain file`,
		`e-\x1b[31m\n/runtask.yml:1:1: cannot read a formula from an empty file: write at least name, desc, maintainer and actions`,
		`runtask.yaml:1:1: cannot read "runtask.yaml", which is not a plain file: write a plain file`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" || len(good) != 0 {
		t.Errorf("%d good formulas\n%s", len(good), diff)
	}
}

func BenchmarkLoad1000(b *testing.B) {
	fsys := tree(nil)
	files, err := filepath.Glob(corpus + "/*.yml")
	if err != nil || len(files) == 0 {
		b.Fatal(err)
	}
	for i := range 1000 {
		data, err := os.ReadFile(files[i%len(files)])
		if err != nil {
			b.Fatal(err)
		}
		fsys[fmt.Sprintf("%d/runtask.yml", i)] = &fstest.MapFile{Data: data}
	}
	for b.Loop() {
		if _, err := Load(fsys); err == nil {
			b.Fatal("the corpus has mistakes")
		}
	}
}

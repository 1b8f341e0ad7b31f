package runner

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

// entry is one entry of an archive made by hand.
type entry struct {
	name string
	typ  byte
	link string
	data string
}

func makeTar(t testing.TB, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Mode: 0o4777, Size: int64(len(e.data))}
		if e.typ == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestExtract(t *testing.T) {
	tests := []struct {
		summary string
		entries []entry
		want    []string // what lies in the directory afterwards
		skipped int
		full    bool
	}{
		{summary: "files and directories", entries: []entry{{name: "./", typ: tar.TypeDir}, {name: "./a/b", data: "x"}, {name: "d/", typ: tar.TypeDir}}, want: []string{"a/b", "d/"}},
		{summary: "a path that climbs out", entries: []entry{{name: "../evil", data: "x"}, {name: "a/../../evil", data: "x"}}, skipped: 2},
		{summary: "an absolute path", entries: []entry{{name: "/etc/evil", data: "x"}}, skipped: 1},
		{summary: "a path that climbs and stays", entries: []entry{{name: "a/../b", data: "x"}}, want: []string{"b"}},
		{summary: "a symbolic link, and a file through it", entries: []entry{{name: "l", typ: tar.TypeSymlink, link: "/tmp"}, {name: "l/evil", data: "x"}}, want: []string{"l/evil"}, skipped: 1},
		{summary: "a hard link", entries: []entry{{name: "h", typ: tar.TypeLink, link: "../secret"}}, skipped: 1},
		{summary: "devices and pipes", entries: []entry{{name: "c", typ: tar.TypeChar}, {name: "b", typ: tar.TypeBlock}, {name: "p", typ: tar.TypeFifo}}, skipped: 3},
		{summary: "the same name twice", entries: []entry{{name: "a", data: "first"}, {name: "a", data: "second"}}, want: []string{"a"}, skipped: 1},
		{summary: "a file where a directory is", entries: []entry{{name: "a/b", data: "x"}, {name: "a", data: "x"}}, want: []string{"a/b"}, skipped: 1},
		{summary: "a directory where a file is", entries: []entry{{name: "a", data: "x"}, {name: "a/b", data: "x"}, {name: "a/", typ: tar.TypeDir}}, want: []string{"a"}, skipped: 2},
		{summary: "control characters", entries: []entry{{name: "a\nb", data: "x"}, {name: "a\x1b[2J", data: "x"}}, skipped: 2},
		{summary: "not UTF-8", entries: []entry{{name: "a\xff", data: "x"}}, skipped: 1},
		{summary: "a long path", entries: []entry{{name: strings.Repeat("a/", 600) + "x", data: "x"}}, skipped: 1},
		{summary: "a long name", entries: []entry{{name: strings.Repeat("a", 300), data: "x"}}, skipped: 1},
		{summary: "too many bytes", entries: []entry{{name: "a", data: strings.Repeat("x", 600)}, {name: "b", data: strings.Repeat("x", 600)}, {name: "c", data: "x"}}, want: []string{"a"}, skipped: 1, full: true},
		{summary: "too many files", entries: slices.Repeat([]entry{{name: "d/", typ: tar.TypeDir}}, 30), want: []string{"d/"}, full: true},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			got, err := Extract(bytes.NewReader(makeTar(t, tt.entries)), dir, ArchiveLimits{Bytes: 1000, Files: 20})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Skipped) != tt.skipped || got.Full != tt.full {
				t.Errorf("skipped %q, full %v", got.Skipped, got.Full)
			}
			if left := listing(t, dir); !slices.Equal(left, tt.want) {
				t.Errorf("in the directory: %q, want %q", left, tt.want)
			}
			if beside, err := os.ReadDir(parent); err != nil || len(beside) != 1 {
				t.Errorf("something was written beside the directory: %v", beside)
			}
		})
	}
}

// listing is every file, and every empty directory with a slash, below dir.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() {
			if inside, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(inside) > 0 {
				return err
			}
			name += "/"
		}
		info, err := d.Info()
		if err == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSymlink|fs.ModeDevice) != 0 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
		list = append(list, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestExtractGarbage(t *testing.T) {
	for _, data := range []string{"this is no archive, though it is longer than a block" + strings.Repeat("x", 600), strings.Repeat("\x00", 100)} {
		if _, err := Extract(strings.NewReader(data), t.TempDir(), ArchiveLimits{Bytes: 1000, Files: 10}); err == nil {
			t.Errorf("%.20q was taken for an archive", data)
		}
	}
	whole := makeTar(t, []entry{{name: "a", data: strings.Repeat("x", 600)}})
	got, err := Extract(bytes.NewReader(whole[:700]), t.TempDir(), ArchiveLimits{Bytes: 1000, Files: 10})
	if err == nil {
		t.Errorf("an archive that breaks off gave %v", got.Files)
	}
}

func TestPackAndExtract(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write := func(name, data string, mode fs.FileMode) {
		t.Helper()
		p := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("a/run.sh", "#!/bin/sh", 0o755)
	write("b", "plain", 0o644)
	if err := os.Symlink("b", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := packTrees(&buf, map[string]string{"check": from, "empty": ""}); err != nil {
		t.Fatal(err)
	}
	got, err := Extract(&buf, to, ArchiveLimits{Bytes: 1000, Files: 10})
	if err != nil {
		t.Fatal(err)
	}
	want := []assay.Artifact{{Path: "check/a/run.sh", Size: 9}, {Path: "check/b", Size: 5}}
	if !slices.Equal(got.Files, want) || len(got.Skipped) != 1 {
		t.Errorf("got %+v", got)
	}
	info, err := os.Stat(filepath.Join(to, "check/a/run.sh"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the program came out as %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(to, "empty")); err != nil || !info.IsDir() {
		t.Errorf("the empty directory came out as %v, %v", info, err)
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(makeTar(f, []entry{{name: "a", data: "x"}, {name: "../b", data: "x"}, {name: "l", typ: tar.TypeSymlink, link: "/"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		got, _ := Extract(bytes.NewReader(data), dir, ArchiveLimits{Bytes: 1 << 16, Files: 50})
		var size int64
		for _, a := range got.Files {
			size += a.Size
			if info, err := os.Lstat(filepath.Join(dir, a.Path)); err != nil || !info.Mode().IsRegular() || info.Size() != a.Size {
				t.Errorf("%q is said to be kept, but is %v, %v", a.Path, info, err)
			}
		}
		if size > 1<<16 || len(got.Files) > 50 {
			t.Errorf("%d files, %d bytes", len(got.Files), size)
		}
		if beside, err := os.ReadDir(parent); err != nil || len(beside) != 1 {
			t.Errorf("something was written beside the directory: %v", beside)
		}
	})
}

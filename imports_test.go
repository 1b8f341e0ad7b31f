package assay_test

import (
	"go/build"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/assay-ci/assay"

// TestImportRule keeps the layers: root <- rooms <- their sub-rooms <- cmd. A
// room imports no other room; a sub-room imports the root, its own room and its
// siblings; the root imports the standard library alone. What lies below internal
// knows nothing of ours, and serves every room.
func TestImportRule(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if base := d.Name(); base == "testdata" || dir != "." && strings.HasPrefix(base, ".") {
			return filepath.SkipDir
		}
		pkg, err := build.ImportDir(dir, 0)
		if err != nil {
			return nil // a directory without Go code
		}
		seen++
		checkImports(t, filepath.ToSlash(dir), pkg)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Errorf("looked at %d packages: that cannot be all", seen)
	}
}

func checkImports(t *testing.T, dir string, pkg *build.Package) {
	for _, imported := range pkg.Imports {
		first, _, _ := strings.Cut(imported, "/")
		if dir == "." && strings.Contains(first, ".") {
			t.Errorf("the root imports %s: it may import the standard library alone", imported)
		}
		inner, ok := strings.CutPrefix(imported, module+"/")
		if ok && !mayImport(dir, inner) {
			t.Errorf("%s imports %s: rooms meet in cmd, and speak the root's nouns", dir, inner)
		}
	}
	// Test code may use the test helpers of any room, and all of its own room.
	for _, imported := range slices.Concat(pkg.TestImports, pkg.XTestImports) {
		inner, ok := strings.CutPrefix(imported, module+"/")
		if ok && !mayImport(dir, inner) && room(dir) != room(inner) && !strings.HasSuffix(inner, "test") {
			t.Errorf("the tests of %s import %s", dir, inner)
		}
	}
}

// room is the top-level folder that a package belongs to.
func room(dir string) string { first, _, _ := strings.Cut(dir, "/"); return first }

// mayImport tells whether the package in dir may import another one of ours.
func mayImport(dir, other string) bool {
	switch {
	case room(dir) == "cmd":
		return true
	case room(other) == "cmd":
		return false
	case room(other) == "internal":
		return room(dir) != "internal" && dir != "."
	case room(dir) != room(other):
		return false
	default: // within one room: the room itself knows none of its sub-rooms
		return path.Dir(dir) != "." || dir == other
	}
}

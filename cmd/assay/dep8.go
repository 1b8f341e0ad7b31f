package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
)

// controlTree is the tree that a debian/tests/control belongs to; ok is false for
// every other file.
func controlTree(file string) (tree string, ok bool) {
	file = filepath.ToSlash(filepath.Clean(file))
	if file == checks.ControlFile {
		return ".", true
	}
	tree, ok = strings.CutSuffix(file, "/"+checks.ControlFile)
	if tree == "" && ok {
		tree = "/"
	}
	return filepath.FromSlash(tree), ok
}

// readTests reads the checks of a tree's debian/tests/control, and no others.
func readTests(tree string) ([]target, error) {
	formulas, err := checks.Load(os.DirFS(tree))
	var list []target
	for _, f := range formulas {
		if f.Path == checks.ControlFile {
			list = append(list, target{tree, f})
		}
	}
	return list, err
}

// formulaAt reads an execution's formula again, in the checkout that holds all of
// its directory. network tells whether its machine may have one.
func formulaAt(checkout string, e assay.Execution, network bool) (*checks.Formula, error) {
	root, err := os.OpenRoot(checkout)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := checks.FormulaOf(root.FS(), e.Path, e.Check)
	if err == nil && !network {
		f = f.WithoutNetwork()
	}
	return f, err
}

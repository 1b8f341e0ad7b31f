package checks

import (
	"errors"
	"io/fs"
	"slices"
)

// Linted is everything that there is to say about one formula.
type Linted struct {
	Path     string   // as in Loaded
	Mistakes Mistakes // sorted by place, warnings among them; empty for a flawless formula
}

// Lint reads every formula that Find finds, as LoadEach does, and tells of their
// mistakes and warnings together. The error is that of Find.
func Lint(fsys fs.FS) ([]Linted, error) {
	loaded, err := LoadEach(fsys)
	if err != nil {
		return nil, err
	}
	all := make([]Linted, len(loaded))
	for i, l := range loaded {
		all[i] = l.lint(fsys)
	}
	return all, nil
}

// LintFile reads one formula, as LoadFile does, and tells of its mistakes and
// warnings together.
func LintFile(fsys fs.FS, name string) Linted { return LoadFile(fsys, name).lint(fsys) }

// lint adds the warnings. A formula with mistakes has none, so that it is read
// again for them.
func (l Loaded) lint(fsys fs.FS) Linted {
	if l.Formula != nil {
		return Linted{l.Path, l.Formula.Warnings}
	}
	var mistakes, warnings Mistakes
	if !errors.As(l.Err, &mistakes) {
		mistakes = Mistakes{cannot(l.Path, "read the formula: %v", l.Err)}
	}
	if data, err := readPlain(fsys, l.Path); err == nil && !isDEP8(l.Path) {
		warnings = parse(l.Path, data).warnings
	}
	return Linted{l.Path, slices.Concat(mistakes, warnings).sorted()}
}

// Errors are those that are no warnings.
func (ms Mistakes) Errors() Mistakes {
	return slices.DeleteFunc(slices.Clone(ms), func(m Mistake) bool { return m.Warning })
}

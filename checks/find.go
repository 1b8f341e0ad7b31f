package checks

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bounds of the look into files that may be formulas.
const (
	maxOthers     = 10_000   // files
	maxSniff      = 64 << 10 // bytes of one
	maxSniffTotal = 64 << 20 // bytes of all together
)

// finding is what one walk through a check repository finds.
type finding struct {
	entries  int
	formulas []string
	named    map[string]bool // directories that hold one of FileNames
	others   []string        // files that may be formulas, in the walk's order
}

// file notes a file that is a formula by its name, or may be one.
func (f *finding) file(name string, d fs.DirEntry) {
	base := path.Base(name)
	switch {
	case name == ControlFile:
		f.formulas = append(f.formulas, name)
	case slices.Contains(FileNames(), base):
		if f.named == nil {
			f.named = make(map[string]bool)
		}
		f.named[path.Dir(name)] = true
		f.formulas = append(f.formulas, name)
	case !strings.HasSuffix(base, ".yml") && !strings.HasSuffix(base, ".yaml"), !d.Type().IsRegular():
	case len(f.others) < maxOthers:
		f.others = append(f.others, name)
	}
}

func (f *finding) tooMany(name string) error {
	if len(f.formulas) > maxFormulas {
		return Mistakes{cannot(name, "read more than %d formulas: write several check repositories", maxFormulas)}
	}
	return nil
}

// sniffOthers adds the other files that are formulas: those at the top of the
// repository and in directories that have none of FileNames. A repository of
// data may hold any number of YAML files, so what is beyond the bounds is no
// mistake; it is not looked at.
func (f *finding) sniffOthers(fsys fs.FS) error {
	left := maxSniffTotal
	for _, name := range f.others {
		if dir := path.Dir(name); dir != "." && f.named[dir] {
			continue
		}
		head, err := sniff(fsys, name, min(left, maxSniff))
		if err != nil {
			return err
		}
		left -= len(head)
		if isFormula(head) {
			f.formulas = append(f.formulas, name)
		}
		if err := f.tooMany(name); err != nil {
			return err
		}
	}
	return nil
}

// sniff returns the beginning of a file; nothing of one that is too large for a
// formula or that may not be read.
func sniff(fsys fs.FS, name string, most int) ([]byte, error) {
	info, err := fs.Lstat(fsys, name)
	if err != nil || info.Size() > MaxFormula || !info.Mode().IsRegular() {
		return nil, unlessGone(err)
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, unlessGone(err)
	}
	defer file.Close()
	head, err := io.ReadAll(io.LimitReader(file, int64(most)))
	if err != nil {
		return nil, unlessGone(err)
	}
	return head, nil
}

// unlessGone drops the errors that say something about one file only.
func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// isFormula tells a formula from any other YAML by the keys at its top level:
// name, and actions or the older task. It reads lines, not YAML, which is enough:
// in a mapping of one key a line nothing else begins in the first column. A
// playbook begins with a list, and what follows a second --- is another document.
func isFormula(head []byte) bool {
	var name, actions bool
	for i, line := range bytes.Split(bytes.TrimPrefix(head, []byte("\uFEFF")), []byte("\n")) {
		if bytes.HasPrefix(line, []byte("---")) && i > 0 && (name || actions) {
			break
		}
		switch topKey(line) {
		case "name":
			name = true
		case "actions", "task":
			actions = true
		}
	}
	return name && actions
}

// topKey is the key of a line that begins with KEY:, quoted or not, "" for any
// other line.
func topKey(line []byte) string {
	key, rest, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(rest) > 0 && rest[0] != ' ' && rest[0] != '\t' && rest[0] != '\r' {
		return ""
	}
	key = bytes.TrimRight(key, " \t")
	if n := len(key); n > 1 && (key[0] == '"' || key[0] == '\'') && key[n-1] == key[0] {
		key = key[1 : n-1]
	}
	return string(key)
}

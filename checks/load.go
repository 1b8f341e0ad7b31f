package checks

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Bounds of a check repository.
const (
	maxFormulas  = 10_000  // formulas in one repository
	maxEntries   = 500_000 // files and directories looked at
	maxTreeDepth = 32      // of directories
)

// FileNames lists the file names that formulas go by (COMPAT.md 2.1).
func FileNames() []string {
	return []string{"runtask.yml", "runtask.yaml", "task.yml", "formula.yml"}
}

// Loaded is one formula of a repository, read or not.
type Loaded struct {
	Path    string   // in the repository, slash-separated
	Formula *Formula // nil if Err is set
	Err     error    // a Mistakes about this file
}

// Find lists the formulas of a check repository, sorted: every file whose name
// is one of FileNames, in any directory but .git, and every NAME.yml or
// NAME.yaml that is a formula by what is in it (see isFormula). What goes
// by one of FileNames without being a plain file is listed too; Load says what
// is wrong with it. Directories are read, symbolic links never followed. The
// error is a Mistakes when the repository is beyond bounds, else what reading it
// met.
func Find(fsys fs.FS) ([]string, error) {
	var found finding
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if found.entries++; found.entries > maxEntries {
			return Mistakes{cannot(name, "look at more than %d files for formulas: write a smaller check repository", maxEntries)}
		}
		if d.IsDir() {
			return enter(name, d)
		}
		found.file(name, d)
		return found.tooMany(name)
	})
	if err == nil {
		err = found.sniffOthers(fsys)
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(found.formulas)
	return found.formulas, nil
}

// enter decides whether a directory is looked into.
func enter(name string, d fs.DirEntry) error {
	if d.Name() == ".git" {
		return fs.SkipDir
	}
	if strings.Count(name, "/") >= maxTreeDepth {
		return Mistakes{cannot(name, "look for formulas in directories nested more than %d deep: write a flatter tree", maxTreeDepth)}
	}
	return nil
}

// LoadEach reads every formula that Find finds and tells for each how that
// went. Besides its own mistakes a formula's error holds those it has among its
// neighbours: a name that another formula has too, a Python file that is not
// there. The error is that of Find.
func LoadEach(fsys fs.FS) ([]Loaded, error) {
	paths, err := Find(fsys)
	if err != nil {
		return nil, err
	}
	tests, paths := withoutControl(fsys, paths)
	all := append(loadAll(fsys, paths), tests...)
	refuseTwins(all)
	refuseNeeds(all)
	return all, nil
}

// Load reads every formula that Find finds: those without mistakes, and, as a
// Mistakes, every mistake of all the others. A repository without formulas is
// no mistake. An error that is no Mistakes tells that fsys could not be read.
func Load(fsys fs.FS) ([]*Formula, error) {
	all, err := LoadEach(fsys)
	if err != nil {
		return nil, err
	}
	var good []*Formula
	var bad Mistakes
	for _, l := range all {
		var some Mistakes
		switch {
		case l.Err == nil:
			good = append(good, l.Formula)
		case errors.As(l.Err, &some):
			bad = append(bad, some...)
		}
	}
	return good, bad.err()
}

// LoadFile reads one formula, whatever its file is called, and what it needs
// beside it in fsys.
func LoadFile(fsys fs.FS, name string) Loaded {
	if name == ControlFile {
		return controlTogether(fsys)
	}
	data, err := readPlain(fsys, name)
	if err != nil {
		return Loaded{Path: name, Err: Mistakes{cannot(name, "%s", err)}}
	}
	return besides(fsys, parsed(name, data))
}

// parsed reads one formula.
func parsed(name string, data []byte) Loaded {
	f, err := Parse(name, data)
	return Loaded{Path: name, Formula: f, Err: err}
}

// besides looks for what a formula needs beside it.
func besides(fsys fs.FS, l Loaded) Loaded {
	if l.Formula == nil {
		return l
	}
	if err := missingFiles(fsys, l.Formula); err != nil {
		return Loaded{Path: l.Path, Err: err}
	}
	return l
}

// loadAll reads formulas in order. Files are read one after the other, since not
// every fs.FS may be read by several at once; what is in them is read by as many
// goroutines as there are processors, and no more files than that are in memory.
func loadAll(fsys fs.FS, paths []string) []Loaded {
	all := make([]Loaded, len(paths))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range paths {
		data, err := readPlain(fsys, name)
		if err != nil {
			all[i] = Loaded{Path: name, Err: Mistakes{cannot(name, "%s", err)}}
			continue
		}
		group.Go(func() error {
			all[i] = parsed(name, data)
			return nil
		})
	}
	_ = group.Wait() // none of them fails
	for i := range all {
		all[i] = besides(fsys, all[i])
	}
	return all
}

// readPlain reads a file of bounded size that is no link; its error goes on
// after "cannot ".
func readPlain(fsys fs.FS, name string) ([]byte, error) {
	if err := plainFile(fsys, name); err != nil {
		return nil, err
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, errors.New("read the formula: " + reason(err))
	}
	defer file.Close()
	// One byte more than Parse takes, for Parse to refuse.
	data, err := io.ReadAll(io.LimitReader(file, MaxFormula+1))
	if err != nil {
		return nil, errors.New("read the formula: " + reason(err))
	}
	return data, nil
}

// plainFile wants a regular file with no symbolic link on the way to it; its
// error goes on after "cannot ".
func plainFile(fsys fs.FS, name string) error {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		info, err := fs.Lstat(fsys, name[:i])
		switch {
		case err != nil:
			return errors.New("find the file " + shown(name) + ": " + reason(err) + ": write it beside the formula")
		case info.Mode()&fs.ModeSymlink != 0:
			return errors.New("read " + shown(name[:i]) + ", which is a symbolic link: write a plain file")
		case i == len(name) && !info.Mode().IsRegular():
			return errors.New("read " + shown(name) + ", which is not a plain file: write a plain file")
		}
	}
	return nil
}

// reason is the innermost cause of an error, without the paths around it.
func reason(err error) string {
	for _, known := range []error{fs.ErrNotExist, fs.ErrPermission} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

// missingFiles finds the files that a formula's actions name and that are not
// there.
func missingFiles(fsys fs.FS, f *Formula) error {
	var bad Mistakes
	for _, a := range f.actions {
		local, ok := a.does.(interface{ localFile() (string, Mistake) })
		if !ok {
			continue
		}
		name, m := local.localFile()
		if name == "" {
			continue
		}
		if err := plainFile(fsys, path.Join(path.Dir(f.Path), name)); err != nil {
			m.Message = cannot("", "%s", err).Message
			bad = append(bad, m)
		}
	}
	return bad.err()
}

// refuseTwins makes a mistake of every formula whose check name an earlier one
// has: their statuses would overwrite each other.
func refuseTwins(all []Loaded) {
	first := make(map[string]string)
	for i := range all {
		f := all[i].Formula
		if f == nil {
			continue
		}
		other, twice := first[f.Checkname()]
		if !twice {
			first[f.Checkname()] = f.Path
			continue
		}
		m := f.nameAt
		m.Message = cannot("", "use the check name %s, which %s has too: write another name", f.Checkname(), shown(other)).Message
		all[i] = Loaded{Path: f.Path, Err: Mistakes{m}}
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/assay-ci/assay/checks"
)

// fixAll mends the formulas among which lint found something to mend, and lints
// them again. With --diff the files stay as they are, and so do the mistakes.
func (o *lintOptions) fixAll(e *env, paths []string, all []checks.Linted) ([]checks.Linted, error) {
	said := e.out
	if o.diff || o.format != "text" {
		said = e.err
	}
	changed := false
	for _, l := range all {
		if len(l.Mistakes) == 0 {
			continue
		}
		done, err := o.fixFile(e.out, l.Path)
		if err != nil {
			return nil, err
		}
		for _, m := range done {
			changed = true
			fmt.Fprintf(said, "%s:%d:%d: %s: %s\n", m.File, m.Line, m.Col, o.verb(), m.Message)
		}
	}
	if o.diff || !changed {
		return all, nil
	}
	return lintPaths(paths)
}

func (o *lintOptions) verb() string {
	if o.diff {
		return "would mend"
	}
	return "mended"
}

// fixFile mends one file, or prints the difference. What is no plain file is left
// alone: lint has said so.
func (o *lintOptions) fixFile(out io.Writer, path string) (checks.Mistakes, error) {
	data, mode, err := readPlain(path)
	if err != nil || data == nil {
		return nil, err
	}
	fixed := checks.Fix(path, data)
	if len(fixed.Done) == 0 {
		return nil, nil
	}
	if o.diff {
		_, err = out.Write(diff.Diff(path, data, path+" (mended)", fixed.Data))
		return fixed.Done, err
	}
	return fixed.Done, replaceFile(path, fixed.Data, mode)
}

// readPlain reads a plain file with its mode; the data is nil for anything
// else, a symbolic link included, and for one that is no formula for its size.
func readPlain(path string) ([]byte, os.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot mend %s: %w", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("cannot mend %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, nil
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, checks.MaxFormula+1)); err != nil {
		return nil, 0, fmt.Errorf("cannot mend %s: %w", path, err)
	}
	if b.Len() > checks.MaxFormula {
		return nil, 0, nil
	}
	return b.Bytes(), info.Mode().Perm(), nil
}

// replaceFile puts a file with other content in the place of one, at once: who
// reads it, or looks after a crash, finds the old one or the new one.
func replaceFile(path string, data []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".assay-lint-*")
	if err != nil {
		return fmt.Errorf("cannot mend %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what is left of it does no harm
			err = fmt.Errorf("cannot mend %s: %w", path, err)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

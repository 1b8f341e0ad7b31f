package results

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// CopyArtifacts puts the artifacts of the newest attempt that left files, which is
// the one that concluded, into dir, which is made. It takes plain files alone.
// They share their bytes with the kept ones where that can be: read them only.
// assay.ErrNotFound if nothing of the execution is kept any more.
func (f *Files) CopyArtifacts(id, dir string) error {
	if err := f.copyArtifacts(id, dir); err != nil {
		return fmt.Errorf("cannot copy the artifacts of execution %.50q: %w", id, err)
	}
	return nil
}

func (f *Files) copyArtifacts(id, dir string) error {
	at, err := f.found(id, 0)
	if err != nil {
		return err
	}
	from, err := f.root.OpenRoot(path.Join(at, "artifacts"))
	if err != nil {
		return missing(err)
	}
	defer from.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	return fs.WalkDir(from.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return missing(err)
		case d.IsDir():
			return to.MkdirAll(name, 0o700)
		case d.Type().IsRegular():
			return copyPlain(filepath.Join(f.dir, at, "artifacts"), from, to, name)
		}
		return nil
	})
}

// copyPlain links a file of from, which is dir, or copies it where it cannot be
// linked.
func copyPlain(dir string, from, to *os.Root, name string) error {
	err := os.Link(filepath.Join(dir, name), filepath.Join(to.Name(), name))
	var errno syscall.Errno
	if err == nil || !errors.As(err, &errno) {
		return err
	}
	in, err := openRegular(from, name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

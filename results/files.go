package results

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/assay-ci/assay"
)

// Files keeps what executions leave behind, below a data directory:
//
//	executions/<first two of the UUID>/<UUID>/<attempt>/{log,console,artifacts/}
//
// Every path is resolved below the directory: neither a name nor a link in it
// leads out. Its methods may be called from any goroutine. IDs are UUIDs in
// lower case; attempts count from 1, and where a method reads, 0 stands for the
// newest. What is not there gives an error that wraps assay.ErrNotFound.
type Files struct {
	dir  string // absolute
	root *os.Root
}

// OpenFiles keeps files below dir, a data directory, which is made if need be.
// Close it when done; files that are open then stay usable.
func OpenFiles(dir string) (*Files, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot find %s: %v", dir, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory %s: %v", abs, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("cannot open the data directory %s: %v", abs, err)
	}
	return &Files{dir: abs, root: root}, nil
}

// Close lets go of the directory.
func (f *Files) Close() error { return f.root.Close() }

func executionDir(id string) (string, error) {
	if err := checkID(id); err != nil {
		return "", fmt.Errorf("%w: %w", err, assay.ErrNotFound)
	}
	return path.Join("executions", id[:2], id), nil
}

// made is the directory of an attempt, which is made if need be.
func (f *Files) made(id string, attempt int) (string, error) {
	dir, err := executionDir(id)
	if err != nil {
		return "", err
	}
	if attempt < 1 {
		return "", fmt.Errorf("attempt %d does not exist: attempts count from 1", attempt)
	}
	dir = path.Join(dir, strconv.Itoa(attempt))
	return dir, f.root.MkdirAll(dir, 0o700)
}

// found is the directory of an attempt that is there.
func (f *Files) found(id string, attempt int) (string, error) {
	dir, err := executionDir(id)
	if err != nil {
		return "", err
	}
	if attempt == 0 {
		attempts, err := f.Attempts(id)
		if err != nil {
			return "", err
		}
		attempt = attempts[len(attempts)-1]
	}
	return path.Join(dir, strconv.Itoa(attempt)), nil
}

// Attempts lists the attempts that have left files, in order; at least one.
func (f *Files) Attempts(id string) ([]int, error) {
	dir, err := executionDir(id)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(f.root.FS(), dir)
	if err != nil {
		return nil, missing(err)
	}
	newest := make([]int, 0, len(entries))
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() && n > 0 {
			newest = append(newest, n)
		}
	}
	if len(newest) == 0 {
		return nil, fmt.Errorf("execution %s has no files: %w", id, assay.ErrNotFound)
	}
	slices.Sort(newest)
	return newest, nil
}

// Log opens an attempt's log to append to. Bounding it is the caller's part.
// Closing it waits until it is on disk.
func (f *Files) Log(id string, attempt int) (io.WriteCloser, error) {
	dir, err := f.made(id, attempt)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of execution %.50q: %w", id, err)
	}
	file, err := f.root.OpenFile(path.Join(dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of execution %s: %v", id, err)
	}
	return synced{file}, nil
}

// synced is a file that is on disk when it is closed.
type synced struct{ *os.File }

func (s synced) Close() error { return errors.Join(s.File.Sync(), s.File.Close()) }

// OpenLog opens an attempt's log for reading, also while it is being written.
func (f *Files) OpenLog(id string, attempt int) (*os.File, error) {
	return f.open(id, attempt, "log")
}

// SaveConsole keeps what the machine of an attempt printed on its console.
func (f *Files) SaveConsole(id string, attempt int, console []byte) error {
	dir, err := f.made(id, attempt)
	if err != nil {
		return fmt.Errorf("cannot keep the console of execution %.50q: %w", id, err)
	}
	if err := f.root.WriteFile(path.Join(dir, "console"), console, 0o600); err != nil {
		return fmt.Errorf("cannot keep the console of execution %s: %v", id, err)
	}
	return nil
}

// OpenConsole opens what SaveConsole kept.
func (f *Files) OpenConsole(id string, attempt int) (*os.File, error) {
	return f.open(id, attempt, "console")
}

func (f *Files) open(id string, attempt int, name string) (*os.File, error) {
	dir, err := f.found(id, attempt)
	if err != nil {
		return nil, fmt.Errorf("cannot open the %s of execution %.50q: %w", name, id, err)
	}
	file, err := openRegular(f.root, path.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("cannot open the %s of execution %s: %w", name, id, err)
	}
	return file, nil
}

// ArtifactsDir makes the directory for an attempt's artifacts, empty, and
// returns its absolute path. What an earlier call was given is removed.
func (f *Files) ArtifactsDir(id string, attempt int) (string, error) {
	dir, err := f.made(id, attempt)
	if err != nil {
		return "", fmt.Errorf("cannot make room for the artifacts of execution %.50q: %w", id, err)
	}
	dir = path.Join(dir, "artifacts")
	if err := f.root.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("cannot remove the old artifacts of execution %s: %v", id, err)
	}
	if err := f.root.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make room for the artifacts of execution %s: %v", id, err)
	}
	return filepath.Join(f.dir, filepath.FromSlash(dir)), nil
}

// OpenArtifact opens one artifact of the newest attempt that left files, which
// is the one that concluded. name is slash-separated, relative to the artifacts.
// Only regular files are opened; everything else, and every name or link that
// leads out of the artifacts, gives assay.ErrNotFound.
func (f *Files) OpenArtifact(id string, name string) (fs.File, error) {
	file, err := f.openArtifact(id, name)
	if err != nil {
		return nil, fmt.Errorf("cannot open artifact %.100q of execution %.50q: %w", name, id, err)
	}
	return file, nil
}

func (f *Files) openArtifact(id, name string) (*os.File, error) {
	if !fs.ValidPath(name) {
		return nil, assay.ErrNotFound
	}
	dir, err := f.found(id, 0)
	if err != nil {
		return nil, err
	}
	root, err := f.root.OpenRoot(path.Join(dir, "artifacts"))
	if err != nil {
		return nil, missing(err)
	}
	defer root.Close()
	return openRegular(root, name)
}

// openRegular opens a plain file. O_NONBLOCK keeps a named pipe, which a hostile
// check may have left, from blocking the open for ever.
func openRegular(root *os.Root, name string) (*os.File, error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, missing(err)
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("it is not a regular file: %w", assay.ErrNotFound)
	}
	return file, nil
}

// missing tells apart what is not there, or there but not to be had (a link that
// leads out, a socket), from what went wrong here.
func missing(err error) error {
	var pathErr *fs.PathError
	var errno syscall.Errno
	if !errors.As(err, &pathErr) {
		return err
	}
	if !errors.As(err, &errno) || slices.Contains([]syscall.Errno{
		syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.ENXIO, syscall.ENAMETOOLONG, syscall.EINVAL,
	}, errno) {
		return fmt.Errorf("%v: %w", pathErr.Err, assay.ErrNotFound)
	}
	return err
}

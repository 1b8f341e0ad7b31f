package results

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// What lies in a data directory.
const (
	databaseFile = "assay.db"
	versionFile  = "VERSION" // the layout's number
	ownerFile    = "OWNER"   // a UUID, made once
	lockFile     = "assay.lock"
	layout       = 1
)

// directory is a data directory that this process alone may use.
type directory struct {
	path  string
	owner string
	lock  *os.File
}

// takeDirectory makes the directory if need be and locks it. The lock is the
// kernel's: it ends with the process, however that ends.
func takeDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory %s: %v", path, err)
	}
	lock, err := lockDirectory(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path, lock: lock}
	if err := d.checkLayout(); err != nil {
		lock.Close()
		return nil, err
	}
	if d.owner, err = d.readOwner(); err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

// release gives the directory back. The lock file stays: removing it would let
// two processes hold locks on two files of the same name.
func (d *directory) release() error { return d.lock.Close() }

func lockDirectory(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the data directory %s: %v: make it writable by the user that runs assay", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock the data directory %s: %v", path, err)
		}
		return nil, fmt.Errorf("cannot use the data directory %s: process %s uses it: stop that one, or name another directory", path, holder(name))
	}
	if err := writeHolder(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot write %s: %v", name, err)
	}
	return f, nil
}

func writeHolder(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder is the number of the process that wrote the lock file, for a message.
func holder(name string) string {
	b, err := os.ReadFile(name)
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || convErr != nil {
		return "(unknown)"
	}
	return strconv.Itoa(pid)
}

func (d *directory) checkLayout() error {
	name := filepath.Join(d.path, versionFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return writeWhole(name, strconv.Itoa(layout)+"\n")
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %v", name, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 1 {
		return fmt.Errorf("cannot use the data directory %s: %s should hold a number: this may not be a data directory of assay", d.path, versionFile)
	}
	if n > layout {
		return fmt.Errorf("cannot use the data directory %s: a newer assay wrote it (layout %d, this one knows %d): upgrade assay", d.path, n, layout)
	}
	return nil
}

func (d *directory) readOwner() (string, error) {
	name := filepath.Join(d.path, ownerFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return makeOwner(name)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %v", name, err)
	}
	id := strings.TrimSpace(string(b))
	if err := checkID(id); err != nil {
		return "", fmt.Errorf("cannot read %s: %v: remove it, and machines of the old owner by hand", name, err)
	}
	return id, nil
}

func makeOwner(name string) (string, error) {
	id, err := newID()
	if err != nil {
		return "", err
	}
	return id, writeWhole(name, id+"\n")
}

// writeWhole writes a small file so that a crash leaves all of it or nothing.
func writeWhole(name, text string) error {
	tmp := name + ".new"
	if err := writeSynced(tmp, []byte(text)); err != nil {
		return fmt.Errorf("cannot write %s: %v", name, err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("cannot write %s: %v", name, err)
	}
	return nil
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

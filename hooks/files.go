package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/assay-ci/assay/internal/filelock"
)

// modes says how files of a repository are made: as its own are, so that all
// who may push can use them.
type modes struct {
	dir, file fs.FileMode
	uid, gid  int // owner to give files to; -1 to leave it
}

// modesOf looks at the repository's objects directory: git's core.sharedRepository
// shows there as write permission for the group.
func modesOf(gitDir string) (modes, error) {
	info, err := os.Stat(filepath.Join(gitDir, "objects"))
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(gitDir)
	}
	if err != nil {
		return modes{}, fmt.Errorf("cannot find the repository: %v: give its directory", err)
	}
	m := modes{dir: 0o700, file: 0o600, uid: -1, gid: -1}
	if info.Mode()&0o020 != 0 {
		m.dir, m.file = 0o770|fs.ModeSetgid, 0o660
	}
	// Root may install for the user that owns the repository.
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		m.uid, m.gid = int(owner.Uid), int(owner.Gid)
	}
	return m, nil
}

// mkdir makes one directory; that it is there already is fine.
func (m modes) mkdir(dir string) error {
	err := os.Mkdir(dir, m.dir.Perm())
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory", dir)
		}
		return err
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, m.dir); err != nil {
		return err
	}
	return os.Lchown(dir, m.uid, m.gid)
}

// write replaces a file as a whole, durably.
func (m modes) write(path string, data []byte) error { return m.writeMode(path, data, m.file) }

func (m modes) writeMode(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	for _, step := range []func() error{
		func() error { return f.Chmod(mode) },
		func() error { return f.Chown(m.uid, m.gid) },
		f.Sync,
	} {
		if err == nil {
			err = step()
		}
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// errBusy tells that another process holds the lock.
var errBusy = errors.New("another process delivers already")

// lock takes a lock of the spool among all processes: the kernel gives it back
// when its holder dies. Without wait, a lock that is taken is errBusy.
func (s *Spool) lock(ctx context.Context, name string, wait bool) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE, s.modes.file)
	if err != nil {
		return nil, fmt.Errorf("cannot open the spool's lock: %v: make it writable for whoever pushes", err)
	}
	_ = f.Chmod(s.modes.file) // only its owner may, who did when it was made
	if wait {
		err = filelock.WaitFile(ctx, f)
	} else {
		err = filelock.TryFile(f)
	}
	switch {
	case err == nil:
		return func() { f.Close() }, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("cannot wait any longer for the lock of the spool: %w", ctx.Err())
	case errors.Is(err, filelock.ErrHeld):
		err = errBusy
	default:
		err = fmt.Errorf("cannot lock the spool: %v: put the repository on a local disk", err)
	}
	f.Close()
	return nil, err
}

// pause waits for so long, or until ctx ends, which is then the error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func readBounded(r io.Reader, max int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("it is over %d bytes long", max)
	}
	return data, err
}

// filesIn lists the files of a directory whose names begin and end so, sorted.
// A directory that cannot be read has none.
func filesIn(dir, prefix, suffix string) []string {
	entries, _ := os.ReadDir(dir) // what it could not read it does not list
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), suffix) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

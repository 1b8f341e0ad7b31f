package libvirt

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/assay-ci/assay/internal/filelock"
)

// Names of what lies in the run directory and in the overlay directory. Both
// have one directory for each owner and in it one for each machine:
//
//	RunDir/o-1b2c3d4e/lock                    held by the owner's process
//	RunDir/o-1b2c3d4e/m-5f6a7b8c/assay.json   the machine's label
//	RunDir/o-1b2c3d4e/m-5f6a7b8c/agent.sock, s/s
//	Dir/o-1b2c3d4e/assay.json                 the owner's label
//	Dir/o-1b2c3d4e/m-5f6a7b8c/assay.json      the machine's label
//	Dir/o-1b2c3d4e/m-5f6a7b8c/disk.qcow2, console.log
const (
	lockName    = "lock"
	labelName   = "assay.json"
	socketName  = "agent.sock"
	diskName    = "disk.qcow2"
	consoleName = "console.log"
	// stateDir is QEMU's own, below a machine's run directory: a frozen machine's
	// state goes through the socket in it.
	stateDir    = "s"
	stateSocket = "s"
)

// maxSocketPath is what fits into a sockaddr_un with its end (unix(7)).
const maxSocketPath = 107

// owner is this process as the owner of machines: as long as it lives it holds
// a lock that dies with it.
type owner struct {
	id   string
	run  string // its directory below the run directory
	disk string // its directory below the overlay directory
	lock *os.File
}

// newOwner takes up ownership below both directories.
func newOwner(ctx context.Context, runDir, dir string) (*owner, error) {
	o := &owner{id: "o-" + randomID()}
	o.run, o.disk = filepath.Join(runDir, o.id), filepath.Join(dir, o.id)
	// A reaper looks at an owner only under this lock, so it never sees one that
	// has a directory but no lock yet, unless its process is dead.
	unlock, err := filelock.Wait(ctx, filepath.Join(runDir, ".reap"), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot become an owner of machines: %w", err)
	}
	defer unlock()
	if err := mkdirPassable(o.run); err != nil {
		return nil, fmt.Errorf("cannot become an owner of machines: %w", err)
	}
	o.lock, err = os.OpenFile(filepath.Join(o.run, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = syscall.Flock(int(o.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = mkdirPassable(o.disk)
	}
	if err == nil {
		err = writeLabel(o.disk, label{Owner: o.id, Dir: o.run})
	}
	if err == nil {
		// Without it nobody would know after a power cut whose the disks are.
		err = syncDir(o.disk)
	}
	if err != nil {
		o.release()
		return nil, fmt.Errorf("cannot become an owner of machines: %w", err)
	}
	return o, nil
}

// mkdirPassable makes a directory that QEMU's own user can pass through, whatever
// the process's umask.
func mkdirPassable(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o711)
}

// syncDir waits until the label in dir, and its name, are on the disk.
func syncDir(dir string) error {
	for _, path := range []string{filepath.Join(dir, labelName), dir} {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// release gives ownership up. What a machine left stays labelled, and has no
// living owner from now on: the reaper's.
func (o *owner) release() {
	_ = removeRoot(o.disk)
	_ = removeRoot(o.run)
	if o.lock != nil {
		_ = o.lock.Close()
	}
}

// removeRoot removes an owner's directory if nothing but what we know of an
// owner lies there.
func removeRoot(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch entry.Name() {
		case labelName, labelName + ".part", lockName:
		default:
			return fmt.Errorf("cannot remove %s: %s is in it", root, entry.Name())
		}
	}
	return os.RemoveAll(root)
}

// machineDirs makes a machine's two directories with its label in them.
func (o *owner) machineDirs(id, execution string) (runDir, diskDir string, l label, err error) {
	runDir, diskDir = filepath.Join(o.run, id), filepath.Join(o.disk, id)
	l = label{Owner: o.id, Execution: execution, Dir: runDir}
	// QEMU's own user opens what lies in them.
	for _, dir := range []string{runDir, diskDir} {
		err := mkdirPassable(dir)
		if err == nil {
			err = writeLabel(dir, l)
		}
		if err != nil {
			return runDir, diskDir, l, fmt.Errorf("cannot make a machine's directory: %w", err)
		}
	}
	return runDir, diskDir, l, nil
}

// ownName is what directories of ours are called.
var ownName = regexp.MustCompile(`^[om]-[0-9a-f]{8}$`)

// valid tells whether a label can be one that we wrote.
func (l label) valid() bool {
	return ownName.MatchString(l.Owner) && filepath.IsAbs(l.Dir) && filepath.Clean(l.Dir) == l.Dir &&
		(filepath.Base(l.Dir) == l.Owner || filepath.Base(filepath.Dir(l.Dir)) == l.Owner)
}

// lockPath is the file that the label's owner holds locked while it lives.
func (l label) lockPath() string {
	if filepath.Base(l.Dir) == l.Owner {
		return filepath.Join(l.Dir, lockName)
	}
	return filepath.Join(filepath.Dir(l.Dir), lockName)
}

// writeLabel puts a label into a directory, whole or not at all.
func writeLabel(dir string, l label) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	part := filepath.Join(dir, labelName+".part")
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(dir, labelName))
}

// readLabel reads a directory's label; errNotOurs when it has none.
func readLabel(dir string) (label, error) {
	var l label
	text, err := os.ReadFile(filepath.Join(dir, labelName))
	if err != nil {
		return l, fmt.Errorf("%w: %v", errNotOurs, err)
	}
	if json.Unmarshal(text, &l) != nil || !l.valid() {
		return label{}, errNotOurs
	}
	return l, nil
}

// seize takes the lock of an owner that is dead. ok is false while somebody
// holds it: the owner, or another reaper. release removes nothing.
func seize(lock string) (release func(), ok bool, err error) {
	file, err := os.OpenFile(lock, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, true, nil // nobody can hold what is not there
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot tell whether an owner lives: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("cannot tell whether an owner lives: %s: %w", lock, err)
	}
	return func() { _ = file.Close() }, true, nil
}

// randomID is short, because the names of sockets must be.
func randomID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

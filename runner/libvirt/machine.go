package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/sshconn"
)

// How much of a console is kept: after Close, and in a BootError.
const (
	keptConsole = 256 << 10
	bootConsole = 16 << 10
)

// closeWait is how long destroying a machine may take.
const closeWait = 20 * time.Second

// Machine is one virtual machine.
type Machine struct {
	machines  *Machines
	id        string // "m-5f6a7b8c"
	execution string
	uuid      uuid.UUID
	begun     time.Time
	runDir    string // "" until it is made
	diskDir   string
	conn      *conn // the domain lives with it; nil until there may be one

	mu      sync.Mutex
	guest   *sshconn.Machine // nil until the agent answered
	closed  bool
	console []byte // valid when closed
}

var (
	_ runner.Machine  = (*Machine)(nil)
	_ runner.Consoler = (*Machine)(nil)
)

func (one *Machine) socketPath() string  { return filepath.Join(one.runDir, socketName) }
func (one *Machine) consolePath() string { return filepath.Join(one.diskDir, consoleName) }

// Dir does as runner.Machine says.
func (one *Machine) Dir() string { return one.guest.Dir() }

// Push does as runner.Machine says.
func (one *Machine) Push(ctx context.Context, dir string, tar io.Reader) error {
	return one.guest.Push(ctx, dir, tar)
}

// Run does as runner.Machine says. Commands run as root.
func (one *Machine) Run(ctx context.Context, cmd runner.Command) (int, error) {
	return one.guest.Run(ctx, cmd)
}

// Pull does as runner.Machine says.
func (one *Machine) Pull(ctx context.Context, dir string, tar io.Writer) error {
	return one.guest.Pull(ctx, dir, tar)
}

// Console does as runner.Consoler says; at most 256 KiB are there.
func (one *Machine) Console(limit int64) ([]byte, error) {
	one.mu.Lock()
	defer one.mu.Unlock()
	text := one.console
	if !one.closed {
		var err error
		if text, err = readConsole(one.consolePath(), min(limit, keptConsole)); err != nil {
			return nil, err
		}
	}
	return text[max(0, int64(len(text))-max(0, limit)):], nil
}

// Close destroys the domain and removes all that belongs to it. What it cannot
// destroy within 20 s is left to Reap, and named in the error.
func (one *Machine) Close() error {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.closed {
		return nil
	}
	defer one.machines.forget(one.id)
	one.closed = true
	if one.guest != nil {
		_ = one.guest.Close() // its watchers are joined; nothing is left to be said to it
	}
	err := one.destroy()
	if one.diskDir != "" {
		one.console, _ = readConsole(one.consolePath(), keptConsole) // a machine that never ran has none
	}
	if err != nil {
		return fmt.Errorf("cannot destroy the virtual machine %s: %w: `assay vm reap` tries again", domainName(one.id, one.execution), err)
	}
	return one.remove()
}

// destroy returns when the domain is gone.
func (one *Machine) destroy() error {
	if one.conn == nil {
		return nil
	}
	defer one.conn.close()
	ctx, cancel := context.WithTimeout(one.machines.base, closeWait)
	defer cancel()
	id := lv.UUID(one.uuid)
	err := destroyDomain(ctx, one.conn, id)
	if err == nil || isRefusal(err) {
		return err
	}
	// The connection is lost: the daemon was restarted, and may have kept the domain.
	again, err := one.machines.daemon.connect(ctx)
	if err != nil {
		return err
	}
	defer again.close()
	return destroyDomain(ctx, again, id)
}

// destroyDomain destroys a domain; one that is gone is fine.
func destroyDomain(ctx context.Context, c *conn, id lv.UUID) error {
	err := c.do(ctx, func(l *lv.Libvirt) error { return l.DomainDestroy(lv.Domain{UUID: id}) })
	if err != nil && !isCode(err, lv.ErrNoDomain) && !isCode(err, lv.ErrOperationInvalid) {
		return err
	}
	return nil
}

// remove removes the machine's directories.
func (one *Machine) remove() error {
	var failed error
	for _, dir := range []string{one.diskDir, one.runDir} {
		if dir == "" {
			continue
		}
		if err := removeLabelled(dir); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot remove what a virtual machine left: %w", err))
		}
	}
	return failed
}

// removeLabelled removes a directory of ours, its label last, so that what a
// kill leaves is still known to be ours.
func removeLabelled(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == labelName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// gone tells whether the domain is no more; err when libvirt cannot be asked.
func (one *Machine) gone(ctx context.Context) (bool, error) {
	err := one.conn.do(ctx, func(l *lv.Libvirt) error {
		_, err := l.DomainLookupByUUID(lv.UUID(one.uuid))
		return err
	})
	if isCode(err, lv.ErrNoDomain) {
		return true, nil
	}
	return false, err
}

// readConsole reads the last limit bytes of a console's file, and of the part
// that libvirt's log daemon has moved aside when that is not enough.
func readConsole(path string, limit int64) ([]byte, error) {
	now, err := readTail(path, limit)
	if err != nil || int64(len(now)) >= limit {
		return now, err
	}
	before, err := readTail(path+".0", limit-int64(len(now)))
	if err != nil {
		return now, nil // there was not that much
	}
	return append(before, now...), nil
}

func readTail(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read a machine's console: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	end, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(max(0, end-max(0, limit)), io.SeekStart)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a machine's console: %w", err)
	}
	return io.ReadAll(io.LimitReader(file, max(0, limit)))
}

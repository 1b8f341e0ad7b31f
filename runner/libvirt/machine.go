package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	machines   *Machines
	id         string // "m-5f6a7b8c"
	execution  string
	uuid       uuid.UUID
	begun      time.Time
	runDir     string // "" until it is made
	diskDir    string
	forked     bool  // of a template: the execution's directory is there
	altered    bool  // a formula's environment is in it
	introduced bool  // knows its name; only whoever owns the machine asks
	conn       *conn // the domain lives with it; nil until there may be one

	hasScreen bool
	network   *network                     // nil for none
	listener  atomic.Pointer[func(string)] // of what is told while an execution has the machine
	aside     sync.WaitGroup               // what is done while the check has begun
	shutDoor  func()                       // lets nobody in any more; nil while nobody could come

	mu      sync.Mutex
	guest   *sshconn.Machine // nil until the agent answered
	closed  bool
	console []byte // valid when closed
}

var (
	_ runner.Machine  = (*Machine)(nil)
	_ runner.Consoler = (*Machine)(nil)
	_ runner.Troubled = (*Machine)(nil)
)

func (one *Machine) socketPath() string  { return filepath.Join(one.runDir, socketName) }
func (one *Machine) consolePath() string { return filepath.Join(one.diskDir, consoleName) }

// Done is closed when the machine no longer speaks, for whatever reason.
func (one *Machine) Done() <-chan struct{} { return one.guest.Done() }

// Dir does as runner.Machine says.
func (one *Machine) Dir() string { return one.guest.Dir() }

// Push does as runner.Machine says.
func (one *Machine) Push(ctx context.Context, dir string, tar io.Reader) error {
	return one.fate(ctx, one.guest.Push(ctx, dir, tar))
}

// Run does as runner.Machine says. Commands run as root.
func (one *Machine) Run(ctx context.Context, cmd runner.Command) (int, error) {
	exit, err := one.guest.Run(ctx, cmd)
	return exit, one.fate(ctx, err)
}

// Pull does as runner.Machine says.
func (one *Machine) Pull(ctx context.Context, dir string, tar io.Writer) error {
	return one.fate(ctx, one.guest.Pull(ctx, dir, tar))
}

// fateWait is how long libvirt may take to tell that a machine has ended.
const fateWait = 3 * time.Second

// fate finds out, when the machine died, whether it did so of itself. One that
// libvirt still has did: only its agent is gone.
func (one *Machine) fate(ctx context.Context, err error) error {
	if !errors.Is(err, runner.ErrMachineDied) || errors.Is(err, runner.ErrMachineLost) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fateWait)
	defer cancel()
	end := one.machines.fates.await(ctx, lv.UUID(one.uuid))
	if end == fateUnknown {
		after, done := context.WithTimeout(one.machines.base, fateWait)
		defer done()
		if gone, asked := one.gone(after); asked == nil && !gone {
			end = fateItself
		}
	}
	if end == fateItself {
		return err
	}
	one.machines.stats.lost.Add(1)
	return fmt.Errorf("%w: QEMU ended without the guest's doing: %v", runner.ErrMachineLost, err)
}

// taken finds out, when something that the host does to the machine failed,
// whether the host took it away: QEMU has ended of neither the guest's doing nor
// ours, or libvirt's daemon went while it was asked.
func (one *Machine) taken(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return err // we gave up, which ends the connection, too
	}
	ctx, cancel := context.WithTimeout(one.machines.base, fateWait)
	defer cancel()
	select {
	case <-one.conn.lv.Disconnected():
	default:
		gone, asked := one.gone(ctx)
		if asked == nil && !gone || one.machines.fates.await(ctx, lv.UUID(one.uuid)) == fateItself {
			return err
		}
	}
	return fmt.Errorf("%w: %v", runner.ErrMachineLost, err)
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

// Close ends QEMU at once; what libvirt and the disk still have of the machine is
// removed beside other work, because libvirt may wait for seconds. What cannot be
// destroyed is logged and left to Reap. Machines.Close waits for all of it.
func (one *Machine) Close() error {
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.closed {
		return nil
	}
	one.closed = true
	one.aside.Wait()
	one.listener.Store(nil)
	if one.shutDoor != nil {
		one.shutDoor()
	}
	if one.guest != nil {
		_ = one.guest.Close() // its watchers are joined; nothing is left to be said to it
	}
	if one.conn != nil {
		ctx, cancel := context.WithTimeout(one.machines.base, closeWait)
		one.quit(ctx)
		cancel()
	}
	if one.diskDir != "" {
		one.console, _ = readConsole(one.consolePath(), keptConsole) // a machine that never ran has none
	}
	one.machines.burials.Go(one.bury)
	return nil
}

// bury destroys the domain and removes all that belongs to it.
func (one *Machine) bury() {
	m := one.machines
	err := one.destroy()
	one.network.end()
	if err == nil {
		err = one.remove()
	}
	m.fates.forget(lv.UUID(one.uuid))
	m.forget(one.id)
	if err != nil {
		m.stats.destroyFailures.Add(1)
		m.log.Warn().Err(err).Str("execution", one.execution).Msg("cannot destroy the virtual machine " + domainName(one.id, one.execution) + ": the reaper tries again")
		return
	}
	m.stats.destroyed.Add(1)
}

// destroy returns when the domain is gone.
func (one *Machine) destroy() error {
	if one.conn == nil {
		return nil
	}
	defer one.conn.close()
	ctx, cancel := context.WithTimeout(one.machines.base, closeWait)
	defer cancel()
	return one.ask(ctx, func(c *conn) error { return destroyDomain(ctx, c, lv.UUID(one.uuid)) })
}

// ask makes calls about the machine on its own connection, or on a new one where
// that is lost: a daemon that was started anew may have kept the domain.
func (one *Machine) ask(ctx context.Context, calls func(*conn) error) error {
	err := calls(one.conn)
	if err == nil || isRefusal(err) {
		return err
	}
	again, cerr := one.machines.daemon.connect(ctx)
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	defer again.close()
	return calls(again)
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
	err := one.ask(ctx, func(c *conn) error {
		return c.do(ctx, func(l *lv.Libvirt) error {
			_, err := l.DomainLookupByUUID(lv.UUID(one.uuid))
			return err
		})
	})
	if isCode(err, lv.ErrNoDomain) {
		return true, nil
	}
	return false, err
}

// handOver makes the machine an execution's own.
func (one *Machine) handOver(ctx context.Context, spec runner.Spec) error {
	execution := spec.Execution
	one.listener.Store(&spec.Tell)
	if spec.Tell == nil {
		one.listener.Store(nil)
	}
	if err := one.introduce(ctx); err != nil {
		return err
	}
	if one.execution != execution {
		one.mu.Lock()
		one.execution = execution
		one.mu.Unlock()
		// Beside the check's first command: the owner's label is what counts, this one
		// is for people.
		one.aside.Go(func() {
			if err := one.relabel(context.WithoutCancel(ctx)); err != nil {
				one.machines.log.Warn().Err(err).Str("execution", execution).Msg("a machine is listed without its execution")
			}
		})
	}
	return one.openDoor()
}

// relabel writes whose the machine is wherever that is written: for people, since
// the reaper goes by the owner.
func (one *Machine) relabel(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	l := label{Owner: one.machines.owner.id, Execution: one.execution, Dir: one.runDir}
	if err := errors.Join(writeLabel(one.runDir, l), writeLabel(one.diskDir, l)); err != nil {
		return fmt.Errorf("cannot label a machine: %w", err)
	}
	text, err := l.bare()
	if err != nil {
		return err
	}
	err = one.conn.do(ctx, func(c *lv.Libvirt) error {
		return c.DomainSetMetadata(one.monitor().domain, int32(lv.DomainMetadataElement), lv.OptString{text},
			lv.OptString{"assay"}, lv.OptString{labelSpace}, lv.DomainAffectLive)
	})
	if err != nil {
		return fmt.Errorf("cannot label a machine: %w", err)
	}
	return nil
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

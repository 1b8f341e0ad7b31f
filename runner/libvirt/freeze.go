package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/template"
)

// Files of a template, beside what package template keeps there.
const (
	ramName   = "ram"
	stateName = "state"
	baseName  = "base.qcow2"
	// greetingName is what the agent said before it was frozen.
	greetingName = "greeting"
	kernelName   = "vmlinuz"
	initrdName   = "initrd.img"
	// stageDir is where they are before they are a template, in a machine's directory.
	stageDir = "template"
)

// freezeWait is how long freezing and waking may take: a state is less than a
// megabyte.
const freezeWait = time.Minute

// stage is a directory in which a template is made. It lies in the machine's own
// directory, so that what a kill leaves is reaped with it.
type stage struct{ dir string }

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// stubSize is how much of the kernel a fork's QEMU is given, in bytes. It only
// looks at the head: the guest has booted, and never boots again. The whole would
// cost each fork the memory and the time to read it.
const stubSize = 64 << 10

// set makes the stage and lets a domain's files lie in it. The image's disk is
// linked: it stays when the image is built anew. It returns the disk to put the
// template's own disk on.
func (s *stage) set(one *Machine, d *domain, img image.Image) (base string, err error) {
	s.dir = filepath.Join(one.diskDir, stageDir)
	if err := mkdirPassable(s.dir); err != nil {
		return "", fmt.Errorf("cannot make a template's directory: %w", err)
	}
	err = linkOrCopy(img.Disk, s.path(baseName))
	if err == nil && img.Boot == image.BootDirect {
		err = errors.Join(
			copyHead(img.Kernel, s.path(kernelName), stubSize),
			copyHead(img.Initrd, s.path(initrdName), stubSize),
		)
	}
	if err != nil {
		return "", fmt.Errorf("cannot keep the image for a template: %w", err)
	}
	ram, err := os.OpenFile(s.path(ramName), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("cannot make a template's memory: %w", err)
	}
	err = errors.Join(ram.Truncate(d.Memory), ram.Close(), one.machines.host.user.lend(s.path(ramName)))
	d.Disk, d.RAM = s.path(diskName), s.path(ramName)
	return s.path(baseName), err
}

// linkOrCopy gives a file a second name, or a copy of it where that cannot be.
func linkOrCopy(from, to string) error {
	real, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	// A file that others may write to, or own, is no part of what we keep; and each
	// new name of it would change its time (package template).
	var stat unix.Stat_t
	own := unix.Stat(real, &stat) == nil && int(stat.Uid) == os.Geteuid() && stat.Mode&0o022 == 0
	if own && os.Link(real, to) == nil {
		return nil
	}
	return copyHead(real, to, math.MaxInt64)
}

// copyHead copies a file, or as much of its beginning.
func copyHead(from, to string, limit int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, limit))
	return errors.Join(err, out.Chmod(0o644), out.Close())
}

// freeze stops the machine for good, in the middle of its agent's handshake, and
// puts its state beside its memory and its disk.
func (one *Machine) freeze(ctx context.Context, s *stage) error {
	ctx, cancel := context.WithTimeout(ctx, freezeWait)
	defer cancel()
	raw, greeting, err := one.hush(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }() // the guest must not see it end
	if err := os.WriteFile(s.path(greetingName), greeting, 0o600); err != nil {
		return fmt.Errorf("cannot keep what the agent said: %w", err)
	}
	path, err := one.makeStateDir()
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("cannot receive a machine's state: %w", err)
	}
	defer func() { _ = listener.Close() }() // one connection is all
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	if err := one.machines.host.user.own(path); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { received <- receive(ctx, listener, s.path(stateName)) }()
	err = one.migrate(ctx, "unix:"+path)
	if err != nil {
		_ = listener.Close()
	}
	if err = errors.Join(err, <-received); err != nil {
		return err
	}
	one.quit(ctx)
	return errors.Join(one.machines.host.user.seal(s.path(diskName)), os.Chmod(s.path(stateName), 0o600))
}

// migrate stops the guest and has QEMU write its state.
func (one *Machine) migrate(ctx context.Context, uri string) error {
	m := one.monitor()
	if err := m.command(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.shareMemory(ctx); err != nil {
		return err
	}
	if err := m.command(ctx, "migrate", map[string]string{"uri": uri}, nil); err != nil {
		return err
	}
	return m.until(ctx, "query-migrate", func(status string) (bool, error) {
		if status == "failed" || status == "cancelled" {
			return false, fmt.Errorf("QEMU could not write its state: %s", status)
		}
		return status == "completed", nil
	})
}

// maxState bounds a state: without memory it is half a megabyte for each
// processor or so.
const maxState = 256 << 20

// receive takes a state from the first connection.
func receive(ctx context.Context, listener net.Listener, path string) error {
	conn, err := listener.Accept()
	if err != nil {
		return fmt.Errorf("QEMU did not send its state: %w", err)
	}
	defer func() { _ = conn.Close() }() // read to its end
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(conn, maxState))
	if err == nil && n == maxState {
		err = fmt.Errorf("QEMU's state has more than %d bytes", int64(maxState))
	}
	return errors.Join(err, out.Close())
}

// makeStateDir makes the directory in which QEMU may make a socket, and returns
// the socket's path.
func (one *Machine) makeStateDir() (string, error) {
	dir := filepath.Join(one.runDir, stateDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make a machine's directory: %w", err)
	}
	return filepath.Join(dir, stateSocket), one.machines.host.user.own(dir)
}

// quit ends QEMU at once. What libvirt has to tidy up afterwards is for destroy.
func (one *Machine) quit(ctx context.Context) {
	// The answer may be lost with QEMU: whether it has ended is seen by destroy.
	_ = one.monitor().command(ctx, "quit", nil, nil)
}

func (one *Machine) monitor() monitor { return monitor{one.conn, lv.Domain{UUID: lv.UUID(one.uuid)}} }

// fork makes a machine of a template: its own overlay, the template's memory as
// a private copy, the template's state. It runs, and its agent has been spoken to.
func (m *Machines) fork(ctx context.Context, t template.Template, execution string) (*Machine, error) {
	release, err := t.Hold()
	if err != nil {
		return nil, err
	}
	defer release() // QEMU has the files open by then, or never will
	return m.forkUnheld(ctx, t, execution)
}

func (one *Machine) wake(ctx context.Context, t template.Template) error {
	d, err := one.layOut(t.Recipe)
	if err != nil {
		return err
	}
	if err := one.overlay(ctx, t.Path(diskName), d.Disk, t.Recipe.Disk); err != nil {
		return err
	}
	path, err := one.makeStateDir()
	if err != nil {
		return err
	}
	d.RAM, d.Fork = t.Path(ramName), true
	if t.Recipe.Boot == image.BootDirect {
		d.Kernel, d.Initrd, d.Cmdline = t.Path(kernelName), t.Path(initrdName), t.Recipe.Cmdline
	}
	seed{name: t.Recipe.Seed}.place(t.Dir, &d)
	if t.Recipe.Network == networkFull {
		if err := one.plug(&d); err != nil {
			return err
		}
	}
	greeting, err := os.ReadFile(t.Path(greetingName))
	if err != nil {
		return fmt.Errorf("%w: %w", errNoWake, err)
	}
	one.forked, one.altered = true, !t.Recipe.Environment.Empty()
	if err := one.define(ctx, d, lv.DomainStartPaused); err != nil {
		return err
	}
	if err := one.resume(ctx, path, t.Path(stateName), greeting); err != nil {
		return one.taken(ctx, fmt.Errorf("%w: %w", errNoWake, err))
	}
	return nil
}

// errNoWake tells that QEMU took a template's files, and no guest came of it.
var errNoWake = errors.New("the template does not wake")

// thaw gives a waiting QEMU the state it waits for.
func (one *Machine) thaw(ctx context.Context, socket, state string) error {
	m := one.monitor()
	if err := m.shareMemory(ctx); err != nil {
		return err
	}
	if err := m.command(ctx, "migrate-incoming", map[string]string{"uri": "unix:" + socket}, nil); err != nil {
		return err
	}
	if err := send(ctx, socket, state); err != nil {
		return fmt.Errorf("cannot send a template's state: %w", err)
	}
	return m.until(ctx, "query-status", func(status string) (bool, error) {
		return status != "inmigrate", nil
	})
}

func send(ctx context.Context, socket, state string) error {
	in, err := os.Open(state)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = io.Copy(conn, in)
	return errors.Join(err, conn.Close())
}

// resume gives a waiting QEMU its state, lets the guest run on and goes on with
// the handshake. The connection is there before the state: so the guest never saw
// it end.
func (one *Machine) resume(ctx context.Context, socket, state string, greeting []byte) error {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "unix", one.socketPath())
	if err != nil {
		return fmt.Errorf("cannot reach the guest's agent: %w", err)
	}
	if err = one.thaw(ctx, socket, state); err == nil {
		err = one.conn.do(ctx, func(l *lv.Libvirt) error { return l.DomainResume(one.monitor().domain) })
	}
	if err != nil {
		_ = raw.Close() // the failure is what counts
		return err
	}
	return one.speak(ctx, goOn(raw, greeting))
}

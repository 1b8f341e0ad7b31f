package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/sshconn"
	"github.com/assay-ci/assay/runner/template"
)

// guestDir is the execution's directory in the guest, which has no other use.
const guestDir = "/assay"

// Boot does as runner.Machines says: it hands out a fork that waits, or makes one
// of the spec's template, which is built first if need be, or boots from nothing
// where forks are refused. Errors of libvirt and of the host are not a
// *runner.BootError: the guest had no chance.
func (m *Machines) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	if err := errors.Join(ctx.Err(), m.alarm.raised(), m.closed(), m.room()); err != nil {
		return nil, fmt.Errorf("cannot boot a machine: %w", err)
	}
	w, err := m.want(ctx, spec)
	if err != nil {
		return nil, err
	}
	w.spec.Say("image %s, digest %s", w.img.Name, w.img.Digest) // assay run --from reads it
	for tries := 1; ; tries++ {
		one, err := m.forkOrBoot(ctx, w)
		if err != nil {
			return nil, err
		}
		err = one.handOver(ctx, w.spec)
		if err == nil {
			return one, nil
		}
		err = errors.Join(err, one.Close())
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("cannot boot a machine: %w", ctx.Err()), err)
		}
		if tries == handTries || hopeless(err) || !one.forked {
			return nil, err
		}
		w.spec.Say("the machine did not take its execution: %v: taking another", err)
	}
}

var errClosing = errors.New("the machines are being closed")

func (m *Machines) closed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return errClosing
	}
	return nil
}

// handTries is how many machines are tried that are ready and then do not answer.
const handTries = 3

// want is what a spec comes to on this host.
type want struct {
	spec   runner.Spec
	img    image.Image
	recipe template.Recipe
	key    string // of the recipe
	seed   seed   // zero for an image with our agent in it
}

// want decides image and shape.
func (m *Machines) want(ctx context.Context, spec runner.Spec) (want, error) {
	img, err := m.images.Find(fallback(spec.Image, m.options.Image))
	if err != nil {
		return want{}, err
	}
	if spec.Memory == 0 && !img.Prepared {
		spec.Memory = foreignMemory
	}
	if spec, err = m.shape(spec); err != nil {
		return want{}, err
	}
	if !serves(img.Arch, spec.Arch) {
		return want{}, fmt.Errorf("cannot boot a machine of %s from the image %s, which is of %s: name another image in the formula", spec.Arch, img.Name, img.Arch)
	}
	w := want{spec: spec, img: img}
	firmware, err := firmware(img)
	if err != nil {
		return w, err
	}
	if w.seed, err = m.seedFor(img); err != nil {
		return w, err
	}
	found, err := m.accelerator(ctx, img)
	if err != nil {
		return w, err
	}
	w.recipe, err = m.recipe(spec, img, found.Accel, firmware, w.seed)
	w.key = w.recipe.Key()
	return w, err
}

// boot boots a machine from nothing and makes it what the spec wants; with a stage
// it is to be frozen.
func (m *Machines) boot(ctx context.Context, w want, s *stage) (*Machine, error) {
	one := m.newMachine(w.spec.Execution)
	if err := one.create(ctx, w, s); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	if err := one.await(ctx); err != nil {
		return nil, err
	}
	if err := one.prepare(ctx, w, s != nil); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return one, nil
}

// serves tells whether an image of one architecture is fit for an item of
// another: of none in particular, or of the same processor's older kind.
func serves(image, item string) bool {
	switch item {
	case "", "noarch", "all", "src", image:
		return true
	case "amd64", "i386", "i686":
		return image == "x86_64"
	case "arm64":
		return image == "aarch64"
	}
	return false
}

// shape fills in what the spec leaves open and refuses what cannot be.
func (m *Machines) shape(spec runner.Spec) (runner.Spec, error) {
	spec.Image = fallback(spec.Image, m.options.Image)
	if spec.CPUs == 0 {
		spec.CPUs = 1
	}
	if spec.Memory == 0 {
		spec.Memory = defaultMemory
	}
	if spec.CPUs < 1 || spec.CPUs > maxCPUs {
		return spec, fmt.Errorf("cannot boot a machine with %d processors: 1 to %d are possible", spec.CPUs, maxCPUs)
	}
	if spec.Memory < minMemory || spec.Memory > maxMemory {
		return spec, fmt.Errorf("cannot boot a machine with %d bytes of memory: %d to %d are possible", spec.Memory, minMemory, int64(maxMemory))
	}
	if spec.Network = fallback(spec.Network, networkNone); spec.Network != networkNone && spec.Network != networkFull {
		return spec, fmt.Errorf("cannot boot a machine with the network %q: write none or full", spec.Network)
	}
	if spec.Disk < 0 {
		return spec, fmt.Errorf("cannot boot a machine with a disk of %d bytes", spec.Disk)
	}
	return spec, nil
}

// newMachine enters a machine on its way, so that no reaper takes it for a stray.
func (m *Machines) newMachine(execution string) *Machine {
	one := &Machine{machines: m, id: "m-" + randomID(), execution: execution, uuid: uuid.New(), begun: time.Now()}
	m.fates.expect(lv.UUID(one.uuid))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live[one.id] = one
	return one
}

// create makes the directories, the overlay and the running domain. With a stage
// it is a template in the making, whose files lie there.
func (one *Machine) create(ctx context.Context, w want, s *stage) error {
	m := one.machines
	d, err := one.layOut(w.recipe)
	if err != nil {
		return err
	}
	d.Kernel, d.Initrd, d.Cmdline = w.img.Kernel, w.img.Initrd, w.img.Cmdline
	base, dir := w.img.Disk, one.diskDir
	if s != nil {
		if base, err = s.set(one, &d, w.img); err != nil {
			return err
		}
		dir = s.dir
	}
	if err := w.seed.write(dir, &d); err != nil {
		return err
	}
	for _, file := range []string{d.Kernel, d.Initrd, base} {
		if file == "" {
			continue
		}
		if err := m.host.user.reach(file); err != nil {
			return err
		}
	}
	if err := one.overlay(ctx, base, d.Disk, w.spec.Disk); err != nil {
		return err
	}
	if w.recipe.Network == networkFull {
		if err := one.plug(&d); err != nil {
			return err
		}
	}
	return one.define(ctx, d, 0)
}

// layOut makes the machine's directories and what its domain has in any case.
func (one *Machine) layOut(r template.Recipe) (domain, error) {
	d := domainOf(r)
	var err error
	if one.runDir, one.diskDir, d.Label, err = one.machines.owner.machineDirs(one.id, one.execution); err != nil {
		return d, err
	}
	d.Name, d.UUID, d.User = domainName(one.id, one.execution), one.uuid.String(), one.machines.host.user.label()
	d.Disk, d.Console, d.Channel = filepath.Join(one.diskDir, diskName), one.consolePath(), one.socketPath()
	one.hasScreen = d.Screen
	return d, nil
}

// overlay makes the machine's disk on top of another one.
func (one *Machine) overlay(ctx context.Context, base, path string, size int64) error {
	if err := createOverlay(ctx, base, path, size); err != nil {
		return err
	}
	user := one.machines.host.user
	if err := user.own(path); err != nil {
		return err
	}
	return user.reach(path)
}

// define starts the domain on a connection of its own, with which it lives.
func (one *Machine) define(ctx context.Context, d domain, flags lv.DomainCreateFlags) error {
	m := one.machines
	d.Plain = m.plain.Load()
	text, err := d.xml()
	if err != nil {
		return err
	}
	if one.conn, err = m.daemon.connect(ctx); err != nil {
		return err
	}
	err = one.conn.do(ctx, func(l *lv.Libvirt) error {
		_, err := l.DomainCreateXML(text, lv.DomainStartAutodestroy|flags)
		return err
	})
	if isRefusal(err) && !d.Plain && strings.Contains(err.Error(), "capabilit") {
		m.plain.Store(true) // a libvirt that has another name for it: slower, no worse
		one.conn.close()
		return one.define(ctx, d, flags)
	}
	if err != nil {
		return fmt.Errorf("cannot start a virtual machine: %w", err)
	}
	return nil
}

// oddName is what a domain's name is kept free of.
var oddName = regexp.MustCompile(`[^0-9A-Za-z-]+`)

// domainName is what libvirt's own tools show: whose it is, unique, which
// execution.
func domainName(id, execution string) string {
	name := "assay-" + id[2:]
	if clean := oddName.ReplaceAllString(execution, ""); clean != "" {
		name += "-" + clean[:min(len(clean), 64)]
	}
	return name
}

// screenWait is how long a picture of a screen may take.
const screenWait = 10 * time.Second

// await waits until the guest runs commands. When it does not come up the
// machine is destroyed and the error is a *runner.BootError; when ctx is
// cancelled first it is that.
func (one *Machine) await(ctx context.Context) error {
	m := one.machines
	limit := m.options.BootTimeout
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := one.shake(timed)
	if err == nil {
		return nil
	}
	after := time.Since(one.begun)
	last, done := context.WithTimeout(m.base, screenWait)
	picture, _ := one.screen(last) // without it the error is still true
	done()
	closed := one.Close()
	if errors.Is(ctx.Err(), context.Canceled) {
		return errors.Join(fmt.Errorf("cannot boot a machine: %w", ctx.Err()), closed)
	}
	if errors.Is(err, errNoLibvirt) {
		return errors.Join(err, closed) // says nothing about the guest
	}
	console, _ := one.Console(bootConsole) // without it the error is still true
	return &runner.BootError{After: after, Console: console, Screen: picture, Err: errors.Join(err, closed)}
}

// errNoLibvirt tells that nobody can say what became of a machine.
var errNoLibvirt = errors.New("cannot ask libvirt for a machine that is booting")

// errWentDown tells that a guest did not live until its agent was there.
var errWentDown = fmt.Errorf("%w before its agent answered", runner.ErrMachineDied)

// shake connects to the guest's agent, again and again until one handshake
// succeeds, the domain is gone or ctx ends: an agent may be restarted meanwhile.
func (one *Machine) shake(ctx context.Context) error {
	for {
		err := one.handshake(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the guest's agent did not answer: %w", ctx.Err())
		}
		gone, lost := one.gone(ctx)
		if lost != nil {
			return fmt.Errorf("%w: %v", errNoLibvirt, lost)
		}
		if gone {
			return one.fate(ctx, errWentDown)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// handshake makes one try, and runs the first command.
func (one *Machine) handshake(ctx context.Context) error {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "unix", one.socketPath())
	if err != nil {
		return err
	}
	return one.speak(ctx, raw)
}

// speak begins to speak SSH on an open connection to the agent, and makes the
// execution's directory.
func (one *Machine) speak(ctx context.Context, raw net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // ends the handshake
	conn, channels, requests, err := ssh.NewClientConn(raw, "", clientConfig())
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		_ = raw.Close() // the failure is what counts
		return err
	}
	guest := sshconn.New(ssh.NewClient(conn, channels, requests), sshconn.Options{Dir: guestDir, Tools: agent.ToolsDir, Direct: true})
	exit := 0
	if !one.forked {
		exit, err = guest.Run(ctx, runner.Command{Argv: []string{"mkdir", "-p", guestDir}, Dir: "/"})
	}
	if err == nil && exit != 0 {
		err = fmt.Errorf("cannot make %s in the guest: exit %d", guestDir, exit)
	}
	if err != nil {
		_ = guest.Close() // the failure is what counts
		return err
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.guest = guest
	return nil
}

// clientConfig is for a private socket: whoever serves it is the machine, so
// its key proves nothing. The cheapest of the modern key exchanges comes first,
// because the guest may be emulated.
func clientConfig() *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User:            "root",
		ClientVersion:   clientVersion,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Config: ssh.Config{
			KeyExchanges:   []string{ssh.KeyExchangeCurve25519},
			RekeyThreshold: 1 << 40,
		},
	}
}

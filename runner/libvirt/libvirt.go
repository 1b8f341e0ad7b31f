// Package libvirt boots disposable virtual machines through libvirt's daemon.
//
// A machine is a transient domain on a qcow2 overlay of an image, without a
// network: the guest's agent speaks SSH on a virtio-serial port. Whatever
// exists for a machine carries the label of its owner, this process, who holds
// a lock while it lives. So three belts keep a machine from staying behind: its
// Close; libvirt's daemon, which destroys a domain when the connection that
// made it is gone (VIR_DOMAIN_START_AUTODESTROY); and Reap, which destroys and
// removes what belongs to an owner whose lock can be taken.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/attach"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/pool"
	"github.com/assay-ci/assay/runner/template"
)

// Options say where machines come from. Zero fields ask for the default.
type Options struct {
	URI       string // "qemu:///system", "qemu:///session"; "" for the first as root, the second otherwise
	ImageRoot string // directory of images (package image)
	Image     string // the image for a Spec that names none; "debian-12"
	// Agent finds the agent's program for an architecture, for images that have
	// none inside; nil where there are only our own images.
	Agent func(arch string) (path string, err error)
	Dir   string // where overlays and consoles lie: on a disk with room
	// RunDir is where sockets and locks lie. Its path must be short; /run/assay as
	// root, assay below XDG_RUNTIME_DIR otherwise.
	RunDir      string
	KVM         string        // "auto" proves it first, "yes", "no"; "auto"
	BootTimeout time.Duration // how long a guest may take until it runs commands; 120 s

	Templates    string        // TemplatesOn, or TemplatesOff to boot every machine from nothing; on
	TemplateAge  time.Duration // an older template is made anew, while it still serves; a day
	TemplateRoom int64         // bytes that templates may take on the disk; 8 GiB
	SetupTimeout time.Duration // how long an environment may take to install; 30 min
	// Look tells that no machine will be booted: nothing is kept ready or tidied up.
	Look bool
	// Packages is asked, when the first environment is installed, for the way to
	// packages; nil for none.
	Packages func(context.Context) (Packages, error)
	// PrivateNetworks are networks that machines with a network may reach, of those
	// that are nobody's on the internet; none by default.
	PrivateNetworks []netip.Prefix
	// Entered is told when somebody begins to run something in an execution's
	// machine, and when that ends; it may be nil.
	Entered       func(execution string, a attach.Access)
	Waiting       int   // how many forks may wait to be asked for; 0 for none
	WaitingMemory int64 // bytes that they may take together; 0 for a quarter of what is free
	Log           zerolog.Logger
}

// Values of Options.Templates.
const (
	TemplatesOn  = "on"
	TemplatesOff = "off"
)

// Machines boots virtual machines on this host. It is a runner.Machines for
// any number of goroutines. Close it to destroy those that are left.
type Machines struct {
	options Options
	images  image.Store
	daemon  daemon
	log     zerolog.Logger
	owner   *owner
	host    host
	proof   proof
	keeper  *template.Keeper
	pool    *pool.Pool[*Machine] // nil where no machine is to wait
	keys    keys
	fates   *fates
	alarm   alarm
	stats   stats

	plain    atomic.Bool     // libvirt knows our shortcut by another name (see domain.Plain)
	emulated atomic.Bool     // as found when it was last looked at
	base     context.Context // for cleaning up: never cancelled
	stop     func()          // ends what is owned
	owned    sync.WaitGroup  // goroutines: the fates' watcher, the pool's
	burials  sync.WaitGroup  // machines being destroyed

	mu      sync.Mutex
	live    map[string]*Machine // by the machine's directory name; also those on their way
	closing bool                // nothing is handed out any more
	warned  map[string]bool     // templates that could not be forked
}

var _ runner.Machines = (*Machines)(nil)

// host is what libvirt told about itself when it was first reached.
type host struct {
	libvirt string       // "9.0.0"
	qemu    string       // "7.2.22"
	user    *qemuAccount // whom QEMU runs as; nil for ourselves

	confinement Confinement
}

// Open reaches libvirt's daemon, starting it when none runs, becomes an owner
// of machines and reaps what dead owners left. Its errors name the cure.
func Open(ctx context.Context, options Options) (*Machines, error) {
	options, d, err := settle(options)
	if err != nil {
		return nil, err
	}
	m := &Machines{
		options: options, daemon: d, images: image.Store{Root: options.ImageRoot},
		log: options.Log, live: map[string]*Machine{}, base: context.WithoutCancel(ctx),
		proof: proof{turn: make(chan struct{}, 1)}, fates: newFates(), warned: map[string]bool{},
		alarm: newAlarm(options.Dir, options.Log),
		keeper: &template.Keeper{
			Store:  TemplateStore(options.Dir, options.TemplateRoom),
			MaxAge: options.TemplateAge, Final: final,
		},
	}
	m.keeper.Made = func(_ template.Template, err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			m.log.Warn().Err(err).Msg("a template could not be made")
		}
	}
	m.pool = m.newPool()
	if err := m.look(ctx); err != nil {
		return nil, err
	}
	if m.owner, err = newOwner(ctx, options.RunDir, options.Dir); err != nil {
		return nil, err
	}
	reaped, err := m.Reap(ctx)
	for _, r := range reaped {
		m.log.Warn().Str("owner", r.Owner).Str("execution", r.Execution).Msg("destroyed a machine that a dead process left: " + r.Name)
	}
	if err != nil {
		m.log.Warn().Err(err).Msg("cannot clean up all that dead processes left")
	}
	if err := m.alarm.raised(); err != nil {
		m.log.Error().Err(err).Msg("no machine will be handed out")
	}
	m.begin()
	return m, nil
}

// TemplateStore is where machines below a directory have their templates.
func TemplateStore(dir string, room int64) template.Store {
	return template.Store{Root: filepath.Join(dir, templatesDir), Budget: room}
}

// begin starts what runs beside the machines, until Close.
func (m *Machines) begin() {
	ctx, stop := context.WithCancel(m.base)
	m.stop = stop
	if m.options.Look {
		return
	}
	m.prune("")
	m.owned.Go(func() { m.fates.watch(ctx, &m.daemon) })
	if m.pool == nil {
		return
	}
	m.owned.Go(func() {
		if err := m.pool.Run(ctx); err != nil {
			m.log.Warn().Err(err).Msg("cannot destroy machines that waited")
		}
	})
}

// settle fills in defaults and makes the directories.
func settle(o Options) (Options, daemon, error) {
	uid := os.Getuid()
	runtime := ""
	if uid != 0 {
		var err error
		if runtime, err = runtimeDir(uid, os.Getenv("XDG_RUNTIME_DIR")); err != nil {
			return o, daemon{}, err
		}
	}
	d, err := planDaemon(site{uri: o.URI, uid: uid, runtime: runtime, systemd: systemdRuns(), look: lookDaemon})
	if err != nil {
		return o, d, err
	}
	if o, err = withDefaults(o, uid, runtime); err != nil {
		return o, d, err
	}
	d.lock = filepath.Join(o.RunDir, ".daemon")
	for _, dir := range []string{o.RunDir, o.Dir, filepath.Join(o.Dir, templatesDir)} {
		if err := makePassable(dir); err != nil {
			return o, d, fmt.Errorf("cannot make the directory of machines: %w", err)
		}
		if err := private(dir, uid); err != nil {
			return o, d, err
		}
	}
	return o, d, nil
}

// makePassable makes a directory that QEMU's own user can pass through.
func makePassable(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o011 != 0o011 {
		err = os.Chmod(dir, info.Mode().Perm()|0o011)
	}
	return err
}

func withDefaults(o Options, uid int, runtime string) (Options, error) {
	o.URI = fallback(o.URI, map[bool]string{true: uriSystem, false: uriSession}[uid == 0])
	o.Image = fallback(o.Image, "debian-12")
	o.KVM = fallback(o.KVM, "auto")
	o.RunDir = fallback(o.RunDir, filepath.Join(fallback(runtime, "/run"), "assay"))
	o.Templates = fallback(o.Templates, TemplatesOn)
	defaults(&o)
	if o.ImageRoot == "" || o.Dir == "" {
		return o, errors.New("cannot open machines without a directory for images and one for overlays")
	}
	for _, dir := range []*string{&o.RunDir, &o.Dir, &o.ImageRoot} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return o, fmt.Errorf("cannot use the directory %s: %w", *dir, err)
		}
		*dir = abs
	}
	if o.KVM != "auto" && o.KVM != "yes" && o.KVM != "no" {
		return o, fmt.Errorf("cannot use %q for KVM: use auto, yes or no", o.KVM)
	}
	longest := filepath.Join(o.RunDir, "o-00000000", "m-00000000", socketName)
	if len(longest) > maxSocketPath {
		return o, fmt.Errorf("cannot use the run directory %s: its path is %d bytes too long for sockets in it", o.RunDir, len(longest)-maxSocketPath)
	}
	return o, nil
}

// defaults fills in the numbers.
func defaults(o *Options) {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.BootTimeout, 2 * time.Minute}, {&o.TemplateAge, 24 * time.Hour}, {&o.SetupTimeout, 30 * time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.TemplateRoom <= 0 {
		o.TemplateRoom = 8 << 30
	}
	if o.WaitingMemory <= 0 {
		free, _ := availableMemory() // 0, for no bound, where the kernel does not tell
		o.WaitingMemory = free / 4
	}
}

func fallback(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// look learns about the host.
func (m *Machines) look(ctx context.Context) error {
	c, err := m.daemon.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return c.do(ctx, func(l *lv.Libvirt) error {
		lib, err := l.ConnectGetLibVersion()
		if err != nil {
			return fmt.Errorf("cannot ask libvirt for its version: %w", err)
		}
		qemu, err := l.ConnectGetVersion()
		if err != nil {
			return fmt.Errorf("cannot ask libvirt for QEMU: %w: install qemu-system for this architecture", err)
		}
		caps, err := l.Capabilities()
		if err != nil {
			return fmt.Errorf("cannot ask libvirt what it can do: %w", err)
		}
		m.host = host{libvirt: version(lib), qemu: version(qemu)}
		m.host.user, err = qemuUser(caps)
		m.host.confinement = confinement(caps, m.host.user, qemuConfig(m.options.URI))
		return err
	})
}

// version spells a version as libvirt counts it: 1,000,000 major + 1,000 minor + release.
func version(n uint64) string {
	return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000)
}

// forget takes a machine out of the living: what is left of it is a stray.
func (m *Machines) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.live, id)
}

// lives tells whether a machine of ours is in use or on its way.
func (m *Machines) lives(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[id] != nil
}

// warnOnce warns that a template cannot be forked, once for each.
func (m *Machines) warnOnce(key string, err error) {
	m.mu.Lock()
	again := m.warned[key]
	m.warned[key] = true
	m.mu.Unlock()
	if !again {
		m.log.Warn().Err(err).Str("template", key).Msg("machines of this template are booted from nothing, which is slow: a fork was refused")
	}
}

// Close destroys the machines that are left, joins what was begun and gives
// ownership up.
func (m *Machines) Close() error {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	m.keeper.Close()
	m.stop()
	m.owned.Wait()
	m.mu.Lock()
	left := make([]*Machine, 0, len(m.live))
	for _, one := range m.live {
		left = append(left, one)
	}
	m.mu.Unlock()
	failed := make([]error, len(left))
	var all sync.WaitGroup
	for i, one := range left {
		all.Go(func() { failed[i] = one.Close() })
	}
	all.Wait()
	m.burials.Wait()
	m.owner.release()
	return errors.Join(failed...)
}

// Info describes the host that machines boot on.
type Info struct {
	URI     string `json:"uri"`
	Libvirt string `json:"libvirt"` // version
	QEMU    string `json:"qemu"`    // version
	User    string `json:"user"`    // whom QEMU runs as
	Accel   string `json:"accel"`   // "kvm", or "qemu" for emulation
	Why     string `json:"why"`     // why that one
	RunDir  string `json:"run_dir"`
	Dir     string `json:"dir"`

	Confinement Confinement `json:"confinement"`
}

// Describe tells what machines would boot on. It proves KVM if that has not been
// done, with the default image; without one Accel is "".
func (m *Machines) Describe(ctx context.Context) (Info, error) {
	info := Info{
		URI: m.options.URI, Libvirt: m.host.libvirt, QEMU: m.host.qemu, User: m.host.user.String(),
		RunDir: m.options.RunDir, Dir: m.options.Dir, Confinement: m.host.confinement,
	}
	img, err := m.images.Find(m.options.Image)
	if err != nil {
		info.Why = err.Error()
		return info, nil
	}
	found, err := m.accelerator(ctx, img)
	info.Accel, info.Why = found.Accel, found.Why
	return info, err
}

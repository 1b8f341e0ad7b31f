package libvirt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/template"
)

// templatesDir is where templates lie below the directory of machines.
const templatesDir = "templates"

// recipe is what a machine is made of, and so what it can be forked from.
func (m *Machines) recipe(spec runner.Spec, img image.Image, accel, firmware string, s seed) (template.Recipe, error) {
	r := template.Recipe{
		Image: img.Name, Digest: img.Digest, Arch: img.Arch, Cmdline: img.Cmdline,
		Boot: img.Boot, Firmware: firmware, Seed: s.name, Agent: s.digest,
		CPUs: spec.CPUs, Memory: spec.Memory, Disk: spec.Disk, Network: spec.Network, Accel: accel,
		Hypervisor: "qemu " + m.host.qemu + ", libvirt " + m.host.libvirt, Environment: spec.Environment,
	}
	shape := domainOf(r)
	shape.RAM, shape.Disk, shape.Console, shape.Channel = "ram", "disk", "console", "channel"
	if r.Network == networkFull {
		shape.Network = "network"
	}
	text, err := shape.xml()
	sum := sha256.Sum256([]byte(text))
	r.Shape = hex.EncodeToString(sum[:8])
	return r, err
}

// cold boots a machine from nothing.
func (m *Machines) cold(ctx context.Context, w want) (*Machine, error) {
	one, err := m.boot(ctx, w, nil)
	if err == nil {
		m.stats.cold.Add(1)
	}
	return one, err
}

// forkOrBoot comes by a machine in the quickest way there is.
func (m *Machines) forkOrBoot(ctx context.Context, w want) (*Machine, error) {
	if m.options.Templates == TemplatesOff {
		return m.cold(ctx, w)
	}
	if one := m.takeWaiting(ctx, w.key); one != nil {
		m.stats.waiting.Add(1)
		m.keeper.Refresh(ctx, w.key, m.maker(w))
		return one, nil
	}
	t, err := m.keeper.Get(ctx, w.key, func(line string) { w.spec.Say("template: %s", line) }, m.maker(w))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cannot boot a machine: %w", ctx.Err())
	}
	if hopeless(err) {
		return nil, err
	}
	var one *Machine
	for tries := 0; err == nil && tries < forkTries; tries++ {
		var refused error
		if one, refused = m.fork(ctx, t, w.spec.Execution); refused == nil {
			m.waitingFor(t)
			m.stats.fresh.Add(1)
			return one, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("cannot boot a machine: %w", ctx.Err()), refused)
		}
		if tries == forkTries-1 {
			err = refused
			m.discard(t, refused)
		}
	}
	m.warnOnce(w.key, err)
	m.stats.fallbacks.Add(1)
	w.spec.Say("no fork of a template: %v: booting from nothing", err)
	return m.cold(ctx, w)
}

// discard removes a template that cannot be forked, unless the host is to blame.
func (m *Machines) discard(t template.Template, refused error) {
	if errors.Is(refused, runner.ErrMachineLost) || !errors.Is(refused, errNoWake) {
		return
	}
	if _, err := m.keeper.Store.Remove(t.Key); err != nil {
		m.log.Warn().Err(err).Msg("cannot remove a template that does not wake")
	}
}

// forkTries is how often a fork is tried: libvirt's daemon may just have been
// started anew.
const forkTries = 2

// hopeless tells that a boot from nothing would fail just the same.
func hopeless(err error) bool {
	var provision *runner.ProvisionError
	var boot *runner.BootError
	return errors.As(err, &provision) || errors.Is(err, ErrAlarm) ||
		errors.As(err, &boot) && !errors.Is(err, runner.ErrMachineLost)
}

// makeTries is how often a template is begun whose machine is taken away by the
// host: all who wait for it would have to begin anew.
const makeTries = 3

// final tells of a template that could be booted and configured, but not frozen
// and forked: on this host that is how it is.
func final(err error) bool {
	return errors.Is(err, errNotFrozen) && !errors.Is(err, runner.ErrMachineDied) && !errors.Is(err, context.Canceled) && !hopeless(err)
}

// errNotFrozen tells that a machine was ready to be a template and did not become one.
var errNotFrozen = errors.New("cannot freeze a machine")

// maker makes the template for w.
func (m *Machines) maker(w want) template.Maker {
	w.spec.Execution = "template-" + w.key[:8]
	return func(ctx context.Context, tell func(string)) (template.Template, error) {
		w.spec.Tell = tell
		t, err := m.makeTemplate(ctx, w)
		for tries := 1; errors.Is(err, runner.ErrMachineLost) && tries < makeTries && ctx.Err() == nil; tries++ {
			tell("once more: " + err.Error())
			t, err = m.makeTemplate(ctx, w)
		}
		if err != nil {
			m.stats.templateFailures.Add(1)
			return t, fmt.Errorf("cannot make a template of %s: %w", w.img.Name, err)
		}
		m.stats.templatesMade.Add(1)
		m.replaced(t)
		return t, nil
	}
}

// makeTemplate boots, configures, freezes and proves a template.
func (m *Machines) makeTemplate(ctx context.Context, w want) (t template.Template, err error) {
	begun := time.Now()
	w.spec.Say("booting %s", w.img.Name)
	ctx, cancel := context.WithTimeout(ctx, m.options.BootTimeout+m.options.SetupTimeout)
	defer cancel()
	s := &stage{}
	one, err := m.boot(ctx, w, s)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, one.Close()) }()
	w.spec.Say("freezing it")
	if err := one.freeze(ctx, s); err != nil {
		return t, one.taken(ctx, fmt.Errorf("%w: %w", errNotFrozen, err))
	}
	w.spec.Say("proving it with two forks")
	draft := template.Template{Key: w.key, Dir: s.dir, Recipe: w.recipe}
	if err := m.proveForks(ctx, draft); err != nil {
		return t, fmt.Errorf("%w: it did not pass its check: %w", errNotFrozen, err)
	}
	took := time.Since(begun)
	if t, err = m.keeper.Store.Publish(s.dir, w.recipe, took); err != nil {
		return t, err
	}
	w.spec.Say("ready in %s", took.Round(100*time.Millisecond))
	return t, nil
}

// prepare makes a booted machine what the spec wants. To be frozen, or to get an
// environment, it waits until the boot is over.
func (one *Machine) prepare(ctx context.Context, w want, toFreeze bool) error {
	if w.spec.Network == networkFull {
		if err := one.dial(ctx); err != nil {
			return err
		}
	}
	if !toFreeze && w.spec.Environment.Empty() {
		return nil
	}
	w.spec.Say("waiting for the end of its boot")
	if err := one.settle(ctx); err != nil {
		return err
	}
	if w.spec.Environment.Empty() {
		return nil
	}
	one.altered = true
	return one.machines.provision(ctx, one, w)
}

// settleScript waits for the end of the boot, and runs once what brings every
// check in, so that the guest has it in its memory. A service that failed is the
// image's affair.
const settleScript = `
if [ -d /run/systemd/system ]; then systemctl is-system-running --wait >/dev/null; fi
tar --version >/dev/null 2>&1`

func (one *Machine) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, one.machines.options.BootTimeout)
	defer cancel()
	_, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", settleScript}, Dir: "/"})
	if err != nil {
		return fmt.Errorf("cannot wait for the end of the boot: %w", err)
	}
	return nil
}

// introduce tells a machine who and when it is, and leaves its mark there. A
// machine that has another's mark raises the alarm.
func (one *Machine) introduce(ctx context.Context) error {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // never fails (crypto/rand)
	id := strings.ReplaceAll(one.uuid.String(), "-", "")
	wake := agent.Wake{Time: time.Now(), Seed: seed, Canary: one.mark()}
	if !one.introduced {
		wake.Hostname, wake.MachineID = "assay-"+one.id[2:], id
	}
	ok, reply, err := one.guest.Request(ctx, agent.WakeRequest, wake.Marshal())
	if err != nil {
		return one.fate(ctx, fmt.Errorf("cannot tell the machine who it is: %w", err))
	}
	if !ok {
		return fmt.Errorf("cannot tell the machine who it is: it refused: %q: build the image again with this version", reply[:min(len(reply), 200)])
	}
	one.introduced = true
	if len(reply) == 0 {
		return nil
	}
	seen := fmt.Sprintf("%q", reply[:min(len(reply), maxMark)])
	if one.altered {
		// Whoever wrote the environment may have left it on purpose, and must not be
		// able to stop everybody's machines.
		return &runner.ProvisionError{Step: "its check", Exit: -1, Mistake: true, Err: fmt.Errorf("%w: it had the mark %s", errMarked, seen)}
	}
	return one.machines.alarm.raise(one.mark(), seen)
}

// errMarked tells that a formula's environment leaves another machine's mark.
var errMarked = errors.New("cannot use a machine that its environment has given another machine's mark: do not write to /var/lib/assay or /run/assay")

// maxMark bounds what is told of a mark, in bytes.
const maxMark = 64

// mark is what the machine, and no other one, has as its canary.
func (one *Machine) mark() string { return hex.EncodeToString(one.uuid[:]) }

// proofScript prints what two forks must not have in common, and the time.
const proofScript = `head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; echo
cat /proc/sys/kernel/random/uuid /etc/machine-id /proc/sys/kernel/hostname; date +%s`

// maxProof bounds what a fork says to prove itself, in bytes.
const maxProof = 4 << 10

// maxClockError is how far a fork's clock may be off: emulated machines take
// their time to answer.
const maxClockError = 30

// proveForks makes two forks and compares them.
func (m *Machines) proveForks(ctx context.Context, t template.Template) error {
	var said [2][]string
	for i := range said {
		var err error
		if said[i], err = m.proveOne(ctx, t); err != nil {
			return err
		}
	}
	for i, what := range []string{"random bytes", "random UUID", "machine id", "host name"} {
		if said[0][i] == said[1][i] {
			return fmt.Errorf("two forks have the same %s", what)
		}
	}
	return nil
}

// forkUnheld forks what is not published yet, and so cannot be removed.
func (m *Machines) forkUnheld(ctx context.Context, t template.Template, execution string) (*Machine, error) {
	one := m.newMachine(execution)
	ctx, cancel := context.WithTimeout(ctx, freezeWait)
	defer cancel()
	if err := one.wake(ctx, t); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot fork a machine: %w", err), one.Close())
	}
	return one, nil
}

func (m *Machines) proveOne(ctx context.Context, t template.Template) (said []string, err error) {
	one, err := m.forkUnheld(ctx, t, "template-"+t.Key[:8]+"-proof")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, one.Close()) }()
	if err := one.introduce(ctx); err != nil {
		return nil, err
	}
	out := bounded{limit: maxProof}
	exit, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", proofScript}, Dir: "/", Stdout: &out})
	if err != nil || exit != 0 {
		return nil, errors.Join(fmt.Errorf("a fork's command ended with exit %d", exit), err)
	}
	said = strings.Fields(out.String())
	if len(said) != 5 {
		return nil, fmt.Errorf("a fork said %q", said)
	}
	clock, err := strconv.ParseInt(said[4], 10, 64)
	if off := time.Now().Unix() - clock; err != nil || off > maxClockError || off < -maxClockError {
		return nil, fmt.Errorf("a fork's clock says %s", said[4])
	}
	return said, nil
}

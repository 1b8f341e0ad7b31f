package libvirt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-ci/assay/runner/image"
)

// The proof of KVM: the image's kernel with the agent's initial RAM disk says
// probeSays on its console when it is started with probeWord, and powers off.
// A device that is there and does not work never gets that far.
const (
	probeWord    = "assay.probe"
	probeSays    = "assay-probe-ok"
	probeTimeout = 10 * time.Second
	probeMemory  = 128 << 20
	probeName    = "kvm.json"
	kvmDevice    = "/dev/kvm"
)

// accelFound is how machines are run, and why so.
type accelFound struct {
	Accel string // accelKVM or accelTCG
	Why   string
}

// proof remembers what was found, for the life of the process.
type proof struct {
	turn  chan struct{} // holds one token while somebody looks
	found *accelFound   // guarded by turn
}

// proved is what the file remembers, for as long as the key is the same.
type proved struct {
	Key string `json:"key"`
	OK  bool   `json:"ok"`
	Why string `json:"why"`
}

// accelerator tells how to run machines. The first call may take a proof's time;
// others wait for it.
func (m *Machines) accelerator(ctx context.Context, img image.Image) (accelFound, error) {
	if img.Arch != runtimeArch() {
		m.emulated.Store(true)
		return accelFound{accelTCG, "the host has another architecture"}, nil
	}
	switch m.options.KVM {
	case "yes":
		return accelFound{accelKVM, "the configuration says so"}, nil
	case "no":
		m.emulated.Store(true)
		return accelFound{accelTCG, "the configuration says so"}, nil
	}
	img, err := m.provable(img)
	if err != nil {
		return accelFound{accelTCG, err.Error()}, nil
	}
	select {
	case m.proof.turn <- struct{}{}:
		defer func() { <-m.proof.turn }()
	case <-ctx.Done():
		return accelFound{}, fmt.Errorf("cannot wait for the proof of KVM: %w", ctx.Err())
	}
	if m.proof.found != nil {
		return *m.proof.found, nil
	}
	p, err := m.recall(ctx, img)
	if err != nil {
		return accelFound{}, err
	}
	found := accelFound{accelKVM, p.Why}
	if !p.OK {
		found.Accel = accelTCG
		m.log.Warn().Str("why", p.Why).Msg("machines are emulated, which is slow: hardware virtualisation (KVM) does not work here")
	}
	m.proof.found = &found
	m.emulated.Store(!p.OK)
	return found, nil
}

// provable is an image with a kernel to prove KVM with: the given one, or the
// default one.
func (m *Machines) provable(img image.Image) (image.Image, error) {
	if img.Boot == image.BootDirect {
		return img, nil
	}
	own, err := m.images.Find(m.options.Image)
	if err == nil && own.Boot != image.BootDirect {
		err = fmt.Errorf("%s has no kernel beside its disk", own.Name)
	}
	if err != nil {
		return img, fmt.Errorf("nothing to prove KVM with: %w: build an image with `assay image build`, or set machines.kvm", err)
	}
	return own, nil
}

// runtimeArch is this host's architecture as the kernel names it.
func runtimeArch() string {
	arch, err := image.HostArchitecture()
	if err != nil {
		return ""
	}
	return arch.Name
}

// recall looks up an earlier proof that still holds, or makes one.
func (m *Machines) recall(ctx context.Context, img image.Image) (proved, error) {
	key, err := m.proofKey(img.Kernel)
	if err != nil {
		return proved{}, err
	}
	path := filepath.Join(m.options.RunDir, probeName)
	var p proved
	if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &p) == nil && p.Key == key {
		return p, nil
	}
	p = proved{Key: key, OK: true, Why: "a guest was booted to prove it"}
	if err = m.prove(ctx, img); err != nil {
		if ctx.Err() != nil {
			return proved{}, fmt.Errorf("cannot finish the proof of KVM: %w", ctx.Err())
		}
		p.OK, p.Why = false, err.Error()
	}
	if err == nil || errors.Is(err, errMute) {
		m.remember(path, p) // any other reason may be gone next time, and is found quickly
	}
	return p, nil
}

// errMute tells that a guest was started under KVM and did not get anywhere.
var errMute = errors.New("/dev/kvm is there, but does not work: a guest that was started to prove it said nothing")

// remember keeps a proof; where it cannot be written it is made again next time.
func (m *Machines) remember(path string, p proved) {
	text, err := json.Marshal(p)
	part := path + "." + m.owner.id
	if err == nil {
		err = os.WriteFile(part, text, 0o600)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		m.log.Warn().Err(err).Msg("cannot remember whether KVM works")
	}
}

// proofKey changes with everything that a proof depends on.
func (m *Machines) proofKey(kernel string) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell this boot of the host from others: %w", err)
	}
	file, err := os.Open(kernel)
	if err != nil {
		return "", fmt.Errorf("cannot read the image's kernel: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	digest := sha256.New()
	if _, err := io.Copy(digest, file); err != nil {
		return "", fmt.Errorf("cannot read the image's kernel: %w", err)
	}
	return strings.TrimSpace(string(boot)) + " " + m.host.qemu + " " + hex.EncodeToString(digest.Sum(nil)), nil
}

// prove boots the smallest guest under KVM; nil when it spoke.
func (m *Machines) prove(ctx context.Context, img image.Image) error {
	if err := m.host.user.mayUse(kvmDevice); err != nil {
		return err
	}
	one := m.newMachine("")
	err := one.probe(ctx, img)
	if closed := one.Close(); closed != nil {
		m.log.Warn().Err(closed).Msg("cannot clean up after the proof of KVM")
	}
	return err
}

// probe starts the guest and watches its console.
func (one *Machine) probe(ctx context.Context, img image.Image) error {
	m := one.machines
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var l label
	var err error
	if one.runDir, one.diskDir, l, err = m.owner.machineDirs(one.id, ""); err != nil {
		return err
	}
	err = one.define(ctx, domain{
		Name: domainName(one.id, "probe"), UUID: one.uuid.String(), Label: l, Accel: accelKVM, Arch: img.Arch,
		CPUs: 1, Memory: probeMemory, Kernel: img.Kernel, Initrd: img.Initrd,
		Cmdline: "console=ttyS0 " + probeWord, Console: one.consolePath(), User: m.host.user.label(),
	}, 0)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		text, _ := readConsole(one.consolePath(), keptConsole) // it may not be there yet
		if bytes.Contains(text, []byte(probeSays)) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w for %s", errMute, probeTimeout)
		}
	}
}

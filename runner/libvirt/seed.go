package libvirt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/assay-ci/assay/runner/image"
)

// Names of the files that bring our agent into an image that has none.
const (
	seedISO      = "seed.iso"      // for cloud-init
	seedIgnition = "seed.ignition" // for CoreOS
)

// seed is how the agent comes into a machine; the zero value is for an image
// that has it inside.
type seed struct {
	name   string // seedISO or seedIgnition
	agent  string // path of the agent's program
	arch   string
	digest string // of the agent, SHA-256 in hex
}

// seedFor is what an image needs.
func (m *Machines) seedFor(img image.Image) (seed, error) {
	if img.Prepared {
		return seed{}, nil
	}
	if m.options.Agent == nil {
		return seed{}, fmt.Errorf("cannot boot the image %s: it has no agent inside, and none is at hand", img.Name)
	}
	s := seed{name: seedISO, arch: img.Arch}
	if img.Ignites() {
		s.name = seedIgnition
	}
	var err error
	if s.agent, err = m.options.Agent(img.Arch); err != nil {
		return s, fmt.Errorf("cannot boot the image %s, which has no agent inside: %w", img.Name, err)
	}
	s.digest, err = digest(s.agent)
	return s, err
}

func digest(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the guest agent: %w", err)
	}
	defer func() { _ = in.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return "", fmt.Errorf("cannot read the guest agent: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write makes the seed's file in dir and gives it to the domain.
func (s seed) write(dir string, d *domain) error {
	if s.name == "" {
		return nil
	}
	path := filepath.Join(dir, s.name)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		err = errors.Join(s.fill(out), out.Chmod(0o644), out.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot make what brings the agent in: %w", err)
	}
	s.place(dir, d)
	return nil
}

func (s seed) fill(out io.Writer) error {
	what := image.Seed{Agent: s.agent, Arch: s.arch}
	if s.name == seedISO {
		return image.WriteSeed(out, what)
	}
	text, err := image.Ignition(what)
	if err == nil {
		_, err = out.Write(text)
	}
	return err
}

// place gives the file in dir to the domain.
func (s seed) place(dir string, d *domain) {
	switch s.name {
	case seedISO:
		d.Seed = filepath.Join(dir, s.name)
	case seedIgnition:
		d.Ignition = filepath.Join(dir, s.name)
	}
}

// firmware finds what boots an image that needs UEFI: whole, with its variables
// inside, as distributions install it beside QEMU.
func firmware(img image.Image) (string, error) {
	if img.Boot != image.BootUEFI {
		return "", nil
	}
	known := map[string][]string{
		"x86_64":  {"/usr/share/ovmf/OVMF.fd", "/usr/share/edk2/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd"},
		"aarch64": {"/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "/usr/share/edk2/aarch64/QEMU_EFI.fd", "/usr/share/AAVMF/AAVMF_CODE.fd"},
		"riscv64": {"/usr/share/qemu-efi-riscv64/RISCV_VIRT_CODE.fd", "/usr/share/edk2/riscv/RISCV_VIRT_CODE.fd"},
	}[img.Arch]
	for _, path := range known {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot boot the image %s: there is no UEFI firmware for %s here: install ovmf or qemu-efi-%s (Debian), edk2-ovmf or edk2-%[2]s (Fedora)", img.Name, img.Arch, img.Arch)
}

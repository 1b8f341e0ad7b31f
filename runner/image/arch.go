package image

import (
	"debug/elf"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Architecture is a kind of processor that images can be of, with what its
// machines are called and how one of them is put together by QEMU.
type Architecture struct {
	Name    string // as uname(1), RPM and libvirt say it: "x86_64"
	Debian  string // as dpkg says it: "amd64"
	Go      string // as the Go toolchain says it (GOARCH): "amd64"
	Console string // the kernel's name of the first serial line: "ttyS0"
	// Emulator is QEMU's program for it, Machine the type of machine that such an
	// image boots on, and Firmware what that machine has of its own, which boots
	// an image with Boot "bios".
	Emulator, Machine, Firmware string
	// UEFI tells whether such machines can boot an image with Boot "uefi".
	UEFI bool
	// Disk is the model of a virtio disk, as `-device` takes it.
	Disk string
}

// Architectures lists those that are known. The facts are from QEMU's system
// emulation documentation ("Targets") and from Debian's list of ports.
func Architectures() []Architecture {
	return []Architecture{
		{"x86_64", "amd64", "amd64", "ttyS0", "qemu-system-x86_64", "pc", "SeaBIOS", true, "virtio-blk-pci"},
		{"aarch64", "arm64", "arm64", "ttyAMA0", "qemu-system-aarch64", "virt", "", true, "virtio-blk-pci"},
		{"ppc64le", "ppc64el", "ppc64le", "hvc0", "qemu-system-ppc64", "pseries", "SLOF", false, "virtio-blk-pci"},
		{"s390x", "s390x", "s390x", "ttysclp0", "qemu-system-s390x", "s390-ccw-virtio", "s390-ccw", false, "virtio-blk-ccw"},
		{"riscv64", "riscv64", "riscv64", "ttyS0", "qemu-system-riscv64", "virt", "", true, "virtio-blk-pci"},
	}
}

// ArchitectureOf finds an architecture by any of its names: "x86_64", "amd64".
func ArchitectureOf(name string) (Architecture, error) {
	var names []string
	for _, a := range Architectures() {
		if name == a.Name || name == a.Debian || name == a.Go {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Architecture{}, fmt.Errorf("cannot use the architecture %q: choose one of %s", name, strings.Join(names, ", "))
}

// HostArchitecture is the one that this program runs on.
func HostArchitecture() (Architecture, error) {
	return ArchitectureOf(runtime.GOARCH)
}

// architectureOr is ArchitectureOf, with the host's own for "".
func architectureOr(name string) (Architecture, error) {
	if name == "" {
		return HostArchitecture()
	}
	return ArchitectureOf(name)
}

// boots tells whether a machine of the architecture can boot an image that way.
func (a Architecture) boots(how string) bool {
	switch how {
	case BootDirect:
		return true
	case BootBIOS:
		return a.Firmware != ""
	case BootUEFI:
		return a.UEFI
	}
	return false
}

// ways are the boots that a disk from elsewhere can have.
func (a Architecture) ways() []string {
	var ways []string
	for _, how := range []string{BootBIOS, BootUEFI} {
		if a.boots(how) {
			ways = append(ways, how)
		}
	}
	return ways
}

// runs tells whether a program is for such a processor.
func (a Architecture) runs(program elf.FileHeader) bool {
	machine := map[string]elf.Machine{
		"x86_64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64,
		"s390x": elf.EM_S390, "riscv64": elf.EM_RISCV,
	}[a.Name]
	little := a.Name != "s390x" // as are all the others here, ppc64le too
	return program.Class == elf.ELFCLASS64 && program.Machine == machine && little == (program.Data == elf.ELFDATA2LSB)
}

// NameFor is the name that an image of a distribution's release has by default:
// "debian-12" for the host's own architecture, "debian-12.aarch64" for others.
func NameFor(distro, release, arch string) string {
	name := distro + "-" + release
	own, err := HostArchitecture()
	if a, other := architectureOr(arch); err == nil && other == nil && a.Name != own.Name {
		name += "." + a.Name
	}
	return name
}

// splitName is the reverse of NameFor: what comes before ".aarch64", and
// "aarch64"; "" for a name that tells of none.
func splitName(name string) (base, arch string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}
	known := slices.ContainsFunc(Architectures(), func(a Architecture) bool { return a.Name == name[i+1:] })
	if !known {
		return name, ""
	}
	return name[:i], name[i+1:]
}

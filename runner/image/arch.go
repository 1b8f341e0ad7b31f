package image

import (
	"debug/elf"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Architecture is a kind of processor that images can be of, with what it is
// called and how its machines boot.
type Architecture struct {
	Name    string // as uname(1), RPM and libvirt say it: "x86_64"
	Debian  string // as dpkg says it: "amd64"
	Go      string // as the Go toolchain says it (GOARCH): "amd64"
	Console string // the kernel's name of the first serial line: "ttyS0"
	// Firmware is what such a machine has of its own in QEMU, which boots an image
	// with Boot "bios"; "" for none.
	Firmware string
	// UEFI tells whether such machines can boot an image with Boot "uefi".
	UEFI bool
}

// Architectures lists those that are known. The facts are from QEMU's system
// emulation documentation ("Targets") and from Debian's list of ports.
func Architectures() []Architecture {
	return []Architecture{
		{"x86_64", "amd64", "amd64", "ttyS0", "SeaBIOS", true},
		{"aarch64", "arm64", "arm64", "ttyAMA0", "", true},
		{"ppc64le", "ppc64el", "ppc64le", "hvc0", "SLOF", false},
		{"s390x", "s390x", "s390x", "ttysclp0", "s390-ccw", false},
		{"riscv64", "riscv64", "riscv64", "ttyS0", "", true},
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

// architectureFor is the architecture that somebody named, else the one that an
// image's name ends in, else the host's own.
func architectureFor(image, named string) (Architecture, error) {
	if named == "" {
		_, named = splitName(image)
	}
	return architectureOr(named)
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

package image

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// release is a distribution's release that images can be built of.
type release struct {
	Distro   string // "debian"
	Version  string // "12"
	Codename string // "bookworm": what its archive calls it
}

// releases lists every release that has a name here. Each is known to its
// archive by its code name.
func releases() []release {
	return []release{
		{"debian", "11", "bullseye"},
		{"debian", "12", "bookworm"},
		{"debian", "13", "trixie"},
		{"debian", "14", "forky"},
		{"debian", "sid", "sid"},
		{"ubuntu", "22.04", "jammy"},
		{"ubuntu", "24.04", "noble"},
	}
}

// Names lists the names of the images that can be built.
func Names() []string {
	var names []string
	for _, r := range releases() {
		names = append(names, r.Distro+"-"+r.Version)
	}
	return names
}

// parseRelease finds a release by "debian-12" or "debian-bookworm".
func parseRelease(name string) (release, error) {
	for _, r := range releases() {
		if name == r.Distro+"-"+r.Version || name == r.Distro+"-"+r.Codename {
			return r, nil
		}
	}
	return release{}, fmt.Errorf("cannot build an image of %q: choose one of %s", name, strings.Join(Names(), ", "))
}

// architecture is what the several programs call the kind of processor.
type architecture struct {
	kernel  string // as uname(1) and libvirt say it
	debian  string // as dpkg says it
	console string // the first serial line
}

// hostArchitecture is this program's own: images are built for no other.
func hostArchitecture() (architecture, error) {
	known := []architecture{
		{kernel: "x86_64", debian: "amd64", console: "ttyS0"},
		{kernel: "aarch64", debian: "arm64", console: "ttyAMA0"},
	}
	i := slices.IndexFunc(known, func(a architecture) bool { return a.debian == runtime.GOARCH })
	if i < 0 {
		return architecture{}, fmt.Errorf("cannot build images for %s: only for amd64 and arm64", runtime.GOARCH)
	}
	return known[i], nil
}

// packages lists what is installed beside what the distribution cannot do
// without: a kernel made for virtual machines, an init, and what checks are
// written in.
func (r release) packages(arch architecture) []string {
	kernel := "linux-image-cloud-" + arch.debian
	if r.Distro == "ubuntu" {
		kernel = "linux-image-virtual"
	}
	return []string{
		kernel, "systemd-sysv", "udev", "kmod", "procps", "iproute2", "python3", "ca-certificates",
	}
}

// components are the archive's parts that packages are taken from.
func (r release) components() []string {
	if r.Distro == "ubuntu" {
		return []string{"main", "universe"}
	}
	return []string{"main"}
}

// keyring is the file with the keys that the distribution signs its archive
// with, and the package that has it (the same on Debian and Fedora but for its
// name there).
func (r release) keyring() (file, debian, fedora string) {
	if r.Distro == "ubuntu" {
		return "/usr/share/keyrings/ubuntu-archive-keyring.gpg", "ubuntu-keyring", "ubu-keyring"
	}
	return "/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring", "debian-keyring"
}

// commandLine is the kernel's command line. It asks for speed where a machine
// that lives for minutes and trusts nobody inside needs no more: no address
// randomisation to relocate for, no mitigations between processes that are all
// the same check's, no probing of timers that an emulator has not got. What goes
// wrong still reaches the console.
func commandLine(arch architecture) string {
	return "root=/dev/vda rw console=" + arch.console + " panic=1 oops=panic quiet loglevel=4" +
		" systemd.show_status=error audit=0 mitigations=off nokaslr random.trust_cpu=on" +
		" tsc=reliable no_timer_check nowatchdog"
}

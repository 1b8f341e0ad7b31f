package image

import (
	"fmt"
	"strings"
)

// release is a distribution's release that images can be built of.
type release struct {
	Distro   string // "debian"
	Version  string // "12"
	Codename string // "bookworm": what its archive calls it; "" where RPM packages are installed
}

// rpm tells that it is of RPM packages, which dnf installs.
func (r release) rpm() bool { return r.Codename == "" }

// releases lists every release that has a name here. Those of Debian and Ubuntu
// are known to their archives by a code name.
func releases() []release {
	return []release{
		{"debian", "11", "bullseye"},
		{"debian", "12", "bookworm"},
		{"debian", "13", "trixie"},
		{"debian", "14", "forky"},
		{"debian", "sid", "sid"},
		{"ubuntu", "22.04", "jammy"},
		{"ubuntu", "24.04", "noble"},
		{"fedora", "42", ""},
		{"fedora", "43", ""},
		{"fedora", "44", ""},
		{"centos-stream", "9", ""},
		{"centos-stream", "10", ""},
		{"almalinux", "9", ""},
		{"almalinux", "10", ""},
		{"rocky", "9", ""},
		{"rocky", "10", ""},
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
		if name == r.Distro+"-"+r.Version || !r.rpm() && name == r.Distro+"-"+r.Codename {
			return r, nil
		}
	}
	return release{}, fmt.Errorf("cannot build an image of %q: choose one of %s", name, strings.Join(Names(), ", "))
}

// packages lists what is installed beside what the distribution cannot do
// without: a kernel made for virtual machines, an init, and what checks are
// written in.
func (r release) packages(arch Architecture) []string {
	if r.rpm() {
		return []string{
			"kernel-core", "system-release", "systemd", "systemd-udev", "dnf", "kmod", "procps-ng", "iproute",
			"python3", "ca-certificates", "util-linux", "tar",
		}
	}
	return []string{
		r.kernel(arch), "systemd-sysv", "udev", "kmod", "procps", "iproute2", "python3", "ca-certificates",
	}
}

// kernel is the package with a kernel made for virtual machines, where there is
// one, of Debian or Ubuntu.
func (r release) kernel(arch Architecture) string {
	switch {
	case r.Distro == "ubuntu" && arch.Name == "s390x":
		return "linux-image-generic"
	case r.Distro == "ubuntu":
		return "linux-image-virtual"
	case arch.Name == "ppc64le":
		return "linux-image-powerpc64le"
	case arch.Name == "s390x" || arch.Name == "riscv64":
		return "linux-image-" + arch.Debian
	}
	return "linux-image-cloud-" + arch.Debian
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
//
// Nobody wrote SELinux's labels where the file system was made without mounting
// it: systems that have it are told not to.
func commandLine(r release, arch Architecture) string {
	line := "root=/dev/vda rw console=" + arch.Console + " panic=1 oops=panic quiet loglevel=4" +
		" systemd.show_status=error audit=0 mitigations=off nokaslr random.trust_cpu=on"
	if arch.Name == "x86_64" {
		line += " tsc=reliable no_timer_check"
	}
	if r.rpm() {
		line += " selinux=0"
	}
	return line + " nowatchdog"
}

package checks

import (
	"slices"
	"strings"
)

// debianTuple is what the name of an architecture of Debian's stands for
// (dpkg-architecture(1), /usr/share/dpkg/tupletable).
type debianTuple struct{ abi, libc, os, cpu string }

// tupleOf reads the name of an architecture: amd64, armhf, kfreebsd-amd64,
// musl-linux-arm64.
func tupleOf(arch string) debianTuple {
	odd := map[string]debianTuple{
		"armel":      {"eabi", "gnu", "linux", "arm"},
		"armhf":      {"eabihf", "gnu", "linux", "arm"},
		"arm":        {"base", "gnu", "linux", "arm"},
		"x32":        {"x32", "gnu", "linux", "amd64"},
		"mips64":     {"abi64", "gnu", "linux", "mips64"},
		"mips64el":   {"abi64", "gnu", "linux", "mips64el"},
		"mipsn32":    {"abin32", "gnu", "linux", "mips64"},
		"mipsn32el":  {"abin32", "gnu", "linux", "mips64el"},
		"powerpcspe": {"spe", "gnu", "linux", "powerpc"},
	}
	if t, ok := odd[arch]; ok {
		return t
	}
	parts := strings.Split(arch, "-")
	t := debianTuple{"base", "gnu", "linux", parts[len(parts)-1]}
	if len(parts) > 1 {
		t.os = parts[len(parts)-2]
	}
	if len(parts) > 2 {
		t.libc = parts[len(parts)-3]
	}
	if odd, ok := odd[t.cpu]; ok {
		t.abi, t.cpu = odd.abi, odd.cpu
	}
	return t
}

// archMatches tells whether an architecture is one of those that a name or a
// wildcard means: any, linux-any, any-amd64, any-arm.
func archMatches(arch, meant string) bool {
	if arch == meant || meant == "any" {
		return true
	}
	parts := strings.Split(meant, "-")
	if !slices.Contains(parts, "any") || len(parts) > 4 {
		return false
	}
	for len(parts) < 4 {
		parts = append([]string{"any"}, parts...)
	}
	t := tupleOf(arch)
	for i, is := range []string{t.abi, t.libc, t.os, t.cpu} {
		if parts[i] != "any" && parts[i] != is {
			return false
		}
	}
	return true
}

// archRefusal says why a test is not for an architecture, "" when it is. The
// names are those of its Architecture field.
func archRefusal(arch string, names []string) string {
	if slices.Contains(names, "all") {
		return "all is not allowed in its Architecture field"
	}
	negative := 0
	matched := false
	for _, name := range names {
		meant, not := strings.CutPrefix(name, "!")
		if not {
			negative++
		}
		if archMatches(arch, meant) {
			if not {
				return "it is not for the architecture " + arch
			}
			matched = true
		}
	}
	switch {
	case negative > 0 && negative < len(names):
		return "its Architecture field has names both with and without an exclamation mark"
	case negative == 0 && len(names) > 0 && !matched:
		return "it is for other architectures than " + arch
	}
	return ""
}

// debianArch is Debian's name of what uname calls a machine; names of Debian's
// stay as they are.
func debianArch(machine string) string {
	known := map[string]string{
		"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el", "armv7l": "armhf", "armv6l": "armel",
		"i486": "i386", "i586": "i386", "i686": "i386", "loongarch64": "loong64",
	}
	if arch, ok := known[machine]; ok {
		return arch
	}
	return machine
}

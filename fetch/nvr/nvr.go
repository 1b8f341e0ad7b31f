// Package nvr reads the names of builds, and knows which architectures belong
// together.
package nvr

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// NVR is a build's name, version and release. Every part is what a file name and
// one element of an address may hold, so it can be put into either.
type NVR struct{ Name, Version, Release string }

func (n NVR) String() string { return n.Name + "-" + n.Version + "-" + n.Release }

// part is what RPM allows in a name, a version or a release, and nothing that
// means something to a path.
var part = regexp.MustCompile(`^[A-Za-z0-9_+~^%][A-Za-z0-9_.+~^%-]{0,199}$`)

// IsPart tells whether a text can be a name; version and release may not have
// dashes.
func IsPart(s string) bool { return part.MatchString(s) }

// Parse reads name-version-release, or name-epoch:version-release, whose epoch is
// dropped: package servers do not have it in their paths. The name may have
// dashes (COMPAT.md 5.5).
func Parse(s string) (NVR, error) {
	rest, release, ok := cutLast(s)
	name, version, ok2 := cutLast(rest)
	if !ok || !ok2 {
		return NVR{}, fmt.Errorf("cannot read %q as a build: write NAME-VERSION-RELEASE", short(s))
	}
	if epoch, after, ok := strings.Cut(version, ":"); ok {
		if strings.Trim(epoch, "0123456789") != "" {
			return NVR{}, fmt.Errorf("cannot read %q as a build: its epoch is no number", short(s))
		}
		version = after
	}
	n := NVR{name, version, release}
	if !n.Valid() {
		return NVR{}, fmt.Errorf("cannot read %q as a build: a part of it is empty, or has characters that no RPM has", short(s))
	}
	return n, nil
}

// Valid tells whether every part is what it must be.
func (n NVR) Valid() bool {
	return IsPart(n.Name) && IsPart(n.Version) && IsPart(n.Release) && !strings.Contains(n.Version+n.Release, "-")
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func short(s string) string { return s[:min(len(s), 100)] }

var distTag = regexp.MustCompile(`\.fc([0-9]{1,4})(\.|$|[^0-9])`)

// Tag is the Koji tag, and the dist-git branch, that a release's dist tag stands
// for: f42 for 3.fc42; "" when it has none.
func (n NVR) Tag() string {
	all := distTag.FindAllStringSubmatch(n.Release, -1)
	if len(all) == 0 {
		return ""
	}
	return "f" + all[len(all)-1][1]
}

// Arches resolves what a formula asks for to the architectures of packages: base
// architectures become all that belong to them, noarch is added to every list
// that names a binary one, and exclude takes away. all tells that every binary
// architecture is wanted that is not in without (COMPAT.md 1.1, koji).
func Arches(want, exclude []string) (arches []string, all bool, without []string) {
	for _, arch := range want {
		if arch == "all" {
			all = true
			continue
		}
		arches = append(arches, family(arch)...)
	}
	if len(arches) > 0 {
		arches = append(arches, "noarch")
	}
	for _, arch := range exclude {
		without = append(without, family(arch)...)
	}
	slices.Sort(arches)
	arches = slices.DeleteFunc(slices.Compact(arches), func(a string) bool { return slices.Contains(without, a) })
	return arches, all, without
}

// family lists the architectures of packages that a base one stands for, itself
// first.
func family(arch string) []string {
	switch arch {
	case "i386":
		return []string{"i386", "i486", "i586", "i686"}
	case "armhfp":
		return []string{"armhfp", "armv7hl", "armv7hnl"}
	case "arm":
		return []string{"arm", "armv5tel", "armv6hl", "armv7l"}
	case "x86_64":
		return []string{"x86_64", "amd64", "ia32e"}
	}
	return []string{arch}
}

// Base is the architecture that repositories are made for: i386 for i686, armhfp
// for armv7hl; any other is its own.
func Base(arch string) string {
	for _, base := range []string{"i386", "armhfp", "arm", "x86_64"} {
		if slices.Contains(family(base), arch) {
			return base
		}
	}
	return arch
}

// IsReal tells an architecture of machines from all, src and noarch.
func IsReal(arch string) bool {
	return !slices.Contains([]string{"all", "src", "nosrc", "noarch", ""}, arch)
}

package image

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// CloudImage is where a distribution keeps the image that it makes for clouds:
// one with cloud-init inside, for any virtual machine.
type CloudImage struct {
	Distro  string // "fedora"
	Release string // "42"
	Arch    string // as the kernel says it
	// URL is the image's address and Sums that of the file with its checksum. In
	// the last part of each a * stands for what changes with every build; the
	// directory's listing then tells it.
	URL, Sums string
}

// Ref is what `assay image pull` calls it: "fedora:42".
func (c CloudImage) Ref() string { return c.Distro + ":" + c.Release }

// family is one distribution's layout of addresses. In a pattern {release},
// {codename}, {arch} (the kernel's word) and {debian} (dpkg's) are filled in.
type family struct {
	distro string
	// releases with what {codename} is for each; "*" stands for any number.
	releases map[string]string
	archs    []string
	base     string // where a mirror of all this begins
	dir      string
	image    string
	sums     string
}

// families are the layouts of the distributions' own download servers, as their
// documentation and their listings give them.
func families() []family {
	const primary, secondary = "https://dl.fedoraproject.org/pub/fedora/linux", "https://dl.fedoraproject.org/pub/fedora-secondary"
	enterprise := map[string]string{"8": "", "9": "", "10": ""}
	fedora := family{
		distro: "fedora", releases: map[string]string{"*": "", "rawhide": "Rawhide"},
		archs: []string{"x86_64", "aarch64"}, base: primary,
		dir: "releases/{release}/Cloud/{arch}/images", image: "Fedora-Cloud-Base-Generic-{release}-*.{arch}.qcow2",
		sums: "Fedora-Cloud-*CHECKSUM",
	}
	other := fedora
	other.archs, other.base = []string{"ppc64le", "s390x"}, secondary
	return []family{
		fedora, other,
		{
			distro: "centos-stream", releases: map[string]string{"9": "", "10": ""},
			archs: []string{"x86_64", "aarch64", "ppc64le", "s390x"}, base: "https://cloud.centos.org/centos",
			dir: "{release}-stream/{arch}/images", image: "CentOS-Stream-GenericCloud-{release}-latest.{arch}.qcow2",
			sums: "CentOS-Stream-GenericCloud-{release}-latest.{arch}.qcow2.SHA256SUM",
		},
		{
			distro: "almalinux", releases: enterprise,
			archs: []string{"x86_64", "aarch64", "ppc64le", "s390x"}, base: "https://repo.almalinux.org/almalinux",
			dir: "{release}/cloud/{arch}/images", image: "AlmaLinux-{release}-GenericCloud-latest.{arch}.qcow2", sums: "CHECKSUM",
		},
		{
			distro: "rocky", releases: enterprise,
			archs: []string{"x86_64", "aarch64", "ppc64le", "s390x"}, base: "https://dl.rockylinux.org/pub/rocky",
			dir: "{release}/images/{arch}", image: "Rocky-{release}-GenericCloud-Base.latest.{arch}.qcow2",
			sums: "Rocky-{release}-GenericCloud-Base.latest.{arch}.qcow2.CHECKSUM",
		},
		{
			distro: "debian", releases: map[string]string{"11": "bullseye", "12": "bookworm", "13": "trixie"},
			archs: []string{"x86_64", "aarch64", "ppc64le"}, base: "https://cloud.debian.org/images/cloud",
			dir: "{codename}/latest", image: "debian-{release}-generic-{debian}.qcow2", sums: "SHA512SUMS",
		},
		{
			distro: "ubuntu", releases: map[string]string{"22.04": "jammy", "24.04": "noble"},
			archs: []string{"x86_64", "aarch64", "ppc64le", "s390x", "riscv64"}, base: "https://cloud-images.ubuntu.com",
			dir: "{codename}/current", image: "{codename}-server-cloudimg-{debian}.img", sums: "SHA256SUMS",
		},
	}
}

// rawhide is Fedora's release that is in development, which lies elsewhere.
const rawhide = "rawhide"

// at is where a release's image is, below base; "" for the distribution's own.
func (f family) at(release, arch, base string) (CloudImage, error) {
	a, err := ArchitectureOf(arch)
	if err != nil {
		return CloudImage{}, err
	}
	if base == "" {
		base = f.base
	}
	codename, shown := f.releases[release], release
	if release == rawhide {
		f.dir, shown = strings.Replace(f.dir, "releases/", "development/", 1), codename
	}
	fill := func(pattern, release string) string {
		return strings.NewReplacer("{release}", release, "{codename}", codename, "{arch}", a.Name, "{debian}", a.Debian).Replace(pattern)
	}
	dir := strings.TrimSuffix(base, "/") + "/" + fill(f.dir, release) + "/"
	return CloudImage{
		Distro: f.distro, Release: release, Arch: a.Name,
		URL: dir + fill(f.image, shown), Sums: dir + fill(f.sums, shown),
	}, nil
}

// anyNumber is a release of a distribution that numbers them on and on.
var anyNumber = regexp.MustCompile(`^[1-9][0-9]{1,2}$`)

func (f family) has(release string) bool {
	if _, ok := f.releases[release]; ok && release != "*" {
		return true
	}
	_, any := f.releases["*"]
	return any && anyNumber.MatchString(release)
}

// currentFedora are the releases that the catalogue lists by name; others are
// found just as well.
func currentFedora() []string { return []string{"42", "43", "44"} }

// Catalogue lists the cloud images whose addresses are known, for every
// architecture that they are made for.
func Catalogue() []CloudImage {
	var list []CloudImage
	for _, f := range families() {
		var releases []string
		for release := range f.releases {
			if release == "*" {
				releases = append(releases, currentFedora()...)
			} else {
				releases = append(releases, release)
			}
		}
		slices.SortFunc(releases, compareReleases)
		for _, release := range releases {
			for _, arch := range f.archs {
				if one, err := f.at(release, arch, ""); err == nil {
					list = append(list, one)
				}
			}
		}
	}
	return list
}

// compareReleases orders "9" before "10".
func compareReleases(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// Lookup finds an image in the catalogue by "fedora:42", for an architecture by
// any of its names, "" for the host's own. A mirror is the address at which the
// distribution's files begin there, in the distribution's layout; "" for its own.
func Lookup(ref, arch, mirror string) (CloudImage, error) {
	a, err := architectureOr(arch)
	if err != nil {
		return CloudImage{}, err
	}
	if mirror != "" {
		if _, err := webAddress(mirror); err != nil {
			return CloudImage{}, fmt.Errorf("cannot use the mirror: %w", err)
		}
	}
	distro, release, _ := strings.Cut(ref, ":")
	var refs, archs []string
	for _, f := range families() {
		refs = append(refs, f.distro+":RELEASE")
		if f.distro != distro || !f.has(release) {
			continue
		}
		if slices.Contains(f.archs, a.Name) {
			return f.at(release, a.Name, mirror)
		}
		archs = append(archs, f.archs...)
	}
	if len(archs) > 0 {
		return CloudImage{}, fmt.Errorf("cannot find %s for %s: it is made for %s", ref, a.Name, strings.Join(archs, ", "))
	}
	return CloudImage{}, fmt.Errorf("cannot find a cloud image of %q: write one of %s (assay image pull --list shows them), or an address with its checksum", ref, strings.Join(unique(refs), ", "))
}

// webAddress refuses what is not an address to download from.
func webAddress(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no address", text)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address to download from: it must begin with https:// or http://", u.Redacted())
	}
	return u, nil
}

// newest picks, of the names in a directory's listing, the one that a pattern
// with a * fits: of several the one with the highest numbers.
func newest(listing []byte, pattern string) (string, error) {
	before, after, _ := strings.Cut(pattern, "*")
	var best string
	for _, match := range listed.FindAllSubmatch(listing, -1) {
		name, err := url.PathUnescape(string(match[1]))
		fits := err == nil && len(name) > len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
		if fits && !strings.ContainsAny(name, "/?#\\") && (best == "" || compareNumbers(name, best) > 0) {
			best = name
		}
	}
	if best == "" {
		return "", errors.New("nothing in the directory's listing fits " + pattern)
	}
	return best, nil
}

// listed is a link in a web server's listing of a directory.
var listed = regexp.MustCompile(`(?i)href="(?:\./)?([^"]{1,255})"`)

var digits = regexp.MustCompile(`[0-9]+`)

// compareNumbers compares names by the numbers in them, from the left.
func compareNumbers(a, b string) int {
	return slices.CompareFunc(digits.FindAllString(a, -1), digits.FindAllString(b, -1), func(x, y string) int {
		return compareReleases(strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0"))
	})
}

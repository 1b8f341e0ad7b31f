package image

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// The environment follows the item, as it did in Taskotron (COMPAT.md, 1.3,
// "Environment devising"): what was built for a release is tested on it.

// maxItem bounds what is looked through; names of builds have far less.
const maxItem = 512

// trail is a mark of a release in a name. The pattern's first group is the
// release, where release does not say it.
type trail struct {
	pattern *regexp.Regexp
	distro  string // "el" for what is built for all of Enterprise Linux's family
	release string
}

// distTags are the marks in a build's name: RPM's dist tag, and what Debian and
// Ubuntu append to versions for one release.
func distTags() []trail {
	return []trail{
		{pattern: regexp.MustCompile(`\.fc([1-9][0-9]{0,2})(?:[^0-9]|$)`), distro: "fedora"},
		{pattern: regexp.MustCompile(`\.module_f([1-9][0-9]{0,2})(?:[^0-9]|$)`), distro: "fedora"},
		{pattern: regexp.MustCompile(`\.eln[0-9]`), distro: "fedora", release: rawhide},
		{pattern: regexp.MustCompile(`[.+]el([1-9][0-9]?)(?:[^0-9a-z]|$)`), distro: "el"},
		{pattern: regexp.MustCompile(`[.+~]deb([1-9][0-9]?)(?:[^0-9]|$)`), distro: "debian"},
		{pattern: regexp.MustCompile(`[~+]bpo([1-9][0-9]?)(?:[^0-9]|$)`), distro: "debian"},
		{pattern: regexp.MustCompile(`ubuntu(?:[0-9]{1,3}[.~])?([1-9][0-9]\.(?:04|10))(?:[^0-9]|$)`), distro: "ubuntu"},
		{pattern: regexp.MustCompile(`~([1-9][0-9]\.(?:04|10))(?:[^0-9]|$)`), distro: "ubuntu"},
	}
}

// tags are the names of Koji's tags and targets, and of suites. They begin with
// the release; "dist-" came before it once.
func tags() []trail {
	list := []trail{
		{pattern: regexp.MustCompile(`^(?:dist-)?f([1-9][0-9]{0,2})(?:-|$)`), distro: "fedora"},
		{pattern: regexp.MustCompile(`^(?:dist-)?rawhide(?:-|$)`), distro: "fedora", release: rawhide},
		{pattern: regexp.MustCompile(`^eln(?:-|$)`), distro: "fedora", release: rawhide},
		{pattern: regexp.MustCompile(`^(?:dist-)?(?:epel|el)-?([1-9][0-9]?)(?:[-._]|$)`), distro: "el"},
		{pattern: regexp.MustCompile(`^(?:rhel|rhaos|rhba)-([1-9][0-9]?)(?:[-.]|$)`), distro: "el"},
		{pattern: regexp.MustCompile(`^c([1-9][0-9]?)s(?:-|$)`), distro: "centos-stream"},
		{pattern: regexp.MustCompile(`^centos-stream-?([1-9][0-9]?)(?:-|$)`), distro: "centos-stream"},
		{pattern: regexp.MustCompile(`^(?:almalinux|al)-?([1-9][0-9]?)(?:[-.]|$)`), distro: "almalinux"},
		{pattern: regexp.MustCompile(`^rocky-?([1-9][0-9]?)(?:[-.]|$)`), distro: "rocky"},
		{pattern: regexp.MustCompile(`^debian-?([1-9][0-9]?)(?:-|$)`), distro: "debian"},
		{pattern: regexp.MustCompile(`^ubuntu-?([1-9][0-9]\.(?:04|10))(?:-|$)`), distro: "ubuntu"},
	}
	for _, r := range releases() {
		if r.Codename != "" {
			list = append(list, trail{pattern: regexp.MustCompile(`^` + r.Codename + `(?:-|$)`), distro: r.Distro, release: r.Version})
		}
	}
	return list
}

// Follow tells which distribution's release an item is for, by the mark in its
// own name ("gzip-1.13-3.fc42", "hello_2.10-3+deb12u1"), else by the tag that it
// is in or was built for ("f42-candidate", "epel9"); an item may itself be a tag.
// ok is false when neither says, as for a package without a dist tag.
//
// What is for Enterprise Linux in general (".el9", "epel9") is for CentOS Stream,
// where the next version of it is made, up to version 8, whose Stream has ended:
// that is for AlmaLinux. A vendor's own mark behind it (".el9.rocky", ".alma")
// says more. Store.For takes another of the family when there is no image of it.
func Follow(item, tag string) (distro, release string, ok bool) {
	if len(item) > maxItem || len(tag) > maxItem {
		return "", "", false
	}
	if distro, release, ok = lastMark(item); ok {
		return distro, release, true
	}
	for _, name := range []string{tag, item} {
		for _, t := range tags() {
			if m := t.pattern.FindStringSubmatch(name); m != nil {
				return t.means(m, name)
			}
		}
	}
	return lastMark(tag)
}

// lastMark finds the mark that is farthest to the right: a name may have one too.
func lastMark(item string) (distro, release string, ok bool) {
	at := -1
	for _, t := range distTags() {
		found := t.pattern.FindAllStringSubmatchIndex(item, -1)
		if len(found) == 0 || found[len(found)-1][0] <= at {
			continue
		}
		at = found[len(found)-1][0]
		distro, release, ok = t.means(t.pattern.FindStringSubmatch(item[at:]), item[at:])
	}
	return distro, release, ok
}

// means is what a match says; rest is the name from there on.
func (t trail) means(match []string, rest string) (distro, release string, ok bool) {
	distro, release = t.distro, t.release
	if release == "" {
		release = match[1]
	}
	if distro != "el" {
		return distro, release, true
	}
	switch {
	case strings.Contains(rest, "rocky"):
		return "rocky", release, true
	case strings.Contains(rest, ".alma"), release == "8":
		return "almalinux", release, true
	}
	return "centos-stream", release, true
}

// relatives are the distributions whose same release serves as well.
func relatives(distro string) []string {
	enterprise := []string{"centos-stream", "almalinux", "rocky", "rhel", "oraclelinux"}
	if slices.Contains(enterprise, distro) {
		return enterprise
	}
	return nil
}

// For finds the image that serves a distribution's release on an architecture,
// "" for the host's own: one of the same distribution, else of its family; of
// several one with our agent inside, else the newest. The error is an
// assay.ErrNotFound when there is none.
func (s Store) For(distro, release, arch string) (Image, error) {
	a, err := architectureOr(arch)
	if err != nil {
		return Image{}, err
	}
	images, broken := s.List()
	for _, candidate := range append([]string{distro}, relatives(distro)...) {
		fit := slices.DeleteFunc(slices.Clone(images), func(i Image) bool {
			return i.Distro != candidate || i.Release != release || i.Arch != a.Name
		})
		if len(fit) > 0 {
			return slices.MinFunc(fit, better), nil
		}
	}
	// One that cannot be used may have been it.
	missing := fmt.Errorf("cannot find an image of %s %s for %s: %w: %s", distro, release, a.Name, assay.ErrNotFound, cure(NameFor(distro, release, a.Name)))
	return Image{}, errors.Join(missing, broken)
}

// better orders images that serve the same: those that boot quicker first, then
// the newer, then by name, so that the answer is always the same.
func better(a, b Image) int {
	if a.Prepared != b.Prepared {
		if a.Prepared {
			return -1
		}
		return 1
	}
	if c := b.Built.Compare(a.Built); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

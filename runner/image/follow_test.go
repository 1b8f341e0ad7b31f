package image

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
)

func TestFollow(t *testing.T) {
	rows := 0
	for line := range strings.Lines(golden(t, "follow.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var row [4]string
		for i, word := range strings.Fields(line) {
			if word != "-" {
				row[i] = word
			}
		}
		distro, release, ok := Follow(row[0], row[1])
		if distro != row[2] || release != row[3] || ok != (row[2] != "") {
			t.Errorf("%s%q %q %t", line, distro, release, ok)
		}
		rows++
	}
	if rows < 50 {
		t.Errorf("only %d rows", rows)
	}
	if distro, _, ok := Follow(strings.Repeat("x", maxItem)+".fc42", ""); ok {
		t.Errorf("a name that goes on and on is of %s", distro)
	}
}

func FuzzFollowItem(f *testing.F) {
	f.Add("gzip-1.13-3.fc42", "f42-build")
	f.Add("hello_2.10-0ubuntu0.22.04.1", "epel9")
	f.Fuzz(func(t *testing.T, item, tag string) {
		distro, release, ok := Follow(item, tag)
		if ok != (distro != "") || ok && (release == "" || checkName(NameFor(distro, release, "")) != nil) {
			t.Errorf("%q %q: %q %q %t", item, tag, distro, release, ok)
		}
	})
}

func TestFor(t *testing.T) {
	s := Store{Root: t.TempDir()}
	now := time.Now().UTC().Truncate(time.Second)
	image := func(name, distro, release, arch string, prepared bool, age time.Duration) {
		put(t, s, name, func(f *file) {
			f.Distro, f.Release, f.Arch, f.Prepared, f.Built = distro, release, arch, prepared, now.Add(-age)
			if !prepared {
				f.Boot = BootBIOS
			}
		})
	}
	image("debian-12", "debian", "12", "x86_64", true, 9*time.Hour)
	image("cloud", "debian", "12", "x86_64", false, time.Hour)
	image("fedora-old", "fedora", "42", "x86_64", false, 2*time.Hour)
	image("fedora-new", "fedora", "42", "x86_64", false, time.Hour)
	image("arm", "fedora", "42", "aarch64", false, 0)
	image("rocky-9", "rocky", "9", "x86_64", false, 0)
	image("alma", "almalinux", "9", "x86_64", false, 0)
	put(t, s, "broken", func(f *file) { f.Version = 9 })
	for _, test := range []struct{ distro, release, arch, want string }{
		{"debian", "12", "amd64", "debian-12"},
		{"fedora", "42", "x86_64", "fedora-new"},
		{"fedora", "42", "arm64", "arm"},
		{"rocky", "9", "x86_64", "rocky-9"},
		{"centos-stream", "9", "x86_64", "alma"},
	} {
		if got, err := s.For(test.distro, test.release, test.arch); err != nil || got.Name != test.want {
			t.Errorf("%+v: %s, %v", test, got.Name, err)
		}
	}
	for _, test := range []struct{ distro, release, arch, want string }{
		{"fedora", "43", "x86_64", "assay image pull fedora:43"},
		{"fedora", "42", "s390x", "assay image pull fedora:42"},
		{"debian", "13", "x86_64", "assay image build debian-13"},
		{"rocky", "10", "x86_64", "assay image pull rocky:10"},
		{"debian", "12", "s390x", "broken"},
	} {
		if _, err := s.For(test.distro, test.release, test.arch); !errors.Is(err, assay.ErrNotFound) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if _, err := s.For("debian", "12", "z80"); err == nil || errors.Is(err, assay.ErrNotFound) {
		t.Errorf("an architecture that there is not: %v", err)
	}
}

func TestNamesOfImages(t *testing.T) {
	own, err := HostArchitecture()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range Architectures() {
		name := NameFor("debian", "12", a.Debian)
		base, arch := splitName(name)
		if a == own && (name != "debian-12" || arch != "") || a != own && (name != "debian-12."+a.Name || arch != a.Name) || base != "debian-12" {
			t.Errorf("%s: %q is %q and %q", a.Name, name, base, arch)
		}
		if err := checkName(name); err != nil {
			t.Error(err)
		}
		for _, called := range []string{a.Name, a.Debian, a.Go} {
			if got, err := ArchitectureOf(called); got != a || err != nil {
				t.Errorf("%s is %+v, %v", called, got, err)
			}
		}
	}
	if base, arch := splitName("ubuntu-24.04"); base != "ubuntu-24.04" || arch != "" {
		t.Errorf("ubuntu-24.04 is %q and %q", base, arch)
	}
	for name, want := range map[string]string{
		"/x/Fedora-42.QCOW2": "fedora-42", "disk.raw.xz": "disk", "x.y": "x.y", "debian-12.img": "debian-12",
	} {
		if got := NameOf(name, "", "", ""); got != want {
			t.Errorf("%s is named %q", name, got)
		}
	}
	if got := NameOf(filepath.Join("x", "y"), "fedora", "42", ""); got != "fedora-42" {
		t.Errorf("named %q", got)
	}
}

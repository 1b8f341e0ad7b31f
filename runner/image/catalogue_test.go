package image

import (
	"fmt"
	"path"
	"strings"
	"testing"
)

func TestCatalogue(t *testing.T) {
	addresses := map[string]string{}
	for _, c := range Catalogue() {
		key := c.Ref() + " " + c.Arch
		if addresses[key] != "" {
			t.Errorf("%s is there twice", key)
		}
		addresses[key] = c.URL + "\n" + c.Sums
		for _, address := range []string{c.URL, c.Sums} {
			if _, err := webAddress(address); err != nil || strings.ContainsAny(address, "{} ") || !strings.HasPrefix(address, "https://") || strings.Contains(path.Dir(address), "*") {
				t.Errorf("%s: %s, %v", key, address, err)
			}
		}
		if found, err := Lookup(c.Ref(), c.Arch, ""); err != nil || found != c {
			t.Errorf("%s is found as %+v, %v", key, found, err)
		}
		if err := checkName(NameFor(c.Distro, c.Release, c.Arch)); err != nil {
			t.Error(err)
		}
	}
	for key, want := range map[string]string{
		"fedora:42 x86_64": `https://dl.fedoraproject.org/pub/fedora/linux/releases/42/Cloud/x86_64/images/Fedora-Cloud-Base-Generic-42-*.x86_64.qcow2
https://dl.fedoraproject.org/pub/fedora/linux/releases/42/Cloud/x86_64/images/Fedora-Cloud-*CHECKSUM`,
		"fedora:43 s390x": `https://dl.fedoraproject.org/pub/fedora-secondary/releases/43/Cloud/s390x/images/Fedora-Cloud-Base-Generic-43-*.s390x.qcow2
https://dl.fedoraproject.org/pub/fedora-secondary/releases/43/Cloud/s390x/images/Fedora-Cloud-*CHECKSUM`,
		"fedora:rawhide aarch64": `https://dl.fedoraproject.org/pub/fedora/linux/development/rawhide/Cloud/aarch64/images/Fedora-Cloud-Base-Generic-Rawhide-*.aarch64.qcow2
https://dl.fedoraproject.org/pub/fedora/linux/development/rawhide/Cloud/aarch64/images/Fedora-Cloud-*CHECKSUM`,
		"centos-stream:10 x86_64": `https://cloud.centos.org/centos/10-stream/x86_64/images/CentOS-Stream-GenericCloud-10-latest.x86_64.qcow2
https://cloud.centos.org/centos/10-stream/x86_64/images/CentOS-Stream-GenericCloud-10-latest.x86_64.qcow2.SHA256SUM`,
		"almalinux:9 aarch64": `https://repo.almalinux.org/almalinux/9/cloud/aarch64/images/AlmaLinux-9-GenericCloud-latest.aarch64.qcow2
https://repo.almalinux.org/almalinux/9/cloud/aarch64/images/CHECKSUM`,
		"rocky:9 x86_64": `https://dl.rockylinux.org/pub/rocky/9/images/x86_64/Rocky-9-GenericCloud-Base.latest.x86_64.qcow2
https://dl.rockylinux.org/pub/rocky/9/images/x86_64/Rocky-9-GenericCloud-Base.latest.x86_64.qcow2.CHECKSUM`,
		"debian:12 aarch64": `https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-arm64.qcow2
https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS`,
		"ubuntu:24.04 riscv64": `https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-riscv64.img
https://cloud-images.ubuntu.com/noble/current/SHA256SUMS`,
	} {
		if addresses[key] != want {
			t.Errorf("%s is at\n%s\nwant\n%s", key, addresses[key], want)
		}
	}
}

func TestLookup(t *testing.T) {
	got, err := Lookup("debian:12", "amd64", "http://mirror.example/cloud/")
	if err != nil || got.URL != "http://mirror.example/cloud/bookworm/latest/debian-12-generic-amd64.qcow2" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Lookup("fedora:57", "x86_64", ""); err != nil {
		t.Errorf("a release to come: %v", err)
	}
	for want, args := range map[string][3]string{
		"fedora:RELEASE":      {"windows:11"},
		"debian:RELEASE":      {"fedora:../../etc"},
		"rocky:RELEASE":       {"fedora:*"},
		"ubuntu:RELEASE":      {"fedora"},
		"made for x86_64":     {"debian:12", "riscv64"},
		"choose one of":       {"debian:12", "z80"},
		"begin with https://": {"debian:12", "", "/srv/mirror"},
	} {
		if got, err := Lookup(args[0], args[1], args[2]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", args, got, err)
		}
	}
}

func TestNewest(t *testing.T) {
	listing := `<a href="x-1.9.img">x</a> <A HREF="./x-1.10.img">y</A> <a href="x-1.10.img.sig">z</a>
<a href="x-%2e%2e%2fetc-9.img">w</a> <a href="/x-99.img">v</a> <a href="x-.img">u</a> <a href="x-98%ZZ.img">`
	if got, err := newest([]byte(listing), "x-*.img"); got != "x-1.10.img" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := newest([]byte(listing), "y-*.img"); err == nil {
		t.Errorf("got %q", got)
	}
}

func FuzzNewest(f *testing.F) {
	f.Add([]byte(`<a href="x-1.9.img">x</a><a href="x-01.img">`))
	f.Fuzz(func(t *testing.T, listing []byte) {
		if got, err := newest(listing, "x-*.img"); err == nil && (strings.ContainsAny(got, "/?#\\") || !strings.HasPrefix(got, "x-")) {
			t.Errorf("got %q", got)
		}
	})
}

func TestChecksums(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	long := strings.Repeat("c", 128)
	for name, test := range map[string]struct {
		text string
		only bool
		want checksum
	}{
		"sha256sum":            {a + "  disk.img\n" + b + "  other.img\n", false, checksum{"sha256", a}},
		"binary":               {a + " *disk.img\n", false, checksum{"sha256", a}},
		"in upper case":        {strings.ToUpper(a) + "  disk.img\n", false, checksum{"sha256", a}},
		"in a directory":       {a + "  ./disk.img\n", false, checksum{"sha256", a}},
		"sha512sum":            {long + "  disk.img\n", false, checksum{"sha512", long}},
		"bsd":                  {"SHA256 (disk.img) = " + a + "\n", false, checksum{"sha256", a}},
		"signed":               {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# disk.img: 5 bytes\nSHA256 (disk.img) = " + a + "\n-----BEGIN PGP SIGNATURE-----\nabc\n", false, checksum{"sha256", a}},
		"both kinds":           {"SHA256 (disk.img) = " + a + "\nSHA512 (disk.img) = " + long + "\n", false, checksum{"sha512", long}},
		"twice the same":       {a + "  disk.img\nSHA256 (disk.img) = " + a + "\n", false, checksum{"sha256", a}},
		"the only one":         {"SHA256 (disk-20260101.img) = " + a + "\n", true, checksum{"sha256", a}},
		"with Windows's ends":  {a + "  disk.img\r\n", false, checksum{"sha256", a}},
		"another name":         {a + "  disk.img.xz\n", false, checksum{}},
		"two that differ":      {a + "  disk.img\n" + b + "  disk.img\n", false, checksum{}},
		"two, only one wanted": {a + "  x\n" + b + "  y\n", true, checksum{}},
		"wrong kind":           {"SHA512 (disk.img) = " + a + "\n", false, checksum{}},
		"md5":                  {strings.Repeat("a", 32) + "  disk.img\n", false, checksum{}},
		"no digits":            {strings.Repeat("z", 64) + "  disk.img\n", false, checksum{}},
		"empty":                {"", true, checksum{}},
		"a long line":          {strings.Repeat("x", 1<<17) + "\n" + a + "  disk.img\n", false, checksum{}},
	} {
		got, err := findChecksum([]byte(test.text), "disk.img", test.only)
		if got != test.want || (err == nil) != (test.want.hex != "") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzFindChecksum(f *testing.F) {
	f.Add([]byte("SHA256 (disk.img) = "+strings.Repeat("a", 64)+"\n"), true)
	f.Add(fmt.Appendf(nil, "%s  disk.img\n", strings.Repeat("b", 128)), false)
	f.Fuzz(func(t *testing.T, text []byte, only bool) {
		if got, err := findChecksum(text, "disk.img", only); err == nil {
			if again, err := parseChecksum(got.hex); err != nil || again != got {
				t.Errorf("got %+v", got)
			}
		}
	})
}

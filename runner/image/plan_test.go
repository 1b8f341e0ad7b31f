package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
)

func golden(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSources(t *testing.T) {
	const (
		debian = "deb [signed-by=KEYS] http://mirror.example/debian/ "
		ubuntu = "deb [signed-by=KEYS] http://mirror.example/ubuntu/ "
	)
	tests := []struct {
		image, host string
		want        []string // nil for an error
	}{
		{"debian-12", "debian", []string{
			debian + "bookworm main", debian + "bookworm-updates main",
			"deb [signed-by=KEYS] http://mirror.example/debian-security/ bookworm-security main",
		}},
		{"debian-bookworm", "debian", []string{
			debian + "bookworm main", debian + "bookworm-updates main",
			"deb [signed-by=KEYS] http://mirror.example/debian-security/ bookworm-security main",
		}},
		{"debian-13", "debian", []string{
			debian + "trixie main", debian + "trixie-updates main",
			"deb [signed-by=KEYS] http://mirror.example/debian-security/ trixie-security main",
		}},
		{"debian-sid", "debian", []string{debian + "sid main"}},
		{"ubuntu-24.04", "ubuntu", []string{
			ubuntu + "noble main universe", ubuntu + "noble-updates main universe",
			"deb [signed-by=KEYS] http://mirror.example/ubuntu-security/ noble-security main universe",
		}},
		{"ubuntu-24.04", "debian", nil},
		{"debian-12", "ubuntu", nil},
	}
	for _, test := range tests {
		t.Run(test.image+" on "+test.host, func(t *testing.T) {
			release, err := parseRelease(test.image)
			if err != nil {
				t.Fatal(err)
			}
			targets := parseTargets(golden(t, "indextargets-"+test.host+".txt"))
			got, err := release.sources(targets, "KEYS")
			if (err != nil) != (test.want == nil) || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, test.want)
			}
		})
	}
}

func TestHostileTargets(t *testing.T) {
	for _, uri := range []string{"http://x y/", "http://x/]", "ftp://x/", "", "http://x/\"", "cdrom:[x]/"} {
		text := "Created-By: Packages\nOrigin: Debian\nCodename: bookworm\nComponent: main\nRepo-URI: " + uri + "\n"
		if got := parseTargets(text); len(got) != 0 {
			t.Errorf("%q was taken: %v", uri, got)
		}
	}
}

func FuzzParseTargets(f *testing.F) {
	for _, name := range []string{"indextargets-debian.txt", "indextargets-ubuntu.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range releases() {
			lines, err := r.sources(parseTargets(text), "KEYS")
			for _, line := range lines {
				if words := strings.Fields(line); err != nil || len(words) < 5 || strings.ContainsAny(line, "\r\n") {
					t.Errorf("%q came out, %v", line, err)
				}
			}
		}
	})
}

func TestMirror(t *testing.T) {
	release, err := parseRelease("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	got, err := release.mirrorSources("https://mirror.example/debian", "KEYS")
	want := []string{
		"deb [signed-by=KEYS] https://mirror.example/debian bookworm main",
		"deb [signed-by=KEYS] https://mirror.example/debian bookworm-updates main",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"mirror.example", "https://a b", "https://a\ndeb x"} {
		if got, err := release.mirrorSources(bad, "KEYS"); err == nil {
			t.Errorf("%q gave %q", bad, got)
		}
	}
}

func TestReleaseNames(t *testing.T) {
	for _, name := range Names() {
		if _, err := parseRelease(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "debian", "debian-", "fedora-1", "debian-12-x"} {
		if _, err := parseRelease(name); err == nil || !strings.Contains(err.Error(), "debian-12") {
			t.Errorf("%q: the error does not say what there is: %v", name, err)
		}
	}
}

func TestBootstrapArguments(t *testing.T) {
	plan := root{
		release: release{"debian", "12", "bookworm"}, arch: Architecture{Name: "x86_64", Debian: "amd64", Console: "ttyS0"},
		packages: []string{"kmod", "udev"}, sources: []string{"deb a", "deb b"},
	}
	want := []string{
		"--verbose", "--mode=unshare", "--variant=minbase", "--format=tar", "--architectures=amd64",
		"--include=kmod,udev", "--dpkgopt=force-unsafe-io", "bookworm", "/x.tar", "deb a", "deb b",
	}
	if got := plan.bootstrapArgs("/x.tar", false); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	want[1] = "--mode=root"
	if got := plan.bootstrapArgs("/x.tar", true); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	other := plan
	other.packages = []string{"kmod"}
	if plan.key() == other.key() || len(plan.key()) != 16 {
		t.Errorf("keys %q and %q", plan.key(), other.key())
	}
}

func TestPackageNames(t *testing.T) {
	if err := checkPackages([]string{"g++", "libc6", "0ad", "python3.11"}, false); err != nil {
		t.Error(err)
	}
	if err := checkPackages([]string{"python3-PyYAML", "java_cup", "gcc-c++"}, true); err != nil {
		t.Error(err)
	}
	if checkPackages([]string{"--nogpgcheck"}, true) == nil || checkPackages([]string{"a/b"}, true) == nil || checkPackages([]string{"@core"}, true) == nil {
		t.Error("options, paths or groups were taken")
	}
	for _, bad := range []string{"", "x", "-o", "a,b", "a b", "a/bookworm", "A1", "--include", "+x", "?name(x)", "a;b"} {
		if checkPackages([]string{bad}, false) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestProgressOfBootstrap(t *testing.T) {
	var now Progress
	var got []string
	for line := range strings.Lines(golden(t, "bootstrap.log")) {
		next := follow(now, strings.TrimSpace(line))
		if next != now {
			got = append(got, fmt.Sprintf("%s %d/%d", next.Stage, next.Done, next.Total))
		}
		now = next
	}
	want := []string{
		"reading the package lists 0/0",
		"downloading packages 0/3", "downloading packages 1/3", "downloading packages 2/3", "downloading packages 3/3",
		"installing packages 1/6", "installing packages 2/6", "installing packages 3/6",
		"installing packages 4/6", "installing packages 5/6", "installing packages 6/6",
		"downloading packages 0/1", "downloading packages 1/1",
		"installing packages 1/2", "installing packages 2/2",
		"packing the root file system 0/0",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n%s", strings.Join(got, "\n"))
	}
}

func FuzzFollow(f *testing.F) {
	f.Add("0 upgraded, 3 newly installed, 0 to remove\nGet:1\nUnpacking x\nSetting up x")
	f.Add(" newly installed, \nUnpacking x")
	f.Fuzz(func(t *testing.T, text string) {
		var now Progress
		for line := range strings.Lines(text) {
			if now = follow(now, line); now.Done < 0 || now.Total > 0 && now.Done > now.Total {
				t.Fatalf("%q gave %+v", line, now)
			}
		}
	})
}

const dep = `kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/virtio-console.ko:
kernel/fs/other/other.ko: kernel/lib/x.ko
`

func TestNeededModules(t *testing.T) {
	got := needed(dep, []string{"virtio_pci", "ext4", "virtio_blk", "virtio_console"})
	want := []string{
		"kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko",
		"kernel/drivers/virtio/virtio_pci_modern_dev.ko", "kernel/drivers/virtio/virtio_pci.ko",
		"kernel/drivers/block/virtio_blk.ko.xz", "kernel/drivers/char/virtio-console.ko",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// writeTar writes an archive of plain files as mmdebstrap makes it.
func writeTar(t *testing.T, path string, files map[string]string) {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, name := range []string{"./", "./boot/"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		header := &tar.Header{Name: "./" + name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, buffer.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func bootRoot() map[string]string {
	return map[string]string{
		"boot/vmlinuz-6.1": "the kernel",
		"boot/config-6.1":  "not the kernel",
		"usr/lib/modules/6.1/modules.dep": "kernel/a/virtio_blk.ko: kernel/a/virtio.ko\n" +
			"kernel/a/virtio.ko:\nkernel/a/ext4.ko.gz:\n",
		"usr/lib/modules/6.1/kernel/a/virtio.ko":     "virtio",
		"usr/lib/modules/6.1/kernel/a/virtio_blk.ko": "blk",
		// gzip of "ext4"
		"usr/lib/modules/6.1/kernel/a/ext4.ko.gz":  "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\xad\x28\x31\x01\x00\x64\x5d\x22\x45\x04\x00\x00\x00",
		"usr/lib/modules/6.1/kernel/a/unwanted.ko": "no",
	}
}

func TestReadBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.tar")
	files := bootRoot()
	delete(files, "usr/lib/modules/6.1/kernel/a/ext4.ko.gz")
	files["usr/lib/modules/6.1/modules.dep"] = strings.ReplaceAll(files["usr/lib/modules/6.1/modules.dep"], "ext4.ko.gz", "x.ko")
	writeTar(t, path, files)
	got, err := readBoot(t.Context(), path)
	want := bootFiles{
		kernel: []byte("the kernel"), release: "6.1",
		modules: []module{{"virtio", []byte("virtio")}, {"virtio_blk", []byte("blk")}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	delete(files, "boot/vmlinuz-6.1")
	writeTar(t, path, files)
	if _, err := readBoot(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no kernel") {
		t.Errorf("without a kernel: %v", err)
	}
	if err := os.WriteFile(path, []byte("not an archive at all, but long enough to be looked at"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readBoot(t.Context(), path); err == nil {
		t.Error("garbage was read")
	}
}

func TestExpand(t *testing.T) {
	packed := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\xad\x28\x31\x01\x00")
	if data, err := expand(t.Context(), "a.ko", packed); err != nil || !bytes.Equal(data, packed) {
		t.Errorf("a plain module became %q, %v", data, err)
	}
	if data, err := expand(t.Context(), "a.ko.gz", packed); err == nil {
		t.Errorf("half a module became %q", data)
	}
}

func TestInitrd(t *testing.T) {
	var buffer bytes.Buffer
	err := writeInitrd(&buffer, []byte("the agent"), []module{{"virtio", []byte("1")}, {"ext4", []byte("22")}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := cpio.NewReader(&buffer); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = fmt.Sprintf("%o %s", header.Mode, data)
	}
	want := map[string]string{
		"dev": "40755 ", "proc": "40755 ", "sys": "40755 ", "root": "40755 ", "lib": "40755 ",
		"init": "100755 the agent", "lib/virtio.ko": "100644 1", "lib/ext4.ko": "100644 22",
		"modules": "100644 /lib/virtio.ko\n/lib/ext4.ko\n",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestOverlay(t *testing.T) {
	var buffer bytes.Buffer
	built := time.Unix(1700000000, 0)
	if err := writeOverlay(&buffer, overlay([]byte("the agent"), built), built); err != nil {
		t.Fatal(err)
	}
	got := map[string]*tar.Header{}
	text := map[string]string{}
	for r := tar.NewReader(&buffer); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got[header.Name] != nil || header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(built) {
			t.Errorf("%s comes twice, or is not root's: %+v", header.Name, header)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name], text[header.Name] = header, string(data)
	}
	agent := got["./usr/local/sbin/assay-agent"]
	if agent == nil || agent.Mode != 0o755 || text[agent.Name] != "the agent" {
		t.Errorf("the agent is %+v", agent)
	}
	wanted := got["./etc/systemd/system/sysinit.target.wants/assay-agent.service"]
	if wanted == nil || wanted.Linkname != "../assay-agent.service" || !strings.Contains(text["./etc/systemd/system/assay-agent.service"], "ExecStart=/usr/local/sbin/assay-agent\n") {
		t.Errorf("the agent is not started: %+v", wanted)
	}
	if masked := got["./etc/systemd/system/apt-daily.timer"]; masked == nil || masked.Typeflag != tar.TypeSymlink || masked.Linkname != "/dev/null" {
		t.Errorf("apt-daily.timer is %+v", masked)
	}
	if id, ok := text["./etc/machine-id"]; !ok || id != "" {
		t.Errorf("the machine id is %q, %t", id, ok)
	}
	if text["./etc/.updated"] != "TIMESTAMP_NSEC=1700000000000000000\n" {
		t.Errorf("/etc/.updated is %q", text["./etc/.updated"])
	}
}

package image

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/assay-ci/assay"
)

// put makes an image as a build leaves it, with image.json changed by edit.
func put(t *testing.T, s Store, name string, edit func(*file)) {
	t.Helper()
	f := file{
		Version: 2, Boot: BootDirect, Prepared: true, Name: name, Distro: "debian", Release: "12", Arch: "x86_64", Digest: "d",
		Kernel: "vmlinuz", Initrd: "initrd.img", Disk: "disk.qcow2", Cmdline: "quiet",
	}
	if edit != nil {
		edit(&f)
	}
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.Root, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for part, data := range map[string]string{"vmlinuz": "k", "initrd.img": "ii", "disk.qcow2": "ddd", describes: string(text)} {
		if err := os.WriteFile(filepath.Join(dir, part), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	s := Store{Root: t.TempDir()}
	put(t, s, "debian-12", nil)
	got, err := s.Find("debian-12")
	dir := filepath.Join(s.Root, "debian-12")
	want := Image{
		Name: "debian-12", Dir: dir, Distro: "debian", Release: "12", Arch: "x86_64", Digest: "d", Boot: BootDirect, Prepared: true,
		Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd.img"),
		Disk: filepath.Join(dir, "disk.qcow2"), Cmdline: "quiet", Size: 6,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.Find("debian-13"); !errors.Is(err, assay.ErrNotFound) || !strings.Contains(err.Error(), "assay image build debian-13") {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestUnusableImages(t *testing.T) {
	s := Store{Root: t.TempDir()}
	put(t, s, "newer", func(f *file) { f.Version = 3 })
	put(t, s, "older", func(f *file) { f.Version = 0 })
	put(t, s, "outside", func(f *file) { f.Disk = "../../etc/shadow" })
	put(t, s, "nothing", func(f *file) { f.Kernel = "" })
	put(t, s, "half", func(f *file) { f.Initrd = "gone.img" })
	put(t, s, "damaged", nil)
	if err := os.WriteFile(filepath.Join(s.Root, "damaged", describes), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	put(t, s, "good", nil)
	for _, name := range []string{"newer", "older", "outside", "nothing", "half", "damaged"} {
		if got, err := s.Find(name); err == nil || !strings.Contains(err.Error(), "build it again") || errors.Is(err, assay.ErrNotFound) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	images, err := s.List()
	if len(images) != 1 || images[0].Name != "good" || err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("listed %+v, %v", images, err)
	}
}

func TestHostileNames(t *testing.T) {
	s := Store{Root: t.TempDir()}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".cache", "A", "a b", "x" + partMark + "1", strings.Repeat("x", 65)} {
		_, find := s.Find(name)
		_, build := s.Build(t.Context(), BuildOptions{Name: name})
		for _, err := range []error{find, build, s.Remove(t.Context(), name)} {
			if err == nil || !strings.Contains(err.Error(), "name") {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

func TestListAndRemove(t *testing.T) {
	s := Store{Root: t.TempDir()}
	if images, err := s.List(); len(images) != 0 || err != nil {
		t.Errorf("an empty store has %v, %v", images, err)
	}
	put(t, s, "debian-12", nil)
	put(t, s, "debian-13", nil)
	put(t, s, "debian-12"+partMark+"1", nil) // a build at work
	if err := s.Remove(t.Context(), "debian-12"); err != nil {
		t.Fatal(err)
	}
	images, err := s.List()
	if len(images) != 1 || images[0].Name != "debian-13" || err != nil {
		t.Errorf("listed %+v, %v", images, err)
	}
	if err := s.Remove(t.Context(), "debian-12"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("removed again: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Root, "debian-12"+partMark+"*")); len(left) != 1 || err != nil {
		t.Errorf("left %v, %v; want the build at work", left, err)
	}
}

// fakeTools puts programs first in the PATH that stand for those of a build.
// The file "fail" in their directory makes the one fail that it names.
func fakeTools(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	scripts := map[string]string{
		"apt-get": `cat "$HERE/indextargets"`,
		"mmdebstrap": `cat "$HERE/bootstrap.log"
echo mmdebstrap "$@" >>"$HERE/calls"
for a; do case "$a" in */.cache/*) echo half >"$a"; fail; cp "$HERE/root.tar" "$a";; esac; done`,
		"fakeroot": `shift; exec "$@"`,
		"mkfs.ext4": `shift $(($# - 3)); fail
echo "disk of $(cat "$1/etc/hostname") $3 $(cat "$1/usr/local/sbin/assay-agent" | wc -c)" >"$2"`,
		"qemu-img":  `shift 5; fail; cp "$1" "$2"`,
		"newuidmap": `true`,
	}
	for name, body := range scripts {
		text := "#!/bin/sh\nHERE=" + dir + "\nfail() { if grep -qx " + name + " \"$HERE/fail\" 2>/dev/null; then echo broken on purpose; exit 3; fi; }\n" + body + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"indextargets": golden(t, "indextargets-debian.txt"), "bootstrap.log": golden(t, "bootstrap.log"), "keys.gpg": "keys",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files := bootRoot()
	delete(files, "usr/lib/modules/6.1/kernel/a/ext4.ko.gz")
	files["etc/hostname"] = "before\n"
	writeTar(t, filepath.Join(dir, "root.tar"), files)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// fakeAgent writes the header of a program for some processor.
func fakeAgent(t *testing.T, machine elf.Machine, more string) string {
	t.Helper()
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var buffer bytes.Buffer
	if err := binary.Write(&buffer, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(path, append(buffer.Bytes(), more...), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func ownMachine() elf.Machine {
	return map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
}

func TestBuild(t *testing.T) {
	tools := fakeTools(t)
	s := Store{Root: filepath.Join(t.TempDir(), "images")}
	var stages []string
	options := BuildOptions{
		Name: "debian-12", Agent: fakeAgent(t, ownMachine(), ""), Keyring: filepath.Join(tools, "keys.gpg"), Size: 2 << 30,
		Progress: func(p Progress) {
			if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
				stages = append(stages, p.Stage)
			}
		},
	}
	got, err := s.FindOrBuild(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"looking for the packages", stageLists, stageDownload, stageInstall, stageDownload, stageInstall, stagePack,
		"taking out the kernel", "making the disk", "computing the checksum",
	}
	if !reflect.DeepEqual(stages, want) {
		t.Errorf("stages %q", stages)
	}
	disk, err := os.ReadFile(got.Disk)
	if err != nil || string(disk) != "disk of assay 2097152k 64\n" {
		t.Errorf("the disk is %q, %v", disk, err)
	}
	if digest, err := fileDigest(got.Kernel, got.Initrd, got.Disk); err != nil || digest != got.Digest {
		t.Errorf("the digest is %s, %v; image.json says %s", digest, err, got.Digest)
	}
	entries, err := os.ReadDir(got.Dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("the image has %v, %v", entries, err)
	}
	again, err := s.FindOrBuild(t.Context(), options)
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("found %+v, %v", again, err)
	}
}

func TestNewAgentDownloadsNothing(t *testing.T) {
	tools := fakeTools(t)
	s := Store{Root: t.TempDir()}
	options := BuildOptions{Name: "mine", From: "debian-12", Agent: fakeAgent(t, ownMachine(), ""), Keyring: filepath.Join(tools, "keys.gpg")}
	first, err := s.FindOrBuild(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	options.Agent = fakeAgent(t, ownMachine(), "newer")
	second, err := s.FindOrBuild(t.Context(), options)
	if err != nil || second.AgentDigest == first.AgentDigest || second.Digest == first.Digest {
		t.Errorf("got %+v, %v", second, err)
	}
	calls := func() int {
		text, err := os.ReadFile(filepath.Join(tools, "calls"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "--variant")
	}
	if calls() != 1 {
		t.Errorf("packages were installed %d times", calls())
	}
	options.Fresh = true
	if _, err := s.Build(t.Context(), options); err != nil || calls() != 2 {
		t.Errorf("asked for fresh ones: %v, installed %d times", err, calls())
	}
}

func TestFailedBuildLeavesTheOldImage(t *testing.T) {
	tools := fakeTools(t)
	s := Store{Root: t.TempDir()}
	put(t, s, "debian-12", nil)
	put(t, s, "debian-13"+partMark+"stale", nil) // of a build that was killed
	options := BuildOptions{Name: "debian-12", Agent: fakeAgent(t, ownMachine(), ""), Keyring: filepath.Join(tools, "keys.gpg")}
	for _, broken := range []string{"mmdebstrap", "mkfs.ext4", "qemu-img"} {
		if err := os.WriteFile(filepath.Join(tools, "fail"), []byte(broken+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := s.Build(t.Context(), options)
		if err == nil || !strings.Contains(err.Error(), "broken on purpose") {
			t.Errorf("%s: %v", broken, err)
		}
		if found, err := s.Find("debian-12"); err != nil || found.Digest != "d" {
			t.Errorf("%s: the old image is %+v, %v", broken, found, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(s.Root, "*"+partMark+"*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	log, err := os.ReadFile(filepath.Join(s.Root, "debian-12.log"))
	if err != nil || !strings.Contains(string(log), "broken on purpose") {
		t.Errorf("the log says %q, %v", log, err)
	}
}

func TestBuildWaitsForAnother(t *testing.T) {
	tools := fakeTools(t)
	s := Store{Root: t.TempDir()}
	unlock, err := s.lock(t.Context(), func() { t.Error("a free lock was waited for") })
	if err != nil {
		t.Fatal(err)
	}
	options := BuildOptions{Name: "debian-12", Agent: fakeAgent(t, ownMachine(), ""), Keyring: filepath.Join(tools, "keys.gpg")}
	ctx, cancel := context.WithCancel(t.Context())
	options.Progress = func(p Progress) {
		if p.Stage == "waiting for another build" {
			cancel()
		}
	}
	if _, err := s.Build(ctx, options); !errors.Is(err, context.Canceled) {
		t.Errorf("while another builds: %v", err)
	}
	var waited atomic.Bool
	options.Progress = func(p Progress) {
		if p.Stage == "waiting for another build" && waited.CompareAndSwap(false, true) {
			unlock()
		}
	}
	if _, err := s.Build(t.Context(), options); err != nil || !waited.Load() {
		t.Errorf("after another built: %v, waited %t", err, waited.Load())
	}
}

func TestUnfitAgents(t *testing.T) {
	own, err := HostArchitecture()
	if err != nil {
		t.Fatal(err)
	}
	other := elf.EM_X86_64
	if ownMachine() == elf.EM_X86_64 {
		other = elf.EM_AARCH64
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fakeAgent(t, other, ""):               "it is for",
		text:                                  "CGO_ENABLED=0",
		filepath.Join(t.TempDir(), "nowhere"): "no such file",
		"/bin/sh":                             "dynamic linker",
	} {
		if err := checkAgent(path, own); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for _, size := range []int64{1, -1, minimumSize - 1, maximumSize + 1} {
		if (BuildOptions{Name: "x", Size: size}).check() == nil {
			t.Errorf("a disk of %d bytes was taken", size)
		}
	}
}

func TestMissingToolsAreNamed(t *testing.T) {
	err := checkTools([]Tool{{Program: "qemu-img", Debian: "qemu-utils", Fedora: "qemu-img"}, {Program: "x", Debian: "y", Fedora: "z"}})
	if want := "cannot find qemu-img, x: `apt-get install qemu-utils y` on Debian and Ubuntu, `dnf install qemu-img z` on Fedora"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := checkTools(nil); err != nil {
		t.Error(err)
	}
}

func TestToolOutput(t *testing.T) {
	var log bytes.Buffer
	var got []string
	box := toolbox{log: &log, env: []string{"GIVEN=here"}}
	err := box.run(t.Context(), func(line string) { got = append(got, line) }, "sh", "-c", `echo "$GIVEN"; printf 'a\rb\n\n' >&2; seq 20; exit 4`)
	if err == nil || !strings.Contains(err.Error(), "exit status 4") || !strings.HasSuffix(err.Error(), "\n19\n20") || strings.Contains(err.Error(), "\n8\n") {
		t.Errorf("got %v", err)
	}
	if len(got) != 23 || !reflect.DeepEqual(got[:4], []string{"here", "a", "b", "1"}) {
		t.Errorf("lines %q", got)
	}
	if !strings.HasPrefix(log.String(), "here\na\rb\n\n1\n") {
		t.Errorf("log %q", log.String())
	}
	if err := box.run(t.Context(), nil, "no-such-program-anywhere"); err == nil {
		t.Error("a program that is not there ran")
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = box.run(ctx, func(string) { cancel() }, "sh", "-c", "trap 'kill -KILL $!; echo bye; exit 1' TERM; sleep 1000 >/dev/null 2>&1 & echo up; wait")
	if !errors.Is(err, context.Canceled) || !strings.Contains(log.String(), "\nup\n") || !strings.HasSuffix(log.String(), "bye\n") {
		t.Errorf("got %v, log %q", err, log.String())
	}
}

func TestLongLinesAreCut(t *testing.T) {
	longest := 0
	l := &lines{log: &bytes.Buffer{}, each: func(s string) { longest = max(longest, len(s)) }}
	if _, err := fmt.Fprintf(l, "%s\n", strings.Repeat("x", 3*maxLine)); err != nil || longest != maxLine {
		t.Errorf("the longest has %d bytes, %v", longest, err)
	}
}

func TestRemoveTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(filepath.Join(dir, "a/b"), 0), os.Chmod(filepath.Join(dir, "a"), 0o500)); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is still there")
	}
}

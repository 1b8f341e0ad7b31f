package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-ci/assay"
)

func save(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// qcow2Of makes a real qcow2 disk that begins with data.
func qcow2Of(t *testing.T, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	raw, disk := save(t, filepath.Join(dir, "raw"), data), filepath.Join(dir, "disk")
	qemuImg(t, "convert", "-f", "raw", "-O", "qcow2", raw, disk)
	return disk
}

// beginning is how a guest sees the first bytes of an image's disk.
func beginning(t *testing.T, image Image, n int) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", image.Disk, raw)
	data, err := os.ReadFile(raw)
	if err != nil || len(data) < n {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	return data[:n]
}

// onlyImages checks that a store has nothing but finished images.
func onlyImages(t *testing.T, s Store) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(s.Root, "*"+partMark+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, name := range []string{"given", "plain", "head.raw"} {
		if left, err := filepath.Glob(filepath.Join(s.Root, "*", name)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestImport(t *testing.T) {
	s := Store{Root: filepath.Join(t.TempDir(), "images")}
	own, err := HostArchitecture()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file string
		boot string
		want Image
	}{
		"fedora-42":         {qcow2Of(t, bootable()), "", Image{Distro: "fedora", Release: "42", Arch: own.Name, Boot: BootBIOS}},
		"rocky-9":           {save(t, filepath.Join(t.TempDir(), "x.qcow2"), bootable()), "", Image{Distro: "rocky", Release: "9", Arch: own.Name, Boot: BootBIOS}},
		"mine":              {qcow2Of(t, withGPT(0, typeESP)), "", Image{Arch: own.Name, Boot: BootUEFI}},
		"debian-13.aarch64": {qcow2Of(t, withGPT(0x90, typeESP)), "", Image{Distro: "debian", Release: "13", Arch: "aarch64", Boot: BootUEFI}},
		"both.x86_64":       {qcow2Of(t, withGPT(0x90, typeESP)), BootUEFI, Image{Arch: "x86_64", Boot: BootUEFI}},
	} {
		t.Run(name, func(t *testing.T) {
			before := time.Now().Add(-time.Second)
			got, err := s.Import(t.Context(), ImportOptions{Name: name, File: test.file, Boot: test.boot})
			if err != nil {
				t.Fatal(err)
			}
			digest, err := fileDigest(got.Disk)
			if err != nil || got.Digest != digest || got.Size == 0 || got.Built.Before(before) {
				t.Errorf("got %+v, %v; the disk's digest is %s", got, err, digest)
			}
			want := test.want
			want.Name, want.Dir, want.Disk, want.Origin = name, filepath.Join(s.Root, name), filepath.Join(s.Root, name, "disk.qcow2"), test.file
			want.Digest, want.Size, want.Built = got.Digest, got.Size, got.Built
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if holds, err := got.Holds("/no/such/agent"); !holds || err != nil {
				t.Errorf("an image that gets its agent from a seed does not hold it: %v", err)
			}
			if err := s.Verify(t.Context(), name, nil); err != nil {
				t.Error(err)
			}
		})
	}
	onlyImages(t, s)
}

func TestImportKeepsTheContent(t *testing.T) {
	s := Store{Root: t.TempDir()}
	data := bootable()
	copy(data[1<<20:], "in the middle")
	packed := filepath.Join(t.TempDir(), "disk.raw")
	save(t, packed, data)
	if out, err := exec.CommandContext(t.Context(), "xz", "-k", packed).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var stages []string
	options := ImportOptions{Name: "x", File: packed + ".xz", Progress: func(p Progress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
	}}
	got, err := s.Import(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(beginning(t, got, len(data)), data) {
		t.Error("the disk is another one")
	}
	want := []string{stageCopy, "decompressing", stageConvert, "inspecting the disk", "computing the checksum"}
	if !reflect.DeepEqual(stages, want) {
		t.Errorf("stages %q", stages)
	}
	// A later one takes its place.
	copy(data[1<<20:], "another one  ")
	options.File = qcow2Of(t, data)
	again, err := s.Import(t.Context(), options)
	if err != nil || again.Digest == got.Digest || !bytes.Equal(beginning(t, again, len(data)), data) {
		t.Errorf("imported again: %+v, %v", again, err)
	}
}

func TestHostileDisks(t *testing.T) {
	s := Store{Root: t.TempDir()}
	put(t, s, "x", func(f *file) { f.Prepared, f.Boot, f.Kernel, f.Initrd = false, BootBIOS, "", "" })
	dir := t.TempDir()
	secret := save(t, filepath.Join(dir, "secret"), bytes.Repeat([]byte("secret\n"), 1<<18))
	backed, external := filepath.Join(dir, "backed.qcow2"), filepath.Join(dir, "external.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "backing_file="+secret+",backing_fmt=raw", backed)
	qemuImg(t, "create", "-q", "-f", "qcow2", "-o", "data_file="+filepath.Join(dir, "data.raw"), external, "8M")
	huge := filepath.Join(dir, "huge.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", huge, "100T")
	// A raw disk whose first bytes a guest chose: probing would take it for qcow2.
	disguised := bootable()
	copy(disguised[512:], header(nil)[:512])
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(dir, "twice")
	save(t, packed, bootable())
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", `xz -c "$1" | xz -c >"$1.xz"`, "sh", packed).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, test := range map[string]struct{ file, want string }{
		"backing file":  {backed, "backing file"},
		"data file":     {external, "another file"},
		"absurd size":   {huge, "1 TiB"},
		"not a disk":    {secret, "neither"},
		"a directory":   {dir, "plain file"},
		"a pipe":        {pipe, "plain file"},
		"a device":      {"/dev/zero", "plain file"},
		"nothing":       {filepath.Join(dir, "nothing"), "no such file"},
		"twice":         {packed + ".xz", "twice"},
		"half xz":       {save(t, filepath.Join(dir, "half.xz"), []byte("\xfd7zXZ\x00\x00\x04rest")), "decompress"},
		"only a header": {save(t, filepath.Join(dir, "header"), header(nil)), "QEMU cannot read it"},
		"small":         {save(t, filepath.Join(dir, "small"), bootable()[:4096]), "1 MiB"},
		"nothing boots": {qcow2Of(t, make([]byte, 2<<20)), "nothing on it boots"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Import(t.Context(), ImportOptions{Name: "x", File: test.file})
			if err == nil || !strings.HasPrefix(err.Error(), "cannot import ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if old, err := s.Find("x"); err != nil || old.Digest != "d" {
				t.Errorf("the old image is %+v, %v", old, err)
			}
		})
	}
	onlyImages(t, s)
	got, err := s.Import(t.Context(), ImportOptions{Name: "y", File: save(t, filepath.Join(dir, "disguised"), disguised)})
	if err != nil || !bytes.Equal(beginning(t, got, 1024), disguised[:1024]) {
		t.Errorf("a disk with a header inside: %v", err)
	}
}

func TestDamagedDisk(t *testing.T) {
	disk := qcow2Of(t, bytes.Repeat(bootable(), 4))
	data, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	// The first table of where things are.
	for i := range 64 {
		data[3*65536+i] = 0xff
	}
	save(t, disk, data)
	if _, err := (Store{Root: t.TempDir()}).Import(t.Context(), ImportOptions{Name: "x", File: disk}); err == nil {
		t.Error("a damaged disk was taken")
	}
}

func TestImportOptionsThatCannotBe(t *testing.T) {
	s := Store{Root: t.TempDir()}
	disk := qcow2Of(t, bootable())
	put(t, s, "debian-12", nil)
	for want, options := range map[string]ImportOptions{
		"bios or uefi":   {Name: "x", Boot: BootDirect},
		"s390x know":     {Name: "x", Boot: BootUEFI, Arch: "s390x"},
		"choose one of":  {Name: "x", Arch: "z80"},
		"as an image's ": {Name: "X"},
		"--replace":      {Name: "debian-12"},
	} {
		options.File = disk
		if _, err := s.Import(t.Context(), options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", options, err, want)
		}
	}
	if got, err := s.Import(t.Context(), ImportOptions{Name: "debian-12", File: disk, Replace: true}); err != nil || got.Prepared {
		t.Errorf("asked for: %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Import(ctx, ImportOptions{Name: "y", File: disk}); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// TestVersionOne has an image that a program before version 2 built.
func TestVersionOne(t *testing.T) {
	s := Store{Root: t.TempDir()}
	put(t, s, "debian-12", func(f *file) { f.Version, f.Boot, f.Prepared = 1, "", false })
	got, err := s.Find("debian-12")
	if err != nil || got.Boot != BootDirect || !got.Prepared || got.Kernel == "" || got.Initrd == "" || got.Cmdline != "quiet" {
		t.Errorf("got %+v, %v", got, err)
	}
	digest, err := fileDigest(got.Kernel, got.Initrd, got.Disk)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "debian-12", func(f *file) { f.Version, f.Boot, f.Prepared, f.Digest = 1, "", false, digest })
	if err := s.Verify(t.Context(), "debian-12", nil); err != nil {
		t.Error(err)
	}
	save(t, got.Initrd, []byte("i!"))
	if err := s.Verify(t.Context(), "debian-12", nil); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "one of its files") {
		t.Errorf("a file was changed: %v", err)
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	s := Store{Root: t.TempDir()}
	put(t, s, "good", nil)
	dir := filepath.Join(s.Root, "good")
	meter := newMeter(nil)
	defer meter.close()
	f := file{Version: formatVersion, Name: "good", Boot: BootDirect, Kernel: "vmlinuz", Initrd: "initrd.img", Disk: "disk.qcow2"}
	if err := errors.Join(os.Remove(filepath.Join(dir, describes)), f.write(t.Context(), dir, meter)); err != nil {
		t.Fatal(err)
	}
	var last Progress
	if err := s.Verify(t.Context(), "good", func(p Progress) { last = p }); err != nil || last.Total != 6 || last.Unit != UnitBytes {
		t.Errorf("%v, progress %+v", err, last)
	}
	for _, part := range []string{"vmlinuz", "initrd.img", "disk.qcow2"} {
		was, err := os.ReadFile(filepath.Join(dir, part))
		if err != nil {
			t.Fatal(err)
		}
		save(t, filepath.Join(dir, part), append([]byte("x"), was[1:]...))
		if err := s.Verify(t.Context(), "good", nil); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", part, err)
		}
		save(t, filepath.Join(dir, part), was)
	}
	if err := s.Verify(t.Context(), "good", nil); err != nil {
		t.Errorf("mended: %v", err)
	}
	if err := s.Verify(t.Context(), "other", nil); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestCheckInfo(t *testing.T) {
	header := qcow2{size: 1 << 30}
	for name, test := range map[string]struct {
		text string
		good bool
	}{
		"good":    {`{"format":"qcow2","virtual-size":1073741824,"format-specific":{"type":"qcow2","data":{"compat":"1.1"}}}`, true},
		"raw":     {`{"format":"raw","virtual-size":1073741824}`, false},
		"size":    {`{"format":"qcow2","virtual-size":1}`, false},
		"backing": {`{"format":"qcow2","virtual-size":1073741824,"backing-filename":"/etc/shadow"}`, false},
		"data":    {`{"format":"qcow2","virtual-size":1073741824,"format-specific":{"data":{"data-file":"x"}}}`, false},
		"garbage": {`{`, false},
	} {
		if err := checkInfo([]byte(test.text), header); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadFile(f *testing.F) {
	good, err := json.Marshal(file{Version: 2, Boot: BootBIOS, Disk: "disk.qcow2"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"kernel":"vmlinuz","initrd":"initrd.img","disk":"disk.qcow2"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readFile(text)
		if err != nil {
			return
		}
		for _, name := range got.parts() {
			if name == "" || strings.Contains(name, "/") {
				t.Errorf("%q passed", name)
			}
		}
	})
}

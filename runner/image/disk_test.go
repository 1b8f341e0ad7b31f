package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// header is a qcow2 header of version 3 for a disk of 1 GiB, changed by edit.
func header(edit func(b []byte)) []byte {
	b := make([]byte, 64<<10)
	copy(b, qcow2Magic)
	be := binary.BigEndian
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], 1<<30)
	be.PutUint32(b[36:], 2)
	be.PutUint32(b[100:], 104)
	if edit != nil {
		edit(b)
	}
	return b
}

// qemuImg runs the real program.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %v: %v\n%s", args, err, out)
	}
}

// bootable is the beginning of a disk that a PC's BIOS would boot.
func bootable() []byte {
	b := make([]byte, 2<<20)
	b[0], b[510], b[511] = 0xeb, 0x55, 0xaa
	return b
}

// withGPT is the beginning of a disk with a GUID partition table whose second
// partition has a type.
func withGPT(code byte, kind string) []byte {
	b := make([]byte, 2<<20)
	b[0], b[450], b[510], b[511] = code, 0xee, 0x55, 0xaa
	copy(b[512:], "EFI PART")
	le := binary.LittleEndian
	le.PutUint64(b[512+72:], 2)
	le.PutUint32(b[512+80:], 128)
	le.PutUint32(b[512+84:], 128)
	copy(b[1024:], "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4")
	copy(b[1024+128:], kind)
	return b
}

func TestQcow2Headers(t *testing.T) {
	be := binary.BigEndian
	extension := func(kind uint32, data string) func([]byte) {
		return func(b []byte) {
			be.PutUint32(b[104:], 0x6803f857) // feature names, which say nothing
			be.PutUint32(b[108:], 5)
			be.PutUint32(b[120:], kind)
			be.PutUint32(b[124:], uint32(len(data)))
			copy(b[128:], data)
		}
	}
	for name, test := range map[string]struct {
		data []byte
		want string // in the error; "" for none
	}{
		"good":           {header(nil), ""},
		"version 2":      {header(func(b []byte) { be.PutUint32(b[4:], 2) }), ""},
		"zstd":           {header(func(b []byte) { be.PutUint64(b[72:], 1<<3) }), ""},
		"features named": {header(extension(0, "")), ""},
		"empty":          {nil, "no qcow2"},
		"text":           {[]byte("#!/bin/sh\n"), "no qcow2"},
		"short":          {header(nil)[:60], "no qcow2"},
		"cut off":        {header(nil)[:90], "cut off"},
		"ends":           {header(nil)[:104], "cut off"},
		"version 1":      {header(func(b []byte) { be.PutUint32(b[4:], 1) }), "version 1"},
		"version 4":      {header(func(b []byte) { be.PutUint32(b[4:], 4) }), "version 4"},
		"backing file":   {header(func(b []byte) { be.PutUint64(b[8:], 200); be.PutUint32(b[16:], 11); copy(b[200:], "/etc/shadow") }), "backing file"},
		"backing length": {header(func(b []byte) { be.PutUint32(b[16:], 11) }), "backing file"},
		"backing, v2":    {header(func(b []byte) { be.PutUint32(b[4:], 2); be.PutUint64(b[8:], 200) }), "backing file"},
		"data file":      {header(func(b []byte) { be.PutUint64(b[72:], 1<<2) }), "another file"},
		"data file name": {header(extension(extensionDataFile, "/etc/shadow")), "names a file"},
		"backing format": {header(extension(extensionBacking, "raw")), "backing file"},
		"encrypted":      {header(func(b []byte) { be.PutUint32(b[32:], 2) }), "encrypted"},
		"luks":           {header(extension(extensionCrypto, "0123456789abcdef")), "encrypted"},
		"corrupt":        {header(func(b []byte) { be.PutUint64(b[72:], 1<<1) }), "damaged"},
		"dirty":          {header(func(b []byte) { be.PutUint64(b[72:], 1) }), "not closed"},
		"from tomorrow":  {header(func(b []byte) { be.PutUint64(b[72:], 1<<40) }), "does not know"},
		"snapshots":      {header(func(b []byte) { be.PutUint32(b[60:], 1) }), "snapshots"},
		"tiny clusters":  {header(func(b []byte) { be.PutUint32(b[20:], 8) }), "clusters"},
		"huge clusters":  {header(func(b []byte) { be.PutUint32(b[20:], 63) }), "clusters"},
		"no size":        {header(func(b []byte) { be.PutUint64(b[24:], 0) }), "0 bytes"},
		"absurd size":    {header(func(b []byte) { be.PutUint64(b[24:], 1<<63) }), "1 TiB"},
		"huge table":     {header(func(b []byte) { be.PutUint32(b[36:], 1<<25) }), "table"},
		"no header":      {header(func(b []byte) { be.PutUint32(b[100:], 8) }), "header of 8"},
		"huge header":    {header(func(b []byte) { be.PutUint32(b[100:], 1<<31) }), "header of"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readQcow2(bytes.NewReader(test.data))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestQcow2OfQEMU reads what the real program writes.
func TestQcow2OfQEMU(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", base, "8M")
	for name, test := range map[string]struct {
		options string
		size    uint64
		good    bool
	}{
		"plain":    {"", 64 << 20, true},
		"old":      {"compat=0.10", 1 << 30, true},
		"zstd":     {"compression_type=zstd", 512 << 30, true},
		"extended": {"extended_l2=on,cluster_size=128k", 1 << 40, true},
		"small":    {"cluster_size=512", 100 << 20, true},
		"backing":  {"backing_file=" + base + ",backing_fmt=qcow2", 8 << 20, false},
		"data":     {"data_file=" + filepath.Join(dir, "data.raw"), 8 << 20, false},
		"too much": {"", 2 << 40, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			args := []string{"create", "-q", "-f", "qcow2"}
			if test.options != "" {
				args = append(args, "-o", test.options)
			}
			qemuImg(t, append(args, path, strconv.FormatUint(test.size, 10))...)
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = in.Close() }()
			got, err := readQcow2(in)
			if (err == nil) != test.good || got.size != test.size {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzReadQcow2(f *testing.F) {
	f.Add(header(nil))
	f.Add(header(func(b []byte) { binary.BigEndian.PutUint32(b[100:], 112) })[:120])
	f.Add([]byte(qcow2Magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readQcow2(bytes.NewReader(data))
		if err == nil && (h.backing != 0 || h.size > maximumSize || h.features&qcow2DataFile != 0) {
			t.Errorf("%+v passed", h)
		}
	})
}

func TestContent(t *testing.T) {
	at := func(n int, magic string) []byte {
		b := make([]byte, contentHead)
		copy(b[n:], magic)
		return b
	}
	for name, test := range map[string]struct {
		head      []byte
		want, err string
	}{
		"qcow2":  {header(nil), contentQcow2, ""},
		"raw":    {bootable(), contentRaw, ""},
		"gpt":    {withGPT(0, typeESP), contentRaw, ""},
		"xz":     {at(0, "\xfd7zXZ\x00"), contentXZ, ""},
		"gzip":   {at(0, "\x1f\x8b"), "", "gunzip"},
		"zip":    {at(0, "PK\x03\x04"), "", "unpack"},
		"tar":    {at(257, "ustar"), "", "tar"},
		"vmdk":   {at(0, "KDMV"), "", "qemu-img convert"},
		"vmdk 2": {at(0, "# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0"), "", "VMDK"},
		"vhdx":   {at(0, "vhdxfile"), "", "VHDX"},
		"vdi":    {at(64, "\x7f\x10\xda\xbe"), "", "VDI"},
		"luks":   {at(0, "LUKS\xba\xbe"), "", "encrypted"},
		"disc":   {at(0x8001, "CD001"), "", "ISO 9660"},
		"text":   {[]byte("root:x:0:0:root:/root:/bin/bash\n"), "", "neither"},
		"empty":  {nil, "", "neither"},
		"zeros":  {at(0, ""), "", "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := contentOf(test.head)
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestGuessBoot(t *testing.T) {
	esp := bootable()
	esp[0], esp[446+16+4] = 0, mbrTypeESP
	none := withGPT(0, typeESP)
	binary.LittleEndian.PutUint32(none[512+84:], 1) // entries that cannot be
	for _, test := range []struct {
		name string
		head []byte
		arch string
		want string
	}{
		{"boot sector", bootable(), "x86_64", BootBIOS},
		{"both", withGPT(0xeb, typeESP), "x86_64", BootBIOS},
		{"only an EFI partition", withGPT(0, typeESP), "x86_64", BootUEFI},
		{"an EFI partition in the old table", esp, "x86_64", BootUEFI},
		{"a table that cannot be", none, "x86_64", BootBIOS},
		{"no EFI partition", withGPT(0, strings.Repeat("x", 16)), "x86_64", BootBIOS},
		{"arm has only UEFI", withGPT(0xeb, typeESP), "aarch64", BootUEFI},
		{"power has none", withGPT(0, typeESP), "ppc64le", BootBIOS},
	} {
		arch, err := ArchitectureOf(test.arch)
		if got := guessBoot(test.head, arch); got != test.want || err != nil {
			t.Errorf("%s: %s, %v; want %s", test.name, got, err, test.want)
		}
	}
}

func FuzzGuessBoot(f *testing.F) {
	f.Add(withGPT(0, typeESP)[:4096])
	f.Add(bootable()[:512])
	f.Fuzz(func(t *testing.T, head []byte) {
		for _, arch := range Architectures() {
			if how := guessBoot(head, arch); !arch.boots(how) {
				t.Errorf("%s cannot boot by %s", arch.Name, how)
			}
		}
	})
}

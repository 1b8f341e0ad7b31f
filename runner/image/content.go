package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// contentHead is how much of a file tells what it is.
const contentHead = 64 << 10

// What a disk's file can be.
const (
	contentQcow2 = "qcow2"
	contentRaw   = "raw"
	contentXZ    = "xz" // one of the others, compressed
)

// contentOf tells what a file is by how it begins. Its name means nothing. What
// looks like a raw disk must have a boot sector or a partition table: QEMU would
// take anything at all as one.
func contentOf(head []byte) (string, error) {
	for _, known := range []struct {
		at          int
		magic, name string
	}{
		{0, qcow2Magic, contentQcow2},
		{0, "\xfd7zXZ\x00", contentXZ},
		{0, "\x1f\x8b", "gzip: decompress it with gunzip"},
		{0, "\x28\xb5\x2f\xfd", "zstd: decompress it with unzstd"},
		{0, "BZh", "bzip2: decompress it with bunzip2"},
		{0, "PK\x03\x04", "a zip archive: unpack it"},
		{257, "ustar", "a tar archive: unpack it"},
		{0, "KDMV", "a VMDK disk"}, {0, "COWD", "a VMDK disk"}, {0, "# Disk DescriptorFile", "a VMDK disk"},
		{0, "vhdxfile", "a VHDX disk"}, {0, "conectix", "a VHD disk"}, {0, "QED\x00", "a QED disk"},
		{0, "LUKS\xba\xbe", "encrypted"}, {64, "\x7f\x10\xda\xbe", "a VDI disk"},
		{0x8001, "CD001", "an ISO 9660 disc, which is for installing: a disk that is installed is needed"},
	} {
		if !bytes.HasPrefix(head[min(known.at, len(head)):], []byte(known.magic)) {
			continue
		}
		switch {
		case known.name == contentQcow2, known.name == contentXZ:
			return known.name, nil
		case strings.HasSuffix(known.name, " disk"):
			return "", fmt.Errorf("it is %s: make it qcow2 with `qemu-img convert -O qcow2`", known.name)
		}
		return "", fmt.Errorf("it is %s", known.name)
	}
	if hasBootSector(head) || hasGPT(head) {
		return contentRaw, nil
	}
	return "", fmt.Errorf("it is neither a qcow2 disk nor a raw one with a boot sector or a partition table")
}

const sector = 512

// hasBootSector tells of the mark at the end of a disk's first sector.
func hasBootSector(head []byte) bool {
	return len(head) >= sector && head[510] == 0x55 && head[511] == 0xaa
}

// hasGPT tells of a GUID partition table (UEFI, 5.3).
func hasGPT(head []byte) bool {
	return len(head) >= 2*sector && string(head[sector:sector+8]) == "EFI PART"
}

// Types of partitions, as the table has them: the first three parts of a GUID
// little-endian.
const (
	typeESP    = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"
	mbrTypeESP = 0xef
)

// guessBoot tells which firmware can boot a disk, by how it begins: UEFI needs
// an EFI system partition, a PC's BIOS needs code in the first sector. A disk
// that has both boots by the BIOS, which is quicker. Architectures that have
// only one leave no choice.
func guessBoot(head []byte, arch Architecture) string {
	esp := hasESP(head)
	code := hasBootSector(head) && bytes.ContainsFunc(head[:440], func(r rune) bool { return r != 0 })
	switch {
	case !arch.boots(BootBIOS):
		return BootUEFI
	case !arch.boots(BootUEFI):
		return BootBIOS
	case esp && !code:
		return BootUEFI
	}
	return BootBIOS
}

// hasESP looks for an EFI system partition in either kind of table.
func hasESP(head []byte) bool {
	if !hasGPT(head) {
		for at := 446; hasBootSector(head) && at < 510; at += 16 {
			if head[at+4] == mbrTypeESP {
				return true
			}
		}
		return false
	}
	le := binary.LittleEndian
	header := head[sector:]
	first, count, size := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if size < 128 || size > 4096 || count > 1024 || first > contentHead/sector {
		return false
	}
	for i := range uint64(count) {
		at := first*sector + i*uint64(size)
		if at+16 > uint64(len(head)) {
			return false
		}
		if string(head[at:at+16]) == typeESP {
			return true
		}
	}
	return false
}

// readHead reads the beginning of a file, or all of a shorter one.
func readHead(r io.ReaderAt) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(r, 0, contentHead))
}

package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The fields of a qcow2 header that say what a disk is (QEMU,
// docs/interop/qcow2.rst). All numbers are big-endian.
const (
	qcow2Magic       = "QFI\xfb"
	qcow2HeaderBytes = 112 // as much of version 3's as is looked at

	qcow2Dirty    = 1 << 0 // incompatible features
	qcow2Corrupt  = 1 << 1
	qcow2DataFile = 1 << 2
	qcow2Known    = 1<<5 - 1

	extensionEnd      = 0
	extensionBacking  = 0xE2792ACA // the format of a backing file
	extensionDataFile = 0x44415441 // the name of an external data file
	extensionCrypto   = 0x0537BE77

	// maxExtensions bounds how much of the header extensions is read: they lie in
	// the first cluster, which is at most this long.
	maxExtensions = 2 << 20
)

// qcow2 is what a header says.
type qcow2 struct {
	version     uint32
	backing     uint64 // offset of a backing file's name; 0 for none
	backingLen  uint32
	clusterBits uint32
	size        uint64 // of the disk that a guest sees, bytes
	crypt       uint32
	l1          uint32 // entries of the first table
	snapshots   uint32
	features    uint64 // those that a reader must know
	headerLen   uint32
}

// readQcow2 reads and checks the header of a disk that anybody may have made. A
// disk that passes has nothing but itself: no other file behind it or beside it,
// no encryption, a size that can be true.
func readQcow2(r io.ReaderAt) (qcow2, error) {
	raw := make([]byte, qcow2HeaderBytes)
	n, err := r.ReadAt(raw, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return qcow2{}, err
	}
	h, err := parseQcow2(raw[:n])
	if err == nil {
		err = h.check()
	}
	if err == nil {
		err = h.checkExtensions(r)
	}
	return h, err
}

func parseQcow2(raw []byte) (qcow2, error) {
	if len(raw) < 72 || string(raw[:4]) != qcow2Magic {
		return qcow2{}, errors.New("it is no qcow2 disk")
	}
	be := binary.BigEndian
	h := qcow2{
		version: be.Uint32(raw[4:]), backing: be.Uint64(raw[8:]), backingLen: be.Uint32(raw[16:]),
		clusterBits: be.Uint32(raw[20:]), size: be.Uint64(raw[24:]), crypt: be.Uint32(raw[32:]),
		l1: be.Uint32(raw[36:]), snapshots: be.Uint32(raw[60:]), headerLen: 72,
	}
	if h.version == 3 {
		if len(raw) < 104 {
			return h, errors.New("its header is cut off")
		}
		h.features, h.headerLen = be.Uint64(raw[72:]), be.Uint32(raw[100:])
	}
	return h, nil
}

// check refuses what a header alone gives away.
func (h qcow2) check() error {
	switch {
	case h.version != 2 && h.version != 3:
		return fmt.Errorf("it is qcow2 of version %d: only 2 and 3 are known", h.version)
	case h.backing != 0 || h.backingLen != 0:
		return errors.New("it has a backing file, which would be read from this host: make one disk of them with `qemu-img convert -O qcow2`")
	case h.features&qcow2DataFile != 0:
		return errors.New("its data is in another file, which would be read from this host: make one disk of them with `qemu-img convert -O qcow2`")
	case h.features&qcow2Corrupt != 0:
		return errors.New("it is marked as damaged: get it again, or try `qemu-img check -r all`")
	case h.features&qcow2Dirty != 0:
		return errors.New("it was not closed properly: run `qemu-img check -r all` on it")
	case h.features&^qcow2Known != 0:
		return fmt.Errorf("it has features that this program does not know (%#x)", h.features)
	case h.crypt != 0:
		return errors.New("it is encrypted: decrypt it with `qemu-img convert`")
	case h.snapshots != 0:
		return errors.New("it has snapshots inside: leave them out with `qemu-img convert -O qcow2`")
	case h.clusterBits < 9 || h.clusterBits > 21:
		return fmt.Errorf("its clusters of 2^%d bytes cannot be", h.clusterBits)
	case h.size < minimumImport || h.size > maximumSize:
		return fmt.Errorf("a guest would see %d bytes: 1 MiB to 1 TiB are possible", h.size)
	case h.version == 3 && (h.headerLen < 104 || h.headerLen%8 != 0 || uint64(h.headerLen) > 1<<h.clusterBits):
		return fmt.Errorf("its header of %d bytes cannot be", h.headerLen)
	}
	return h.checkTable()
}

// checkTable refuses a first table that is larger than its disk needs: one entry
// of it stands for a table of one cluster, of 8 bytes an entry, or 16.
func (h qcow2) checkTable() error {
	reach := uint64(1) << (2*h.clusterBits - 4)
	if need := h.size/reach + 1; uint64(h.l1) > need+1 {
		return fmt.Errorf("its table of %d entries cannot be: a disk of its size has %d", h.l1, need)
	}
	return nil
}

// checkExtensions walks the header extensions: type and length, 4 bytes each,
// and data that is filled up to 8 bytes.
func (h qcow2) checkExtensions(r io.ReaderAt) error {
	end := min(int64(1)<<h.clusterBits, maxExtensions)
	head := make([]byte, 8)
	for at := int64(h.headerLen); at+8 <= end; {
		if _, err := r.ReadAt(head, at); errors.Is(err, io.EOF) {
			return errors.New("its header is cut off")
		} else if err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(head), int64(binary.BigEndian.Uint32(head[4:]))
		switch kind {
		case extensionEnd:
			return nil
		case extensionBacking:
			return errors.New("it names the format of a backing file: make one disk of both with `qemu-img convert -O qcow2`")
		case extensionDataFile:
			return errors.New("it names a file that its data is in: make one disk of both with `qemu-img convert -O qcow2`")
		case extensionCrypto:
			return errors.New("it is encrypted: decrypt it with `qemu-img convert`")
		}
		at += 8 + (length+7)&^7
	}
	return nil
}

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ext4's superblock, as far as it tells the size of the file system
// (Documentation/filesystems/ext4/super.rst of the kernel).
const (
	superblockAt  = 1024
	superblockLen = 1024
	ext4Magic     = 0xEF53
)

// resizeFS is EXT4_IOC_RESIZE_FS: _IOW('f', 16, __u64), the new number of blocks.
const resizeFS = 0x40086610

// growRoot lets the mounted root file system take up a disk that was made larger
// than the image, as a formula's environment.disk asks. It costs nothing where
// the disk is as large as the image.
func growRoot(device, mountpoint string) error {
	dev, err := os.Open(device)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }() // only read
	var super [superblockLen]byte
	if _, err := dev.ReadAt(super[:], superblockAt); err != nil {
		return fmt.Errorf("cannot read the superblock: %w", err)
	}
	block, have, err := ext4Size(super[:])
	if err != nil {
		return err
	}
	size, err := dev.Seek(0, 2)
	if err != nil {
		return err
	}
	want := uint64(size) / block
	if want <= have {
		return nil
	}
	root, err := os.Open(mountpoint)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only a handle for the call
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), resizeFS, uintptr(unsafe.Pointer(&want)))
	if errno != 0 {
		return fmt.Errorf("cannot grow the file system from %d to %d blocks of %d bytes: %w", have, want, block, errno)
	}
	return nil
}

// ext4Size reads the size of a block, in bytes, and the number of blocks.
func ext4Size(super []byte) (block, blocks uint64, err error) {
	le := binary.LittleEndian
	log := le.Uint32(super[0x18:])
	if le.Uint16(super[0x38:]) != ext4Magic || log > 6 {
		return 0, 0, fmt.Errorf("cannot grow the file system: it is not ext4")
	}
	return 1024 << log, uint64(le.Uint32(super[0x150:]))<<32 | uint64(le.Uint32(super[0x4:])), nil
}

package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// createOverlay makes a qcow2 file on top of an image's disk, of the image's
// size or of size bytes, whichever is more: one that is cut off would be broken.
func createOverlay(ctx context.Context, base, overlay string, size int64) error {
	own, err := virtualSize(base)
	if err != nil {
		return err
	}
	if filepath.Dir(base) == filepath.Dir(overlay) {
		base = filepath.Base(base) // the two may move together
	}
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2",
		overlay, strconv.FormatInt(max(size, own), 10))
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("cannot make a machine's disk: %w: install qemu-utils (Debian) or qemu-img (Fedora)", err)
	}
	if err != nil {
		return fmt.Errorf("cannot make a machine's disk: %v: %s", err, bytes.TrimSpace(out[:min(len(out), 500)]))
	}
	if err := os.Chmod(overlay, 0o600); err != nil {
		return fmt.Errorf("cannot make a machine's disk: %w", err)
	}
	return nil
}

// virtualSize reads how many bytes a guest sees of a qcow2 file (QEMU,
// docs/interop/qcow2.txt, "Header").
func virtualSize(path string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read the image's disk: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	var header struct {
		Magic      [4]byte
		Version    uint32
		Backing    uint64
		BackingLen uint32
		Cluster    uint32
		Size       uint64
	}
	err = binary.Read(io.LimitReader(file, 32), binary.BigEndian, &header)
	if err != nil || string(header.Magic[:]) != "QFI\xfb" || header.Size > 1<<62 {
		return 0, fmt.Errorf("cannot use the image's disk %s: it is not qcow2: build the image again", path)
	}
	return int64(header.Size), nil
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExt4Size reads file systems that mkfs.ext4 made.
func TestExt4Size(t *testing.T) {
	for _, block := range []string{"1024", "4096"} {
		disk := filepath.Join(t.TempDir(), "disk")
		cmd := exec.Command(lookMkfs(t), "-q", "-b", block, disk, "64M")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		size, blocks, err := ext4Size(data[superblockAt : superblockAt+superblockLen])
		if err != nil || size*blocks != 64<<20 {
			t.Errorf("%s: %d blocks of %d bytes, %v", block, blocks, size, err)
		}
	}
	if _, _, err := ext4Size(make([]byte, superblockLen)); err == nil || !strings.Contains(err.Error(), "not ext4") {
		t.Errorf("zeros: %v", err)
	}
}

// lookMkfs finds mkfs.ext4 where an ordinary user's PATH does not look.
func lookMkfs(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGrowRootLeavesAFittingDiskAlone needs no mount: there is nothing to do.
func TestGrowRootLeavesAFittingDiskAlone(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command(lookMkfs(t), "-q", disk, "64M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := growRoot(disk, "/no-such-mountpoint"); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(disk, 128<<20); err != nil {
		t.Fatal(err)
	}
	if err := growRoot(disk, t.TempDir()); err == nil {
		t.Error("a directory of another file system was grown")
	}
}

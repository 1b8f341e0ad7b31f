package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseCmdline(t *testing.T) {
	tests := []struct {
		text string
		want cmdline
	}{
		{"", cmdline{root: "/dev/vda", fstype: "ext4", init: "/sbin/init", flags: unix.MS_RDONLY}},
		{"root=/dev/vda rw console=ttyS0 panic=1 quiet\n", cmdline{root: "/dev/vda", fstype: "ext4", init: "/sbin/init"}},
		{"rw ro root=/dev/vdb rootfstype=xfs init=/bin/sh", cmdline{root: "/dev/vdb", fstype: "xfs", init: "/bin/sh", flags: unix.MS_RDONLY}},
		{"console=ttyS0 assay.probe", cmdline{root: "/dev/vda", fstype: "ext4", init: "/sbin/init", flags: unix.MS_RDONLY, probe: true}},
		{"assay.probes noassay.probe x=assay.probe", cmdline{root: "/dev/vda", fstype: "ext4", init: "/sbin/init", flags: unix.MS_RDONLY}},
	}
	for _, test := range tests {
		if got := parseCmdline(test.text); got != test.want {
			t.Errorf("parseCmdline(%q) = %+v, want %+v", test.text, got, test.want)
		}
	}
}

func TestLoadModules(t *testing.T) {
	list := filepath.Join(t.TempDir(), "modules")
	if err := os.WriteFile(list, []byte("/lib/a.ko\n/lib/b.ko\n/lib/c.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var loaded []string
	err := loadModules(list, func(path string) error {
		if loaded = append(loaded, path); path == "/lib/b.ko" {
			return errors.New("no such device")
		}
		return nil
	})
	if want := []string{"/lib/a.ko", "/lib/b.ko", "/lib/c.ko"}; !reflect.DeepEqual(loaded, want) {
		t.Errorf("loaded %q", loaded)
	}
	if err == nil || err.Error() != "cannot load /lib/b.ko: no such device" {
		t.Errorf("got %v", err)
	}
	if err := loadModules(list+"x", func(string) error { return nil }); err == nil {
		t.Error("a list that is not there was read")
	}
	if err := loadModule(list); err == nil {
		t.Error("a text file was loaded as a module")
	}
}

func TestAwaitFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := awaitFile(path, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	made := make(chan error)
	go func() { made <- os.WriteFile(path, nil, 0o644) }()
	if err := errors.Join(awaitFile(path, time.Minute), <-made); err != nil {
		t.Error(err)
	}
}

func TestEmptyKeepsDirectoriesAndLinks(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "lib/deep"), 0o755),
		os.WriteFile(filepath.Join(dir, "init"), []byte("x"), 0o755),
		os.WriteFile(filepath.Join(dir, "lib/deep/a.ko"), []byte("x"), 0o644),
		os.Symlink("init", filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	empty(dir)
	var left []string
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		left = append(left, strings.TrimPrefix(path, dir))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "/lib", "/lib/deep", "/link"}; !reflect.DeepEqual(left, want) {
		t.Errorf("left %q", left)
	}
}

func TestProcessLimit(t *testing.T) {
	for memory, want := range map[uint64]int{0: 512, 64 << 20: 512, 512 << 20: 2048, 1 << 30: 4096, 1 << 40: 4096} {
		if got := processLimit(memory); got != want {
			t.Errorf("with %d bytes: %d, want %d", memory, got, want)
		}
	}
	if memory() == 0 {
		t.Error("this machine's memory cannot be told")
	}
}

func TestFlags(t *testing.T) {
	if status := run([]string{"--version"}); status != 0 {
		t.Errorf("--version ended with %d", status)
	}
	if status := run([]string{"--no-such-flag"}); status != 2 {
		t.Errorf("an unknown flag ended with %d", status)
	}
}

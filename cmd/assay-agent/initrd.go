package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the initial RAM disk holds besides this program (package image makes it).
const (
	modulesList = "/modules"    // paths of kernel modules, one a line, in loading order
	probeWord   = "assay.probe" // on the kernel's command line: only prove that this ran
	probeSays   = "assay-probe-ok"
	rootWait    = 20 * time.Second
)

// initrd is the whole life of the first process in the initial RAM disk: it
// becomes the root file system's init, or the machine goes down.
func initrd() {
	if err := bringUp(); err != nil {
		fmt.Println("assay-agent: cannot bring up the root file system:", err)
	}
	powerOff()
}

// bringUp mounts the root file system and becomes its init. It returns without
// an error only where the machine was to be proved and nothing more.
func bringUp() error {
	if err := mountKernel(); err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	line := parseCmdline(string(text))
	if line.probe {
		fmt.Println(probeSays)
		return nil
	}
	if err := loadModules(modulesList, loadModule); err != nil {
		fmt.Println("assay-agent:", err) // perhaps one that this machine can do without
	}
	mountMore()
	if err := awaitFile(line.root, rootWait); err != nil {
		return err
	}
	if err := unix.Mount(line.root, "/root", line.fstype, line.flags, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", line.root, err)
	}
	if line.flags&unix.MS_RDONLY == 0 {
		if err := growRoot(line.root, "/root"); err != nil {
			fmt.Println("assay-agent:", err) // there is less room then, no more
		}
	}
	return switchRoot(line.init)
}

// mountMore mounts what systemd would start a program for, each: seconds where
// the machine is emulated. What cannot be mounted is left to it.
func mountMore() {
	for _, m := range [][2]string{
		{"mqueue", "/dev/mqueue"}, {"hugetlbfs", "/dev/hugepages"},
		{"debugfs", "/sys/kernel/debug"}, {"tracefs", "/sys/kernel/tracing"},
	} {
		_ = os.MkdirAll(m[1], 0o755) // those below /sys are there
		_ = unix.Mount(m[0], m[1], m[0], unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RELATIME, "")
	}
}

// cmdline is what this program takes from the kernel's command line.
type cmdline struct {
	root, fstype, init string
	flags              uintptr
	probe              bool
}

func parseCmdline(text string) cmdline {
	line := cmdline{root: "/dev/vda", fstype: "ext4", init: "/sbin/init", flags: unix.MS_RDONLY}
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "root":
			line.root = value
		case "rootfstype":
			line.fstype = value
		case "init":
			line.init = value
		case "rw":
			line.flags &^= unix.MS_RDONLY
		case "ro":
			line.flags |= unix.MS_RDONLY
		case probeWord:
			line.probe = true
		}
	}
	return line
}

// mountKernel mounts what the kernel shows of itself.
func mountKernel() error {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		err := unix.Mount(m[0], m[1], m[0], unix.MS_NOSUID, "")
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted /dev itself
			return fmt.Errorf("mounting %s: %w", m[1], err)
		}
	}
	return nil
}

// loadModules loads the kernel modules that the list names, as far as it can.
func loadModules(list string, load func(path string) error) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range strings.Fields(string(text)) {
		if err := load(path); err != nil {
			errs = append(errs, fmt.Errorf("cannot load %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read from
	err = unix.FinitModule(int(file.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// awaitFile waits until path exists: drivers find their devices in their own time.
func awaitFile(path string, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// switchRoot makes /root the root and becomes its init. The RAM disk's files are
// removed first: nothing could free their memory later.
func switchRoot(program string) error {
	empty("/")
	for _, dir := range []string{"dev", "proc", "sys"} {
		if err := unix.Mount("/"+dir, "/root/"+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving /%s: %w", dir, err)
		}
	}
	if err := os.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	env := []string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return fmt.Errorf("becoming %s: %w", program, unix.Exec(program, []string{program}, env))
}

// empty removes the plain files below dir on its own file system.
func empty(dir string) {
	var top unix.Stat_t
	if unix.Lstat(dir, &top) != nil {
		return
	}
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		var stat unix.Stat_t
		switch {
		case err != nil || unix.Lstat(path, &stat) != nil || stat.Dev != top.Dev:
			return filepath.SkipDir
		case entry.Type().IsRegular():
			_ = unix.Unlink(path)
		}
		return nil
	})
}

// powerOff ends the machine after its console has printed everything.
func powerOff() {
	_ = unix.IoctlSetInt(1, unix.TCSBRK, 1) // waits until the output is out
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // where there is no power to switch
}

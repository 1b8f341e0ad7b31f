package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// Kernel modules that a guest needs to find its disk and its agent's port. What
// the kernel has built in is in no list and not missed.
func wantedModules() []string {
	return []string{"virtio_pci", "virtio_mmio", "virtio_ccw", "virtio_blk", "virtio_console", "virtio_rng", "ext4"}
}

// needed lists what wanted depends on, and wanted itself, in loading order, as
// paths relative to the directory of modules.dep (modules.dep(5)).
func needed(dep string, wanted []string) []string {
	byName, depends := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(dep) {
		file, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			byName[moduleName(file)] = file
			depends[file] = strings.Fields(rest)
		}
	}
	var order []string
	for _, name := range wanted {
		file, ok := byName[name]
		if !ok {
			continue
		}
		// modules.dep lists the deepest dependency last, and has them all.
		for _, one := range slices.Backward(depends[file]) {
			order = append(order, one)
		}
		order = append(order, file)
	}
	return unique(order)
}

// moduleName is "virtio_pci" for "kernel/drivers/virtio/virtio-pci.ko.xz".
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func unique(list []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}

// module is one kernel module, not compressed.
type module struct {
	name string // "virtio_pci"
	data []byte
}

// writeInitrd writes an initial RAM disk, a cpio archive in the kernel's format
// (Documentation/driver-api/early-userspace/buffer-format.rst) that is not
// compressed: it is small, and unpacking is what an emulated machine is slow at.
// It holds the agent as /init, the modules, and their list in loading order.
func writeInitrd(w io.Writer, agent []byte, modules []module) error {
	archive := cpio.NewWriter(w)
	var list bytes.Buffer
	var errs []error
	put := func(name string, mode cpio.FileMode, data []byte) {
		err := archive.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(data)), Links: 1})
		if err == nil {
			_, err = archive.Write(data)
		}
		errs = append(errs, err)
	}
	for _, dir := range []string{"dev", "proc", "sys", "root", "lib"} {
		put(dir, cpio.TypeDir|0o755, nil)
	}
	put("init", cpio.TypeReg|0o755, agent)
	for _, m := range modules {
		file := "lib/" + m.name + ".ko"
		put(file, cpio.TypeReg|0o644, m.data)
		fmt.Fprintf(&list, "/%s\n", file)
	}
	put("modules", cpio.TypeReg|0o644, list.Bytes())
	errs = append(errs, archive.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot write the initial RAM disk: %w", err)
	}
	return nil
}

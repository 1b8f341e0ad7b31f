package libvirt

import (
	"fmt"
	"syscall"

	"github.com/assay-ci/assay/runner"
)

// leastRoom is what the host's disk must have left for machines: a guest whose
// overlay cannot grow is told of a broken disk.
const leastRoom = 64 << 20

// room makes sure that there is room for overlays.
func (m *Machines) room() error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(m.options.Dir, &fs); err != nil {
		return fmt.Errorf("cannot tell whether there is room for machines: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < leastRoom {
		return fmt.Errorf("the host's disk is full: %s has %s left: make room, or set data to another disk", m.options.Dir, runner.Bytes(free))
	}
	return nil
}

// Trouble does as runner.Troubled says.
func (one *Machine) Trouble() error { return one.machines.room() }

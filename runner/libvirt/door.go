package libvirt

import (
	"context"
	"path/filepath"

	"github.com/assay-ci/assay/runner/attach"
)

// openDoor lets people into the machine, by a socket in its run directory, until
// it is closed.
func (one *Machine) openDoor() error {
	listener, err := attach.Listen(filepath.Join(one.runDir, attach.SocketName))
	if err != nil {
		return err
	}
	m := one.machines
	ctx, shut := context.WithCancel(m.base)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := attach.Serve(ctx, listener, attach.Options{
			Open: one.guest.OpenSession, Dir: guestDir + "/check",
			Record: func(a attach.Access) {
				if m.options.Entered != nil {
					m.options.Entered(one.execution, a)
				}
			},
		})
		if err != nil && ctx.Err() == nil {
			m.log.Warn().Err(err).Str("execution", one.execution).Msg("nobody can enter the machine any more")
		}
	}()
	// The sessions end with the machine's connection, so that goes first.
	one.shutDoor = func() { shut(); _ = one.guest.Close(); <-done }
	return nil
}

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/usernet"
)

// Values of runner.Spec.Network.
const (
	networkNone = "none"
	networkFull = "full"
)

// networkSocket is where QEMU finds the machine's network, in its run directory.
const networkSocket = "net.sock"

// network is a machine's user-mode network, which this process is.
type network struct {
	stop context.CancelFunc
	done chan struct{}
}

// end ends it; QEMU is gone by then.
func (n *network) end() {
	if n != nil {
		n.stop()
		<-n.done
	}
}

// plug makes the machine's network before QEMU looks for it, and gives it to the
// domain. What the policy refuses is told in the execution's log.
func (one *Machine) plug(d *domain) error {
	m := one.machines
	path := filepath.Join(one.runDir, networkSocket)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("cannot make a machine's network: %w", err)
	}
	if err := m.host.user.own(path); err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, stop := context.WithCancel(m.base)
	one.network = &network{stop: stop, done: make(chan struct{})}
	options := usernet.Options{
		Allow: usernet.DefaultPolicy(usernet.PolicyOptions{Private: m.options.PrivateNetworks}),
		Log: func(r usernet.Refused) {
			one.tell("network: a connection to %s (%s) was refused: %v", r.Addr, r.Proto, r.Err)
		},
	}
	go func() {
		defer close(one.network.done)
		if err := usernet.Serve(ctx, listener, options); err != nil && ctx.Err() == nil {
			one.tell("network: it has ended: %v", err)
		}
	}()
	d.Network = path
	return nil
}

// dial brings the guest's card up.
func (one *Machine) dial(ctx context.Context) error {
	said := bounded{limit: maxProof}
	exit, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", usernet.GuestScript}, Dir: "/", Stdout: &said, Stderr: &said})
	if err == nil && exit != 0 {
		err = fmt.Errorf("exit %d: %q", exit, strings.TrimSpace(said.String()[:min(said.Len(), 500)]))
	}
	if err != nil {
		return fmt.Errorf("cannot bring up the machine's network: %w", err)
	}
	return nil
}

// tell says something in the log of the execution that has the machine, if one
// has and its log is open.
func (one *Machine) tell(format string, args ...any) {
	if tell := one.listener.Load(); tell != nil {
		(*tell)(fmt.Sprintf(format, args...))
	}
}

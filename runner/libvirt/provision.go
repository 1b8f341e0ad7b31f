package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/proxy"
)

// Packages is how machines without a network come by packages.
type Packages struct {
	Proxy    *proxy.Proxy
	PipIndex string // see runner.ProvisionOptions

	AptSettings []string
}

// guestProxy is where the proxy listens in the guest: any free port.
const guestProxy = "127.0.0.1:0"

// mostRefusals bounds how many refusals of one installation are told.
const mostRefusals = 20

// provision installs the spec's environment. The guest reaches the proxy through
// its agent's channel, and nothing listens there afterwards.
func (m *Machines) provision(ctx context.Context, one *Machine, w want) (err error) {
	if m.options.Packages == nil {
		return errors.New("cannot install an environment: these machines have no way to packages")
	}
	packages, err := m.options.Packages(ctx)
	if err != nil {
		return fmt.Errorf("cannot install an environment: %w", err)
	}
	listener, err := one.guest.Listen(ctx, guestProxy)
	if err != nil {
		return one.fate(ctx, fmt.Errorf("cannot install an environment: %w", err))
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- packages.Proxy.WithLog(tellRefusals(w.spec)).Serve(serving, listener) }()
	err = runner.Provision(ctx, one, w.spec.Environment, runner.ProvisionOptions{
		Proxy: listener.Addr().String(), PipIndex: packages.PipIndex, AptSettings: packages.AptSettings,
		Timeout: m.options.SetupTimeout, Tell: func(line string) { w.spec.Say("%s", line) },
	})
	stop()
	return errors.Join(err, <-served)
}

// tellRefusals says in the execution's log what the proxy refused or could not get.
func tellRefusals(spec runner.Spec) func(proxy.Entry) {
	var mu sync.Mutex
	told := 0
	return func(e proxy.Entry) {
		if e.Reason == "" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if told++; told <= mostRefusals {
			spec.Say("the proxy answered %d to %s %s: %s", e.Status, e.Method, e.URL, e.Reason)
		}
	}
}

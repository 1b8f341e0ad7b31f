package main

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

// keepFlag is --keep: on, for ever or for a time.
type keepFlag struct {
	on   bool
	time time.Duration // 0 until Ctrl-C
}

// String is the flag's value as it would be written.
func (k *keepFlag) String() string {
	if !k.on {
		return ""
	}
	return k.time.String()
}

// Set reads a value.
func (k *keepFlag) Set(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return fmt.Errorf("cannot keep a machine for %q: write a time such as 30m, or --keep alone", value)
	}
	k.on, k.time = true, d
	return nil
}

// Type is what the help calls a value.
func (k *keepFlag) Type() string { return "time" }

// kept is the machine that stays for a person when its check has ended.
type kept struct {
	env       *env
	execution string
	flag      keepFlag
	machine   runner.Machine // nil for none
}

// take is a runner.Job's Keep.
func (k *kept) take(_ assay.Conclusion, m runner.Machine) bool {
	if k.flag.on {
		k.machine = m
	}
	return k.flag.on
}

// wait lets the machine stay until its time is over, ctx ends or it dies, and
// then gives it back.
func (k *kept) wait(ctx context.Context) error {
	if k.machine == nil {
		if k.flag.on {
			fmt.Fprintln(k.env.err, "assay: the machine is not kept: it did not come up, or died, and nobody can enter it")
		}
		return nil
	}
	var over <-chan time.Time
	until := "until you press Ctrl-C here"
	if k.flag.time > 0 {
		timer := time.NewTimer(k.flag.time)
		defer timer.Stop()
		over = timer.C
		until += ", or until " + time.Now().Add(k.flag.time).Format(time.TimeOnly)
	}
	fmt.Fprintf(k.env.err, "\nThe machine stays %s. From another terminal, enter it with:\n  assay vm shell %s\n", until, k.execution)
	var died <-chan struct{}
	if m, ok := k.machine.(interface{ Done() <-chan struct{} }); ok {
		died = m.Done()
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-died:
		fmt.Fprintln(k.env.err, "assay: the machine has died")
	}
	return k.give()
}

// give gives the machine back, if there is one. After a first Ctrl-C the next one
// ends the program at once, and libvirt destroys the machine.
func (k *kept) give() error {
	if k.machine == nil {
		return nil
	}
	fmt.Fprintln(k.env.err, "assay: giving the machine back")
	if err := k.machine.Close(); err != nil {
		return err
	}
	fmt.Fprintln(k.env.err, "assay: it is gone")
	return nil
}

// sayKept tells where the directory of a check is that stays on a host.
func (s *session) sayKept(where *located) {
	if s.options.keep.on && !s.options.vm && where.dir != "" {
		fmt.Fprintf(s.err, "The check's directory stays until you remove it: %s\n", s.place(where))
	}
}

// place is where a check ran, as one would copy it.
func (s *session) place(where *located) string {
	if s.options.ssh != "" {
		return s.options.ssh + " " + where.dir
	}
	return where.dir
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/libvirt"
)

func newBenchCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what this host can do",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchBootCommand(e), newBenchIntakeCommand(e))
	return cmd
}

// benchOptions are the flags of assay bench boot.
type benchOptions struct {
	config string
	image  string
	deb    []string
	rounds int
	alive  int
	json   bool
}

func newBenchBootCommand(e *env) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Compare a fork's first output with a cold boot's",
		Long: `Boot measures how long it takes from asking for a machine to the first output
of its first command, and prints medians and ratios of one run:

  cold boot          from nothing until the agent runs a command
  cold, boot over    the same until the guest's boot is over, as in a fork
  cold, configured   the same with the environment installed (--deb)
  fresh fork         of a template, when no fork waits
  waiting fork       a fork that waits, paused

and how much memory a fork takes, and how quickly the pool of waiting forks
fills while a check keeps a processor busy. It takes some minutes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return benchBoot(cmd.Context(), e, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "", "configuration file (defaults hold without one)")
	f.StringVar(&o.image, "image", "", "image to boot (default: the configuration's)")
	f.StringSliceVar(&o.deb, "deb", nil, "a Debian package for the environment; may be repeated")
	f.IntVar(&o.rounds, "rounds", 9, "how often each fork is measured; a third as often each cold boot")
	f.IntVar(&o.alive, "alive", 30, "how many forks are alive at once when memory is measured")
	f.BoolVar(&o.json, "json", false, "as JSON")
	return cmd
}

// bench is one run of the benchmark.
type bench struct {
	e       *env
	o       benchOptions
	options libvirt.Options
	spec    runner.Spec
	report  benchReport
}

func benchBoot(ctx context.Context, e *env, o benchOptions) error {
	cfg, err := loadConfig(o.config)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if o.rounds < 3 || o.alive < 0 {
		return &exitError{exitUsage, errors.New("cannot measure with fewer than 3 rounds")}
	}
	b := &bench{e: e, o: o, spec: runner.Spec{Execution: "bench", Image: o.image, Environment: runner.Environment{Deb: o.deb}}}
	dir, err := benchDir(cfg)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := newLogger(e.err, zerolog.WarnLevel.String(), "text")
	if err != nil {
		return err
	}
	b.options = libvirtOptions(cfg, log)
	b.options.Dir = dir // templates of its own: nothing is warm from before
	for _, part := range []func(context.Context) error{b.cold, b.fresh, b.waiting} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return b.print()
}

// benchAge is when a benchmark's directory was left by one that was killed.
const benchAge = 6 * time.Hour

// benchDir is a new directory below the data, where virtual machines may lie;
// what killed benchmarks left there is removed.
func benchDir(cfg config.Config) (string, error) {
	if err := os.MkdirAll(cfg.Data, 0o711); err != nil {
		return "", fmt.Errorf("cannot make the data directory: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(cfg.Data, "bench-*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > benchAge {
			_ = os.RemoveAll(dir) // another user's stays
		}
	}
	dir, err := os.MkdirTemp(cfg.Data, "bench-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		return "", fmt.Errorf("cannot make a directory for the benchmark: %w", err)
	}
	return dir, nil
}

// open opens machines for one part of the benchmark.
func (b *bench) open(ctx context.Context, change func(*libvirt.Options)) (*libvirt.Machines, error) {
	options := b.options
	change(&options)
	b.options.Log = zerolog.Nop() // every part would warn of the same
	return libvirt.Open(ctx, options)
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.e.err, format+"\n", args...) }

// firstOutput boots a machine and waits for a command's first byte; after does
// more with the machine before it is destroyed.
func (b *bench) firstOutput(ctx context.Context, m *libvirt.Machines, spec runner.Spec, script string) (float64, error) {
	begun := time.Now()
	one, err := m.Boot(ctx, spec)
	if err != nil {
		return 0, err
	}
	defer one.Close()
	var out stamped
	exit, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", script}, Dir: "/", Stdout: &out})
	if err != nil || exit != 0 || out.at.IsZero() {
		return 0, errors.Join(fmt.Errorf("cannot measure: the command ended with %d and said %q", exit, out.text.String()), err)
	}
	return out.at.Sub(begun).Seconds(), nil
}

// stamped remembers when the first byte came.
type stamped struct {
	at   time.Time
	text bytes.Buffer
}

func (s *stamped) Write(p []byte) (int, error) {
	if s.at.IsZero() {
		s.at = time.Now()
	}
	return s.text.Write(p)
}

func (b *bench) measure(ctx context.Context, name string, rounds int, once func() (float64, error)) error {
	row := benchRow{Name: name}
	for range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		took, err := once()
		if err != nil {
			return err
		}
		row.Seconds = append(row.Seconds, took)
	}
	row.Median = median(row.Seconds)
	b.say("%-18s %.3f s (%d times)", name, row.Median, rounds)
	b.report.Rows = append(b.report.Rows, row)
	return nil
}

const (
	benchSays    = "echo hello"
	benchSettled = "systemctl is-system-running --wait >/dev/null; echo hello"
)

func (b *bench) cold(ctx context.Context) error {
	m, err := b.open(ctx, func(o *libvirt.Options) { o.Templates = libvirt.TemplatesOff })
	if err != nil {
		return err
	}
	defer m.Close()
	if b.report.Host, err = m.Describe(ctx); err != nil {
		return err
	}
	bare := b.spec
	bare.Environment = runner.Environment{}
	rounds := max(3, b.o.rounds/3)
	err = b.measure(ctx, "cold boot", rounds, func() (float64, error) { return b.firstOutput(ctx, m, bare, benchSays) })
	if err == nil {
		err = b.measure(ctx, "cold, boot over", rounds, func() (float64, error) { return b.firstOutput(ctx, m, bare, benchSettled) })
	}
	if err == nil && len(b.o.deb) > 0 {
		err = b.measure(ctx, "cold, configured", rounds, func() (float64, error) { return b.firstOutput(ctx, m, b.spec, benchSays) })
	}
	return err
}

func (b *bench) fresh(ctx context.Context) error {
	m, err := b.open(ctx, func(o *libvirt.Options) { o.Waiting = 0 })
	if err != nil {
		return err
	}
	defer m.Close()
	spec := b.spec
	spec.Tell = func(line string) { b.say("  %s", line) }
	if _, err := b.firstOutput(ctx, m, spec, benchSays); err != nil {
		return err
	}
	list, err := libvirt.TemplateStore(b.options.Dir, 0).List()
	if err == nil && len(list) > 0 {
		b.report.Template = list[0].Took.Seconds()
	}
	if made := m.Stats(); made.TemplatesMade != 1 {
		return fmt.Errorf("cannot measure forks: %d templates were made, and %d forks were refused", made.TemplatesMade, made.Fallbacks)
	}
	err = b.measure(ctx, "fresh fork", b.o.rounds, func() (float64, error) {
		if err := awaitRest(ctx, m, 0); err != nil {
			return 0, err
		}
		return b.firstOutput(ctx, m, b.spec, benchSays)
	})
	if err == nil && b.o.alive > 0 {
		b.report.Memory, err = b.memory(ctx, m)
	}
	return err
}

// memory lets forks live side by side and reads what they take.
func (b *bench) memory(ctx context.Context, m *libvirt.Machines) (*benchMemory, error) {
	var all []runner.Machine
	defer func() {
		for _, one := range all {
			one.Close()
		}
	}()
	for range b.o.alive {
		one, err := m.Boot(ctx, b.spec)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		if _, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", benchSays}, Dir: "/"}); err != nil {
			return nil, err
		}
	}
	list, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	result := &benchMemory{Forks: b.o.alive}
	var private []float64
	for _, vm := range list {
		if !vm.Ours || vm.Execution != b.spec.Execution {
			continue
		}
		used, err := qemuMemory(vm.Name)
		if err != nil {
			return nil, err
		}
		private = append(private, float64(used.private))
		result.Total += used.proportional
	}
	if len(private) != b.o.alive {
		return nil, fmt.Errorf("cannot measure memory: %d of %d forks are alive", len(private), b.o.alive)
	}
	result.Private = int64(median(private))
	b.say("%-18s %s private each, %s together", fmt.Sprintf("%d forks alive", b.o.alive), runner.Bytes(result.Private), runner.Bytes(result.Total))
	return result, nil
}

// benchWaiting is how many forks wait while waiting forks are measured.
const benchWaiting = 4

func (b *bench) waiting(ctx context.Context) error {
	m, err := b.open(ctx, func(o *libvirt.Options) { o.Waiting = benchWaiting })
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := b.firstOutput(ctx, m, b.spec, benchSays); err != nil { // so that the pool knows what is wanted
		return err
	}
	err = b.measure(ctx, "waiting fork", b.o.rounds, func() (float64, error) {
		if err := awaitRest(ctx, m, 1); err != nil {
			return 0, err
		}
		return b.firstOutput(ctx, m, b.spec, benchSays)
	})
	for _, beside := range []struct{ what, script string }{
		{"a check that waits", "sleep 600"}, {"a check that computes", "while :; do :; done"},
	} {
		if err != nil {
			return err
		}
		var result benchRefill
		if result, err = b.refill(ctx, m, beside.script); err == nil {
			result.Beside = beside.what
			b.say("%-18s %.1f forks a second, beside %s", "pool refills", result.PerSecond, beside.what)
			b.report.Refill = append(b.report.Refill, result)
		}
	}
	return err
}

// refill empties the pool at once while a check runs, and waits until it is full
// again.
func (b *bench) refill(ctx context.Context, m *libvirt.Machines, check string) (result benchRefill, err error) {
	busy, err := m.Boot(ctx, b.spec)
	if err != nil {
		return result, err
	}
	defer busy.Close()
	burn, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = busy.Run(burn, runner.Command{Argv: []string{"/bin/sh", "-c", check}, Dir: "/"}) // until it is stopped
	}()
	defer func() { stop(); <-done }()
	for range 2 { // the first burst tells the pool how many to keep
		for range benchWaiting {
			one, err := m.Boot(ctx, b.spec)
			if err != nil {
				return result, err
			}
			defer one.Close()
		}
		begun, before := time.Now(), idle(m)
		if err := awaitIdle(ctx, m, benchWaiting); err != nil {
			return result, err
		}
		took := time.Since(begun).Seconds()
		if made := benchWaiting - before; made > 0 {
			result = benchRefill{Forks: made, Seconds: took, PerSecond: float64(made) / took}
		}
	}
	if result.Forks == 0 {
		return result, errors.New("cannot measure how the pool refills: it was full before anybody looked")
	}
	return result, nil
}

func idle(m *libvirt.Machines) int {
	sum := 0
	for _, n := range m.Stats().Idle {
		sum += n
	}
	return sum
}

func awaitIdle(ctx context.Context, m *libvirt.Machines, want int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for idle(m) < want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// awaitRest waits until at least so many forks wait and nothing is being made or
// destroyed beside.
func awaitRest(ctx context.Context, m *libvirt.Machines, waiting int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for idle(m) < waiting || m.Stats().Live != idle(m) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

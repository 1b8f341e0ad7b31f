package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/libvirt"
	"github.com/assay-ci/assay/runner/local"
	"github.com/assay-ci/assay/runner/proxy"
)

// openMachines opens the kind of machines that the configuration asks for.
func openMachines(ctx context.Context, cfg config.Config, log zerolog.Logger) (runner.Machines, func() error, error) {
	if cfg.Machines.Kind == "local" {
		log.Warn().Msg("checks run on this host, without any protection: machines.kind is local")
		return local.Machines{Parent: filepath.Join(cfg.Data, "scratch")}, func() error { return nil }, nil
	}
	options := libvirtOptions(cfg, log)
	if options.Waiting = cfg.Machines.Waiting; options.Waiting < 0 {
		options.Waiting = cfg.Machines.Count
	}
	options.Entered = recordAccess(cfg, log)
	m, err := libvirt.Open(ctx, options)
	if err != nil {
		return nil, nil, err
	}
	return m, m.Close, nil
}

// warnImage says at start what every execution would say later: that there is
// no image, or that another version of assay made it.
func warnImage(cfg config.Config, log zerolog.Logger) {
	if cfg.Machines.Kind != "libvirt" {
		return
	}
	img, err := images(cfg).Find(cfg.Machines.Image)
	if err != nil {
		log.Warn().Err(err).Msg("no check can run yet")
		return
	}
	agent, err := agentPath(cfg)
	if err != nil {
		return // only needed to build images
	}
	if same, err := img.Holds(agent); err == nil && !same {
		log.Warn().Str("image", img.Name).Msg("the image has another version's agent: build it again with: assay image build " + img.Name)
	}
}

func libvirtOptions(cfg config.Config, log zerolog.Logger) libvirt.Options {
	boot := cfg.Limits.Boot
	if boot == 0 {
		boot = runner.DefaultLimits().Boot
	}
	return libvirt.Options{
		URI: cfg.Machines.URI, ImageRoot: imageRoot(cfg), Image: cfg.Machines.Image,
		Agent: func(arch string) (string, error) { return agentFor(cfg, arch) },
		Dir:   machinesDir(cfg), KVM: cfg.Machines.KVM,
		BootTimeout: boot, Log: log,
		PrivateNetworks: private(cfg),
		Templates:       cfg.Machines.Templates, TemplateAge: cfg.Machines.TemplateAge, TemplateRoom: int64(cfg.Machines.TemplateRoom),
		SetupTimeout: cfg.Limits.Setup, Packages: packagesFrom(cfg),
		WaitingMemory: int64(cfg.Machines.WaitingMemory),
	}
}

// private are the private networks that machines may reach; a configuration that
// was read has no mistakes in them.
func private(cfg config.Config) []netip.Prefix {
	list, err := cfg.Machines.Private()
	if err != nil {
		return nil
	}
	return list
}

// packagesFrom makes the way to packages when it is first asked for: looking at
// what this host is configured to use takes a moment, and most formulas install
// nothing.
func packagesFrom(cfg config.Config) func(context.Context) (libvirt.Packages, error) {
	var once sync.Mutex
	var made *libvirt.Packages
	return func(ctx context.Context) (libvirt.Packages, error) {
		once.Lock()
		defer once.Unlock()
		if made != nil {
			return *made, nil
		}
		packages, err := openPackages(ctx, cfg)
		if err == nil {
			made = &packages
		}
		return packages, err
	}
}

func openPackages(ctx context.Context, cfg config.Config) (libvirt.Packages, error) {
	var allow []proxy.Rule
	for i, prefix := range cfg.Machines.Mirrors {
		rule, err := proxy.ParseRule(prefix)
		if err != nil {
			return libvirt.Packages{}, fmt.Errorf("machines.mirrors[%d]: %w", i, err)
		}
		allow = append(allow, rule)
	}
	index := cfg.Machines.PipIndex
	if len(allow) == 0 {
		var err error
		if allow, err = proxy.HostMirrors(ctx); err != nil {
			return libvirt.Packages{}, err
		}
	}
	if index == "" {
		var err error
		if index, err = proxy.PipIndex(); err != nil {
			return libvirt.Packages{}, err
		}
	}
	p, err := proxy.New(proxy.Options{Allow: allow, Cache: filepath.Join(cfg.Data, "packages")})
	if err != nil {
		return libvirt.Packages{}, err
	}
	settings, err := proxy.AptSettings(ctx)
	return libvirt.Packages{Proxy: p, PipIndex: index, AptSettings: settings}, err
}

// imageRoot is where the images lie: shared by everything of one user.
func imageRoot(cfg config.Config) string {
	if cfg.Machines.Images != "" {
		return cfg.Machines.Images
	}
	return filepath.Join(config.DataHome(), "images")
}

func images(cfg config.Config) image.Store { return image.Store{Root: imageRoot(cfg)} }

// agentPath finds the program that goes into guests: beside this one, unless
// the configuration says where.
func agentPath(cfg config.Config) (string, error) {
	if cfg.Machines.Agent != "" {
		return cfg.Machines.Agent, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find assay-agent: %w", err)
	}
	agent := filepath.Join(filepath.Dir(exe), "assay-agent")
	if _, err := os.Stat(agent); err != nil {
		return "", fmt.Errorf("cannot find assay-agent beside assay: %w: make build puts it there", err)
	}
	return agent, nil
}

// agentFor finds the agent for guests of an architecture: assay-agent for the
// host's own, assay-agent-ARCH beside it for others.
func agentFor(cfg config.Config, arch string) (string, error) {
	path, err := agentPath(cfg)
	if arch == "" {
		return path, err
	}
	own, herr := image.HostArchitecture()
	other, oerr := image.ArchitectureOf(arch)
	if err = errors.Join(err, herr, oerr); err != nil || own.Name == other.Name {
		return path, err
	}
	path += "-" + other.Name
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot find the agent for %s: %w: make agents builds it", arch, err)
	}
	return path, nil
}

// reapPeriod is how often a server looks for machines that nobody owns.
const reapPeriod = time.Minute

// reap destroys what dead processes left, also our own strays, until ctx ends.
func (s *server) reap(ctx context.Context) error {
	m, ok := s.machines.(*libvirt.Machines)
	if !ok {
		return nil
	}
	tick := time.NewTicker(reapPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		m.Prune()
		reaped, err := m.Reap(ctx)
		for _, r := range reaped {
			s.log.Warn().Str("execution", r.Execution).Str("kind", r.Kind).Msg("destroyed what a dead process left: " + r.Name)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("cannot look for machines that were left")
		}
	}
}

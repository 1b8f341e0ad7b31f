package main

import (
	"errors"
	"fmt"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
)

// specOf is the machine that a formula asks for. note says what a person should
// know of the choice, "" for nothing.
func specOf(f *checks.Formula, e assay.Execution, store image.Store, otherwise string) (spec runner.Spec, note string) {
	env := f.Environment
	spec = runner.Spec{
		Execution: e.ID, Image: env.Image, Arch: e.Arch,
		CPUs: env.CPUs, Memory: env.Memory, Disk: env.Disk, Network: env.Network,
		Environment: runner.Environment{RPM: env.RPM, Deb: env.Deb, Pip: env.Pip, Setup: env.Setup},
	}
	if spec.Image == "" {
		spec.Image, note = imageFor(e, store, otherwise)
	}
	return spec, note
}

// imageFor follows the item, as Taskotron did: what was built for a release is
// checked on that release, if there is an image of it.
func imageFor(e assay.Execution, store image.Store, otherwise string) (name, note string) {
	distro, release, ok := image.Follow(e.Item, "")
	if !ok {
		return otherwise, ""
	}
	arch := e.Arch
	if arch == "noarch" {
		arch = ""
	}
	img, err := store.For(distro, release, arch)
	switch {
	case err == nil:
		return img.Name, ""
	case errors.Is(err, assay.ErrNotFound):
		return otherwise, fmt.Sprintf("%s is for %s %s, of which there is no image (see assay image pull --list): taking %s", e.Item, distro, release, otherwise)
	}
	return otherwise, fmt.Sprintf("%s is for %s %s: %v: taking %s", e.Item, distro, release, err, otherwise)
}

// errNoNetwork tells that the operator does not let a check repository's formulas
// have a network.
var errNoNetwork = errors.New("its check repository may not: set network in the operator's configuration of packages")

// mayNetwork refuses a formula that wants a network and may not have one.
func mayNetwork(f *checks.Formula, allowed bool) error {
	if f.Environment.Network != "full" || allowed {
		return nil
	}
	return fmt.Errorf("cannot give the machine of %s a network: %w", f.Checkname(), errNoNetwork)
}

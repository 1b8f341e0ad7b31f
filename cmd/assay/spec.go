package main

import (
	"errors"
	"fmt"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
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

// errNotAllowed tells that a formula asks for what the operator does not give.
// The next attempt would ask for the same.
var errNotAllowed = errors.New("the operator's configuration does not allow it")

// allowed refuses a formula that asks for more than the operator gives; network
// tells whether those of its check repository may have one.
func allowed(f *checks.Formula, limits config.Limits, network bool) error {
	env := f.Environment
	switch {
	case env.Network == "full" && !network:
		return fmt.Errorf("cannot give the machine of %s a network: %w: set network for its package", f.Checkname(), errNotAllowed)
	case env.CPUs > limits.CPUs:
		return fmt.Errorf("cannot give the machine of %s %d processors: %w: at most %d (limits.cpus)", f.Checkname(), env.CPUs, errNotAllowed, limits.CPUs)
	case env.Memory > int64(limits.Memory):
		return fmt.Errorf("cannot give the machine of %s %s of memory: %w: at most %s (limits.memory)", f.Checkname(), runner.Bytes(env.Memory), errNotAllowed, runner.Bytes(int64(limits.Memory)))
	case env.Disk > int64(limits.Disk):
		return fmt.Errorf("cannot give the machine of %s a disk of %s: %w: at most %s (limits.disk)", f.Checkname(), runner.Bytes(env.Disk), errNotAllowed, runner.Bytes(int64(limits.Disk)))
	}
	return nil
}

package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
)

// specOf is the machine that a formula asks for: for the execution's variant, if it
// has one. note says what a person should know of the choice, "" for nothing.
func specOf(f *checks.Formula, e assay.Execution, store image.Store, otherwise string) (spec runner.Spec, note string) {
	env := f.Environment
	spec = runner.Spec{
		Execution: e.ID, Image: env.Image, Arch: cmp.Or(env.Arch, e.Arch),
		CPUs: env.CPUs, Memory: env.Memory, Disk: env.Disk, Network: env.Network,
		Environment: runner.Environment{RPM: env.RPM, Deb: env.Deb, Pip: env.Pip, Setup: env.Setup},
	}
	if v, ok := variantOf(f, e); ok {
		spec.Image = cmp.Or(v.Image, env.Image)
		if v.Arch != "" {
			spec.Arch = v.Arch
		}
	}
	if spec.Image == "" {
		spec.Image, note = imageFor(env, e.Item, spec.Arch, store, otherwise)
	}
	return spec, note
}

// variantOf is the variant of a formula that an execution is for. A formula without
// a matrix has none, and needs none.
func variantOf(f *checks.Formula, e assay.Execution) (v checks.Variant, ok bool) {
	for _, v := range f.Matrix {
		if v.Name == e.Variant && (v.Arch == "" || v.Arch == e.Arch) {
			return v, true
		}
	}
	return checks.Variant{}, len(f.Matrix) == 0 && e.Variant == ""
}

// imageFor takes the image of the release that a formula asks for. Of what it says
// nothing it follows the item, as Taskotron did: what was built for a release is
// checked on that release, if there is an image of it. What the formula asks for by
// itself there has to be: nothing else takes its place.
func imageFor(env checks.Environment, item, arch string, store image.Store, otherwise string) (name, note string) {
	distro, release, ok := image.Follow(item, "")
	asked := env.Distro != "" || env.Release != ""
	if env.Distro != "" && env.Distro != distro {
		distro, release = env.Distro, ""
	}
	release = cmp.Or(env.Release, release)
	switch {
	case asked && distro == "":
		distro = "fedora" // which Taskotron's formulas were for
	case asked && release == "":
		return distro, fmt.Sprintf("environment asks for %s without a release, and %s tells none: write environment: {release: …}", distro, item)
	case !asked && !ok:
		return otherwise, ""
	}
	if arch == "noarch" {
		arch = ""
	}
	img, err := store.For(distro, release, arch)
	whose := fmt.Sprintf("%s is for %s %s", item, distro, release)
	if asked {
		whose, otherwise = fmt.Sprintf("environment asks for %s %s", distro, release), image.NameFor(distro, release, arch)
	}
	switch {
	case err == nil:
		return img.Name, ""
	case errors.Is(err, assay.ErrNotFound):
		return otherwise, fmt.Sprintf("%s, of which there is no image (see assay image pull --list): taking %s", whose, otherwise)
	}
	return otherwise, fmt.Sprintf("%s: %v: taking %s", whose, err, otherwise)
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

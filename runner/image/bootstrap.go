package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cacheFor is how long downloaded and installed packages are good for another
// build: as old as a machine may be that has had no security updates.
const cacheFor = 7 * 24 * time.Hour

// root says what goes into a root file system before anything of ours.
type root struct {
	release  release
	arch     Architecture
	packages []string
	sources  []string // lines of sources.list(5), or of a file of dnf's repositories
}

// key is equal for roots that are built the same.
func (r root) key() string {
	h := sha256.New()
	name := r.release.Codename
	if r.release.rpm() {
		name = r.release.Distro + "-" + r.release.Version
	}
	fmt.Fprintf(h, "2\n%s\n%s\n%q\n%q\n", name, r.arch.Debian, r.packages, r.sources)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// bootstrapArgs are the arguments that make mmdebstrap(1) write the root to
// target, as root with what root may do, else in a user namespace.
func (r root) bootstrapArgs(target string, asRoot bool) []string {
	mode := "unshare"
	if asRoot {
		mode = "root"
	}
	args := []string{
		"--verbose", "--mode=" + mode, "--variant=minbase", "--format=tar",
		"--architectures=" + r.arch.Debian,
		"--include=" + strings.Join(r.packages, ","),
		// A machine that is thrown away need not survive a power cut: neither while
		// it is built nor while a check installs packages.
		"--dpkgopt=force-unsafe-io",
		r.release.Codename, target,
	}
	return append(args, r.sources...)
}

// checkPackages refuses what is no package's name (Debian Policy, 5.6.1) before
// it becomes part of an argument. Names of RPM packages have upper case and
// underscores, too.
func checkPackages(names []string, rpm bool) error {
	allowed := "abcdefghijklmnopqrstuvwxyz0123456789+-."
	if rpm {
		allowed += "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	}
	for _, name := range names {
		if len(name) < 2 || strings.Trim(name, allowed) != "" || strings.ContainsAny(name[:1], "+-._") {
			return fmt.Errorf("cannot install %q: that is no package's name", name)
		}
	}
	return nil
}

// planRoot finds out what the root of an image is made of.
func planRoot(ctx context.Context, options BuildOptions) (root, error) {
	release, err := parseRelease(options.from())
	if err != nil {
		return root{}, err
	}
	arch, err := options.Architecture()
	if err != nil {
		return root{}, err
	}
	if err := checkPackages(options.Packages, release.rpm()); err != nil {
		return root{}, err
	}
	packages := unique(append(release.packages(arch), options.Packages...))
	slices.Sort(packages)
	plan := root{release: release, arch: arch, packages: packages}
	if release.rpm() {
		plan.sources, err = plan.repositories(options.Mirror, options.Keyring)
		return plan, err
	}
	keys, err := release.keys(options.Keyring)
	if err != nil {
		return plan, err
	}
	if options.Mirror != "" {
		plan.sources, err = release.mirrorSources(options.Mirror, keys)
	} else {
		plan.sources, err = hostSources(ctx, release, keys)
	}
	return plan, err
}

// keys is the file with the keys that sign the release; own is "" for where
// distributions install it.
func (r release) keys(own string) (string, error) {
	keys, debian, fedora := r.keyring()
	if own != "" {
		keys = own
	}
	if !isPlain(keys) {
		return "", fmt.Errorf("cannot use the keyring %q: its path must have no white space, quotes or brackets", keys)
	}
	if _, err := os.Stat(keys); err != nil {
		return "", fmt.Errorf("cannot check %s's signatures: no keys in %s: %w: install the package %s (on Fedora %s)", r.Distro, keys, err, debian, fedora)
	}
	return keys, nil
}

// hostSources asks this host's apt where it fetches the distribution from.
func hostSources(ctx context.Context, release release, keys string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets").Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read this host's apt configuration: %w", err)
	}
	return release.sources(parseTargets(string(out)), keys)
}

// fetch gives the archive of the root's files, from the cache or by installing
// everything anew.
func (s Store) fetch(ctx context.Context, tools toolbox, plan root, fresh bool, meter *meter) (string, error) {
	dir := filepath.Join(s.Root, ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the package cache: %w", err)
	}
	cached := filepath.Join(dir, "root-"+plan.key()+".tar")
	info, err := os.Stat(cached)
	if err == nil && !fresh && time.Since(info.ModTime()) < cacheFor {
		return cached, nil
	}
	scratch, err := s.scratch(ctx, tools)
	if err != nil {
		return "", err
	}
	tools.env = append(slices.Clone(tools.env), "TMPDIR="+scratch, "INITRD=No")
	part := cached + partMark + "tar"
	meter.stage(stageLists)
	if plan.release.rpm() {
		err = plan.installRPM(ctx, tools, scratch, part, meter)
	} else {
		err = tools.run(ctx, meter.bootstrap, "mmdebstrap", plan.bootstrapArgs(part, os.Geteuid() == 0)...)
	}
	if err == nil {
		err = os.Rename(part, cached)
	}
	after, done := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer done()
	err = errors.Join(err, discardScratch(after, tools, scratch))
	if err != nil {
		return "", fmt.Errorf("cannot install %s %s: %w", plan.release.Distro, plan.release.Version, err)
	}
	return cached, forget(dir, cached)
}

// forget removes what is cached of other packages: one root is 400 MB.
func forget(dir, keep string) error {
	old, err := filepath.Glob(filepath.Join(dir, "root-*.tar"))
	if err != nil {
		return err
	}
	for _, path := range old {
		info, err := os.Stat(path)
		if err == nil && path != keep && time.Since(info.ModTime()) > cacheFor {
			err = os.Remove(path)
		}
		if err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("cannot tidy the package cache: %w", err)
		}
	}
	return nil
}

// scratch makes the directory in which packages are unpacked, after removing
// what killed builds left. It lies where every user may go, because in a user
// namespace it is other users who write there, and on a disk: it takes 400 MB.
func (s Store) scratch(ctx context.Context, tools toolbox) (string, error) {
	sum := sha256.Sum256([]byte(s.Root))
	prefix := "assay-image-" + hex.EncodeToString(sum[:6]) + "-"
	stale, err := filepath.Glob(filepath.Join(scratchParent, prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range stale {
		_ = discardScratch(ctx, tools, dir) // another user's of the same name stays
	}
	dir, err := os.MkdirTemp(scratchParent, prefix)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("cannot make a scratch directory: %w", err)
	}
	return dir, nil
}

const scratchParent = "/var/tmp"

// discardScratch removes a scratch directory, with what users of a user
// namespace own in it.
func discardScratch(ctx context.Context, tools toolbox, dir string) error {
	if removeTree(dir) == nil || os.Geteuid() == 0 {
		return os.RemoveAll(dir)
	}
	inside, err := filepath.Glob(filepath.Join(dir, "*"))
	if err == nil && len(inside) > 0 {
		err = tools.run(ctx, nil, "mmdebstrap", append([]string{"--unshare-helper", "rm", "-rf", "--"}, inside...)...)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

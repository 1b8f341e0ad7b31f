package image

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// repository is where one of a distribution's collections of packages lies below
// a mirror of it; {release} and {arch} are filled in.
type repository struct{ name, path string }

// layout is how a distribution's mirrors are laid out and how its keys are called
// in the package distribution-gpg-keys.
func (r release) layout() (repositories []repository, key string) {
	switch r.Distro {
	case "fedora":
		return []repository{
			{"fedora", "releases/{release}/Everything/{arch}/os/"},
			{"updates", "updates/{release}/Everything/{arch}/"},
		}, "fedora/RPM-GPG-KEY-fedora-{release}-primary"
	case "centos-stream":
		key = "centos/RPM-GPG-KEY-CentOS-Official"
		if r.Version != "9" {
			key += "-SHA256"
		}
		return []repository{
			{"baseos", "{release}-stream/BaseOS/{arch}/os/"},
			{"appstream", "{release}-stream/AppStream/{arch}/os/"},
		}, key
	}
	key = "alma/RPM-GPG-KEY-AlmaLinux-{release}"
	if r.Distro == "rocky" {
		key = "rocky/RPM-GPG-KEY-Rocky-{release}"
	}
	return []repository{
		{"baseos", "{release}/BaseOS/{arch}/os/"},
		{"appstream", "{release}/AppStream/{arch}/os/"},
	}, key
}

// keysBelow is where distribution-gpg-keys puts the keys of all of them.
const keysBelow = "/usr/share/distribution-gpg-keys/"

// hostRelease is where a system says what it is (os-release(5)).
const hostRelease = "/etc/os-release"

// repositories makes the file of repositories that the release is installed from
// on a mirror. Without one it is nil: then the host's own repositories do, if the
// host is of the same distribution.
func (r root) repositories(mirror, keys string) ([]string, error) {
	if mirror == "" {
		text, err := os.ReadFile(hostRelease)
		if err != nil {
			return nil, fmt.Errorf("cannot tell which distribution this host is of: %w: name a mirror of %s with --mirror", err, r.release.Distro)
		}
		return nil, r.checkHost(string(text))
	}
	u, err := webAddress(mirror)
	if err != nil || !isPlain(mirror) {
		return nil, fmt.Errorf("cannot use %q as a mirror: it must be an address such as https://HOST/fedora/linux", mirror)
	}
	list, key := r.release.layout()
	if keys == "" {
		keys = keysBelow + r.fill(key)
	}
	if _, err := os.Stat(keys); err != nil || !filepath.IsAbs(keys) {
		return nil, fmt.Errorf("cannot check %s's signatures: no keys in %s: install the package distribution-gpg-keys, or name the file with --keyring", r.release.Distro, keys)
	}
	var lines []string
	for _, one := range list {
		lines = append(lines,
			"["+one.name+"]", "name="+one.name, "baseurl="+strings.TrimSuffix(u.String(), "/")+"/"+r.fill(one.path),
			"enabled=1", "gpgcheck=1", "gpgkey="+(&url.URL{Scheme: "file", Path: keys}).String())
	}
	return lines, nil
}

func (r root) fill(pattern string) string {
	return strings.NewReplacer("{release}", r.release.Version, "{arch}", r.arch.Name).Replace(pattern)
}

// checkHost refuses a host whose own repositories have another distribution.
func (r root) checkHost(text string) error {
	id := ""
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "ID="); ok {
			id = strings.Trim(value, `"'`)
		}
	}
	if id == r.release.Distro || id == "centos" && r.release.Distro == "centos-stream" {
		return nil
	}
	return fmt.Errorf("cannot find packages of %s on this host, whose own repositories have those of %q: name a mirror with --mirror, or get the image with: assay image pull %s:%s",
		r.release.Distro, id, r.release.Distro, r.release.Version)
}

// dnfArgs are the arguments that make dnf(8) install the root below tree.
// Nothing of what it finds below tree counts, and without repositories of our own
// it takes the host's.
func (r root) dnfArgs(scratch, tree string) []string {
	reposdir := "/etc/yum.repos.d"
	if len(r.sources) > 0 {
		reposdir = filepath.Join(scratch, "repos")
	}
	args := []string{
		"--installroot=" + tree, "--releasever=" + r.release.Version, "--forcearch=" + r.arch.Name,
		"--config=" + filepath.Join(scratch, "dnf.conf"), "--setopt=reposdir=" + reposdir,
		"--setopt=cachedir=" + filepath.Join(scratch, "cache"), "--setopt=varsdir=/etc/dnf/vars",
		"--setopt=install_weak_deps=False", "--setopt=tsflags=nodocs", "--assumeyes", "install",
	}
	return append(args, r.packages...)
}

// dnfConfig is the configuration that nobody else's settings get into.
const dnfConfig = "[main]\ngpgcheck=1\nlocalpkg_gpgcheck=1\nbest=True\nskip_if_unavailable=False\n"

// treeScript prepares a tree for packages whose scripts expect a device or two.
const treeScript = `set -e
mkdir -p "$1/dev" "$1/proc" "$1/sys"
mknod -m 666 "$1/dev/null" c 1 3
mknod -m 666 "$1/dev/urandom" c 1 9
`

// installRPM installs the root and packs it to target, a tar archive. Only root
// can.
func (r root) installRPM(ctx context.Context, tools toolbox, scratch, target string, meter *meter) error {
	tree, repos := filepath.Join(scratch, "root"), filepath.Join(scratch, "repos")
	for _, dir := range []string{tree, repos} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{
		filepath.Join(scratch, "dnf.conf"): dnfConfig,
		filepath.Join(repos, "assay.repo"): strings.Join(r.sources, "\n") + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	err := tools.run(ctx, nil, "sh", "-c", treeScript, "sh", tree)
	if err == nil {
		err = tools.run(ctx, meter.rpm, "dnf", r.dnfArgs(scratch, tree)...)
	}
	if err != nil {
		return err
	}
	meter.stage(stagePack)
	return tools.run(ctx, nil, "tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*",
		"--exclude=./dev/*", "-C", tree, "-f", target, ".")
}

package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kdomanski/iso9660"
)

// SeedLabel is the volume label by which cloud-init knows a seed, and by which a
// guest mounts it (cloud-init, "NoCloud", source 2).
const SeedLabel = "cidata"

// Seed is what an image that is not Prepared needs to know and to get when it
// boots for the first time.
type Seed struct {
	// Agent is the path of the assay-agent program to bring in: static, for Arch.
	Agent string
	Arch  string // the image's, by any of its names; "" for the host's own
	// InstanceID makes cloud-init begin anew when it differs from what the disk
	// has seen; "" for "assay". Letters, digits, dots and hyphens.
	InstanceID string
	Hostname   string // as RFC 1123 has it; "" for "assay"
	// Network tells that the machine has a card. Without one nothing in the guest
	// is to wait for it.
	Network bool
}

// check fills in what is left out and refuses what could end a line of YAML.
func (s Seed) check() (Seed, error) {
	if s.InstanceID == "" {
		s.InstanceID = "assay"
	}
	if s.Hostname == "" {
		s.Hostname = "assay"
	}
	const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if len(s.InstanceID) > 64 || strings.Trim(s.InstanceID, alphanumeric+".-") != "" {
		return s, fmt.Errorf("cannot use %q as an instance's name: it must have at most 64 letters, digits, dots and hyphens", s.InstanceID)
	}
	for _, part := range strings.Split(s.Hostname, ".") {
		if part == "" || len(s.Hostname) > 64 || strings.Trim(part, alphanumeric+"-") != "" || part[0] == '-' || part[len(part)-1] == '-' {
			return s, fmt.Errorf("cannot use %q as a host's name: it must have at most 64 letters, digits, dots and hyphens", s.Hostname)
		}
	}
	arch, err := architectureOr(s.Arch)
	if err != nil {
		return s, err
	}
	return s, checkAgent(s.Agent, arch)
}

// WriteSeed writes the ISO 9660 image of a seed, some megabytes. A machine that
// has it as any kind of disk, and cloud-init and systemd inside, installs the
// agent in the early part of its first boot, before it looks for a network, and
// starts it. The machine goes on to boot beside that.
func WriteSeed(w io.Writer, seed Seed) (err error) {
	if seed, err = seed.check(); err != nil {
		return err
	}
	disc, err := iso9660.NewWriter()
	if err != nil {
		return fmt.Errorf("cannot write a seed: %w", err)
	}
	defer func() { err = errors.Join(err, disc.Cleanup()) }()
	if err = addFiles(disc, seed); err == nil {
		err = disc.WriteTo(w, SeedLabel)
	}
	if err != nil {
		return fmt.Errorf("cannot write a seed: %w", err)
	}
	return nil
}

// addFiles puts everything on the disc. Names must be in lower case and have at
// most one dot: that is how ISO 9660 keeps them as they are.
func addFiles(disc *iso9660.ImageWriter, seed Seed) error {
	for name, text := range seed.files() {
		if err := disc.AddFile(strings.NewReader(text), name); err != nil {
			return err
		}
	}
	agent, err := os.Open(seed.Agent)
	if err != nil {
		return err
	}
	return errors.Join(disc.AddFile(agent, "assay-agent"), agent.Close())
}

// files are all of the disc's but the agent.
func (s Seed) files() map[string]string {
	files := map[string]string{
		// "dsmode: local" has cloud-init act on the user data in its first stage,
		// before the network: what waits for one has not begun to.
		"meta-data":           "instance-id: " + s.InstanceID + "\nlocal-hostname: " + s.Hostname + "\ndsmode: local\n",
		"user-data":           userData,
		"install.sh":          s.installScript(),
		"assay-agent.service": agentUnit(),
	}
	if !s.Network {
		files["network-config"] = "network:\n  config: disabled\n"
	}
	return files
}

// userData is cloud-config. Beside the agent it asks for less than images do by
// default: no accounts, no new package sources, no locale to make, and one kind of
// host key, because every fork makes its own.
const userData = `#cloud-config
bootcmd:
- - sh
  - -c
  - mkdir -p /run/assay-seed && mount -o ro -L ` + SeedLabel + ` /run/assay-seed && sh /run/assay-seed/install.sh; umount /run/assay-seed
users: []
locale: false
ssh_genkeytypes: [ed25519]
package_update: false
package_upgrade: false
apt: {preserve_sources_list: true}
`

// masked are the units that the machine shall not start.
func (s Seed) masked() []string {
	if s.Network {
		return harmlessMasks()
	}
	return append(harmlessMasks(), networkWaits()...)
}

// installScript installs the agent from the disc that it lies on, as root. It
// may run any number of times. What it cannot do it says on the console, which
// is all that is left of a machine whose agent did not come.
func (s Seed) installScript() string {
	return `#!/bin/sh
seed=${0%/*}
units=/` + strings.TrimSuffix(units, "/") + `
fail() {
    echo "assay-seed: cannot $1" >&2
    echo "assay-seed: cannot $1" >/dev/console 2>&1
    exit 1
}
# put FILE TARGET MODE: in one step, because the target may be running.
put() {
    mkdir -p "${2%/*}" && cp "$seed/$1" "$2.new" && chmod "$3" "$2.new" || fail "write $2"
    if command -v restorecon >/dev/null; then
        restorecon "$2.new"
    fi
    mv -f "$2.new" "$2" || fail "write $2"
    if command -v restorecon >/dev/null; then
        restorecon "$2"
    fi
}
put assay-agent ` + agentPath + ` 755
put assay-agent.service "$units/assay-agent.service" 644
mkdir -p "$units/sysinit.target.wants"
ln -sfn ../assay-agent.service "$units/sysinit.target.wants/assay-agent.service"
masked='` + strings.Join(s.masked(), " ") + `'
for unit in $masked; do
    # What somebody configured stays.
    if [ ! -e "$units/$unit" ] || [ -L "$units/$unit" ]; then
        ln -sfn /dev/null "$units/$unit"
    fi
done
if [ -d /etc/cloud/cloud.cfg.d ]; then
    echo 'datasource_list: [NoCloud, None]' >/etc/cloud/cloud.cfg.d/99-assay.cfg
fi
systemctl daemon-reload
# Those that are about to start were asked for before they were masked.
systemctl --no-block stop $masked 2>/dev/null
systemctl --no-block start assay-agent.service || fail "start the agent"
`
}

package image

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"
	"time"
)

// agentPath is where the agent lies in the guest.
const agentPath = "/usr/local/sbin/assay-agent"

// entry is one file that is laid over a root.
type entry struct {
	name string // relative to the root
	mode int64
	data []byte
	link string // target of a symbolic link
}

// overlay lists what an image has besides its distribution's packages, in the
// order of writing. Everything here is an ordinary setting that a maintainer
// finds below /etc and can take back.
func overlay(agent []byte, built time.Time) []entry {
	// Newer than /usr: systemd need not bring /etc and /var up to date
	// (systemd-update-done.service(8)).
	updated := fmt.Appendf(nil, "TIMESTAMP_NSEC=%d\n", built.UnixNano())
	entries := []entry{
		{name: strings.TrimPrefix(agentPath, "/"), mode: 0o755, data: agent},
		{name: units + "assay-agent.service", mode: 0o644, data: []byte(agentUnit())},
		{name: units + "sysinit.target.wants/assay-agent.service", link: "../assay-agent.service"},
		{name: units + "systemd-udev-trigger.service.d/assay.conf", mode: 0o644, data: []byte(coldplug())},
		{name: "etc/systemd/journald.conf.d/assay.conf", mode: 0o644, data: []byte("[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n")},
		{name: "etc/systemd/system.conf.d/assay.conf", mode: 0o644, data: []byte("[Manager]\nDefaultTimeoutStartSec=30s\nDefaultTimeoutStopSec=10s\n")},
		{name: "etc/hostname", mode: 0o644, data: []byte("assay\n")},
		{name: "etc/hosts", mode: 0o644, data: []byte("127.0.0.1 localhost\n127.0.1.1 assay\n::1 localhost ip6-localhost ip6-loopback\n")},
		{name: "etc/fstab", mode: 0o644, data: []byte("/dev/vda / ext4 rw,relatime 0 0\n")},
		{name: "etc/machine-id", mode: 0o444}, // empty: each machine makes its own (machine-id(5))
		{name: "etc/.updated", mode: 0o644, data: updated},
		{name: "var/.updated", mode: 0o644, data: updated},
	}
	for _, unit := range maskedUnits() {
		entries = append(entries, entry{name: units + unit, link: "/dev/null"})
	}
	for _, name := range maskedGenerators() {
		entries = append(entries, entry{name: "etc/systemd/system-generators/systemd-" + name + "-generator", link: "/dev/null"})
	}
	return entries
}

// units is where systemd's units are configured.
const units = "etc/systemd/system/"

// agentUnit starts the agent as soon as its port is there, beside everything
// else that starts. The agent divides its control group itself. It has no loops
// that Go would have to interrupt, and signals cost a fork time.
func agentUnit() string {
	return `[Unit]
Description=Assay agent: runs commands for the host
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
IgnoreOnIsolate=yes

[Service]
ExecStart=` + agentPath + `
Environment=GODEBUG=asyncpreemptoff=1
Restart=always
RestartSec=1
OOMScoreAdjust=-1000
Delegate=pids
TasksMax=infinity
IgnoreSIGPIPE=no
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=sysinit.target
`
}

// coldplug has udev look at the devices that such a machine has, instead of at
// every terminal, processor and memory bank, for which it would load drivers
// that nothing uses. Devices that come later are handled as ever.
func coldplug() string {
	return `[Service]
ExecStart=
ExecStart=-udevadm trigger --type=all --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=virtio --subsystem-match=virtio-ports
`
}

// maskedUnits are what a machine that lives for minutes has no use for, in an
// image of our own: beside what does no harm anywhere the care of disks that are
// thrown away, and modules loaded ahead of their use.
func maskedUnits() []string {
	return append(harmlessMasks(),
		"getty.target", "console-getty.service", "serial-getty@ttyS0.service", "getty@tty1.service",
		"systemd-fsck-root.service", "systemd-remount-fs.service",
		"systemd-repart.service", "systemd-pstore.service", "systemd-random-seed.service",
		"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
		"systemd-journal-flush.service", "systemd-binfmt.service",
		"proc-sys-fs-binfmt_misc.automount", "systemd-modules-load.service",
		"sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
	)
}

// harmlessMasks are units that no machine of a check misses, whoever made its
// image: what would start by itself in the middle of a check, and what asks the
// network for the time, which the agent sets.
func harmlessMasks() []string {
	return []string{
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
		"fstrim.timer", "logrotate.timer", "man-db.timer", "motd-news.timer", "systemd-tmpfiles-clean.timer",
		"dnf-makecache.timer", "fwupd-refresh.timer", "update-notifier-download.timer",
		"update-notifier-motd.timer", "rpm-ostreed-automatic.timer", "zincati.service",
		"unattended-upgrades.service", "systemd-timesyncd.service", "e2scrub_reap.service",
	}
}

// networkWaits are units that hold up the boot until there is a network, for
// minutes where there is no card.
func networkWaits() []string {
	return []string{
		"systemd-networkd-wait-online.service", "NetworkManager-wait-online.service", "ifupdown-wait-online.service",
	}
}

// maskedGenerators are programs that systemd runs first of all, to make units of
// what no image has: encrypted disks, a hibernated system, consoles to log in on.
// The one for System V scripts stays: packages still have these.
func maskedGenerators() []string {
	return []string{
		"bless-boot", "cryptsetup", "debug", "fstab", "getty", "gpt-auto", "hibernate-resume",
		"integritysetup", "rc-local", "run", "system-update", "veritysetup",
	}
}

// writeOverlay writes entries as a tar archive, all owned by root and as old as
// the build.
func writeOverlay(w io.Writer, entries []entry, built time.Time) error {
	archive := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{
			Name: "./" + e.name, Mode: e.mode, Size: int64(len(e.data)),
			Typeflag: tar.TypeReg, ModTime: built, Format: tar.FormatGNU,
		}
		if e.link != "" {
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("cannot write %s: %w", e.name, err)
		}
		if _, err := archive.Write(e.data); err != nil {
			return fmt.Errorf("cannot write %s: %w", e.name, err)
		}
	}
	return archive.Close()
}

package libvirt

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Confinement is what keeps QEMU, should a guest break out into it, from the rest
// of this host.
type Confinement struct {
	User       string   `json:"user"`       // whom QEMU runs as
	OwnUser    bool     `json:"own_user"`   // that is nobody else than whoever runs assay
	Models     []string `json:"models"`     // of libvirt's security drivers: "selinux", "apparmor"; "dac" is User
	Sandbox    bool     `json:"sandbox"`    // QEMU's own filter of system calls (seccomp)
	Namespaces bool     `json:"namespaces"` // QEMU sees a /dev of its own
	Cgroups    string   `json:"cgroups"`    // "v2", "v1", "none"
}

// Holes lists what is missing, for people; nil for nothing.
func (c Confinement) Holes() []string {
	var holes []string
	if c.OwnUser {
		holes = append(holes, "QEMU runs as the user who runs assay: run assay as root, or as a user with nothing else")
	}
	if !slices.Contains(c.Models, "selinux") && !slices.Contains(c.Models, "apparmor") {
		holes = append(holes, "neither SELinux nor AppArmor confines QEMU: enable one on this host")
	}
	if !c.Sandbox {
		holes = append(holes, "QEMU's filter of system calls is off: remove seccomp_sandbox = 0 from qemu.conf")
	}
	if c.Cgroups == "none" {
		holes = append(holes, "there are no control groups: what QEMU takes of this host is bounded by the machine's shape alone")
	}
	return holes
}

// confinement reads what there is from libvirt's capabilities and configuration.
func confinement(capabilities []byte, user *qemuAccount, config string) Confinement {
	c := Confinement{User: user.String(), OwnUser: user == nil, Sandbox: true, Namespaces: os.Geteuid() == 0, Cgroups: cgroups()}
	var caps struct {
		Models []struct {
			Model string `xml:"model"`
		} `xml:"host>secmodel"`
	}
	if xml.Unmarshal(capabilities, &caps) == nil {
		for _, m := range caps.Models {
			c.Models = append(c.Models, m.Model)
		}
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return c // libvirt's defaults
	}
	for line := range strings.Lines(string(text)) {
		switch {
		case sandboxOff.MatchString(line):
			c.Sandbox = false
		case namespacesOff.MatchString(line):
			c.Namespaces = false
		}
	}
	return c
}

// Lines of qemu.conf that take protection away.
var (
	sandboxOff    = regexp.MustCompile(`^\s*seccomp_sandbox\s*=\s*0`)
	namespacesOff = regexp.MustCompile(`^\s*namespaces\s*=\s*\[\s*\]`)
)

// qemuConfig is where libvirt's settings of QEMU are.
func qemuConfig(uri string) string {
	if uri == uriSystem {
		return "/etc/libvirt/qemu.conf"
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "libvirt", "qemu.conf")
}

// cgroups is the version of the control groups that are mounted here.
func cgroups() string {
	var fs unix.Statfs_t
	switch {
	case unix.Statfs("/sys/fs/cgroup", &fs) != nil:
		return "none"
	case fs.Type == unix.CGROUP2_SUPER_MAGIC:
		return "v2"
	}
	if entries, err := os.ReadDir("/sys/fs/cgroup"); err == nil && len(entries) > 0 {
		return "v1"
	}
	return "none"
}

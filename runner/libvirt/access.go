package libvirt

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// qemuAccount is a user that QEMU runs as who is not ourselves.
type qemuAccount struct {
	name   string
	uid    int
	gid    int
	groups []int
}

// qemuUser reads from libvirt's capabilities whom QEMU runs as; nil for
// ourselves, which is what a session's daemon does.
func qemuUser(capabilities []byte) (*qemuAccount, error) {
	var caps struct {
		Models []struct {
			Model string `xml:"model"`
			Bases []struct {
				Type string `xml:"type,attr"`
				Text string `xml:",chardata"`
			} `xml:"baselabel"`
		} `xml:"host>secmodel"`
	}
	if err := xml.Unmarshal(capabilities, &caps); err != nil {
		return nil, fmt.Errorf("cannot read libvirt's capabilities: %w", err)
	}
	for _, model := range caps.Models {
		if model.Model != "dac" || len(model.Bases) == 0 {
			continue
		}
		return parseAccount(model.Bases[0].Text)
	}
	return nil, nil
}

// parseAccount reads a label of the dac model: "+64055:+107".
func parseAccount(text string) (*qemuAccount, error) {
	u, g, _ := strings.Cut(text, ":")
	uid, err := strconv.Atoi(strings.TrimPrefix(u, "+"))
	if err != nil {
		return nil, fmt.Errorf("cannot read whom QEMU runs as from %q", text)
	}
	gid, err := strconv.Atoi(strings.TrimPrefix(g, "+"))
	if err != nil {
		return nil, fmt.Errorf("cannot read whom QEMU runs as from %q", text)
	}
	account := &qemuAccount{name: fmt.Sprintf("user %d", uid), uid: uid, gid: gid, groups: []int{gid}}
	if known, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		account.name = known.Username
		ids, _ := known.GroupIds() // without them access looks smaller than it is
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				account.groups = append(account.groups, n)
			}
		}
	}
	return account, nil
}

// String is the account's name.
func (a *qemuAccount) String() string {
	if a == nil {
		return "the same user"
	}
	return a.name
}

// label is the account as libvirt's dac model spells it; "" for ourselves.
func (a *qemuAccount) label() string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("+%d:+%d", a.uid, a.gid)
}

// own gives a file to QEMU's user.
func (a *qemuAccount) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("cannot give %s to %s, as whom QEMU runs: %w", path, a.name, err)
	}
	return nil
}

// lend gives a file to QEMU's user, for templates: what he does to it shows in
// its change time (package template).
func (a *qemuAccount) lend(path string) error {
	if a == nil || a.uid == 0 {
		return nil
	}
	// His alone: other users may be in his group.
	err := os.Chmod(path, 0o600)
	if err == nil {
		err = os.Chown(path, a.uid, -1)
	}
	if err != nil {
		return fmt.Errorf("cannot lend %s to %s, as whom QEMU runs: %w", path, a.name, err)
	}
	return nil
}

// seal takes a file back that QEMU's user had: from now on it may only be read.
func (a *qemuAccount) seal(path string) error {
	mode := os.FileMode(0o600)
	var err error
	if a != nil {
		err, mode = os.Chown(path, os.Geteuid(), a.gid), 0o640
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		return fmt.Errorf("cannot take %s back: %w", path, err)
	}
	return nil
}

// reach makes sure that QEMU's user can read a file; the error names the part of
// its path where that ends.
func (a *qemuAccount) reach(path string) error {
	if a == nil || a.uid == 0 {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", path, err)
	}
	for part := real; ; part = filepath.Dir(part) {
		want, verb, cure := os.FileMode(0o1), "pass through", "o+x"
		if part == real {
			want, verb, cure = 0o4, "read", "o+r"
		}
		ok, err := a.may(part, want)
		if err != nil {
			return fmt.Errorf("cannot use %s: %w", path, err)
		}
		if !ok {
			return fmt.Errorf("cannot use %s: %s, as whom QEMU runs, may not %s %s: chmod %s it, or keep images and machines elsewhere",
				path, a.name, verb, part, cure)
		}
		if part == "/" {
			return nil
		}
	}
}

// may tells whether the permission bits give the account what it wants of path.
func (a *qemuAccount) may(path string, want os.FileMode) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	mode := info.Mode().Perm()
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return true, nil
	case int(stat.Uid) == a.uid:
		return mode>>6&want == want, nil
	case slices.Contains(a.groups, int(stat.Gid)):
		return mode>>3&want == want, nil
	}
	return mode&want == want, nil
}

// mayUse makes sure that QEMU can open the device of KVM.
func (a *qemuAccount) mayUse(device string) error {
	if _, err := os.Stat(device); err != nil {
		return fmt.Errorf("there is no %s", device)
	}
	if a == nil {
		file, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("%v: join the group that owns it", err)
		}
		return file.Close()
	}
	ok, err := a.may(device, 0o6)
	if err == nil && !ok {
		// Libvirt itself opens it as root, finds the two at odds, and asks QEMU anew
		// what it can do whenever a machine starts.
		err = fmt.Errorf("%s, as whom QEMU runs, may not open %s, which also makes libvirt slow: chgrp kvm %s && chmod 660 %s, as udev would", a.name, device, device, device)
	}
	return err
}

package libvirt

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const (
	nobodyUID = 4_000_000_001
	nobodyGID = 4_000_000_002
)

func TestQEMUUser(t *testing.T) {
	for _, c := range []struct {
		name, caps string
		want       *qemuAccount
	}{
		{"a user of its own", `<capabilities><host><secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model><doi>0</doi>` +
			`<baselabel type='kvm'>+4000000001:+4000000002</baselabel><baselabel type='qemu'>+1:+1</baselabel></secmodel></host></capabilities>`,
			&qemuAccount{name: "user 4000000001", uid: nobodyUID, gid: nobodyGID, groups: []int{nobodyGID}}},
		{"a session", `<capabilities><host><secmodel><model>none</model></secmodel></host></capabilities>`, nil},
		{"nothing", `<capabilities/>`, nil},
	} {
		got, err := qemuUser([]byte(c.caps))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v", c.name, got, err)
		}
	}
	for _, bad := range []string{"<", `<c><host><secmodel><model>dac</model><baselabel>root:root</baselabel></secmodel></host></c>`} {
		if got, err := qemuUser([]byte(bad)); err == nil {
			t.Errorf("%s passes: %+v", bad, got)
		}
	}
}

func TestReachNamesTheObstacle(t *testing.T) {
	top, err := os.MkdirTemp("/tmp", "assay") // t.TempDir is private already
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	closed := filepath.Join(top, "closed")
	file := filepath.Join(closed, "disk")
	touch(t, file)
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(top, 0o711)
	a := &qemuAccount{name: "qemu", uid: nobodyUID, gid: nobodyGID}
	for _, c := range []struct {
		name      string
		dir, file os.FileMode
		want      string
	}{
		{"open", 0o711, 0o644, ""},
		{"a closed directory", 0o700, 0o644, "qemu, as whom QEMU runs, may not pass through " + closed + ": chmod o+x it"},
		{"a closed file", 0o711, 0o600, "qemu, as whom QEMU runs, may not read " + file + ": chmod o+r it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			chmod(closed, c.dir)
			chmod(file, c.file)
			err := a.reach(file)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
	var ourselves *qemuAccount
	if err := ourselves.reach(file); err != nil {
		t.Error(err)
	}
}

func TestMayUseDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kvm")
	a := &qemuAccount{name: "qemu", uid: nobodyUID, gid: nobodyGID}
	if err := a.mayUse(file); err == nil || !strings.HasPrefix(err.Error(), "there is no ") {
		t.Errorf("without the device: %v", err)
	}
	touch(t, file)
	if err := a.mayUse(file); err == nil || !strings.Contains(err.Error(), "chgrp kvm") {
		t.Errorf("with a closed device: %v", err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := a.mayUse(file); err != nil {
		t.Error(err)
	}
	var ourselves *qemuAccount
	if err := ourselves.mayUse(file); err != nil {
		t.Error(err)
	}
}

package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfinement(t *testing.T) {
	config := filepath.Join(t.TempDir(), "qemu.conf")
	caps := []byte(`<capabilities><host><secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model></secmodel></host></capabilities>`)
	other := &qemuAccount{name: "libvirt-qemu", uid: 64055}
	write := func(text string) {
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# seccomp_sandbox = 0\n#namespaces = []\n")
	safe := confinement(caps, other, config)
	if !safe.Sandbox || safe.OwnUser || safe.User != "libvirt-qemu" || len(safe.Models) != 2 {
		t.Errorf("got %+v", safe)
	}
	for _, hole := range safe.Holes() {
		if !strings.Contains(hole, "control groups") { // which this host may lack
			t.Errorf("a hole where there is none: %s", hole)
		}
	}
	write("seccomp_sandbox = 0\nnamespaces = [ ]\n")
	open := confinement([]byte("<capabilities/>"), nil, config)
	if open.Sandbox || open.Namespaces || !open.OwnUser || len(open.Holes()) < 3 {
		t.Errorf("got %+v: %q", open, open.Holes())
	}
}

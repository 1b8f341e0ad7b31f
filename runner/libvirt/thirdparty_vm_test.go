package libvirt

import (
	"bytes"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/image/imagetest"
)

// TestImageFromElsewhere boots an image that knows nothing of us by its own boot
// loader, with a seed that brings the agent in, and forks what becomes of it.
func TestImageFromElsewhere(t *testing.T) {
	t.Parallel()
	dir := place(t)
	options := optionsIn(dir)
	options.ImageRoot, options.Image = filepath.Join(dir, "images"), "cloud"
	program := imagetest.Agent(t)
	var asked []string
	options.Agent = func(arch string) (string, error) { asked = append(asked, arch); return program, nil }
	img, err := image.Store{Root: options.ImageRoot}.Import(t.Context(), image.ImportOptions{
		Name: options.Image, File: imagetest.CloudImage(t), Arch: "x86_64",
	})
	if err != nil {
		t.Fatal(err)
	}
	if img.Prepared || img.Boot != image.BootBIOS {
		t.Errorf("the image is %+v", img)
	}
	m := openMachines(t, options)
	one, two := bootOne(t, m, "one"), bootOne(t, m, "two")
	if s := m.Stats(); s.TemplatesMade != 1 || s.Fresh != 2 || s.Fallbacks != 0 {
		t.Errorf("two forks of one template were asked for: %+v", s)
	}
	if len(slices.Compact(asked)) != 1 || asked[0] != "x86_64" {
		t.Errorf("agents were asked for of %q", asked)
	}
	differ := []string{"cat /etc/machine-id", "hostname", "cat /etc/hostname", "head -c 32 /dev/urandom | sha256sum", hostKeyScript}
	ofOne, ofTwo := outputs(t, one, differ), outputs(t, two, differ)
	for _, script := range differ {
		if ofOne[script] == ofTwo[script] || ofOne[script] == "" {
			t.Errorf("%s says the same on two forks: %q", script, ofOne[script])
		}
	}
	asItShouldBe(t, one)
	damagedSeed(t, m)
}

// hostKeyScript waits, a minute at most, until the running sshd shows the key
// that is on the disk.
const hostKeyScript = `for try in $(seq 120); do
	own=$(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null)
	shown=$(ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | cut -d' ' -f3)
	[ -n "$own" ] && [ "$own" = "$shown" ] && break
	sleep 0.5
done
[ "$own" = "$shown" ] && echo $own`

// asItShouldBe looks at what the seed, cloud-init and the fork made of the image.
func asItShouldBe(t *testing.T, one runner.Machine) {
	t.Helper()
	noCard(t, one)
	wants := map[string]string{
		"echo hello; id -un; pwd":                                "hello\nroot\n/",
		"findmnt -no SOURCE,FSTYPE /":                            "/dev/vda1 ext4",
		"systemctl is-active assay-agent":                        "active",
		"systemctl --failed --no-legend --plain":                 "",
		"cloud-init status":                                      "status: done",
		"mount | grep -c iso9660":                                "0",
		"systemctl list-jobs --no-legend | grep -c start":        "0",
		"getent passwd debian ubuntu cloud-user | wc -l":         "0",
		"cat /etc/cloud/cloud.cfg.d/99-assay.cfg":                "datasource_list: [NoCloud, None]",
		"test -d " + guestDir + " && cd " + guestDir + " && pwd": guestDir,
	}
	got := outputs(t, one, slices.Collect(maps.Keys(wants)))
	for script, want := range wants {
		if got[script] != want {
			t.Errorf("%s: %q, want %q", script, got[script], want)
		}
	}
}

// outputs runs scripts, which may fail, in one command: each costs an emulated
// machine a second.
func outputs(t *testing.T, one runner.Machine, scripts []string) map[string]string {
	t.Helper()
	const end = "=== end ==="
	var out bytes.Buffer
	argv := append([]string{"/bin/sh", "-c", `for script; do sh -c "$script" 2>&1; echo; echo "` + end + `"; done`, "sh"}, scripts...)
	exit, err := one.Run(t.Context(), runner.Command{Argv: argv, Dir: "/", Stdout: &out})
	parts := strings.Split(out.String(), end)
	if exit != 0 || err != nil || len(parts) != len(scripts)+1 {
		t.Fatalf("%d scripts: exit %d, %v, %s", len(scripts), exit, err, out.String())
	}
	said := map[string]string{}
	for i, script := range scripts {
		said[script] = strings.TrimSpace(parts[i])
	}
	return said
}

// damagedSeed has an agent that is not to be had: it says which image wants one.
func damagedSeed(t *testing.T, m *Machines) {
	t.Helper()
	m.options.Agent = func(string) (string, error) { return "", errors.New("there is none here") }
	_, err := m.Boot(t.Context(), runner.Spec{Execution: "none"})
	if err == nil || !strings.Contains(err.Error(), "cloud, which has no agent inside: there is none here") {
		t.Errorf("the error is %v", err)
	}
}

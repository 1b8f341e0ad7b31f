package image

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"
	"gopkg.in/yaml.v3"
)

// onDisc reads what a seed has, by name.
func onDisc(t *testing.T, seed Seed) (label string, files map[string]string) {
	t.Helper()
	var disc bytes.Buffer
	if err := WriteSeed(&disc, seed); err != nil {
		t.Fatal(err)
	}
	image, err := iso9660.OpenImage(bytes.NewReader(disc.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	root, err := image.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, child := range children {
		text, err := io.ReadAll(child.Reader())
		if err != nil {
			t.Fatal(err)
		}
		files[child.Name()] = string(text)
	}
	// ECMA-119, 8.4.7: the volume identifier.
	return strings.TrimRight(string(disc.Bytes()[16*2048+40:16*2048+72]), " \x00"), files
}

func TestSeed(t *testing.T) {
	agent := fakeAgent(t, ownMachine(), strings.Repeat("agent", 1<<18))
	program, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	label, files := onDisc(t, Seed{Agent: agent, InstanceID: "m-1", Hostname: "guest.example.org"})
	if label != "cidata" {
		t.Errorf("the label is %q", label)
	}
	var meta struct {
		ID   string `yaml:"instance-id"`
		Host string `yaml:"local-hostname"`
		Mode string `yaml:"dsmode"`
	}
	if err := yaml.Unmarshal([]byte(files["meta-data"]), &meta); err != nil || meta.ID != "m-1" || meta.Host != "guest.example.org" || meta.Mode != "local" {
		t.Errorf("meta-data is %+v, %v", meta, err)
	}
	var user struct {
		BootCmd [][]string `yaml:"bootcmd"`
	}
	if err := yaml.Unmarshal([]byte(files["user-data"]), &user); err != nil || len(user.BootCmd) != 1 || len(user.BootCmd[0]) != 3 ||
		!strings.HasPrefix(files["user-data"], "#cloud-config\n") || !strings.Contains(user.BootCmd[0][2], "install.sh") {
		t.Errorf("user-data is %+v, %v", user, err)
	}
	var network struct {
		Network struct{ Config string }
	}
	if err := yaml.Unmarshal([]byte(files["network-config"]), &network); err != nil || network.Network.Config != "disabled" {
		t.Errorf("network-config is %q, %v", files["network-config"], err)
	}
	if files["assay-agent"] != string(program) || files["assay-agent.service"] != agentUnit() {
		t.Error("the agent or its unit is another one")
	}
	if len(files) != 6 || !strings.Contains(files["install.sh"], "systemd-networkd-wait-online.service") {
		t.Errorf("there are %d files", len(files))
	}
	_, files = onDisc(t, Seed{Agent: agent, Network: true})
	if _, there := files["network-config"]; there || strings.Contains(files["install.sh"], "wait-online") {
		t.Error("with a card, the network is left out")
	}
}

func TestSeedsThatCannotBe(t *testing.T) {
	agent := fakeAgent(t, ownMachine(), "")
	for _, seed := range []Seed{
		{},
		{Agent: "/bin/sh"},
		{Agent: agent, Arch: "z80"},
		{Agent: agent, Arch: "s390x"},
		{Agent: agent, InstanceID: "x\nusers: [root]"},
		{Agent: agent, InstanceID: strings.Repeat("x", 65)},
		{Agent: agent, Hostname: "x: y"},
		{Agent: agent, Hostname: "-x"},
		{Agent: agent, Hostname: "x..y"},
	} {
		var disc bytes.Buffer
		if err := WriteSeed(&disc, seed); err == nil || !strings.HasPrefix(err.Error(), "cannot ") || disc.Len() > 0 {
			t.Errorf("%+v: %v, %d bytes", seed, err, disc.Len())
		}
		if _, err := Ignition(seed); err == nil {
			t.Errorf("%+v was taken", seed)
		}
	}
}

// TestInstallScript runs the script on a root of its own, twice, with a systemd
// that only writes down what it is told.
func TestInstallScript(t *testing.T) {
	root, disc, bin := t.TempDir(), t.TempDir(), t.TempDir()
	script := Seed{}.installScript()
	for _, dir := range []string{"/etc", "/usr/local"} {
		script = strings.ReplaceAll(script, dir+"/", root+dir+"/")
	}
	script = strings.ReplaceAll(script, "/dev/console", root+"/console")
	save(t, filepath.Join(disc, "install.sh"), []byte(script))
	save(t, filepath.Join(disc, "assay-agent"), []byte("the agent"))
	save(t, filepath.Join(disc, "assay-agent.service"), []byte(agentUnit()))
	save(t, filepath.Join(root, "etc/cloud/cloud.cfg.d/05.cfg"), nil)
	save(t, filepath.Join(root, units, "fstrim.timer"), []byte("somebody's own"))
	for _, name := range []string{"systemctl", "restorecon"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho "+name+" $1 $2 >>"+root+"/calls\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		command := exec.CommandContext(t.Context(), "sh", filepath.Join(disc, "install.sh"))
		command.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := command.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
	}
	agent := filepath.Join(root, agentPath)
	info, err := os.Stat(agent)
	if text, readErr := os.ReadFile(agent); err != nil || readErr != nil || info.Mode().Perm() != 0o755 || string(text) != "the agent" {
		t.Errorf("the agent is %v, %v, %v", info, err, readErr)
	}
	for name, want := range map[string]string{
		"apt-daily.timer": "/dev/null", "NetworkManager-wait-online.service": "/dev/null",
		"sysinit.target.wants/assay-agent.service": "../assay-agent.service",
	} {
		if got, err := os.Readlink(filepath.Join(root, units, name)); got != want || err != nil {
			t.Errorf("%s is a link to %q, %v", name, got, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(root, units, "fstrim.timer")); string(text) != "somebody's own" || err != nil {
		t.Errorf("somebody's own unit is %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(root, "etc/cloud/cloud.cfg.d/99-assay.cfg")); !strings.Contains(string(text), "NoCloud") || err != nil {
		t.Errorf("the data sources are %q, %v", text, err)
	}
	calls, err := os.ReadFile(filepath.Join(root, "calls"))
	if err != nil || !strings.HasSuffix(string(calls), "systemctl daemon-reload\nsystemctl --no-block stop\nsystemctl --no-block start\n") || !strings.Contains(string(calls), "restorecon "+agent) {
		t.Errorf("it called %s, %v", calls, err)
	}
}

// TestInstallScriptSaysWhatFailed runs it where it may not write.
func TestInstallScriptSaysWhatFailed(t *testing.T) {
	dir := t.TempDir()
	script := strings.ReplaceAll(Seed{}.installScript(), "/usr/local/", dir+"/file/")
	script = strings.ReplaceAll(script, "/dev/console", dir+"/console")
	save(t, filepath.Join(dir, "install.sh"), []byte(script))
	save(t, filepath.Join(dir, "file"), nil)
	if err := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "install.sh")).Run(); err == nil {
		t.Error("it says that all is well")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "console")); !strings.HasPrefix(string(text), "assay-seed: cannot write ") || err != nil {
		t.Errorf("the console has %q, %v", text, err)
	}
}

func TestIgnition(t *testing.T) {
	agent := fakeAgent(t, ownMachine(), "the agent")
	text, err := Ignition(Seed{Agent: agent, Hostname: "guest"})
	if err != nil {
		t.Fatal(err)
	}
	var config ignition
	if err := json.Unmarshal(text, &config); err != nil || config.Ignition.Version != "3.0.0" {
		t.Fatalf("%v: %.200s", err, text)
	}
	file := config.Storage.Files[0]
	data, isData := strings.CutPrefix(file.Contents.Source, "data:;base64,")
	packed, err := base64.StdEncoding.DecodeString(data)
	if err != nil || !isData || file.Path != agentPath || file.Mode != 0o755 || file.Contents.Compression != "gzip" {
		t.Fatalf("the first file is %+v, %v", file, err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(unpacked)
	want, readErr := os.ReadFile(agent)
	if err != nil || readErr != nil || !bytes.Equal(got, want) {
		t.Errorf("the agent is another one: %v, %v", err, readErr)
	}
	if host := config.Storage.Files[1]; host.Path != "/etc/hostname" || host.Contents.Source != "data:,guest%0A" {
		t.Errorf("the second file is %+v", host)
	}
	units := map[string]ignitionUnit{}
	for _, unit := range config.Systemd.Units {
		units[unit.Name] = unit
	}
	if unit := units["assay-agent.service"]; !unit.Enabled || unit.Contents != agentUnit() {
		t.Errorf("the agent's unit is %+v", unit)
	}
	for _, name := range []string{"zincati.service", "NetworkManager-wait-online.service"} {
		if !units[name].Mask {
			t.Errorf("%s is not masked", name)
		}
	}
}

func TestIgnites(t *testing.T) {
	for distro, want := range map[string]bool{"fedora-coreos": true, "flatcar": true, "rhcos": true, "fedora": false, "": false} {
		if got := (Image{Distro: distro}).Ignites(); got != want {
			t.Errorf("%s: %t", distro, got)
		}
	}
	if (Image{Distro: "fedora-coreos", Prepared: true}).Ignites() {
		t.Error("one with the agent inside needs nothing")
	}
}

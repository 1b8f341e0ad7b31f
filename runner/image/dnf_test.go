package image

import (
	"context"
	"debug/elf"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestDNFPlan compares what dnf is told with what is known to be right.
func TestDNFPlan(t *testing.T) {
	keys := save(t, filepath.Join(t.TempDir(), "keys"), nil)
	for _, test := range []struct{ name, arch, mirror string }{
		{"fedora-42", "x86_64", "https://mirror.example/fedora/linux/"},
		{"centos-stream-10", "aarch64", "https://mirror.example/centos"},
		{"almalinux-9", "s390x", "http://mirror.example/almalinux"},
		{"rocky-9", "ppc64le", "http://mirror.example/rocky"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan, err := planRoot(t.Context(), BuildOptions{Name: test.name, Arch: test.arch, Mirror: test.mirror, Keyring: keys, Packages: []string{"gcc"}})
			if err != nil {
				t.Fatal(err)
			}
			got := "dnf " + strings.Join(plan.dnfArgs("SCRATCH", "TREE"), "\n    ") + "\n\n" + strings.Join(plan.sources, "\n") + "\n"
			got = strings.ReplaceAll(got, keys, "/KEYS")
			path := filepath.Join("testdata", "dnf-"+test.name+".txt")
			if *update {
				save(t, path, []byte(got))
			}
			if want := golden(t, filepath.Base(path)); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestDNFPlansThatCannotBe(t *testing.T) {
	keys := save(t, filepath.Join(t.TempDir(), "keys"), nil)
	for want, options := range map[string]BuildOptions{
		"distribution-gpg-keys": {Name: "fedora-42", Mirror: "https://mirror.example/", Keyring: keys + "x"},
		"as a mirror":           {Name: "fedora-42", Mirror: "mirror.example", Keyring: keys},
		"as a mirror: ":         {Name: "fedora-42", Mirror: "https://mirror.example/\nenabled=1", Keyring: keys},
	} {
		if _, err := planRoot(t.Context(), options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", options, err, want)
		}
	}
	r := root{release: release{"centos-stream", "9", ""}}
	for text, good := range map[string]bool{
		"NAME=x\nID=\"centos\"\n": true, "ID=centos-stream\n": true, "ID=fedora\n": false, "ID_LIKE=centos\nID=debian\n": false, "": false,
	} {
		if err := r.checkHost(text); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "assay image pull centos-stream:9") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestBuildRPM builds with programs that stand for dnf and the others, and as
// root, which dnf needs, or says that it needs it.
func TestBuildRPM(t *testing.T) {
	tools := fakeTools(t)
	script := `#!/bin/sh
for a; do case "$a" in --installroot=*) tree="${a#*=}";; esac; done
echo "(1/2): a  1 MB/s"
echo "(2/2): b  1 MB/s"
echo "  Preparing        :                    1/1"
echo "  Installing       : a-1                1/2"
echo "  Running scriptlet: a-1                1/2"
mkdir -p "$tree/lib/modules/6.1" "$tree/etc"
echo "the kernel" >"$tree/lib/modules/6.1/vmlinuz"
echo "kernel/a/virtio_blk.ko:" >"$tree/lib/modules/6.1/modules.dep"
echo before >"$tree/etc/hostname"
`
	if err := os.WriteFile(filepath.Join(tools, "dnf"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := Store{Root: filepath.Join(t.TempDir(), "images")}
	options := BuildOptions{
		Name: "fedora-42", Agent: fakeAgent(t, ownMachine(), ""), Keyring: filepath.Join(tools, "keys.gpg"), Mirror: "https://mirror.example/",
	}
	got, err := s.Build(t.Context(), options)
	if os.Geteuid() != 0 {
		if err == nil || !strings.Contains(err.Error(), "only as root") || !strings.Contains(err.Error(), "assay image pull fedora:42") {
			t.Errorf("as an ordinary user: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(got.Kernel)
	if err != nil || string(kernel) != "the kernel\n" || got.Distro != "fedora" || !strings.Contains(got.Cmdline, " selinux=0 ") {
		t.Errorf("got %+v, kernel %q, %v", got, kernel, err)
	}
}

func TestProgressOfRPM(t *testing.T) {
	for line, want := range map[string]Progress{
		"(3/112): bash-5.2.rpm      1.0 MB/s | 1.8 MB":            {Stage: stageDownload, Done: 3, Total: 112},
		"[  7/112] bash-0:5.2-1.fc42.x86_64   100% |   1.0 MiB/s": {Stage: stageDownload, Done: 7, Total: 112},
		"Installing       : bash-5.2-1.fc42.x86_64         9/112": {Stage: stageInstall, Done: 9, Total: 112},
		"[ 10/112] Installing bash-0:5.2-1.fc42.x86_64      100%": {Stage: stageInstall, Done: 10, Total: 112},
		"Complete!":        {Stage: "before"},
		"[9/3] impossible": {Stage: "before"},
		"https://x/1/2/":   {Stage: "before"},
	} {
		if got := followRPM(Progress{Stage: "before"}, line); got != want {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	}
}

func TestKernelPackages(t *testing.T) {
	for _, a := range Architectures() {
		want := map[string]string{
			"x86_64": "linux-image-cloud-amd64", "aarch64": "linux-image-cloud-arm64", "ppc64le": "linux-image-powerpc64le",
			"s390x": "linux-image-s390x", "riscv64": "linux-image-riscv64",
		}[a.Name]
		if got := (release{"debian", "13", "trixie"}).packages(a); got[0] != want {
			t.Errorf("%s: %s, want %s", a.Name, got[0], want)
		}
		line := commandLine(release{"debian", "13", "trixie"}, a)
		if !strings.Contains(line, "console="+a.Console+" ") || strings.Contains(line, "tsc=") != (a.Name == "x86_64") || strings.Contains(line, "selinux") {
			t.Errorf("%s: %s", a.Name, line)
		}
	}
	for name, want := range map[string]string{
		"boot/vmlinuz-6.1.0-56-cloud-amd64": "6.1.0-56-cloud-amd64", "boot/vmlinux-6.1.0-56-powerpc64le": "6.1.0-56-powerpc64le",
		"usr/lib/modules/6.14.0-63.fc42.x86_64/vmlinuz": "6.14.0-63.fc42.x86_64", "lib/modules/6.14/vmlinuz": "6.14",
		"lib/modules/6.14/kernel/vmlinuz": "", "boot/config-6.1": "", "usr/share/vmlinuz": "",
	} {
		if got, ok := kernelVersion(name); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %t", name, got, ok)
		}
	}
}

// TestBuildForAnotherArchitecture is on a host that does not run its programs.
func TestBuildForAnotherArchitecture(t *testing.T) {
	tools := fakeTools(t)
	other, machine := "aarch64", elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		other, machine = "x86_64", elf.EM_X86_64
	}
	s := Store{Root: t.TempDir()}
	agent := fakeAgent(t, machine, "")
	for _, options := range []BuildOptions{{Name: "debian-12." + other, Agent: agent}, {Name: "x", From: "debian-12", Arch: other, Agent: agent}} {
		options.Keyring = filepath.Join(tools, "keys.gpg")
		_, err := s.Build(t.Context(), options)
		if err == nil || !strings.Contains(err.Error(), "qemu-user-static") || !strings.Contains(err.Error(), "assay image pull debian:12 --arch "+other) {
			t.Errorf("%s: %v", options.Name, err)
		}
	}
	if _, err := s.Build(t.Context(), BuildOptions{Name: "debian-12." + other, Agent: fakeAgent(t, ownMachine(), "")}); err == nil || !strings.Contains(err.Error(), "GOARCH=") {
		t.Errorf("with this host's agent: %v", err)
	}
	arch, err := ArchitectureOf(other)
	if err != nil {
		t.Fatal(err)
	}
	runs := filepath.Join(t.TempDir(), "runs")
	if err := os.WriteFile(runs, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := canRun(t.Context(), arch, runs, ""); err != nil {
		t.Errorf("an agent that runs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := canRun(ctx, arch, runs, ""); err == nil {
		t.Error("it ran after the end")
	}
}

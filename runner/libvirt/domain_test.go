package libvirt

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example is a domain with everything set.
func example() domain {
	return domain{
		Name: "assay-5f6a7b8c-0198c0de", UUID: "0198c0de-0000-4000-8000-00000000cafe",
		Label: label{Owner: "o-1b2c3d4e", Execution: "0198c0de", Dir: "/run/assay/o-1b2c3d4e/m-5f6a7b8c"},
		Accel: accelTCG, Arch: "x86_64", CPUs: 1, Memory: 512 << 20,
		Kernel: "/images/debian-12/vmlinuz", Initrd: "/images/debian-12/initrd.img", Cmdline: "root=/dev/vda rw console=ttyS0",
		Disk: "/machines/disk.qcow2", Console: "/machines/console.log", Channel: "/run/agent.sock",
	}
}

func TestDomainXML(t *testing.T) {
	for _, c := range []struct {
		golden string
		change func(*domain)
	}{
		{"emulated", func(*domain) {}},
		{"kvm-system", func(d *domain) { d.Accel, d.User, d.CPUs, d.Memory = accelKVM, "+64055:+64055", 4, 2<<30 }},
		{"probe", func(d *domain) { d.Accel, d.Disk, d.Channel, d.Label.Execution = accelKVM, "", "", "" }},
		{"fork", func(d *domain) { d.RAM, d.Fork = "/templates/a,b/ram", true }},
		{"network", func(d *domain) { d.Network = "/run/assay/o-1b2c3d4e/m-5f6a7b8c/net.sock" }},
		{"template", func(d *domain) { d.RAM = "/templates/ram" }},
		{"bios", func(d *domain) {
			d.Kernel, d.Initrd, d.Cmdline, d.Seed, d.Screen = "", "", "", "/machines/seed.iso", true
		}},
		{"coreos-uefi", func(d *domain) {
			d.Kernel, d.Initrd, d.Cmdline, d.Ignition, d.Screen = "", "", "", "/machines/seed.ignition", true
			d.Firmware = "/usr/share/ovmf/OVMF.fd"
		}},
		{"aarch64", func(d *domain) {
			d.Arch, d.Kernel, d.Initrd, d.Cmdline, d.Firmware = "aarch64", "", "", "", "/firmware.fd"
		}},
		{"s390x", func(d *domain) { d.Arch = "s390x" }},
		{"escaped", func(d *domain) {
			d.Label.Execution, d.Cmdline, d.Disk = `"><evil/>`, `panic=1 a="b"&<c>`, "/machines/<&>.qcow2"
		}},
	} {
		t.Run(c.golden, func(t *testing.T) {
			d := example()
			c.change(&d)
			got, err := d.xml()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", c.golden+".xml")
			if *update {
				if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
				t.Errorf("the definition differs (-want +got); run with -update if that is meant:\n%s", diff)
			}
			label, err := parseLabel(got)
			if err != nil || label != d.Label {
				t.Errorf("the label comes back as %+v, %v", label, err)
			}
		})
	}
}

func TestDomainOfAnotherArchitecture(t *testing.T) {
	d := example()
	d.Arch = "vax"
	if _, err := d.xml(); err == nil || !strings.Contains(err.Error(), `"vax"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestCmdlineEndsAPanic(t *testing.T) {
	for in, want := range map[string]string{
		"root=/dev/vda":   "root=/dev/vda panic=-1",
		"":                "panic=-1",
		"panic=5 quiet":   "panic=5 quiet",
		"oops=panic":      "oops=panic panic=-1",
		"ro no-panic=yes": "ro no-panic=yes panic=-1",
	} {
		if got := cmdline(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestLabelsThatAreNotOurs(t *testing.T) {
	const space = `xmlns:a="https://github.com/assay-ci/assay/machine"`
	for name, metadata := range map[string]string{
		"none":              ``,
		"another namespace": `<a:machine xmlns:a="https://example.org/" owner="o-1b2c3d4e" dir="/run/assay/o-1b2c3d4e/m-5f6a7b8c"/>`,
		"no namespace":      `<machine owner="o-1b2c3d4e" dir="/run/assay/o-1b2c3d4e/m-5f6a7b8c"/>`,
		"no owner":          `<a:machine ` + space + ` dir="/run/assay/o-1b2c3d4e/m-5f6a7b8c"/>`,
		"an odd owner":      `<a:machine ` + space + ` owner="../../etc" dir="/run/assay/../../etc/m-5f6a7b8c"/>`,
		"no directory":      `<a:machine ` + space + ` owner="o-1b2c3d4e"/>`,
		"relative":          `<a:machine ` + space + ` owner="o-1b2c3d4e" dir="o-1b2c3d4e/m-5f6a7b8c"/>`,
		"unclean":           `<a:machine ` + space + ` owner="o-1b2c3d4e" dir="/x/../o-1b2c3d4e/m-5f6a7b8c"/>`,
		"somebody else's":   `<a:machine ` + space + ` owner="o-1b2c3d4e" dir="/run/assay/o-00000000/m-5f6a7b8c"/>`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseLabel("<domain><name>assay-5f6a7b8c</name><metadata>" + metadata + "</metadata></domain>")
			if !errors.Is(err, errNotOurs) {
				t.Errorf("it passes for ours: %+v, %v", got, err)
			}
		})
	}
}

func FuzzParseLabel(f *testing.F) {
	text, err := example().xml()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("<domain><metadata/></domain>")
	f.Add("<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parseLabel(text)
		if err == nil && (!l.valid() || filepath.Base(l.lockPath()) != lockName) {
			t.Errorf("an invalid label passes: %+v", l)
		}
	})
}

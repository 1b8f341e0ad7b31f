package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/template"
)

// agentPort is the name of the virtio-serial port that the guest's agent serves
// (package agent, PortName).
const agentPort = "org.assay.agent.0"

// Bounds of a machine's shape; a Spec outside of them is refused.
const (
	defaultMemory = 512 << 20
	foreignMemory = 1 << 30 // for images that are not made for so little
	minMemory     = 64 << 20
	maxMemory     = 1 << 40
	maxCPUs       = 255
)

// The domain types that QEMU serves.
const (
	accelKVM = "kvm"
	accelTCG = "qemu"
)

// domain is everything that one domain's definition depends on.
type domain struct {
	Name    string
	UUID    string
	Label   label
	Accel   string // accelKVM or accelTCG
	Arch    string // as the kernel names it: "x86_64"
	CPUs    int
	Memory  int64  // bytes
	Kernel  string // "" for the disk's own boot loader
	Initrd  string
	Cmdline string
	// Firmware is the file of the firmware that boots the disk; "" for the
	// machine's own.
	Firmware string
	Disk     string // the overlay; "" for none
	Seed     string // a second disk, only to be read; "" for none
	Ignition string // file with the configuration of a CoreOS; "" for none
	Screen   bool   // has a graphics card, so that it can be looked at
	Console  string // file
	Channel  string // the agent's socket; "" for none
	Network  string // socket of the user-mode network; "" for none
	User     string // whom QEMU runs as, in the dac model's spelling "+64055:+64055"; "" for ourselves
	// Memory file: "" for memory of QEMU's own.
	RAM string
	// Fork tells that RAM is a template's, of which this machine has a private
	// copy, page by page as it writes, and that QEMU waits for the template's state.
	Fork bool
	// Plain leaves out what only makes libvirt quicker, for a libvirt that does not
	// know it.
	Plain bool
}

// domainOf is what a domain has of a recipe: all but names and paths.
func domainOf(r template.Recipe) domain {
	return domain{
		Accel: r.Accel, Arch: r.Arch, CPUs: r.CPUs, Memory: r.Memory,
		Firmware: r.Firmware, Screen: r.Boot != image.BootDirect,
	}
}

// xml is the definition that libvirt takes. It depends on nothing but d.
func (d domain) xml() (string, error) {
	machine, err := machineOf(d.Arch)
	if err != nil {
		return "", err
	}
	label, err := d.Label.xml()
	if err != nil {
		return "", err
	}
	def := libvirtxml.Domain{
		Type: d.Accel, Name: d.Name, UUID: d.UUID,
		Metadata:   &libvirtxml.DomainMetadata{XML: label},
		Memory:     &libvirtxml.DomainMemory{Value: uint(d.Memory >> 10), Unit: "KiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: uint(d.CPUs)},
		OS:         d.os(machine),
		Features:   machine.features(d.Firmware),
		CPU:        d.cpu(machine),
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy", OnReboot: "destroy", OnCrash: "destroy",
		Devices: d.devices(machine),
	}
	if d.Accel == accelTCG {
		def.Features.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: translationCache}}
	}
	def.QEMUCommandline, def.QEMUCapabilities = d.commandline(), d.capabilities()
	if d.Ignition != "" {
		def.SysInfo = []libvirtxml.DomainSysInfo{{FWCfg: &libvirtxml.DomainSysInfoFWCfg{
			Entry: []libvirtxml.DomainSysInfoEntry{{Name: image.IgnitionKey, File: d.Ignition}},
		}}}
	}
	if d.User != "" {
		// Ownership is set on purpose: libvirt would give the image's own files to
		// QEMU's user, and another domain may be using them.
		def.SecLabel = []libvirtxml.DomainSecLabel{{Type: "static", Model: "dac", Relabel: "no", Label: d.User}}
	}
	return def.Marshal()
}

// translationCache is how much translated code QEMU keeps where it emulates, in
// MiB: its own default of a gigabyte would let a machine that runs for long grow
// far beyond its memory.
const translationCache = 128

// ramID names the memory whose file is a template's.
const ramID = "assay.ram"

// commandline is what libvirt has no words for: memory in a file of our choosing
// (QEMU, docs/system/invocation: memory-backend-file), and waiting for a state.
func (d domain) commandline() *libvirtxml.DomainQEMUCommandline {
	var words []string
	if d.RAM != "" {
		share := map[bool]string{true: "off", false: "on"}[d.Fork]
		object := fmt.Sprintf("memory-backend-file,id=%s,size=%dK,share=%s,mem-path=%s", ramID, d.Memory>>10, share, qemuValue(d.RAM))
		words = append(words, "-object", object, "-machine", "memory-backend="+ramID)
	}
	if d.Network != "" {
		words = append(words, d.card()...)
	}
	if d.Fork {
		words = append(words, "-incoming", "defer")
	}
	if len(words) == 0 {
		return nil
	}
	var args []libvirtxml.DomainQEMUCommandlineArg
	for _, word := range words {
		args = append(args, libvirtxml.DomainQEMUCommandlineArg{Value: word})
	}
	return &libvirtxml.DomainQEMUCommandline{Args: args}
}

// card is a network card on a network of ours (QEMU 7.2 or later: -netdev stream).
// A fork finds the card in the same slot. Each machine is alone on its network,
// so all have the same address.
func (d domain) card() []string {
	device := "virtio-net-pci,netdev=assay.net,mac=52:54:00:12:34:56,romfile="
	switch d.Arch {
	case "x86_64":
		device += ",addr=0x1e"
	case "s390x":
		device = "virtio-net-ccw,netdev=assay.net,mac=52:54:00:12:34:56"
	}
	return []string{
		"-netdev", "stream,id=assay.net,server=off,addr.type=unix,addr.path=" + qemuValue(d.Network),
		"-device", device,
	}
}

// qemuValue writes a value of an option list, in which a comma is doubled.
func qemuValue(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// slowCapability makes libvirt ask QEMU for every single feature of the
// processor, some hundred questions at each start, to tell people what the guest
// sees. We know that from the definition.
const slowCapability = "cpu-unavailable-features"

func (d domain) capabilities() *libvirtxml.DomainQEMUCapabilities {
	if d.Plain {
		return nil
	}
	return &libvirtxml.DomainQEMUCapabilities{Del: []libvirtxml.DomainQEMUCapabilitiesEntry{{Name: slowCapability}}}
}

// machine is what QEMU has for an architecture.
type machine struct {
	arch string
	name string // QEMU's -machine; for x86_64 pc starts quicker than q35
	cpu  string // emulated; "" for the machine's own
	acpi bool
	// serial is the target of the console, where it is not an ISA serial port.
	serial string
}

func machines() []machine {
	return []machine{
		// Where it is emulated a small processor boots quicker than all that QEMU
		// could emulate, by a tenth of the time or more: this one is x86-64-v2, what
		// most distributions ask for.
		{arch: "x86_64", name: "pc", cpu: "Nehalem", acpi: true},
		{arch: "aarch64", name: "virt", cpu: "cortex-a57", acpi: true, serial: "system-serial"},
		{arch: "ppc64le", name: "pseries", serial: "spapr-vio-serial"},
		{arch: "s390x", name: "s390-ccw-virtio", serial: "sclp-serial"},
		{arch: "riscv64", name: "virt", serial: "system-serial"},
	}
}

func machineOf(arch string) (machine, error) {
	for _, m := range machines() {
		if m.arch == arch {
			return m, nil
		}
	}
	return machine{}, fmt.Errorf("cannot boot a machine of architecture %q: QEMU is not known to have one", arch)
}

// features: ACPI is UEFI's affair, but where it always was.
func (m machine) features(firmware string) *libvirtxml.DomainFeatureList {
	list := &libvirtxml.DomainFeatureList{}
	if m.acpi && (m.arch == "x86_64" || firmware != "") {
		list.ACPI = &libvirtxml.DomainFeature{}
	}
	if m.arch == "x86_64" {
		list.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	return list
}

// os says what is booted: a kernel, or what the firmware finds on the disk.
func (d domain) os(m machine) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: d.Arch, Machine: m.name, Type: "hvm"}}
	if d.Kernel != "" {
		os.Kernel, os.Initrd, os.Cmdline = d.Kernel, d.Initrd, cmdline(d.Cmdline)
		return os
	}
	if d.Firmware != "" {
		// As a ROM: its variables are the machine's, and go with it.
		os.Loader = &libvirtxml.DomainLoader{Path: d.Firmware, Readonly: "yes", Type: "rom"}
	}
	os.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
	return os
}

// cmdline makes a kernel that panics end its machine instead of hanging.
func cmdline(image string) string {
	for _, word := range strings.Fields(image) {
		if strings.HasPrefix(word, "panic=") {
			return image
		}
	}
	return strings.TrimSpace(image + " panic=-1")
}

// cpu is the processor the guest sees: the host's own where it runs on it.
func (d domain) cpu(m machine) *libvirtxml.DomainCPU {
	if d.Accel == accelKVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none", Migratable: "off"}
	}
	if m.cpu == "" {
		return nil
	}
	return &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: m.cpu},
	}
}

// devices are as few as possible: no network, no USB, no sound.
func (d domain) devices(m machine) *libvirtxml.DomainDeviceList {
	zero := uint(0)
	target := &libvirtxml.DomainSerialTarget{Port: &zero}
	if m.serial != "" {
		target.Type = m.serial
	}
	list := &libvirtxml.DomainDeviceList{
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: d.Console}},
			Target: target,
		}},
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
	}
	if d.Disk != "" {
		list.Disks = []libvirtxml.DomainDisk{disk(d.Disk)}
	}
	if d.Seed != "" {
		list.Disks = append(list.Disks, seedDisk(d.Seed))
	}
	if d.Screen {
		list.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}}
	}
	if d.Channel != "" {
		list.Channels = []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{
				UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: d.Channel},
			},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agentPort}},
		}}
	}
	return list
}

// disk is the overlay. Nothing on it outlives the machine, so nothing is ever
// flushed to the host's disk on purpose. When that is full the guest is told,
// instead of standing still without a word.
func disk(path string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{
			Name: "qemu", Type: "qcow2", Cache: "unsafe", Discard: "unmap", ErrorPolicy: "report",
		},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
	}
}

// seedDisk is what brings the agent into an image that has none.
func seedDisk(path string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device:   "disk",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: "vdb", Bus: "virtio"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
	}
}

// labelSpace is the XML namespace of our label in a domain's metadata.
const labelSpace = "https://github.com/assay-ci/assay/machine"

// label says whose a domain or a directory is. It is all that the reaper knows.
type label struct {
	Owner     string `xml:"owner,attr" json:"owner"`
	Execution string `xml:"execution,attr" json:"execution"`
	// Dir is the machine's directory below the run directory; the owner's lock
	// lies beside it.
	Dir string `xml:"dir,attr" json:"dir"`
}

type labelElement struct {
	XMLName xml.Name `xml:"assay:machine"`
	Space   string   `xml:"xmlns:assay,attr"`
	label
}

func (l label) xml() (string, error) {
	text, err := xml.Marshal(labelElement{Space: labelSpace, label: l})
	if err != nil {
		return "", fmt.Errorf("cannot write a machine's label: %w", err)
	}
	return string(text), nil
}

// bare is the label for virDomainSetMetadata, which gives it the name space itself.
func (l label) bare() (string, error) {
	text, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"machine"`
		label
	}{label: l})
	if err != nil {
		return "", fmt.Errorf("cannot write a machine's label: %w", err)
	}
	return string(text), nil
}

var errNotOurs = errors.New("not a machine of ours")

// parseLabel reads the label out of a domain's definition; errNotOurs when it
// has none that we wrote.
func parseLabel(definition string) (label, error) {
	var def struct {
		Metadata struct {
			Machine *struct {
				XMLName xml.Name
				label
			} `xml:"https://github.com/assay-ci/assay/machine machine"`
		} `xml:"metadata"`
	}
	if err := xml.Unmarshal([]byte(definition), &def); err != nil {
		return label{}, fmt.Errorf("%w: %v", errNotOurs, err)
	}
	if def.Metadata.Machine == nil || !def.Metadata.Machine.valid() {
		return label{}, errNotOurs
	}
	return def.Metadata.Machine.label, nil
}

package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// agentPort is the name of the virtio-serial port that the guest's agent serves
// (package agent, PortName).
const agentPort = "org.assay.agent.0"

// Bounds of a machine's shape; a Spec outside of them is refused.
const (
	defaultMemory = 512 << 20
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
	Memory  int64 // bytes
	Kernel  string
	Initrd  string
	Cmdline string
	Disk    string // the overlay; "" for none
	Console string // file
	Channel string // the agent's socket; "" for none
	User    string // whom QEMU runs as, in the dac model's spelling "+64055:+64055"; "" for ourselves
	// Memory file: "" for memory of QEMU's own.
	RAM string
	// Fork tells that RAM is a template's, of which this machine has a private
	// copy, page by page as it writes, and that QEMU waits for the template's state.
	Fork bool
	// Plain leaves out what only makes libvirt quicker, for a libvirt that does not
	// know it.
	Plain bool
}

// xml is the definition that libvirt takes. It depends on nothing but d.
func (d domain) xml() (string, error) {
	machine, err := machineType(d.Arch)
	if err != nil {
		return "", err
	}
	label, err := d.Label.xml()
	if err != nil {
		return "", err
	}
	def := libvirtxml.Domain{
		Type: d.Accel, Name: d.Name, UUID: d.UUID,
		Metadata: &libvirtxml.DomainMetadata{XML: label},
		Memory:   &libvirtxml.DomainMemory{Value: uint(d.Memory >> 10), Unit: "KiB"},
		VCPU:     &libvirtxml.DomainVCPU{Value: uint(d.CPUs)},
		OS: &libvirtxml.DomainOS{
			Type:    &libvirtxml.DomainOSType{Arch: d.Arch, Machine: machine, Type: "hvm"},
			Kernel:  d.Kernel,
			Initrd:  d.Initrd,
			Cmdline: cmdline(d.Cmdline),
		},
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		CPU:        d.cpu(),
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy", OnReboot: "destroy", OnCrash: "destroy",
		Devices: d.devices(),
	}
	if d.Accel == accelTCG {
		def.Features.TCG = &libvirtxml.DomainFeatureTCG{TBCache: &libvirtxml.DomainFeatureTCGTBCache{Unit: "MiB", Size: translationCache}}
	}
	def.QEMUCommandline, def.QEMUCapabilities = d.commandline(), d.capabilities()
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
	if d.RAM == "" {
		return nil
	}
	share := "on"
	if d.Fork {
		share = "off"
	}
	object := fmt.Sprintf("memory-backend-file,id=%s,size=%dK,share=%s,mem-path=%s", ramID, d.Memory>>10, share, qemuValue(d.RAM))
	words := []string{"-object", object, "-machine", "memory-backend=" + ramID}
	if d.Fork {
		words = append(words, "-incoming", "defer")
	}
	var args []libvirtxml.DomainQEMUCommandlineArg
	for _, word := range words {
		args = append(args, libvirtxml.DomainQEMUCommandlineArg{Value: word})
	}
	return &libvirtxml.DomainQEMUCommandline{Args: args}
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

// machineType is QEMU's machine for an architecture; pc starts quicker than q35.
func machineType(arch string) (string, error) {
	if arch == "x86_64" {
		return "pc", nil
	}
	return "", fmt.Errorf("cannot boot a machine of architecture %q: only x86_64 is known", arch)
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

// cpu is the processor the guest sees: the host's own where it runs on it. Where
// it is emulated a smaller one boots quicker than all that QEMU could emulate,
// by a tenth of the time or more: this one is x86-64-v2, what most distributions
// ask for.
func (d domain) cpu() *libvirtxml.DomainCPU {
	if d.Accel == accelKVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none", Migratable: "off"}
	}
	return &libvirtxml.DomainCPU{
		Mode: "custom", Match: "exact", Check: "none",
		Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: "Nehalem"},
	}
}

// devices are as few as possible: no network, no graphics, no USB, no sound.
func (d domain) devices() *libvirtxml.DomainDeviceList {
	zero := uint(0)
	list := &libvirtxml.DomainDeviceList{
		Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: d.Console}},
			Target: &libvirtxml.DomainSerialTarget{Port: &zero},
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

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// formatVersion is the "version" of image.json that this program writes. It reads
// all from 1 on.
const formatVersion = 2

// describes is the name of the file that makes a directory an image.
const describes = "image.json"

// How a machine comes from an image to a running kernel.
const (
	BootDirect = "direct" // QEMU is given Kernel, Initrd and Cmdline
	BootBIOS   = "bios"   // the machine's own firmware boots the disk: SeaBIOS, SLOF, s390-ccw
	BootUEFI   = "uefi"   // UEFI firmware boots the disk
)

// Image is one image. Kernel, Initrd and Disk are absolute paths.
type Image struct {
	Name    string // "debian-12"
	Dir     string // where it lies, absolute
	Distro  string // "debian"; "" when nobody said
	Release string // "12"; "" when nobody said
	Arch    string // as the kernel says it: "x86_64"
	// Digest is the image's identity, SHA-256 in hex: of kernel, initrd and disk
	// one after the other where Boot is BootDirect, else of the disk.
	Digest  string
	Boot    string // BootDirect, BootBIOS or BootUEFI
	Kernel  string // "" unless Boot is BootDirect
	Initrd  string // "" unless Boot is BootDirect
	Disk    string // qcow2, without any other file behind it
	Cmdline string // the kernel's command line; "" unless Boot is BootDirect
	// Origin is the address or the file that the image came from; "" for one that
	// was built here.
	Origin string
	// OriginSum is the checksum that was published with it: "sha256:HEX",
	// "sha512:HEX"; "" when nobody said.
	OriginSum string
	// Prepared tells that our agent is inside. One that is not gets it from a
	// seed: WriteSeed, Ignition.
	Prepared bool
	// AgentDigest is the SHA-256, in hex, of the agent inside; "" unless Prepared.
	AgentDigest string
	Built       time.Time // when it was put here
	Packages    []string  // what was asked for; more came with it
	Size        int64     // bytes on disk of all its files
}

// file is image.json.
type file struct {
	Version     int       `json:"version"`
	Name        string    `json:"name"`
	Distro      string    `json:"distro"`
	Release     string    `json:"release"`
	Arch        string    `json:"arch"`
	Boot        string    `json:"boot,omitempty"`
	Prepared    bool      `json:"prepared,omitempty"`
	Origin      string    `json:"origin,omitempty"`
	OriginSum   string    `json:"origin_sum,omitempty"`
	Digest      string    `json:"digest"`
	Kernel      string    `json:"kernel,omitempty"`
	Initrd      string    `json:"initrd,omitempty"`
	Disk        string    `json:"disk"`
	Cmdline     string    `json:"cmdline,omitempty"`
	AgentDigest string    `json:"agent_digest,omitempty"`
	Built       time.Time `json:"built"`
	Packages    []string  `json:"packages,omitempty"`
	// Sums has the SHA-256 of every file, by its name; version 1 had none.
	Sums map[string]string `json:"sums,omitempty"`
}

// parts are the names of the files beside image.json, in the order in which the
// digest takes them.
func (f file) parts() []string {
	if f.Boot == BootDirect {
		return []string{f.Kernel, f.Initrd, f.Disk}
	}
	return []string{f.Disk}
}

// readFile reads image.json, of any version that there was, as one of today.
func readFile(text []byte) (file, error) {
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("its %s is damaged: %w", describes, err)
	}
	if f.Version < 1 || f.Version > formatVersion {
		return f, fmt.Errorf("its format is version %d, this program knows version 1 to %d", f.Version, formatVersion)
	}
	if f.Version == 1 { // which only knew images that were built
		f.Boot, f.Prepared, f.Origin, f.Sums = BootDirect, true, "", nil
	}
	if !slices.Contains([]string{BootDirect, BootBIOS, BootUEFI}, f.Boot) {
		return f, fmt.Errorf("its %s says it boots by %q, which this program does not know", describes, f.Boot)
	}
	for _, name := range f.parts() {
		if name == "" || filepath.Base(name) != name {
			return f, fmt.Errorf("its %s names a file %q that cannot be beside it", describes, name)
		}
	}
	return f, nil
}

// write computes the digests of the files in dir and writes image.json beside
// them.
func (f file) write(ctx context.Context, dir string, meter *meter) (err error) {
	meter.bytes("computing the checksum", 0)
	if f.Sums, f.Digest, err = f.digests(ctx, dir, meter); err != nil {
		return err
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeTo(filepath.Join(dir, describes), func(w *os.File) error { _, err := w.Write(append(text, '\n')); return err })
}

// parse reads image.json of the image in dir and looks whether its files are there.
func parse(dir string, text []byte) (Image, error) {
	f, err := readFile(text)
	if err != nil {
		return Image{}, err
	}
	image := Image{
		Name: filepath.Base(dir), Dir: dir, Distro: f.Distro, Release: f.Release, Arch: f.Arch,
		Digest: f.Digest, Boot: f.Boot, Disk: filepath.Join(dir, f.Disk), Origin: f.Origin, OriginSum: f.OriginSum,
		Prepared: f.Prepared, AgentDigest: f.AgentDigest, Built: f.Built, Packages: f.Packages,
	}
	if f.Boot == BootDirect {
		image.Kernel, image.Initrd, image.Cmdline = filepath.Join(dir, f.Kernel), filepath.Join(dir, f.Initrd), f.Cmdline
	}
	for _, name := range f.parts() {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return Image{}, fmt.Errorf("a part of it is missing: %w", err)
		}
		image.Size += info.Size()
	}
	return image, nil
}

// Ignites tells that the image is one of those that Ignition configures in place
// of cloud-init: the CoreOS family, and Flatcar.
func (i Image) Ignites() bool {
	return !i.Prepared && (strings.Contains(i.Distro, "coreos") || i.Distro == "rhcos" || i.Distro == "flatcar")
}

// Holds tells whether the agent in the image is the given program. It always is
// where the image has none of its own: that one gets it from a seed.
func (i Image) Holds(agent string) (bool, error) {
	if !i.Prepared {
		return true, nil
	}
	digest, err := fileDigest(agent)
	return digest == i.AgentDigest, err
}

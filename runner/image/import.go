package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	minimumImport = 1 << 20  // bytes of the smallest disk that could boot anything
	maximumImport = 64 << 30 // bytes of the largest file that is taken in
)

// ImportOptions say what a disk from elsewhere is.
type ImportOptions struct {
	Name string
	// File is the disk: qcow2 or raw, also compressed with xz, by its content and
	// whatever its name. It is copied.
	File string
	// Boot is BootBIOS or BootUEFI; "" to find out from the disk.
	Boot string
	// Distro and Release are what it is an image of, as NameFor has them
	// ("fedora", "42"); both "" for what Name says, or nothing.
	Distro, Release string
	Arch            string // by any of its names; "" for the one that Name ends in, else the host's own
	Replace         bool   // also an image that was built here
	// Progress is as in BuildOptions; bytes are counted where Unit says so.
	Progress func(Progress)
}

// source is what becomes an image: its disk's file, and what image.json says of it.
type source struct {
	name, boot, distro, release string
	origin, originSum           string
	arch                        Architecture
	replace                     bool
}

// source checks the options.
func (o ImportOptions) source(origin string) (source, error) {
	s := source{name: o.Name, boot: o.Boot, distro: o.Distro, release: o.Release, origin: origin, replace: o.Replace}
	if err := checkName(o.Name); err != nil {
		return s, err
	}
	var err error
	if s.arch, err = architectureFor(o.Name, o.Arch); err != nil {
		return s, err
	}
	if s.distro == "" && s.release == "" {
		base, _ := splitName(o.Name)
		s.distro, s.release = guessRelease(base)
	}
	switch {
	case s.boot == BootDirect:
		return s, fmt.Errorf("cannot boot %s directly: a disk from elsewhere has its kernel inside: say bios or uefi", s.name)
	case s.boot != "" && !s.arch.boots(s.boot):
		return s, fmt.Errorf("cannot boot %s by %q: machines of %s know %s", s.name, s.boot, s.arch.Name, strings.Join(s.arch.ways(), " and "))
	}
	return s, nil
}

// guessRelease reads "fedora-42" and the like: a distribution that is known here,
// a hyphen, a number.
func guessRelease(name string) (distro, release string) {
	i := strings.LastIndexByte(name, '-')
	if i < 1 || i+1 == len(name) || strings.Trim(name[i+1:], "0123456789.") != "" {
		return "", ""
	}
	distro, release = name[:i], name[i+1:]
	for _, f := range families() {
		if f.distro == distro {
			return distro, release
		}
	}
	return "", ""
}

// Import makes an image of a disk that was made elsewhere, and puts it in the
// place of the one that has its name. Nothing of the disk is believed: it must be
// a single file of a possible size, with nothing behind it.
func (s Store) Import(ctx context.Context, options ImportOptions) (Image, error) {
	path, err := filepath.Abs(options.File)
	if err != nil {
		return Image{}, fmt.Errorf("cannot import %s: %w", options.File, err)
	}
	from, err := options.source(path)
	if err != nil {
		return Image{}, err
	}
	if err := errors.Join(s.mayReplace(from), checkTools(missing(importTools()))); err != nil {
		return Image{}, err
	}
	meter := newMeter(options.Progress)
	defer meter.close()
	err = s.adopt(ctx, from, meter, func(ctx context.Context, target string) error {
		return copyDisk(ctx, path, target, meter)
	})
	if err != nil {
		return Image{}, fmt.Errorf("cannot import %s: %w", options.File, err)
	}
	return s.Find(from.name)
}

// mayReplace keeps an image that was built from being lost to one from elsewhere
// that happens to be named alike.
func (s Store) mayReplace(from source) error {
	found, err := s.Find(from.name)
	if err != nil || !found.Prepared || from.replace {
		return nil
	}
	return fmt.Errorf("cannot put an image from elsewhere in the place of %s, which was built here: give it another name with --name, or use --replace", from.name)
}

// adopt makes an image of the file that get puts at a path: it has the store to
// itself, and a directory that becomes the image when all went well.
func (s Store) adopt(ctx context.Context, from source, meter *meter, get func(ctx context.Context, target string) error) error {
	unlock, err := s.lock(ctx, func() { meter.stage("waiting for another build") })
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.sweep(); err != nil {
		return fmt.Errorf("cannot remove what an earlier build left: %w", err)
	}
	log, err := os.Create(filepath.Join(s.Root, from.name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // what it tells is only for people
	return s.making(from.name, func(dir string) error {
		work := adoption{source: from, dir: dir, tools: toolbox{log: log}, meter: meter}
		if err := get(ctx, work.path("given")); err != nil {
			return err
		}
		return work.make(ctx)
	})
}

// adoption is one image being made of a disk from elsewhere.
type adoption struct {
	source
	dir   string
	tools toolbox
	meter *meter
}

func (a adoption) path(name string) string { return filepath.Join(a.dir, name) }

// make turns the file "given" into disk.qcow2 and image.json.
func (a adoption) make(ctx context.Context) error {
	given, disk := a.path("given"), a.path("disk.qcow2")
	kind, err := a.open(ctx, given)
	if err != nil {
		return err
	}
	if kind == contentQcow2 {
		err = os.Rename(given, disk)
	} else if err = a.convert(ctx, given, disk); err == nil {
		err = os.Remove(given)
	}
	if err == nil {
		err = a.inspect(ctx, disk)
	}
	if err == nil && a.boot == "" {
		a.boot, err = a.guess(ctx, disk)
	}
	if err != nil {
		return err
	}
	f := file{
		Version: formatVersion, Name: a.name, Distro: a.distro, Release: a.release, Arch: a.arch.Name,
		Boot: a.boot, Origin: a.origin, OriginSum: a.originSum, Disk: "disk.qcow2", Built: time.Now().UTC(),
	}
	return errors.Join(os.Chmod(a.dir, 0o755), os.Chmod(disk, 0o644), f.write(ctx, a.dir, a.meter)) // another user may run the machines
}

// open tells what the given file is, after undoing one compression.
func (a adoption) open(ctx context.Context, given string) (string, error) {
	kind, err := kindOf(given)
	if err != nil || kind != contentXZ {
		return kind, err
	}
	plain := a.path("plain")
	if err := expandXZ(ctx, given, plain, maximumImport, a.meter); err != nil {
		return "", err
	}
	if err := os.Rename(plain, given); err != nil {
		return "", err
	}
	if kind, err = kindOf(given); kind == contentXZ {
		return "", errors.New("it is compressed twice")
	}
	return kind, err
}

func kindOf(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }() // only read from
	head, err := readHead(in)
	if err != nil {
		return "", err
	}
	return contentOf(head)
}

// convert makes a qcow2 disk of a raw one. QEMU is told what it is, so that it
// never looks for anything else in it.
func (a adoption) convert(ctx context.Context, raw, disk string) error {
	info, err := os.Stat(raw)
	if err != nil {
		return err
	}
	if info.Size() < minimumImport || info.Size() > maximumSize {
		return fmt.Errorf("a disk of %d bytes cannot be used: it must have 1 MiB to 1 TiB", info.Size())
	}
	a.meter.stage(stageConvert)
	return a.tools.run(ctx, a.meter.percent, "qemu-img", "convert", "-p", "-f", "raw", "-O", "qcow2", raw, disk)
}

// limited runs qemu-img on a disk that a stranger made: bounded in memory,
// processor time and what it says.
func (a adoption) limited(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "prlimit", append([]string{"--as=2147483648", "--cpu=120", "qemu-img"}, args...)...)
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &capped{&out, 1 << 20}, &capped{&complaint, 64 << 10}
	err := command.Run()
	if err != nil && complaint.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), err
}

// capped takes so many bytes and forgets the rest.
type capped struct {
	w    io.Writer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	_, err := c.w.Write(p[:n])
	return len(p), err
}

// inspect refuses a disk that has anything behind it or is damaged. The header
// is read here first: only then may QEMU look at it.
func (a adoption) inspect(ctx context.Context, disk string) error {
	a.meter.stage("inspecting the disk")
	in, err := os.Open(disk)
	if err != nil {
		return err
	}
	header, err := readQcow2(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	out, err := a.limited(ctx, "info", "--output=json", "-f", "qcow2", disk)
	if err != nil {
		return fmt.Errorf("QEMU cannot read it: %w", err)
	}
	if err := checkInfo(out, header); err != nil {
		return err
	}
	_, err = a.limited(ctx, "check", "-q", "-f", "qcow2", disk)
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.ExitCode() == 3 {
		return nil // clusters that nothing uses: they do no harm
	}
	if err != nil {
		return fmt.Errorf("it is damaged: %w: get it again", err)
	}
	return nil
}

// checkInfo compares what QEMU says of a disk with what its header says.
func checkInfo(text []byte, header qcow2) error {
	var info struct {
		Format  string `json:"format"`
		Size    uint64 `json:"virtual-size"`
		Backing string `json:"backing-filename"`
		Full    string `json:"full-backing-filename"`
		More    struct {
			Data struct {
				DataFile string `json:"data-file"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return fmt.Errorf("QEMU says of it what cannot be read: %w", err)
	}
	if info.Format != "qcow2" || info.Size != header.size || info.Backing+info.Full+info.More.Data.DataFile != "" {
		return errors.New("QEMU sees another disk in it than its header tells of")
	}
	return nil
}

// guess finds out how the disk boots, from what a guest would see of it.
func (a adoption) guess(ctx context.Context, disk string) (string, error) {
	raw := a.path("head.raw")
	count := strconv.Itoa(contentHead / sector)
	if _, err := a.limited(ctx, "dd", "-f", "qcow2", "-O", "raw", "bs=512", "count="+count, "if="+disk, "of="+raw); err != nil {
		return "", fmt.Errorf("QEMU cannot read it: %w", err)
	}
	head, err := os.ReadFile(raw)
	if err = errors.Join(err, os.Remove(raw)); err != nil {
		return "", err
	}
	if !hasBootSector(head) && !hasGPT(head) {
		return "", errors.New("nothing on it boots: it has neither a boot sector nor a partition table")
	}
	return guessBoot(head, a.arch), nil
}

// copyDisk copies a file of the user's. It must be a plain one, so that opening
// it does nothing and reading it ends.
func copyDisk(ctx context.Context, from, to string, meter *meter) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a plain file")
	}
	head, err := readHead(in)
	if err != nil {
		return err
	}
	switch kind, err := contentOf(head); {
	case err != nil:
		return err
	case kind != contentRaw && info.Size() > maximumImport || info.Size() > maximumSize:
		return fmt.Errorf("it has %d bytes: at most %d are taken", info.Size(), int64(maximumImport))
	}
	meter.bytes(stageCopy, info.Size())
	return writeTo(to, func(w *os.File) error {
		out := &sparse{w: w, max: maximumSize}
		_, err := io.Copy(out, &counted{ctx: ctx, r: in, meter: meter})
		return errors.Join(err, out.end())
	})
}

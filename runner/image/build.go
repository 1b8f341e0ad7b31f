package image

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// BuildOptions say what to build.
type BuildOptions struct {
	// Name is the image's name. One of Names says by itself what it is built of;
	// another one needs From.
	Name string
	From string // one of Names; "" for Name
	// Arch is the image's architecture, by any of its names; "" for the one that
	// Name ends in (debian-12.aarch64), else the host's own.
	Arch string
	// Agent is the path of the assay-agent program to put in: static, for that
	// architecture.
	Agent    string
	Size     int64    // bytes of the file system; 0 for 4 GiB. It takes up what is in it.
	Packages []string // distribution packages to add
	Mirror   string   // address of an archive; "" for those of this host's apt configuration
	Keyring  string   // file with the keys that sign it; "" for where distributions install it
	Fresh    bool     // install all packages anew even if the last build's are at hand
	// Progress is told how far the build is: at every new stage and once a
	// second, never twice at a time. It may be nil.
	Progress func(Progress)
}

const (
	// defaultSize bounds what a check that fills its disk takes of the host; a
	// formula that needs more asks for it with environment.disk.
	defaultSize = 4 << 30
	minimumSize = 1 << 30
	maximumSize = 1 << 40
)

func (o BuildOptions) from() string {
	if o.From != "" {
		return o.From
	}
	base, _ := splitName(o.Name)
	return base
}

// Architecture is the one to build for: what Arch, or else Name, says.
func (o BuildOptions) Architecture() (Architecture, error) { return architectureFor(o.Name, o.Arch) }

// FindOrBuild finds the image of that name with the given agent inside, or
// builds it: from the network once, after that in seconds.
func (s Store) FindOrBuild(ctx context.Context, options BuildOptions) (Image, error) {
	arch, err := options.Architecture()
	if err == nil {
		err = checkAgent(options.Agent, arch)
	}
	if err != nil {
		return Image{}, err
	}
	return s.build(ctx, options, func(found Image) bool {
		same, err := found.Holds(options.Agent)
		return same && err == nil
	})
}

// Build builds an image and puts it in the place of the one that has its name.
// It waits while another process builds in the same store. What a build that
// fails or is killed leaves never looks like an image.
func (s Store) Build(ctx context.Context, options BuildOptions) (Image, error) {
	return s.build(ctx, options, func(Image) bool { return false })
}

func (s Store) build(ctx context.Context, options BuildOptions, good func(Image) bool) (Image, error) {
	found, err := s.Find(options.Name)
	if err == nil && good(found) {
		return found, nil
	}
	if err := errors.Join(options.check(), options.canBuild(ctx)); err != nil {
		return Image{}, err
	}
	meter := newMeter(options.Progress)
	defer meter.close()
	unlock, err := s.lock(ctx, func() { meter.stage("waiting for another build") })
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	// Whoever held the lock may have built it.
	if found, err = s.Find(options.Name); err == nil && good(found) {
		return found, nil
	}
	if err := s.sweep(); err != nil {
		return Image{}, fmt.Errorf("cannot remove what an earlier build left: %w", err)
	}
	if err := s.produce(ctx, options, meter); err != nil {
		return Image{}, fmt.Errorf("cannot build the image %s: %w", options.Name, err)
	}
	return s.Find(options.Name)
}

func (o BuildOptions) check() error {
	if err := checkName(o.Name); err != nil {
		return err
	}
	if o.Size != 0 && (o.Size < minimumSize || o.Size > maximumSize) {
		return fmt.Errorf("cannot make a disk of %d bytes: it must have 1 GiB to 1 TiB", o.Size)
	}
	arch, err := o.Architecture()
	if err != nil {
		return err
	}
	return checkAgent(o.Agent, arch)
}

// canBuild tells what this host lacks to build such an image.
func (o BuildOptions) canBuild(ctx context.Context) error {
	release, err := parseRelease(o.from())
	if err != nil {
		return nil // which planning will tell
	}
	tools := Tools()
	if release.rpm() {
		if tools = dnfTools(); os.Geteuid() != 0 {
			return fmt.Errorf("cannot build %s as an ordinary user: dnf installs into a directory only as root: become root, or get it with: assay image pull %s:%s", o.Name, release.Distro, release.Version)
		}
	}
	if err := checkTools(missing(tools)); err != nil {
		if release.rpm() {
			return fmt.Errorf("%w; or get it with: assay image pull %s:%s", err, release.Distro, release.Version)
		}
		return err
	}
	arch, err := o.Architecture()
	if err != nil {
		return nil // which was told before
	}
	return canRun(ctx, arch, o.Agent, fmt.Sprintf("assay image pull %s:%s --arch %s", release.Distro, release.Version, arch.Name))
}

// canRun tries a program of the architecture on this host, which for another one
// than its own needs an emulator that the kernel knows of (binfmt_misc): packages
// run programs of theirs while they are installed.
func canRun(ctx context.Context, arch Architecture, program, instead string) error {
	own, err := HostArchitecture()
	if err != nil || own == arch {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := exec.CommandContext(ctx, program, "--version").Run(); err != nil {
		return fmt.Errorf("cannot build an image for %s on this host, which is %s and does not run its programs (%w): install qemu-user-static (on Debian, Ubuntu and Fedora) where the kernel has binfmt_misc, or get one with: %s", arch.Name, own.Name, err, instead)
	}
	return nil
}

// checkAgent refuses an agent that could not run in the guest, where there may
// be no library that it wants.
func checkAgent(path string, arch Architecture) error {
	program, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the agent %s: %w: build it with `CGO_ENABLED=0 go build ./cmd/assay-agent`", path, err)
	}
	defer func() { _ = program.Close() }() // only read from
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			return fmt.Errorf("cannot use the agent %s: it needs a dynamic linker: build it with CGO_ENABLED=0", path)
		}
	}
	if !arch.runs(program.FileHeader) {
		return fmt.Errorf("cannot use the agent %s: it is for %s, the image is for %s: build it with `CGO_ENABLED=0 GOARCH=%s go build ./cmd/assay-agent`", path, program.Machine, arch.Name, arch.Go)
	}
	return nil
}

// produce makes the image in a directory of its own and then puts it in place.
func (s Store) produce(ctx context.Context, options BuildOptions, meter *meter) error {
	log, err := os.Create(filepath.Join(s.Root, options.Name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // what it tells is only for people
	tools := toolbox{log: log}
	meter.stage("looking for the packages")
	plan, err := planRoot(ctx, options)
	if err != nil {
		return err
	}
	archive, err := s.fetch(ctx, tools, plan, options.Fresh, meter)
	if err != nil {
		return err
	}
	return s.making(options.Name, func(dir string) error {
		work := build{options: options, plan: plan, tools: tools, meter: meter, archive: archive, dir: dir}
		return work.make(ctx)
	})
}

// making has do fill a new directory, and makes that the image of the name.
func (s Store) making(name string, do func(dir string) error) error {
	dir, err := os.MkdirTemp(s.Root, name+partMark)
	if err != nil {
		return err
	}
	if err = do(dir); err == nil {
		err = s.place(dir, name)
	}
	// Now this is nothing, the image that was replaced, or half of one.
	return errors.Join(err, removeTree(dir))
}

// place puts a finished image under its name in one step. What had the name
// before is then in dir.
func (s Store) place(dir, name string) error {
	target := filepath.Join(s.Root, name)
	err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, target, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(dir, target)
	}
	if err != nil {
		return fmt.Errorf("cannot put the image in place: %w", err)
	}
	return nil
}

// build is one image being made.
type build struct {
	options BuildOptions
	plan    root
	tools   toolbox
	meter   *meter
	archive string // the root's packages, a tar file
	dir     string // the image's directory while it is made
}

func (b build) path(name string) string { return filepath.Join(b.dir, name) }

// make writes every file of the image; image.json last.
func (b build) make(ctx context.Context) error {
	agent, err := os.ReadFile(b.options.Agent)
	if err != nil {
		return fmt.Errorf("cannot read the agent: %w", err)
	}
	b.meter.stage("taking out the kernel")
	boot, err := readBoot(ctx, b.archive)
	if err != nil {
		return err
	}
	built := time.Now().Truncate(time.Second)
	err = errors.Join(
		os.Chmod(b.dir, 0o755), // another user may run the machines
		writeTo(b.path("vmlinuz"), func(w *os.File) error { _, err := w.Write(boot.kernel); return err }),
		writeTo(b.path("initrd.img"), func(w *os.File) error { return writeInitrd(w, agent, boot.modules) }),
		writeTo(b.path("overlay.tar"), func(w *os.File) error { return writeOverlay(w, overlay(agent, built), built) }),
	)
	if err == nil {
		err = b.disk(ctx)
	}
	if err == nil {
		err = b.describe(ctx, agent)
	}
	return err
}

// diskScript unpacks the root and makes a file system of it. It runs under
// fakeroot(1), which remembers owners and devices from the one to the other, so
// that nothing has to be mounted and nobody has to be root. What its owner may
// not read (a backup of /etc/shadow) could not be copied: in the guest the owner
// is root, who may read it either way.
const diskScript = `set -e
tar --extract --numeric-owner --xattrs --xattrs-include='*' -C "$1" -f "$2"
tar --extract --numeric-owner -C "$1" -f "$3"
find "$1" ! -type l ! -perm -u=r -exec chmod u+r {} +
"$6" -q -F -L assay-root -m 0 -O ^has_journal -E lazy_itable_init=0 -d "$1" "$4" "$5"
`

// disk makes disk.qcow2. The file system has no journal: nobody boots such a
// disk again after a crash.
func (b build) disk(ctx context.Context) error {
	mkfs, err := lookUp("mkfs.ext4")
	if err != nil {
		return err
	}
	size := b.options.Size
	if size == 0 {
		size = defaultSize
	}
	tree, raw := b.path("root"), b.path("disk.raw")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	b.meter.stage("making the disk")
	err = b.tools.run(ctx, nil, "fakeroot", "--", "sh", "-c", diskScript, "sh",
		tree, b.archive, b.path("overlay.tar"), raw, strconv.FormatInt(size>>10, 10)+"k", mkfs)
	if err == nil {
		err = b.tools.run(ctx, nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, b.path("disk.qcow2"))
	}
	if err != nil {
		return fmt.Errorf("cannot make the disk: %w", err)
	}
	return errors.Join(removeTree(tree), os.Remove(raw), os.Remove(b.path("overlay.tar")))
}

// describe writes image.json.
func (b build) describe(ctx context.Context, agent []byte) error {
	f := file{
		Version: formatVersion, Name: b.options.Name,
		Distro: b.plan.release.Distro, Release: b.plan.release.Version, Arch: b.plan.arch.Name,
		Boot: BootDirect, Prepared: true, Kernel: "vmlinuz", Initrd: "initrd.img", Disk: "disk.qcow2",
		Cmdline: commandLine(b.plan.release, b.plan.arch), Packages: b.plan.packages, Built: time.Now().UTC().Truncate(time.Second),
	}
	sum := sha256.Sum256(agent)
	f.AgentDigest = hex.EncodeToString(sum[:])
	return f.write(ctx, b.dir, b.meter)
}

// writeTo writes a file and waits until it is on the disk.
func writeTo(path string, write func(*os.File) error) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Sync(), out.Close())
}

// fileDigest is the SHA-256 of the files one after the other, in hex.
func fileDigest(paths ...string) (string, error) {
	h := sha256.New()
	for _, path := range paths {
		in, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("cannot compute a checksum: %w", err)
		}
		_, err = io.Copy(h, in)
		if err = errors.Join(err, in.Close()); err != nil {
			return "", fmt.Errorf("cannot compute the checksum of %s: %w", path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Package imagetest has what tests of images from elsewhere need: an image that
// is made as distributions make their cloud images, with nothing of ours inside,
// and the agent that a seed brings in.
package imagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Images is the directory where `make test` has images, and where CloudImage
// keeps its own: $ASSAY_IMAGES, or what assay takes by default.
func Images() string {
	if root := os.Getenv("ASSAY_IMAGES"); root != "" {
		return root
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "assay/images")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/assay/images"
	}
	return filepath.Join(os.Getenv("HOME"), ".local/share/assay/images")
}

// Agent compiles the real agent for x86_64, static, into a directory that goes
// with the test, and returns its path.
func Agent(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "assay-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path,
		"github.com/assay-ci/assay/cmd/assay-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the agent: %v\n%s", err, out)
	}
	return path
}

// The recipe of the cloud image.
const (
	codename = "bookworm"
	keyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
	sector   = 512  // bytes
	megabyte = 2048 // sectors: where the partition begins
	size     = 2000 // megabytes of the partition
)

// packages are what distributions' cloud images have, as far as it matters.
func packages() []string {
	return []string{
		"cloud-init", "e2fsprogs", "ifupdown", "initramfs-tools", "iproute2", "kmod", "linux-image-cloud-amd64",
		"netbase", "openssh-server", "procps", "systemd-sysv", "udev", "zstd",
	}
}

// script makes a file system with the root of an archive at 1 MiB of a disk, and
// a boot loader's second stage that knows where the kernel is.
const script = `set -e
PATH="$PATH:/usr/sbin:/sbin"
mkdir root
tar --extract --numeric-owner --xattrs --xattrs-include='*' -C root -f root.tar
echo '/dev/vda1 / ext4 rw 0 1' >root/etc/fstab
truncate -s $((2001 * 1048576)) disk.raw
mkfs.ext4 -q -F -L cloud -m 0 -E offset=1048576,lazy_itable_init=0 -d root disk.raw $((2000 * 1024))k
cat >early.cfg <<.
set root=(hd0,msdos1)
linux /vmlinuz root=/dev/vda1 ro console=ttyS0
initrd /initrd.img
boot
.
"$(command -v grub-mkimage || command -v grub2-mkimage)" -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' -c early.cfg biosdisk part_msdos ext2 linux
`

// How old an image may be, and how old one must be that nobody wants any more.
const (
	goodFor  = 28 * 24 * time.Hour
	stayFor  = 7 * 24 * time.Hour
	namePart = "test-cloud-"
)

// CloudImage makes a disk, qcow2 for x86_64, that boots by the BIOS: a partition
// table, a boot loader, Debian's kernel with an initial RAM disk, cloud-init and
// sshd. Or it finds the one of last time, which lies with the images that `make
// test` builds, because it is as large as they are. Making it takes a minute or
// two, and what `make test` installs. Nobody may write to it.
func CloudImage(t *testing.T) string {
	t.Helper()
	lines, err := sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256([]byte(strings.Join(slices.Concat(packages(), lines, []string{script}), "\n")))
	path := filepath.Join(Images(), ".cache", namePart+hex.EncodeToString(key[:8])+".qcow2")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	defer lock(t, path+".lock")()
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) < goodFor {
		return path
	}
	forget(filepath.Dir(path))
	if err := build(t, lines, path); err != nil {
		t.Fatalf("cannot make a cloud image (`make test` installs what that needs): %v", err)
	}
	return path
}

// lock waits while another test makes the image.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	held, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(held.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatalf("cannot lock %s: %v", path, err)
	}
	return func() { _ = held.Close() } // which unlocks
}

// forget removes the images of recipes of before.
func forget(dir string) {
	old, _ := filepath.Glob(filepath.Join(dir, namePart+"*")) // the pattern is well-formed
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > stayFor {
			_ = os.Remove(path) // the next one tries again
		}
	}
}

// sources are the lines of sources.list(5) for the release, of the archives from
// which this host itself gets Debian.
func sources(ctx context.Context) ([]string, error) {
	format := "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", format, "Created-By: Packages").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot read this host's apt configuration: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		parts := strings.Split(strings.TrimSpace(line), "|")
		if len(parts) != 4 || parts[0] != "Debian" || parts[2] != "main" {
			continue
		}
		if _, suffix, dashed := strings.Cut(parts[1], "-"); !dashed || suffix == "updates" || suffix == "security" {
			suite := strings.TrimSuffix(codename+"-"+suffix, "-")
			lines = append(lines, fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, parts[3], suite))
		}
	}
	if len(lines) == 0 {
		return nil, errors.New("cannot find a mirror of Debian in this host's apt configuration")
	}
	return slices.Compact(slices.Sorted(slices.Values(lines))), nil
}

// build writes the disk in one step.
func build(t *testing.T, sources []string, path string) (err error) {
	t.Logf("making %s", path)
	dir, err := os.MkdirTemp("/var/tmp", "assay-test-cloud-") // where users of a user namespace may go
	if err != nil {
		return err
	}
	work := workshop{t.Context(), dir}
	defer func() { err = errors.Join(err, work.discard()) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	mode := map[bool]string{true: "root", false: "unshare"}[os.Geteuid() == 0]
	args := []string{
		"--mode=" + mode, "--variant=minbase", "--format=tar", "--architectures=amd64",
		"--include=" + strings.Join(packages(), ","), "--dpkgopt=force-unsafe-io", codename, "root.tar",
	}
	if err := work.run("mmdebstrap", append(args, sources...)...); err != nil {
		return err
	}
	if err := work.run("fakeroot", "--", "sh", "-c", script); err != nil {
		return err
	}
	if err := work.addLoader("disk.raw"); err != nil {
		return err
	}
	if err := work.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// workshop is a directory in which programs run.
type workshop struct {
	ctx context.Context
	dir string
}

func (w workshop) run(program string, args ...string) error {
	command := exec.CommandContext(w.ctx, program, args...)
	command.Dir = w.dir
	command.Env = append(os.Environ(), "TMPDIR="+w.dir)
	// It ends with the test, also when that is killed: with the thread that began it.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if out, err := command.CombinedOutput(); err != nil {
		out = bytes.TrimSpace(out)
		return fmt.Errorf("%s: %w: %s", program, err, out[max(0, len(out)-4096):])
	}
	return nil
}

// discard removes the directory, in which there may be files of the users of a
// user namespace, and directories that nobody may write to.
func (w workshop) discard() error {
	w.ctx = context.WithoutCancel(w.ctx)
	if os.Geteuid() == 0 || w.run("chmod", "-R", "u+rwX", w.dir) == nil {
		return os.RemoveAll(w.dir)
	}
	inside, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err == nil {
		err = w.run("mmdebstrap", append([]string{"--unshare-helper", "rm", "-rf", "--"}, inside...)...)
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// addLoader writes the boot loader, and the partition table, before the partition.
func (w workshop) addLoader(name string) error {
	stage, err := os.ReadFile("/usr/lib/grub/i386-pc/boot.img")
	if err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(w.dir, "core.img"))
	if err != nil {
		return err
	}
	if len(core) > (megabyte-1)*sector {
		return fmt.Errorf("the boot loader has %d bytes: there is no room for it", len(core))
	}
	out, err := os.OpenFile(filepath.Join(w.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = out.WriteAt(append(masterBootRecord(stage), core...), 0)
	return errors.Join(err, out.Close())
}

// masterBootRecord is a disk's first sector: the boot loader's first stage, which
// reads the next sectors, and a table with one partition from 1 MiB on.
func masterBootRecord(stage []byte) []byte {
	record := make([]byte, sector)
	copy(record[:440], stage)
	entry := record[446:]
	copy(entry, []byte{0x80, 0, 2, 0, 0x83, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], megabyte)
	binary.LittleEndian.PutUint32(entry[12:], size*megabyte)
	record[510], record[511] = 0x55, 0xaa
	return record
}

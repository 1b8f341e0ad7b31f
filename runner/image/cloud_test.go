package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The test here boots a virtual machine of an image that is made as others make
// theirs: a partition table, a boot loader, an initial RAM disk and cloud-init,
// and nothing of ours.

// cloudPackages are what distributions' cloud images have, as far as it matters.
func cloudPackages() []string {
	return []string{
		"cloud-init", "e2fsprogs", "ifupdown", "initramfs-tools", "iproute2", "kmod",
		"linux-image-cloud-amd64", "netbase", "procps", "systemd-sysv", "udev", "zstd",
	}
}

// cloudScript makes a file system with the root of an archive at 1 MiB of a
// disk, and a boot loader's second stage that knows where the kernel is.
const cloudScript = `set -e
mkdir root
tar --extract --numeric-owner --xattrs --xattrs-include='*' -C root -f root.tar
echo '/dev/vda1 / ext4 rw 0 1' >root/etc/fstab
truncate -s $((2001 * 1048576)) disk.raw
"$1" -q -F -L cloud -m 0 -E offset=1048576,lazy_itable_init=0 -d root disk.raw $((2000 * 1024))k
cat >early.cfg <<.
set root=(hd0,msdos1)
linux /vmlinuz root=/dev/vda1 ro console=ttyS0
initrd /initrd.img
boot
.
"$(command -v grub-mkimage || command -v grub2-mkimage)" -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' -c early.cfg biosdisk part_msdos ext2 linux
`

// masterBootRecord is a disk's first sector: the boot loader's first stage, which
// reads the next sectors, and a table with one partition from 1 MiB on.
func masterBootRecord(stage []byte, sectors uint32) []byte {
	record := make([]byte, sector)
	copy(record[:440], stage)
	entry := record[446:]
	copy(entry, []byte{0x80, 0, 2, 0, 0x83, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], 2048)
	binary.LittleEndian.PutUint32(entry[12:], sectors)
	record[510], record[511] = 0x55, 0xaa
	return record
}

// cloudImage makes the disk, qcow2, or finds the one of last time. It lies with
// the images that make test builds, because it is as large as they are.
func cloudImage(t *testing.T) string {
	t.Helper()
	s := Store{Root: testImages()}
	plan, err := planRoot(t.Context(), BuildOptions{Name: "debian-12", Arch: "x86_64"})
	if err != nil {
		t.Fatalf("cannot make a cloud image (`make test` installs what that needs): %v", err)
	}
	plan.packages = cloudPackages()
	key := sha256.Sum256([]byte(plan.key() + cloudScript))
	disk := filepath.Join(s.Root, ".cache", "test-cloud-"+hex.EncodeToString(key[:8])+".qcow2")
	if err := os.MkdirAll(filepath.Dir(disk), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockFile(t.Context(), disk+".lock", func() { t.Log("another test makes the cloud image") })
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if info, err := os.Stat(disk); err == nil && time.Since(info.ModTime()) < 4*cacheFor {
		return disk
	}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(disk), "test-cloud-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range others { // of recipes of before
		if info, err := os.Stat(other); err == nil && time.Since(info.ModTime()) > cacheFor {
			_ = os.Remove(other) // the next one tries again
		}
	}
	var log bytes.Buffer
	if err := makeCloudImage(t, plan, toolbox{log: &log}, disk); err != nil {
		t.Fatalf("cannot make a cloud image (`make test` installs what that needs): %v\n%s", err, log.Bytes()[max(0, log.Len()-4096):])
	}
	return disk
}

// makeCloudImage writes disk in one step.
func makeCloudImage(t *testing.T, plan root, tools toolbox, disk string) error {
	dir, err := os.MkdirTemp(scratchParent, "assay-test-cloud-")
	if err != nil {
		return err
	}
	defer func() {
		if err := discardScratch(context.WithoutCancel(t.Context()), tools, dir); err != nil {
			t.Error(err)
		}
	}()
	tools.env = []string{"TMPDIR=" + dir}
	mkfs, err := lookUp("mkfs.ext4")
	if err = errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		return err
	}
	args := plan.bootstrapArgs(filepath.Join(dir, "root.tar"), os.Geteuid() == 0)
	if err := tools.run(t.Context(), nil, "mmdebstrap", args...); err != nil {
		return err
	}
	if err := tools.run(t.Context(), nil, "fakeroot", "--", "sh", "-c", "cd "+dir+"\n"+cloudScript, "sh", mkfs); err != nil {
		return err
	}
	stage, err := os.ReadFile("/usr/lib/grub/i386-pc/boot.img")
	if err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(dir, "core.img"))
	if err != nil || len(core) > 2047*sector {
		return fmt.Errorf("the boot loader has %d bytes: %w", len(core), err)
	}
	raw := filepath.Join(dir, "disk.raw")
	out, err := os.OpenFile(raw, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = out.WriteAt(append(masterBootRecord(stage, 2000*2048), core...), 0)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := tools.run(t.Context(), nil, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, disk+".new"); err != nil {
		return err
	}
	return os.Rename(disk+".new", disk)
}

// testImages is where `make test` puts images.
func testImages() string {
	if root := os.Getenv("ASSAY_IMAGES"); root != "" {
		return root
	}
	if os.Getuid() == 0 {
		return "/var/lib/assay/images"
	}
	if data := os.Getenv("XDG_DATA_HOME"); data != "" {
		return filepath.Join(data, "assay/images")
	}
	return filepath.Join(os.Getenv("HOME"), ".local/share/assay/images")
}

// buildAgent compiles the real agent.
func buildAgent(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "assay-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "../../cmd/assay-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the agent: %v\n%s", err, out)
	}
	return path
}

// guest is a running machine.
type guest struct {
	dir   string
	ended chan struct{}
	said  bytes.Buffer // by QEMU; to be read after ended
}

// bootGuest starts a machine with an overlay of the image and a seed as its
// second disk. It ends with the test at the latest.
func bootGuest(t *testing.T, image Image, seed string) *guest {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{dir: dir, ended: make(chan struct{})}
	overlay := filepath.Join(dir, "overlay.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", image.Disk, "-F", "qcow2", overlay)
	ctx, stop := context.WithTimeout(t.Context(), 9*time.Minute)
	command := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg", "-machine", "pc", "-cpu", "Nehalem", "-m", "1024", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-serial", "file:"+filepath.Join(dir, "console"),
		"-drive", "if=virtio,format=qcow2,cache=unsafe,file="+overlay,
		"-drive", "if=virtio,format=raw,readonly=on,file="+seed,
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,server=on,wait=off,path="+g.socket(),
		"-device", "virtserialport,chardev=agent,name=org.assay.agent.0")
	command.Stdout, command.Stderr = &g.said, &g.said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(g.ended)
		_ = command.Wait() // killed, mostly
	}()
	t.Cleanup(func() { stop(); <-g.ended })
	return g
}

func (g *guest) socket() string { return filepath.Join(g.dir, "agent") }

// connect tries until the agent answers or the machine is gone.
func (g *guest) connect(t *testing.T) *ssh.Client {
	t.Helper()
	for {
		client, err := g.try(t.Context())
		if err == nil {
			return client
		}
		select {
		case <-g.ended:
			console, _ := os.ReadFile(filepath.Join(g.dir, "console"))
			t.Fatalf("the agent never answered: %v; QEMU: %s; the console:\n%s", err, g.said.String(), console[max(0, len(console)-4096):])
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// try makes one handshake.
func (g *guest) try(ctx context.Context) (*ssh.Client, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "unix", g.socket())
	if err != nil {
		return nil, err
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-g.ended: // the other end is QEMU's own
			_ = raw.Close()
		case <-over:
		}
	}()
	config := &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	conn, channels, requests, err := ssh.NewClientConn(raw, "", config)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// run runs one command in the guest.
func run(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput(command)
	var exit *ssh.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(string(out))
}

// TestCloudImage imports an image that knows nothing of us, boots it with a seed,
// and has the agent run commands in it.
func TestCloudImage(t *testing.T) {
	s := Store{Root: t.TempDir()}
	image, err := s.Import(t.Context(), ImportOptions{Name: "cloud", File: cloudImage(t), Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	if image.Boot != BootBIOS {
		t.Errorf("it boots by %s", image.Boot)
	}
	seed := filepath.Join(t.TempDir(), "seed.iso")
	err = writeTo(seed, func(w *os.File) error {
		return WriteSeed(w, Seed{Agent: buildAgent(t), Arch: "x86_64", InstanceID: "m-1", Hostname: "guest-1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	client := bootGuest(t, image, seed).connect(t)
	defer func() { _ = client.Close() }() // the machine goes anyway
	// The boot goes on beside; what waits for a network no longer does.
	for command, want := range map[string]string{
		"echo hello; id -un":                        "hello\nroot",
		"hostname":                                  "guest-1",
		"systemctl is-active assay-agent":           "active",
		"systemctl is-enabled assay-agent":          "enabled",
		"systemctl is-enabled apt-daily.timer":      "masked",
		"systemctl list-jobs | grep -c wait-online": "0",
		"systemctl --failed --no-legend":            "",
		"mount | grep -c iso9660":                   "0",
		"cat /sys/class/virtio-ports/*/name":        "org.assay.agent.0",
		"cat /etc/cloud/cloud.cfg.d/99-assay.cfg":   "datasource_list: [NoCloud, None]",
	} {
		if got := run(t, client, command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

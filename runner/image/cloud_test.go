package image

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/image/imagetest"
)

// The test here boots a virtual machine of an image that is made as others make
// theirs: a partition table, a boot loader, an initial RAM disk and cloud-init,
// and nothing of ours.

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
	image, err := s.Import(t.Context(), ImportOptions{Name: "cloud", File: imagetest.CloudImage(t), Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	if image.Boot != BootBIOS {
		t.Errorf("it boots by %s", image.Boot)
	}
	seed := filepath.Join(t.TempDir(), "seed.iso")
	err = writeTo(seed, func(w *os.File) error {
		return WriteSeed(w, Seed{Agent: imagetest.Agent(t), Arch: "x86_64", InstanceID: "m-1", Hostname: "guest-1"})
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

package usernet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/image/imagetest"
	"github.com/assay-ci/assay/runner/sshconn"
)

// The tests in this file boot a real machine with QEMU and an image, which
// `make test` prepares. They fail without, so that they are never just left out.

// testImage is the image that the tests of real machines boot.
func testImage(t *testing.T) image.Image {
	t.Helper()
	img, err := image.Store{Root: imagetest.Images()}.Find("debian-12")
	if err != nil {
		t.Fatalf("these tests need an image, which `make test` prepares: %v", err)
	}
	return img
}

// machine is a QEMU of the test, on a network of its own.
type machine struct {
	t     *testing.T
	dir   string
	qmp   *json.Decoder
	tell  net.Conn
	guest *sshconn.Machine
}

// shape is what a machine is started with besides what all have.
type shape struct {
	disk   string // the qcow2 file below its overlay
	memory string // the file of its memory
	shared bool   // whether it writes to that
	more   []string
}

// start runs QEMU in a directory of its own until the test ends.
func start(t *testing.T, img image.Image, socket string, s shape) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	overlay := filepath.Join(m.dir, "disk.qcow2")
	command(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", s.disk, overlay)
	share := map[bool]string{true: "on", false: "off"}[s.shared]
	args := append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=tcg,memory-backend=ram", "-cpu", "Nehalem",
		"-object", "memory-backend-file,id=ram,size=512M,mem-path=" + s.memory + ",share=" + share, "-m", "512", "-smp", "1",
		"-kernel", img.Kernel, "-initrd", img.Initrd, "-append", img.Cmdline,
		"-drive", "if=none,id=disk,format=qcow2,cache=unsafe,file=" + overlay, "-device", "virtio-blk-pci,drive=disk",
		"-serial", "file:" + filepath.Join(m.dir, "console"),
		"-chardev", "socket,id=agent,server=on,wait=off,path=" + filepath.Join(m.dir, "agent"),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.assay.agent.0",
		"-qmp", "unix:" + filepath.Join(m.dir, "qmp") + ",server=on,wait=off",
		"-netdev", "stream,id=net0,server=off,addr.type=unix,addr.path=" + socket,
		"-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56,romfile=,addr=0x1e",
	}, s.more...)
	process := exec.Command("qemu-system-x86_64", args...)
	var said bytes.Buffer
	process.Stderr = &said
	if err := process.Start(); err != nil {
		t.Fatalf("cannot start QEMU, which `make test` installs: %v", err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill() // it may be gone
		_ = process.Wait()
		if console, err := os.ReadFile(filepath.Join(m.dir, "console")); err == nil && t.Failed() {
			t.Logf("QEMU: %s\nconsole: %s", said.String(), console)
		}
	})
	m.tell = m.connect("qmp")
	m.qmp = json.NewDecoder(m.tell)
	m.do("qmp_capabilities", nil)
	return m
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", argv, err, out)
	}
}

// connect reaches one of QEMU's sockets, which come up soon after its start.
func (m *machine) connect(name string) net.Conn {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(m.dir, name))
		if err == nil {
			m.t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("QEMU does not serve its socket: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// do runs one monitor command and passes over the events before its answer.
func (m *machine) do(execute string, arguments map[string]any) {
	m.t.Helper()
	line := map[string]any{"execute": execute}
	if arguments != nil {
		line["arguments"] = arguments
	}
	if err := json.NewEncoder(m.tell).Encode(line); err != nil {
		m.t.Fatal(err)
	}
	m.until(execute, func(answer map[string]any) bool { _, ok := answer["return"]; return ok })
}

func (m *machine) until(what string, done func(map[string]any) bool) {
	m.t.Helper()
	for {
		var answer map[string]any
		if err := m.qmp.Decode(&answer); err != nil || answer["error"] != nil {
			m.t.Fatalf("%s: %v, %v", what, answer, err)
		}
		if done(answer) {
			return
		}
	}
}

// migrate has the machine's state written, or read, and waits for the end.
func (m *machine) migrate(execute, uri string) {
	m.t.Helper()
	var on []map[string]any
	for _, name := range []string{"events", "x-ignore-shared"} {
		on = append(on, map[string]any{"capability": name, "state": true})
	}
	m.do("migrate-set-capabilities", map[string]any{"capabilities": on})
	m.do(execute, map[string]any{"uri": uri})
	m.until(execute, func(event map[string]any) bool {
		data, _ := event["data"].(map[string]any)
		if event["event"] == "MIGRATION" && data["status"] == "failed" {
			m.t.Fatalf("%s failed", execute)
		}
		return event["event"] == "MIGRATION" && data["status"] == "completed"
	})
}

// await waits for the guest's agent, which in a fork has yet to notice that its
// last connection ended.
func (m *machine) await() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 4*time.Minute)
	defer cancel()
	for {
		client, err := handshake(ctx, m.connect("agent"))
		if err == nil {
			m.guest = sshconn.New(client, sshconn.Options{Dir: "/"})
			m.t.Cleanup(func() { _ = m.guest.Close() })
			return
		}
		if ctx.Err() != nil {
			m.t.Fatalf("the guest's agent did not answer: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func handshake(ctx context.Context, raw net.Conn) (*ssh.Client, error) {
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // ends the handshake
	defer stop()
	conn, channels, requests, err := ssh.NewClientConn(raw, "", &ssh.ClientConfig{
		User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Config: ssh.Config{KeyExchanges: []string{ssh.KeyExchangeCurve25519}},
	})
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// run is the output of a shell script in the guest, whatever its exit status.
func (m *machine) run(script string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	if _, err := m.guest.Run(ctx, runner.Command{Argv: []string{"sh", "-c", script}, Dir: "/", Stdout: &out, Stderr: &out}); err != nil {
		m.t.Fatalf("%v: %s", err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// leaseAnew has systemd's own client, which is in every Debian, take a lease.
const leaseAnew = `
for card in /sys/class/net/*; do [ ! -e "$card/device" ] || dev=${card##*/}; done
ip address flush dev "$dev"
printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' > /run/systemd/network/10-card.network
systemctl start systemd-networkd
for _ in $(seq 600); do ip route | grep -q ^default && break; sleep 0.1; done
ip -4 -o address show dev "$dev" | grep -o 'inet [^ ]*'; ip route | grep -o '^default via [^ ]*'`

// TestVirtualMachine has a real guest reach what it may and fail to reach this
// host, then freezes it and sees that a fork goes on with nothing set anew, and
// that DHCP gives it the same again.
func TestVirtualMachine(t *testing.T) {
	img := testImage(t)
	web := webServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello from outside") })
	ports := hostPort(t)
	o := Options{Resolver: names{}, dial: detour(website, web.Listener.Addr()), Allow: func(to netip.AddrPort, proto string) error {
		if to == netip.MustParseAddrPort(website) {
			return nil
		}
		return DefaultPolicy(PolicyOptions{})(to, proto)
	}}
	socket, _ := serve(t, o)
	memory := filepath.Join(t.TempDir(), "memory")
	template := start(t, img, socket, shape{disk: img.Disk, memory: memory, shared: true})
	template.await()
	if got := template.run(GuestScript + "\necho $?"); got != "0" {
		t.Fatalf("the guest's card was not set up: %s", got)
	}
	reaches(t, template)
	for _, to := range ports {
		got := template.run(`python3 -c 'import socket; socket.create_connection(("` + strings.Replace(to, ":", `", `, 1) + `), 60)' 2>&1 | tail -1`)
		if !strings.HasPrefix(got, "ConnectionRefusedError") {
			t.Errorf("a connection of the guest to this host as %s ended with %q, want it refused", to, got)
		}
	}
	fork := freezeAndFork(t, img, template, memory, o)
	fork.await()
	reaches(t, fork)
	held := fork.run("touch /run/woken; while [ ! -s /run/held ]; do sleep 0.1; done; cat /run/held")
	if !strings.HasPrefix(held, "ConnectionResetError") {
		t.Errorf("a connection of the template ended in the fork with %q, want a reset", held)
	}
	t.Log("a connection of the template: ", held)
	if got := fork.run("mkdir -p /run/systemd/network" + leaseAnew); got != "inet "+GuestAddress+"\ndefault via "+GatewayAddress {
		t.Errorf("the fork leased %q", got)
	}
	reaches(t, fork)
}

// reaches fetches a page by name and by address.
func reaches(t *testing.T, m *machine) {
	t.Helper()
	const fetch = `python3 -c 'import urllib.request as u
for host in "93.184.216.34", "example.test": print(u.urlopen("http://" + host + "/", timeout=60).read().decode())'`
	begun := time.Now()
	if got := m.run(fetch); got != "hello from outside\nhello from outside" {
		t.Errorf("the guest fetched %q; its network:\n%s", got, m.run("ip address; ip route; ip neigh; cat /etc/resolv.conf"))
	}
	t.Logf("fetched two pages in %v", time.Since(begun))
}

// hostPort listens on every address of this host and gives those that a guest
// may try. A connection there fails the test.
func hostPort(t *testing.T) []string {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		if conn, err := listener.Accept(); err == nil {
			t.Errorf("the guest reached this host as %v", conn.LocalAddr())
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); ended.Wait() })
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	targets := []string{fmt.Sprintf("%s:%d", GatewayAddress, port)}
	for _, a := range addrs {
		if own, ok := prefixOf(a); ok && own.Addr().Is4() && !own.Addr().IsLoopback() {
			targets = append(targets, netip.AddrPortFrom(own.Addr(), uint16(port)).String())
		}
	}
	return targets
}

// freezeAndFork leaves a connection open in the guest, freezes it, and wakes it
// again in a new QEMU on a new network.
func freezeAndFork(t *testing.T, img image.Image, template *machine, memory string, o Options) *machine {
	t.Helper()
	// As a service: what a connection of the agent started ends with it.
	template.run(`cat > /run/hold.py <<'END'
import os, socket, time
s = socket.create_connection(("93.184.216.34", 80))
open("/run/holding", "w").close()
while not os.path.exists("/run/woken"): time.sleep(0.05)
begun = time.monotonic()
try:
    s.sendall(b"GET / HTTP/1.0\r\n\r\n"); answer = "got " + repr(s.recv(100))
except OSError as e:
    answer = type(e).__name__
open("/run/held", "w").write("%s after %.4f s" % (answer, time.monotonic() - begun))
END
systemd-run -q --unit=hold python3 /run/hold.py
while [ ! -e /run/holding ]; do sleep 0.1; done`)
	state := filepath.Join(t.TempDir(), "state")
	_ = template.guest.Close() // the template's own connection ends with it
	template.do("stop", nil)
	template.migrate("migrate", "exec:cat > "+state)
	template.do("quit", nil)
	socket, _ := serve(t, o)
	fork := start(t, img, socket, shape{disk: filepath.Join(template.dir, "disk.qcow2"), memory: memory, more: []string{"-incoming", "defer", "-S"}})
	fork.migrate("migrate-incoming", "exec:cat < "+state)
	fork.do("cont", nil)
	return fork
}

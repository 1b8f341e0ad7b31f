package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// terminal makes a pseudo-terminal that changes no byte: like a virtio-serial
// port it is a file that can be opened again and again.
func terminal(t *testing.T) (host *os.File, path string) {
	t.Helper()
	host, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	raw, err := host.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var errs error
	if err := raw.Control(func(fd uintptr) {
		var settings *unix.Termios
		var err1, err2, err3 error
		settings, err1 = unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err1 == nil {
			settings.Iflag, settings.Oflag, settings.Lflag = 0, 0, 0
			settings.Cc[unix.VMIN], settings.Cc[unix.VTIME] = 1, 0
			err1 = unix.IoctlSetTermios(int(fd), unix.TCSETS, settings)
		}
		err2 = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, err3 = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		errs = errors.Join(err1, err2, err3)
	}); err != nil || errs != nil {
		t.Fatal(err, errs)
	}
	return host, filepath.Join("/dev/pts", strconv.Itoa(number))
}

// after is a connection of which the beginning was read already.
type after struct {
	*os.File
	io.Reader
}

func (a after) Read(p []byte) (int, error) { return a.Reader.Read(p) }
func (a after) LocalAddr() net.Addr        { return address("host") }
func (a after) RemoteAddr() net.Addr       { return address("guest") }

func TestServePort(t *testing.T) {
	server, err := NewServer(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	host, path := terminal(t)
	// Held open, so that the terminal outlives the moment between two clients.
	keep, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = keep.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	reports := make(chan error, 100)
	done := make(chan struct{})
	tries := 0
	go func() {
		defer close(done)
		server.ServePort(ctx, func() (string, error) {
			if tries++; tries == 1 {
				return "", errors.New("no port yet")
			}
			return path, nil
		}, func(err error) { reports <- err })
	}()
	t.Cleanup(func() { cancel(); _ = host.Close(); <-done })
	if err := <-reports; err == nil || err.Error() != "no port yet" {
		t.Errorf("first report: %v", err)
	}
	if _, err := io.WriteString(host, strings.Repeat("x", 255)); err != nil {
		t.Fatal(err)
	}
	if err := <-reports; err == nil || !strings.Contains(err.Error(), "cannot begin") {
		t.Errorf("garbage was reported as %v", err)
	}
	const banner = "SSH-2.0-Assay\r\n"
	skipPast(t, host, banner, 2)
	client := sshtest.Client(t, after{host, io.MultiReader(strings.NewReader(banner), host)}, ssh.Config{})
	if out, err := open(t, client).Output("echo here"); err != nil || string(out) != "here\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// skipPast reads until text has come count times.
func skipPast(t *testing.T, r io.Reader, text string, count int) {
	t.Helper()
	var seen bytes.Buffer
	for strings.Count(seen.String(), text) < count {
		if _, err := io.CopyN(&seen, r, 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFindPort(t *testing.T) {
	sys := t.TempDir()
	for dir, name := range map[string]string{"vport1p1": "com.redhat.spice.0\n", "vport2p1": "org.assay.agent.0\n"} {
		full := filepath.Join(sys, "class/virtio-ports", dir)
		if err := errors.Join(os.MkdirAll(full, 0o755), os.WriteFile(filepath.Join(full, "name"), []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := FindPort(sys, PortName); got != "/dev/vport2p1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := FindPort(sys, "other"); err == nil {
		t.Errorf("found %q", got)
	}
}

func TestParseGroup(t *testing.T) {
	tests := []struct{ text, want string }{
		{"0::/system.slice/assay-agent.service\n", "system.slice/assay-agent.service"},
		{"4:memory:/x\n0::/\n", ""},
		{"4:memory:/x\n", "error"},
		{"", "error"},
	}
	for _, test := range tests {
		got, err := parseGroup(test.text)
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("parseGroup(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

func TestGroupsAreDivided(t *testing.T) {
	root := t.TempDir()
	if _, err := NewGroups(root, 99); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"agent/cgroup.procs", "cgroup.subtree_control", "commands/pids.max"} {
		// What the kernel's files would take; plain ones were made without rights.
		if err := os.Chmod(filepath.Join(root, name), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(text)
	}
	want := map[string]string{"agent/cgroup.procs": "0", "cgroup.subtree_control": "+pids", "commands/pids.max": "99"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := NewGroups(filepath.Join(root, "none"), 1); err == nil {
		t.Error("a group that is not there was divided")
	}
}

func TestCommandsRunWithoutGroups(t *testing.T) {
	root := t.TempDir() // not a control group: the kernel refuses to start anything in it
	groups, err := NewGroups(root, 10)
	if err != nil {
		t.Fatal(err)
	}
	client, _ := serve(t, Options{Groups: groups})
	if out, err := open(t, client).Output("echo runs"); err != nil || string(out) != "runs\n" {
		t.Errorf("got %q, %v", out, err)
	}
	left, err := os.ReadDir(filepath.Join(root, "commands"))
	if err != nil || len(left) != 2 || left[0].Name() != "1" || left[1].Name() != "pids.max" { // 1 is the next one's
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFreezeOverTheWire(t *testing.T) {
	root := t.TempDir()
	groups, err := NewGroups(root, 10)
	if err != nil {
		t.Fatal(err)
	}
	canary := &Canary{Paths: []string{filepath.Join(root, "deep", "canary")}}
	client, _ := serve(t, Options{Groups: groups, Canary: canary, Wake: func(Wake) error { return nil }})
	for range 2 { // a second time there is nothing to do
		if ok, message, err := client.SendRequest(FreezeRequest, true, nil); !ok || err != nil {
			t.Fatalf("got %t, %q, %v", ok, message, err)
		}
	}
	made, err := filepath.Glob(filepath.Join(root, "commands", "[0-9]*"))
	if err != nil || len(made) != 1 {
		t.Errorf("groups that were made ahead: %v, %v", made, err)
	}
	if _, err := os.Stat(canary.Paths[0]); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(root, "deep", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	canary.Paths = []string{filepath.Join(root, "deep", "file", "canary")}
	if ok, message, err := client.SendRequest(FreezeRequest, true, nil); ok || err != nil || !strings.Contains(string(message), "cannot make room") {
		t.Errorf("got %t, %q, %v", ok, message, err)
	}
	plain, _ := serve(t, Options{})
	if ok, _, err := plain.SendRequest(FreezeRequest, true, nil); ok || err != nil {
		t.Errorf("an agent that is no guest's answered %t, %v", ok, err)
	}
}

func validWake() Wake {
	return Wake{
		Time: time.Unix(1700000000, 123), Seed: bytes.Repeat([]byte{7}, 32),
		Hostname: "assay-1", MachineID: strings.Repeat("0a", 16),
	}
}

func TestWakeOverTheWire(t *testing.T) {
	var got []Wake
	client, _ := serve(t, Options{Wake: func(w Wake) error {
		if got = append(got, w); w.Hostname == "refused" {
			return errors.New("cannot do that")
		}
		return nil
	}})
	sent := []Wake{validWake(), {Seed: make([]byte, 4096)}}
	for _, wake := range sent {
		if ok, message, err := client.SendRequest(WakeRequest, true, wake.Marshal()); !ok || err != nil {
			t.Errorf("%v was answered with %q, %v", wake, message, err)
		}
	}
	if !reflect.DeepEqual(got, sent) {
		t.Errorf("got %v, want %v", got, sent)
	}
	refused := validWake()
	refused.Hostname = "refused"
	if ok, message, err := client.SendRequest(WakeRequest, true, refused.Marshal()); ok || err != nil || string(message) != "cannot do that" {
		t.Errorf("got %t, %q, %v", ok, message, err)
	}
	if ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
		t.Errorf("keepalive was answered with %t, %v", ok, err)
	}
}

func TestWakeIsChecked(t *testing.T) {
	tests := map[string]func(*Wake){
		"short seed":  func(w *Wake) { w.Seed = w.Seed[:31] },
		"no seed":     func(w *Wake) { w.Seed = nil },
		"long seed":   func(w *Wake) { w.Seed = make([]byte, 4097) },
		"host name":   func(w *Wake) { w.Hostname = "a b" },
		"long name":   func(w *Wake) { w.Hostname = strings.Repeat("a", 65) },
		"new line":    func(w *Wake) { w.Hostname = "a\nb" },
		"machine id":  func(w *Wake) { w.MachineID = "0a" },
		"letters":     func(w *Wake) { w.MachineID = strings.Repeat("G", 32) },
		"upper case":  func(w *Wake) { w.MachineID = strings.Repeat("A", 32) },
		"path in id ": func(w *Wake) { w.MachineID = "/" + strings.Repeat("0", 31) },
	}
	if _, err := ParseWake(validWake().Marshal()); err != nil {
		t.Error(err)
	}
	for name, spoil := range tests {
		wake := validWake()
		spoil(&wake)
		if _, err := ParseWake(wake.Marshal()); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func TestIdentify(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (Wake{MachineID: "00"}).identify(root); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "etc/machine-id"))
	if err != nil || string(text) != "00\n" {
		t.Errorf("machine-id is %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/hostname")); err == nil {
		t.Error("a host name was written that nobody gave")
	}
	for _, name := range []string{"a", "much-longer", "b"} {
		if err := (Wake{Hostname: name}).identify(root); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(root, "etc/hostname")); string(text) != name+"\n" || err != nil {
			t.Errorf("hostname is %q, %v", text, err)
		}
	}
}

func FuzzParseWake(f *testing.F) {
	f.Add(validWake().Marshal())
	f.Add(Wake{}.Marshal())
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		wake, err := ParseWake(payload)
		if err != nil {
			return
		}
		again, err := ParseWake(wake.Marshal())
		if err != nil || !again.Time.Equal(wake.Time) || !bytes.Equal(again.Seed, wake.Seed) ||
			again.Hostname != wake.Hostname || again.MachineID != wake.MachineID {
			t.Errorf("%v came back as %v, %v", wake, again, err)
		}
	})
}

package libvirt

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// installed finds the programs that are named.
func installed(programs ...string) func(string) (string, error) {
	return func(program string) (string, error) {
		for _, p := range programs {
			if p == program {
				return "/usr/sbin/" + p, nil
			}
		}
		return "", exec.ErrNotFound
	}
}

func TestPlanDaemon(t *testing.T) {
	for _, c := range []struct {
		name string
		site site
		want daemon
	}{
		{"root without systemd", site{uid: 0, look: installed("virtlogd", "libvirtd")}, daemon{
			uri:       "qemu:///system",
			sockets:   []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"},
			start:     [][]string{{"/usr/sbin/libvirtd", "-d", "--timeout", "120"}},
			logs:      "/run/libvirt/virtlogd-sock",
			startLogs: [][]string{{"/usr/sbin/virtlogd", "-d", "--timeout", "120"}},
		}},
		{"root in a container with an init at hand", site{uid: 0, look: installed("virtlogd", "libvirtd", "tini")}, daemon{
			uri:       "qemu:///system",
			sockets:   []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"},
			start:     [][]string{{"setsid", "--fork", "/usr/sbin/tini", "-s", "--", "/usr/sbin/libvirtd", "--timeout", "120"}},
			logs:      "/run/libvirt/virtlogd-sock",
			startLogs: [][]string{{"/usr/sbin/virtlogd", "-d", "--timeout", "120"}},
		}},
		{"root with systemd", site{uid: 0, systemd: true, look: installed()}, daemon{
			uri:     "qemu:///system",
			sockets: []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"},
			start: [][]string{
				{"systemctl", "start", "virtlogd.socket", "libvirtd.socket"},
				{"systemctl", "start", "virtlogd.socket", "virtqemud.socket"},
			},
		}},
		{"a user", site{uid: 1000, runtime: "/run/user/1000", systemd: true, look: installed("virtlogd", "virtqemud", "tini")}, daemon{
			uri:     "qemu:///session",
			sockets: []string{"/run/user/1000/libvirt/libvirt-sock", "/run/user/1000/libvirt/virtqemud-sock"},
			start:   [][]string{{"/usr/sbin/virtqemud", "-d", "--timeout", "120"}},
			env:     []string{"XDG_RUNTIME_DIR=/run/user/1000"},
		}},
		{"a user of the system's daemon", site{uid: 1000, uri: "qemu:///system", look: installed("libvirtd")}, daemon{
			uri:     "qemu:///system",
			sockets: []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := planDaemon(c.site)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(daemon{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestPlanDaemonRefuses(t *testing.T) {
	for _, s := range []site{
		{uid: 0, uri: "qemu:///session"},
		{uid: 1000, uri: "qemu+ssh://host/system"},
		{uid: 1000, uri: "xen:///system"},
	} {
		if _, err := planDaemon(s); err == nil || !strings.HasPrefix(err.Error(), "cannot use ") {
			t.Errorf("%s as %d: the error is %v", s.uri, s.uid, err)
		}
	}
}

// fakeDaemon listens on a socket and does with each connection what serve says.
func fakeDaemon(t *testing.T, serve func(net.Conn)) daemon {
	t.Helper()
	dir := shortDir(t)
	listener, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return daemon{uri: uriSystem, sockets: []string{filepath.Join(dir, "none"), filepath.Join(dir, "sock")}, lock: filepath.Join(dir, "lock")}
}

// shortDir is a temporary directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "assay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestMuteDaemonCostsOnlyTheDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := fakeDaemon(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1)) // the first call is on its way
		cancel()
		_, _ = io.Copy(io.Discard, c) // until the client hangs up
	})
	if _, err := d.connect(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestDaemonThatHangsUpIsStartedAgain(t *testing.T) {
	d := fakeDaemon(t, func(net.Conn) {})
	mark := filepath.Join(t.TempDir(), "started")
	d.start = [][]string{{"/bin/sh", "-c", "echo $XDG_RUNTIME_DIR > " + mark + "; echo it is broken >&2; exit 1"}}
	d.env = []string{"XDG_RUNTIME_DIR=/the/runtime"}
	ctx, cancel := context.WithCancel(t.Context())
	stop := context.AfterFunc(awaitFile(t, mark), cancel)
	defer stop()
	_, err := d.connect(ctx)
	if err == nil {
		t.Fatal("no error")
	}
	if text, err := os.ReadFile(mark); err != nil || string(text) != "/the/runtime\n" {
		t.Errorf("the daemon was started with %q, %v", text, err)
	}
}

// awaitFile gives a context that ends when a file is there.
func awaitFile(t *testing.T, path string) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for t.Context().Err() == nil {
			if info, err := os.Stat(path); err == nil && info.Size() > 0 {
				return
			}
			<-tick.C
		}
	}()
	return ctx
}

func TestNoDaemonInstalled(t *testing.T) {
	d := daemon{uri: uriSystem, sockets: []string{filepath.Join(t.TempDir(), "none")}}
	_, err := d.connect(t.Context())
	if err == nil || !strings.Contains(err.Error(), "install libvirt") {
		t.Errorf("the error is %v", err)
	}
}

func TestRunTellsWhatADaemonSays(t *testing.T) {
	d := daemon{}
	if said := d.run(t.Context(), []string{"/bin/sh", "-c", "echo broken; exit 3"}); !strings.Contains(said, "exit status 3: broken") {
		t.Errorf("said %q", said)
	}
	if said := d.run(t.Context(), []string{"/bin/sh", "-c", "exit 0"}); said != "" {
		t.Errorf("said %q", said)
	}
}

func TestRuntimeDir(t *testing.T) {
	if got, err := runtimeDir(os.Getuid(), "/given"); got != "/given" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	const nobody = 4_000_000_001 // has no /run/user, and owns no directory
	if _, err := runtimeDir(nobody, ""); err == nil || !strings.Contains(err.Error(), "must be a directory that only user") {
		t.Errorf("a directory of another user passes: %v", err)
	}
}

func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	link := filepath.Join(dir, "link")
	wide := filepath.Join(dir, "wide")
	for _, err := range []error{
		os.WriteFile(file, nil, 0o600), os.Symlink(dir, link), os.Mkdir(wide, 0o700), os.Chmod(wide, 0o770),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := private(dir, os.Getuid()); err != nil {
		t.Error(err)
	}
	for _, path := range []string{file, link, wide, filepath.Join(dir, "none")} {
		if err := private(path, os.Getuid()); err == nil {
			t.Errorf("%s passes", path)
		}
	}
}

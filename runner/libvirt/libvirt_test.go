package libvirt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image/imagetest"
	"github.com/assay-ci/assay/runner/runnertest"
)

// These tests boot real machines: they need libvirt, QEMU and an image, which
// `make test` prepares. They fail without, so that they are never just left out.

// childPlace, when set, makes the test binary an owner of machines below that
// directory, for the test that kills one.
const childPlace = "ASSAY_TEST_OWNER"

func TestMain(m *testing.M) {
	if place := os.Getenv(childPlace); place != "" {
		fmt.Fprintln(os.Stderr, beOwner(place))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// beOwner boots a machine and keeps it until the process is killed.
func beOwner(place string) error {
	ctx := context.Background()
	m, err := Open(ctx, optionsIn(place))
	if err != nil {
		return err
	}
	if _, err := m.Boot(ctx, runner.Spec{Execution: "killed"}); err != nil {
		return err
	}
	select {}
}

func optionsIn(place string) Options {
	return Options{
		ImageRoot: imagetest.Images(), Dir: filepath.Join(place, "machines"), RunDir: filepath.Join(place, "run"),
		KVM: "no", BootTimeout: 4 * time.Minute, Log: zerolog.Nop(),
	}
}

// place makes a directory that QEMU's user can pass through.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "assay")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
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

// openMachines opens machines below a directory, and checks in the end that nothing is
// left of them, in libvirt and on disk.
func openMachines(t *testing.T, options Options) *Machines {
	t.Helper()
	m, err := Open(t.Context(), options)
	if err != nil {
		t.Fatalf("cannot open machines (`make test` installs what they need): %v", err)
	}
	if _, err := m.images.Find(m.options.Image); err != nil {
		t.Fatalf("these tests need an image, which `make test` prepares: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		nothingLeft(t, m)
		for _, dir := range []string{m.options.Dir, m.options.RunDir} {
			if left, err := filepath.Glob(filepath.Join(dir, "o-*")); len(left) > 0 || err != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	})
	return m
}

func nothingLeft(t *testing.T, m *Machines) {
	t.Helper()
	m.burials.Wait()
	list, err := m.List(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Error(err)
	}
	for _, l := range list {
		if l.Ours {
			t.Errorf("libvirt still has %s", l.Name)
		}
	}
	for _, dir := range []string{m.options.Dir, m.options.RunDir} {
		left, err := filepath.Glob(filepath.Join(dir, "o-*", "m-*"))
		if len(left) > 0 || err != nil {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// TestConformance demands the same of machines however they came to be.
func TestConformance(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"from nothing":  func(o *Options) { o.Templates = TemplatesOff },
		"fresh forks":   func(*Options) {},
		"waiting forks": func(o *Options) { o.Waiting = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			options := optionsIn(place(t))
			change(&options)
			m := openMachines(t, options)
			runnertest.Run(t, m, runnertest.Options{Disposable: true, PowerOff: []string{"poweroff", "-f"}})
			if s := m.Stats(); s.Fallbacks != 0 || s.Lost != 0 || s.Alarm {
				t.Errorf("it went on, but not as it should: %+v", s)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	options := optionsIn(place(t))
	options.KVM = "auto"
	m := openMachines(t, options)
	for range 2 { // the second time it remembers
		info, err := m.Describe(t.Context())
		if err != nil || info.Libvirt == "" || info.QEMU == "" || info.Why == "" || info.Accel != accelKVM && info.Accel != accelTCG {
			t.Errorf("the host is described as %+v, %v", info, err)
		}
	}
}

// imageWith makes a store whose only image is the real one with another command
// line for its kernel.
func imageWith(t *testing.T, m *Machines, dir, cmdline string) string {
	t.Helper()
	img, err := m.images.Find("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(img.Dir, "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	fields["cmdline"] = cmdline
	if text, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "images", "debian-12")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "image.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{img.Kernel, img.Initrd, img.Disk} {
		if err := os.Symlink(file, filepath.Join(own, filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "images")
}

// TestGuestThatGoesDown has a guest that powers off before its agent is there.
func TestGuestThatGoesDown(t *testing.T) {
	dir := place(t)
	m := openMachines(t, optionsIn(dir))
	m.images.Root = imageWith(t, m, dir, "console=ttyS0 "+probeWord)
	_, err := m.Boot(t.Context(), runner.Spec{Execution: "down"})
	var boot *runner.BootError
	if !errors.As(err, &boot) {
		t.Fatalf("the error is %v", err)
	}
	if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "died before its agent") {
		t.Errorf("it was not noticed that the machine went down: %v", err)
	}
	if !bytes.Contains(boot.Console, []byte(probeSays)) {
		t.Errorf("the console's end is %q", boot.Console)
	}
	nothingLeft(t, m)
}

func TestGuestThatTakesTooLong(t *testing.T) {
	options := optionsIn(place(t))
	options.BootTimeout = time.Millisecond
	m := openMachines(t, options)
	_, err := m.Boot(t.Context(), runner.Spec{Execution: "late"})
	var boot *runner.BootError
	if !errors.As(err, &boot) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	nothingLeft(t, m)
}

// awaitDomain returns when libvirt has a machine for an execution.
func awaitDomain(t *testing.T, m *Machines, execution string) Listed {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := m.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Execution == execution {
				return l
			}
		}
		<-tick.C
	}
}

func TestBootCancelledHalfway(t *testing.T) {
	m := openMachines(t, optionsIn(place(t)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := m.Boot(ctx, runner.Spec{Execution: "cancelled"})
		done <- err
	}()
	l := awaitDomain(t, m, "cancelled")
	if !l.Ours || !strings.HasPrefix(l.Name, "assay-") {
		t.Errorf("it is listed as %+v", l)
	}
	cancel()
	var boot *runner.BootError
	if err := <-done; !errors.Is(err, context.Canceled) || errors.As(err, &boot) {
		t.Errorf("the error is %v", err)
	}
	nothingLeft(t, m)
}

// TestKilledOwner kills a process in the middle of a boot.
func TestKilledOwner(t *testing.T) {
	dir := place(t)
	m := openMachines(t, optionsIn(dir))
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childPlace+"="+dir)
	var said bytes.Buffer
	child.Stderr = &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killed := awaitDomain(t, m, "killed")
	if reaped, err := m.Reap(t.Context()); len(reaped) > 0 || err != nil {
		t.Errorf("a living owner's machine was reaped: %+v, %v", reaped, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	reaped, err := m.Reap(t.Context())
	if err != nil || len(reaped) == 0 {
		t.Errorf("reaped: %+v, %v; the child said %s", reaped, err, said.String())
	}
	for _, r := range reaped {
		if r.Owner != killed.Owner {
			t.Errorf("reaped what the child did not own: %+v", r)
		}
	}
	gone(t, m, killed.Owner)
	left, err := filepath.Glob(filepath.Join(dir, "*", killed.Owner))
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// gone checks that libvirt has nothing of an owner.
func gone(t *testing.T, m *Machines, owner string) {
	t.Helper()
	list, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Owner == owner {
			t.Errorf("libvirt still has %s", l.Name)
		}
	}
}

// TestReapDestroysDomains is for a domain that libvirt did not destroy with its
// owner's connection: the daemon was restarted meanwhile.
func TestReapDestroysDomains(t *testing.T) {
	m := openMachines(t, optionsIn(place(t)))
	img, err := m.images.Find("debian-12")
	if err != nil {
		t.Fatal(err)
	}
	dead := another(t, m)
	one := &Machine{machines: m, id: "m-00000001", execution: "left"}
	var l label
	if one.runDir, one.diskDir, l, err = dead.machineDirs(one.id, "left"); err != nil {
		t.Fatal(err)
	}
	text, err := domain{
		Name: "assay-00000001-left", Label: l, Accel: accelTCG, Arch: img.Arch, CPUs: 1, Memory: minMemory,
		Kernel: img.Kernel, Initrd: img.Initrd, Console: one.consolePath(), User: m.host.user.label(),
	}.xml()
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.daemon.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.do(t.Context(), func(l *lv.Libvirt) error { _, err := l.DomainCreateXML(text, 0); return err }); err != nil {
		t.Fatal(err)
	}
	dead.dies(t)
	reaped, err := m.Reap(t.Context())
	if err != nil || len(reaped) != 5 || reaped[0] != (Reaped{"domain", "assay-00000001-left", dead.id, "left"}) {
		t.Errorf("reaped: %+v, %v", reaped, err)
	}
	gone(t, m, dead.id)
}

func TestNoSuchImage(t *testing.T) {
	m := openMachines(t, optionsIn(place(t)))
	if _, err := m.Boot(t.Context(), runner.Spec{Image: "no-such-image"}); err == nil || !strings.Contains(err.Error(), "assay image build") {
		t.Errorf("the error is %v", err)
	}
}

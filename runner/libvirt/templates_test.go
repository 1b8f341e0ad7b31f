package libvirt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/template"
)

// TestTemplates follows one template: made once for all who ask, forked, kept
// waiting, damaged, made again, and refused.
func TestTemplates(t *testing.T) {
	t.Parallel()
	options := optionsIn(place(t))
	options.Waiting = 1
	m := openMachines(t, options)
	t.Run("made once, and its forks differ", func(t *testing.T) { forksDiffer(t, m) })
	t.Run("a fork that waited", func(t *testing.T) { waited(t, m) })
	t.Run("a waiting fork that was killed", func(t *testing.T) { waitingKilled(t, m) })
	t.Run("a machine that is killed from outside", func(t *testing.T) { killedOutside(t, m) })
	t.Run("memory that was written to", func(t *testing.T) { damagedMemory(t, m) })
	t.Run("a fork that is refused", func(t *testing.T) { refusedFork(t, m) })
	t.Run("another's mark", func(t *testing.T) { anothersMark(t, m) })
}

// output runs a command that must succeed.
func output(t *testing.T, one runner.Machine, script string) string {
	t.Helper()
	var out bytes.Buffer
	exit, err := one.Run(t.Context(), runner.Command{Argv: []string{"/bin/sh", "-c", script}, Dir: "/", Stdout: &out})
	if exit != 0 || err != nil {
		t.Fatalf("%s: exit %d, %v", script, exit, err)
	}
	return strings.TrimSpace(out.String())
}

func bootOne(t *testing.T, m *Machines, execution string) *Machine {
	t.Helper()
	one, err := m.Boot(t.Context(), runner.Spec{Execution: execution})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	return one.(*Machine)
}

func forksDiffer(t *testing.T, m *Machines) {
	const asked = 3
	var all [asked]runner.Machine
	var errs [asked]error
	var group sync.WaitGroup
	for i := range asked {
		group.Go(func() { all[i], errs[i] = m.Boot(t.Context(), runner.Spec{Execution: "same"}) })
	}
	group.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.TemplatesMade != 1 || s.Fresh+s.Waiting != asked {
		t.Errorf("three asked at the same time: %+v", s)
	}
	for _, script := range []string{"head -c 32 /dev/urandom | sha256sum", "cat /etc/machine-id", "hostname", "cat /etc/hostname", "cat /var/lib/assay/canary"} {
		seen := map[string]bool{}
		for _, one := range all {
			seen[output(t, one, script)] = true
		}
		if len(seen) != asked {
			t.Errorf("%s says the same on two forks: %v", script, seen)
		}
	}
	for _, one := range all {
		_ = one.Close()
	}
}

func awaitIdle(t *testing.T, m *Machines) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(m.pool.Waiting()) == 0 {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no fork ever waits")
		}
	}
}

func waited(t *testing.T, m *Machines) {
	awaitIdle(t, m)
	before := m.Stats().Waiting
	one := bootOne(t, m, "waited")
	if got := m.Stats().Waiting - before; got != 1 {
		t.Errorf("%d waiting forks were handed out", got)
	}
	clock, err := strconv.ParseInt(output(t, one, "date +%s"), 10, 64)
	if off := time.Now().Unix() - clock; err != nil || off < -maxClockError || off > maxClockError {
		t.Errorf("its clock is off by %d s, %v", off, err)
	}
	if got := strings.Join(strings.Fields(output(t, one, "cat /run/assay/canary /var/lib/assay/canary")), ""); got != one.mark()+one.mark() {
		t.Errorf("its marks are %q, not twice %q", got, one.mark())
	}
	one.aside.Wait()
	list, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]int{}
	for _, l := range list {
		labels[l.Execution]++
	}
	if labels["waited"] != 1 {
		t.Errorf("libvirt knows executions %v: the machine did not take its label", labels)
	}
}

// killQEMU kills the process of a machine, as the host's out-of-memory killer would.
func killQEMU(t *testing.T, one *Machine) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte("-"+"name\x00guest=assay-"+one.id[2:])) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("there is no process of %s", one.id)
}

func waitingKilled(t *testing.T, m *Machines) {
	awaitIdle(t, m)
	m.mu.Lock()
	var idle *Machine
	for _, one := range m.live {
		if one.execution == waitingName {
			idle = one
		}
	}
	m.mu.Unlock()
	if idle == nil {
		t.Fatal("none is labelled as waiting")
	}
	killQEMU(t, idle)
	m.fates.await(t.Context(), [16]byte(idle.uuid))
	one := bootOne(t, m, "after")
	if got := output(t, one, "echo on"); got != "on" {
		t.Errorf("it says %q", got)
	}
}

func killedOutside(t *testing.T, m *Machines) {
	one := bootOne(t, m, "killed")
	killQEMU(t, one)
	_, err := one.Run(t.Context(), runner.Command{Argv: []string{"true"}})
	if !errors.Is(err, runner.ErrMachineLost) || !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("the error is %v", err)
	}
	if m.Stats().Lost == 0 {
		t.Error("it was not counted")
	}
}

func onlyTemplate(t *testing.T, m *Machines) template.Template {
	t.Helper()
	list, err := m.keeper.Store.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("there are %d templates, %v", len(list), err)
	}
	return list[0]
}

func damagedMemory(t *testing.T, m *Machines) {
	old := onlyTemplate(t, m)
	f, err := os.OpenFile(old.Path(ramName), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("evil"), 1<<20)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	m.drop(old.Key) // those that wait were forked before
	made := m.Stats().TemplatesMade
	bootOne(t, m, "damaged")
	if got := m.Stats().TemplatesMade - made; got != 1 {
		t.Errorf("%d templates were made in the place of the damaged one", got)
	}
	if now := onlyTemplate(t, m); now.Generation == old.Generation {
		t.Error("the damaged one still serves")
	}
}

// refusedFork has a template that QEMU cannot wake.
func refusedFork(t *testing.T, m *Machines) {
	good := onlyTemplate(t, m)
	stage := filepath.Join(m.options.Dir, "stage")
	if out, err := exec.Command("cp", "-a", "--sparse=always", good.Dir, stage).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := errors.Join(
		os.Remove(filepath.Join(stage, "template.json")),
		os.WriteFile(filepath.Join(stage, stateName), []byte("QEVM, but no state"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	bad, err := m.keeper.Store.Publish(stage, good.Recipe, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	m.drop(good.Key)
	var told []string
	one, err := m.Boot(t.Context(), runner.Spec{Execution: "refused", Tell: func(line string) { told = append(told, line) }})
	if err != nil {
		t.Fatalf("it was not booted from nothing: %v", err)
	}
	defer one.Close()
	if s := m.Stats(); s.Fallbacks != 1 || s.Cold != 1 {
		t.Errorf("counted: %+v", s)
	}
	if all := strings.Join(told, "\n"); !strings.Contains(all, "booting from nothing") {
		t.Errorf("the log was told %q", all)
	}
	if got := output(t, one, "echo on"); got != "on" {
		t.Errorf("it says %q", got)
	}
	if _, err := m.keeper.Store.Remove(bad.Key); err != nil {
		t.Fatal(err)
	}
}

// anothersMark has a machine that is not clean. It is the last test: nothing is
// handed out after it.
func anothersMark(t *testing.T, m *Machines) {
	one := bootOne(t, m, "dirty")
	output(t, one, "echo 0123456789abcdef > /var/lib/assay/canary")
	err := one.introduce(t.Context())
	if !errors.Is(err, ErrAlarm) {
		t.Fatalf("the error is %v", err)
	}
	if _, err := m.Boot(t.Context(), runner.Spec{Execution: "next"}); !errors.Is(err, ErrAlarm) {
		t.Errorf("the next machine: %v", err)
	}
	if !m.Stats().Alarm {
		t.Error("the alarm is not counted")
	}
	if err := os.Remove(m.alarm.path); err != nil {
		t.Error(err)
	}
}

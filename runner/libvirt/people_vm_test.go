package libvirt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/attach"
)

// entered is one call of Options.Entered.
type entered struct {
	execution string
	attach.Access
}

// TestPeople lets somebody into machines, and has machines proved to be kept apart.
func TestPeople(t *testing.T) {
	t.Parallel()
	visits := make(chan entered, 16)
	options := optionsIn(place(t))
	options.Entered = func(execution string, a attach.Access) { visits <- entered{execution, a} }
	m := openMachines(t, options)
	t.Run("somebody runs a command", func(t *testing.T) { visited(t, m, visits) })
	t.Run("the machine is given back meanwhile", func(t *testing.T) { closedMeanwhile(t, m, visits) })
	t.Run("the search finds every mark", func(t *testing.T) { findsMarks(t, m) })
	t.Run("machines are kept apart", func(t *testing.T) {
		if err := m.SelfTest(t.Context()); err != nil || m.Stats().Alarm {
			t.Errorf("the proof says %v", err)
		}
	})
}

// door is the socket by which people enter the machine of an execution.
func door(t *testing.T, m *Machines, execution string) string {
	t.Helper()
	return filepath.Join(awaitDomain(t, m, execution).Dir, attach.SocketName)
}

// wantVisit compares one record; a command that goes on has exit -1.
func wantVisit(t *testing.T, got entered, execution, command string, ended bool, exit int) {
	t.Helper()
	if got.execution != execution || got.UID != os.Getuid() || got.PID != os.Getpid() || got.Terminal || got.Begun.IsZero() ||
		got.Ended.IsZero() == ended || got.Exit != exit || !strings.Contains(got.Command, command) {
		t.Errorf("told of %+v", got)
	}
}

func visited(t *testing.T, m *Machines, visits <-chan entered) {
	one := bootOne(t, m, "visited")
	noCard(t, one)
	output(t, one, "mkdir -p "+guestDir+"/check && hostname > "+guestDir+"/check/name")
	var out, errout bytes.Buffer
	command := []string{"sh", "-c", "cat name; id -un; echo oops >&2; exit 3"}
	exit, err := attach.Shell(t.Context(), door(t, m, "visited"), attach.Terminal{Out: &out, Err: &errout}, command)
	if exit != 3 || err != nil || out.String() != "assay-"+one.id[2:]+"\nroot\n" || errout.String() != "oops\n" {
		t.Errorf("exit %d, %v, %q, %q", exit, err, out.String(), errout.String())
	}
	wantVisit(t, <-visits, "visited", "exit 3", false, -1)
	wantVisit(t, <-visits, "visited", "exit 3", true, 3)
	if got := output(t, one, "echo on"); got != "on" {
		t.Errorf("afterwards the machine says %q", got)
	}
}

func closedMeanwhile(t *testing.T, m *Machines, visits <-chan entered) {
	one := bootOne(t, m, "left")
	socket := door(t, m, "left")
	done := make(chan error, 1)
	go func() {
		_, err := attach.Shell(t.Context(), socket, attach.Terminal{}, []string{"sleep", "1000"})
		done <- err
	}()
	wantVisit(t, <-visits, "left", "sleep", false, -1)
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("a command went on after its machine")
	}
	wantVisit(t, <-visits, "left", "sleep", true, -1)
	nothingLeft(t, m)
	if _, err := attach.Shell(t.Context(), socket, attach.Terminal{}, []string{"true"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("who comes late is told %v", err)
	}
}

// findsMarks searches a machine in which the marks were left: a search that does
// not find what is there proves nothing.
func findsMarks(t *testing.T, m *Machines) {
	one := bootOne(t, m, "marked")
	output(t, one, fmt.Sprintf(leaveScript, "0123456789abcdef"))
	seen := strings.Fields(output(t, one, fmt.Sprintf(lookScript, "0123456789abcdef")))
	for _, dir := range []string{"/", "/root", "/tmp", "/var/tmp", "/var/lib", "/run", "/dev/shm", "/etc"} {
		if file := dir + "/assay-selftest-0123456789abcdef"; !slices.Contains(seen, file) {
			t.Errorf("%s is not seen: %q", file, seen)
		}
	}
	if !slices.Contains(seen, "hostname") {
		t.Errorf("the host name is not seen: %q", seen)
	}
	if !slices.ContainsFunc(seen, func(mark string) bool { return strings.HasPrefix(mark, "/proc/") }) {
		t.Errorf("the process that goes on is not seen: %q; there are\n%s", seen, output(t, one, "ps -eo pid,args"))
	}
}

// stainScript leaves what the self-test takes for another machine's mark.
const stainScript = "echo from before > /var/tmp/assay-selftest-before"

// stained puts the only template, in which an environment left a mark, in the
// place of the one that every machine without an environment is forked from.
// Nothing is handed out after that, until the alarm's file is removed.
func stained(t *testing.T, m *Machines) {
	dirty := onlyTemplate(t, m)
	plain, err := m.want(t.Context(), runner.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dirty.Path("template.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.keeper.Store.Publish(dirty.Dir, plain.recipe, dirty.Took); err != nil {
		t.Fatal(err)
	}
	err = m.SelfTest(t.Context())
	if !errors.Is(err, ErrAlarm) || !m.Stats().Alarm {
		t.Fatalf("the self-test says %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(m.alarm.path); err != nil || m.Stats().Alarm {
			t.Errorf("the alarm goes on: %v", err)
		}
	})
	if text, err := os.ReadFile(m.alarm.path); err != nil || !strings.Contains(string(text), "/var/tmp/assay-selftest-before") {
		t.Errorf("the alarm's file has %q, %v", text, err)
	}
	if _, err := m.Boot(t.Context(), runner.Spec{Execution: "next"}); !errors.Is(err, ErrAlarm) || !strings.Contains(err.Error(), m.alarm.path) {
		t.Errorf("the next machine: %v", err)
	}
}

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"
)

// onDisk is Machines without libvirt, for what lies on disk.
func onDisk(t *testing.T) *Machines {
	t.Helper()
	m := &Machines{
		options: Options{RunDir: t.TempDir(), Dir: t.TempDir()},
		log:     zerolog.Nop(), live: map[string]*Machine{}, fates: newFates(), base: t.Context(),
	}
	o, err := newOwner(t.Context(), m.options.RunDir, m.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.release)
	m.owner = o
	return m
}

// another is an owner beside m's own.
func another(t *testing.T, m *Machines) *owner {
	t.Helper()
	o, err := newOwner(t.Context(), m.options.RunDir, m.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.lock.Close() })
	return o
}

// dies is what a kill does to an owner.
func (o *owner) dies(t *testing.T) {
	t.Helper()
	if err := o.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func (o *owner) machine(t *testing.T, id, execution string) {
	t.Helper()
	runDir, diskDir, _, err := o.machineDirs(id, execution)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(runDir, socketName))
	touch(t, filepath.Join(diskDir, diskName))
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sweep reaps what is on disk and returns the names of what went.
func sweep(t *testing.T, m *Machines) ([]string, error) {
	t.Helper()
	estates, failed := m.estates(nil)
	var gone []string
	for _, e := range estates {
		reaped, err := m.settleEstate(t.Context(), nil, e, nil)
		failed = errors.Join(failed, err)
		for _, r := range reaped {
			gone = append(gone, r.Name)
		}
	}
	sort.Strings(gone)
	return gone, failed
}

func TestReapLeavesTheLivingAlone(t *testing.T) {
	m := onDisk(t)
	other := another(t, m)
	other.machine(t, "m-00000001", "theirs")
	m.owner.machine(t, "m-00000002", "ours")
	m.live["m-00000002"] = &Machine{}
	if gone, err := sweep(t, m); len(gone) > 0 || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

func TestReapTakesWhatTheDeadLeft(t *testing.T) {
	m := onDisk(t)
	other := another(t, m)
	other.machine(t, "m-00000001", "theirs")
	other.dies(t)
	gone, err := sweep(t, m)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		filepath.Join(other.run, "m-00000001"), filepath.Join(other.disk, "m-00000001"), other.run, other.disk,
	}
	if diff := cmp.Diff(want, gone, cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, dir := range want {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if gone, err := sweep(t, m); len(gone) > 0 || err != nil {
		t.Errorf("a second time: %v, %v", gone, err)
	}
}

// TestReapAfterPowerLoss is for a run directory that is gone with the memory.
func TestReapAfterPowerLoss(t *testing.T) {
	m := onDisk(t)
	other := another(t, m)
	other.machine(t, "m-00000001", "theirs")
	if err := os.RemoveAll(other.run); err != nil {
		t.Fatal(err)
	}
	gone, err := sweep(t, m)
	if want := []string{other.disk, filepath.Join(other.disk, "m-00000001")}; !cmp.Equal(gone, want) || err != nil {
		t.Errorf("gone: %v, %v; want %v", gone, err, want)
	}
}

// TestReapHonoursALockElsewhere is for two run directories with one directory of
// overlays: the owner's own label says where its lock is.
func TestReapHonoursALockElsewhere(t *testing.T) {
	m := onDisk(t)
	other, err := newOwner(t.Context(), t.TempDir(), m.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	other.machine(t, "m-00000001", "theirs")
	if gone, err := sweep(t, m); len(gone) > 0 || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
	other.dies(t)
	if gone, err := sweep(t, m); len(gone) != 2 || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

func TestReapTakesOwnStrays(t *testing.T) {
	m := onDisk(t)
	m.owner.machine(t, "m-00000001", "closed")
	gone, err := sweep(t, m)
	want := []string{filepath.Join(m.owner.disk, "m-00000001"), filepath.Join(m.owner.run, "m-00000001")}
	sort.Strings(want)
	if !cmp.Equal(gone, want) || err != nil {
		t.Errorf("gone: %v, %v; want %v", gone, err, want)
	}
	if _, err := os.Stat(filepath.Join(m.owner.run, lockName)); err != nil {
		t.Error(err)
	}
}

// TestReapAfterAKillHalfway has what a kill can leave between two steps.
func TestReapAfterAKillHalfway(t *testing.T) {
	m := onDisk(t)
	half := filepath.Join(m.options.RunDir, "o-00000001") // no lock yet
	mute := filepath.Join(m.options.Dir, "o-00000001")    // no label yet
	for _, dir := range []string{half, mute, filepath.Join(half, "m-00000001")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	touch(t, filepath.Join(mute, labelName+".part"))
	gone, err := sweep(t, m)
	if len(gone) != 3 || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

func TestReapNeverTouchesWhatIsNotOurs(t *testing.T) {
	m := onDisk(t)
	dead := another(t, m)
	dead.machine(t, "m-00000001", "theirs")
	dead.dies(t)
	keep := []string{
		filepath.Join(m.options.Dir, "notes", "o-00000002", "file"),
		filepath.Join(m.options.Dir, "o-1234567", "file"),                // not a name of ours
		filepath.Join(m.options.Dir, "o-00000003", "m-00000003", "file"), // bears no label
		filepath.Join(m.options.Dir, "o-00000004"),                       // no directory
		filepath.Join(dead.disk, "keep", "file"),
		filepath.Join(dead.disk, "m-00000005", "file"), // bears no label
	}
	for _, path := range keep {
		touch(t, path)
	}
	outside := filepath.Join(t.TempDir(), "m-00000006")
	touch(t, filepath.Join(outside, "file"))
	if err := os.Symlink(outside, filepath.Join(dead.disk, "m-00000006")); err != nil {
		t.Fatal(err)
	}
	if _, err := sweep(t, m); err == nil {
		t.Error("no error tells that the dead owner's directory could not be removed")
	}
	for _, path := range append(keep, filepath.Join(outside, "file")) {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dead.disk, "m-00000001")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was labelled is still there: %v", err)
	}
}

func TestReleasedOwnerLeavesNothing(t *testing.T) {
	runDir, dir := t.TempDir(), t.TempDir()
	o, err := newOwner(t.Context(), runDir, dir)
	if err != nil {
		t.Fatal(err)
	}
	o.release()
	for _, top := range []string{runDir, dir} {
		left, err := filepath.Glob(filepath.Join(top, "o-*"))
		if len(left) > 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

func TestReleasedOwnerLeavesWhatHasNoEndLabelled(t *testing.T) {
	m := onDisk(t)
	other := another(t, m)
	other.machine(t, "m-00000001", "theirs")
	other.release()
	if gone, err := sweep(t, m); len(gone) != 4 || err != nil {
		t.Errorf("gone: %v, %v", gone, err)
	}
}

func TestSeize(t *testing.T) {
	o := another(t, onDisk(t))
	lock := filepath.Join(o.run, lockName)
	if _, ok, err := seize(lock); ok || err != nil {
		t.Errorf("a living owner's lock: %v, %v", ok, err)
	}
	o.dies(t)
	release, ok, err := seize(lock)
	if !ok || err != nil {
		t.Fatalf("a dead owner's lock: %v, %v", ok, err)
	}
	if _, ok, err := seize(lock); ok || err != nil {
		t.Errorf("a lock that another reaper has: %v, %v", ok, err)
	}
	release()
	if _, ok, err := seize(filepath.Join(o.run, "none")); !ok || err != nil {
		t.Errorf("a lock that is not there: %v, %v", ok, err)
	}
}

package template

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

func newStore(t *testing.T) Store {
	t.Helper()
	return Store{Root: t.TempDir()}
}

func recipe(image string) Recipe {
	return Recipe{Image: image, Digest: "digest of " + image, Arch: "x86_64", CPUs: 1, Memory: 512 << 20}
}

// publish makes a template with a memory of so many bytes.
func publish(t *testing.T, s Store, r Recipe, size int) Template {
	t.Helper()
	stage := filepath.Join(s.Root, "stage")
	err := os.Mkdir(stage, 0o711)
	if err == nil {
		err = os.WriteFile(filepath.Join(stage, "ram"), make([]byte, size), 0o660)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(stage, "ram"), 0o660)
	}
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.Publish(stage, r, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestKeyIsOfWhatMatters(t *testing.T) {
	base := recipe("a")
	same := base
	same.Image = "the same under another name"
	same.Environment = runner.Environment{Deb: []string{"y", "x", "x"}}
	other := base
	other.Environment = runner.Environment{Deb: []string{"x", "y"}}
	if same.Key() != other.Key() {
		t.Error("the order of packages, or an image's name, makes a difference")
	}
	seen := map[string]string{base.Key(): "nothing"}
	for what, change := range map[string]func(*Recipe){
		"digest":   func(r *Recipe) { r.Digest = "x" },
		"memory":   func(r *Recipe) { r.Memory++ },
		"cpus":     func(r *Recipe) { r.CPUs++ },
		"disk":     func(r *Recipe) { r.Disk++ },
		"network":  func(r *Recipe) { r.Network = "full" },
		"accel":    func(r *Recipe) { r.Accel = "kvm" },
		"qemu":     func(r *Recipe) { r.Hypervisor = "qemu 9" },
		"agent":    func(r *Recipe) { r.Agent = "x" },
		"firmware": func(r *Recipe) { r.Firmware = "x" },
		"cmdline":  func(r *Recipe) { r.Cmdline = "x" },
		"packages": func(r *Recipe) { r.Environment.Deb = []string{"x"} },
		"set-up":   func(r *Recipe) { r.Environment.Setup = []string{"x", "y"} },
		"order":    func(r *Recipe) { r.Environment.Setup = []string{"y", "x"} },
	} {
		r := base
		change(&r)
		if before, ok := seen[r.Key()]; ok {
			t.Errorf("%s and %s make the same key", what, before)
		}
		seen[r.Key()] = what
	}
}

func TestPublishedIsFound(t *testing.T) {
	s := newStore(t)
	if _, err := s.Find(recipe("a").Key()); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("in an empty store: %v", err)
	}
	first := publish(t, s, recipe("a"), 1)
	second := publish(t, s, recipe("a"), 2)
	found, err := s.Find(first.Key)
	if err != nil || found.Generation != second.Generation || found.Recipe.Image != "a" || found.Size == 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, err := os.Stat(found.Path("ram")); err != nil {
		t.Error(err)
	}
	if _, err := s.Prune(""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the older generation is still there: %v", err)
	}
}

func TestChangedFilesAreDamage(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, made Template) error{
		"memory that was written to": func(_ *testing.T, made Template) error {
			f, err := os.OpenFile(made.Path("ram"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{1}, 0)
			// Whoever writes may set the time of modification back.
			return errors.Join(err, f.Close(), os.Chtimes(made.Path("ram"), made.Built, made.Built))
		},
		"memory that was replaced": func(_ *testing.T, made Template) error {
			return errors.Join(os.Remove(made.Path("ram")), os.WriteFile(made.Path("ram"), []byte{0}, 0o660))
		},
		"memory that is gone":   func(_ *testing.T, made Template) error { return os.Remove(made.Path("ram")) },
		"a description cut off": func(_ *testing.T, made Template) error { return os.Truncate(made.Path(describes), 20) },
		"another boot of the host": func(t *testing.T, made Template) error {
			return edit(t, made, `"boot": "`, `"boot": "0`)
		},
		"a newer format": func(t *testing.T, made Template) error { return edit(t, made, `"version": 2`, `"version": 3`) },
		"another recipe": func(t *testing.T, made Template) error { return edit(t, made, `"cpus": 1`, `"cpus": 2`) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			made := publish(t, s, recipe("a"), 1)
			if err := change(t, made); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Find(made.Key); !errors.Is(err, assay.ErrNotFound) {
				t.Errorf("it is still found: %v", err)
			}
			if _, err := read(made.Dir); !errors.Is(err, ErrDamaged) {
				t.Errorf("the reason is %v", err)
			}
			if _, err := s.Prune(""); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(made.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is not removed: %v", err)
			}
		})
	}
}

func edit(t *testing.T, made Template, old, new string) error {
	t.Helper()
	text, err := os.ReadFile(made.Path(describes))
	if err != nil {
		return err
	}
	changed := strings.Replace(string(text), old, new, 1)
	if changed == string(text) {
		t.Fatalf("there is no %s in %s", old, text)
	}
	return os.WriteFile(made.Path(describes), []byte(changed), 0o644)
}

// TestAnotherNameIsNoDamage is for an image's disk, which a template links.
func TestAnotherNameIsNoDamage(t *testing.T) {
	s := newStore(t)
	made := publish(t, s, recipe("a"), 1)
	base := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(base, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	stage := filepath.Join(s.Root, "stage")
	if err := errors.Join(os.Mkdir(stage, 0o711), os.Link(base, filepath.Join(stage, "base"))); err != nil {
		t.Fatal(err)
	}
	linked, err := s.Publish(stage, recipe("b"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Link(base, base+".2"), os.Remove(base)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(linked.Key); err != nil {
		t.Errorf("one more name, one less, and it is damaged: %v", err)
	}
	if linked.Size >= made.Size+4096 {
		t.Errorf("the image's disk counts as the template's own: %d bytes", linked.Size)
	}
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	s := newStore(t)
	const size = 1 << 20
	var all []Template
	for _, image := range []string{"a", "b", "c", "d"} {
		all = append(all, publish(t, s, recipe(image), size))
	}
	past := time.Now().Add(-time.Hour)
	for i, made := range all {
		at := past.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(made.Path(usedName), at, at); err != nil {
			t.Fatal(err)
		}
	}
	release, err := all[0].Hold() // the oldest is used now
	if err != nil {
		t.Fatal(err)
	}
	release()
	s.Budget = all[0].Size * 2
	evicted, err := s.Prune(all[2].Key)
	if err != nil {
		t.Fatal(err)
	}
	if len(evicted) != 2 || evicted[0] != all[1].Key || evicted[1] != all[3].Key {
		t.Errorf("evicted %v of %v: the one to keep and the one just used stay", evicted, []string{all[0].Key, all[1].Key, all[2].Key, all[3].Key})
	}
}

func TestHeldStays(t *testing.T) {
	s := newStore(t)
	made := publish(t, s, recipe("a"), 1)
	release, err := made.Hold()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Remove(made.Key[:8]); n != 0 || err != nil {
		t.Errorf("removed %d while it is held, %v", n, err)
	}
	release()
	if n, err := s.Remove(made.Key[:8]); n != 1 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	if _, err := made.Hold(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is gone can be held: %v", err)
	}
	if _, err := s.Remove("abc"); err == nil {
		t.Error("three digits of a key are enough to remove")
	}
	left, err := os.ReadDir(s.Root)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestLock(t *testing.T) {
	s := newStore(t)
	unlock, err := s.Lock(t.Context(), "k", func() { t.Error("it waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Lock(ctx, "k", cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("the second one: %v", err)
	}
	unlock()
	again, err := s.Lock(t.Context(), "k", func() {})
	if err != nil {
		t.Fatal(err)
	}
	again()
}

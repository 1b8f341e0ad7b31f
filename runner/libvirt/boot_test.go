package libvirt

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/assay-ci/assay/runner"
)

func TestShape(t *testing.T) {
	m := &Machines{options: Options{Image: "debian-12"}}
	got, err := m.shape(runner.Spec{Execution: "x"})
	want := runner.Spec{Execution: "x", Image: "debian-12", CPUs: 1, Memory: 512 << 20, Network: networkNone}
	if !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	full := runner.Spec{Image: "fedora-42", CPUs: 4, Memory: 1 << 30, Disk: 20 << 30, Network: networkFull}
	if got, err := m.shape(full); !reflect.DeepEqual(got, full) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []runner.Spec{{CPUs: -1}, {CPUs: 1000}, {Memory: 1}, {Memory: -1}, {Memory: 1 << 50}, {Disk: -1}} {
		if _, err := m.shape(bad); err == nil || !strings.HasPrefix(err.Error(), "cannot boot a machine with") {
			t.Errorf("%+v: the error is %v", bad, err)
		}
	}
}

func TestDomainName(t *testing.T) {
	for execution, want := range map[string]string{
		"0198c0de-0000-7000-8000-00000000cafe": "assay-5f6a7b8c-0198c0de-0000-7000-8000-00000000cafe",
		"":                                     "assay-5f6a7b8c",
		"../a b/\n<c>":                         "assay-5f6a7b8c-abc",
		strings.Repeat("x", 500):               "assay-5f6a7b8c-" + strings.Repeat("x", 64),
	} {
		if got := domainName("m-5f6a7b8c", execution); got != want {
			t.Errorf("%q: got %q, want %q", execution, got, want)
		}
	}
}

func TestCreateOverlay(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", base, "8M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, c := range map[string]struct{ size, want int64 }{
		"the image's":   {0, 8 << 20},
		"bigger":        {64 << 20, 64 << 20},
		"never smaller": {1 << 20, 8 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			overlay := filepath.Join(t.TempDir(), diskName)
			if err := createOverlay(t.Context(), base, overlay, c.size); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("qemu-img", "info", "--output=json", overlay).Output()
			if err != nil {
				t.Fatal(err)
			}
			var info struct {
				Size    int64  `json:"virtual-size"`
				Format  string `json:"format"`
				Backing string `json:"full-backing-filename"`
			}
			if err := json.Unmarshal(out, &info); err != nil {
				t.Fatal(err)
			}
			if info.Size != c.want || info.Format != "qcow2" || info.Backing != base {
				t.Errorf("got %+v", info)
			}
			if stat, err := os.Stat(overlay); err != nil || stat.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", stat.Mode(), err)
			}
		})
	}
	for name, text := range map[string]string{"none": "", "short": "QFI\xfb", "raw": strings.Repeat("raw", 100)} {
		path := filepath.Join(dir, name)
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := createOverlay(t.Context(), path, filepath.Join(dir, "x"), 0)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestReadConsole(t *testing.T) {
	path := filepath.Join(t.TempDir(), consoleName)
	if _, err := readConsole(path, 10); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(limit int64, want string) {
		t.Helper()
		if got, err := readConsole(path, limit); string(got) != want || err != nil {
			t.Errorf("the last %d bytes are %q, %v; want %q", limit, got, err, want)
		}
	}
	write(path, "defgh")
	check(100, "defgh")
	check(2, "gh")
	check(0, "")
	check(-1, "")
	write(path+".0", "abc") // what the log daemon has moved aside
	check(100, "abcdefgh")
	check(6, "cdefgh")
}

func TestConsoleAfterClose(t *testing.T) {
	m := onDisk(t)
	one := m.newMachine("x")
	var err error
	if one.runDir, one.diskDir, _, err = m.owner.machineDirs(one.id, "x"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(one.consolePath(), []byte("Kernel panic"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := one.Console(5); string(got) != "panic" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if err := one.Close(); err != nil {
			t.Error(err)
		}
	}
	m.burials.Wait()
	if m.lives(one.id) {
		t.Error("it still counts as living")
	}
	for _, dir := range []string{one.runDir, one.diskDir} {
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

func TestWithDefaults(t *testing.T) {
	got, err := withDefaults(Options{ImageRoot: "/images", Dir: "/machines"}, 1000, "/run/user/1000")
	if err != nil || got.RunDir != "/run/user/1000/assay" || got.URI != uriSession || got.KVM != "auto" || got.Image != "debian-12" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := withDefaults(Options{ImageRoot: "/i", Dir: "/m"}, 0, ""); err != nil || got.RunDir != "/run/assay" || got.URI != uriSystem {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, bad := range map[string]Options{
		"no directories":          {},
		"an odd answer":           {ImageRoot: "/i", Dir: "/m", KVM: "perhaps"},
		"a path that is too long": {ImageRoot: "/i", Dir: "/m", RunDir: "/" + strings.Repeat("x", 80)},
	} {
		if _, err := withDefaults(bad, 0, ""); err == nil || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestServes(t *testing.T) {
	for item, want := range map[string]bool{"": true, "noarch": true, "src": true, "x86_64": true, "amd64": true, "i686": true, "aarch64": false, "armhfp": false} {
		if got := serves("x86_64", item); got != want {
			t.Errorf("an image of x86_64 for an item of %q: %v", item, got)
		}
	}
	if !serves("aarch64", "arm64") || serves("aarch64", "x86_64") {
		t.Error("aarch64 is taken for something else")
	}
}

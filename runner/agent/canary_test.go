package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCanary(t *testing.T) {
	dir := t.TempDir()
	memory, disk := filepath.Join(dir, "run", "canary"), filepath.Join(dir, "var", "canary")
	swap := func(c *Canary, mark, want string) {
		t.Helper()
		if seen, err := c.Swap(mark); seen != want || err != nil {
			t.Errorf("%s saw %q, %v; want %q", mark, seen, err, want)
		}
	}
	one := &Canary{Paths: []string{memory, disk}}
	swap(one, "one", "")
	swap(one, "one", "") // a machine that waited is told its name twice
	swap(one, "two", "one")
	for _, path := range []string{memory, disk} {
		if text, err := os.ReadFile(path); strings.TrimSpace(string(text)) != "two" || err != nil {
			t.Errorf("%s has %q, %v", path, text, err)
		}
	}
	if err := os.Remove(memory); err != nil {
		t.Fatal(err)
	}
	swap(&Canary{Paths: []string{memory, disk}}, "three", "two") // only the disk survived
	swap(&Canary{Paths: []string{memory}}, "four", "three")      // only memory did
	swap(&Canary{}, "five", "")
}

func TestCanaryPrepares(t *testing.T) {
	dir := t.TempDir()
	empty, marked := filepath.Join(dir, "run", "canary"), filepath.Join(dir, "var", "canary")
	if _, err := (&Canary{Paths: []string{marked}}).Swap("old"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, marked} {
		if err := (&Canary{Paths: []string{path}}).Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(empty)
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := (&Canary{Paths: []string{empty}}).Swap("new"); seen != "" || err != nil {
		t.Errorf("one that was only prepared had %q, %v", seen, err)
	}
	if after, err := os.Stat(empty); err != nil || after.Size() != info.Size() {
		t.Errorf("the mark has no room of its own: %d bytes, %v", after.Size(), err)
	}
	if seen, err := (&Canary{Paths: []string{marked}}).Swap("new"); seen != "old" || err != nil {
		t.Errorf("preparing hid a mark: %q, %v", seen, err)
	}
}

func TestCanaryReadsLittle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	seen, err := (&Canary{Paths: []string{path}}).Swap("mark")
	if len(seen) != maxCanary || err != nil {
		t.Errorf("saw %d bytes, %v", len(seen), err)
	}
}

func TestRenewKeys(t *testing.T) {
	dir := t.TempDir()
	if err := renewKeys(dir); err != nil {
		t.Errorf("where there is no sshd: %v", err)
	}
	key := filepath.Join(dir, "ssh_host_ed25519_key")
	for _, path := range []string{key, key + ".pub", filepath.Join(dir, "sshd_config")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := renewKeysWith(dir, "true"); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "sshd_config" {
		t.Errorf("left: %v, %v", left, err)
	}
}

package local_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-ci/assay/runner/local"
	"github.com/assay-ci/assay/runner/runnertest"
)

func TestMain(m *testing.M) { runnertest.Main(m) }

func TestRemoveWhatACheckLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.MkdirAll(filepath.Join(dir, "locked", "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "locked"), 0o000); err != nil {
		t.Fatal(err)
	}
	if err := local.Remove(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("it is still there")
	}
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	runnertest.Run(t, local.Machines{Parent: dir}, runnertest.Options{})
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

package local_test

import (
	"os"
	"testing"

	"github.com/assay-ci/assay/runner/local"
	"github.com/assay-ci/assay/runner/runnertest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	runnertest.Run(t, local.Machines{Parent: dir}, runnertest.Options{})
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

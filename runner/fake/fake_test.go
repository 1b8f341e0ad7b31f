package fake_test

import (
	"errors"
	"testing"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
	"github.com/assay-ci/assay/runner/runnertest"
)

func TestMain(m *testing.M) { runnertest.Main(m) }

func TestConformance(t *testing.T) {
	machines := &fake.Machines{Parent: t.TempDir()}
	runnertest.Run(t, machines, runnertest.Options{Disposable: true, PowerOff: []string{"poweroff"}})
	if machines.Alive() != 0 {
		t.Errorf("%d machines are not closed", machines.Alive())
	}
}

func TestBootFailures(t *testing.T) {
	machines := &fake.Machines{Parent: t.TempDir()}
	_, err := machines.Boot(t.Context(), runner.Spec{Image: "unbootable"})
	var boot *runner.BootError
	if !errors.As(err, &boot) || len(boot.Console) == 0 {
		t.Errorf("unbootable: %v", err)
	}
	_, err = machines.Boot(t.Context(), runner.Spec{Image: "no-such-image"})
	if err == nil || errors.As(err, &boot) {
		t.Errorf("no-such-image: %v", err)
	}
}

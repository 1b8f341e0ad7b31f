package runner_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
)

// onTroubledHost hands out machines of a host that is in trouble.
type onTroubledHost struct {
	runner.Machines
	trouble error
}

func (h onTroubledHost) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	m, err := h.Machines.Boot(ctx, spec)
	return troubled{m, h.trouble}, err
}

type troubled struct {
	runner.Machine
	trouble error
}

func (m troubled) Trouble() error { return m.trouble }

func TestTroubleOfTheHostIsNoVerdict(t *testing.T) {
	full := errors.New("the host's disk is full")
	for name, tt := range map[string]struct {
		script  string
		trouble error
		want    assay.Verdict
		retry   bool
	}{
		"fails on a full disk":  {"exit 1", full, assay.VerdictErrored, true},
		"passes on a full disk": {"exit 0", full, assay.VerdictPassed, false},
		"fails":                 {"exit 1", nil, assay.VerdictFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			machines := &fake.Machines{Parent: t.TempDir()}
			r := runner.Runner{Machines: onTroubledHost{machines, tt.trouble}, ParseResults: parseJSON}
			c, err := r.Run(t.Context(), runner.Job{
				Plan: assay.Plan{Steps: []assay.Step{shell("look", tt.script)}}, Log: io.Discard, Artifacts: t.TempDir(),
			})
			if err != nil || c.Verdict != tt.want || c.Retry != tt.retry {
				t.Errorf("%s, again: %v, %v: %s", c.Verdict, c.Retry, err, c.Reason)
			}
			if tt.retry && !strings.Contains(c.Reason, full.Error()) {
				t.Errorf("the reason is %q", c.Reason)
			}
			if machines.Alive() != 0 {
				t.Error("a machine is left")
			}
		})
	}
}

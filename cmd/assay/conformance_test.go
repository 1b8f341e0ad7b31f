package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
	"github.com/assay-ci/assay/runner/local"
	"github.com/assay-ci/assay/runner/runnertest"
	"github.com/assay-ci/assay/runner/ssh"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// update is read by the suite of fixtures/conformance: it writes what came of the
// formulas on this host, for a person to read.
var update = flag.Bool("update", false, "write the golden files anew, on local machines only")

// corpus is fixtures/conformance with the rooms that read formulas and results.
func corpus() runnertest.Formulas {
	return runnertest.Formulas{
		Dir: "../../fixtures/conformance", ParseResults: checks.ParseResults,
		Plan: func(file string, data []byte, e assay.Execution) (assay.Plan, assay.Vars, error) {
			f, err := checks.Parse(file, data)
			if err != nil {
				return assay.Plan{}, nil, err
			}
			vars := itemVars(e)
			plan, err := f.Plan(maps.Clone(vars))
			return plan, vars, err
		},
	}
}

// TestConformance runs one corpus of formulas on every kind of machine and wants
// the same results, exit codes and logs. Adding a case is adding a file.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(*testing.T) runner.Machines{
		"local": func(t *testing.T) runner.Machines { return local.Machines{Parent: t.TempDir()} },
		"fake":  func(t *testing.T) runner.Machines { return &fake.Machines{Parent: t.TempDir()} },
		"ssh":   sshMachines,
	} {
		t.Run(name, func(t *testing.T) {
			if name != "local" && *update {
				return // written once, from local machines
			}
			all := corpus()
			all.Parallel = 2
			runnertest.RunFormulas(t, open(t), all)
		})
	}
}

// sshMachines are directories of a host that a real sshd of the test serves.
func sshMachines(t *testing.T) runner.Machines {
	t.Helper()
	h := sshtest.NewHost(t)
	t.Cleanup(func() {
		if left := h.Left(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return ssh.Machines{Options: ssh.Options{
		User: h.User, Dir: h.SSH, Address: h.Address, Linger: 200 * time.Millisecond,
		Program: func(string) (string, error) { return filepath.Join(bin, "assay-agent"), nil },
	}}
}

// TestConformanceVM runs the corpus in virtual machines: forks of one template,
// one for each formula.
func TestConformanceVM(t *testing.T) {
	needImage(t)
	cfg := config.Default()
	cfg.Data = passable(t)
	cfg.Machines.Waiting = 2
	machines, closeMachines, err := openMachines(t.Context(), cfg, zerolog.New(os.Stderr).Level(zerolog.WarnLevel))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("libvirt", func(t *testing.T) { runnertest.RunFormulas(t, machines, corpus()) })
	if err := closeMachines(); err != nil {
		t.Error(err)
	}
}

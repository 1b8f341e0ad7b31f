package runner_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
)

func TestKeep(t *testing.T) {
	stop := errors.New("somebody else has it")
	tests := map[string]struct {
		script string
		take   bool
		stop   bool
		want   string // what Keep was asked
		alive  int
		steps  string
	}{
		"kept":                  {script: "false", take: true, want: "failed", alive: 1, steps: "collect ok"},
		"kept although good":    {script: "true", take: true, want: "passed", alive: 1, steps: "collect ok"},
		"dead: nothing to keep": {script: "poweroff", take: true, steps: "destroy ok"},
		"refused":               {script: "false", want: "failed", steps: "destroy ok"},
		"nobody may be asked":   {script: "true", take: true, stop: true, steps: "destroy ok"},
		"asked when it failed":  {script: "exit 3", take: true, want: "failed", alive: 1, steps: "collect ok"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			machines := &fake.Machines{Parent: t.TempDir()}
			var log bytes.Buffer
			var kept runner.Machine
			asked, last := "", ""
			r := runner.Runner{Machines: machines, ParseResults: parseJSON}
			_, err := r.Run(t.Context(), runner.Job{
				Execution: assay.Execution{ID: "the-id"}, Plan: assay.Plan{Steps: []assay.Step{shell("look", tt.script)}},
				Log: &log, Artifacts: t.TempDir(),
				Step: func(_ context.Context, s assay.StepRun) error {
					if s.Outcome != "" {
						last = s.Name + " " + s.Outcome
					}
					if tt.stop && s.Number == 1 {
						return stop
					}
					return nil
				},
				Keep: func(c assay.Conclusion, m runner.Machine) bool {
					asked, kept = string(c.Verdict), m
					return tt.take
				},
			})
			if errors.Is(err, stop) != tt.stop || !tt.stop && err != nil {
				t.Errorf("it ended with %v", err)
			}
			if asked != tt.want || machines.Alive() != tt.alive || last != tt.steps {
				t.Errorf("asked about %q, want %q; %d machines left, want %d; last %q, want %q", asked, tt.want, machines.Alive(), tt.alive, last, tt.steps)
			}
			if told := strings.Contains(log.String(), "assay vm shell the-id"); told != (tt.alive > 0) {
				t.Errorf("the log:\n%s", log.String())
			}
			if tt.alive > 0 {
				if err := kept.Close(); err != nil || machines.Alive() != 0 {
					t.Errorf("%d machines left: %v", machines.Alive(), err)
				}
			}
		})
	}
}

// stay is a machine that only tells when it is closed.
type stay struct {
	runner.Machine
	name string
	log  *endings
	err  error
}

func (s stay) Close() error { s.log.add("closed " + s.name); return s.err }

// endings is what happened, in order.
type endings struct {
	mu   sync.Mutex
	list []string
}

func (e *endings) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

// take is what has happened since the last time.
func (e *endings) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := strings.Join(e.list, ", ")
	e.list = nil
	return list
}

func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &endings{}
		h := runner.NewHolder(runner.HolderOptions{Count: 2, For: 10 * time.Minute, Ended: func(id string, err error) {
			log.add("ended " + id)
		}})
		failed := assay.Conclusion{Verdict: assay.VerdictFailed}
		keep := func(name string) bool { return h.Keep(name, failed, stay{name: name, log: log}) }
		if !keep("a") {
			t.Error("a was refused")
		}
		time.Sleep(time.Minute) // of the bubble's clock
		if !keep("b") || keep("c") {
			t.Error("room is for two")
		}
		time.Sleep(9*time.Minute - 1)
		synctest.Wait()
		if got := log.take(); got != "" || keep("c") {
			t.Errorf("before a's time: %s", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := log.take(); got != "closed a, ended a" || !keep("d") || keep("e") {
			t.Errorf("after a's time: %s, or no room for one", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := log.take(); got != "closed b, ended b" {
			t.Errorf("after b's time: %s", got)
		}
		for range 2 {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		if got := log.take(); got != "closed d, ended d" || keep("e") {
			t.Errorf("after Close: %s", got)
		}
	})
}

func TestHolderKeepsWhatIsWorthALook(t *testing.T) {
	var kept []assay.Verdict
	h := runner.NewHolder(runner.HolderOptions{Count: 100, For: time.Hour})
	for _, v := range []assay.Verdict{assay.VerdictPassed, assay.VerdictFailed, assay.VerdictCrashed, assay.VerdictErrored, assay.VerdictCancelled, assay.VerdictSkipped} {
		if h.Keep("x", assay.Conclusion{Verdict: v}, stay{log: &endings{}}) {
			kept = append(kept, v)
		}
	}
	if want := []assay.Verdict{assay.VerdictFailed, assay.VerdictCrashed, assay.VerdictErrored}; !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for _, o := range []runner.HolderOptions{{Count: 1}, {For: time.Hour}} {
		if runner.NewHolder(o).Keep("x", assay.Conclusion{Verdict: assay.VerdictFailed}, stay{log: &endings{}}) {
			t.Errorf("%+v keeps a machine", o)
		}
	}
}

func TestHolderTellsWhatItCouldNotGiveBack(t *testing.T) {
	stuck := errors.New("it does not go")
	told := make(chan error, 1)
	h := runner.NewHolder(runner.HolderOptions{Count: 1, For: time.Hour, Ended: func(_ string, err error) { told <- err }})
	h.Keep("x", assay.Conclusion{Verdict: assay.VerdictFailed}, stay{log: &endings{}, err: stuck})
	if err := h.Close(); !errors.Is(err, stuck) || !errors.Is(<-told, stuck) {
		t.Errorf("closed with %v", err)
	}
}

package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
)

// parseJSON stands in for the room that reads results: here they are JSON.
func parseJSON(data []byte) ([]assay.Result, error) {
	var results []assay.Result
	err := json.Unmarshal(data, &results)
	return results, err
}

// shell is a step of one command.
func shell(name, script string) assay.Step {
	return action(name, assay.Action{Commands: []assay.Command{{Shell: script}}})
}

func action(name string, a assay.Action) assay.Step {
	return assay.Step{Name: name, Directive: "shell", Resolve: func(assay.Vars) (assay.Action, error) { return a, nil }}
}

func exported(step assay.Step, name string) assay.Step { step.Export = name; return step }

// outcome is what the story gets to see of one attempt.
type outcome struct {
	conclusion assay.Conclusion
	log        string
	console    string
	artifacts  string // directory
	timeline   []assay.StepRun
	machines   *fake.Machines
}

func (o outcome) steps() string {
	var words []string
	for _, s := range o.timeline {
		if s.Outcome != "" {
			words = append(words, s.Name+" "+s.Outcome)
		}
	}
	return strings.Join(words, ", ")
}

// run runs steps on a fake machine.
func run(t *testing.T, limits runner.Limits, spec runner.Spec, timeout time.Duration, steps ...assay.Step) outcome {
	t.Helper()
	o := outcome{artifacts: t.TempDir(), machines: &fake.Machines{Parent: t.TempDir()}}
	var log bytes.Buffer
	r := runner.Runner{Machines: o.machines, Limits: limits, ParseResults: parseJSON}
	var err error
	o.conclusion, err = r.Run(t.Context(), runner.Job{
		Execution: assay.Execution{ID: "id", Item: "hello-1.0-1", Type: "koji_build", Attempt: 1},
		Plan:      assay.Plan{Check: "greeting", Timeout: timeout, Steps: steps},
		Spec:      spec,
		Vars:      assay.Vars{assay.VarItem: "hello-1.0-1"},
		Log:       &log,
		Artifacts: o.artifacts,
		Step:      func(_ context.Context, s assay.StepRun) error { o.timeline = append(o.timeline, s); return nil },
		Console:   func(b []byte) error { o.console = string(b); return nil },
	})
	if err != nil {
		t.Fatalf("the attempt was not concluded: %v", err)
	}
	if o.machines.Alive() != 0 {
		t.Errorf("%d machines are not destroyed", o.machines.Alive())
	}
	o.log = log.String()
	return o
}

func report(json string) assay.Step {
	return action("report", assay.Action{Results: &assay.ResultsSource{Text: json}})
}

func TestVerdicts(t *testing.T) {
	never := shell("never", "echo this must not run > $TEST_ARTIFACTS/ran")
	tests := []struct {
		summary string
		limits  runner.Limits
		image   string
		timeout time.Duration
		steps   []assay.Step
		verdict assay.Verdict
		reason  string // contained in the reason
		results string // outcomes, by runner.Summary
		retry   bool
	}{
		{summary: "every step passes", steps: []assay.Step{shell("a", "true"), shell("b", "true")},
			verdict: "passed", reason: "every step passed", results: "1 PASSED"},
		{summary: "no steps", verdict: "passed", results: "1 PASSED"},
		{summary: "a step fails and says why", steps: []assay.Step{shell("greets", "echo fine; echo 'no greeting' >&2; echo >&2; exit 3"), never},
			verdict: "failed", reason: `step 1 "greets" failed: exit 3: no greeting`, results: "1 FAILED"},
		{summary: "a step fails and sums up on its standard output", steps: []assay.Step{shell("tests", "echo '1 failed, 3 passed'; exit 1"), never},
			verdict: "failed", reason: `step 1 "tests" failed: exit 1: 1 failed, 3 passed`, results: "1 FAILED"},
		{summary: "a signal ends a step", steps: []assay.Step{shell("a", "kill -6 $$"), never},
			verdict: "failed", reason: `ended by signal 6`, results: "1 FAILED"},
		{summary: "a command is not there", steps: []assay.Step{shell("a", "assay-no-such-command")},
			verdict: "failed", reason: "exit 127", results: "1 FAILED"},
		{summary: "an ignored exit", steps: []assay.Step{action("a", assay.Action{Commands: []assay.Command{{Shell: "exit 5", IgnoreExit: true}, {Argv: []string{"true"}}}})},
			verdict: "passed", results: "1 PASSED"},
		{summary: "a step that fails by itself", steps: []assay.Step{action("a", assay.Action{Fail: "it says so"})},
			verdict: "failed", reason: "it says so", results: "1 FAILED"},
		{summary: "a step that cannot be resolved", steps: []assay.Step{{Name: "a", Resolve: func(assay.Vars) (assay.Action, error) { return assay.Action{}, errors.New("f.yml:3:1: cannot do it") }}},
			verdict: "failed", reason: "f.yml:3:1: cannot do it", results: "1 FAILED"},
		{summary: "good results", steps: []assay.Step{report(`[{"Outcome":"PASSED"},{"Outcome":"INFO"}]`)},
			verdict: "passed", reason: "1 PASSED, 1 INFO", results: "1 PASSED, 1 INFO"},
		{summary: "a bad result beats good steps", steps: []assay.Step{report(`[{"Outcome":"PASSED"},{"Outcome":"FAILED","Checkname":"greeting.by-name"}]`), shell("b", "true")},
			verdict: "failed", reason: "1 of 2 failed: by-name", results: "1 PASSED, 1 FAILED"},
		{summary: "many bad results", steps: []assay.Step{report(`[` + strings.Repeat(`{"Outcome":"FAILED","Note":"oops"},`, 4) + `{"Outcome":"FAILED"}]`)},
			verdict: "failed", reason: "5 of 5 failed: oops, oops, oops, …", results: "5 FAILED"},
		{summary: "a bad result and then a failing step", steps: []assay.Step{report(`[{"Outcome":"FAILED","Note":"n"}]`), shell("b", "false")},
			verdict: "failed", reason: `1 of 1 failed: n; then step 2 "b" failed: exit 1`, results: "1 FAILED"},
		{summary: "what is no result", steps: []assay.Step{report(`no results`)},
			verdict: "failed", reason: "reported what is no result", results: "1 FAILED"},
		{summary: "a results file that is not there", steps: []assay.Step{action("a", assay.Action{Results: &assay.ResultsSource{File: "results.yml"}})},
			verdict: "crashed", reason: "results.yml: the check crashed before it wrote one", results: "1 CRASHED"},
		{summary: "a results file that cannot be read", steps: []assay.Step{action("a", assay.Action{Results: &assay.ResultsSource{File: "/"}})},
			verdict: "failed", reason: "the results file / cannot be read", results: "1 FAILED"},
		{summary: "a results file that never ends", limits: runner.Limits{Value: 1000}, steps: []assay.Step{action("a", assay.Action{Results: &assay.ResultsSource{File: "/dev/zero"}})},
			verdict: "failed", reason: "longer than 1000 B", results: "1 FAILED"},
		{summary: "a check that loops for ever", timeout: 300 * time.Millisecond, steps: []assay.Step{shell("loop", "while :; do :; done"), never},
			verdict: "failed", reason: `step 1 "loop" timed out: the check may take 300ms`, results: "1 FAILED"},
		{summary: "a check that complains before its time is up", timeout: 500 * time.Millisecond, steps: []assay.Step{shell("slow", "echo no answer yet >&2; sleep 600")},
			verdict: "failed", reason: `timed out: the check may take 500ms; its last words: no answer yet`, results: "1 FAILED"},
		{summary: "a step that takes too long", timeout: time.Hour, steps: []assay.Step{{Name: "slow", Timeout: 200 * time.Millisecond, Resolve: func(assay.Vars) (assay.Action, error) {
			return assay.Action{Commands: []assay.Command{{Shell: "sleep 600"}}}, nil
		}}, never}, verdict: "failed", reason: `step 1 "slow" timed out: the step may take 200ms`, results: "1 FAILED"},
		{summary: "a check that floods the log", limits: runner.Limits{Log: 10_000}, steps: []assay.Step{shell("flood", "yes"), never},
			verdict: "failed", reason: "printed more than 9.7 KiB, the log limit, and was stopped", results: "1 FAILED"},
		{summary: "a flood that ends by itself", limits: runner.Limits{Log: 10_000}, steps: []assay.Step{shell("flood", "yes | head -n 20000")},
			verdict: "failed", reason: `step 1 "flood" printed more than 9.7 KiB`, results: "1 FAILED"},
		{summary: "an exported value that is too long", limits: runner.Limits{Value: 1000}, steps: []assay.Step{exported(shell("long", "yes | head -n 1000"), "v"), never},
			verdict: "failed", reason: "what it exports is longer than 1000 B", results: "1 FAILED"},
		{summary: "much output of a step that exports nothing", limits: runner.Limits{Value: 1000}, steps: []assay.Step{shell("long", "yes | head -n 1000")},
			verdict: "passed", results: "1 PASSED"},
		{summary: "a check that powers its machine off", steps: []assay.Step{shell("off", "poweroff"), never},
			verdict: "crashed", reason: `the check took its machine down during step 1 "off"`, results: "1 CRASHED"},
		{summary: "an image that does not boot", image: "unbootable", steps: []assay.Step{never},
			verdict: "errored", reason: "the guest never spoke", results: "no results", retry: true},
		{summary: "an image that is not there", image: "no-such-image", steps: []assay.Step{never},
			verdict: "errored", reason: "assay image build", results: "no results", retry: true},
	}
	for _, tt := range tests {
		t.Run(tt.summary, func(t *testing.T) {
			o := run(t, tt.limits, runner.Spec{Image: tt.image}, tt.timeout, tt.steps...)
			c := o.conclusion
			if c.Verdict != tt.verdict || !strings.Contains(c.Reason, tt.reason) || c.Retry != tt.retry {
				t.Errorf("%s (retry %v): %s\nwant %s (retry %v): …%s…", c.Verdict, c.Retry, c.Reason, tt.verdict, tt.retry, tt.reason)
			}
			if got := runner.Summary(c.Results); got != tt.results {
				t.Errorf("results: %s, want %s", got, tt.results)
			}
			for _, r := range c.Results {
				if r.Item != "hello-1.0-1" || r.Type != "koji_build" || r.Checkname == "" {
					t.Errorf("a result lacks what the execution knows: %+v", r)
				}
			}
			if _, err := os.Stat(filepath.Join(o.artifacts, "ran")); err == nil {
				t.Error("a step ran after the one that failed")
			}
			if !strings.Contains(o.log, string(tt.verdict)+": ") {
				t.Errorf("the log does not tell the verdict:\n%s", o.log)
			}
		})
	}
}

func TestTimeline(t *testing.T) {
	o := run(t, runner.Limits{}, runner.Spec{}, 0, shell("one", "true"), shell("two", "false"))
	if want := "boot ok, upload ok, one ok, two failed, collect ok, destroy ok"; o.steps() != want {
		t.Errorf("got %s\nwant %s", o.steps(), want)
	}
	for _, s := range o.timeline {
		if s.Attempt != 1 || s.Started.IsZero() || s.Finished.IsZero() != (s.Outcome == "") {
			t.Errorf("odd entry: %+v", s)
		}
	}
	o = run(t, runner.Limits{}, runner.Spec{}, 0, shell("off", "poweroff"))
	if want := "boot ok, upload ok, off crashed, destroy ok"; o.steps() != want || o.console != fake.Console {
		t.Errorf("a crash: got %s, console %q\nwant %s", o.steps(), o.console, want)
	}
}

func TestArtifactsAreKept(t *testing.T) {
	leave := shell("leave", `mkdir $TEST_ARTIFACTS/sub; echo one > $TEST_ARTIFACTS/sub/a.txt; ln -s /etc/passwd $TEST_ARTIFACTS/link; exit 1`)
	o := run(t, runner.Limits{}, runner.Spec{}, 0, leave)
	want := []assay.Artifact{{Path: "sub/a.txt", Size: 4}}
	if !slices.Equal(o.conclusion.Artifacts, want) {
		t.Errorf("got %+v", o.conclusion.Artifacts)
	}
	if !strings.Contains(o.log, `left out "link"`) {
		t.Errorf("the log does not tell what was left out:\n%s", o.log)
	}
	if _, err := os.Lstat(filepath.Join(o.artifacts, "link")); err == nil {
		t.Error("a link came out of the machine")
	}
	o = run(t, runner.Limits{Artifacts: runner.ArchiveLimits{Bytes: 1000, Files: 5}}, runner.Spec{}, 0, shell("bomb", "truncate -s 1T $TEST_ARTIFACTS/bomb"))
	if o.conclusion.Verdict != assay.VerdictPassed || len(o.conclusion.Artifacts) != 0 {
		t.Errorf("a sparse file of 1 TiB: %+v", o.conclusion)
	}
}

func TestValuesReachLaterSteps(t *testing.T) {
	var got assay.Vars
	last := assay.Step{Name: "last", Resolve: func(v assay.Vars) (assay.Action, error) {
		got = v
		return assay.Action{}, nil
	}}
	value := exported(assay.Step{Name: "file", Resolve: func(v assay.Vars) (assay.Action, error) {
		dir := v[assay.VarPrivate].(string)
		return assay.Action{
			Files:    map[string][]byte{"give.sh": []byte("cat > " + dir + "/value.json")},
			Commands: []assay.Command{{Argv: []string{"sh", dir + "/give.sh"}, Stdin: []byte(`{"b": ["x"]}`)}},
			Value:    dir + "/value.json",
		}, nil
	}}, "fromfile")
	o := run(t, runner.Limits{}, runner.Spec{}, 0, exported(shell("out", "printf 'a\nb\n'"), "printed"), value, last)
	if o.conclusion.Verdict != assay.VerdictPassed {
		t.Fatal(o.conclusion.Reason)
	}
	if got["printed"] != "a\nb" {
		t.Errorf("printed is %q", got["printed"])
	}
	if m, ok := got["fromfile"].(map[string]any); !ok || m["b"].([]any)[0] != "x" {
		t.Errorf("fromfile is %#v", got["fromfile"])
	}
}

func TestCheckSeesItsFilesAndItem(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data.txt"), []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	machines := &fake.Machines{Parent: t.TempDir()}
	r := runner.Runner{Machines: machines, ParseResults: parseJSON}
	c, err := r.Run(t.Context(), runner.Job{
		Plan:  assay.Plan{Check: "c", Steps: []assay.Step{shell("look", `cat data.txt && test "$ASSAY_ITEM" = "an item" && test -d "$TEST_ARTIFACTS"`)}},
		Trees: map[string]string{assay.VarWorkdir: dir}, Vars: assay.Vars{assay.VarItem: "an item"},
		Log: &log, Artifacts: t.TempDir(),
	})
	if err != nil || c.Verdict != assay.VerdictPassed {
		t.Errorf("%+v, %v\n%s", c, err, log.String())
	}
}

func TestMachineIsDestroyedWhoeverRefuses(t *testing.T) {
	refused := errors.New("the store does not answer")
	for accepted := range 8 {
		machines := &fake.Machines{Parent: t.TempDir()}
		calls := 0
		r := runner.Runner{Machines: machines, ParseResults: parseJSON}
		_, err := r.Run(t.Context(), runner.Job{
			Plan: assay.Plan{Steps: []assay.Step{shell("one", "true")}},
			Log:  &bytes.Buffer{}, Artifacts: t.TempDir(),
			Step: func(context.Context, assay.StepRun) error {
				if calls++; calls > accepted {
					return refused
				}
				return nil
			},
		})
		if !errors.Is(err, refused) || machines.Alive() != 0 {
			t.Errorf("refused after %d calls: %d machines are left, %v", accepted, machines.Alive(), err)
		}
	}
}

func TestStopping(t *testing.T) {
	stop := errors.New("a newer attempt has begun")
	tests := map[string]func(context.CancelCauseFunc) func(context.Context, assay.StepRun) error{
		"the context ends": func(cancel context.CancelCauseFunc) func(context.Context, assay.StepRun) error {
			return func(_ context.Context, s assay.StepRun) error {
				if s.Number == 1 {
					cancel(stop)
				}
				return nil
			}
		},
		"the step is refused": func(context.CancelCauseFunc) func(context.Context, assay.StepRun) error {
			return func(_ context.Context, s assay.StepRun) error {
				if s.Number == 1 {
					return stop
				}
				return nil
			}
		},
	}
	for name, step := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			machines := &fake.Machines{Parent: t.TempDir()}
			r := runner.Runner{Machines: machines, ParseResults: parseJSON}
			_, err := r.Run(ctx, runner.Job{
				Plan: assay.Plan{Steps: []assay.Step{shell("long", "sleep 600")}},
				Log:  &bytes.Buffer{}, Artifacts: t.TempDir(), Step: step(cancel),
			})
			if !errors.Is(err, stop) {
				t.Errorf("the attempt was concluded: %v", err)
			}
			if machines.Alive() != 0 {
				t.Error("the machine is not destroyed")
			}
		})
	}
}

// TestSkippedPlan has what is known not to run take no machine.
func TestSkippedPlan(t *testing.T) {
	var log bytes.Buffer
	r := &runner.Runner{Machines: noMachines{t}}
	c, err := r.Run(t.Context(), runner.Job{
		Execution: assay.Execution{Item: "hello-1.0-1", Type: "koji_build"}, Log: &log, Artifacts: t.TempDir(),
		Plan: assay.Plan{Check: "dep8.smoke", Skip: "unknown restriction x", Steps: []assay.Step{shell("never", "false")}},
	})
	want := assay.Conclusion{Verdict: assay.VerdictSkipped, Reason: "unknown restriction x", Results: []assay.Result{
		{Item: "hello-1.0-1", Type: "koji_build", Checkname: "dep8.smoke", Outcome: assay.Info, Note: "SKIP unknown restriction x"},
	}}
	if err != nil || !reflect.DeepEqual(c, want) || !strings.Contains(log.String(), "skipped: unknown restriction x") {
		t.Errorf("got %+v, %v\n%s", c, err, &log)
	}
}

// noMachines fails the test when a machine is asked for.
type noMachines struct{ t *testing.T }

func (m noMachines) Boot(context.Context, runner.Spec) (runner.Machine, error) {
	m.t.Error("a machine was asked for")
	return nil, errors.New("no machines")
}

// TestDownloadsLieInScratch has what a kill would leave lie where its owner looks.
func TestDownloadsLieInScratch(t *testing.T) {
	scratch, seen := t.TempDir(), ""
	r := &runner.Runner{Machines: &fake.Machines{Parent: t.TempDir()}, Fetcher: fetchFunc(func(dir string) error {
		seen = dir
		return os.WriteFile(filepath.Join(dir, "x.rpm"), []byte("x"), 0o644)
	})}
	c, err := r.Run(t.Context(), runner.Job{
		Log: &bytes.Buffer{}, Artifacts: t.TempDir(), Scratch: scratch,
		Plan: assay.Plan{Check: "c", Steps: []assay.Step{{Name: "get", Resolve: func(vars assay.Vars) (assay.Action, error) {
			return assay.Action{Fetch: &assay.Fetch{Dir: vars[assay.VarWorkdir].(string)}}, nil
		}}, shell("look", "test -f x.rpm")}},
	})
	if err != nil || c.Verdict != assay.VerdictPassed || filepath.Dir(seen) != scratch {
		t.Errorf("got %+v, %v; downloaded into %s", c, err, seen)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// fetchFunc downloads by calling itself.
type fetchFunc func(dir string) error

func (f fetchFunc) Fetch(_ context.Context, _ assay.Fetch, dir string, _ func(string)) (any, error) {
	return nil, f(dir)
}

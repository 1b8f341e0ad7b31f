package runner_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

// turned is a step that makes something of a file.
func turned(name, file string, make func([]byte) (assay.Turned, error)) assay.Step {
	return action(name, assay.Action{Turn: &assay.Turn{File: file, Make: make}})
}

func always(step assay.Step) assay.Step { step.If = assay.IfAlways; return step }

func asReported(data []byte) (assay.Turned, error) { return assay.Turned{Results: string(data)}, nil }

func TestResultsAndExits(t *testing.T) {
	exit := func(code int) assay.Step { return action("exit", assay.Action{Exit: code}) }
	for summary, test := range map[string]struct {
		steps   []assay.Step
		verdict assay.Verdict
		reason  string
		results string
	}{
		"an exit code without results": {[]assay.Step{exit(0), exit(100), exit(0)},
			"failed", "the check ended with exit code 100", "1 FAILED"},
		"an exit code of 0": {[]assay.Step{exit(0)}, "passed", "every step passed", "1 PASSED"},
		"results beat an exit code": {[]assay.Step{report(`[{"Outcome":"PASSED","Checkname":"a"}]`), exit(100)},
			"passed", "1 PASSED", "1 PASSED"},
		"bad results beat a good one, too": {[]assay.Step{report(`[{"Outcome":"FAILED","Checkname":"a"}]`), exit(0)},
			"failed", "1 of 1 failed: a", "1 FAILED"},
		"results that a step turned beat it": {[]assay.Step{turned("turn", "", func([]byte) (assay.Turned, error) { return assay.Turned{Results: `[{"Outcome":"INFO"}]`}, nil }), exit(100)},
			"passed", "1 INFO", "1 INFO"},
		"no results are not reported": {[]assay.Step{report(`[]`), exit(100)},
			"failed", "exit code 100", "1 FAILED"},
		"a step that fails after good results": {[]assay.Step{report(`[{"Outcome":"PASSED"}]`), shell("b", "exit 4")},
			"failed", `step 2 "b" failed: exit 4`, "1 PASSED, 1 FAILED"},
		"a file to turn that is not there": {[]assay.Step{turned("turn", "/no/such/file", asReported), shell("never", "exit 4")},
			"crashed", "found no results file /no/such/file: the check crashed before it wrote one", "1 CRASHED"},
		"a results file that is not there after bad results": {[]assay.Step{report(`[{"Outcome":"FAILED","Checkname":"a"}]`), action("file", assay.Action{Results: &assay.ResultsSource{File: "r"}})},
			"crashed", `1 of 1 failed: a; then step 2 "file" found no results file`, "1 FAILED, 1 CRASHED"},
		"a step failed before": {[]assay.Step{shell("a", "exit 4"), always(action("file", assay.Action{Results: &assay.ResultsSource{File: "r"}}))},
			"failed", `step 1 "a" failed: exit 4`, "1 FAILED"},
		"a file that cannot be turned": {[]assay.Step{turned("turn", "/dev/null", func([]byte) (assay.Turned, error) { return assay.Turned{}, errors.New("cannot read nothing") })},
			"failed", "failed: cannot read nothing", "1 FAILED"},
		"tests that broke off": {[]assay.Step{report(`[{"Outcome":"CRASHED","Checkname":".a"},{"Outcome":"ABORTED","Checkname":".b"},{"Outcome":"PASSED"}]`)},
			"failed", "2 of 3 broke off: a, b", "1 PASSED, 1 ABORTED, 1 CRASHED"},
		"some that failed, and some that broke off": {[]assay.Step{report(`[{"Outcome":"CRASHED","Checkname":".a"},{"Outcome":"FAILED","Checkname":".b"}]`)},
			"failed", "2 of 2 failed, 1 of them broke off: a, b", "1 FAILED, 1 CRASHED"},
	} {
		t.Run(summary, func(t *testing.T) {
			o := run(t, runner.Limits{}, runner.Spec{}, 0, test.steps...)
			c := o.conclusion
			if c.Verdict != test.verdict || !strings.Contains(c.Reason, test.reason) || c.Retry {
				t.Errorf("%s (retry %v): %s\nwant %s: %s", c.Verdict, c.Retry, c.Reason, test.verdict, test.reason)
			}
			if got := runner.Summary(c.Results); test.results != "" && got != test.results {
				t.Errorf("results: %s, want %s", got, test.results)
			}
		})
	}
}

func TestResultsAreCompleted(t *testing.T) {
	o := run(t, runner.Limits{}, runner.Spec{}, 0, report(`[{"Outcome":"PASSED"},{"Outcome":"PASSED","Checkname":".one","Item":"other"},{"Outcome":"INFO","Checkname":"dist.two","Type":"t"}]`))
	var got []string
	for _, r := range o.conclusion.Results {
		got = append(got, r.Checkname+" "+r.Item+" "+r.Type)
	}
	want := "greeting hello-1.0-1 koji_build, greeting.one other koji_build, dist.two hello-1.0-1 t"
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("the results are of %s, want %s", all, want)
	}
}

func TestArtifactsOfResults(t *testing.T) {
	leave := shell("leave", `mkdir -p $TEST_ARTIFACTS/sub/deep $TEST_ARTIFACTS/empty; echo x > $TEST_ARTIFACTS/sub/deep/a.txt; echo x > $TEST_ARTIFACTS/b.txt`)
	var results []string
	names := []string{
		"b.txt", "./sub//deep/a.txt", "sub", "ARTIFACTS/sub/deep/a.txt", "ARTIFACTS/sub/../b.txt",
		"no.txt", "../check/b.txt", "ARTIFACTS/../artifacts/../x", "/etc/passwd", "empty", ".", "ARTIFACTS",
	}
	for _, name := range names {
		results = append(results, `{"Outcome":"PASSED","Artifact":"`+name+`"}`)
	}
	report := assay.Step{Name: "report", Resolve: func(vars assay.Vars) (assay.Action, error) {
		text := strings.ReplaceAll("["+strings.Join(results, ",")+"]", "ARTIFACTS", vars[assay.VarArtifacts].(string))
		return assay.Action{Results: &assay.ResultsSource{Text: text}}, nil
	}}
	o := run(t, runner.Limits{}, runner.Spec{}, 0, leave, report)
	var got []string
	for _, r := range o.conclusion.Results {
		got = append(got, r.Artifact)
	}
	want := "b.txt sub/deep/a.txt sub sub/deep/a.txt b.txt       "
	if all := strings.Join(got, " "); all != want {
		t.Errorf("the artifacts are %q, want %q", all, want)
	}
	if n := strings.Count(o.log, "warning: no link to the artifact"); n != 7 {
		t.Errorf("%d warnings:\n%s", n, o.log)
	}
}

package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/fake"
)

const token = "t0k'en $HOME `x` \\"

// runJob runs steps with secrets and trees on a fake machine, and returns all that
// anybody could see of it.
func runJob(t *testing.T, job runner.Job, steps ...assay.Step) (assay.Conclusion, string) {
	t.Helper()
	var log bytes.Buffer
	job.Execution = assay.Execution{ID: "id", Item: "hello-1.0-1", Type: "koji_build", Attempt: 1}
	job.Plan = assay.Plan{Check: "c", Steps: steps}
	job.Log, job.Artifacts = &log, t.TempDir()
	var timeline []assay.StepRun
	job.Step = func(_ context.Context, s assay.StepRun) error { timeline = append(timeline, s); return nil }
	r := runner.Runner{Machines: &fake.Machines{Parent: t.TempDir()}, ParseResults: parseJSON}
	c, err := r.Run(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return c, fmt.Sprintf("%s\n%+v\n%+v", log.String(), c, timeline)
}

func TestSecretsReachCommands(t *testing.T) {
	secrets := map[string]string{"TOKEN": token, "KEY": "line one\nline two\n"}
	c, _ := runJob(t, runner.Job{Secrets: secrets},
		shell("as they are", `test "$TOKEN" = `+shellQuote(token)+` && test "$KEY" = "line one
line two
"`),
		assay.Step{Name: "with input", Directive: "shell", Resolve: func(assay.Vars) (assay.Action, error) {
			return assay.Action{Commands: []assay.Command{{Argv: []string{"sh", "-c", `read a && test "$a" = "the input" && ! read b && test -n "$TOKEN"`}, Stdin: []byte("the input\n")}}}, nil
		}},
		assay.Step{Name: "its own", Directive: "shell", Resolve: func(assay.Vars) (assay.Action, error) {
			return assay.Action{Env: []string{"TOKEN=mine"}, Commands: []assay.Command{{Shell: `test "$TOKEN" = mine && test -n "$KEY"`}}}, nil
		}},
		exported(shell("the value stays whole", `printf %s "$TOKEN"`), "value"),
		assay.Step{Name: "and is given on", Directive: "shell", Resolve: func(v assay.Vars) (assay.Action, error) {
			return assay.Action{Commands: []assay.Command{{Shell: "test " + shellQuote(v["value"].(string)) + ` = "$TOKEN"`}}}, nil
		}},
		shell("on no command line", `! tr '\0' ' ' < /proc/$PPID/cmdline | grep t0k && ! tr '\0' ' ' < /proc/$$/cmdline | grep "t0k.en $""HOME"`),
		shell("exits as it would", "exit 7"),
	)
	if c.Reason != `step 7 "exits as it would" failed: exit 7` {
		t.Errorf("it ended with %s: %s", c.Verdict, c.Reason)
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func TestSecretsAreNotShown(t *testing.T) {
	const secret = "correct-horse-battery"
	results := `[{"Checkname":"c.` + secret + `","Outcome":"PASSED","Note":"used ` + secret + `","Data":{"` + secret + `":["` + secret + `"]}}]`
	for name, steps := range map[string][]assay.Step{
		"printed":            {shell("a", `echo "it is $TOKEN"; echo "$TOKEN" >&2`)},
		"in two writes":      {shell("a", `printf %s "${TOKEN%-*}"; echo "-${TOKEN##*-}"`)},
		"over two lines":     {shell("a", `echo "$TOKEN" | fold -w 5`)},
		"in base64":          {shell("a", `printf 'user:%s' "$TOKEN" | base64 -w 20`)},
		"as the last words":  {shell("a", `echo "bad token $TOKEN" >&2; exit 1`)},
		"in a long line":     {shell("a", `head -c 985 /dev/zero | tr '\0' x; echo "$TOKEN"; exit 1`)},
		"over the log's cut": {shell("a", `head -c 65525 /dev/zero | tr '\0' x; echo "$TOKEN"`)},
		"in the message":     {action("a", assay.Action{Message: "token " + secret})},
		"as a reason":        {action("a", assay.Action{Fail: "token " + secret})},
		"as a command":       {shell("a", "true "+secret)},
		"as a result":        {report(results)},
		"as a file's name":   {shell("a", `echo x > "$TEST_ARTIFACTS/$TOKEN"`)},
		"as a file":          {action("a", assay.Action{Results: &assay.ResultsSource{File: "/no/" + secret}})},
		"from a turn": {action("a", assay.Action{Turn: &assay.Turn{Make: func([]byte) (assay.Turned, error) {
			return assay.Turned{Message: "made of " + secret, Results: results}, nil
		}}})},
	} {
		_, all := runJob(t, runner.Job{Secrets: map[string]string{"TOKEN": secret}}, steps...)
		squeezed := strings.NewReplacer("\n", "", " ", "", "\\", "").Replace(all)
		if strings.Contains(squeezed, secret) || strings.Contains(all, "correct-horse") || strings.Contains(all, "battery") || strings.Contains(all, "Y29ycmVjdC1ob3JzZS1") {
			t.Errorf("%s:\n%s", name, all)
		}
		if !strings.Contains(all, "***") {
			t.Errorf("%s: nothing is hidden:\n%s", name, all)
		}
	}
}

func TestWhatACheckNeedsIsBroughtIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "build", "rpm"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "build", "rpm", "a.rpm"), []byte("made"), 0o600); err != nil {
		t.Fatal(err)
	}
	use := assay.Step{Name: "use", Directive: "shell", Resolve: func(v assay.Vars) (assay.Action, error) {
		return assay.Action{Commands: []assay.Command{{Shell: fmt.Sprintf(`grep made %s/build/rpm/a.rpm && test "$ASSAY_NEEDS" = %s`, v[assay.VarNeeds], v[assay.VarNeeds])}}}, nil
	}}
	if c, all := runJob(t, runner.Job{Trees: map[string]string{assay.VarNeeds: dir}}, use); c.Verdict != assay.VerdictPassed {
		t.Error(all)
	}
	empty := shell("nothing", `test -d "$ASSAY_NEEDS" && test -z "$(ls "$ASSAY_NEEDS")"`)
	if c, all := runJob(t, runner.Job{}, empty); c.Verdict != assay.VerdictPassed {
		t.Error(all)
	}
}

package checks

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
)

var update = flag.Bool("update", false, "re-record the expectations in fixtures/formulas")

const corpus = "../fixtures/formulas"

// TestCorpus reads every formula of the corpus. What comes of NAME.yml is in
// NAME.plan.json, or in NAME.err when it has a mistake or cannot be planned or
// resolved. NAME.vars.json, if it is there, changes the variables of the run;
// null takes one away.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob(corpus + "/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("cannot find the corpus: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".yml")
		t.Run(filepath.Base(name), func(t *testing.T) {
			plan, failed := outcome(t, name)
			expect(t, name+".plan.json", plan)
			expect(t, name+".err", failed)
			if strings.HasPrefix(filepath.Base(name), "bad-") != (failed != nil) {
				t.Errorf("a case named bad-… must fail, and no other: %s", failed)
			}
		})
	}
}

// outcome is what a formula of the corpus comes to: a plan, or an error's text.
func outcome(t *testing.T, name string) (plan, failed []byte) {
	data, err := os.ReadFile(name + ".yml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(filepath.Base(name)+".yml", data)
	if err != nil {
		var ms Mistakes
		if !errors.As(err, &ms) || f != nil {
			t.Errorf("Parse: formula %v with error %T", f, err)
		}
		return nil, []byte(err.Error() + "\n")
	}
	plan, err = record(f, corpusVars(t, name))
	if err != nil {
		return nil, []byte(err.Error() + "\n")
	}
	return plan, nil
}

// expect compares with a recorded file; nil expects that there is none.
func expect(t *testing.T, file string, got []byte) {
	t.Helper()
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	if !*update {
		t.Errorf("%s differs (go test -run TestCorpus -update re-records it)\n--- got\n%s\n--- want\n%s", file, got, want)
	} else if got == nil {
		err = os.Remove(file)
	} else {
		err = os.WriteFile(file, got, 0o644)
	}
	if *update && err != nil {
		t.Fatal(err)
	}
}

// runVars are the variables that a runner gives.
func runVars() assay.Vars {
	return assay.Vars{
		"item": "gzip-1.13-3.fc42", "type": "koji_build", "arch": "x86_64", "package": "rpms/gzip",
		"uuid": "0b6ff1a2-3a44-4a26-a1c7-9c6f0f5f3f10", "workdir": "/run/check", "artifactsdir": "/run/artifacts",
		"sources": "/run/sources", "builds": "/run/builds", "assaydir": "/run/assay",
	}
}

func corpusVars(t *testing.T, name string) assay.Vars {
	vars := runVars()
	data, err := os.ReadFile(name + ".vars.json")
	if errors.Is(err, fs.ErrNotExist) {
		return vars
	}
	if err == nil {
		err = json.Unmarshal(data, &vars)
	}
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(vars, func(_ string, v any) bool { return v == nil })
	return vars
}

// The shapes of a recorded plan.
type (
	recorded struct {
		Check       string
		Path        string
		Desc        string
		Maintainer  string
		Wants       []string
		Environment Environment
		Timeout     string
		Optional    bool      `json:",omitempty"`
		On          *On       `json:",omitempty"`
		Matrix      []Variant `json:",omitempty"`
		Needs       []string  `json:",omitempty"`
		Retries     *int      `json:",omitempty"`
		Secrets     []string  `json:",omitempty"`
		Steps       []recordedStep
	}
	recordedStep struct {
		Name, Directive, Position string
		Export                    string               `json:",omitempty"`
		Timeout                   string               `json:",omitempty"`
		If                        assay.Condition      `json:",omitempty"`
		Dir                       string               `json:",omitempty"`
		Env                       []string             `json:",omitempty"`
		Message                   string               `json:",omitempty"`
		Fail                      string               `json:",omitempty"`
		Commands                  []recordedCommand    `json:",omitempty"`
		Value                     string               `json:",omitempty"`
		Files                     map[string]string    `json:",omitempty"`
		Results                   *assay.ResultsSource `json:",omitempty"`
		Fetch                     *assay.Fetch         `json:",omitempty"`
		Turn                      *recordedTurn        `json:",omitempty"`
		Exit                      int                  `json:",omitempty"`
	}
	// recordedTurn is what a Turn makes of an empty file.
	recordedTurn struct {
		File  string        `json:",omitempty"`
		Made  *assay.Turned `json:",omitempty"`
		Error string        `json:",omitempty"`
	}
	recordedCommand struct {
		Shell      string   `json:",omitempty"`
		Argv       []string `json:",omitempty"`
		Stdin      string   `json:",omitempty"`
		IgnoreExit bool     `json:",omitempty"`
	}
)

// record plans and resolves a formula; what a step exports is "value of NAME"
// unless vars say otherwise.
func record(f *Formula, vars assay.Vars) ([]byte, error) {
	plan, err := f.Plan(vars)
	if err != nil {
		return nil, err
	}
	r := recorded{Check: plan.Check, Path: f.Path, Desc: f.Desc, Maintainer: f.Maintainer, Environment: f.Environment, Timeout: plan.Timeout.String(), Optional: f.Optional}
	recordHead(&r, f)
	for _, typ := range itemTypes() {
		if f.Wants(typ) {
			r.Wants = append(r.Wants, typ)
		}
	}
	for _, step := range plan.Steps {
		act, err := step.Resolve(vars)
		if err != nil {
			return nil, err
		}
		r.Steps = append(r.Steps, recordStep(step, act))
		if _, ok := vars[step.Export]; step.Export != "" && !ok {
			vars[step.Export] = "value of " + step.Export
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err = enc.Encode(r)
	return b.Bytes(), err
}

// recordHead records what the formula says before its actions and what older
// formulas did not say.
func recordHead(r *recorded, f *Formula) {
	r.Matrix, r.Needs, r.Retries, r.Secrets = f.Matrix, f.Needs, f.Retries, f.Secrets
	if on := f.On; len(on.Events)+len(on.Types)+len(on.Branches)+len(on.Paths) > 0 {
		r.On = &on
	}
}

// ownTime is a step's own timeout, "" for none.
func ownTime(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// recordTurn makes what a Turn makes of nothing.
func recordTurn(turn *assay.Turn) *recordedTurn {
	if turn == nil {
		return nil
	}
	r := &recordedTurn{File: turn.File}
	made, err := turn.Make(nil)
	if err != nil {
		r.Error = err.Error()
	} else {
		r.Made = &made
	}
	return r
}

func recordStep(step assay.Step, act assay.Action) recordedStep {
	r := recordedStep{
		Name: step.Name, Directive: step.Directive, Position: step.Position, Export: step.Export, Timeout: ownTime(step.Timeout),
		If: step.If, Dir: act.Dir, Env: act.Env, Fetch: act.Fetch, Turn: recordTurn(act.Turn), Exit: act.Exit,
		Message: act.Message, Fail: act.Fail, Value: act.Value, Results: act.Results,
	}
	for _, c := range act.Commands {
		r.Commands = append(r.Commands, recordedCommand{Shell: c.Shell, Argv: c.Argv, Stdin: string(c.Stdin), IgnoreExit: c.IgnoreExit})
	}
	for name, content := range act.Files {
		if r.Files == nil {
			r.Files = make(map[string]string)
		}
		if r.Files[name] = string(content); name == shimName || name == renderName {
			r.Files[name] = "(the shim)"
		}
	}
	return r
}

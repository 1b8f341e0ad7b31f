package runnertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/runner"
)

// Formulas is a corpus that every kind of machine runs in the same way: pairs of
// NAME.yml and NAME.expect.json in one directory. What lies in NAME/ comes beside
// the formula. The rooms that read formulas and results give their part.
type Formulas struct {
	Dir string
	// Plan makes a formula ready for an execution, whose variables it returns too.
	Plan         func(file string, data []byte, e assay.Execution) (assay.Plan, assay.Vars, error)
	ParseResults func([]byte) ([]assay.Result, error)
	// Parallel runs that many at the same time; 1 for 0.
	Parallel int
}

// Expected is what must come of a formula on every machine.
type Expected struct {
	Verdict   assay.Verdict     `json:"verdict"`
	Reason    string            `json:"reason"`
	Steps     []string          `json:"steps"` // "1 NAME: OUTCOME", without those around the formula's
	Results   []ExpectedResult  `json:"results"`
	Artifacts map[string]string `json:"artifacts"` // by path: text, or size and sum of what is long
	Log       []string          `json:"log"`       // without times; see maskLog
}

// ExpectedResult is one result.
type ExpectedResult struct {
	Checkname string              `json:"checkname"`
	Outcome   assay.Outcome       `json:"outcome"`
	Item      string              `json:"item"`
	Type      string              `json:"type"`
	Note      string              `json:"note,omitempty"`
	Artifact  string              `json:"artifact,omitempty"`
	Data      map[string][]string `json:"data,omitempty"`
}

// limits are small, so that what goes beyond them is quick.
func limits() runner.Limits {
	return runner.Limits{
		Time: time.Minute, Boot: deadline, Log: 1 << 20, Value: 64 << 10,
		Artifacts: runner.ArchiveLimits{Bytes: 1 << 20, Files: 50},
	}
}

// RunFormulas runs the corpus on one kind of machine, each formula on a machine of
// its own. With -update, on the test's command line, it writes down what came of
// each formula instead of comparing.
func RunFormulas(t *testing.T, machines runner.Machines, corpus Formulas) {
	files, err := filepath.Glob(filepath.Join(corpus.Dir, "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no formulas in %s: %v", corpus.Dir, err)
	}
	turns := make(chan struct{}, max(1, corpus.Parallel))
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		t.Run(name, func(t *testing.T) {
			if corpus.Parallel > 1 {
				t.Parallel()
			}
			turns <- struct{}{}
			defer func() { <-turns }()
			got := corpus.run(t, machines, file)
			compare(t, strings.TrimSuffix(file, ".yml")+".expect.json", got)
		})
	}
}

// run runs one formula and tells what came of it.
func (c Formulas) run(t *testing.T, machines runner.Machines, file string) Expected {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e := assay.Execution{
		ID: "0198c0de-0000-7000-8000-000000000001", Attempt: 1, Package: "rpms/hello",
		Item: "hello-1.0-1", Type: assay.TypeBuild, Arch: "noarch",
	}
	plan, vars, err := c.Plan(filepath.Base(file), data, e)
	if err != nil {
		t.Fatal(err)
	}
	e.Check = plan.Check
	trees, err := runner.MakeDirs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	beside := strings.TrimSuffix(file, ".yml")
	if info, err := os.Stat(beside); err == nil && info.IsDir() {
		trees[assay.VarWorkdir] = beside
	}
	var log bytes.Buffer
	var steps []string
	place := &placed{Machines: machines}
	r := &runner.Runner{Machines: place, Limits: limits(), ParseResults: c.ParseResults}
	artifacts := t.TempDir()
	conclusion, err := r.Run(t.Context(), runner.Job{
		Execution: e, Plan: plan, Spec: runner.Spec{Execution: e.ID}, Vars: vars, Trees: trees, Log: &log, Artifacts: artifacts,
		Step: func(_ context.Context, run assay.StepRun) error {
			if run.Number > 0 && !run.Finished.IsZero() {
				steps = append(steps, fmt.Sprintf("%d %s: %s", run.Number, run.Name, run.Outcome))
			}
			return nil
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log.Bytes())
	}
	mask := strings.NewReplacer(place.dir, "${dir}")
	return Expected{
		Verdict: conclusion.Verdict, Reason: mask.Replace(conclusion.Reason), Steps: steps,
		Results: expectedResults(conclusion.Results, mask), Artifacts: expectedFiles(t, artifacts, conclusion.Artifacts, mask),
		Log: maskLog(log.String(), mask),
	}
}

// placed are machines that tell the directory of the newest one.
type placed struct {
	runner.Machines
	dir string
}

func (p *placed) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	m, err := p.Machines.Boot(ctx, spec)
	if err == nil {
		p.dir = m.Dir()
	}
	return m, err
}

func expectedResults(results []assay.Result, mask *strings.Replacer) []ExpectedResult {
	list := []ExpectedResult{}
	for _, r := range results {
		list = append(list, ExpectedResult{
			Checkname: r.Checkname, Outcome: r.Outcome, Item: r.Item, Type: r.Type,
			Note: mask.Replace(r.Note), Artifact: r.Artifact, Data: r.Data,
		})
	}
	return list
}

// longFile is when a file of artifacts is told by its size and sum.
const longFile = 2000

func expectedFiles(t *testing.T, dir string, files []assay.Artifact, mask *strings.Replacer) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Path] = mask.Replace(string(data))
		if len(data) > longFile {
			all[f.Path] = fmt.Sprintf("%d bytes, SHA-256 %x", len(data), sha256.Sum256(data))
		}
	}
	return all
}

// Times and durations of a log, and what only some machines say of how they come up.
var (
	logTime  = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z `)
	logTook  = regexp.MustCompile(`\((\d+(\.\d+)?(h|m|s|ms|µs|ns))+\)$`)
	logComes = regexp.MustCompile(`^0 run boot: (image|template|no fork|booting|the machine did not take)`)
)

// maskLog is a log without times. A command's two streams come by two ways, so
// that only the order within each counts: of lines that follow each other, those
// of standard output are put first. Of long outputs ends and number are told.
func maskLog(log string, mask *strings.Replacer) []string {
	var lines, out, errs []string
	flush := func() {
		lines = append(lines, shorten(out)...)
		lines = append(lines, shorten(errs)...)
		out, errs = nil, nil
	}
	for line := range strings.Lines(logTime.ReplaceAllString(log, "")) {
		line = strings.ToValidUTF8(line, "\uFFFD") // as JSON has it
		line = mask.Replace(logTook.ReplaceAllString(strings.TrimSuffix(line, "\n"), "(T)"))
		_, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(rest, runner.StreamOut+" "):
			out = append(out, line)
		case strings.HasPrefix(rest, runner.StreamErr+" "):
			errs = append(errs, line)
		case logComes.MatchString(line):
		default:
			flush()
			lines = append(lines, line)
		}
	}
	flush()
	return lines
}

// shorten keeps the ends of many lines, and of long ones.
func shorten(lines []string) []string {
	const ends = 3
	if len(lines) > 40 {
		sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
		middle := fmt.Sprintf("[%d lines, SHA-256 of all %x]", len(lines)-2*ends, sum)
		lines = slices.Concat(lines[:ends], []string{middle}, lines[len(lines)-ends:])
	}
	for i, line := range lines {
		if len(line) > longFile {
			lines[i] = fmt.Sprintf("%s… [%d bytes, SHA-256 %x]", line[:100], len(line), sha256.Sum256([]byte(line)))
		}
	}
	return lines
}

// compare holds what came against the file, or writes it with -update.
func compare(t *testing.T, file string, got Expected) {
	t.Helper()
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(file, encode(t, got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run the test with -update on local machines, and read what it writes", err)
	}
	var want Expected
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&want); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	// Both through JSON: an empty list and none are the same there.
	if diff := cmp.Diff(string(encode(t, want)), string(encode(t, got))); diff != "" {
		t.Errorf("%s (-want +got):\n%s", filepath.Base(file), diff)
	}
}

func encode(t *testing.T, e Expected) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(e); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

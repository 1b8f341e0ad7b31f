package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
)

// session is what all executions of one assay run share.
type session struct {
	*env
	options  runOptions
	cfg      config.Config
	machines runner.Machines
	fetcher  runner.Fetcher
	close    func() error
	log      zerolog.Logger   // of what is done, with --debug
	many     bool             // more than one execution
	ended    map[string]ended // what has run, by the errand's id
}

// openSession opens the machines that the flags ask for.
func openSession(ctx context.Context, e *env, o runOptions) (*session, error) {
	s := &session{env: e, options: o, cfg: config.Default()}
	level := zerolog.WarnLevel
	if o.debug {
		level = zerolog.DebugLevel
	}
	log, err := newLogger(e.err, level.String(), "text")
	if err != nil {
		return nil, err
	}
	if s.fetcher, err = userFetcher(s.cfg); err != nil {
		return nil, err
	}
	if s.machines, s.close, err = runMachines(ctx, s.cfg, log, o); err != nil {
		return nil, err
	}
	s.log = log
	return s, nil
}

// attempt is one execution of a session with its outcome.
type attempt struct {
	errand
	execution  assay.Execution
	vars       assay.Vars
	steps      []assay.StepRun
	conclusion assay.Conclusion
	artifacts  string
	results    string // directory of --results-dir, "" for none
	unmet      bool   // it was not run, because what it needs did not pass
}

// sayUnwanted tells of a check that is not for the item.
func sayUnwanted(e *env, f *checks.Formula, o runOptions) {
	fmt.Fprintf(e.err, "assay: %s does not want a %s, but %s: skipped\n", f.Checkname(), o.typ, strings.Join(f.Args, ", "))
}

// runOne runs one formula and says how it went.
func (s *session) runOne(ctx context.Context, it errand) (assay.Conclusion, error) {
	o := s.options
	for variable, dir := range map[string]string{assay.VarSources: o.sources, assay.VarBuilds: o.builds} {
		if it.formula.Uses(variable) && dir == "" {
			return assay.Conclusion{}, &exitError{exitUsage, fmt.Errorf("cannot run %s: it uses ${%s}: give the directory with --%s DIR", it.formula.Checkname(), variable, variable)}
		}
	}
	if c, met, idle := s.unmet(it); !met {
		return s.skip(it, c, idle)
	}
	a := s.newAttempt(it)
	plan, err := it.formula.Plan(a.vars)
	if err != nil {
		return assay.Conclusion{}, &exitError{exitUsage, err}
	}
	needs, remove, err := s.bringNeeds(it)
	if err != nil {
		return assay.Conclusion{}, &exitError{exitErrored, err}
	}
	c, err := s.execute(ctx, a, plan, map[string]string{
		assay.VarWorkdir: it.dir, assay.VarSources: o.sources, assay.VarBuilds: o.builds, assay.VarNeeds: needs,
	})
	s.remember(a)
	return c, errors.Join(err, remove())
}

// newAttempt names an execution. A machine is found by its UUID; what --uuid gives
// may be any name.
func (s *session) newAttempt(it errand) *attempt {
	id := s.options.uuid
	if _, err := uuid.Parse(id); err != nil {
		id = uuid.Must(uuid.NewV7()).String()
	}
	a := &attempt{errand: it, execution: assay.Execution{
		ID: id, Check: it.formula.Checkname(), Package: it.formula.Name, Variant: it.variant.Name,
		Item: s.options.item, Type: s.options.typ, Arch: cmp.Or(it.variant.Arch, s.options.arch), Attempt: 1,
	}}
	a.vars = itemVars(a.execution)
	delete(a.vars, "") // the item's variable, when there is no item
	maps.Copy(a.vars, it.vars)
	if s.options.uuid != "" {
		a.vars[assay.VarUUID] = s.options.uuid
	}
	if name, ok := a.vars[assay.VarPackage].(string); ok {
		a.execution.Package = name
	}
	return a
}

// execute runs a plan with the directories of the host that it is given.
func (s *session) execute(ctx context.Context, a *attempt, plan assay.Plan, trees map[string]string) (assay.Conclusion, error) {
	o := s.options
	if err := s.makePlaces(a); err != nil {
		return assay.Conclusion{}, err
	}
	spec := s.spec(a)
	out, closeOut, err := s.view(a, plan)
	if err != nil {
		return assay.Conclusion{}, err
	}
	secrets, err := o.readSecrets(a.formula)
	if err != nil {
		return assay.Conclusion{}, &exitError{exitUsage, err}
	}
	mask, err := runner.NewMask(secrets)
	if err != nil {
		return assay.Conclusion{}, &exitError{exitUsage, err}
	}
	stays := &kept{env: s.env, execution: a.execution.ID, flag: o.keep}
	job := runner.Job{
		Execution: a.execution, Plan: plan, Spec: spec, Vars: a.vars, Trees: trees,
		Log: out, Artifacts: a.artifacts, Secrets: secrets,
		Step: func(_ context.Context, run assay.StepRun) error { return a.tell(out, run) },
		Console: func(b []byte) error {
			return os.WriteFile(filepath.Join(a.artifacts, "console.log"), b, 0o644)
		},
	}
	if o.vm {
		job.Keep = stays.take
	}
	where := &located{Machines: s.machines}
	if o.debug {
		where.Machines = traced{s.machines, s.log, mask.Text}
	}
	a.conclusion, err = newRunner(s.cfg, where, s.fetcher).Run(ctx, job)
	err = errors.Join(err, closeOut())
	if err != nil {
		return a.conclusion, errors.Join(s.interrupted(ctx, a, where, err), stays.give(), removeEmpty(a.artifacts))
	}
	s.sayKept(where)
	return a.conclusion, errors.Join(s.sayEnd(a), a.writeResults(), stays.wait(ctx))
}

// spec is the machine that an execution gets. What is not set up is named.
func (s *session) spec(a *attempt) runner.Spec {
	o := s.options
	spec, note := specOf(a.formula, a.execution, images(s.cfg), s.cfg.Machines.Image)
	if a.variant.Image != "" {
		spec.Image, note = a.variant.Image, ""
	}
	if note != "" && o.vm && o.image == "" {
		fmt.Fprintln(s.err, "assay:", note)
	}
	if o.image != "" {
		spec.Image = o.image
	}
	if spec.Arch == noarch {
		spec.Arch = ""
	}
	if !o.vm {
		sayMissing(s.env, a.formula)
	}
	return spec
}

// tell keeps an entry of the timeline, and shows it.
func (a *attempt) tell(out io.Writer, run assay.StepRun) error {
	if last := len(a.steps) - 1; last >= 0 && a.steps[last].Number == run.Number && a.steps[last].Name == run.Name {
		a.steps[last] = run
	} else {
		a.steps = append(a.steps, run)
	}
	if s, ok := out.(interface{ step(assay.StepRun) }); ok {
		s.step(run)
	}
	return nil
}

// makePlaces makes the directories for what the execution leaves.
func (s *session) makePlaces(a *attempt) (err error) {
	dir := s.options.artifacts
	if dir != "" && s.many {
		dir = filepath.Join(dir, placeName(a.errand))
	}
	if s.options.results != "" {
		a.results = s.options.results
		if s.many {
			a.results = filepath.Join(a.results, placeName(a.errand))
		}
		dir = filepath.Join(a.results, "artifacts")
	}
	a.artifacts, err = artifactsDir(dir)
	return err
}

// view is where the log goes: the steps on a terminal, plain lines elsewhere, and
// a file of --results-dir as well.
func (s *session) view(a *attempt, plan assay.Plan) (out io.Writer, closeOut func() error, err error) {
	v := &views{plain: s.out}
	if !s.options.debug { // which writes to the same terminal
		v.screen = newScreen(s.out)
	}
	if a.results != "" {
		if v.file, err = os.Create(filepath.Join(a.results, "log.txt")); err != nil {
			return nil, nil, fmt.Errorf("cannot keep the log: %w", err)
		}
	}
	if v.screen != nil {
		v.screen.begin(s.headline(a), plan)
	}
	return v, v.close, nil
}

// headline says what is run, and where.
func (s *session) headline(a *attempt) string {
	text := a.title()
	if s.options.item != "" {
		text += ": " + s.options.item + " (" + s.options.typ + ")"
	}
	switch {
	case s.options.vm:
		return text + ", in a virtual machine"
	case s.options.ssh != "":
		return text + ", on " + s.options.ssh
	}
	return text + ", on this machine"
}

// views are all who follow a log.
type views struct {
	plain  io.Writer
	screen *screen  // instead of plain; nil for none
	file   *os.File // nil for none
}

func (v *views) Write(p []byte) (int, error) {
	if v.file != nil {
		if _, err := v.file.Write(p); err != nil {
			return 0, err
		}
	}
	if v.screen != nil {
		return v.screen.Write(p)
	}
	return v.plain.Write(p)
}

func (v *views) step(run assay.StepRun) {
	if v.screen != nil {
		v.screen.step(run)
	}
}

func (v *views) close() error {
	if v.screen != nil {
		v.screen.close()
	}
	if v.file != nil {
		return v.file.Close()
	}
	return nil
}

// interrupted says what a Ctrl-C left, which is nothing, or the error of an
// attempt that ended otherwise.
func (s *session) interrupted(ctx context.Context, a *attempt, where *located, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if where.dir == "" {
		return &exitError{exitInterrupted, errors.New("stopped: interrupted: no machine was up")}
	}
	what := "the machine is destroyed"
	if !s.options.vm {
		what = "the check's directory is removed"
	}
	for _, run := range a.steps {
		if run.Name == "destroy" && run.Number == 0 && !run.Finished.IsZero() && run.Outcome != "ok" {
			what = "the machine could not be given back, as the log says"
		}
	}
	if s.options.keep.on && !s.options.vm {
		what = "the check's directory stays: " + s.place(where)
	}
	return &exitError{exitInterrupted, fmt.Errorf("stopped: interrupted: %s", what)}
}

// exitInterrupted is what a shell gives a program that SIGINT ended.
const exitInterrupted = 128 + 2

func (s *session) sayEnd(a *attempt) error {
	for _, r := range a.conclusion.Results {
		fmt.Fprintf(s.err, "%-7s %s %s\n", r.Outcome, r.Checkname, r.Note)
	}
	fmt.Fprintf(s.err, "%s: %s: %s\n", a.title(), a.conclusion.Verdict, a.conclusion.Reason)
	if a.results != "" {
		fmt.Fprintf(s.err, "results: %s\n", a.results)
		return nil
	}
	left, err := os.ReadDir(a.artifacts)
	if err == nil && len(left) > 0 {
		fmt.Fprintf(s.err, "artifacts: %s\n", a.artifacts)
	}
	return removeEmpty(a.artifacts)
}

// artifactsDir is the given directory, made if need be, or a new one.
func artifactsDir(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "assay-artifacts-")
		if err != nil {
			return "", fmt.Errorf("cannot make a directory for artifacts: %w", err)
		}
		return made, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the artifacts' directory: %w", err)
	}
	return filepath.Abs(dir)
}

// removeEmpty removes a directory that nothing was put into.
func removeEmpty(dir string) error {
	if left, err := os.ReadDir(dir); err == nil && len(left) == 0 {
		return os.Remove(dir)
	}
	return nil
}

// took is how long an execution took, by its timeline.
func (a *attempt) took() time.Duration {
	if len(a.steps) == 0 {
		return 0
	}
	return a.steps[len(a.steps)-1].Finished.Sub(a.steps[0].Started)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/image"
	"github.com/assay-ci/assay/runner/local"
)

// executor makes one attempt at an execution for a worker: it brings together
// what the rooms offer.
type executor struct {
	repos   *repo.Cache
	files   *results.Files
	builds  *fetch.Client
	runner  *runner.Runner
	holder  *runner.Holder
	scratch string // emptied at start: a killed attempt's directory lies here
	limits  config.Limits
	images  image.Store
	image   string // for formulas that name none, and items that tell no release
	secrets secrets
	// networks tells whether a check repository's formulas may have a network.
	networks func(checksRepo string) bool
}

// buildLimit bounds what one execution downloads, in bytes.
const buildLimit = 4 << 30

func newExecutor(cfg config.Config, repos *repo.Cache, files *results.Files, machines runner.Machines, holder *runner.Holder) (*executor, error) {
	scratch := filepath.Join(cfg.Data, "scratch")
	if err := errors.Join(local.Remove(scratch), os.MkdirAll(scratch, 0o700)); err != nil {
		return nil, fmt.Errorf("cannot empty the scratch directory: %w: remove %s by hand", err, scratch)
	}
	known, err := readCheckSecrets(cfg)
	if err != nil {
		return nil, err
	}
	fetcher, err := newFetcher(cfg, scratch)
	if err != nil {
		return nil, err
	}
	return &executor{
		repos: repos, files: files, scratch: scratch, image: cfg.Machines.Image,
		builds: newBuildClient(cfg.Builds.From, downloadCache(cfg), scratch),
		runner: newRunner(cfg, machines, fetcher),
		holder: holder, images: images(cfg), limits: cfg.Limits, secrets: known,
		networks: func(address string) bool {
			p, ok := packagesOf(cfg).ByChecks(address)
			return ok && p.Network
		},
	}, nil
}

func newRunner(cfg config.Config, machines runner.Machines, fetcher runner.Fetcher) *runner.Runner {
	limits := runner.Limits{Time: cfg.Limits.Time, Boot: cfg.Limits.Boot, Setup: cfg.Limits.Setup, Log: int64(cfg.Limits.Log)}
	if cfg.Limits.Artifacts > 0 || cfg.Limits.ArtifactFiles > 0 {
		limits.Artifacts = runner.DefaultLimits().Artifacts
		if cfg.Limits.Artifacts > 0 {
			limits.Artifacts.Bytes = int64(cfg.Limits.Artifacts)
		}
		if cfg.Limits.ArtifactFiles > 0 {
			limits.Artifacts.Files = cfg.Limits.ArtifactFiles
		}
	}
	return &runner.Runner{Machines: machines, Limits: limits, ParseResults: checks.ParseReport, Fetcher: fetcher}
}

// execute is a dispatch.Execute. Trouble of this host's own, such as a full disk,
// is a conclusion like any other: it says nothing about the check.
func (x *executor) execute(ctx context.Context, e assay.Execution, step func(context.Context, assay.StepRun) error) (assay.Conclusion, error) {
	c, err := x.attempt(ctx, e, step)
	if err == nil || ctx.Err() != nil || errors.Is(err, assay.ErrFenced) || errors.Is(err, assay.ErrFinished) {
		return c, err
	}
	return assay.Conclusion{Verdict: assay.VerdictErrored, Reason: err.Error(), Retry: true}, nil
}

func (x *executor) attempt(ctx context.Context, e assay.Execution, step func(context.Context, assay.StepRun) error) (assay.Conclusion, error) {
	dir, err := os.MkdirTemp(x.scratch, e.ID+"-")
	if err != nil {
		return assay.Conclusion{}, fmt.Errorf("cannot make the execution's directory: %w", err)
	}
	defer os.RemoveAll(dir)
	log, err := x.files.Log(e.ID, e.Attempt)
	if err != nil {
		return assay.Conclusion{}, err
	}
	defer log.Close()
	job := runner.Job{Execution: e, Log: log, Step: step, Vars: itemVars(e), Scratch: dir}
	job.Keep = func(c assay.Conclusion, m runner.Machine) bool { return x.holder.Keep(e.ID, c, m) }
	job.Console = func(b []byte) error { return x.files.SaveConsole(e.ID, e.Attempt, b) }
	formula, err := x.prepare(ctx, &job, dir)
	if ctx.Err() != nil {
		return assay.Conclusion{}, context.Cause(ctx)
	}
	if err != nil {
		runner.NewLog(log, 0, func() {}).Say(0, "%v", err)
		var mistakes checks.Mistakes
		return assay.Conclusion{
			Verdict: assay.VerdictErrored, Reason: err.Error(),
			Retry: !errors.As(err, &mistakes) && !errors.Is(err, fetch.ErrNotAllowed) && !errors.Is(err, errNotAllowed) && !errors.Is(err, errFinal),
		}, nil
	}
	var note string
	if job.Spec, note = specOf(formula, e, x.images, x.image); note != "" {
		runner.NewLog(log, 0, func() {}).Say(0, "%s", note)
	}
	return x.runner.Run(ctx, job)
}

// prepare fetches what the execution needs; its error says nothing about the
// check, unless it is checks.Mistakes.
func (x *executor) prepare(ctx context.Context, job *runner.Job, dir string) (*checks.Formula, error) {
	e := job.Execution
	var err error
	if job.Trees, err = runner.MakeDirs(dir); err != nil {
		return nil, err
	}
	if job.Artifacts, err = x.files.ArtifactsDir(e.ID, e.Attempt); err != nil {
		return nil, err
	}
	work := job.Trees[assay.VarWorkdir]
	if err := x.checkout(ctx, e, e.ChecksRepo, e.ChecksCommit, checks.RootOf(e.Path), work); err != nil {
		return nil, err
	}
	if e.SourceRepo != "" {
		if err := x.checkout(ctx, e, e.SourceRepo, e.SourceCommit, "", job.Trees[assay.VarSources]); err != nil {
			return nil, err
		}
	}
	if len(e.Needs) > 0 {
		job.Trees[assay.VarNeeds] = filepath.Join(dir, "needs")
		if err := x.bringNeeds(e, job.Trees[assay.VarNeeds]); err != nil {
			return nil, err
		}
	}
	log := runner.NewLog(job.Log, 0, func() {})
	tell := &fetch.Teller{Say: func(line string) { log.Say(0, "%s", line) }}
	if err := x.builds.All(ctx, e.Builds, job.Trees[assay.VarBuilds], tell); err != nil {
		return nil, err
	}
	formula, err := x.formula(work, e)
	if err != nil {
		return nil, err
	}
	if err := allowed(formula, x.limits, x.networks(e.ChecksRepo)); err != nil {
		return nil, err
	}
	if job.Secrets, err = x.secrets.of(formula, e); err != nil {
		return nil, err
	}
	v, ok := variantOf(formula, e)
	if !ok {
		return nil, fmt.Errorf("cannot run %s: %w: its formula has no such variant any more: run its checks anew, with /assay run", e.Label(), errFinal)
	}
	for name, value := range v.Vars {
		if name != assay.VarArch {
			job.Vars[name] = value
		}
	}
	job.Plan, err = formula.Plan(job.Vars)
	return formula, err
}

// formula reads the execution's formula in its check's directory.
func (x *executor) formula(work string, e assay.Execution) (*checks.Formula, error) {
	if e.Path == checks.ControlFile {
		return formulaAt(work, e, x.networks(e.ChecksRepo))
	}
	data, err := readFormula(work, path.Base(e.Path))
	if err != nil {
		return nil, fmt.Errorf("cannot read the formula: %w", err)
	}
	return checks.Parse(e.Path, data)
}

// readFormula reads a file of a checkout, which is a stranger's: no link leads
// out of dir, and only so much is read as tells that it is too long.
func readFormula(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, checks.MaxFormula+1))
}

// checkout writes one commit's tree; "." and "" are the whole of it. A pull
// request's commit may be on none of the repository's branches.
func (x *executor) checkout(ctx context.Context, e assay.Execution, address, commit, sub, dir string) error {
	if sub == "." {
		sub = ""
	}
	var refs []string
	if e.Target.PullRequest > 0 && e.Target.Repo == address {
		refs = append(refs, dispatch.PullRef(e.Target.PullRequest))
	}
	if err := x.repos.FetchCommit(ctx, address, commit, refs...); err != nil {
		return err
	}
	return x.repos.Checkout(ctx, address, commit, sub, dir)
}

// itemVars are the variables that come with the item.
func itemVars(e assay.Execution) assay.Vars {
	return assay.Vars{
		assay.VarItem: e.Item, assay.VarType: e.Type, e.Type: e.Item, assay.VarArch: e.Arch,
		assay.VarUUID: e.ID, assay.VarPackage: e.Package,
	}
}

// Package runner runs one check on one machine: it brings the check's files in,
// runs the formula's steps one after the other, streams the log, takes results
// and artifacts out, and gives the machine back. It knows nothing of git, the
// store or the queue; what it needs comes with the Job.
//
// The kinds of machine are the sub-packages: local, fake, libvirt, ssh. Each passes
// the one suite in runnertest.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/assay-ci/assay"
)

// Limits bounds what one execution may take. Zero fields take the default of
// DefaultLimits.
type Limits struct {
	Time      time.Duration // all steps together, when the formula sets no timeout
	Boot      time.Duration // until the machine runs commands
	Setup     time.Duration // to install the formula's environment, besides Boot
	Collect   time.Duration // to take the artifacts out
	Log       int64         // bytes of output that are kept
	Value     int64         // bytes of a step's value or results file
	Artifacts ArchiveLimits
}

// DefaultLimits are generous for a check and harmless for a host.
func DefaultLimits() Limits {
	return Limits{
		Time:      time.Hour,
		Boot:      4 * time.Minute,
		Setup:     30 * time.Minute,
		Collect:   5 * time.Minute,
		Log:       64 << 20,
		Value:     8 << 20,
		Artifacts: ArchiveLimits{Bytes: 512 << 20, Files: 10_000},
	}
}

// or fills the zero fields of l from d.
func (l Limits) or(d Limits) Limits {
	pick := func(v, def time.Duration) time.Duration {
		if v > 0 {
			return v
		}
		return def
	}
	l.Time, l.Boot, l.Setup = pick(l.Time, d.Time), pick(l.Boot, d.Boot), pick(l.Setup, d.Setup)
	l.Collect = pick(l.Collect, d.Collect)
	if l.Log == 0 {
		l.Log = d.Log
	}
	if l.Value == 0 {
		l.Value = d.Value
	}
	if l.Artifacts == (ArchiveLimits{}) {
		l.Artifacts = d.Artifacts
	}
	return l
}

// Runner runs jobs on one kind of machine. It holds no state: one Runner may
// run many jobs at the same time.
type Runner struct {
	Machines Machines
	Limits   Limits
	// ParseResults reads what a check reports (ResultYAML); its errors are the
	// check's mistakes.
	ParseResults func([]byte) ([]assay.Result, error)
	// Fetcher downloads what steps ask for; nil refuses them.
	Fetcher Fetcher
}

// Job is one attempt at one execution, with all that it needs.
type Job struct {
	Execution assay.Execution
	Plan      assay.Plan
	Spec      Spec
	Vars      assay.Vars        // item, type and the like; those of the machine are added
	Trees     map[string]string // host directories by the variable that names them in the machine
	Log       io.Writer         // gets the log's lines
	Artifacts string            // host directory for what the check leaves, which exists and is empty
	// Scratch is a host directory for downloads on their way into the machine; ""
	// for the system's. What a killed process left there is for its owner to remove.
	Scratch string
	// Secrets are values by the names of the variables that commands find them in.
	// They are hidden in the log, the reason and the results; artifacts are the
	// check's own. See Mask.
	Secrets map[string]string
	// Step is told of every begin and end of a step. Its error stops the attempt:
	// somebody else has taken it over, or nobody could learn how it went.
	Step func(context.Context, assay.StepRun) error
	// Console gets the machine's console when the machine died; may be nil.
	Console func([]byte) error
	// Keep is asked, once the attempt is concluded, whether it takes the machine
	// over. When it says true the machine is its own: it closes it, and Run does
	// not wait for that. It is not asked for an attempt that must not be concluded.
	// It must not block; nil keeps nothing. See Holder.
	Keep func(assay.Conclusion, Machine) bool
}

// Directories in the machine, below Machine.Dir, by the variable that names them.
var guestDirs = map[string]string{
	assay.VarWorkdir:   "check",
	assay.VarSources:   "sources",
	assay.VarBuilds:    "builds",
	assay.VarNeeds:     "needs",
	assay.VarArtifacts: "artifacts",
	assay.VarPrivate:   ".assay",
}

// consoleTail bounds how much of a dead machine's console is kept, in bytes.
const consoleTail = 256 << 10

// Run makes one attempt. Every ending is a conclusion; the error is for an
// attempt that must not be concluded at all, because ctx ended or Step refused.
func (r *Runner) Run(ctx context.Context, job Job) (assay.Conclusion, error) {
	limits := r.Limits.or(DefaultLimits())
	mask, err := NewMask(job.Secrets)
	if err != nil {
		return assay.Conclusion{Verdict: assay.VerdictErrored, Reason: err.Error()}, nil
	}
	// life ends when nobody wants the attempt any more; what only a command did,
	// such as printing too much, ends less (see steps).
	life, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := &run{
		Job:     job,
		limits:  limits,
		parse:   r.ParseResults,
		fetcher: r.Fetcher,
		stop:    cancel,
		flood:   func() {},
		vars:    assay.Vars{},
		mask:    mask,
	}
	run.log = NewLog(job.Log, limits.Log, func() { run.flood() })
	run.log.mask = mask
	for name, value := range job.Vars {
		run.vars[name] = value
	}
	if job.Plan.Skip != "" {
		run.log.Say(0, "skipped: %s", job.Plan.Skip)
		return run.skipped(), run.log.Err()
	}
	err = run.attempt(life, r.Machines)
	conclusion := mask.conclusion(run.conclude(err))
	run.leave(life, conclusion, errors.Is(err, ErrMachineDied))
	if life.Err() != nil {
		return conclusion, context.Cause(life)
	}
	if err := run.log.Err(); err != nil {
		return conclusion, fmt.Errorf("cannot write the log: %w", err)
	}
	run.log.Say(0, "%s: %s", conclusion.Verdict, conclusion.Reason)
	return conclusion, nil
}

// errFlood is the cause that ends the steps of a check that prints too much.
var errFlood = errors.New("it printed more than the log limit")

// run is one attempt on its way.
type run struct {
	Job
	limits  Limits
	parse   func([]byte) ([]assay.Result, error)
	fetcher Fetcher
	stop    context.CancelCauseFunc // ends the attempt
	flood   func()                  // ends the steps
	log     *Log
	mask    *Mask // hides Job.Secrets; nil for none
	machine Machine
	vars    assay.Vars
	results []assay.Result
	files   []assay.Artifact
	exit    int    // what the check ends with when it reports nothing
	said    string // the newest command's last words
}

// attempt boots, uploads, runs and collects. Its error says how the attempt
// ended other than well; see conclude. Leave what it used with leave.
func (r *run) attempt(ctx context.Context, machines Machines) error {
	if err := r.boot(ctx, machines); err != nil {
		return err
	}
	if err := r.phase(ctx, "upload", r.upload); err != nil {
		return &infraError{fmt.Errorf("cannot bring the check into its machine: %w", err)}
	}
	err := r.steps(ctx)
	if t, ok := r.machine.(Troubled); ok && err != nil && ctx.Err() == nil {
		if trouble := t.Trouble(); trouble != nil {
			return &infraError{fmt.Errorf("%w, so that nobody can tell why: %w", trouble, err)}
		}
	}
	if !errors.Is(err, ErrMachineDied) && ctx.Err() == nil {
		err = errors.Join(err, r.phase(ctx, "collect", r.collect))
	}
	if errors.Is(err, ErrMachineDied) {
		r.keepConsole()
	}
	return err
}

func (r *run) boot(ctx context.Context, machines Machines) error {
	return r.phase(ctx, "boot", func(ctx context.Context) error {
		// A machine of a template that is being made takes the time of both; what
		// only boots is held to its own by the kind of machine.
		ctx, cancel := context.WithTimeout(ctx, r.limits.Boot+r.limits.Setup)
		defer cancel()
		r.log.Say(0, "boot: waiting for a machine")
		spec := r.Spec
		spec.Tell = func(line string) { r.log.Say(0, "boot: %s", printable([]byte(line))) }
		m, err := machines.Boot(ctx, spec)
		var boot *BootError
		if errors.As(err, &boot) && r.Console != nil {
			err = errors.Join(err, r.Console(boot.Console), r.keepScreen(boot.Screen))
		}
		if err != nil {
			return &infraError{err}
		}
		r.machine = m
		for name, dir := range guestDirs {
			r.vars[name] = path.Join(m.Dir(), dir)
		}
		return nil
	})
}

// screenName is the artifact that shows the screen of a machine that did not come up.
const screenName = "boot-screen.png"

func (r *run) keepScreen(picture []byte) error {
	if picture == nil {
		return nil
	}
	if err := os.WriteFile(filepath.Join(r.Artifacts, screenName), picture, 0o644); err != nil {
		return fmt.Errorf("cannot keep the picture of the machine's screen: %w", err)
	}
	r.files = append(r.files, assay.Artifact{Path: screenName, Size: int64(len(picture))})
	return nil
}

// leave gives a machine that came up to whoever keeps it, or back. Whatever
// happened, one of the two is done, also when nobody could be told of it. In a
// dead machine there is nothing to look at.
func (r *run) leave(ctx context.Context, c assay.Conclusion, dead bool) {
	if r.machine == nil {
		return
	}
	if ctx.Err() == nil && r.Keep != nil && !dead && r.Keep(c, r.machine) {
		r.log.Say(0, "the machine is kept for a while: enter it with: assay vm shell %s", r.Execution.ID)
		return
	}
	r.destroy(ctx)
}

// destroy gives the machine back even when ctx has ended, and whether or not
// anybody can be told.
func (r *run) destroy(ctx context.Context) {
	entry := r.begin(assay.StepRun{Name: "destroy"})
	_ = r.report(ctx, entry) // the machine goes all the same
	err := r.machine.Close()
	if err != nil {
		r.log.Say(0, "cannot destroy the machine: %v", err)
	}
	_ = r.report(ctx, r.end(entry, err)) // and has gone
}

// upload makes the execution's directories and fills them, in one go: every
// push costs an emulated machine half a second.
func (r *run) upload(ctx context.Context) error {
	trees := map[string]string{}
	for name, dir := range guestDirs {
		trees[dir] = r.Trees[name]
	}
	return r.push(ctx, r.machine.Dir(), func(w io.Writer) error { return packTrees(w, trees) })
}

// guest is the directory in the machine that a variable names.
func (r *run) guest(variable string) string {
	return path.Join(r.machine.Dir(), guestDirs[variable])
}

func (r *run) push(ctx context.Context, dir string, pack func(io.Writer) error) error {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(pack(pw))
	}()
	err := r.machine.Push(ctx, dir, pr)
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-done
	return err
}

// collect takes the artifacts out, within the limits.
func (r *run) collect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.limits.Collect)
	defer cancel()
	pr, pw := io.Pipe()
	pulled := make(chan error, 1)
	go func() {
		err := r.machine.Pull(ctx, r.guest(assay.VarArtifacts), pw)
		pw.CloseWithError(err)
		pulled <- err
	}()
	got, err := Extract(pr, r.Artifacts, r.limits.Artifacts)
	pr.CloseWithError(io.ErrClosedPipe) // stops a Pull that has more to say
	if perr := <-pulled; errors.Is(perr, ErrMachineDied) {
		err = &crashError{"the collection of its artifacts", perr}
	}
	r.files = got.Files
	r.dropTelling(&got)
	r.sayExtracted(got)
	if err != nil && !errors.Is(err, ErrMachineDied) && !isDiskFull(err) {
		// What the guest sent is no archive: its loss, not ours.
		r.log.Say(0, "the artifacts are incomplete: %v", err)
		return nil
	}
	if isDiskFull(err) {
		return &infraError{err}
	}
	return err
}

// dropTelling removes the artifacts whose names hold a secret: names are shown.
func (r *run) dropTelling(got *Extracted) {
	r.files = slices.DeleteFunc(r.files, func(a assay.Artifact) bool {
		if r.mask.Text(a.Path) == a.Path {
			return false
		}
		got.skip(a.Path, "its name holds a secret")
		if err := os.Remove(filepath.Join(r.Artifacts, filepath.FromSlash(a.Path))); err != nil {
			r.log.Say(0, "cannot remove an artifact whose name holds a secret: %v", err)
		}
		return true
	})
	got.Files = r.files
}

func (r *run) sayExtracted(got Extracted) {
	var size int64
	for _, f := range got.Files {
		size += f.Size
	}
	if len(got.Files) > 0 {
		r.log.Say(0, "artifacts kept: %d, %s", len(got.Files), Bytes(size))
	}
	for _, s := range got.Skipped {
		r.log.Say(0, "left out %s", s)
	}
	if got.Full {
		r.log.Say(0, "left out the rest: an execution may leave %d files, %s",
			r.limits.Artifacts.Files, Bytes(r.limits.Artifacts.Bytes))
	}
}

func (r *run) keepConsole() {
	c, ok := r.machine.(Consoler)
	if !ok || r.Console == nil {
		return
	}
	data, err := c.Console(consoleTail)
	if err == nil {
		err = r.Console([]byte(r.mask.Text(string(data))))
	}
	if err != nil {
		r.log.Say(0, "cannot keep the console: %v", err)
	}
}

// phase runs one part of the attempt and tells Step and the log of it.
func (r *run) phase(ctx context.Context, name string, do func(context.Context) error) error {
	return r.tell(ctx, assay.StepRun{Name: name}, do)
}

// tell reports the begin and the end of one entry of the timeline.
func (r *run) tell(ctx context.Context, entry assay.StepRun, do func(context.Context) error) error {
	entry = r.begin(entry)
	if err := r.report(ctx, entry); err != nil {
		return err
	}
	err := do(ctx)
	if rerr := r.report(ctx, r.end(entry, err)); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

func (r *run) begin(entry assay.StepRun) assay.StepRun {
	entry.Attempt, entry.Started = r.Execution.Attempt, time.Now()
	return entry
}

// end completes an entry, and says in the log how what the runner does went.
func (r *run) end(entry assay.StepRun, err error) assay.StepRun {
	entry.Finished, entry.Outcome = time.Now(), outcomeWord(err)
	if entry.Number == 0 {
		r.log.Say(0, "%s: %s (%s)", entry.Name, entry.Outcome, entry.Finished.Sub(entry.Started).Round(time.Millisecond))
	}
	return entry
}

func (r *run) report(ctx context.Context, entry assay.StepRun) error {
	if r.Step == nil {
		return nil
	}
	// The timeline tells of the end of a stopped attempt, too.
	err := r.Step(context.WithoutCancel(ctx), entry)
	if err != nil {
		r.stop(err)
	}
	return err
}

func outcomeWord(err error) string {
	var infra *infraError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &infra):
		return "errored"
	case errors.Is(err, ErrMachineDied):
		return "crashed"
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "stopped"
	default:
		return "failed"
	}
}

// MakeDirs makes the directories that a Job needs on the host below dir and
// returns them by variable; the artifacts' directory is not among them.
func MakeDirs(dir string) (map[string]string, error) {
	trees := map[string]string{}
	for _, name := range []string{assay.VarWorkdir, assay.VarSources, assay.VarBuilds} {
		trees[name] = path.Join(dir, guestDirs[name])
		if err := os.MkdirAll(trees[name], 0o755); err != nil {
			return nil, fmt.Errorf("cannot make the execution's directory: %w", err)
		}
	}
	return trees, nil
}

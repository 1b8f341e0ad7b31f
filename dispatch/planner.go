package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// Planner turns events into executions.
type Planner struct {
	Store    PlanStore
	Repos    Repos
	Checks   func(fs.FS) ([]Check, error) // reads every formula of a check repository
	Packages Packages
	Queue    Queue
	// Asker is the forge of a repository's address, for its pull requests and
	// people; nil where there is nobody to ask.
	Asker     func(address string) Asker
	Cancelled func(execution string)       // told of each that nobody wants any more
	Page      func(kind, id string) string // address of a page: ("executions", UUID)
	Log       zerolog.Logger
	Wake      Signal // woken by the intake
	Planned   func() // told after each event: reports are owed now

	mu       sync.Mutex
	unqueued []assay.Execution // written down, but the queue did not take them yet
	at       map[string]bool   // events that are being planned
}

const (
	planTries  = 13 // then the event is given up, after about 37 minutes
	planBatch  = 100
	planPeriod = 5 * time.Second // looks for retries that are due
	// planParallel is how many events are planned at a time: a repository that
	// answers slowly holds up nobody else's first status.
	planParallel = 8
)

// Run plans events until ctx ends, and waits for those it is at.
func (p *Planner) Run(ctx context.Context) error {
	p.at = map[string]bool{}
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, planParallel)
	for ctx.Err() == nil {
		if err := p.planSome(ctx, &wg, slots); err != nil && ctx.Err() == nil {
			p.Log.Error().Err(err).Msg("cannot plan events")
		}
		p.Wake.wait(ctx, planPeriod)
	}
	return nil
}

// planSome begins to plan what is new and not being planned already.
func (p *Planner) planSome(ctx context.Context, wg *sync.WaitGroup, slots chan struct{}) error {
	if err := p.publish(ctx); err != nil {
		return err
	}
	events, err := p.Store.NewEvents(ctx, planBatch)
	if err != nil {
		return err
	}
	for _, e := range events {
		if !p.begin(e.ID) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := p.plan(ctx, e)
			p.end(e.ID)
			if err != nil && ctx.Err() == nil {
				p.Log.Error().Err(err).Str("event", e.ID).Msg("cannot plan the event")
				return // what is wrong with the store is so for the next event, too
			}
			if len(events) == planBatch {
				p.Wake.Wake() // there are more
			}
		})
	}
	return nil
}

// begin claims an event; false when it is being planned.
func (p *Planner) begin(event string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[event] {
		return false
	}
	p.at[event] = true
	return true
}

func (p *Planner) end(event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, event)
}

// plan works one event out and writes it down. Its error is the store's; what
// is wrong with the event or a repository becomes the event's note.
func (p *Planner) plan(ctx context.Context, e assay.EventRecord) error {
	out, target, err := p.work(ctx, e.Event)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	log := p.Log.With().Str("event", e.ID).Str("kind", string(e.Kind)).Logger()
	if err != nil {
		return p.failed(ctx, e, target, err)
	}
	if target.Repo != "" {
		if err := p.supersede(ctx, e.Event, target, &out); err != nil {
			return err
		}
	}
	for _, x := range out.Executions {
		out.Reports = append(out.Reports, p.firstReports(x)...)
	}
	err = p.Store.PlanEvent(ctx, e.ID, out)
	if errors.Is(err, assay.ErrFinished) {
		return nil // it was done between the listing and now
	}
	if err != nil {
		return fmt.Errorf("cannot write the plan of event %s: %w", e.ID, err)
	}
	for _, c := range out.Cancel {
		p.Cancelled(c.Execution)
	}
	level := zerolog.InfoLevel
	if out.Nothing() {
		level = zerolog.WarnLevel
	}
	log.WithLevel(level).Int("executions", len(out.Executions)).Int("cancelled", len(out.Cancel)).Str("note", out.Note).Msg("event planned")
	if len(out.Reports)+len(out.Cancel) > 0 {
		p.Planned()
	}
	p.mu.Lock()
	for _, x := range out.Executions {
		if x.State == assay.StateQueued && len(x.Needs) == 0 { // the others are the gate's
			p.unqueued = append(p.unqueued, x)
		}
	}
	p.mu.Unlock()
	return p.publish(ctx)
}

// supersede adds to a decision the end of what a newer commit makes pointless.
func (p *Planner) supersede(ctx context.Context, e assay.Event, target assay.Commit, out *assay.Decision) error {
	if e.Kind != assay.EventPush && e.Kind != assay.EventPullRequest || e.Commit == "" {
		return nil
	}
	old, err := p.Store.Superseded(ctx, e)
	if err != nil || len(old) == 0 {
		return err
	}
	if newest, err := p.newest(ctx, e, target); err != nil || !newest {
		p.Log.Info().Err(err).Str("event", e.ID).Msg("older executions go on: the event's commit is not known to be the newest")
		return nil
	}
	out.Cancel = append(out.Cancel, p.cancel(old, fmt.Sprintf("commit %.12s is newer", e.Commit))...)
	return nil
}

// newest tells whether an event's commit is where its branch or pull request is
// now. Events come out of order, are recovered days later, and are replayed.
func (p *Planner) newest(ctx context.Context, e assay.Event, target assay.Commit) (bool, error) {
	if e.Kind == assay.EventPullRequest {
		asker := p.asker(target.Repo)
		if asker == nil {
			return e.Origin == assay.OriginDelivered, nil
		}
		pull, err := asker.PullRequest(ctx, target.Repo, e.PullRequest)
		return pull.Head == e.Commit, err
	}
	branch := strings.TrimPrefix(e.Ref, "refs/heads/")
	at, head, err := p.Repos.Resolve(ctx, target.Repo, []string{branch})
	return at == branch && head == e.Commit, err
}

// cancel ends executions with a reason, which their statuses give.
func (p *Planner) cancel(list []assay.Execution, reason string) []assay.Cancellation {
	var out []assay.Cancellation
	for _, x := range list {
		x.State, x.Verdict, x.Reason = assay.StateFinished, assay.VerdictCancelled, reason
		reports := FinalReports(x, p.Page)
		if x.Target.PullRequest > 0 { // whose one comment is about what comes now
			reports = slices.DeleteFunc(reports, func(r assay.Report) bool { return r.Kind == assay.ReportComment })
		}
		out = append(out, assay.Cancellation{Execution: x.ID, Reason: reason, Reports: reports})
	}
	return out
}

// publish hands executions to the queue, in order. What it does not take stays
// for the next round; after a restart the queue is filled from the store.
func (p *Planner) publish(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.unqueued) > 0 {
		x := p.unqueued[0]
		if err := p.Queue.Publish(ctx, x); err != nil {
			return fmt.Errorf("cannot queue execution %s: %w", x.ID, err)
		}
		p.unqueued = p.unqueued[1:]
		p.Log.Info().Str("event", x.EventID).Str("execution", x.ID).
			Str("package", x.Package).Str("check", x.Check).Msg("execution queued")
	}
	return nil
}

// failed retries an event later, or gives it up and says so on its commit.
func (p *Planner) failed(ctx context.Context, e assay.EventRecord, target assay.Commit, err error) error {
	tries := e.Tries + 1
	p.Log.Warn().Str("event", e.ID).Int("try", tries).Err(err).Msg("cannot plan the event")
	if tries < planTries {
		return p.Store.EventTried(ctx, e.ID, err.Error(), time.Now().Add(backoff(tries, time.Second, 10*time.Minute)))
	}
	var reports []assay.Report
	if target.Repo != "" && target.SHA != "" {
		reports = append(reports, assay.Report{Kind: assay.ReportStatus, Commit: target, Status: assay.Status{
			Context: WholeContext, State: assay.StatusError,
			Description: oneLine(err.Error()), URL: p.Page("events", e.ID),
		}})
	}
	defer p.Planned()
	return p.Store.FailEvent(ctx, e.ID, err.Error(), reports)
}

// work decides what one event calls for, and on which commit it reports.
func (p *Planner) work(ctx context.Context, e assay.Event) (assay.Decision, assay.Commit, error) {
	switch e.Kind {
	case assay.EventBuild:
		return p.build(ctx, e)
	case assay.EventComment:
		return p.comment(ctx, e)
	case assay.EventRerun:
		return p.rerun(ctx, e)
	case assay.EventPush, assay.EventPullRequest:
		if pkg, ok := p.Packages.ByChecks(e.Repo); ok {
			return p.checkChange(ctx, e, pkg)
		}
		if pkg, ok := p.Packages.BySource(e.Repo); ok {
			return p.sourceChange(ctx, e, pkg)
		}
		return assay.Decision{Note: noPackage(e.Repo)}, assay.Commit{}, nil
	}
	return assay.Decision{Note: fmt.Sprintf("nothing is done about a %s", e.Kind)}, assay.Commit{}, nil
}

// build runs every check of the package that wants builds.
func (p *Planner) build(ctx context.Context, e assay.Event) (assay.Decision, assay.Commit, error) {
	pkg, ok := p.Packages.ByName(e.Build.Package)
	if !ok {
		return assay.Decision{Note: fmt.Sprintf("no check repository is known for %s: add it under packages in the configuration", e.Build.Package)}, assay.Commit{}, nil
	}
	target := assay.Commit{}
	if pkg.Source != "" && e.Commit != "" {
		target = assay.Commit{Repo: pkg.Source, SHA: e.Commit}
	}
	out, err := p.onBranch(ctx, e, pkg, buildItem(e), target)
	return out, target, err
}

// sourceChange runs the checks that look at the package's source.
func (p *Planner) sourceChange(ctx context.Context, e assay.Event, pkg assay.Package) (assay.Decision, assay.Commit, error) {
	target := assay.Commit{Repo: pkg.Source, SHA: e.Commit, PullRequest: e.PullRequest}
	it := commitItem(pkg.Name, e.Commit)
	if e.Kind == assay.EventPullRequest {
		if !e.Trusted {
			return assay.Decision{Note: outsider}, target, nil
		}
		it.name, it.typ = fmt.Sprintf("%s/pull/%d", Canonical(pkg.Source), e.PullRequest), assay.TypePullRequest
	}
	out, err := p.onBranch(ctx, e, pkg, it, target)
	return out, target, err
}

const outsider = "the pull request's author may not write to the repository, and nobody who may has approved it"

// onBranch runs what the check branch for the event holds.
func (p *Planner) onBranch(ctx context.Context, e assay.Event, pkg assay.Package, it item, target assay.Commit) (assay.Decision, error) {
	branch, commit, err := p.Repos.Resolve(ctx, pkg.Checks, branches(e, pkg))
	if err != nil {
		return assay.Decision{}, err
	}
	checks, err := p.checksAt(ctx, pkg.Checks, commit)
	if err != nil {
		return assay.Decision{}, err
	}
	wanted, refused := p.wanted(ctx, e, pkg, it, checks)
	var out assay.Decision
	for _, c := range wanted {
		for _, x := range p.variants(e, pkg, c, it, target) {
			x.ChecksBranch, x.ChecksCommit = branch, commit
			out.Executions = append(out.Executions, x)
		}
	}
	Link(out.Executions, wanted)
	if len(out.Executions) == 0 {
		out.Note = fmt.Sprintf("none of the %d checks of %s on branch %s wants a %s", len(checks), pkg.Name, branch, it.typ)
	} else if len(refused) > 0 {
		out.Note = "some checks do not want it"
	}
	if len(refused) > 0 {
		out.Note = oneLineOf(out.Note+": "+strings.Join(refused, "; "), maxNote)
	}
	return out, nil
}

func (p *Planner) checksAt(ctx context.Context, address, commit string) ([]Check, error) {
	tree, err := p.Repos.Tree(ctx, address, commit)
	if err != nil {
		return nil, err
	}
	return p.Checks(tree)
}

// checkChange tries the checks that a push to a check repository changed: on
// the package's latest known build, else on the head of its own repository.
func (p *Planner) checkChange(ctx context.Context, e assay.Event, pkg assay.Package) (assay.Decision, assay.Commit, error) {
	target := assay.Commit{Repo: pkg.Checks, SHA: e.Commit, PullRequest: e.PullRequest}
	ref := e.Ref
	if e.Kind == assay.EventPullRequest {
		if !e.Trusted {
			return assay.Decision{Note: outsider}, target, nil
		}
		ref = PullRef(e.PullRequest)
	}
	if err := p.Repos.FetchCommit(ctx, pkg.Checks, e.Commit, ref); err != nil {
		return assay.Decision{}, target, err
	}
	checks, err := p.checksAt(ctx, pkg.Checks, e.Commit)
	if err != nil {
		return assay.Decision{}, target, err
	}
	changed, err := p.Repos.ChangedPaths(ctx, pkg.Checks, e.Before, e.Commit)
	if err != nil {
		return assay.Decision{}, target, err
	}
	it, known, err := p.trialItem(ctx, pkg)
	if err != nil {
		return assay.Decision{}, target, err
	}
	var out assay.Decision
	tried := withNeeded(checks, func(c Check) bool { return touches(changed, c.Dir) })
	for _, c := range tried {
		out.Executions = append(out.Executions, p.trial(e, pkg, c, it, known, target)...)
	}
	Link(out.Executions, tried)
	if len(out.Executions) == 0 {
		out.Note = fmt.Sprintf("none of the %d checks changed", len(checks))
	}
	return out, target, nil
}

// PullRef is where GitHub keeps the head of a pull request.
func PullRef(number int) string { return fmt.Sprintf("refs/pull/%d/head", number) }

// trialItem is what a changed check is tried on; known is false when the
// package has neither a build nor a repository.
func (p *Planner) trialItem(ctx context.Context, pkg assay.Package) (it item, known bool, err error) {
	build, err := p.Store.LatestBuild(ctx, pkg.Name)
	if err == nil {
		return buildItem(build), true, nil
	}
	if !errors.Is(err, assay.ErrNotFound) {
		return item{}, false, err
	}
	if pkg.Source == "" {
		return item{name: pkg.Name, typ: assay.TypeBuild, arch: "noarch"}, false, nil
	}
	_, commit, err := p.Repos.Resolve(ctx, pkg.Source, nil)
	return commitItem(pkg.Name, commit), err == nil, err
}

// trial are the executions of one changed check, skipped when there is nothing
// that it could look at. What it says under on is not asked: the push is none to
// what it looks at.
func (p *Planner) trial(e assay.Event, pkg assay.Package, c Check, it item, known bool, target assay.Commit) []assay.Execution {
	list := p.variants(e, pkg, c, it, target)
	for i := range list {
		x := &list[i]
		x.ChecksCommit, x.ChecksBranch = e.Commit, strings.TrimPrefix(e.Ref, "refs/heads/")
		if x.State != assay.StateQueued || known && c.Wants(it.typ) {
			continue
		}
		x.State, x.Verdict, x.Finished = assay.StateFinished, assay.VerdictSkipped, x.Created
		x.Reason = fmt.Sprintf("no build of %s is known yet: the check runs on the next one", pkg.Name)
		if it.typ == assay.TypeBuild && known {
			x.Reason = fmt.Sprintf("the check does not look at builds, and %s is one: it runs on the next item it wants", it.name)
		}
	}
	return list
}

// variants are the executions of one check on one item: one, or one for each
// combination of its matrix.
func (p *Planner) variants(e assay.Event, pkg assay.Package, c Check, it item, target assay.Commit) []assay.Execution {
	all := c.Variants
	if len(all) == 0 || c.Err != nil {
		all = []Variant{{}}
	}
	list := make([]assay.Execution, len(all))
	for i, v := range all {
		list[i] = p.execution(e, pkg, c, it, target)
		list[i].Variant = v.Name
		if v.Arch != "" {
			list[i].Arch = v.Arch
		}
	}
	return list
}

// execution is one check on one item; a formula that cannot be read is an
// execution that has errored already, so that its commit says so.
func (p *Planner) execution(e assay.Event, pkg assay.Package, c Check, it item, target assay.Commit) assay.Execution {
	x := assay.Execution{
		ID: uuid.Must(uuid.NewV7()).String(), EventID: e.ID,
		Package: pkg.Name, Check: c.Name, Path: c.Path, ChecksRepo: pkg.Checks,
		SourceRepo: pkg.Source, SourceCommit: it.source,
		Item: it.name, Type: it.typ, Arch: it.arch, Builds: it.builds,
		Target: target, State: assay.StateQueued, Created: time.Now().UTC(), Priority: priorityOf(e), Optional: c.Optional,
		Retries: c.Retries, Trusted: vouched(e),
	}
	if x.SourceCommit == "" {
		x.SourceRepo = ""
	}
	if c.Err != nil {
		x.State, x.Verdict, x.Finished = assay.StateFinished, assay.VerdictErrored, x.Created
		x.Reason = oneLineOf(c.Err.Error(), 1000)
	}
	return x
}

// priorityOf puts people before builds, and both before what we found ourselves.
func priorityOf(e assay.Event) assay.Priority {
	switch {
	case e.Origin == assay.OriginWatched:
		return assay.PriorityTimer
	case e.Kind == assay.EventBuild:
		return assay.PriorityBuild
	}
	return assay.PriorityPerson
}

// firstReports are owed as soon as an execution exists.
func (p *Planner) firstReports(x assay.Execution) []assay.Report {
	if x.State == assay.StateFinished {
		return FinalReports(x, p.Page)
	}
	if x.Target.Repo == "" {
		return nil
	}
	return []assay.Report{
		statusReport(x, assay.StatusPending, "queued", p.Page),
		{Kind: assay.ReportWhole, Commit: x.Target, Execution: x.ID},
	}
}

// touches tells whether one of the paths lies in dir.
func touches(paths []string, dir string) bool {
	for _, name := range paths {
		if dir == "." || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

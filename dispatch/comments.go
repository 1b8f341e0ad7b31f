package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// comment does what somebody wrote below a pull request, if they may. The answer
// is a picture on the comment; why it was refused stands on the event's page.
func (p *Planner) comment(ctx context.Context, e assay.Event) (assay.Decision, assay.Commit, error) {
	if e.Comment == nil {
		return assay.Decision{Note: "the comment has no text"}, assay.Commit{}, nil
	}
	commands, err := parseCommands(e.Comment.Text)
	if err == nil && len(commands) == 0 {
		return assay.Decision{Note: "the comment has no command"}, assay.Commit{}, nil
	}
	pkg, address, ok := p.place(e.Repo)
	if !ok {
		return assay.Decision{Note: noPackage(e.Repo)}, assay.Commit{}, nil
	}
	on := assay.Commit{Repo: address, PullRequest: e.PullRequest}
	if err != nil {
		return answer(assay.Decision{Note: err.Error()}, on, e, assay.ReactionConfused), on, nil
	}
	asker := p.asker(address)
	if asker == nil {
		return assay.Decision{Note: "nobody can be asked about the pull request: give assay a token for the forge"}, on, nil
	}
	may, err := asker.MayWrite(ctx, address, e.Author)
	if err != nil {
		return assay.Decision{}, on, err
	}
	pull, err := asker.PullRequest(ctx, address, e.PullRequest)
	if err != nil {
		return assay.Decision{}, on, err
	}
	on.SHA = pull.Head
	refused := ""
	switch {
	case !may && !slices.ContainsFunc(commands, func(c command) bool { return c.verb != verbHelp }):
	case !may:
		refused = fmt.Sprintf("%s may not write to the repository", oneLineOf(e.Author, 80))
	case !pull.Open:
		refused = "the pull request is closed"
	}
	if refused != "" {
		return answer(assay.Decision{Note: refused}, on, e, assay.ReactionRefused), on, nil
	}
	work := pullWork{p: p, e: e, pkg: pkg, pull: pull, on: on}
	out, err := work.do(ctx, commands)
	return out, on, err
}

// answer adds the reaction to a comment.
func answer(d assay.Decision, on assay.Commit, e assay.Event, r assay.Reaction) assay.Decision {
	d.Reports = append(d.Reports, assay.Report{Kind: assay.ReportReaction, Commit: on, Comment: e.Comment.ID, Reaction: r})
	return d
}

func noPackage(repo string) string {
	return fmt.Sprintf("no package has the repository %s: add it under packages in the configuration", repo)
}

// place is the package that a repository belongs to, and its address as the
// operator wrote it.
func (p *Planner) place(repo string) (pkg assay.Package, address string, ok bool) {
	if pkg, ok = p.Packages.ByChecks(repo); ok {
		return pkg, pkg.Checks, true
	}
	pkg, ok = p.Packages.BySource(repo)
	return pkg, pkg.Source, ok
}

func (p *Planner) asker(address string) Asker {
	if p.Asker == nil {
		return nil
	}
	return p.Asker(address)
}

// pullWork is the commands of one comment on one pull request.
type pullWork struct {
	p    *Planner
	e    assay.Event
	pkg  assay.Package
	pull assay.PullRequest
	on   assay.Commit // the pull request's head
}

// errMoved tells that nobody has seen what would be approved.
var errMoved = errors.New("the pull request has commits that came after the comment, or that were not reported yet: look at them and say it again")

func (w pullWork) do(ctx context.Context, commands []command) (assay.Decision, error) {
	var out assay.Decision
	for _, c := range commands {
		one, err := w.one(ctx, c)
		if errors.Is(err, errMoved) {
			return answer(assay.Decision{Note: err.Error()}, w.on, w.e, assay.ReactionConfused), nil
		}
		if err != nil {
			return assay.Decision{}, err
		}
		out.Executions = append(out.Executions, one.Executions...)
		out.Cancel = append(out.Cancel, one.Cancel...)
		out.Waivers = append(out.Waivers, one.Waivers...)
		out.Reports = append(out.Reports, one.Reports...)
		out.Note = strings.TrimPrefix(out.Note+"; "+one.Note, "; ")
	}
	reaction := assay.ReactionDone
	if len(out.Executions) > 0 {
		reaction = assay.ReactionUnderstood
	} else if out.Nothing() {
		reaction = assay.ReactionConfused
	}
	return answer(out, w.on, w.e, reaction), nil
}

func (w pullWork) one(ctx context.Context, c command) (assay.Decision, error) {
	switch c.verb {
	case verbRun, verbOK:
		return w.run(ctx, c)
	case verbRerun:
		return w.p.again(ctx, w.e, w.on, func(x assay.Execution) bool {
			return c.names(x) && (!c.failed || x.State == assay.StateFinished && x.Status() != assay.StatusSuccess)
		})
	case verbCancel:
		return w.cancel(ctx)
	case verbWaive:
		return w.waive(ctx, c)
	}
	return assay.Decision{
		Note:    "told which commands there are",
		Reports: []assay.Report{{Kind: assay.ReportComment, Commit: w.on, Body: verbHelp}},
	}, nil
}

// run plans the pull request as if somebody trusted had just pushed it. What is
// approved is what the forge had told us of when the comment was written.
func (w pullWork) run(ctx context.Context, c command) (assay.Decision, error) {
	known, err := w.p.Store.PullRequestEvent(ctx, w.e.Source, w.e.Repo, w.e.PullRequest, w.e.Received)
	if errors.Is(err, assay.ErrNotFound) || err == nil && known.Commit != w.pull.Head {
		return assay.Decision{}, errMoved
	}
	if err != nil {
		return assay.Decision{}, err
	}
	// The approval is for running it; it makes nobody trusted with secrets.
	vouched := vouched(known)
	known.ID, known.Trusted = w.e.ID, true
	out, _, err := w.p.work(ctx, known)
	if err != nil {
		return assay.Decision{}, err
	}
	for i := range out.Executions {
		out.Executions[i].Trusted = vouched
	}
	out.Executions = keepNeeded(out.Executions, c.names)
	if len(out.Executions) == 0 && out.Note == "" {
		out.Note = "no check has that name: " + oneLineOf(strings.Join(c.checks, " "), 100)
	}
	return out, nil
}

// cancel ends all that runs on the pull request.
func (w pullWork) cancel(ctx context.Context) (assay.Decision, error) {
	var list []assay.Execution
	for _, state := range []assay.State{assay.StateQueued, assay.StateRunning} {
		some, err := w.p.Store.Executions(ctx, assay.ExecutionFilter{Target: w.on, State: state, Limit: 1000})
		if err != nil {
			return assay.Decision{}, err
		}
		list = append(list, some...)
	}
	if len(list) == 0 {
		return assay.Decision{Note: "nothing is running"}, nil
	}
	by := oneLineOf(w.e.Author, 80)
	return assay.Decision{Note: fmt.Sprintf("%s cancelled %d", by, len(list)), Cancel: w.p.cancel(list, by+" cancelled it")}, nil
}

// waive lets the whole pass in spite of one check.
func (w pullWork) waive(ctx context.Context, c command) (assay.Decision, error) {
	all, err := w.p.Store.Executions(ctx, assay.ExecutionFilter{Target: w.on, Limit: 1000})
	if err != nil {
		return assay.Decision{}, err
	}
	var out assay.Decision
	by, now := oneLineOf(w.e.Author, 80), time.Now().UTC()
	for _, x := range newestOf(all) {
		if !c.names(x) {
			continue
		}
		reason := oneLineOf(c.reason, 200)
		out.Waivers = append(out.Waivers, assay.Waiver{Commit: w.on, Context: x.StatusContext(), By: by, Reason: reason, At: now})
		out.Reports = append(out.Reports, statusReport(x, assay.StatusSuccess, "waived by "+by+": "+reason, w.p.Page))
	}
	if len(out.Waivers) == 0 {
		out.Note = "no check on this commit has that name: " + oneLineOf(c.checks[0], 100)
		return out, nil
	}
	out.Note = fmt.Sprintf("%s waived %s", by, oneLineOf(c.checks[0], 100))
	out.Reports = append(out.Reports,
		assay.Report{Kind: assay.ReportWhole, Commit: w.on}, assay.Report{Kind: assay.ReportComment, Commit: w.on})
	return out, nil
}

// rerun does what somebody asked for on the forge's own page of a commit.
func (p *Planner) rerun(ctx context.Context, e assay.Event) (assay.Decision, assay.Commit, error) {
	_, address, ok := p.place(e.Repo)
	if !ok {
		return assay.Decision{Note: noPackage(e.Repo)}, assay.Commit{}, nil
	}
	on := assay.Commit{Repo: address, SHA: e.Commit, PullRequest: e.PullRequest}
	if asker := p.asker(address); !e.Trusted && asker != nil {
		may, err := asker.MayWrite(ctx, address, e.Author)
		if err != nil {
			return assay.Decision{}, on, err
		}
		e.Trusted = may
	}
	if !e.Trusted {
		return assay.Decision{Note: fmt.Sprintf("%s may not write to the repository", oneLineOf(e.Author, 80))}, on, nil
	}
	out, err := p.again(ctx, e, on, func(x assay.Execution) bool {
		return e.Context == "" || e.Context == WholeContext || e.Context == x.StatusContext()
	})
	return out, on, err
}

// again repeats the newest executions on a commit, of those that are wanted and
// have ended, with the same formulas on the same items; see repeat.
func (p *Planner) again(ctx context.Context, e assay.Event, on assay.Commit, wanted func(assay.Execution) bool) (assay.Decision, error) {
	all, err := p.Store.Executions(ctx, assay.ExecutionFilter{Target: on, Limit: 1000})
	if err != nil {
		return assay.Decision{}, err
	}
	var out assay.Decision
	out.Executions = repeat(all, e.ID, wanted)
	if len(out.Executions) == 0 {
		out.Note = "nothing that has ended on this commit is to run again"
	}
	return out, nil
}

package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// maxDescription is what GitHub takes as a status's description, in characters.
const maxDescription = 140

// statusReport is one status that an execution owes.
func statusReport(x assay.Execution, state assay.StatusState, description string, page func(kind, id string) string) assay.Report {
	return assay.Report{
		Kind: assay.ReportStatus, Commit: x.Target, Execution: x.ID,
		Status: assay.Status{
			Context: x.StatusContext(), State: state,
			Description: oneLine(description), URL: page("executions", x.ID),
		},
	}
}

// FinalReports are what a finished execution owes: its status, that of the whole,
// and the comment, of which it is decided when it is sent whether there is
// anything to say.
func FinalReports(x assay.Execution, page func(kind, id string) string) []assay.Report {
	if x.Target.Repo == "" {
		return nil
	}
	description := x.Reason
	if x.Verdict != assay.VerdictPassed && x.Verdict != assay.VerdictFailed {
		description = string(x.Verdict) + ": " + x.Reason
	}
	return []assay.Report{
		statusReport(x, x.Status(), description, page),
		{Kind: assay.ReportWhole, Commit: x.Target, Execution: x.ID},
		{Kind: assay.ReportComment, Commit: x.Target, Execution: x.ID},
	}
}

func oneLine(s string) string { return oneLineOf(s, maxDescription) }

// oneLineOf makes text fit for a status: one line, at most so many characters.
func oneLineOf(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if runes := []rune(s); len(runes) > most {
		s = strings.TrimRight(string(runes[:most-1]), " ") + "…"
	}
	return s
}

// Reporter pays what forges are owed. A report is sent until the forge has
// taken it or refuses it for good; only the newest of a context is ever sent.
type Reporter struct {
	Outbox  Outbox
	History History
	Forge   func(address string) (Forge, error)
	// Refused tells a refusal for good from a failure to try again, and how long
	// the forge asks to wait, 0 if it does not say.
	Refused  func(error) (forGood bool, after time.Duration)
	Page     func(kind, id string) string
	Comments CommentMode
	// Excerpt returns the end of an execution's log, what its check printed last as
	// the last line; nil for none.
	Excerpt func(assay.Execution) ([]string, error)
	Log     zerolog.Logger
	Wake    Signal

	mu sync.Mutex
	at map[assay.Commit]bool // commits that are being served
}

const (
	reportBatch = 200
	// reportParallel is how many commits are served at a time: a forge that
	// answers slowly holds up its own commits, not everybody's.
	reportParallel = 32
	reportPeriod   = 2 * time.Second
	reportTimeout  = time.Minute
	writeFirst     = 100 * time.Millisecond // how soon what could not be written down is tried again
	writeMost      = 10 * time.Second
)

// Run sends reports until ctx ends, and waits for those on their way.
func (r *Reporter) Run(ctx context.Context) error {
	r.at = map[assay.Commit]bool{}
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		if err := r.sendSome(ctx, &wg); err != nil && ctx.Err() == nil {
			r.Log.Error().Err(err).Msg("cannot read the reports owed")
		}
		r.Wake.wait(ctx, reportPeriod)
	}
	return nil
}

// sendSome begins to send what is owed now: the reports of one commit in their
// order, those of several commits side by side.
func (r *Reporter) sendSome(ctx context.Context, wg *sync.WaitGroup) error {
	owed, err := r.Outbox.OwedReports(ctx, time.Now(), reportBatch)
	if err != nil {
		return err
	}
	commits := map[assay.Commit][]assay.Report{}
	for _, report := range owed {
		commits[report.Commit] = append(commits[report.Commit], report)
	}
	for commit, reports := range commits {
		if !r.begin(commit) {
			continue
		}
		wg.Go(func() {
			sent := 0
			for _, report := range reports {
				if r.deliver(ctx, report) {
					sent++
				}
			}
			r.end(commit)
			if sent > 0 {
				r.Wake.Wake() // the commit may be owed more by now, and others wait for the place
			}
		})
	}
	return nil
}

// begin claims a commit; false when it is being served, or there is no place.
func (r *Reporter) begin(c assay.Commit) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at[c] || len(r.at) >= reportParallel {
		return false
	}
	r.at[c] = true
	return true
}

func (r *Reporter) end(c assay.Commit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.at, c)
}

// deliver sends one report and writes down how it went; true when it was begun.
func (r *Reporter) deliver(ctx context.Context, report assay.Report) bool {
	if ctx.Err() != nil {
		return false
	}
	log := r.Log.With().Int64("report", report.ID).Str("execution", report.Execution).
		Str("kind", string(report.Kind)).Str("commit", report.Commit.SHA).Logger()
	// A comment that is not wanted is never begun: one that was may be there, and
	// is kept true from then on, whatever becomes of the checks.
	if err := r.wanted(ctx, report); err != nil {
		r.conclude(ctx, log, report, err)
		return true
	}
	err := r.Outbox.ReportBegun(ctx, report.ID)
	if errors.Is(err, assay.ErrFinished) || errors.Is(err, assay.ErrFenced) {
		log.Debug().Err(err).Msg("a newer report has taken this one's place")
		return false
	}
	if err != nil {
		log.Error().Err(err).Msg("cannot begin the report")
		return false
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	err = r.send(timed, report)
	cancel()
	r.conclude(ctx, log, report, err)
	return true
}

// conclude writes down how a report went.
func (r *Reporter) conclude(ctx context.Context, log zerolog.Logger, report assay.Report, err error) {
	if errors.Is(err, errNothingToSay) {
		r.writeDown(ctx, log, func(ctx context.Context) error { return r.Outbox.ReportDropped(ctx, report.ID, err.Error()) })
		return
	}
	if err == nil {
		log.Info().Str("context", report.Status.Context).Str("state", string(report.Status.State)).Msg("report sent")
		r.writeDown(ctx, log, func(ctx context.Context) error { return r.Outbox.ReportSent(ctx, report.ID) })
		return
	}
	forGood, after := r.Refused(err)
	after = max(after, backoff(report.Tries+1, time.Second, 5*time.Minute))
	if forGood {
		log.Error().Err(err).Msg("the forge refuses the report")
	} else {
		log.Warn().Err(err).Dur("again_in", after).Msg("the report was not taken")
	}
	r.writeDown(ctx, log, func(ctx context.Context) error {
		if forGood {
			return r.Outbox.ReportDropped(ctx, report.ID, err.Error())
		}
		return r.Outbox.ReportFailed(ctx, report.ID, err.Error(), time.Now().Add(after))
	})
}

// writeDown writes until it succeeds: a report whose fate is not known would
// keep its context's newer ones waiting. When ctx ends it tries once more; the
// next start finds out what is left open.
func (r *Reporter) writeDown(ctx context.Context, log zerolog.Logger, write func(context.Context) error) {
	for tries := 1; ; tries++ {
		err := write(context.WithoutCancel(ctx))
		if err == nil || ctx.Err() != nil || errors.Is(err, assay.ErrFinished) { // superseded while it was not begun
			return
		}
		log.Error().Err(err).Msg("cannot write down how the report went")
		NewSignal().wait(ctx, backoff(tries, writeFirst, writeMost))
	}
}

// errNothingToSay tells that a report has come to nothing.
var errNothingToSay = errors.New("there is nothing to say")

func (r *Reporter) send(ctx context.Context, report assay.Report) error {
	forge, err := r.Forge(report.Commit.Repo)
	if err != nil {
		return err
	}
	switch report.Kind {
	case assay.ReportComment:
		return r.sendComment(ctx, forge, report.Commit)
	case assay.ReportReaction:
		reactor, ok := forge.(Reactor)
		if !ok {
			return errNothingToSay
		}
		return reactor.React(ctx, report.Commit, report.Comment, report.Reaction)
	case assay.ReportWhole:
		if report.Status, err = r.whole(ctx, report.Commit); err != nil {
			return err
		}
	}
	if err := r.sendStatus(ctx, forge, report); err != nil {
		return err
	}
	return r.annotate(ctx, forge, report)
}

// annotate shows what a check found beside the lines that it names.
func (r *Reporter) annotate(ctx context.Context, forge Forge, report assay.Report) error {
	annotator, ok := forge.(Annotator)
	if !ok || report.Kind != assay.ReportStatus || report.Execution == "" || report.Status.State == assay.StatusPending {
		return nil
	}
	results, err := r.History.Results(ctx, report.Execution)
	if err != nil {
		return fmt.Errorf("cannot read the results of execution %s: %w", report.Execution, err)
	}
	list := annotations(results)
	if len(list) == 0 {
		return nil
	}
	return annotator.Annotate(ctx, report.Commit, report.Status.Context, list)
}

// sendStatus sends a status, unless an earlier try has brought it.
func (r *Reporter) sendStatus(ctx context.Context, forge Forge, report assay.Report) error {
	reader, ok := forge.(StatusReader)
	// That of the whole is worked out when it is sent: an earlier one, still on its
	// way when the last check ended, may have said the same.
	if ok && (report.Tries > 0 || report.Kind == assay.ReportWhole && report.Status.State != assay.StatusPending) {
		have, found, err := reader.Status(ctx, report.Commit, report.Status.Context)
		if forGood, _ := r.Refused(err); err != nil && !forGood {
			return err // not knowing whether it has arrived, it is too early to send it again
		}
		if err == nil && found && have == report.Status {
			return nil
		}
	}
	return forge.SetStatus(ctx, report.Commit, report.Status)
}

// wanted tells by errNothingToSay that a comment is not to be written or edited.
func (r *Reporter) wanted(ctx context.Context, report assay.Report) error {
	if report.Kind != assay.ReportComment {
		return nil
	}
	if stale, err := r.stale(ctx, report.Commit); err != nil || stale {
		return cmp.Or(err, errNothingToSay)
	}
	if report.Body != "" {
		return nil
	}
	rows, err := r.rows(ctx, report.Commit)
	if err != nil {
		return err
	}
	forge, err := r.Forge(report.Commit.Repo)
	if err != nil {
		return err
	}
	if a, ok := forge.(Appender); ok && a.Appends() && slices.ContainsFunc(rows, commentRow.open) {
		return errNothingToSay // until the last one has ended
	}
	if r.Comments == CommentAlways || r.Comments != CommentNever && slices.ContainsFunc(rows, commentRow.bad) || report.Tries > 0 {
		return nil
	}
	if there, err := r.Outbox.CommentSent(ctx, report.Commit, report.ID); err != nil || there {
		return err
	}
	return errNothingToSay
}

// sendComment writes the one comment, or edits it.
func (r *Reporter) sendComment(ctx context.Context, forge Forge, commit assay.Commit) error {
	rows, err := r.rows(ctx, commit)
	if err != nil {
		return err
	}
	if p, ok := forge.(PlainText); ok && p.PlainText() {
		return forge.Comment(ctx, commit, Marker, renderText(rows))
	}
	for i := range rows {
		if rows[i].bad() && r.Excerpt != nil {
			if rows[i].excerpt, err = r.Excerpt(rows[i].x); err != nil {
				return err
			}
		}
	}
	return forge.Comment(ctx, commit, Marker, renderComment(rows))
}

// stale tells that a pull request, whose comment is to be written, has checks on a
// newer commit: that one's comment says it better.
func (r *Reporter) stale(ctx context.Context, commit assay.Commit) (bool, error) {
	if commit.PullRequest == 0 {
		return false, nil
	}
	list, err := r.History.Executions(ctx, assay.ExecutionFilter{Target: assay.Commit{Repo: commit.Repo, PullRequest: commit.PullRequest}, Limit: 1})
	if err != nil {
		return false, fmt.Errorf("cannot read the pull request's executions: %w", err)
	}
	return len(list) > 0 && list[0].Target.SHA != commit.SHA, nil
}

// CommentMode says when the one comment is written.
type CommentMode string

// The modes. A comment that is there is kept true in each of them.
const (
	CommentOnFailure CommentMode = "failure" // the default: once something did not pass
	CommentAlways    CommentMode = "always"
	CommentNever     CommentMode = "never"
)

// Marker hides in the one comment, so that it is found and edited again.
const Marker = "report"

// newest are the newest executions of each check on a commit.
func (r *Reporter) newest(ctx context.Context, commit assay.Commit) ([]assay.Execution, error) {
	all, err := r.History.Executions(ctx, assay.ExecutionFilter{Target: commit, Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("cannot read the commit's executions: %w", err)
	}
	return newestOf(all), nil
}

// newestOf keeps the first execution of each context; all is newest first.
func newestOf(all []assay.Execution) []assay.Execution {
	var list []assay.Execution
	seen := map[string]bool{}
	for _, x := range all {
		if !seen[x.StatusContext()] {
			seen[x.StatusContext()] = true
			list = append(list, x)
		}
	}
	return list
}

// rows are what the comment has: each check, the bad ones with what failed.
func (r *Reporter) rows(ctx context.Context, commit assay.Commit) ([]commentRow, error) {
	list, err := r.newest(ctx, commit)
	if err != nil {
		return nil, err
	}
	waived, err := r.waived(ctx, commit)
	if err != nil {
		return nil, err
	}
	var rows []commentRow
	for _, x := range list {
		row := commentRow{x: x, page: r.Page("executions", x.ID), waiver: waived[x.StatusContext()]}
		if row.bad() {
			if row.results, err = r.History.Results(ctx, x.ID); err != nil {
				return nil, fmt.Errorf("cannot read the results of execution %s: %w", x.ID, err)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// waived are the waivers of a commit by context.
func (r *Reporter) waived(ctx context.Context, commit assay.Commit) (map[string]assay.Waiver, error) {
	list, err := r.History.Waivers(ctx, commit)
	if err != nil {
		return nil, err
	}
	waived := map[string]assay.Waiver{}
	for _, w := range list {
		waived[w.Context] = w
	}
	return waived, nil
}

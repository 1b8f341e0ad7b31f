package dispatch

import (
	"context"
	"errors"
	"fmt"
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

// FinalReports are what a finished execution owes: its status, and the comment
// when it is bad news or when there is a comment that is out of date now.
func FinalReports(x assay.Execution, page func(kind, id string) string, commented bool) []assay.Report {
	if x.Target.Repo == "" {
		return nil
	}
	description := x.Reason
	if x.Verdict != assay.VerdictPassed && x.Verdict != assay.VerdictFailed {
		description = string(x.Verdict) + ": " + x.Reason
	}
	reports := []assay.Report{statusReport(x, x.Verdict.Status(), description, page)}
	if commented || x.Verdict.Status() != assay.StatusSuccess {
		reports = append(reports, assay.Report{Kind: assay.ReportComment, Commit: x.Target, Execution: x.ID})
	}
	return reports
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
	Refused func(error) (forGood bool, after time.Duration)
	Page    func(kind, id string) string
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
	if err == nil {
		log.Info().Str("context", report.Status.Context).Str("state", string(report.Status.State)).Msg("report sent")
		r.writeDown(ctx, log, func(ctx context.Context) error { return r.Outbox.ReportSent(ctx, report.ID) })
		return true
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
	return true
}

// writeDown writes until it succeeds: a report whose fate is not known would
// keep its context's newer ones waiting. When ctx ends it tries once more; the
// next start finds out what is left open.
func (r *Reporter) writeDown(ctx context.Context, log zerolog.Logger, write func(context.Context) error) {
	for tries := 1; ; tries++ {
		err := write(context.WithoutCancel(ctx))
		if err == nil || ctx.Err() != nil {
			return
		}
		log.Error().Err(err).Msg("cannot write down how the report went")
		NewSignal().wait(ctx, backoff(tries, writeFirst, writeMost))
	}
}

func (r *Reporter) send(ctx context.Context, report assay.Report) error {
	forge, err := r.Forge(report.Commit.Repo)
	if err != nil {
		return err
	}
	if report.Kind == assay.ReportComment {
		body, err := r.comment(ctx, report.Commit)
		if err != nil {
			return err
		}
		return forge.Comment(ctx, report.Commit, Marker, body)
	}
	reader, ok := forge.(StatusReader)
	if ok && report.Tries > 0 {
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

// Marker hides in the one comment, so that it is found and edited again.
const Marker = "report"

// comment is the one comment on a commit: the newest execution of each check,
// the bad ones with what failed.
func (r *Reporter) comment(ctx context.Context, commit assay.Commit) (string, error) {
	all, err := r.History.Executions(ctx, assay.ExecutionFilter{Target: commit, Limit: 1000})
	if err != nil {
		return "", fmt.Errorf("cannot read the commit's executions: %w", err)
	}
	var rows []commentRow
	seen := map[string]bool{}
	for _, x := range all { // newest first
		if seen[x.StatusContext()] {
			continue
		}
		seen[x.StatusContext()] = true
		row := commentRow{x: x, page: r.Page("executions", x.ID)}
		if x.State == assay.StateFinished && x.Verdict.Status() != assay.StatusSuccess {
			if row.results, err = r.History.Results(ctx, x.ID); err != nil {
				return "", fmt.Errorf("cannot read the results of execution %s: %w", x.ID, err)
			}
		}
		rows = append(rows, row)
	}
	return renderComment(rows), nil
}

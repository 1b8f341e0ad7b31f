package dispatch

import (
	"context"
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
}

const (
	reportBatch    = 100
	reportParallel = 8
	reportPeriod   = 2 * time.Second
	reportTimeout  = time.Minute
)

// Run sends reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := r.sendSome(ctx)
		if err != nil && ctx.Err() == nil {
			r.Log.Error().Err(err).Msg("cannot read the reports owed")
		}
		if n == 0 {
			r.Wake.wait(ctx, reportPeriod)
		}
	}
	return nil
}

// sendSome sends what is owed now: the reports of one commit in their order,
// those of several commits side by side.
func (r *Reporter) sendSome(ctx context.Context) (int, error) {
	owed, err := r.Outbox.OwedReports(ctx, time.Now(), reportBatch)
	if err != nil {
		return 0, err
	}
	commits := map[assay.Commit][]assay.Report{}
	for _, report := range owed {
		commits[report.Commit] = append(commits[report.Commit], report)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, reportParallel)
	for _, reports := range commits {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			for _, report := range reports {
				r.deliver(ctx, report)
			}
		})
	}
	wg.Wait()
	return len(owed), nil
}

// deliver sends one report and writes down how it went.
func (r *Reporter) deliver(ctx context.Context, report assay.Report) {
	if ctx.Err() != nil {
		return
	}
	log := r.Log.With().Int64("report", report.ID).Str("execution", report.Execution).
		Str("kind", string(report.Kind)).Str("commit", report.Commit.SHA).Logger()
	if err := r.Outbox.ReportBegun(ctx, report.ID); err != nil {
		log.Error().Err(err).Msg("cannot begin the report")
		return
	}
	timed, cancel := context.WithTimeout(ctx, reportTimeout)
	err := r.send(timed, report)
	cancel()
	// What the forge took is written down even when the program is ending.
	ctx = context.WithoutCancel(ctx)
	if err == nil {
		log.Info().Str("context", report.Status.Context).Str("state", string(report.Status.State)).Msg("report sent")
		err = r.Outbox.ReportSent(ctx, report.ID)
	} else {
		err = r.notSent(ctx, log, report, err)
	}
	if err != nil {
		log.Error().Err(err).Msg("cannot write down how the report went")
	}
}

func (r *Reporter) notSent(ctx context.Context, log zerolog.Logger, report assay.Report, err error) error {
	forGood, after := r.Refused(err)
	if forGood {
		log.Error().Err(err).Msg("the forge refuses the report")
		return r.Outbox.ReportDropped(ctx, report.ID, err.Error())
	}
	after = max(after, backoff(report.Tries+1, time.Second, 5*time.Minute))
	log.Warn().Err(err).Dur("again_in", after).Msg("the report was not taken")
	return r.Outbox.ReportFailed(ctx, report.ID, err.Error(), time.Now().Add(after))
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

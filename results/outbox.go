package results

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-ci/assay"
)

// ReportState tells what became of a report.
type ReportState string

// The states of a report. While one is being sent no other of its key is begun,
// so that what was written later also arrives later.
const (
	ReportOwed       ReportState = "owed"
	ReportSending    ReportState = "sending"
	ReportSent       ReportState = "sent"
	ReportSuperseded ReportState = "superseded" // a newer one of the same key says it better
	ReportDropped    ReportState = "dropped"    // given up on; Reason says why
)

// ReportRecord is a report with what became of it.
type ReportRecord struct {
	assay.Report
	State   ReportState
	Reason  string    // of the newest failure
	Written time.Time // when it came to be owed
	Ended   time.Time // when it was sent, superseded or dropped
}

const (
	reportColumns = `r.id, r.kind, r.repo, r.sha, r.pull, r.context, r.status, r.description, r.url, r.body, r.execution, r.tries, r.comment, r.reaction`
	insertReport  = `INSERT INTO reports (id, kind, repo, sha, pull, context, status, description, url, body, execution, comment, reaction, tries,
		state, reason, written, begun, retry_at, ended)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 'owed', '', ?, 0, 0, 0)`
	supersedeOlder = `UPDATE reports SET state = 'superseded', ended = ?
		WHERE sha = ? AND repo = ? AND kind = ? AND context = ? AND state = 'owed'`
	// sameKey joins o, another report, to r.
	sameKey   = `o.sha = r.sha AND o.repo = r.repo AND o.kind = r.kind AND o.context = r.context`
	owedQuery = `SELECT ` + reportColumns + ` FROM reports r
		WHERE r.state = 'owed' AND r.retry_at <= ?
		AND NOT EXISTS (SELECT 1 FROM reports o WHERE ` + sameKey + ` AND o.state = 'sending')
		ORDER BY r.id LIMIT ?`
)

// owe writes reports in their order. An older one of the same key that is not
// being sent right now never will be.
func owe(t *tx, reports []assay.Report) error {
	if len(reports) == 0 {
		return nil
	}
	id, err := t.next("reports", len(reports))
	if err != nil {
		return err
	}
	now := stamp(time.Now())
	for i, r := range reports {
		switch r.Kind { // which there is one of
		case assay.ReportComment, assay.ReportWhole:
			r.Status = assay.Status{}
		case assay.ReportReaction:
			r.Status = assay.Status{Context: r.Comment}
		}
		if _, err := t.exec(supersedeOlder, now, r.Commit.SHA, r.Commit.Repo, string(r.Kind), r.Status.Context); err != nil {
			return err
		}
		_, err := t.exec(insertReport, id+int64(i), string(r.Kind), r.Commit.Repo, r.Commit.SHA, r.Commit.PullRequest,
			r.Status.Context, string(r.Status.State), r.Status.Description, r.Status.URL, r.Body, r.Execution, r.Comment, string(r.Reaction), now)
		if err != nil {
			return err
		}
	}
	return nil
}

// recoverReports puts reports whose sender died back to owed, unless a newer one
// of the same key was written while they were being sent.
func (s *Store) recoverReports(ctx context.Context) error {
	err := s.write(ctx, func(t *tx) error {
		rows, err := t.query(`SELECT id FROM reports WHERE state = 'sending' ORDER BY id`)
		ids, err := collect(rows, err, func(row scanner) (id int64, err error) {
			err = row.Scan(&id)
			return id, err
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := unsent(t, id, "the sender ended before the forge's answer was written down", time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot take up the reports that were being sent: %w", err)
	}
	return nil
}

func scanReport(row scanner) (r assay.Report, err error) {
	err = row.Scan(reportFields(&r)...)
	return r, err
}

func reportFields(r *assay.Report) []any {
	return []any{&r.ID, &r.Kind, &r.Commit.Repo, &r.Commit.SHA, &r.Commit.PullRequest, &r.Status.Context,
		&r.Status.State, &r.Status.Description, &r.Status.URL, &r.Body, &r.Execution, &r.Tries, &r.Comment, &r.Reaction}
}

// OwedReports lists the reports that are due at now, oldest first, at most
// limit: for each key (repository, commit, kind, context) only the newest, and
// none while an older one of the key is being sent.
func (s *Store) OwedReports(ctx context.Context, now time.Time, limit int) ([]assay.Report, error) {
	rows, err := s.reads.QueryContext(ctx, owedQuery, stamp(now), limit)
	list, err := collect(rows, err, scanReport)
	if err != nil {
		return nil, fmt.Errorf("cannot list the owed reports: %w", err)
	}
	return list, nil
}

// ReportBegun must return without an error before a report is sent; the sender
// must then tell how it went by ReportSent, ReportFailed or ReportDropped.
// assay.ErrFinished if it is not owed any more (sent, superseded, dropped),
// assay.ErrFenced while one of the same key is being sent.
func (s *Store) ReportBegun(ctx context.Context, id int64) error {
	return s.report(ctx, "begin to send", id, func(t *tx) error {
		n, err := t.exec(`UPDATE reports AS r SET state = 'sending', tries = tries + 1, begun = ?
			WHERE r.id = ? AND r.state = 'owed'
			AND NOT EXISTS (SELECT 1 FROM reports o WHERE `+sameKey+` AND o.state = 'sending')`, stamp(time.Now()), id)
		if err != nil || n == 1 {
			return err
		}
		state, err := reportState(t, id)
		if err != nil {
			return err
		}
		if state == ReportOwed || state == ReportSending {
			return assay.ErrFenced
		}
		return fmt.Errorf("it is %s: %w", state, assay.ErrFinished)
	})
}

// ReportSent records that the forge has taken a report that was begun.
// assay.ErrFinished if its end was recorded before.
func (s *Store) ReportSent(ctx context.Context, id int64) error {
	return s.report(ctx, "mark as sent", id, func(t *tx) error {
		n, err := t.exec(`UPDATE reports SET state = 'sent', reason = '', ended = ? WHERE id = ? AND state = 'sending'`, stamp(time.Now()), id)
		if err != nil || n == 1 {
			return err
		}
		return missedReport(t, id)
	})
}

// ReportFailed records that a report has not arrived, as far as is known, and
// when to try again. If a newer one of its key was written meanwhile it is
// superseded instead. assay.ErrFinished if its end was recorded before.
func (s *Store) ReportFailed(ctx context.Context, id int64, reason string, retryAt time.Time) error {
	return s.report(ctx, "put off", id, func(t *tx) error { return unsent(t, id, reason, retryAt) })
}

func unsent(t *tx, id int64, reason string, retryAt time.Time) error {
	n, err := t.exec(`UPDATE reports AS r SET reason = ?, retry_at = ?, state = 'owed'
		WHERE r.id = ? AND r.state IN ('owed', 'sending')`, line(reason), stamp(retryAt), id)
	if err != nil {
		return err
	}
	if n == 0 {
		return missedReport(t, id)
	}
	_, err = t.exec(`UPDATE reports AS r SET state = 'superseded', ended = ?
		WHERE r.id = ? AND EXISTS (SELECT 1 FROM reports o WHERE `+sameKey+` AND o.id > r.id)`, stamp(time.Now()), id)
	return err
}

// ReportDropped gives up on a report for good. assay.ErrFinished if its end was
// recorded before.
func (s *Store) ReportDropped(ctx context.Context, id int64, reason string) error {
	return s.report(ctx, "drop", id, func(t *tx) error {
		n, err := t.exec(`UPDATE reports SET state = 'dropped', reason = ?, ended = ? WHERE id = ? AND state IN ('owed', 'sending')`,
			line(reason), stamp(time.Now()), id)
		if err != nil || n == 1 {
			return err
		}
		return missedReport(t, id)
	})
}

func (s *Store) report(ctx context.Context, what string, id int64, fn func(*tx) error) error {
	if err := s.write(ctx, fn); err != nil {
		return fmt.Errorf("cannot %s report %d: %w", what, id, err)
	}
	return nil
}

func reportState(t *tx, id int64) (state ReportState, err error) {
	err = t.get([]any{&state}, `SELECT state FROM reports WHERE id = ?`, id)
	return state, absent(err)
}

func missedReport(t *tx, id int64) error {
	state, err := reportState(t, id)
	if err != nil {
		return err
	}
	if state == ReportOwed {
		return fmt.Errorf("its sending was not begun")
	}
	return fmt.Errorf("it is %s: %w", state, assay.ErrFinished)
}

// ReportHistory lists every report that was ever owed for a commit, oldest
// first. PullRequest is not looked at.
func (s *Store) ReportHistory(ctx context.Context, commit assay.Commit) ([]ReportRecord, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT `+reportColumns+`, r.state, r.reason, r.written, r.ended FROM reports r
		WHERE r.sha = ? AND r.repo = ? ORDER BY r.id`, clean(commit.SHA), clean(commit.Repo))
	list, err := collect(rows, err, func(row scanner) (r ReportRecord, err error) {
		var written, ended int64
		err = row.Scan(append(reportFields(&r.Report), &r.State, &r.Reason, &written, &ended)...)
		r.Written, r.Ended = moment(written), moment(ended)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the reports for %.100q: %w", commit.SHA, err)
	}
	return list, nil
}

// CommentSent tells whether a comment on this commit, or on its pull request,
// arrived, or may have: its sending was begun and no answer that rules it out is
// known. The report except is not looked at.
func (s *Store) CommentSent(ctx context.Context, commit assay.Commit, except int64) (bool, error) {
	where, what := `sha = ?`, any(clean(commit.SHA))
	if commit.PullRequest > 0 {
		where, what = `pull = ?`, commit.PullRequest
	}
	var n int
	err := s.reads.QueryRowContext(ctx, `SELECT COUNT(*) FROM reports WHERE `+where+` AND repo = ? AND kind = 'comment'
		AND tries > 0 AND state <> 'dropped' AND id <> ?`, what, clean(commit.Repo), except).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("cannot look for the comment on %.100q: %w", commit.SHA, err)
	}
	return n > 0, nil
}

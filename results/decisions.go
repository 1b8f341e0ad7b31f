package results

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// cancelAll ends what is unfinished, with the reports that this owes.
func cancelAll(t *tx, list []assay.Cancellation, now time.Time) error {
	for _, c := range list {
		was, err := stand(t, c.Execution)
		if err != nil {
			return fmt.Errorf("cancelling execution %.50q: %w", c.Execution, err)
		}
		if was.state == assay.StateFinished {
			continue
		}
		_, err = t.exec(`UPDATE executions SET state = 'finished', verdict = 'cancelled', reason = ?, finished = ? WHERE id = ?`,
			line(c.Reason), stamp(now), c.Execution)
		if err != nil {
			return err
		}
		if err := transit(t, c.Execution, now, assay.StateFinished, was.attempt, ending(assay.VerdictCancelled, c.Reason)); err != nil {
			return err
		}
		if err := letGo(t, c.Execution); err != nil {
			return err
		}
		if err := owe(t, c.Reports); err != nil {
			return err
		}
	}
	return nil
}

// waive keeps waivers; a later one for the same status takes the place of the
// earlier.
func waive(t *tx, list []assay.Waiver) error {
	for _, w := range list {
		_, err := t.exec(`INSERT INTO waivers (repo, sha, context, author, reason, at) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (repo, sha, context) DO UPDATE SET author = excluded.author, reason = excluded.reason, at = excluded.at`,
			w.Commit.Repo, w.Commit.SHA, w.Context, line(w.By), line(w.Reason), stamp(w.At))
		if err != nil {
			return err
		}
	}
	return nil
}

// Waivers lists the waivers of a commit by context. PullRequest is not looked at.
func (s *Store) Waivers(ctx context.Context, commit assay.Commit) ([]assay.Waiver, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT context, author, reason, at FROM waivers WHERE repo = ? AND sha = ? ORDER BY context`,
		clean(commit.Repo), clean(commit.SHA))
	list, err := collect(rows, err, func(row scanner) (w assay.Waiver, err error) {
		var at int64
		err = row.Scan(&w.Context, &w.By, &w.Reason, &at)
		w.Commit, w.At = commit, moment(at)
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the waivers of %.100q: %w", commit.SHA, err)
	}
	return list, nil
}

// Superseded lists the unfinished executions that an event makes pointless, oldest
// first: those that earlier events about the same pull request, or the same branch
// of the same repository, called for on other commits.
func (s *Store) Superseded(ctx context.Context, e assay.Event) ([]assay.Execution, error) {
	about, what := `v.pull = 0 AND v.kind = 'push' AND v.ref = ?`, any(clean(e.Ref))
	if e.PullRequest > 0 {
		about, what = `v.pull > 0 AND v.pull = ?`, e.PullRequest
	}
	rows, err := s.reads.QueryContext(ctx, `SELECT `+qualified("x", executionColumns)+` FROM executions x JOIN events v ON v.id = x.event
		WHERE x.state IN ('queued', 'running') AND x.target_sha <> ? AND v.received <= ?
		AND v.source = ? AND v.repo = ? AND `+about+` ORDER BY x.seq`,
		clean(e.Commit), stamp(e.Received), clean(e.Source), clean(e.Repo), what)
	list, err := collect(rows, err, scanExecution)
	if err != nil {
		return nil, fmt.Errorf("cannot list what event %.50q supersedes: %w", e.ID, err)
	}
	return list, nil
}

// PullRequestEvent returns the newest event about a pull request's commits that
// was received before a moment, ignored by the planner or not.
// assay.ErrNotFound if there is none.
func (s *Store) PullRequestEvent(ctx context.Context, source, repo string, number int, before time.Time) (assay.Event, error) {
	e, err := scanEvent(s.reads.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events
		WHERE source = ? AND repo = ? AND pull > 0 AND pull = ? AND received < ? AND kind = 'pull_request' AND commit_sha <> ''
		ORDER BY received DESC, id DESC LIMIT 1`, clean(source), clean(repo), number, stamp(before)))
	if err != nil {
		return assay.Event{}, fmt.Errorf("cannot find an event about pull request %d of %.100q: %w", number, repo, absent(err))
	}
	return e.Event, nil
}

// Memory returns what Remember kept under a name; "" if nothing.
func (s *Store) Memory(ctx context.Context, name string) (value string, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT value FROM memories WHERE name = ?`, clean(name)).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("cannot read what is remembered of %.100q: %w", name, err)
	}
	return value, nil
}

// Remember keeps a value under a name, in place of an earlier one.
func (s *Store) Remember(ctx context.Context, name, value string) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO memories (name, value, at) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at`, name, value, stamp(time.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot remember %.100q: %w", name, err)
	}
	return nil
}

// HasDelivery tells whether a delivery of a source is in the inbox.
func (s *Store) HasDelivery(ctx context.Context, source, delivery string) (bool, error) {
	var n int
	err := s.reads.QueryRowContext(ctx, `SELECT COUNT(*) FROM events WHERE source = ? AND delivery = ?`, clean(source), clean(delivery)).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("cannot look for the delivery %.100q: %w", delivery, err)
	}
	return n > 0, nil
}

// qualified is a list of columns of one table of a join.
func qualified(table, columns string) string {
	names := strings.Split(columns, ",")
	for i, name := range names {
		names[i] = table + "." + strings.TrimSpace(name)
	}
	return strings.Join(names, ", ")
}

// NewestPush is the commit that the newest known push moved a ref to; "" if none
// is known.
func (s *Store) NewestPush(ctx context.Context, source, repo, ref string) (commit string, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT commit_sha FROM events WHERE source = ? AND repo = ? AND ref = ? AND kind = 'push'
		ORDER BY received DESC, id DESC LIMIT 1`, clean(source), clean(repo), clean(ref)).Scan(&commit)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("cannot find the newest push to %.100q: %w", ref, err)
	}
	return commit, nil
}

// Lag is what one repository's forge is owed.
type Lag struct {
	Repo   string
	Owed   int
	Oldest time.Time // when the oldest of it came to be owed
}

// Lags lists the repositories whose forges are owed reports.
func (s *Store) Lags(ctx context.Context) ([]Lag, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT repo, COUNT(*), MIN(written) FROM reports
		WHERE state IN ('owed', 'sending') GROUP BY repo ORDER BY repo`)
	list, err := collect(rows, err, func(row scanner) (l Lag, err error) {
		var oldest int64
		err = row.Scan(&l.Repo, &l.Owed, &oldest)
		l.Oldest = moment(oldest)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot count the owed reports: %w", err)
	}
	return list, nil
}

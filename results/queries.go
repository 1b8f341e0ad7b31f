package results

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// How many executions a page has when the filter does not say, and at most.
const (
	defaultPage = 50
	maxPage     = 1000
)

// Transition is one state that an execution came into.
type Transition struct {
	At      time.Time
	State   assay.State
	Attempt int    // the newest attempt then; 0 before the first
	Note    string // "interrupted", "taken over", why it is retried, how it ended; "" if plain
}

func scanExecution(row scanner) (e assay.Execution, err error) {
	var builds, needs string
	var created, started, finished, optional, retries, trusted int64
	err = row.Scan(&e.ID, &e.EventID, &e.Package, &e.Check, &e.ChecksRepo, &e.ChecksBranch, &e.ChecksCommit, &e.Path,
		&e.SourceRepo, &e.SourceCommit, &e.Item, &e.Type, &e.Arch, &builds, &e.Target.Repo, &e.Target.SHA, &e.Target.PullRequest,
		&e.State, &e.Verdict, &e.Reason, &e.Attempt, &created, &started, &finished, &optional, &e.Priority,
		&e.Variant, &needs, &e.NeedsState, &retries, &trusted)
	if err != nil {
		return e, err
	}
	e.Created, e.Started, e.Finished = moment(created), moment(started), moment(finished)
	e.Optional, e.Trusted, e.Retries = optional != 0, trusted != 0, retriesOf(retries)
	return e, errors.Join(decode(builds, &e.Builds), decode(needs, &e.Needs))
}

// Execution returns one execution; assay.ErrNotFound if there is none.
func (s *Store) Execution(ctx context.Context, id string) (assay.Execution, error) {
	e, err := scanExecution(s.reads.QueryRowContext(ctx, `SELECT `+executionColumns+` FROM executions WHERE id = ?`, clean(id)))
	if err != nil {
		return assay.Execution{}, fmt.Errorf("cannot read execution %.50q: %w", id, absent(err))
	}
	return e, nil
}

// Executions lists the executions that a filter selects, in the order of their
// planning, newest first. To page on, set Before to the last one's ID;
// assay.ErrNotFound if there is no such execution.
func (s *Store) Executions(ctx context.Context, f assay.ExecutionFilter) ([]assay.Execution, error) {
	var before int64
	if f.Before != "" {
		err := s.reads.QueryRowContext(ctx, `SELECT seq FROM executions WHERE id = ?`, clean(f.Before)).Scan(&before)
		if err != nil {
			return nil, fmt.Errorf("cannot list the executions before %.50q: %w", f.Before, absent(err))
		}
	}
	query, args := filterQuery(f, before)
	rows, err := s.reads.QueryContext(ctx, query, cleaned(args)...)
	list, err := collect(rows, err, scanExecution)
	if err != nil {
		return nil, fmt.Errorf("cannot list the executions: %w", err)
	}
	return list, nil
}

// filterQuery turns a filter into a query; before is the seq to page on from, 0
// to start with the newest.
func filterQuery(f assay.ExecutionFilter, before int64) (query string, args []any) {
	var where []string
	cond := func(set bool, text string, arg any) {
		if set {
			where, args = append(where, text), append(args, arg)
		}
	}
	cond(f.Package != "", "package = ?", f.Package)
	cond(f.EventID != "", "event = ?", f.EventID)
	cond(f.Target.Repo != "", "target_repo = ?", f.Target.Repo)
	cond(f.Target.SHA != "", "target_sha = ?", f.Target.SHA)
	cond(f.Target.SHA == "" && f.Target.PullRequest > 0, "target_pull = ?", f.Target.PullRequest)
	cond(f.State != "", "state = ?", string(f.State))
	cond(before != 0, "seq < ?", before)
	query = `SELECT ` + executionColumns + ` FROM executions`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	return query + ` ORDER BY seq DESC LIMIT ?`, append(args, pageSize(f.Limit))
}

func pageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// Interruptions is how often an attempt at an execution was cut short: by a
// restart (Requeue) or by another runner (Begin with takeOver).
// assay.ErrNotFound if there is no such execution.
func (s *Store) Interruptions(ctx context.Context, id string) (n int, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT interruptions FROM executions WHERE id = ?`, clean(id)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("cannot read execution %.50q: %w", id, absent(err))
	}
	return n, nil
}

// Transitions lists the states that an execution went through, oldest first;
// none for an unknown one.
func (s *Store) Transitions(ctx context.Context, id string) ([]Transition, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT at, state, attempt, note FROM transitions WHERE execution = ? ORDER BY number`, clean(id))
	list, err := collect(rows, err, func(row scanner) (t Transition, err error) {
		var at int64
		err = row.Scan(&at, &t.State, &t.Attempt, &t.Note)
		t.At = moment(at)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the history of execution %.50q: %w", id, err)
	}
	return list, nil
}

// Steps lists the timeline of every attempt at an execution, by attempt, then by
// the time of starting; none for an unknown one.
func (s *Store) Steps(ctx context.Context, id string) ([]assay.StepRun, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT attempt, number, name, started, finished, outcome FROM steps
		WHERE execution = ? ORDER BY attempt, started, number, name`, clean(id))
	list, err := collect(rows, err, func(row scanner) (r assay.StepRun, err error) {
		var started, finished int64
		err = row.Scan(&r.Attempt, &r.Number, &r.Name, &started, &finished, &r.Outcome)
		r.Started, r.Finished = moment(started), moment(finished)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the steps of execution %.50q: %w", id, err)
	}
	return list, nil
}

// Results lists what an execution's conclusion reported, in its order; none for
// an unknown or unfinished one.
func (s *Store) Results(ctx context.Context, id string) ([]assay.Result, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT item, type, checkname, outcome, note, artifact, data FROM results
		WHERE execution = ? ORDER BY number`, clean(id))
	list, err := collect(rows, err, func(row scanner) (r assay.Result, err error) {
		var data string
		if err := row.Scan(&r.Item, &r.Type, &r.Checkname, &r.Outcome, &r.Note, &r.Artifact, &data); err != nil {
			return r, err
		}
		return r, decode(data, &r.Data)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the results of execution %.50q: %w", id, err)
	}
	return list, nil
}

// Artifacts lists the files that an execution's conclusion named, by path; none
// for an unknown or unfinished one.
func (s *Store) Artifacts(ctx context.Context, id string) ([]assay.Artifact, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT path, size FROM artifacts WHERE execution = ? ORDER BY path`, clean(id))
	list, err := collect(rows, err, func(row scanner) (a assay.Artifact, err error) {
		err = row.Scan(&a.Path, &a.Size)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the artifacts of execution %.50q: %w", id, err)
	}
	return list, nil
}

// The names are found one by one in the index, so that the cost is that of the
// packages and not that of all their executions.
const packagesQuery = `WITH RECURSIVE names (name) AS (
		SELECT MIN(package) FROM executions
		UNION ALL
		SELECT (SELECT MIN(e.package) FROM executions e WHERE e.package > names.name) FROM names WHERE names.name IS NOT NULL
	)
	SELECT ` + executionColumns + ` FROM names JOIN executions ON executions.seq = COALESCE(
		(SELECT MAX(f.seq) FROM executions f WHERE f.package = names.name AND f.state = 'finished'),
		(SELECT MAX(a.seq) FROM executions a WHERE a.package = names.name))
	ORDER BY package`

// Packages lists every package that ever had an execution, by name: each as its
// newest finished execution, or its newest one while none is finished.
func (s *Store) Packages(ctx context.Context) ([]assay.Execution, error) {
	rows, err := s.reads.QueryContext(ctx, packagesQuery)
	list, err := collect(rows, err, scanExecution)
	if err != nil {
		return nil, fmt.Errorf("cannot list the packages: %w", err)
	}
	return list, nil
}

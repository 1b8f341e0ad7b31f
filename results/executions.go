package results

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-ci/assay"
)

const (
	executionColumns = `id, event, package, check_name, checks_repo, checks_branch, checks_commit, path,
		source_repo, source_commit, item, type, arch, builds, target_repo, target_sha, target_pull,
		state, verdict, reason, attempt, created, started, finished, optional, priority,
		variant, needs, needs_state, retries, trusted`
	insertExecution = `INSERT INTO executions (` + executionColumns + `, seq, failures, interruptions)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)`
	insertTransition = `INSERT INTO transitions (execution, number, at, state, attempt, note)
		VALUES (?, (SELECT COALESCE(MAX(number), 0) + 1 FROM transitions WHERE execution = ?), ?, ?, ?, ?)`
)

// planRows completes the executions of a plan, without touching the caller's.
func planRows(eventID string, executions []assay.Execution, now time.Time) ([]assay.Execution, error) {
	rows := make([]assay.Execution, len(executions))
	for i, e := range executions {
		if err := checkID(e.ID); err != nil {
			return nil, fmt.Errorf("an execution's ID: %w", err)
		}
		if e.EventID != "" && e.EventID != eventID {
			return nil, fmt.Errorf("execution %s belongs to event %.50q", e.ID, e.EventID)
		}
		e.EventID, e.State, e.Attempt, e.NeedsState = eventID, assay.StateQueued, 0, ""
		if e.Created.IsZero() {
			e.Created = now
		}
		if e.Verdict != "" {
			if err := checkVerdict(e.Verdict); err != nil {
				return nil, err
			}
			e.State = assay.StateFinished
			if e.Finished.IsZero() {
				e.Finished = now
			}
		}
		rows[i] = e
	}
	return rows, nil
}

func checkVerdict(v assay.Verdict) error {
	switch v {
	case assay.VerdictPassed, assay.VerdictFailed, assay.VerdictCrashed,
		assay.VerdictErrored, assay.VerdictCancelled, assay.VerdictSkipped:
		return nil
	}
	return fmt.Errorf("%.50q is no verdict", string(v))
}

func insertExecutions(t *tx, rows []assay.Execution) error {
	if len(rows) == 0 {
		return nil
	}
	seq, err := t.next("executions", len(rows))
	if err != nil {
		return err
	}
	for i, e := range rows {
		if err := insertOne(t, e, seq+int64(i)); err != nil {
			return fmt.Errorf("execution %s: %w", e.ID, err)
		}
	}
	return holdBack(t, rows)
}

func insertOne(t *tx, e assay.Execution, seq int64) error {
	builds, err := encode(e.Builds)
	if err != nil {
		return err
	}
	needs, err := encode(e.Needs)
	if err != nil {
		return err
	}
	_, err = t.exec(insertExecution,
		e.ID, e.EventID, e.Package, e.Check, e.ChecksRepo, e.ChecksBranch, e.ChecksCommit, e.Path,
		e.SourceRepo, e.SourceCommit, e.Item, e.Type, e.Arch, builds, e.Target.Repo, e.Target.SHA, e.Target.PullRequest,
		string(e.State), string(e.Verdict), line(e.Reason), e.Attempt, stamp(e.Created), stamp(e.Started), stamp(e.Finished), truth(e.Optional), int(e.Priority),
		e.Variant, needs, string(e.NeedsState), retriesNumber(e.Retries), truth(e.Trusted), seq)
	if err != nil {
		return err
	}
	if err := transit(t, e.ID, e.Created, assay.StateQueued, 0, ""); err != nil {
		return err
	}
	if e.State != assay.StateFinished {
		return nil
	}
	return transit(t, e.ID, e.Finished, assay.StateFinished, 0, ending(e.Verdict, e.Reason))
}

// transit records that an execution came into a state.
func transit(t *tx, id string, at time.Time, state assay.State, attempt int, note string) error {
	_, err := t.exec(insertTransition, id, id, stamp(at), string(state), attempt, line(note))
	return err
}

func ending(v assay.Verdict, reason string) string {
	if reason == "" {
		return string(v)
	}
	return string(v) + ": " + reason
}

// standing is what decides whether a runner may still speak for an execution.
type standing struct {
	state   assay.State
	attempt int
	needs   assay.NeedsState
}

func stand(t *tx, id string) (s standing, err error) {
	err = t.get([]any{&s.state, &s.attempt, &s.needs}, `SELECT state, attempt, needs_state FROM executions WHERE id = ?`, id)
	return s, absent(err)
}

// fence lets only the newest attempt at an unfinished execution pass.
func fence(t *tx, id string, attempt int) error {
	s, err := stand(t, id)
	switch {
	case err != nil:
		return err
	case s.attempt != attempt:
		return fmt.Errorf("attempt %d, the newest is %d: %w", attempt, s.attempt, assay.ErrFenced)
	case s.state == assay.StateFinished:
		return assay.ErrFinished
	}
	return nil
}

// Begin starts a new attempt at an execution and returns it with the attempt's
// number, which fences all earlier attempts. One that runs already is taken over
// only if takeOver is set, else assay.ErrFenced, and so does one that waits for
// what it needs; one with a verdict gives assay.ErrFinished, an unknown one
// assay.ErrNotFound.
func (s *Store) Begin(ctx context.Context, executionID string, takeOver bool) (e assay.Execution, err error) {
	err = s.write(ctx, func(t *tx) (err error) {
		e, err = begin(t, executionID, takeOver, time.Now())
		return err
	})
	if err != nil {
		return assay.Execution{}, fmt.Errorf("cannot begin execution %.50q: %w", executionID, err)
	}
	return e, nil
}

func begin(t *tx, id string, takeOver bool, now time.Time) (assay.Execution, error) {
	was, err := stand(t, id)
	switch {
	case err != nil:
		return assay.Execution{}, err
	case was.state == assay.StateFinished:
		return assay.Execution{}, assay.ErrFinished
	case was.state == assay.StateRunning && !takeOver,
		assay.Execution{State: was.state, NeedsState: was.needs}.Waits():
		return assay.Execution{}, assay.ErrFenced
	}
	note, interrupted := "", 0
	if was.state == assay.StateRunning {
		note, interrupted = "taken over", 1
	}
	if err := transit(t, id, now, assay.StateRunning, was.attempt+1, note); err != nil {
		return assay.Execution{}, err
	}
	_, err = t.exec(`UPDATE executions SET state = 'running', attempt = ?, started = ?, interruptions = interruptions + ? WHERE id = ?`,
		was.attempt+1, stamp(now), interrupted, id)
	if err != nil {
		return assay.Execution{}, err
	}
	row, err := t.query(`SELECT `+executionColumns+` FROM executions WHERE id = ?`, id)
	all, err := collect(row, err, scanExecution)
	if err != nil {
		return assay.Execution{}, err
	}
	return all[0], nil
}

// Step writes an entry of an attempt's timeline, or writes it anew when the
// attempt has one with the same number and name. assay.ErrFenced if the attempt
// is not the newest or the execution is finished, assay.ErrNotFound if unknown.
func (s *Store) Step(ctx context.Context, executionID string, run assay.StepRun) error {
	err := s.write(ctx, func(t *tx) error {
		was, err := stand(t, executionID)
		if err != nil {
			return err
		}
		if was.attempt != run.Attempt || was.state == assay.StateFinished {
			return assay.ErrFenced
		}
		_, err = t.exec(`INSERT INTO steps (execution, attempt, number, name, started, finished, outcome)
			VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (execution, attempt, number, name) DO UPDATE
			SET started = excluded.started, finished = excluded.finished, outcome = excluded.outcome`,
			executionID, run.Attempt, run.Number, line(run.Name), stamp(run.Started), stamp(run.Finished), line(run.Outcome))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot record step %d of execution %.50q: %w", run.Number, executionID, err)
	}
	return nil
}

// Conclude ends an execution in one transaction: verdict, reason, results,
// artifacts, and the reports they owe. The attempt must be the newest, else
// assay.ErrFenced; an execution that was never begun is at attempt 0. A second
// conclusion gives assay.ErrFinished and writes nothing.
func (s *Store) Conclude(ctx context.Context, executionID string, attempt int, c assay.Conclusion, reports []assay.Report) error {
	err := checkVerdict(c.Verdict)
	if err == nil {
		err = s.write(ctx, func(t *tx) error { return conclude(t, executionID, attempt, c, reports, time.Now()) })
	}
	if err != nil {
		return fmt.Errorf("cannot conclude execution %.50q: %w", executionID, err)
	}
	return nil
}

func conclude(t *tx, id string, attempt int, c assay.Conclusion, reports []assay.Report, now time.Time) error {
	if err := fence(t, id, attempt); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE executions SET state = 'finished', verdict = ?, reason = ?, finished = ? WHERE id = ?`,
		string(c.Verdict), line(c.Reason), stamp(now), id)
	if err != nil {
		return err
	}
	if err := transit(t, id, now, assay.StateFinished, attempt, ending(c.Verdict, c.Reason)); err != nil {
		return err
	}
	if err := letGo(t, id); err != nil {
		return err
	}
	if err := insertResults(t, id, c.Results); err != nil {
		return err
	}
	for _, a := range c.Artifacts {
		_, err := t.exec(`INSERT INTO artifacts (execution, path, size) VALUES (?, ?, ?)`, id, a.Path, a.Size)
		if err != nil {
			return fmt.Errorf("artifact %.100q: %w", a.Path, err)
		}
	}
	return owe(t, reports)
}

func insertResults(t *tx, id string, results []assay.Result) error {
	for i, r := range results {
		data, err := encode(r.Data)
		if err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO results (execution, number, item, type, checkname, outcome, note, artifact, data)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			id, i+1, r.Item, r.Type, r.Checkname, string(r.Outcome), r.Note, r.Artifact, data)
		if err != nil {
			return fmt.Errorf("result %d: %w", i+1, err)
		}
	}
	return nil
}

// Retry puts an execution back to queued after an attempt that says nothing
// about the check, and returns how many such attempts there were, this one
// included. Fenced as Conclude is.
func (s *Store) Retry(ctx context.Context, executionID string, attempt int, reason string) (failures int, err error) {
	err = s.write(ctx, func(t *tx) error {
		if err := fence(t, executionID, attempt); err != nil {
			return err
		}
		_, err := t.exec(`UPDATE executions SET state = 'queued', failures = failures + 1 WHERE id = ?`, executionID)
		if err != nil {
			return err
		}
		if err := transit(t, executionID, time.Now(), assay.StateQueued, attempt, reason); err != nil {
			return err
		}
		return t.get([]any{&failures}, `SELECT failures FROM executions WHERE id = ?`, executionID)
	})
	if err != nil {
		return 0, fmt.Errorf("cannot retry execution %.50q: %w", executionID, err)
	}
	return failures, nil
}

// Requeue is for the start of a single server, when nothing can be running: it
// puts every running execution back to queued, counts that as an interruption,
// and returns all unfinished executions, oldest first, to fill the engine with.
// A second call changes nothing more.
func (s *Store) Requeue(ctx context.Context) (unfinished []assay.Execution, err error) {
	err = s.write(ctx, func(t *tx) error {
		rows, err := t.query(`SELECT ` + executionColumns + ` FROM executions WHERE state IN ('queued', 'running') ORDER BY seq`)
		if unfinished, err = collect(rows, err, scanExecution); err != nil {
			return err
		}
		return interrupt(t, unfinished, time.Now())
	})
	if err != nil {
		return nil, fmt.Errorf("cannot queue the unfinished executions again: %w", err)
	}
	return unfinished, nil
}

func interrupt(t *tx, unfinished []assay.Execution, now time.Time) error {
	for i := range unfinished {
		e := &unfinished[i]
		if e.State != assay.StateRunning {
			continue
		}
		if _, err := t.exec(`UPDATE executions SET state = 'queued', interruptions = interruptions + 1 WHERE id = ?`, e.ID); err != nil {
			return err
		}
		if err := transit(t, e.ID, now, assay.StateQueued, e.Attempt, "interrupted"); err != nil {
			return err
		}
		e.State = assay.StateQueued
	}
	return nil
}

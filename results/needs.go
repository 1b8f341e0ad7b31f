package results

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-ci/assay"
)

// Who waits for whom stands in the table needs, as long as somebody does: a row
// goes in the same transaction in which the needed one ends. So nobody waits for
// what has ended, whatever process is killed when.

// holdBack decides for each execution that was just inserted whether it waits
// for what it needs. What is not there has ended.
func holdBack(t *tx, rows []assay.Execution) error {
	for _, e := range rows {
		if len(e.Needs) == 0 || e.State == assay.StateFinished {
			continue
		}
		state := assay.NeedsEnded
		for _, need := range e.Needs {
			n, err := t.exec(`INSERT INTO needs (needed, waiter) SELECT id, ? FROM executions
				WHERE id = ? AND state <> 'finished' ON CONFLICT (needed, waiter) DO NOTHING`, e.ID, need.Execution)
			if err != nil {
				return fmt.Errorf("what execution %s needs: %w", e.ID, err)
			}
			if n > 0 {
				state = assay.NeedsOpen
			}
		}
		if _, err := t.exec(`UPDATE executions SET needs_state = ? WHERE id = ?`, string(state), e.ID); err != nil {
			return err
		}
	}
	return nil
}

// letGo is for every execution that ends: nobody waits for it any more, and it for
// nobody.
func letGo(t *tx, id string) error {
	_, err := t.exec(`UPDATE executions SET needs_state = 'ended'
		WHERE id IN (SELECT waiter FROM needs WHERE needed = ?) AND needs_state = 'open'
		AND NOT EXISTS (SELECT 1 FROM needs n WHERE n.waiter = executions.id AND n.needed <> ?)`, id, id)
	if err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM needs WHERE needed = ? OR waiter = ?`, id, id)
	return err
}

// NeedsEnded lists the executions of which everything that they need has ended,
// so that it can be decided what becomes of them, oldest first, at most limit.
func (s *Store) NeedsEnded(ctx context.Context, limit int) ([]assay.Execution, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT `+executionColumns+` FROM executions
		WHERE needs_state = 'ended' AND state = 'queued' ORDER BY seq LIMIT ?`, limit)
	list, err := collect(rows, err, scanExecution)
	if err != nil {
		return nil, fmt.Errorf("cannot list the executions that wait: %w", err)
	}
	return list, nil
}

// NeedsMet lets an execution run that NeedsEnded lists. assay.ErrFinished if it
// waits no more.
func (s *Store) NeedsMet(ctx context.Context, id string) error {
	err := s.write(ctx, func(t *tx) error {
		if err := waiting(t, id); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE executions SET needs_state = 'met' WHERE id = ?`, id); err != nil {
			return err
		}
		return transit(t, id, time.Now(), assay.StateQueued, 0, "what it needs has passed")
	})
	if err != nil {
		return fmt.Errorf("cannot let execution %.50q run: %w", id, err)
	}
	return nil
}

// NeedsUnmet ends an execution that NeedsEnded lists, because of what it needs,
// with the reports that this owes. assay.ErrFinished if it waits no more.
func (s *Store) NeedsUnmet(ctx context.Context, id string, c assay.Conclusion, reports []assay.Report) error {
	err := checkVerdict(c.Verdict)
	if err == nil {
		err = s.write(ctx, func(t *tx) error {
			if err := waiting(t, id); err != nil {
				return err
			}
			if _, err := t.exec(`UPDATE executions SET needs_state = 'unmet' WHERE id = ?`, id); err != nil {
				return err
			}
			return conclude(t, id, 0, c, reports, time.Now())
		})
	}
	if err != nil {
		return fmt.Errorf("cannot end execution %.50q, which waits: %w", id, err)
	}
	return nil
}

// waiting wants an execution that waits, and whose needs have ended.
func waiting(t *tx, id string) error {
	was, err := stand(t, id)
	if err != nil {
		return err
	}
	if was.state != assay.StateQueued || was.needs != assay.NeedsEnded {
		return fmt.Errorf("it waits no more, or still: %w", assay.ErrFinished)
	}
	return nil
}

// noRetries stands in the database for the operator's default.
const noRetries = -1

func retriesNumber(n *int) int {
	if n == nil {
		return noRetries
	}
	return *n
}

func retriesOf(n int64) *int {
	if n < 0 {
		return nil
	}
	v := int(n)
	return &v
}

package results

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Retention says how long things are kept. What is of a moment or later stays;
// a zero moment keeps everything of that kind.
type Retention struct {
	// Bodies is for the headers and the body of a delivery. The event stays, so
	// that the same delivery is still known when it comes again.
	Bodies time.Time
	// Executions is for finished executions, by their end, with all they left:
	// log, artifacts, results, timeline, reports.
	Executions time.Time
	// Events is for whole events that no execution is left of, and for reports
	// about commits that none is left of. It should be the longest: a delivery of
	// an event that is gone counts as a new one.
	Events time.Time
}

// Pruned counts what Prune removed.
type Pruned struct {
	Bodies     int // events that lost their headers and body
	Executions int
	Events     int
	Reports    int
}

// How much one transaction removes at most: intake waits no longer than that.
const (
	pruneRows  = 500     // small rows
	pruneBytes = 4 << 20 // bytes of bodies
	pruneBatch = 100     // events or executions
)

// Prune removes what is older than r says. Never removed: what is unfinished, or
// owes a report; the newest finished execution of each check (package, name,
// arch, variant); the newest build of each package, and what it called for.
//
// It works in small transactions, one after the other, and may run beside
// everything else. Each step leaves what the next run goes on with: files go
// before the rows that name them, results before their execution, executions
// before their event. So a process that is killed leaves, at worst, an execution
// without its log until then. An execution whose files cannot be removed stays;
// the others go, and the error tells of it. The counts hold beside an error.
func (s *Store) Prune(ctx context.Context, r Retention) (Pruned, error) {
	var p Pruned
	err := errors.Join(
		s.pruneBodies(ctx, r.Bodies, &p.Bodies),
		s.pruneExecutions(ctx, r.Executions, &p.Executions),
		s.pruneEvents(ctx, r.Events, &p.Events),
		s.pruneReports(ctx, r.Events, &p.Reports),
	)
	return p, err
}

// old is an event, an execution or a report that may be too old.
type old struct {
	id   string
	at   int64 // when it came to be: received, created, written
	next int64 // where to go on, where at does not say it: seq, number
	size int64 // bytes that its removal frees
	due  bool  // it is to be removed
}

// batches cuts what is due into what one transaction may remove.
func batches(list []old) (all [][]string) {
	var ids []string
	var size int64
	for _, o := range list {
		if !o.due {
			continue
		}
		if len(ids) > 0 && size+o.size > pruneBytes {
			all, ids, size = append(all, ids), nil, 0
		}
		ids, size = append(ids, o.id), size+o.size
	}
	if len(ids) > 0 {
		all = append(all, ids)
	}
	return all
}

func (s *Store) look(ctx context.Context, query string, args ...any) ([]old, error) {
	rows, err := s.reads.QueryContext(ctx, query, args...)
	return collect(rows, err, func(row scanner) (o old, err error) {
		err = row.Scan(&o.id, &o.at, &o.next, &o.size, &o.due)
		return o, err
	})
}

const (
	// The first condition is word for word that of the index events_bodies.
	oldBodies = `SELECT id, received, 0, LENGTH(body), 1 FROM events
		WHERE (header <> '' OR LENGTH(body) > 0) AND received < ? AND state <> 'new'
		ORDER BY received LIMIT ?`
	pruneBody = `UPDATE events SET header = '', body = ? WHERE id = ? AND state <> 'new'`

	// latestBuild is the ID of the newest build of the package of x.
	latestBuild = `(SELECT b.id FROM events b WHERE b.package <> '' AND b.package = x.package AND b.kind = 'build' AND b.ignored = ''
		ORDER BY b.received DESC, b.id DESC LIMIT 1)`

	oldExecutions = `SELECT x.id, x.created, x.seq, 0, CASE WHEN x.state = 'finished' AND x.finished < ?
		AND EXISTS (SELECT 1 FROM executions n WHERE n.package = x.package AND n.check_name = x.check_name
			AND n.arch = x.arch AND n.variant = x.variant AND n.seq > x.seq AND n.state = 'finished')
		AND x.event <> COALESCE(` + latestBuild + `, '')
		AND NOT EXISTS (SELECT 1 FROM reports o WHERE o.sha = x.target_sha AND o.repo = x.target_repo AND o.state IN ('owed', 'sending'))
		THEN 1 ELSE 0 END
		FROM executions x WHERE x.seq > ? ORDER BY x.seq LIMIT ?`

	oldEvents = `SELECT x.id, x.received, 0, LENGTH(x.body), CASE WHEN x.state <> 'new'
		AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.event = x.id)
		AND NOT (x.kind = 'build' AND x.id = COALESCE(` + latestBuild + `, ''))
		THEN 1 ELSE 0 END
		FROM events x WHERE x.received < ? AND (x.received, x.id) > (?, ?) ORDER BY x.received, x.id LIMIT ?`
	pruneEvent = `DELETE FROM events WHERE id = ? AND state <> 'new' AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.event = events.id)`

	oldReports = `SELECT '', r.written, r.id, 0, CASE WHEN r.state NOT IN ('owed', 'sending') AND r.ended < ?
		AND NOT EXISTS (SELECT 1 FROM executions x WHERE x.target_sha = r.sha AND x.target_repo = r.repo)
		THEN 1 ELSE 0 END
		FROM reports r WHERE r.id > ? ORDER BY r.id LIMIT ?`
	pruneReport = `DELETE FROM reports WHERE id = ? AND state NOT IN ('owed', 'sending')`
)

// pruneBodies looks again and again for what is left to do: what it has done is
// not found any more.
func (s *Store) pruneBodies(ctx context.Context, before time.Time, n *int) error {
	for progress := !before.IsZero(); progress; {
		list, err := s.look(ctx, oldBodies, stamp(before), pruneBatch)
		if err != nil {
			return fmt.Errorf("cannot look for old deliveries: %w", err)
		}
		progress = false
		for _, ids := range batches(list) {
			k, err := removeEach(ctx, s, ids, pruneBody, []byte{})
			if err != nil {
				return fmt.Errorf("cannot remove old deliveries: %w", err)
			}
			*n += k
			progress = progress || k > 0
		}
	}
	return nil
}

// removeEach runs a statement for each ID, which is its last argument, all in one
// transaction, and returns how many rows it changed.
func removeEach[ID string | int64](ctx context.Context, s *Store, ids []ID, query string, args ...any) (total int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	err = s.write(ctx, func(t *tx) error {
		for _, id := range ids {
			n, err := t.exec(query, append(slices.Clone(args), id)...)
			if err != nil {
				return err
			}
			total += int(n)
		}
		return nil
	})
	return total, err
}

// pruneExecutions walks from the oldest on. Executions are planned in the order
// of time, near enough: where a whole batch is too young, so are all that follow.
func (s *Store) pruneExecutions(ctx context.Context, before time.Time, n *int) error {
	var failed []error
	for from, more := int64(0), !before.IsZero(); more; {
		list, err := s.look(ctx, oldExecutions, stamp(before), from, pruneBatch)
		if err != nil {
			return errors.Join(append(failed, fmt.Errorf("cannot look for old executions: %w", err))...)
		}
		more = false
		for _, o := range list {
			from, more = o.next, more || o.at < stamp(before)
		}
		ids, err := s.removeFiles(list)
		failed = append(failed, err)
		k, err := s.removeExecutions(ctx, ids)
		*n += k
		if err != nil {
			return errors.Join(append(failed, fmt.Errorf("cannot remove old executions: %w", err))...)
		}
	}
	return errors.Join(failed...)
}

// removeFiles removes what is due from the disk, and returns what is gone.
func (s *Store) removeFiles(list []old) (gone []string, err error) {
	var failed []error
	for _, o := range list {
		if !o.due {
			continue
		}
		if err := s.files.Remove(o.id); err != nil {
			failed = append(failed, err)
			continue
		}
		gone = append(gone, o.id)
	}
	return gone, errors.Join(failed...)
}

// removeExecutions removes executions with everything that belongs to them, in
// as many transactions as they have rows for.
func (s *Store) removeExecutions(ctx context.Context, ids []string) (total int, err error) {
	for len(ids) > 0 {
		done := 0
		err := s.write(ctx, func(t *tx) (err error) {
			done, err = trimExecutions(t, ids, pruneRows)
			return err
		})
		if err != nil {
			return total, err
		}
		ids, total = ids[done:], total+done
	}
	return total, nil
}

// trimExecutions removes at most about so many rows, and returns how many
// executions are gone, the first of them first.
func trimExecutions(t *tx, ids []string, rows int64) (done int, err error) {
	for _, id := range ids {
		for _, query := range []string{
			`DELETE FROM results WHERE execution = ? AND number IN (SELECT number FROM results WHERE execution = ? LIMIT ?)`,
			`DELETE FROM artifacts WHERE execution = ? AND path IN (SELECT path FROM artifacts WHERE execution = ? LIMIT ?)`,
			`DELETE FROM steps WHERE execution = ? AND (attempt, number, name) IN (SELECT attempt, number, name FROM steps WHERE execution = ? LIMIT ?)`,
			`DELETE FROM transitions WHERE execution = ? AND number IN (SELECT number FROM transitions WHERE execution = ? LIMIT ?)`,
		} {
			n, err := t.exec(query, id, id, rows)
			if err != nil {
				return done, err
			}
			if rows -= n; rows <= 0 {
				return done, nil
			}
		}
		if _, err := t.exec(`DELETE FROM executions WHERE id = ?`, id); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

func (s *Store) pruneEvents(ctx context.Context, before time.Time, n *int) error {
	last := old{at: -1}
	for more := !before.IsZero(); more; {
		list, err := s.look(ctx, oldEvents, stamp(before), last.at, last.id, pruneBatch)
		if err != nil {
			return fmt.Errorf("cannot look for old events: %w", err)
		}
		if more = len(list) > 0; more {
			last = list[len(list)-1]
		}
		for _, ids := range batches(list) {
			k, err := removeEach(ctx, s, ids, pruneEvent)
			if err != nil {
				return fmt.Errorf("cannot remove old events: %w", err)
			}
			*n += k
		}
	}
	return nil
}

// pruneReports walks from the oldest on, as they were written.
func (s *Store) pruneReports(ctx context.Context, before time.Time, n *int) error {
	for from, more := int64(0), !before.IsZero(); more; {
		list, err := s.look(ctx, oldReports, stamp(before), from, pruneRows)
		if err != nil {
			return fmt.Errorf("cannot look for old reports: %w", err)
		}
		more = false
		var due []int64
		for _, o := range list {
			from, more = o.next, more || o.at < stamp(before)
			if o.due {
				due = append(due, o.next)
			}
		}
		k, err := removeEach(ctx, s, due, pruneReport)
		if err != nil {
			return fmt.Errorf("cannot remove old reports: %w", err)
		}
		*n += k
	}
	return nil
}

// Remove removes everything that an execution left on the disk. What is not
// there is no error: a removal that was cut short is gone on with.
func (f *Files) Remove(id string) error {
	dir, err := executionDir(id)
	if err != nil {
		return fmt.Errorf("cannot remove the files of execution %.50q: %w", id, err)
	}
	if err := f.root.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove the files of execution %s: %v: remove them by hand", id, err)
	}
	return nil
}

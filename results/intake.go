package results

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/assay-ci/assay"
)

const (
	eventColumns = `id, source, delivery, meaning, kind, received, repo, ref, before_commit, commit_sha,
		pull, trusted, build, ignored, state, note, tries, author, comment, context, origin`
	insertEvent = `INSERT INTO events (` + eventColumns + `, package, retry_at, repeats, header, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`
)

// AddEvent keeps an event with the delivery it came in, and returns when it is
// on disk. A delivery that came before, by (Source, Delivery) or by a non-empty
// (Source, Meaning), is only counted: id is then the first one's and fresh is
// false. An event with Ignored set is kept as assay.EventIgnored. Missing ID,
// Received and Delivery are made up. Which header fields are worth keeping, and
// how large a body may be, is the caller's to say.
func (s *Store) AddEvent(ctx context.Context, e assay.Event, header http.Header, body []byte) (id string, fresh bool, err error) {
	e, err = completeEvent(e)
	if err != nil {
		return "", false, fmt.Errorf("cannot keep an event: %w", err)
	}
	args, err := eventArgs(e, header, body)
	if err != nil {
		return "", false, fmt.Errorf("cannot keep event %s: %w", e.ID, err)
	}
	err = s.writer.writeOne(ctx, func(t *tx) (err error) {
		id, fresh, err = addEvent(t, e, args)
		return err
	})
	if err != nil {
		return "", false, fmt.Errorf("cannot keep event %s: %w", e.ID, err)
	}
	return id, fresh, nil
}

func completeEvent(e assay.Event) (assay.Event, error) {
	if e.ID == "" {
		id, err := newID()
		if err != nil {
			return e, err
		}
		e.ID = id
	}
	if err := checkID(e.ID); err != nil {
		return e, err
	}
	if e.Source == "" {
		return e, errors.New("it names no source")
	}
	if e.Delivery == "" {
		e.Delivery = e.ID
	}
	if e.Received.IsZero() {
		e.Received = time.Now()
	}
	return e, nil
}

func eventArgs(e assay.Event, header http.Header, body []byte) ([]any, error) {
	build, err := encode(e.Build)
	if err != nil {
		return nil, err
	}
	comment, err := encode(e.Comment)
	if err != nil {
		return nil, err
	}
	head, err := encode(header)
	if err != nil {
		return nil, err
	}
	state, pkg := assay.EventNew, ""
	if e.Ignored != "" {
		state = assay.EventIgnored
	}
	if e.Build != nil {
		pkg = e.Build.Package
	}
	if body == nil {
		body = []byte{}
	}
	return []any{
		e.ID, e.Source, e.Delivery, e.Meaning, string(e.Kind), stamp(e.Received), e.Repo, e.Ref, e.Before, e.Commit,
		e.PullRequest, truth(e.Trusted), build, line(e.Ignored), string(state), line(e.Ignored), 0,
		line(e.Author), comment, line(e.Context), string(e.Origin), pkg, 0, 0, head, body,
	}, nil
}

func addEvent(t *tx, e assay.Event, args []any) (id string, fresh bool, err error) {
	n, err := t.exec(insertEvent, args...)
	if err != nil {
		return "", false, err
	}
	if n == 1 {
		return e.ID, true, nil
	}
	if id, err = findEvent(t, e); err != nil {
		return "", false, err
	}
	_, err = t.exec(`UPDATE events SET repeats = repeats + 1 WHERE id = ?`, id)
	return id, false, err
}

// findEvent looks for the event that e repeats.
func findEvent(t *tx, e assay.Event) (id string, err error) {
	err = t.get([]any{&id}, `SELECT id FROM events WHERE source = ? AND delivery = ?`, e.Source, e.Delivery)
	if errors.Is(err, sql.ErrNoRows) && e.Meaning != "" {
		err = t.get([]any{&id}, `SELECT id FROM events WHERE source = ? AND meaning = ? AND meaning <> ''`, e.Source, e.Meaning)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "", errors.New("another event has this ID")
	}
	return id, err
}

// NewEvents lists the events whose executions are still to be written and whose
// time to be tried (again) has come, oldest first, at most limit.
func (s *Store) NewEvents(ctx context.Context, limit int) ([]assay.EventRecord, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT `+eventColumns+` FROM events
		WHERE state = 'new' AND retry_at <= ? ORDER BY received, id LIMIT ?`, stamp(time.Now()), limit)
	events, err := collect(rows, err, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("cannot list the new events: %w", err)
	}
	return events, nil
}

// PlanEvent writes in one transaction what an event comes to: its executions,
// queued, or finished if they carry a verdict already; what it cancels; waivers;
// and the reports that are owed. The event becomes assay.EventPlanned with the
// note, or assay.EventIgnored if there is nothing but a note. An event that is
// not new: assay.ErrFinished.
func (s *Store) PlanEvent(ctx context.Context, eventID string, d assay.Decision) error {
	state := assay.EventPlanned
	if d.Note != "" && d.Nothing() {
		state = assay.EventIgnored
	}
	now := time.Now()
	rows, err := planRows(eventID, d.Executions, now)
	if err != nil {
		return fmt.Errorf("cannot plan event %s: %w", eventID, err)
	}
	err = s.write(ctx, func(t *tx) error {
		for _, part := range []func() error{
			func() error { return endEvent(t, eventID, state, d.Note) },
			func() error { return insertExecutions(t, rows) },
			func() error { return name(t, eventID, rows) },
			func() error { return cancelAll(t, d.Cancel, now) },
			func() error { return waive(t, d.Waivers) },
			func() error { return owe(t, d.Reports) },
		} {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot plan event %s: %w", eventID, err)
	}
	return nil
}

// name gives an event that named no package that of what it calls for, so that it
// is found by it.
func name(t *tx, eventID string, rows []assay.Execution) error {
	if len(rows) == 0 {
		return nil
	}
	_, err := t.exec(`UPDATE events SET package = ? WHERE id = ? AND package = ''`, rows[0].Package, eventID)
	return err
}

// EventTried records that planning an event failed and when to try again. An
// event that is not new: assay.ErrFinished.
func (s *Store) EventTried(ctx context.Context, id, reason string, retryAt time.Time) error {
	err := s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE events SET tries = tries + 1, note = ?, retry_at = ? WHERE id = ? AND state = 'new'`,
			line(reason), stamp(retryAt), id)
		return missedEvent(t, id, n, err)
	})
	if err != nil {
		return fmt.Errorf("cannot put off event %s: %w", id, err)
	}
	return nil
}

// FailEvent gives up on an event and writes the reports that say so. An event
// that is not new: assay.ErrFinished.
func (s *Store) FailEvent(ctx context.Context, id, reason string, reports []assay.Report) error {
	err := s.write(ctx, func(t *tx) error {
		if err := endEvent(t, id, assay.EventFailed, reason); err != nil {
			return err
		}
		return owe(t, reports)
	})
	if err != nil {
		return fmt.Errorf("cannot give up on event %s: %w", id, err)
	}
	return nil
}

func endEvent(t *tx, id string, state assay.EventState, note string) error {
	n, err := t.exec(`UPDATE events SET state = ?, note = ?, tries = tries + 1 WHERE id = ? AND state = 'new'`,
		string(state), line(note), id)
	return missedEvent(t, id, n, err)
}

// missedEvent tells why an update of a new event changed nothing.
func missedEvent(t *tx, id string, n int64, err error) error {
	if err != nil || n == 1 {
		return err
	}
	var state string
	if err := t.get([]any{&state}, `SELECT state FROM events WHERE id = ?`, id); err != nil {
		return absent(err)
	}
	return fmt.Errorf("it is %s already: %w", state, assay.ErrFinished)
}

package results

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/assay-ci/assay"
)

func scanEvent(row scanner) (e assay.EventRecord, err error) {
	var received, trusted int64
	var build, comment string
	err = row.Scan(&e.ID, &e.Source, &e.Delivery, &e.Meaning, &e.Kind, &received, &e.Repo, &e.Ref, &e.Before, &e.Commit,
		&e.PullRequest, &trusted, &build, &e.Ignored, &e.State, &e.Note, &e.Tries,
		&e.Author, &comment, &e.Context, &e.Origin)
	if err != nil {
		return e, err
	}
	e.Received, e.Trusted = moment(received), trusted != 0
	if build != "" {
		e.Build = &assay.Build{}
	}
	if comment != "" {
		e.Comment = &assay.Comment{}
	}
	return e, errors.Join(decode(build, e.Build), decode(comment, e.Comment))
}

// Event returns one event; assay.ErrNotFound if there is none.
func (s *Store) Event(ctx context.Context, id string) (assay.EventRecord, error) {
	e, err := scanEvent(s.reads.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events WHERE id = ?`, clean(id)))
	if err != nil {
		return assay.EventRecord{}, fmt.Errorf("cannot read event %.50q: %w", id, absent(err))
	}
	return e, nil
}

// Events lists the newest events, newest first, at most limit.
func (s *Store) Events(ctx context.Context, limit int) ([]assay.EventRecord, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT `+eventColumns+` FROM events ORDER BY received DESC, id DESC LIMIT ?`, limit)
	events, err := collect(rows, err, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("cannot list the events: %w", err)
	}
	return events, nil
}

// Delivery returns what an event was made from, as AddEvent got it;
// assay.ErrNotFound if there is no such event.
func (s *Store) Delivery(ctx context.Context, eventID string) (http.Header, []byte, error) {
	var head string
	var body []byte
	err := s.reads.QueryRowContext(ctx, `SELECT header, body FROM events WHERE id = ?`, clean(eventID)).Scan(&head, &body)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the delivery of event %.50q: %w", eventID, absent(err))
	}
	var header http.Header
	return header, body, decode(head, &header)
}

// Repeats is how often an event was delivered again after the first time;
// assay.ErrNotFound if there is no such event.
func (s *Store) Repeats(ctx context.Context, eventID string) (n int, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT repeats FROM events WHERE id = ?`, clean(eventID)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("cannot read event %.50q: %w", eventID, absent(err))
	}
	return n, nil
}

// LatestBuild returns the newest build of a package, by the time it was
// received. Deliveries that the intake ignored do not count, builds that no
// check wanted do. None: assay.ErrNotFound.
func (s *Store) LatestBuild(ctx context.Context, pkg string) (assay.Event, error) {
	e, err := scanEvent(s.reads.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events
		WHERE package <> '' AND package = ? AND kind = 'build' AND ignored = ''
		ORDER BY received DESC, id DESC LIMIT 1`, clean(pkg)))
	if err != nil {
		return assay.Event{}, fmt.Errorf("cannot find a build of %.100q: %w", pkg, absent(err))
	}
	return e.Event, nil
}

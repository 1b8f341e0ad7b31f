package results

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/assay-ci/assay"
)

// maxCount bounds what CountEvents counts of one state: what a page costs must
// not grow with the inbox.
const maxCount = 10_000

const inboxColumns = eventColumns + `, repeats, (SELECT COUNT(*) FROM executions x WHERE x.event = events.id), LENGTH(body)`

// Inbox lists the events that a filter selects, newest first. To page on, set
// Before to the last one's ID; assay.ErrNotFound if there is no such event.
func (s *Store) Inbox(ctx context.Context, f assay.InboxFilter) ([]assay.InboxEntry, error) {
	var before int64
	if f.Before != "" {
		err := s.reads.QueryRowContext(ctx, `SELECT received FROM events WHERE id = ?`, clean(f.Before)).Scan(&before)
		if err != nil {
			return nil, fmt.Errorf("cannot list the events before %.50q: %w", f.Before, absent(err))
		}
	}
	query, args := inboxQuery(f, before)
	rows, err := s.reads.QueryContext(ctx, query, cleaned(args)...)
	list, err := collect(rows, err, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("cannot list the events: %w", err)
	}
	return list, nil
}

// assay.InboxEntry returns one event as Inbox lists it; assay.ErrNotFound if there is
// none.
func (s *Store) InboxEntry(ctx context.Context, id string) (assay.InboxEntry, error) {
	e, err := scanEntry(s.reads.QueryRowContext(ctx, `SELECT `+inboxColumns+` FROM events WHERE id = ?`, clean(id)))
	if err != nil {
		return assay.InboxEntry{}, fmt.Errorf("cannot read event %.50q: %w", id, absent(err))
	}
	return e, nil
}

// also is a row of which the caller scans the last columns into dest.
type also struct {
	scanner
	dest []any
}

func (a also) Scan(dest ...any) error { return a.scanner.Scan(append(dest, a.dest...)...) }

func scanEntry(row scanner) (e assay.InboxEntry, err error) {
	e.EventRecord, err = scanEvent(also{row, []any{&e.Repeats, &e.Executions, &e.Size}})
	return e, err
}

// inboxQuery turns a filter into a query; before is when the event that
// f.Before names was received. Where no index is for the filter the events are
// gone through in the order of time, in an index that holds what is compared.
func inboxQuery(f assay.InboxFilter, before int64) (query string, args []any) {
	var where []string
	cond := func(set bool, text string, values ...any) {
		if set {
			where, args = append(where, text), append(args, values...)
		}
	}
	// So that events_delivery is not used, which has a source's events in no order.
	cond(f.Source != "", "source || '' = ?", f.Source)
	cond(f.Kind != "", "kind = ?", string(f.Kind))
	cond(f.State != "", "state = ?", string(f.State))
	cond(f.Package != "", "package <> '' AND package = ?", f.Package)
	cond(f.Repo != "", `LOWER(repo) LIKE ? ESCAPE '\'`, pattern(f.Repo))
	cond(!f.Since.IsZero(), "received >= ?", stamp(f.Since))
	cond(!f.Until.IsZero(), "received < ?", stamp(f.Until))
	cond(f.Before != "", "(received, id) < (?, ?)", before, f.Before)
	query = `SELECT ` + inboxColumns + ` FROM events`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	return query + ` ORDER BY received DESC, id DESC LIMIT ?`, append(args, pageSize(f.Limit))
}

// pattern matches what contains the text, as LIKE wants it. Only ASCII is made
// lower case: that is all that every database's LOWER agrees on.
func pattern(text string) string {
	text = strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%"
}

// CountEvents tells how many events there are of each state that any is of.
// Beyond 10,000 of one it does not go on counting.
func (s *Store) CountEvents(ctx context.Context) (map[assay.EventState]int, error) {
	counts := map[assay.EventState]int{}
	for _, state := range []assay.EventState{assay.EventNew, assay.EventPlanned, assay.EventIgnored, assay.EventFailed} {
		var n int
		err := s.reads.QueryRowContext(ctx, countQuery, string(state), maxCount).Scan(&n)
		if err != nil {
			return nil, fmt.Errorf("cannot count the events: %w", err)
		}
		if n > 0 {
			counts[state] = n
		}
	}
	return counts, nil
}

const countQuery = `SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE state = ? LIMIT ?) AS some`

// DeliveryPart is Delivery with no more than the first max bytes of the body,
// and the size of all of it.
func (s *Store) DeliveryPart(ctx context.Context, eventID string, max int) (header http.Header, body []byte, size int64, err error) {
	var head string
	err = s.reads.QueryRowContext(ctx, `SELECT header, SUBSTR(body, 1, ?), LENGTH(body) FROM events WHERE id = ?`,
		max, clean(eventID)).Scan(&head, &body, &size)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("cannot read the delivery of event %.50q: %w", eventID, absent(err))
	}
	err = decode(head, &header)
	return header, body, size, err
}

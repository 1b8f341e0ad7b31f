package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// Inbox is what the pages read of deliveries.
type Inbox interface {
	// Inbox returns what the filter selects, newest first. An error wraps
	// assay.ErrNotFound when there is no event Before.
	Inbox(ctx context.Context, filter assay.InboxFilter) ([]assay.InboxEntry, error)
	// assay.InboxEntry returns one event; assay.ErrNotFound if there is none.
	InboxEntry(ctx context.Context, id string) (assay.InboxEntry, error)
	// CountEvents tells how many events each state has, up to 10,000 each.
	CountEvents(ctx context.Context) (map[assay.EventState]int, error)
	// DeliveryPart returns what an event was made from: its header, the first max
	// bytes of its body, and the size of all of the body. Nothing of it is left
	// when it is too old.
	DeliveryPart(ctx context.Context, id string, max int) (header http.Header, body []byte, size int64, err error)
}

// maxCounted is where Inbox.CountEvents stops counting.
const maxCounted = 10_000

// eventsView is one page of the inbox.
type eventsView struct {
	Rows          []eventRow
	Older, Newest string       // addresses, "" for none
	First         bool         // the newest are in the list
	States, Times []filterLink // choices that are always there
	Only          []onlyLink   // the other filters that hold
	Filtered      bool
}

// onlyLink is a filter that holds, and the address without it.
type onlyLink struct{ Name, Value, URL string }

// eventRow is one event in the list.
type eventRow struct {
	URL, What, Why        string
	Chip                  chip
	Source, SourceURL     string // URL: of the list of these alone
	Kind, KindURL, Origin string
	Again, Made           int
	When                  moment
}

// inboxParameters are the filters of /events, in the order in which they are
// shown; "before" pages on.
func inboxParameters() []string {
	return []string{"source", "kind", "repo", "package", "since", "until", "state"}
}

func (s *server) events(r *http.Request) (response, error) {
	query := r.URL.Query()
	filter, err := inboxFilter(query, s.Now())
	if err != nil {
		return nil, err
	}
	keep := url.Values{}
	for _, name := range inboxParameters() {
		if value := query.Get(name); value != "" {
			keep.Set(name, value)
		}
	}
	found, err := s.Inbox.Inbox(r.Context(), filter)
	if err != nil {
		return nil, err
	}
	counts, err := s.Inbox.CountEvents(r.Context())
	if err != nil {
		return nil, err
	}
	view := eventsView{First: filter.Before == "", Filtered: len(keep) > 0}
	if len(found) > perPage {
		found = found[:perPage]
		view.Older = withQuery(r.URL, keep, "before", found[perPage-1].ID)
	}
	if filter.Before != "" {
		view.Newest = withQuery(r.URL, keep, "", "")
	}
	for _, e := range found {
		view.Rows = append(view.Rows, s.eventRow(e, keep))
	}
	view.States, view.Times, view.Only = inboxStates(filter.State, keep, counts), inboxTimes(keep), onlyLinks(keep)
	return s.page(page{Template: "events", Title: "Events", Section: "events", Refresh: refreshInbox(view.First, found), Body: view}), nil
}

// refreshInbox is how soon the list looks different: at once while something is
// being planned, and else when the next delivery comes, whenever that is.
func refreshInbox(first bool, found []assay.InboxEntry) int {
	if first && slices.ContainsFunc(found, func(e assay.InboxEntry) bool { return e.State == assay.EventNew }) {
		return 10
	}
	return 0
}

func inboxFilter(query url.Values, now time.Time) (assay.InboxFilter, error) {
	f := assay.InboxFilter{
		Source: query.Get("source"), Kind: assay.EventKind(query.Get("kind")), State: assay.EventState(query.Get("state")),
		Repo: query.Get("repo"), Package: query.Get("package"), Before: query.Get("before"), Limit: perPage + 1,
	}
	switch f.State {
	case "", assay.EventNew, assay.EventPlanned, assay.EventIgnored, assay.EventFailed:
	default:
		return f, badRequest("state is new, planned, ignored or failed.")
	}
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if query.Get(name) == "" {
			continue
		}
		var err error
		if *at, err = ParseMoment(query.Get(name), now); err != nil {
			return f, badRequest(name + " is how long ago (90m, 24h, 7d), a day (2026-11-21), or a time (2026-11-21T17:20:00Z).")
		}
	}
	return f, nil
}

// ParseMoment reads a moment as people name it: how long before now it was
// ("90m", "24h", "7d"), a day ("2026-11-21", its first moment in UTC), or a time
// (RFC 3339).
func ParseMoment(text string, now time.Time) (time.Time, error) {
	const longest = 100 * 365 // days
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n <= longest {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil && at.Year() >= 1970 && at.Year() < 2200 {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("cannot read %.50q as a time: write how long ago (90m, 24h, 7d), a day (2026-11-21) or a time (2026-11-21T17:20:00Z)", text)
}

// inboxURL is the list with a filter more, or with another value of it; with ""
// it is the list without it.
func inboxURL(keep url.Values, name, value string) string {
	with := url.Values{}
	for k, v := range keep {
		with[k] = v
	}
	with.Del(name)
	if value != "" {
		with.Set(name, value)
	}
	return withQuery(&url.URL{Path: "/events"}, with, "", "")
}

func inboxStates(current assay.EventState, keep url.Values, counts map[assay.EventState]int) []filterLink {
	links := []filterLink{{Word: "all", URL: inboxURL(keep, "state", ""), Current: current == ""}}
	for _, state := range []assay.EventState{assay.EventNew, assay.EventPlanned, assay.EventIgnored, assay.EventFailed} {
		c, _ := becameOf(assay.EventRecord{State: state}, 0)
		word := c.Word + " " + count(int64(counts[state]))
		if counts[state] >= maxCounted {
			word += "+"
		}
		links = append(links, filterLink{Word: word, URL: inboxURL(keep, "state", string(state)), Current: current == state})
	}
	return links
}

func inboxTimes(keep url.Values) []filterLink {
	links := []filterLink{{Word: "any time", URL: inboxURL(keep, "since", ""), Current: keep.Get("since") == ""}}
	for _, since := range []struct{ word, value string }{{"last hour", "1h"}, {"last day", "24h"}, {"last week", "7d"}} {
		links = append(links, filterLink{Word: since.word, URL: inboxURL(keep, "since", since.value), Current: keep.Get("since") == since.value})
	}
	return links
}

// onlyLinks are the filters that hold and have no tabs of their own.
func onlyLinks(keep url.Values) []onlyLink {
	var links []onlyLink
	for _, name := range inboxParameters() {
		if value := keep.Get(name); value != "" && name != "state" {
			links = append(links, onlyLink{name, clip(plain(value), 100), inboxURL(keep, name, "")})
		}
	}
	return links
}

func (s *server) eventRow(e assay.InboxEntry, keep url.Values) eventRow {
	const longest = 200 // characters of a reason in a list
	row := eventRow{
		URL: eventURL(e.ID), What: clip(what(e.Event), longest), When: s.moment(e.Received),
		Source: clip(plain(e.Source), 40), SourceURL: inboxURL(keep, "source", e.Source),
		Kind: clip(plain(string(e.Kind)), 40), KindURL: inboxURL(keep, "kind", string(e.Kind)),
		Origin: clip(plain(string(e.Origin)), 20), Again: e.Repeats, Made: e.Executions,
	}
	var why string
	row.Chip, why = becameOf(e.EventRecord, e.Executions)
	row.Why = clip(why, longest)
	return row
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/web"
	"github.com/assay-ci/assay/webhook"
)

// control is what the operator's commands ask of a running server, which alone
// may open its data directory: JSON over HTTP on a socket in that directory (see
// listenControl). Whoever can open the socket may see whole deliveries and have
// things done; the pages, which everybody sees, offer neither.
//
//	GET  /v1/events              the inbox; parameters as on the page /events, and limit
//	GET  /v1/events/ID           one event; with ?body=1 also the delivery's body
//	POST /v1/events/ID/replay    have it done once more, as a new event
type control struct {
	store   *results.Store
	sources map[string]webhook.Source // to read deliveries anew; one that is not here is taken as it was read
	wake    func()                    // there is a new event
	page    func(kind, id string) string
	log     zerolog.Logger
	now     func() time.Time
}

func newControl(store *results.Store, sources map[string]webhook.Source, wake func(), page func(kind, id string) string, log zerolog.Logger) *control {
	return &control{store: store, sources: sources, wake: wake, page: page, log: log, now: time.Now}
}

// eventItem is an event in a list, as assay event list --json prints it.
type eventItem struct {
	ID          string    `json:"id"`
	URL         string    `json:"url"`
	Received    time.Time `json:"received"`
	Source      string    `json:"source"`
	Delivery    string    `json:"delivery"`
	Kind        string    `json:"kind"`
	Origin      string    `json:"origin"` // "", "recovered", "watched", "replayed"
	State       string    `json:"state"`  // "new", "planned", "ignored", "failed"
	Note        string    `json:"note"`   // why nothing came of it
	Repository  string    `json:"repository"`
	Ref         string    `json:"ref"`
	Commit      string    `json:"commit"`
	PullRequest int       `json:"pull_request,omitempty"`
	Author      string    `json:"author"`
	Package     string    `json:"package"` // of a build
	Build       string    `json:"build"`   // its name, version and release
	Repeats     int       `json:"repeats"`
	Made        int       `json:"made"` // executions
	Size        int64     `json:"size"` // bytes of the body
}

// eventDetail is all that is known of an event, as assay event show --json
// prints it.
type eventDetail struct {
	eventItem
	Before     string          `json:"before"`
	Context    string          `json:"context"`
	Trusted    bool            `json:"trusted"`
	Tries      int             `json:"tries"`
	Header     http.Header     `json:"header"`
	Executions []executionItem `json:"executions"` // the newest 1,000
	Body       []byte          `json:"body,omitempty"`
}

// executionItem is an execution of an event.
type executionItem struct {
	ID      string `json:"id"`
	URL     string `json:"url"`
	Check   string `json:"check"`
	Arch    string `json:"arch"`
	Variant string `json:"variant"` // of the formula's matrix, without the arch; "" for none
	Item    string `json:"item"`
	State   string `json:"state"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
}

// replayed is what came of a replay.
type replayed struct {
	Event string `json:"event"`
	URL   string `json:"url"`
	Of    string `json:"of"`
}

// controlRefusal is the body of every answer that is not a success.
type controlRefusal struct {
	Error string `json:"error"`
}

// conflict is why something that is there cannot be done.
type conflict string

func (c conflict) Error() string { return string(c) }

// badControl is what is wrong with a request.
type badControl struct{ error }

func (c *control) handler() http.Handler {
	router := mux.NewRouter()
	const event = "/v1/events/{id:[0-9A-Za-z-]{1,64}}"
	router.Handle("/v1/events", c.answer(c.list)).Methods(http.MethodGet)
	router.Handle(event, c.answer(c.show)).Methods(http.MethodGet)
	router.Handle(event+"/replay", c.answer(c.replay)).Methods(http.MethodPost)
	router.NotFoundHandler = c.answer(func(*http.Request) (any, error) {
		return nil, fmt.Errorf("cannot do that: the server is of another version than the command: %w", assay.ErrNotFound)
	})
	router.MethodNotAllowedHandler = router.NotFoundHandler
	return router
}

// answer makes a handler of a function that returns what to say as JSON.
func (c *control) answer(do func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		value, err := do(r)
		if err != nil {
			status, value = statusOf(err), controlRefusal{err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value) // fails only when the caller is gone
	})
}

func statusOf(err error) int {
	var refused conflict
	var bad badControl
	switch {
	case errors.Is(err, assay.ErrNotFound):
		return http.StatusNotFound
	case errors.As(err, &refused):
		return http.StatusConflict
	case errors.As(err, &bad):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func (c *control) list(r *http.Request) (any, error) {
	filter, err := c.filter(r)
	if err != nil {
		return nil, badControl{err}
	}
	list, err := c.store.Inbox(r.Context(), filter)
	if err != nil {
		return nil, err
	}
	items := []eventItem{}
	for _, e := range list {
		items = append(items, c.item(e))
	}
	return items, nil
}

func (c *control) filter(r *http.Request) (f assay.InboxFilter, err error) {
	q := r.URL.Query()
	f = assay.InboxFilter{
		Source: q.Get("source"), Kind: assay.EventKind(q.Get("kind")), State: assay.EventState(q.Get("state")),
		Repo: q.Get("repo"), Package: q.Get("package"), Before: q.Get("before"),
	}
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if text := q.Get(name); text != "" {
			if *at, err = web.ParseMoment(text, c.now()); err != nil {
				return f, err
			}
		}
	}
	if text := q.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil {
			return f, fmt.Errorf("cannot read the limit %.20q: write a number", text)
		}
	}
	return f, nil
}

func (c *control) item(e assay.InboxEntry) eventItem {
	item := eventItem{
		ID: e.ID, URL: c.page("events", e.ID), Received: e.Received, Source: e.Source, Delivery: e.Delivery,
		Kind: string(e.Kind), Origin: string(e.Origin), State: string(e.State), Note: e.Note,
		Repository: e.Repo, Ref: e.Ref, Commit: e.Commit, PullRequest: e.PullRequest, Author: e.Author,
		Repeats: e.Repeats, Made: e.Executions, Size: e.Size,
	}
	if e.Build != nil {
		item.Package, item.Build = e.Build.Package, e.Build.NVR()
	}
	return item
}

func (c *control) show(r *http.Request) (any, error) {
	ctx, id := r.Context(), mux.Vars(r)["id"]
	e, err := c.store.InboxEntry(ctx, id)
	if err != nil {
		return nil, err
	}
	d := eventDetail{eventItem: c.item(e), Before: e.Before, Context: e.Context, Trusted: e.Trusted, Tries: e.Tries, Executions: []executionItem{}}
	if r.URL.Query().Get("body") == "1" {
		d.Header, d.Body, err = c.store.Delivery(ctx, id)
	} else {
		d.Header, _, _, err = c.store.DeliveryPart(ctx, id, 0)
	}
	if err != nil {
		return nil, err
	}
	made, err := c.store.Executions(ctx, assay.ExecutionFilter{EventID: id, Limit: 1000})
	if err != nil {
		return nil, err
	}
	for _, x := range made {
		d.Executions = append(d.Executions, executionItem{
			x.ID, c.page("executions", x.ID), x.Check, x.Arch, x.Variant, x.Item, string(x.State), string(x.Verdict), x.Reason,
		})
	}
	return d, nil
}

// replayOf is the header that says which event a replay is of. It is ours: the
// intake keeps no such header of a sender's.
const replayOf = "X-Assay-Replay-Of"

// replay keeps a new event that says what an old one said. It has no meaning to
// be recognised by, or it would only be counted as a repeat of the old one.
func (c *control) replay(r *http.Request) (any, error) {
	ctx, id := r.Context(), mux.Vars(r)["id"]
	old, err := c.store.Event(ctx, id)
	if err != nil {
		return nil, err
	}
	if old.State == assay.EventNew {
		return nil, conflict(fmt.Sprintf("cannot replay event %s: it is still to be planned for the first time: wait for that", id))
	}
	header, body, err := c.store.Delivery(ctx, id)
	if err != nil {
		return nil, err
	}
	e := c.readAgain(old.Event, header, body)
	if e.Ignored != "" {
		return nil, conflict(fmt.Sprintf("cannot replay event %s: nothing would be done about it again: %s", id, e.Ignored))
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set(replayOf, id)
	e.ID, e.Source, e.Meaning, e.Origin = "", old.Source, "", assay.OriginReplayed
	e.Delivery, e.Received = "replay:"+uuid.NewString(), c.now().UTC()
	made, _, err := c.store.AddEvent(ctx, e, header, body)
	if err != nil {
		return nil, err
	}
	c.wake()
	c.log.Info().Str("event", made).Str("of", id).Str("by", r.RemoteAddr).Msg("an event is replayed")
	return replayed{made, c.page("events", made), id}, nil
}

// readAgain decodes a delivery once more: a newer program may understand what an
// older one ignored. What cannot be read any more, because the body was pruned or
// nobody sent one, is taken as it was read then.
func (c *control) readAgain(old assay.Event, header http.Header, body []byte) assay.Event {
	source := c.sources[old.Source]
	if source == nil || len(body) == 0 {
		return old
	}
	events, err := source.Decode(header, body)
	if err != nil {
		c.log.Warn().Err(err).Str("event", old.ID).Msg("a delivery cannot be read again, and is replayed as it was read")
		return old
	}
	if len(events) == 1 {
		return events[0]
	}
	for _, e := range events {
		if e.Kind == old.Kind && e.Repo == old.Repo && e.Ref == old.Ref && e.Commit == old.Commit && e.PullRequest == old.PullRequest {
			return e
		}
	}
	return old
}

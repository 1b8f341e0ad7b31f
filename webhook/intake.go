package webhook

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"github.com/google/uuid"
	"github.com/gorilla/mux"
)

// retryAfter is what a sender is asked to wait when the store does not take an
// event, in seconds.
const retryAfter = "10"

// intake is the handler. Nothing of it changes but the limits' buckets.
type intake struct {
	Options
	limits *limiter
	now    func() time.Time
}

// reply is what one request is answered with and logged as.
type reply struct {
	status int
	header [2]string // one more header, "" for none
	body   any
	reason string // why it was not taken, or why nothing will be done about it

	delivery string
	kind     assay.EventKind
	event    string
	fresh    bool
}

// accepted is the body of a 202.
type accepted struct {
	Event   string `json:"event"`
	URL     string `json:"url"`
	Fresh   bool   `json:"fresh"`
	Ignored string `json:"ignored,omitempty"`
}

// refused is the body of every answer that is not a success.
type refused struct {
	Error string `json:"error"`
}

func refuse(status int, format string, args ...any) reply {
	reason := fmt.Sprintf(format, args...)
	return reply{status: status, reason: reason, body: refused{reason}}
}

func (r reply) with(name, value string) reply {
	r.header = [2]string{name, value}
	return r
}

func (in *intake) serve(w http.ResponseWriter, r *http.Request) {
	began := in.now()
	name := mux.Vars(r)["source"]
	answer := in.take(w, r, name)
	if answer.delivery == "" {
		answer.delivery = in.delivery(name, r.Header)
	}
	in.send(w, name, began, answer)
}

func (in *intake) notFound(w http.ResponseWriter, r *http.Request) {
	began := in.now()
	in.send(w, "", began, refuse(http.StatusNotFound, "cannot find %s: events go to /hooks/SOURCE", quote(r.URL.Path)))
}

// take does what the package comment says, in that order.
func (in *intake) take(w http.ResponseWriter, r *http.Request, name string) reply {
	if r.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, "cannot take a %s here: use POST", quote(r.Method)).with("Allow", http.MethodPost)
	}
	source, known := in.Sources[name]
	if !known {
		return refuse(http.StatusNotFound, "cannot take events from %s: no such source is configured", quote(name))
	}
	if wait := in.limits.take(name, r.RemoteAddr, in.now()); wait > 0 {
		return refuse(http.StatusTooManyRequests, "cannot take so many deliveries at once: send it again later").with("Retry-After", retrySeconds(wait))
	}
	if problem := checkContent(source, r.Header); problem != "" {
		return refuse(http.StatusUnsupportedMediaType, "%s", problem)
	}
	body, failed := in.read(w, r)
	if failed.status != 0 {
		return failed
	}
	events, failed := in.judge(source, r.Header, body)
	if failed.status != 0 {
		return failed
	}
	return in.store(r, name, events, body)
}

// judge verifies a delivery, reads its events, and makes sure that the secret is
// theirs.
func (in *intake) judge(source Source, header http.Header, body []byte) ([]assay.Event, reply) {
	if err := source.Verify(header, body); err != nil {
		return nil, unauthorized(err.Error())
	}
	if problem := tooOld(source, header, body, in.now(), in.MaxAge); problem != "" {
		return nil, unauthorized(problem)
	}
	events, err := source.Decode(header, body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	if len(events) == 0 {
		return nil, refuse(http.StatusBadRequest, "cannot take a delivery without an event")
	}
	v, scoped := source.(voucher)
	for _, e := range events {
		if !scoped {
			break
		}
		if err := v.Vouch(header, body, e); err != nil {
			return nil, unauthorized(err.Error())
		}
	}
	return events, reply{}
}

func unauthorized(reason string) reply {
	return refuse(http.StatusUnauthorized, "%s", reason).with("WWW-Authenticate", "HMAC-SHA256")
}

// store puts every event of a delivery into the inbox and answers with the
// first. When one cannot be stored none is acknowledged and nobody is woken;
// those before it are known by their ids when the sender tries again.
func (in *intake) store(r *http.Request, name string, events []assay.Event, body []byte) reply {
	if first := events[0]; first.Kind == assay.EventPing {
		return reply{status: http.StatusOK, body: map[string]bool{"pong": true}, kind: first.Kind, delivery: first.Delivery}
	}
	var answer reply
	fresh, counts, header := false, false, Keep(r.Header)
	for i, e := range events {
		one, err := in.add(r.Context(), name, e, header, body)
		if err != nil {
			return in.notStored(e, err)
		}
		fresh, counts = fresh || one.fresh, counts || e.Ignored == ""
		if i == 0 {
			answer = one
		}
	}
	if fresh && counts && in.Wake != nil {
		in.Wake()
	}
	return answer
}

func (in *intake) add(ctx context.Context, name string, e assay.Event, header http.Header, body []byte) (reply, error) {
	e.Source, e.Received = name, in.now().UTC()
	if e.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return reply{}, err
		}
		e.ID = id.String()
	}
	id, fresh, err := in.Inbox.AddEvent(ctx, e, header, body)
	if err != nil {
		return reply{}, err
	}
	return reply{
		status: http.StatusAccepted, reason: e.Ignored,
		body:     accepted{Event: id, URL: in.PublicURL + "/events/" + id, Fresh: fresh, Ignored: e.Ignored},
		delivery: e.Delivery, kind: e.Kind, event: id, fresh: fresh,
	}, nil
}

// notStored keeps the store's own words for the log: they are not the sender's
// business.
func (in *intake) notStored(e assay.Event, err error) reply {
	answer := refuse(http.StatusServiceUnavailable, "cannot store the event just now: send it again later")
	answer.reason = "cannot store the event: " + err.Error()
	answer.delivery, answer.kind = e.Delivery, e.Kind
	return answer.with("Retry-After", retryAfter)
}

// checkContent says what is wrong with the media type or encoding, "" if
// nothing is.
func checkContent(source Source, header http.Header) string {
	allowed := []string{"application/json"}
	if t, ok := source.(contentTyper); ok {
		allowed = t.ContentTypes()
	}
	given := header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(given)
	if err != nil || !slices.Contains(allowed, kind) {
		return fmt.Sprintf("cannot read a body of type %s: send %s", quote(given), strings.Join(allowed, " or "))
	}
	switch encoding := header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity", "gzip":
		return ""
	default:
		return fmt.Sprintf("cannot read a body with the encoding %s: send it as it is or with gzip", quote(encoding))
	}
}

// read returns the whole body, or the answer to one that is too long, too slow
// or cut short. It gives up when the request's context ends, even while the
// sender is silent.
func (in *intake) read(w http.ResponseWriter, r *http.Request) ([]byte, reply) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "cannot take a body of more than %d bytes", in.MaxBody)
	if r.ContentLength > in.MaxBody {
		return nil, tooLarge
	}
	release := interrupt(r.Context(), w)
	body, err := unpack(r, http.MaxBytesReader(w, r.Body, in.MaxBody), in.MaxBody)
	release()
	var over *http.MaxBytesError
	var slow net.Error
	switch {
	case err == nil:
		return body, reply{}
	case errors.As(err, &over):
		return nil, tooLarge
	case errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, new(flate.CorruptInputError)):
		return nil, refuse(http.StatusBadRequest, "cannot read the body: it is not what gzip makes")
	case r.Context().Err() != nil:
		return nil, refuse(http.StatusServiceUnavailable, "cannot read the body: the request was given up").with("Retry-After", retryAfter)
	case errors.As(err, &slow) && slow.Timeout():
		return nil, refuse(http.StatusRequestTimeout, "cannot read the body: it came too slowly")
	default:
		return nil, refuse(http.StatusBadRequest, "cannot read the body: it ended too early")
	}
}

// believed is how many bytes of a body are made room for before they come.
const believed = 64 << 10

// unpack reads all of a body, and undoes its encoding. A signature is over what
// comes out: compressing is between the two ends of a connection, and may be
// undone on the way. Nobody vouched for the body yet, so what comes out is
// bounded too.
func unpack(r *http.Request, from io.Reader, limit int64) ([]byte, error) {
	if !strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
		var whole bytes.Buffer
		// What the sender announces is believed up to a point: he may not send it.
		whole.Grow(int(min(max(r.ContentLength, 0), believed)) + bytes.MinRead)
		_, err := whole.ReadFrom(from)
		return whole.Bytes(), err
	}
	packed, err := gzip.NewReader(from)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(packed, limit+1))
	if int64(len(body)) > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return body, err
}

// interrupt makes reads of the request fail once ctx ends. The function that
// it returns undoes that and waits for what it began.
func interrupt(ctx context.Context, w http.ResponseWriter) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		// A writer that knows no deadlines has no connection to wait for either.
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// send writes the answer and the one log line.
func (in *intake) send(w http.ResponseWriter, source string, began time.Time, answer reply) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if answer.header[0] != "" {
		w.Header().Set(answer.header[0], answer.header[1])
	}
	w.WriteHeader(answer.status)
	// The sender may be gone; what counts is on disk, and the line says so.
	_ = json.NewEncoder(w).Encode(answer.body)
	in.log(source, began, answer)
}

func (in *intake) log(source string, began time.Time, answer reply) {
	line := in.Log.Info()
	switch {
	case answer.status >= 500:
		line = in.Log.Error()
	case answer.status >= 400:
		line = in.Log.Warn()
	}
	line = line.Str("source", clip(source)).Str("delivery", answer.delivery).Str("kind", string(answer.kind)).
		Int("status", answer.status).Dur("duration", in.now().Sub(began))
	if answer.event != "" {
		line = line.Str("event", answer.event).Bool("fresh", answer.fresh)
	}
	if answer.reason != "" {
		line = line.Str("reason", answer.reason)
	}
	line.Msg("delivery")
}

// delivery is the sender's id of a delivery that was refused before it was
// decoded, made safe for a log.
func (in *intake) delivery(name string, header http.Header) string {
	if d, ok := in.Sources[name].(deliverer); ok {
		return clip(d.Delivery(header))
	}
	return ""
}

// maxKept bounds one stored header, in bytes.
const maxKept = 1024

// Keep copies the headers that may be stored. Authorization, cookies, tokens and
// signatures are not among them: what is stored can be read on a page.
func Keep(header http.Header) http.Header {
	kept := http.Header{}
	for _, name := range []string{
		"Content-Type", "User-Agent", "X-Assay-Delivery",
		"X-Github-Delivery", "X-Github-Event", "X-Github-Hook-Id",
		"X-Github-Hook-Installation-Target-Id", "X-Github-Hook-Installation-Target-Type",
		"X-Gitea-Delivery", "X-Gitea-Event", "X-Gitea-Event-Type",
		"X-Forgejo-Delivery", "X-Forgejo-Event", "X-Forgejo-Event-Type",
		"X-Gitlab-Event", "X-Gitlab-Event-Uuid", "X-Gitlab-Webhook-Uuid", "X-Gitlab-Instance",
		"Idempotency-Key", "Webhook-Id", "Webhook-Timestamp",
		"X-Pagure", "X-Pagure-Project", "X-Pagure-Topic",
		"Ce-Id", "Ce-Source", "Ce-Type", "Ce-Specversion", "Ce-Time", "Ce-Subject",
	} {
		if value := header.Get(name); value != "" {
			kept.Set(name, cut(plain(value), maxKept))
		}
	}
	return kept
}

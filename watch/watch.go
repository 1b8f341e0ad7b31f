// Package watch finds what never arrived. It looks from time to time where the
// branches of repositories are, for those that no webhook tells of and as a net
// below those that one does, and reads what forges remember of the deliveries
// that they made. What it finds goes into the same inbox as everything else.
//
// It keeps no state but what Memory keeps for it, and it writes there only after
// the inbox has what was found: killed in between, it finds the same again, under
// the same delivery id.
package watch

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/assay-ci/assay"
	"github.com/rs/zerolog"
)

// Repositories tells where the branches of a repository are now: by full ref
// name, "refs/heads/main", the commit. A repository without branches has none,
// and is no error. It is bounded, in time and in what it returns.
type Repositories interface {
	Heads(ctx context.Context, address string) (map[string]string, error)
}

// Memory keeps short texts by name, durably before Remember returns. What is not
// there is "".
type Memory interface {
	Memory(ctx context.Context, name string) (string, error)
	Remember(ctx context.Context, name, value string) error
}

// Inbox stores events. An event of the same Source with the same Delivery or the
// same non-empty Meaning is stored once; fresh is false from the second time on.
type Inbox interface {
	AddEvent(ctx context.Context, e assay.Event, header http.Header, body []byte) (id string, fresh bool, err error)
	// HasDelivery tells whether a delivery of a source is there.
	HasDelivery(ctx context.Context, source, delivery string) (bool, error)
}

// Events tells what the newest known event says about a ref: the commit that it
// moved to, "" if no event is known. It is asked about repositories that have a
// webhook.
type Events interface {
	NewestPush(ctx context.Context, source, repo, ref string) (commit string, err error)
}

// Intake takes a delivery that was read from the forge's own API: it decodes it
// as if it had been delivered, with the Origin assay.OriginRecovered, and stores
// it. The signature is not checked: the API's answer came over our own
// authenticated connection, and its body is not the delivery's byte for byte.
// fresh is false for what the inbox had. An error that wraps ErrRefused says that
// trying again is no use.
type Intake interface {
	Take(ctx context.Context, source string, header http.Header, body []byte) (fresh bool, err error)
}

// Deliveries is what a forge remembers of one webhook. Errors that wrap
// assay.ErrNotFound say that the forge has forgotten the delivery; a *LaterError
// says when to come back; after any other the same is tried again, later and
// later.
type Deliveries interface {
	// List returns a page of deliveries, newest first, and the name of the page
	// with older ones, "" for none. The page "" is the first one.
	List(ctx context.Context, page string) (batch []Delivery, older string, err error)
	// Fetch returns what was delivered.
	Fetch(ctx context.Context, d Delivery) (http.Header, []byte, error)
	// Redeliver asks the forge to deliver once more.
	Redeliver(ctx context.Context, d Delivery) error
}

// Delivery is one try of a forge to deliver something to a webhook.
type Delivery struct {
	ID    int64     // the forge's number of this try; later ones have higher numbers
	Name  string    // the delivery id that the webhook was told, the same when it is tried again
	Event string    // the forge's word for what happened: "push"
	At    time.Time // when it was tried; zero if the forge does not say
	OK    bool      // the webhook answered with a 2xx
	Cut   bool      // the forge did not keep what it delivered: it can only be delivered again
}

// ErrRefused is wrapped by an Intake's error about a delivery that it will never
// take.
var ErrRefused = errors.New("the intake refuses it")

// LaterError tells that a forge wants to be left alone for a while.
type LaterError struct {
	After time.Duration
	Err   error
}

func (e *LaterError) Error() string { return e.Err.Error() }

func (e *LaterError) Unwrap() error { return e.Err }

// Target is a repository whose branches are looked at.
type Target struct {
	Address string // as configured; what is asked
	Repo    string // as the events of its forge name it: "host/owner/name"; "" for Address
	Source  string // Event.Source; "" for "watch"
	// Webhook tells that pushes are delivered, too: what was found must then be
	// unknown to Events for Options.Grace before it counts, and is called
	// recovered.
	Webhook  bool
	Interval time.Duration // between two looks; 0 for 5 minutes, with a webhook 30
	// Eager makes events of all branches that are there at first sight, instead of
	// only remembering them.
	Eager bool
}

// Hook is a webhook whose deliveries the forge remembers.
type Hook struct {
	Name     string // of what it delivers for: "github.com/octocat/hello"; unique within Source
	Source   string // the intake's: Event.Source
	Host     string // that is asked, "api.github.com"
	Forge    Deliveries
	Interval time.Duration // between two readings; 0 for 10 minutes
}

// Options are what a Watch needs.
type Options struct {
	Targets []Target
	Hooks   []Hook

	Repositories Repositories // for Targets
	Memory       Memory
	Inbox        Inbox
	Events       Events // for Targets with a Webhook
	Intake       Intake // for Hooks
	// Meaning is the Event.Meaning that the intake gives a push of that Source, so
	// that a push which a webhook delivers, too, is one event; nil or "" for none.
	Meaning func(assay.Event) string
	// Found is called for every event that is fresh, from several goroutines; may
	// be nil; must not block. Its place is the metrics and the planner's alarm.
	Found func(source string, origin assay.Origin)
	Log   zerolog.Logger

	Grace    time.Duration // what a webhook may need to arrive; 0 for 2 minutes
	Lookback time.Duration // how far back the first reading of a Hook goes; 0 for a day
	Timeout  time.Duration // of one look or reading; 0 for 5 minutes
	Parallel int           // looks and readings at once, over all hosts; 0 for 4
}

// Defaults, where Options and Targets say nothing.
const (
	defaultInterval  = 5 * time.Minute
	webhookInterval  = 30 * time.Minute
	hookInterval     = 10 * time.Minute
	defaultGrace     = 2 * time.Minute
	defaultLookback  = 24 * time.Hour
	defaultTimeout   = 5 * time.Minute
	defaultParallel  = 4
	longestBackoff   = time.Hour
	jitter           = 0.2 // of an interval, to either side
	sourceOfNobody   = "watch"
	maxHeads         = 10_000      // branches of one repository
	maxMoves         = 200         // events of one look
	maxListed        = 1_000       // deliveries that one reading lists
	maxPages         = 50          // of a forge's list, in one reading
	maxTaken         = 50          // deliveries that one reading fetches
	hurry            = time.Minute // to the next reading when one was too short
	deliveryVersion  = "1"
	memoryVersion    = 1
	maxRef           = 1024 // bytes of a ref's name, as the intake bounds it
	progressOverlap  = 10 * time.Minute
	memoryOfHeads    = "watch/heads/"
	memoryOfDelivery = "watch/deliveries/"
)

func (o Options) withDefaults() Options {
	o.Grace = orDefault(o.Grace, defaultGrace)
	o.Lookback = orDefault(o.Lookback, defaultLookback)
	o.Timeout = orDefault(o.Timeout, defaultTimeout)
	o.Parallel = orDefault(o.Parallel, defaultParallel)
	return o
}

func orDefault[T int | time.Duration](value, fallback T) T {
	if value <= 0 {
		return fallback
	}
	return value
}

func (t Target) withDefaults() Target {
	if t.Repo == "" {
		t.Repo = t.Address
	}
	if t.Source == "" {
		t.Source = sourceOfNobody
	}
	fallback := defaultInterval
	if t.Webhook {
		fallback = webhookInterval
	}
	t.Interval = orDefault(t.Interval, fallback)
	return t
}

// origin is how its events came to us.
func (t Target) origin() assay.Origin {
	if t.Webhook {
		return assay.OriginRecovered
	}
	return assay.OriginWatched
}

// Watch looks at targets and hooks.
type Watch struct{ options Options }

// New returns a watch that does nothing before Run.
func New(o Options) *Watch { return &Watch{options: o.withDefaults()} }

// Run looks at everything at once, in turn on each host, and then from time to
// time until ctx ends. Whatever fails is logged and tried again, later and later,
// at most an hour apart.
func (w *Watch) Run(ctx context.Context) {
	var jobs []*job
	for _, t := range w.options.Targets {
		p := &poll{Options: w.options, target: t.withDefaults()}
		jobs = append(jobs, &job{host: hostOf(t.Address), name: show(t.Address), interval: p.target.Interval, do: p.look})
	}
	for _, h := range w.options.Hooks {
		r := &reading{Options: w.options, hook: h}
		jobs = append(jobs, &job{host: h.Host, name: "the deliveries of " + h.Name, interval: orDefault(h.Interval, hookInterval), do: r.read})
	}
	runAll(ctx, jobs, w.options)
}

// found counts an event that nobody had told us of.
func (o Options) found(source string, origin assay.Origin) {
	if o.Found != nil {
		o.Found(source, origin)
	}
}

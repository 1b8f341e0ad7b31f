package webhook

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"github.com/gorilla/mux"
	"github.com/rs/zerolog"
)

// DefaultMaxBody is the largest body taken unless Options say otherwise, in
// bytes: GitHub sends no larger one (docs, "Webhook events and payloads",
// payload cap).
const DefaultMaxBody = 25 << 20

// Source understands the deliveries of one forge or build system. Both methods
// are pure, may be called from several goroutines, and must not keep or change
// what they are given. Their errors are sent to whoever posted and are logged:
// they quote at most a few bounded, escaped words of the body.
type Source interface {
	// Verify tells whether the body comes from who shares the secret. It looks
	// at the raw body, in constant time.
	Verify(header http.Header, body []byte) error
	// Decode reads a verified delivery. It returns at least one event; one that
	// calls for nothing has Ignored set, and is stored all the same. ID may be
	// left empty for a fresh one; Source and Received are filled in by the
	// handler. Everything in the events is bounded and free of control
	// characters. An error means that the sender broke the documented format.
	Decode(header http.Header, body []byte) ([]assay.Event, error)
}

// Optional abilities of a Source.
type (
	// contentTyper is a source that takes other media types than JSON.
	contentTyper interface{ ContentTypes() []string }
	// deliverer tells the sender's id of a delivery that may be refused yet, so
	// that the log line can name it; "" when it has none.
	deliverer interface{ Delivery(http.Header) string }
	// voucher is a source some of whose secrets are good for some repositories
	// only. It is asked about each event of a verified delivery.
	voucher interface {
		Vouch(header http.Header, body []byte, e assay.Event) error
	}
	// warner has something to say to the operator once, at start.
	warner interface{ Warning() string }
)

// Inbox stores events.
type Inbox interface {
	// AddEvent stores one event with the delivery it came in, durably before it
	// returns. When an event of the same Source with the same Delivery or the
	// same non-empty Meaning is there already it stores nothing and returns that
	// one's id with fresh = false. header holds only what is safe to keep. Any
	// error is answered with 503, so that the sender tries again. Of a delivery
	// with several events, which differ in their Delivery, those before the one
	// that failed are known when it comes again.
	AddEvent(ctx context.Context, e assay.Event, header http.Header, body []byte) (id string, fresh bool, err error)
}

// Options are what the intake needs.
type Options struct {
	Sources   map[string]Source // by the name in the path; it becomes Event.Source
	Inbox     Inbox
	Log       zerolog.Logger
	MaxBody   int64         // bytes, also of what a compressed body unpacks to; 0 for DefaultMaxBody
	MaxAge    time.Duration // older deliveries are refused where the sender signs a time; 0 for any age
	Rate      Rate          // for each remote address and source; zero fields for the defaults
	PublicURL string        // where the pages are, "https://assay.example.org"
	Wake      func()        // called after something fresh was stored; may be nil; must not block
}

// Handler serves POST /hooks/SOURCE and answers everything else with 404.
func Handler(o Options) http.Handler {
	router := mux.NewRouter().SkipClean(true)
	in := register(router, o)
	router.NotFoundHandler = http.HandlerFunc(in.notFound)
	return router
}

// Register adds POST /hooks/SOURCE, and answers for all else below /hooks/, to
// a router that has more to do.
func Register(router *mux.Router, o Options) { register(router, o) }

func register(router *mux.Router, o Options) *intake {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	in := &intake{Options: o, limits: newLimiter(o.Rate), now: time.Now}
	in.warn()
	router.HandleFunc("/hooks/{source}", in.serve)
	router.PathPrefix("/hooks/").HandlerFunc(in.notFound)
	return in
}

// warn tells the operator, once, about sources that take everything or nothing.
func (in *intake) warn() {
	for _, name := range in.names() {
		if w, ok := in.Sources[name].(warner); ok && w.Warning() != "" {
			in.Log.Warn().Str("source", name).Msg(w.Warning())
		}
	}
}

func (in *intake) names() []string {
	names := make([]string, 0, len(in.Sources))
	for name := range in.Sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

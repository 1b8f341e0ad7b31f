// Package proxy is the way out of a machine that has no network: an HTTP proxy
// in the runner, which reaches nothing but the mirrors that the operator allows,
// keeps what it fetched for the next machine, and tells of every request.
//
// Guests are hostile. What they may ask for is decided by a pure function
// (policy.decide); nothing they write but a path below an allowed one, a query
// and five plain headers ever leaves the host. Whatever a name resolves to, the
// host's own and its neighbours' addresses are not connected to unless the
// operator wrote them.
//
// A mirror that is allowed with https:// is asked for by guests with http://:
// the proxy speaks TLS to it, and so can see, allow and keep single files. The
// package managers check signatures themselves.
package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options configure a Proxy. Zero fields ask for the default.
type Options struct {
	Allow    []Rule            // what guests may reach; nothing by default (see HostMirrors)
	Cache    string            // directory for what was fetched, made if need be; "" keeps nothing
	MaxBytes int64             // of that directory; 10 GiB
	Log      func(Entry)       // told of every request when it has ended, from several goroutines; may be nil
	Setting  string            // what refusals tell the operator to change; "machines.mirrors"
	Idle     time.Duration     // how long a guest or a mirror may say nothing; 2 min: emulated guests are slow
	Upstream http.RoundTripper // asks mirrors; nil for one that honours http_proxy and its kin
}

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 10 << 30
	}
	if o.Log == nil {
		o.Log = func(Entry) {}
	}
	if o.Setting == "" {
		o.Setting = "machines.mirrors"
	}
	if o.Idle <= 0 {
		o.Idle = 2 * time.Minute
	}
	return o
}

// The ways an Entry's request was served.
const (
	FromCache    = "cache"    // from the disk, a mirror having confirmed it where it can change
	FromUpstream = "upstream" // fetched for it
	FromShared   = "shared"   // fetched for another guest at the same moment
	FromTunnel   = "tunnel"   // CONNECT
	FromNobody   = "nobody"   // refused or failed
)

// Entry tells of one request that has ended.
type Entry struct {
	Method string
	URL    string // without its query; printable
	Status int    // as the guest got it
	Bytes  int64  // of the body, to the guest
	From   string // FromCache, …
	Reason string // of a refusal or failure, one line; "" when it was served
	Took   time.Duration
}

// Refused tells that the operator's allow list, or a malformed request, is why
// the guest did not get it.
func (e Entry) Refused() bool {
	return e.Status == http.StatusForbidden && e.From == FromNobody || e.Status == http.StatusBadRequest
}

// Proxy serves guests. Make one with New; one for all guests lets them share
// what it fetches.
type Proxy struct {
	policy  policy
	options Options
	guard   *guard
	store   *store // nil keeps nothing
	client  http.RoundTripper
}

// New makes a proxy and opens its cache. What killed processes left in there is
// removed.
func New(options Options) (*Proxy, error) {
	p := &Proxy{options: options.withDefaults()}
	p.policy = policy{allow: p.options.Allow, setting: p.options.Setting}
	p.guard = newGuard(p.policy)
	p.client = p.options.Upstream
	if p.client == nil {
		p.client = p.guard.transport(p.options.Idle)
	}
	if p.options.Cache != "" {
		var err error
		if p.store, err = openStore(p.options.Cache, p.options.MaxBytes); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// WithLog is the same proxy, its cache included, for one more guest whose
// requests are told to log.
func (p *Proxy) WithLog(log func(Entry)) *Proxy {
	other := *p
	other.options.Log = log
	return &other
}

// Close lets go of idle connections to mirrors. Serve must have returned.
func (p *Proxy) Close() error {
	if t, ok := p.client.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	return nil
}

// maxHeader bounds the head of a request, in bytes.
const maxHeader = 16 << 10

// Serve answers requests on a listener until ctx ends, with nil, or the listener
// does, with its error, nil for net.ErrClosed. It closes the listener, and
// returns when every request has ended.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var conns, requests sync.WaitGroup
	server := &http.Server{
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			defer requests.Done()
			p.answer(w, r)
		}),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout:            p.options.Idle,
		ReadTimeout:                  p.options.Idle, // requests have no body
		IdleTimeout:                  p.options.Idle,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0), // guests would write it
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	err := server.Serve(listener)
	stop()
	cancel()
	_ = server.Close()
	conns.Wait()
	requests.Wait() // of tunnels, too, whose connections are no longer the server's
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

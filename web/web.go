// Package web shows what the program knows as pages: recent executions, one
// package, one execution with its log, results and artifacts, one event.
//
// The pages work without JavaScript and carry none; the policy sent with each
// of them forbids it. Everything shown comes from payloads, check repositories
// and guests and is treated as hostile: text is escaped, logs and artifacts are
// never served as something that a browser runs.
package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// Store is what the pages read. Every method that is given an ID returns an
// error that wraps assay.ErrNotFound when there is nothing of that name.
type Store interface {
	// Executions returns what the filter selects, newest first.
	Executions(ctx context.Context, filter assay.ExecutionFilter) ([]assay.Execution, error)
	Execution(ctx context.Context, id string) (assay.Execution, error)
	// Steps returns the entries of all attempts, in the order they began.
	Steps(ctx context.Context, id string) ([]assay.StepRun, error)
	// Results returns all results, in the order the check reported them.
	Results(ctx context.Context, id string) ([]assay.Result, error)
	Artifacts(ctx context.Context, id string) ([]assay.Artifact, error)
	Event(ctx context.Context, id string) (assay.EventRecord, error)
}

// Files opens what executions leave on disk. The caller closes the files. An
// error that wraps fs.ErrNotExist or assay.ErrNotFound tells that there is no
// such file (yet).
type Files interface {
	// OpenLog opens the log of one attempt, counted from 1. The file may still
	// grow; it never shrinks.
	OpenLog(id string, attempt int) (*os.File, error)
	// OpenArtifact opens one artifact by its slash-separated, clean, relative
	// path. A file that is an io.Seeker too is served with range support.
	OpenArtifact(id, path string) (fs.File, error)
	// OpenConsole opens what the machine printed on its console.
	OpenConsole(id string) (*os.File, error)
}

// Options is what the pages need. Store and Files must be set.
type Options struct {
	Store   Store
	Files   Files
	Log     zerolog.Logger
	Version string // shown at the foot of every page
	// Waits tells why an execution is not being run yet, in one line, "" if it does
	// not know; may be nil.
	Waits func(execution string) string
	// Inbox is what /events and the pages of events show of deliveries; nil for
	// none of it.
	Inbox Inbox
	// ShowBodies shows the body of a delivery, where it is JSON, to everybody who
	// may see the pages. Bodies can hold what is private.
	ShowBodies bool
	// Ping tells whether the server can do its work; nil for always.
	Ping func(context.Context) error
	// Schema is the JSON Schema of formulas, served at /schema/formula.json; nil for
	// none.
	Schema []byte
	// Now is the clock for relative times; nil for time.Now.
	Now func() time.Time
}

// Register adds the pages to router. It also sets the router's answers to
// unknown addresses and wrong methods where none are set, and makes it take
// paths as they are instead of redirecting to a cleaned one: a redirect would
// go out without the headers that every answer has. It fails when the options
// lack something or an embedded template is broken.
func Register(router *mux.Router, options Options) error {
	s, err := newServer(options)
	if err != nil {
		return err
	}
	router.SkipClean(true)
	for _, rt := range s.routes() {
		router.Handle(rt.pattern, s.handler(rt.get)).Methods(http.MethodGet, http.MethodHead)
	}
	if router.NotFoundHandler == nil {
		router.NotFoundHandler = s.handler(s.notFound)
	}
	if router.MethodNotAllowedHandler == nil {
		router.MethodNotAllowedHandler = s.handler(s.wrongMethod(router))
	}
	return nil
}

// route is one row of the table of addresses. get answers GET and HEAD.
type route struct {
	pattern string
	get     func(*http.Request) (response, error)
}

// routes is the whole surface. An ID is a UUID; the pattern only keeps out what
// could mean something in a path. More exact patterns come first.
func (s *server) routes() []route {
	const execution = "/executions/{id:[0-9A-Za-z-]{1,64}}"
	routes := []route{
		{"/", s.front},
		{"/packages/{name:(?s:.+)}", s.packagePage},
		{execution + ".json", s.executionJSON},
		{execution, s.executionPage},
		{execution + "/log", s.logPage},
		{execution + "/log.txt", s.rawLog},
		{execution + "/artifacts/{path:(?s:.+)}", s.artifact},
		{"/events/{id:[0-9A-Za-z-]{1,64}}", s.eventPage},
		{"/static/{file}", s.static},
		{"/schema/formula.json", s.schema},
		{"/robots.txt", s.robots},
		{"/healthz", s.health},
	}
	if s.Inbox != nil {
		routes = append(routes, route{"/events", s.events})
	}
	return routes
}

// server holds what the handlers share.
type server struct {
	Options
	pages   pages
	assets  assets
	indexes *indexes
}

func newServer(options Options) (*server, error) {
	if options.Store == nil || options.Files == nil {
		return nil, errors.New("cannot serve pages: Options.Store and Options.Files must be set")
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	assets, err := loadAssets()
	if err != nil {
		return nil, err
	}
	pages, err := loadPages()
	if err != nil {
		return nil, err
	}
	return &server{Options: options, pages: pages, assets: assets, indexes: newIndexes()}, nil
}

// health answers load balancers and supervisors.
func (s *server) health(r *http.Request) (response, error) {
	if s.Ping == nil {
		return text(http.StatusOK, "ok\n"), nil
	}
	if err := s.Ping(r.Context()); err != nil {
		s.Log.Error().Err(err).Msg("the server is not healthy")
		return text(http.StatusServiceUnavailable, "not healthy: see the server's log\n"), nil
	}
	return text(http.StatusOK, "ok\n"), nil
}

// robots keeps crawlers to the front page and the packages: executions are many
// and their logs are large.
func (s *server) robots(*http.Request) (response, error) {
	return text(http.StatusOK, "User-agent: *\nDisallow: /executions/\nDisallow: /events\n"), nil
}

func (s *server) notFound(r *http.Request) (response, error) {
	return nil, fmt.Errorf("no page at this address: %w", assay.ErrNotFound)
}

// wrongMethod answers 405 with the methods that the router would take, its
// other rooms' routes included.
func (s *server) wrongMethod(router *mux.Router) func(*http.Request) (response, error) {
	return func(r *http.Request) (response, error) {
		return withHeader{"Allow", strings.Join(allowed(router, r), ", "), s.message(messageView{
			Status:  http.StatusMethodNotAllowed,
			Heading: "That cannot be done here",
			Text:    "This address does not take " + clip(r.Method, 20) + " requests.",
		})}, nil
	}
}

func allowed(router *mux.Router, r *http.Request) []string {
	var methods []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		var match mux.RouteMatch
		if router.Match(probe, &match) && match.MatchErr == nil {
			methods = append(methods, m)
		}
	}
	slices.Sort(methods)
	return methods
}

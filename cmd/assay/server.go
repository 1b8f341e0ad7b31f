package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/bus"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/libvirt"
	"github.com/assay-ci/assay/web"
	"github.com/assay-ci/assay/webhook"
)

// server is assay serve: intake, story, engine, machines and pages in one
// process.
type server struct {
	cfg      config.Config
	log      zerolog.Logger
	secrets  [][]byte
	sources  map[string]webhook.Source
	listener net.Listener
	url      string // without a slash at the end

	store    *results.Store
	repos    *repo.Cache
	bus      *bus.Bus
	line     *dispatch.Line
	machines runner.Machines
	holder   *runner.Holder

	planWake   dispatch.Signal
	reportWake dispatch.Signal
	gateWake   dispatch.Signal

	metrics *metrics

	closers []func() error // in the order of opening
}

// machineOpener opens machines and says how to close them; openMachines, but in
// tests.
type machineOpener func(context.Context, config.Config, zerolog.Logger) (runner.Machines, func() error, error)

// newServer opens everything, in the order in which it is needed. Close it
// whatever Run returns.
func newServer(ctx context.Context, cfg config.Config, log zerolog.Logger, open machineOpener) (s *server, err error) {
	s = &server{cfg: cfg, log: log, planWake: dispatch.NewSignal(), reportWake: dispatch.NewSignal(), gateWake: dispatch.NewSignal(), metrics: newMetrics()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.secrets, err = cfg.Secrets(); err != nil {
		return s, err
	}
	// The listener first: a second server on the same address ends here, before
	// it touches anything of the first.
	if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return s, fmt.Errorf("cannot listen: %w: stop the other program or change listen", err)
	}
	s.closers = append(s.closers, func() error { s.listener.Close(); return nil })
	keys, err := webhookKeys(cfg, s.listener.Addr().String())
	if err != nil {
		return s, err
	}
	s.sources = newSources(keys)
	if s.url = strings.TrimRight(cfg.URL, "/"); s.url == "" {
		s.url = "http://" + s.listener.Addr().String()
	}
	// Machines of another user (libvirt's) lie below it.
	if err := os.MkdirAll(cfg.Data, 0o711); err != nil {
		return s, fmt.Errorf("cannot make the data directory: %w", err)
	}
	if s.store, err = results.Open(ctx, cfg.Data); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.store.Close)
	s.metrics.registry.MustRegister(lagCollector{s.store})
	if s.repos, err = repo.Open(filepath.Join(cfg.Data, "mirrors"), repo.DefaultLimits()); err != nil {
		return s, err
	}
	if s.bus, err = bus.Start(ctx, bus.Options{Dir: filepath.Join(cfg.Data, "queue"), Log: log}); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func() error { s.bus.Close(); return nil })
	s.line = dispatch.NewLine(queue{s.bus}, cfg.Machines.Count, cfg.Machines.PerPackage)
	machines, closeMachines, err := open(ctx, cfg, log)
	if err != nil {
		return s, err
	}
	s.machines = machines
	if m, ok := machines.(*libvirt.Machines); ok {
		s.metrics.registry.MustRegister(machineCollector{m})
	}
	s.closers = append(s.closers, closeMachines)
	s.holder = newHolder(cfg, log)
	s.closers = append(s.closers, s.holder.Close)
	return s, nil
}

// newHolder keeps the machines of executions that ended badly, as configured.
func newHolder(cfg config.Config, log zerolog.Logger) *runner.Holder {
	return runner.NewHolder(runner.HolderOptions{
		Count: cfg.Machines.Held, For: cfg.Machines.Hold,
		Ended: func(execution string, err error) {
			log.Info().Err(err).Str("execution", execution).Msg("the machine that was kept is given back")
		},
	})
}

// Close closes what newServer opened, newest first.
func (s *server) Close() error {
	var err error
	for i := len(s.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, s.closers[i]())
	}
	s.closers = nil
	return err
}

// page is the address of a page of ours.
func (s *server) page(kind, id string) string { return s.url + "/" + kind + "/" + id }

// Run serves until ctx ends, then lets everything come to its end.
func (s *server) Run(ctx context.Context) error {
	if err := s.refill(ctx); err != nil {
		return err
	}
	handler, err := s.handler()
	if err != nil {
		return err
	}
	loops, err := s.loops()
	if err != nil {
		return err
	}
	socket, err := listenControl(s.cfg.Data)
	if err != nil {
		return err
	}
	control := newControl(s.store, s.sources, s.planWake.Wake, s.page, s.log)
	// Who reads it may connect at once: the listeners are there, and wait.
	if err := s.announce(); err != nil {
		return errors.Join(err, socket.Close())
	}
	defer os.Remove(filepath.Join(s.cfg.Data, announcement))
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range loops {
		group.Go(func() error { return loop(ctx) })
	}
	group.Go(func() error { return serveUntil(ctx, s.listener, handler, longestAnswer) })
	group.Go(func() error { return serveUntil(ctx, socket, control.handler(), time.Minute) })
	s.log.Info().Str("url", s.url).Str("data", s.cfg.Data).Int("packages", len(s.cfg.Packages)).Msg("serving")
	return group.Wait()
}

// refill puts everything unfinished back on the queue: what the last process
// was at when it ended is begun anew, and nothing is there twice.
func (s *server) refill(ctx context.Context) error {
	unfinished, err := s.store.Requeue(ctx)
	if err != nil {
		return fmt.Errorf("cannot read what is unfinished: %w", err)
	}
	if err := s.bus.Purge(ctx); err != nil {
		return fmt.Errorf("cannot empty the queue: %w", err)
	}
	// The line serves at once whom it sees first: what was begun before comes last.
	slices.SortStableFunc(unfinished, func(a, b assay.Execution) int { return cmp.Compare(a.Attempt, b.Attempt) })
	for _, e := range unfinished {
		if e.Waits() {
			continue // the gate's
		}
		if err := s.line.Publish(ctx, e); err != nil {
			return fmt.Errorf("cannot queue execution %s: %w", e.ID, err)
		}
	}
	if len(unfinished) > 0 {
		s.log.Info().Int("executions", len(unfinished)).Msg("taken up again")
	}
	return nil
}

// loops are the parts of the story that run side by side.
func (s *server) loops() ([]func(context.Context) error, error) {
	forges, err := newForges(s.cfg, s.repos)
	if err != nil {
		return nil, err
	}
	executor, err := newExecutor(s.cfg, s.repos, s.store.Files(), s.machines, s.holder)
	if err != nil {
		return nil, err
	}
	packages := packagesOf(s.cfg)
	running := &dispatch.Running{}
	ended := func() { s.reportWake.Wake(); s.gateWake.Wake() }
	planner := &dispatch.Planner{
		Store: s.store, Repos: repos{s.repos}, Checks: readChecks, Packages: packages, Asker: askers(forges),
		Cancelled: func(id string) { s.line.Forget(id); running.Stop(id) },
		Queue:     s.line, Page: s.page, Log: s.log, Wake: s.planWake, Planned: ended,
	}
	reporter := &dispatch.Reporter{
		Outbox: s.store, History: s.store, Refused: refused, Page: s.page, Log: s.log, Wake: s.reportWake,
		Comments: dispatch.CommentMode(s.cfg.Comments),
		Excerpt:  func(x assay.Execution) ([]string, error) { return excerpt(s.store.Files(), x) },
		Forge:    func(address string) (dispatch.Forge, error) { return forges.For(address) },
	}
	worker := &dispatch.Worker{
		Running: running,
		Store:   s.store, Queue: s.line, Execute: s.metrics.counted(executor.execute),
		Page: s.page, Log: s.log, Finished: ended, Retries: s.cfg.Limits.Retries,
	}
	gate := &dispatch.Gate{
		Store: s.store, Queue: s.line, Page: s.page, Log: s.log, Wake: s.gateWake, Finished: s.reportWake.Wake,
	}
	loops := []func(context.Context) error{planner.Run, reporter.Run, gate.Run}
	for range s.cfg.Machines.Count {
		loops = append(loops, worker.Run)
	}
	watching, err := s.watching()
	if err != nil {
		return nil, err
	}
	loops = append(loops, func(ctx context.Context) error { watching.Run(ctx); return nil })
	return append(loops, s.sweepSpools, s.reap, s.selftest, s.prune), nil
}

// pruneEvery is how often what is too old is removed.
const pruneEvery = time.Hour

// prune removes what is older than the configuration wants it kept.
func (s *server) prune(ctx context.Context) error {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		before := func(age time.Duration) time.Time {
			if age == 0 {
				return time.Time{}
			}
			return time.Now().Add(-age)
		}
		k := s.cfg.Keep
		p, err := s.store.Prune(ctx, results.Retention{Bodies: before(k.Deliveries), Executions: before(k.Executions), Events: before(k.Events)})
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("cannot remove all that is too old: it is tried again in an hour")
		}
		if p != (results.Pruned{}) {
			s.log.Info().Int("deliveries", p.Bodies).Int("executions", p.Executions).Int("events", p.Events).Msg("removed what is too old")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func packagesOf(cfg config.Config) dispatch.Packages {
	var list dispatch.Packages
	for _, p := range cfg.Packages {
		list = append(list, p.Package())
	}
	return list
}

// handler is the whole HTTP surface: intake and pages.
func (s *server) handler() (http.Handler, error) {
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	webhook.Register(router, webhook.Options{
		Sources: s.sources, Inbox: s.store, Log: s.log, PublicURL: s.url, MaxAge: s.cfg.Webhook.MaxAge, Wake: s.planWake.Wake,
	})
	router.Handle("/metrics", s.metrics.handler()).Methods(http.MethodGet)
	err := web.Register(router, web.Options{
		Store: s.store, Files: pageFiles{s.store.Files(), s.store}, Log: s.log, Version: version().Version, Waits: s.line.Place,
		Inbox: s.store, ShowBodies: s.cfg.Webhook.ShowBodies, Schema: checks.Schema(),
		Ping: func(ctx context.Context) error { _, err := s.store.Events(ctx, 1); return err },
	})
	return router, err
}

const shutdownTime = 5 * time.Second

// longestAnswer is how long a page may take to be read: logs are large.
const longestAnswer = 10 * time.Minute

// serveUntil serves until ctx ends. The limits cut off slow clients.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler, answer time.Duration) error {
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      answer,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		srv.Close()
	}
	<-ended
	return nil
}

// announcement is the file that tells other programs of this host where the
// server is.
const announcement = "server.json"

// announced is its content.
type announced struct {
	Version int    `json:"version"`
	PID     int    `json:"pid"`
	URL     string `json:"url"`     // as others reach it
	Listens string `json:"listens"` // as programs of this host do
}

func (s *server) announce() error {
	data, err := json.Marshal(announced{1, os.Getpid(), s.url, "http://" + s.listener.Addr().String()})
	if err != nil {
		return err
	}
	file := filepath.Join(s.cfg.Data, announcement)
	if err := os.WriteFile(file+".new", data, 0o644); err != nil {
		return fmt.Errorf("cannot say where the server is: %w", err)
	}
	return os.Rename(file+".new", file)
}

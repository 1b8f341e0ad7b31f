// Package bus is the engine: it carries jobs from those who plan them to the
// runners that do them, under leases. A job that its holder neither finishes nor
// keeps alive goes to another.
//
// It is NATS JetStream, as a real server inside this process: no port, no
// set-up. JetStream is never the only copy of anything. Whatever it holds can be
// written again from the database, so it may be emptied at any start.
//
// Subjects: assay.jobs.ARCH carries jobs. Everything below assay. that is not
// assay.jobs. is free for messages to outsiders.
package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const (
	streamName   = "ASSAY_JOBS"
	consumerName = "runners"
	subjects     = "assay.jobs.*"
	anyArch      = "any" // stands for a job without an architecture

	defaultAckWait = 30 * time.Second
	startWait      = 30 * time.Second // for the server, which reads its files first
	pullWait       = 10 * time.Second // how long one request for a job stays open
	answerWait     = 10 * time.Second // for an answer when the caller sets no limit
	maxJob         = 64 << 10         // bytes of one message
)

// ErrClosed tells that the bus was closed.
var ErrClosed = errors.New("the bus is closed")

// Options says how to start a bus.
type Options struct {
	Dir string         // where JetStream keeps its files; made if need be; one process only
	Log zerolog.Logger // the server's own log goes here at debug
	// AckWait is how long a lease lasts without being kept alive; 0 for 30 s.
	AckWait time.Duration
}

// Bus is a running engine. Its methods may be called from any goroutine.
type Bus struct {
	log     zerolog.Logger
	ackWait time.Duration
	server  *server.Server
	conn    *nats.Conn
	js      jetstream.JetStream
	jobs    jetstream.Consumer
	epoch   atomic.Value // string: begins every message id; anew with each Purge

	ctx   context.Context // ends when Close begins
	stop  context.CancelFunc
	close sync.Once
	mu    sync.RWMutex   // held to spawn, and by Close to end spawning
	over  bool           // no goroutine may be spawned any more
	wg    sync.WaitGroup // all goroutines of the bus and its leases
}

// Start runs the engine until Close. Jobs that an earlier one left in Dir are
// still there. ctx bounds only the start.
func Start(ctx context.Context, o Options) (*Bus, error) {
	b := &Bus{log: o.Log, ackWait: o.AckWait}
	if b.ackWait <= 0 {
		b.ackWait = defaultAckWait
	}
	b.epoch.Store("")
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := b.start(ctx, o.Dir); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bus) start(ctx context.Context, dir string) (err error) {
	if b.server, err = server.NewServer(serverOptions(dir)); err != nil {
		return fmt.Errorf("cannot set up the engine in %s: %v", dir, err)
	}
	b.server.SetLoggerV2(serverLog{b.log}, false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(startWait) || !b.server.JetStreamEnabled() {
		return fmt.Errorf("cannot start the engine in %s: it is not ready after %s: see the log at level debug; its files may be removed, jobs are written again from the database", dir, startWait)
	}
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.MaxReconnects(-1), nats.Name("assay"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Debug().Err(err).Msg("engine connection")
		}))
	if err != nil {
		return fmt.Errorf("cannot connect to the engine: %v", err)
	}
	if b.js, err = jetstream.New(b.conn); err != nil {
		return fmt.Errorf("cannot use the engine: %v", err)
	}
	return b.declare(ctx)
}

// serverOptions is the server's whole configuration. Files are synced now and
// then and not for each message: a killed process loses nothing by that, and
// after a power cut the database fills the queue again.
func serverOptions(dir string) *server.Options {
	return &server.Options{
		JetStream:              true,
		StoreDir:               dir,
		DontListen:             true,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		SyncInterval:           10 * time.Second,
		JetStreamMaxMemory:     64 << 20,
		JetStreamMaxStore:      4 << 30,
	}
}

// declare makes the stream and its consumer, or brings them to what this
// version wants.
func (b *Bus) declare(ctx context.Context) error {
	stream, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:       streamName,
		Subjects:   []string{subjects},
		Retention:  jetstream.WorkQueuePolicy,
		Storage:    jetstream.FileStorage,
		MaxMsgSize: maxJob,
	})
	if err != nil {
		return fmt.Errorf("cannot make the job queue: %v", err)
	}
	b.jobs, err = stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       b.ackWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
	})
	if err != nil {
		return fmt.Errorf("cannot make the consumer of the job queue: %v", err)
	}
	return nil
}

// Close ends every lease's keeping and every Next, joins all goroutines and
// stops the server. Jobs in the queue and under leases stay in Dir. A second
// call does nothing.
func (b *Bus) Close() {
	b.close.Do(func() {
		b.stop()
		b.mu.Lock()
		b.over = true
		b.mu.Unlock()
		b.wg.Wait()
		if b.conn != nil {
			b.conn.Close()
		}
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
	})
}

// spawn runs fn on a goroutine that Close joins; false once Close has begun.
func (b *Bus) spawn(fn func()) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if !b.over {
		b.wg.Go(fn)
	}
	return !b.over
}

// Job asks for one execution to be run.
type Job struct {
	Execution string `json:"execution"` // UUID
	// Generation tells two jobs for the same execution apart: one to retry must
	// have another number, or it counts as the first one delivered again.
	Generation int    `json:"generation"`
	Arch       string `json:"arch,omitempty"` // of the machine it needs, "" for any
}

var archPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// message turns a job into what is published, or says why it cannot be one.
func (j Job) message() (*nats.Msg, error) {
	if err := j.check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	arch := j.Arch
	if arch == "" {
		arch = anyArch
	}
	return &nats.Msg{Subject: "assay.jobs." + arch, Data: data}, nil
}

func (j Job) check() error {
	if u, err := uuid.Parse(j.Execution); err != nil || u.String() != j.Execution {
		return fmt.Errorf("its execution %.50q is not a UUID in lower case", j.Execution)
	}
	if j.Arch != "" && !archPattern.MatchString(j.Arch) {
		return fmt.Errorf("its architecture %.50q is not of letters, digits, - and _", j.Arch)
	}
	return nil
}

// Publish puts a job into the queue and returns when the queue has it. The same
// (Execution, Generation) again within two minutes is taken for the same job.
func (b *Bus) Publish(ctx context.Context, j Job) error {
	msg, err := j.message()
	if err != nil {
		return fmt.Errorf("cannot publish a job: %v", err)
	}
	id := fmt.Sprintf("%s%s.%d", b.epoch.Load(), j.Execution, j.Generation)
	if _, err := b.js.PublishMsg(ctx, msg, jetstream.WithMsgID(id)); err != nil {
		return fmt.Errorf("cannot publish the job for execution %s: %w", j.Execution, err)
	}
	return nil
}

// Purge empties the queue. It is for the start of a single server, which fills
// it again from the database; nobody may hold a lease. A job that was published
// before may be published again at once.
func (b *Bus) Purge(ctx context.Context) error {
	stream, err := b.js.Stream(ctx, streamName)
	if err == nil {
		err = stream.Purge(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot empty the job queue: %v", err)
	}
	// The stream remembers message ids beyond the messages. Without a new
	// beginning the refill would be taken for repeats, and dropped.
	b.epoch.Store(uuid.NewString() + ".")
	return nil
}

// serverLog passes on what the NATS server says. None of it is news to an
// operator, except what it calls an error.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug().Msgf("engine: "+f, v...) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Debug().Msgf("engine: "+f, v...) }
func (l serverLog) Fatalf(f string, v ...any)  { l.log.Error().Msgf("engine: "+f, v...) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Warn().Msgf("engine: "+f, v...) }
func (l serverLog) Debugf(f string, v ...any)  { l.log.Trace().Msgf("engine: "+f, v...) }
func (l serverLog) Tracef(f string, v ...any)  { l.log.Trace().Msgf("engine: "+f, v...) }

var _ server.Logger = serverLog{}

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrLeaseLost is the cause of a Context that ended because the lease could not
// be kept alive: by now somebody else may have the job.
var ErrLeaseLost = errors.New("the lease on the job is lost")

// Lease is a job that this process holds until Done or Release, or until it
// lapses: AckWait after Next returned or Keep last reached the queue. Exactly
// one of Done and Release must be called, once.
type Lease struct {
	Job
	// Redelivered tells that the job was handed out before and not finished: its
	// execution may have been begun by somebody who died, or who still runs.
	Redelivered bool

	bus  *Bus
	msg  jetstream.Msg
	stop context.CancelFunc // ends the keeping
	kept sync.WaitGroup     // the keeping goroutine

	mu      sync.Mutex
	ended   error // why the contexts ended; nil while the lease holds
	cancels []context.CancelCauseFunc
}

// Next blocks until there is a job to take and takes it. It returns ctx's error
// when that ends and ErrClosed when the bus is closed; any other error is worth
// a pause and another call. What is on the queue and is no job is removed from
// it, with a line in the log.
func (b *Bus) Next(ctx context.Context) (*Lease, error) {
	for {
		msg, err := b.pull(ctx)
		if err != nil {
			return nil, err
		}
		if msg == nil {
			continue
		}
		l, err := b.lease(msg)
		if err == nil {
			return l, nil
		}
		b.log.Warn().Err(err).Str("subject", msg.Subject()).Msg("removed from the queue: not a job")
		if err := msg.TermWithReason("not a job"); err != nil {
			return nil, fmt.Errorf("cannot remove a malformed job: %v", err)
		}
	}
}

// pull asks the queue for one message; nil without an error if there was none
// for a while.
func (b *Bus) pull(ctx context.Context) (jetstream.Msg, error) {
	if err := b.idle(ctx); err != nil {
		return nil, err
	}
	// The request lives as long as the bus and not only as ctx: a message that
	// comes for a request which nobody waits for would be held up for AckWait.
	limit, cancel := context.WithTimeout(b.ctx, pullWait)
	batch, err := b.jobs.Fetch(1, jetstream.FetchContext(limit))
	if err != nil {
		cancel()
		return nil, errors.Join(b.idle(ctx), fmt.Errorf("cannot ask for a job: %v", err))
	}
	select {
	case msg := <-batch.Messages():
		cancel()
		return b.pulled(ctx, msg, batch.Error())
	case <-ctx.Done():
		b.giveBack(batch, cancel)
		return nil, ctx.Err()
	}
}

// pulled sorts out the end of a request.
func (b *Bus) pulled(ctx context.Context, msg jetstream.Msg, err error) (jetstream.Msg, error) {
	if msg != nil {
		return msg, nil
	}
	if err := b.idle(ctx); err != nil {
		return nil, err
	}
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		return nil, nil
	}
	return nil, fmt.Errorf("cannot take a job: %v", err)
}

// idle tells why there is nothing left to wait for, if so.
func (b *Bus) idle(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// giveBack waits for the end of a request that its caller has left, and returns
// the message that still comes to the queue.
func (b *Bus) giveBack(batch jetstream.MessageBatch, cancel context.CancelFunc) {
	b.spawn(func() {
		defer cancel()
		for msg := range batch.Messages() {
			if err := msg.Nak(); err != nil {
				b.log.Debug().Err(err).Msg("cannot give a job back")
			}
		}
	})
}

// lease reads a message; an error says why it is no job.
func (b *Bus) lease(msg jetstream.Msg) (*Lease, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	j, err := readJob(msg.Data())
	if err != nil {
		return nil, err
	}
	return &Lease{Job: j, Redelivered: meta.NumDelivered > 1, bus: b, msg: msg}, nil
}

func readJob(data []byte) (j Job, err error) {
	if err := json.Unmarshal(data, &j); err != nil {
		return j, err
	}
	return j, j.check()
}

// Context returns a context for the work on the job. It ends with ctx, with Done
// or Release, and with the cause ErrLeaseLost when Keep could not reach the queue
// for as long as a lease lasts.
func (l *Lease) Context(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		cancel(l.ended)
		return ctx
	}
	l.cancels = append(l.cancels, cancel)
	return ctx
}

func (l *Lease) end(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = why
	}
	for _, cancel := range l.cancels {
		cancel(l.ended)
	}
	l.cancels = nil
}

// Keep keeps the lease alive in the background until Done, Release, the end of
// ctx or the end of the bus. Call it once, at once.
func (l *Lease) Keep(ctx context.Context) {
	ctx, l.stop = context.WithCancel(ctx)
	unhook := context.AfterFunc(l.bus.ctx, l.stop)
	l.kept.Add(1)
	ok := l.bus.spawn(func() {
		defer l.kept.Done()
		defer unhook()
		l.keep(ctx)
	})
	if !ok {
		l.kept.Done()
	}
}

func (l *Lease) keep(ctx context.Context) {
	every := l.bus.ackWait / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	reached := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		err := l.extend(ctx, every)
		if err == nil {
			reached = asked
			continue
		}
		if ctx.Err() != nil {
			return
		}
		l.bus.log.Warn().Err(err).Str("execution", l.Execution).Msg("cannot extend the lease on a job")
		if time.Since(reached) > l.bus.ackWait {
			l.end(ErrLeaseLost)
			return
		}
	}
}

// extend asks for an answer, unlike Msg.InProgress, which cannot fail.
func (l *Lease) extend(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := l.bus.conn.RequestWithContext(ctx, l.msg.Reply(), []byte("+WPI"))
	return err
}

// settle ends the keeping and the contexts.
func (l *Lease) settle() {
	if l.stop != nil {
		l.stop()
	}
	l.kept.Wait()
	l.end(context.Canceled)
}

// Done takes the job off the queue for good and returns when the queue has said
// so. After an error the job may come again.
func (l *Lease) Done(ctx context.Context) error {
	l.settle()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if err := l.msg.DoubleAck(ctx); err != nil {
		return fmt.Errorf("cannot take the job for execution %s off the queue: %w", l.Execution, err)
	}
	return nil
}

// Abandon ends the keeping and answers nothing: by now somebody else has the job,
// and an answer would count as theirs.
func (l *Lease) Abandon() { l.settle() }

// Release gives the job back, to be handed out again after delay. After an error
// that happens when the lease lapses.
func (l *Lease) Release(ctx context.Context, delay time.Duration) error {
	l.settle()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	err := l.msg.NakWithDelay(delay)
	if err == nil {
		err = l.bus.conn.FlushWithContext(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot give the job for execution %s back: %w", l.Execution, err)
	}
	return nil
}

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// Execute makes one attempt at an execution. Its error is for an attempt that
// must not be concluded: ctx ended, or step was refused.
type Execute func(ctx context.Context, x assay.Execution, step func(context.Context, assay.StepRun) error) (assay.Conclusion, error)

// Worker takes executions from the queue and sees each through to its verdict.
type Worker struct {
	Store    WorkStore
	Queue    Queue
	Execute  Execute
	Page     func(kind, id string) string
	Log      zerolog.Logger
	Finished func() // told after each verdict: reports are owed now
	// Retries is how long to wait before each further attempt at an execution
	// that failed for reasons of ours; after as many, or as many as its formula
	// says, its verdict is an error.
	Retries []time.Duration
	Running *Running // what is stopped when nobody wants it any more
}

const (
	// maxAttempts ends an execution that takes its runner down each time.
	maxAttempts = 10
	// pause is before trying again what is not the execution's own trouble.
	pause     = 2 * time.Second
	storeTime = 30 * time.Second
)

// Run works on one execution after the other until ctx ends.
func (w *Worker) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		lease, err := w.Queue.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				w.Log.Error().Err(err).Msg("cannot take an execution from the queue")
				NewSignal().wait(ctx, pause)
			}
			continue
		}
		w.work(ctx, lease)
	}
	return nil
}

// work makes one attempt and answers for the lease.
func (w *Worker) work(ctx context.Context, lease Lease) {
	log := w.Log.With().Str("execution", lease.Execution()).Logger()
	again, err := w.attempt(ctx, lease, log)
	if ctx.Err() != nil {
		// The program is ending: the execution stays on the queue, and the next
		// start begins it anew.
		return
	}
	answer, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	switch {
	case errors.Is(err, errTakenOver):
		log.Warn().Err(err).Msg("execution left to another worker")
		lease.Abandon()
		return
	case errors.Is(err, assay.ErrFenced), errors.Is(err, assay.ErrFinished), errors.Is(err, assay.ErrNotFound):
		log.Warn().Err(err).Msg("execution left alone")
		err = lease.Done(answer)
	case err != nil:
		log.Error().Err(err).Msg("cannot see the execution through")
		err = lease.Release(answer, pause)
	case again > 0:
		err = lease.Release(answer, again)
	default:
		err = lease.Done(answer)
	}
	if err != nil {
		log.Error().Err(err).Msg("cannot answer for the lease")
	}
}

// errTakenOver tells that the lease lapsed while we worked: the job is another
// worker's, whose answer alone counts.
var errTakenOver = errors.New("another worker has taken over")

// attempt begins the execution, runs it and concludes it; again, if not 0, asks
// for another attempt after so long.
func (w *Worker) attempt(ctx context.Context, lease Lease, log zerolog.Logger) (again time.Duration, err error) {
	x, err := w.Store.Begin(ctx, lease.Execution(), lease.Redelivered())
	if err != nil {
		return 0, err
	}
	log = log.With().Str("package", x.Package).Str("check", x.Check).Int("attempt", x.Attempt).Logger()
	log.Info().Str("item", x.Item).Msg("execution begun")
	c := assay.Conclusion{Verdict: assay.VerdictErrored, Reason: fmt.Sprintf("interrupted %d times: its runner did not live to see the end", maxAttempts)}
	if x.Attempt <= maxAttempts {
		lease.Keep(ctx)
		held, done := w.Running.enter(lease.Context(ctx), x.ID)
		defer done()
		c, err = w.Execute(held, x, func(ctx context.Context, run assay.StepRun) error {
			return w.Store.Step(ctx, x.ID, run)
		})
		if errors.Is(context.Cause(held), errStopped) {
			return 0, assay.ErrFinished // it has its verdict
		}
		if err != nil && (errors.Is(err, assay.ErrFenced) || held.Err() != nil && ctx.Err() == nil) {
			return 0, fmt.Errorf("%w: %v", errTakenOver, err)
		}
		if err != nil {
			return 0, err
		}
	}
	again, err = w.conclude(context.WithoutCancel(ctx), x, c, log)
	if errors.Is(err, assay.ErrFenced) {
		err = fmt.Errorf("%w: %v", errTakenOver, err)
	}
	return again, err
}

// retry tells whether an execution is tried again after so many failures of ours,
// and when: as often as its formula says, or else as the operator does. Later tries
// than the operator thought of wait as long as the last of theirs.
func (w *Worker) retry(x assay.Execution, failures int) (after time.Duration, again bool) {
	most := len(w.Retries)
	if x.Retries != nil {
		most = *x.Retries
	}
	if failures > most {
		return 0, false
	}
	after = pause
	if n := len(w.Retries); n > 0 {
		after = w.Retries[min(failures, n)-1]
	}
	return max(after, time.Millisecond), true
}

// conclude writes the verdict down, or puts the execution back on the queue
// when the attempt says nothing about the check.
func (w *Worker) conclude(ctx context.Context, x assay.Execution, c assay.Conclusion, log zerolog.Logger) (again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if c.Retry {
		failures, err := w.Store.Retry(ctx, x.ID, x.Attempt, c.Reason)
		if err != nil {
			return 0, err
		}
		if after, again := w.retry(x, failures); again {
			log.Warn().Str("reason", c.Reason).Int("failures", failures).Dur("after", after).Msg("execution will be tried again")
			return after, nil
		}
		c.Reason = fmt.Sprintf("%s (tried %d times)", c.Reason, failures)
	}
	x.State, x.Verdict, x.Reason = assay.StateFinished, c.Verdict, c.Reason
	if err := w.Store.Conclude(ctx, x.ID, x.Attempt, c, FinalReports(x, w.Page)); err != nil {
		return 0, err
	}
	log.Info().Str("verdict", string(c.Verdict)).Str("reason", c.Reason).Msg("execution finished")
	w.Finished()
	return 0, nil
}

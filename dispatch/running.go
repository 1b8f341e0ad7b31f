package dispatch

import (
	"context"
	"errors"
	"sync"
)

// Running knows what is being executed, so that it can be stopped: a cancelled
// execution has its verdict, and its machine is wanted elsewhere. The zero value
// is ready to use.
type Running struct {
	mu   sync.Mutex
	stop map[string]context.CancelCauseFunc // by execution
}

// errStopped is the cause with which an execution's context ends then.
var errStopped = errors.New("it was cancelled")

// enter makes an execution one that can be stopped, until done.
func (r *Running) enter(ctx context.Context, execution string) (held context.Context, done func()) {
	held, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil {
		r.stop = map[string]context.CancelCauseFunc{}
	}
	r.stop[execution] = cancel
	return held, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.stop, execution)
		cancel(nil)
	}
}

// Stop ends the attempt at an execution that is under way.
func (r *Running) Stop(execution string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel, ok := r.stop[execution]; ok {
		cancel(errStopped)
	}
}

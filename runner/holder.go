package runner

import (
	"errors"
	"sync"
	"time"

	"github.com/assay-ci/assay"
)

// HolderOptions say how many machines a Holder keeps, and for how long.
type HolderOptions struct {
	Count int           // at most so many at once; 0 keeps none
	For   time.Duration // each at most so long; 0 keeps none
	// Ended is told when a machine was given back, with the error of its Close; it
	// may be nil. It is called from several goroutines.
	Ended func(execution string, err error)
}

// Holder keeps machines for a person to look at after their execution ended
// badly. Make one with NewHolder; Close it to give all of them back. Its methods
// may be called from several goroutines.
type Holder struct {
	options HolderOptions
	stop    chan struct{} // closed by Close
	minders sync.WaitGroup

	mu     sync.Mutex
	closed bool
	held   int   // not yet given back
	failed error // of the machines that Close gave back
}

// NewHolder makes a Holder that keeps nothing yet.
func NewHolder(options HolderOptions) *Holder {
	return &Holder{options: options, stop: make(chan struct{})}
}

// Keep takes a machine over, as Job.Keep wants it, if its execution failed,
// crashed or errored and there is room; when it says false the machine is still
// the caller's. It does not block.
func (h *Holder) Keep(execution string, c assay.Conclusion, m Machine) bool {
	if h.options.For <= 0 || !worthALook(c.Verdict) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.held >= h.options.Count {
		return false
	}
	h.held++
	h.minders.Go(func() { h.mind(execution, m) })
	return true
}

func worthALook(v assay.Verdict) bool {
	return v == assay.VerdictFailed || v == assay.VerdictCrashed || v == assay.VerdictErrored
}

// mind gives one machine back when its time is over or the holder is closed.
// While that takes its time the machine still counts.
func (h *Holder) mind(execution string, m Machine) {
	timer := time.NewTimer(h.options.For)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.stop:
	}
	err := m.Close()
	h.mu.Lock()
	h.held--
	if h.closed {
		h.failed = errors.Join(h.failed, err)
	}
	h.mu.Unlock()
	if h.options.Ended != nil {
		h.options.Ended(execution, err)
	}
}

// Close gives everything back and keeps nothing from now on. Safe to call twice.
func (h *Holder) Close() error {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.stop)
	}
	h.mu.Unlock()
	h.minders.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

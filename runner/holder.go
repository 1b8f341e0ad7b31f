package runner

import (
	"errors"
	"slices"
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
	held   []*hold
	failed error // of the machines that Close gave back
}

// Held is one machine that is kept.
type Held struct {
	Execution string
	Since     time.Time
	Until     time.Time // when it is given back
}

type hold struct {
	Held
	machine  Machine
	released chan struct{} // closed by Release
	done     chan struct{} // closed when the machine is given back
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
	if h.closed || len(h.held) >= h.options.Count {
		return false
	}
	now := time.Now()
	one := &hold{
		Held: Held{execution, now, now.Add(h.options.For)}, machine: m,
		released: make(chan struct{}), done: make(chan struct{}),
	}
	h.held = append(h.held, one)
	h.minders.Go(func() { h.mind(one) })
	return true
}

func worthALook(v assay.Verdict) bool {
	return v == assay.VerdictFailed || v == assay.VerdictCrashed || v == assay.VerdictErrored
}

// mind gives one machine back when its time is over, it is released, or the
// holder is closed. While that takes its time the machine still counts.
func (h *Holder) mind(one *hold) {
	timer := time.NewTimer(h.options.For)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-one.released:
	case <-h.stop:
	}
	err := one.machine.Close()
	h.mu.Lock()
	h.held = slices.DeleteFunc(h.held, func(other *hold) bool { return other == one })
	if h.closed {
		h.failed = errors.Join(h.failed, err)
	}
	h.mu.Unlock()
	if h.options.Ended != nil {
		h.options.Ended(one.Execution, err)
	}
	close(one.done)
}

// Held lists what is kept, the one that ends next first.
func (h *Holder) Held() []Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Held, len(h.held)) // all are kept equally long
	for i, one := range h.held {
		list[i] = one.Held
	}
	return list
}

// Release gives the machines of an execution back before their time and returns
// when that is done; how many there were.
func (h *Holder) Release(execution string) int {
	var ending []*hold
	h.mu.Lock()
	for _, one := range h.held {
		if one.Execution != execution {
			continue
		}
		ending = append(ending, one)
		select {
		case <-one.released: // by somebody else
		default:
			close(one.released)
		}
	}
	h.mu.Unlock()
	for _, one := range ending {
		<-one.done
	}
	return len(ending)
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

package template

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/assay-ci/assay"
)

// Maker makes the template of a recipe and publishes it in the store. tell takes
// lines of progress for people.
type Maker func(ctx context.Context, tell func(line string)) (Template, error)

// Keeper gets templates, and has each made once however many ask for it at the
// same time. Close it to end what it is making.
type Keeper struct {
	Store  Store
	MaxAge time.Duration // an older one is made anew in the background; 0 for never
	// Made is told of every attempt at making one; it may be nil.
	Made func(t Template, err error)

	// Final tells of an error that the next try would end with, too: it is then
	// given to all who ask for a while, without a try; nil for none.
	Final func(error) bool

	mu      sync.Mutex
	flights map[string]*flight
	failed  map[string]failure
	owned   sync.WaitGroup
	closed  bool
}

// failure is what came of a template that need not be tried again so soon.
type failure struct {
	err   error
	until time.Time
}

// failureRest is how long such a template is not tried. Not longer, because what
// was wrong may have been a daemon that was started anew just then.
const failureRest = time.Minute

// flight is one template being made.
type flight struct {
	key    string
	cancel context.CancelFunc
	// background tells that it goes on when nobody waits for it.
	background bool
	waiters    int
	telling    sync.Mutex
	tells      map[int]func(string)
	last       string // the newest line, for those who come later
	done       chan struct{}
	t          Template
	err        error
}

// Get gives the template of a key: the one that is there, or the one that maker
// makes, once for all who ask. When the last of them gives up the making is
// ended. An old one is served at once and made anew meanwhile.
func (k *Keeper) Get(ctx context.Context, key string, tell func(string), maker Maker) (Template, error) {
	t, err := k.Store.Find(key)
	if err == nil {
		if k.MaxAge > 0 && time.Since(t.Built) > k.MaxAge {
			k.renew(ctx, key, maker)
		}
		return t, nil
	}
	if !errors.Is(err, assay.ErrNotFound) {
		return Template{}, err
	}
	if err := k.lately(key); err != nil {
		return Template{}, err
	}
	f, id, last := k.join(ctx, key, tell, maker)
	if f == nil {
		return Template{}, errClosed
	}
	if last != "" {
		tell(last)
	}
	select {
	case <-f.done:
		return f.t, f.err
	case <-ctx.Done():
		k.leave(f, id)
		return Template{}, ctx.Err()
	}
}

// lately is the error of a template that could not be made a while ago.
func (k *Keeper) lately(key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.failed[key]
	if ok && time.Now().After(f.until) {
		delete(k.failed, key)
		return nil
	}
	return f.err
}

// remember keeps an error that is final, or forgets the one before; the caller
// holds the lock.
func (k *Keeper) remember(key string, err error) {
	delete(k.failed, key)
	if err == nil || k.Final == nil || !k.Final(err) {
		return
	}
	if k.failed == nil {
		k.failed = map[string]failure{}
	}
	k.failed[key] = failure{err, time.Now().Add(failureRest)}
}

var errClosed = errors.New("cannot make a template: the machines are being closed")

// Refresh has the template of a key made anew in the background if it is old.
func (k *Keeper) Refresh(ctx context.Context, key string, maker Maker) {
	if k.MaxAge <= 0 {
		return
	}
	if t, err := k.Store.Find(key); err == nil && time.Since(t.Built) > k.MaxAge {
		k.renew(ctx, key, maker)
	}
}

// renew begins to make a template anew, unless somebody does already.
func (k *Keeper) renew(ctx context.Context, key string, maker Maker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, tired := k.failed[key]; k.flights[key] == nil && !tired {
		if f := k.begin(ctx, key, maker); f != nil {
			f.background = true
		}
	}
}

// join takes part in the making of a template, which begins with the first.
func (k *Keeper) join(ctx context.Context, key string, tell func(string), maker Maker) (f *flight, id int, last string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f = k.flights[key]; f == nil {
		f = k.begin(ctx, key, maker)
	}
	if f == nil {
		return nil, 0, ""
	}
	f.waiters++
	f.tells[f.waiters] = tell
	return f, f.waiters, f.last
}

// begin starts a flight; the caller holds the lock.
func (k *Keeper) begin(ctx context.Context, key string, maker Maker) *flight {
	if k.closed {
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{key: key, cancel: cancel, tells: map[int]func(string){}, done: make(chan struct{})}
	if k.flights == nil {
		k.flights = map[string]*flight{}
	}
	k.flights[key] = f
	k.owned.Go(func() {
		defer cancel()
		t, err := k.make(ctx, key, f, maker)
		k.mu.Lock()
		f.t, f.err = t, err
		k.remember(key, err)
		if k.flights[key] == f {
			delete(k.flights, key)
		}
		k.mu.Unlock()
		close(f.done)
		if k.Made != nil {
			k.Made(t, err)
		}
	})
	return f
}

// make makes the template, unless another process has meanwhile.
func (k *Keeper) make(ctx context.Context, key string, f *flight, maker Maker) (Template, error) {
	tell := func(line string) { k.tell(f, line) }
	before, _ := k.Store.Find(key) // none is fine
	unlock, err := k.Store.Lock(ctx, key, func() { tell("somebody else is making this template: waiting for it") })
	if err != nil {
		return Template{}, err
	}
	defer unlock()
	if t, err := k.Store.Find(key); err == nil && t.Generation != before.Generation {
		return t, nil
	}
	return maker(ctx, tell)
}

func (k *Keeper) tell(f *flight, line string) {
	f.telling.Lock() // keeps the lines in order, and holds up nobody else
	defer f.telling.Unlock()
	k.mu.Lock()
	f.last = line
	tells := slices.Collect(maps.Values(f.tells))
	k.mu.Unlock()
	for _, one := range tells {
		one(line)
	}
}

// leave gives up waiting; with the last one the flight ends.
func (k *Keeper) leave(f *flight, id int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(f.tells, id)
	if len(f.tells) > 0 || f.background {
		return
	}
	f.cancel()
	if k.flights[f.key] == f {
		delete(k.flights, f.key) // whoever asks now begins anew
	}
}

// Close ends what is being made and waits for that.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	for _, f := range k.flights {
		f.cancel()
	}
	k.mu.Unlock()
	k.owned.Wait()
}

// Package pool keeps machines ready before anybody asks for them. It knows
// neither what a machine is nor how one is made: how many wait for which key
// follows from how many were taken lately, within a budget.
package pool

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// How demand is measured: the most that were taken within one slot, over the
// slots that are remembered. A burst that came once may come again for so long.
const (
	slot  = 10 * time.Second
	slots = 60 // ten minutes
)

// failurePause is how long a key is left alone after its machine could not be made.
const failurePause = 30 * time.Second

// Options say what a pool keeps. Make is required.
type Options[T io.Closer] struct {
	// Make makes a machine that waits.
	Make func(ctx context.Context, key string) (T, error)
	// Makers is how many are made at a time; 0 for one. Filling a pool must not take
	// what runs beside it.
	Makers int
	// Cost is what a waiting machine of a key takes of Budget; nil for nothing.
	Cost   func(key string) int64
	Budget int64
	Most   int         // how many wait, of all keys together
	Failed func(error) // is told when Make fails; may be nil
}

// Pool is a set of machines that wait, by key. Run fills it.
type Pool[T io.Closer] struct {
	options Options[T]
	wake    chan struct{}

	mu     sync.Mutex
	keys   map[string]*shelf[T]
	making int // of all keys
	closed bool
}

// shelf is what waits for one key.
type shelf[T io.Closer] struct {
	offered time.Time // when it was told that machines of this key can be made
	waiting []T
	making  int
	demand  history
	retry   time.Time // not before then
	epoch   int       // changes when what waits is worth nothing any more
}

// New makes an empty pool.
func New[T io.Closer](options Options[T]) *Pool[T] {
	return &Pool[T]{options: options, wake: make(chan struct{}, 1), keys: map[string]*shelf[T]{}}
}

// Take hands out a waiting machine of a key, if there is one, and in any case
// remembers that one was wanted.
func (p *Pool[T]) Take(key string) (one T, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.poke()
	s := p.shelf(key)
	s.demand.add(time.Now(), 1)
	return s.take()
}

// Offer tells that machines of a key can be made from now on. It is forgotten like
// demand, where none comes.
func (p *Pool[T]) Offer(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shelf(key).offered = time.Now()
	p.poke()
}

// shelf is the key's, made if need be; the caller holds the lock.
func (p *Pool[T]) shelf(key string) *shelf[T] {
	s := p.keys[key]
	if s == nil {
		s = &shelf[T]{}
		p.keys[key] = s
	}
	return s
}

// Again hands out another one, for a machine that turned out to be dead.
func (p *Pool[T]) Again(key string) (one T, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.keys[key]; s != nil {
		return s.take()
	}
	return one, false
}

func (s *shelf[T]) take() (one T, ok bool) {
	if len(s.waiting) == 0 {
		return one, false
	}
	one, s.waiting = s.waiting[0], s.waiting[1:]
	return one, true
}

// Drop gives back what waits for a key: what it is made of has changed.
func (p *Pool[T]) Drop(key string) error {
	p.mu.Lock()
	var old []T
	if s := p.keys[key]; s != nil {
		old, s.waiting = s.waiting, nil
		s.epoch++
	}
	p.mu.Unlock()
	p.poke()
	return closeAll(old)
}

// Waiting tells how many wait for each key.
func (p *Pool[T]) Waiting() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[string]int{}
	for key, s := range p.keys {
		if len(s.waiting) > 0 {
			counts[key] = len(s.waiting)
		}
	}
	return counts
}

func (p *Pool[T]) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run fills the pool, and thins it out when demand falls, until ctx ends; then
// it gives back all that waits. Its error is that of giving back.
func (p *Pool[T]) Run(ctx context.Context) error {
	tick := time.NewTicker(slot)
	defer tick.Stop()
	var failed error
	var makers sync.WaitGroup
	for ctx.Err() == nil {
		failed = errors.Join(failed, closeAll(p.surplus(time.Now())))
		key, epoch, ok := p.lacking(time.Now())
		if ok {
			makers.Go(func() {
				p.fill(ctx, key, epoch)
				p.poke()
			})
			continue
		}
		select {
		case <-p.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	makers.Wait()
	return errors.Join(failed, closeAll(p.end()))
}

// fill makes one machine and puts it on its shelf, unless what it was made of
// has changed meanwhile.
func (p *Pool[T]) fill(ctx context.Context, key string, epoch int) {
	one, err := p.options.Make(ctx, key)
	p.mu.Lock()
	s := p.shelf(key)
	s.making--
	p.making--
	keep := err == nil && !p.closed && s.epoch == epoch
	if keep {
		s.waiting = append(s.waiting, one)
	}
	if err != nil {
		s.retry = time.Now().Add(failurePause)
	}
	p.mu.Unlock()
	if err == nil && !keep {
		err = one.Close()
	}
	if err != nil && ctx.Err() == nil && p.options.Failed != nil {
		p.options.Failed(err)
	}
}

// lacking picks the key that lacks most, and counts one more as being made.
func (p *Pool[T]) lacking(now time.Time) (key string, epoch int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	most, count, cost := 0, 0, int64(0)
	for k, s := range p.keys {
		n := len(s.waiting) + s.making
		count += n
		cost += int64(n) * p.cost(k)
	}
	if count >= p.options.Most || p.making >= max(1, p.options.Makers) {
		return "", 0, false
	}
	for k, s := range p.keys {
		lack := s.demand.peak(now) - len(s.waiting) - s.making
		fits := p.options.Budget <= 0 || cost+p.cost(k) <= p.options.Budget
		if !s.offered.IsZero() && fits && lack > most && !now.Before(s.retry) {
			most, key, epoch = lack, k, s.epoch
		}
	}
	if most > 0 {
		p.keys[key].making++
		p.making++
	}
	return key, epoch, most > 0
}

func (p *Pool[T]) cost(key string) int64 {
	if p.options.Cost == nil {
		return 0
	}
	return p.options.Cost(key)
}

// surplus takes off the shelves what is more than demand.
func (p *Pool[T]) surplus(now time.Time) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	var over []T
	for key, s := range p.keys {
		want := s.demand.peak(now)
		if len(s.waiting) > want {
			over = append(over, s.waiting[want:]...)
			s.waiting = s.waiting[:want]
		}
		if want == 0 && len(s.waiting) == 0 && s.making == 0 && now.Sub(s.offered) >= slots*slot {
			delete(p.keys, key)
		}
	}
	return over
}

// end empties the shelves for good.
func (p *Pool[T]) end() []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var all []T
	for _, s := range p.keys {
		all = append(all, s.waiting...)
		s.waiting = nil
	}
	return all
}

func closeAll[T io.Closer](list []T) error {
	failed := make([]error, len(list))
	var all sync.WaitGroup
	for i, one := range list {
		all.Go(func() { failed[i] = one.Close() })
	}
	all.Wait()
	return errors.Join(failed...)
}

// history counts what was taken in each of the last slots.
type history struct {
	counts [slots]int
	last   int64 // number of the newest slot that counts
}

func (h *history) add(now time.Time, n int) {
	h.forward(now)
	h.counts[h.last%slots] += n
}

// peak is the most that was taken within one slot.
func (h *history) peak(now time.Time) int {
	h.forward(now)
	most := 0
	for _, n := range h.counts {
		most = max(most, n)
	}
	return most
}

// forward clears the slots that have come since.
func (h *history) forward(now time.Time) {
	number := now.UnixNano() / int64(slot)
	for n := max(h.last+1, number-slots+1); n <= number; n++ {
		h.counts[n%slots] = 0
	}
	h.last = max(h.last, number)
}

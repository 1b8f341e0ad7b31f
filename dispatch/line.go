package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/assay-ci/assay"
)

// Line is a Queue that decides who is next: people before builds before what
// nobody waits for; then who was begun least often, so that one which takes its
// runner down each time is not what every start begins with; then the package with the fewest executions under way, then
// the one that was served longest ago; then who came first. It hands the engine
// behind it only as many as there are places, so that a late comer with more right
// is never stuck behind a crowd.
//
// It holds no more than the engine does: after a restart both are filled anew
// from the store.
type Line struct {
	engine     Queue
	places     int // how many the engine has at a time
	perPackage int // how many of one package at a time; 0 for any number

	mu      sync.Mutex
	waiting []assay.Execution          // in the order of their coming
	engaged map[string]assay.Execution // with the engine, by ID
	served  map[string]int             // when a package was served last, by a count of all
	count   int
}

var _ Queue = (*Line)(nil)

// NewLine puts a line before an engine.
func NewLine(engine Queue, places, perPackage int) *Line {
	return &Line{engine: engine, places: places, perPackage: perPackage, engaged: map[string]assay.Execution{}, served: map[string]int{}}
}

// Publish lets an execution stand in line.
func (l *Line) Publish(ctx context.Context, x assay.Execution) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, engaged := l.engaged[x.ID]
	if !engaged && !slices.ContainsFunc(l.waiting, func(w assay.Execution) bool { return w.ID == x.ID }) {
		l.waiting = append(l.waiting, x)
	}
	return l.feed(ctx)
}

// feed hands the engine what it has places for. What it does not take stays in
// line.
func (l *Line) feed(ctx context.Context) error {
	for len(l.engaged) < l.places {
		i := l.next()
		if i < 0 {
			return nil
		}
		x := l.waiting[i]
		if err := l.engine.Publish(ctx, x); err != nil {
			return err
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.engaged[x.ID] = x
		l.count++
		l.served[x.Package] = l.count
	}
	return nil
}

// next is the index of who is next, -1 if nobody can be.
func (l *Line) next() int {
	busy := l.busy()
	best := -1
	for i, x := range l.waiting {
		if l.perPackage > 0 && busy[x.Package] >= l.perPackage {
			continue
		}
		if best < 0 || l.before(busy, x, l.waiting[best]) {
			best = i
		}
	}
	return best
}

// before tells whether a goes before b, which came first.
func (l *Line) before(busy map[string]int, a, b assay.Execution) bool {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(a.Attempt, b.Attempt),
		cmp.Compare(busy[a.Package], busy[b.Package]),
		cmp.Compare(l.served[a.Package], l.served[b.Package]),
	) < 0
}

// busy is how many executions of each package are with the engine.
func (l *Line) busy() map[string]int {
	busy := map[string]int{}
	for _, x := range l.engaged {
		busy[x.Package]++
	}
	return busy
}

// Next does as Queue says.
func (l *Line) Next(ctx context.Context) (Lease, error) {
	lease, err := l.engine.Next(ctx)
	if err != nil {
		return nil, err
	}
	return &lineLease{lease, l}, nil
}

// leave frees an execution's place.
func (l *Line) leave(ctx context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.engaged, id)
	return l.feed(ctx)
}

// Forget takes an execution out of the line that nobody wants any more.
func (l *Line) Forget(execution string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(x assay.Execution) bool { return x.ID == execution })
}

// Place tells why an execution waits, in one line; "" for one that does not.
func (l *Line) Place(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := slices.IndexFunc(l.waiting, func(x assay.Execution) bool { return x.ID == id })
	if at < 0 {
		return ""
	}
	x, busy := l.waiting[at], l.busy()
	if l.perPackage > 0 && busy[x.Package] >= l.perPackage {
		return fmt.Sprintf("%s has %d executions under way, which is its limit", x.Package, busy[x.Package])
	}
	ahead := 0
	for i, other := range l.waiting {
		if i != at && (l.before(busy, other, x) || i < at && !l.before(busy, x, other)) {
			ahead++
		}
	}
	return fmt.Sprintf("all %d places are taken, %d before it in line", l.places, ahead)
}

// lineLease frees the place when nobody works on the execution any more.
type lineLease struct {
	Lease
	line *Line
}

func (l *lineLease) Done(ctx context.Context) error {
	return errors.Join(l.Lease.Done(ctx), l.line.leave(ctx, l.Execution()))
}

// Release frees the place, too: what is to be tried again later must not hold up
// the others meanwhile. The engine has one more than it has places for, then.
func (l *lineLease) Release(ctx context.Context, delay time.Duration) error {
	return errors.Join(l.Lease.Release(ctx, delay), l.line.leave(ctx, l.Execution()))
}

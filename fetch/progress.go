package fetch

import (
	"fmt"
	"sync"
	"time"
)

// Teller says how downloads go, to whoever waits for them: nothing of what is
// quick. The zero Teller says nothing; its methods may be called from several
// goroutines, and Say from one at a time.
type Teller struct {
	Say func(line string)
	Now func() time.Time // nil for time.Now

	mu sync.Mutex
}

// What takes longer than quick is told, every so often.
const (
	quick = 2 * time.Second
	often = 5 * time.Second
)

// Line says one line at once.
func (t *Teller) Line(format string, args ...any) {
	if t == nil || t.Say == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Say(fmt.Sprintf(format, args...))
}

func (t *Teller) now() time.Time {
	if t == nil || t.Now == nil {
		return time.Now()
	}
	return t.Now()
}

// progress follows one download.
type progress struct {
	teller *Teller
	name   string
	next   time.Time // when to tell next
}

func (t *Teller) begin(name string) *progress {
	return &progress{teller: t, name: name, next: t.now().Add(quick)}
}

// at tells how far it is, if it is time to; total is 0 when nobody knows.
func (p *progress) at(done, total int64) {
	now := p.teller.now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(often)
	if total > 0 {
		p.teller.Line("downloading %s: %s of %s", p.name, size(done), size(total))
		return
	}
	p.teller.Line("downloading %s: %s", p.name, size(done))
}

package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// thing is a machine that only counts.
type thing struct {
	key   string
	place *place
}

func (t *thing) Close() error {
	t.place.mu.Lock()
	defer t.place.mu.Unlock()
	t.place.live--
	return nil
}

// place makes things, one a second.
type place struct {
	mu     sync.Mutex
	live   int
	made   int
	broken bool
}

func (p *place) make(ctx context.Context, key string) (*thing, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return nil, errors.New("out of order")
	}
	p.live++
	p.made++
	return &thing{key, p}, nil
}

// filled runs a test on a pool that is running, in time that jumps; in the end
// nothing may be left.
func filled(t *testing.T, options Options[*thing], test func(t *testing.T, p *Pool[*thing], place *place)) {
	synctest.Test(t, func(t *testing.T) {
		where := &place{}
		options.Make = where.make
		p := New(options)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		test(t, p, where)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if where.live != 0 {
			t.Errorf("%d are left", where.live)
		}
	})
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// take takes n and gives them back; it tells how many had waited.
func take(p *Pool[*thing], key string, n int) int {
	got := 0
	var all []*thing
	for range n {
		if one, ok := p.Take(key); ok {
			got++
			all = append(all, one)
		}
	}
	_ = closeAll(all)
	return got
}

func TestAsManyWaitAsWereTakenAtOnce(t *testing.T) {
	filled(t, Options[*thing]{Most: 10}, func(t *testing.T, p *Pool[*thing], _ *place) {
		if got := take(p, "a", 3); got != 0 {
			t.Errorf("%d waited in an empty pool", got)
		}
		settle(time.Minute)
		if got := p.Waiting(); len(got) != 0 {
			t.Errorf("what was not offered waits: %v", got)
		}
		p.Offer("a")
		settle(time.Minute)
		if got := p.Waiting()["a"]; got != 3 {
			t.Errorf("%d wait after a burst of 3", got)
		}
		if got := take(p, "a", 5); got != 3 {
			t.Errorf("%d of the 3 were handed out", got)
		}
		settle(time.Minute)
		if got := p.Waiting()["a"]; got != 5 {
			t.Errorf("%d wait after a burst of 5", got)
		}
		settle(slot * (slots + 1))
		if got := p.Waiting(); len(got) != 0 {
			t.Errorf("demand is long past, and there wait %v", got)
		}
	})
}

// An offer stands before there is any demand for it, however often the pool looks.
func TestOfferBeforeDemand(t *testing.T) {
	filled(t, Options[*thing]{Most: 4}, func(t *testing.T, p *Pool[*thing], _ *place) {
		p.Offer("a")
		settle(slot * (slots - 1))
		take(p, "a", 2)
		settle(time.Minute)
		if got := p.Waiting()["a"]; got != 2 {
			t.Errorf("%d wait", got)
		}
		settle(slot * (slots + 2))
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.keys) != 0 {
			t.Errorf("kept for nobody: %v", p.keys)
		}
	})
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options[*thing]
		want    int
	}{
		{"most", Options[*thing]{Most: 4}, 4},
		{"budget", Options[*thing]{Most: 9, Budget: 10, Cost: func(string) int64 { return 3 }}, 3},
		{"none", Options[*thing]{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			filled(t, c.options, func(t *testing.T, p *Pool[*thing], _ *place) {
				p.Offer("a")
				p.Offer("b")
				take(p, "a", 5)
				take(p, "b", 5)
				settle(time.Minute)
				got := p.Waiting()
				if got["a"]+got["b"] != c.want {
					t.Errorf("%v wait, not %d", got, c.want)
				}
			})
		})
	}
}

func TestKeysShareInTurn(t *testing.T) {
	filled(t, Options[*thing]{Most: 4}, func(t *testing.T, p *Pool[*thing], _ *place) {
		for _, key := range []string{"a", "b"} {
			p.Offer(key)
			take(p, key, 5)
		}
		settle(time.Minute)
		if got := p.Waiting(); got["a"] != 2 || got["b"] != 2 {
			t.Errorf("of four, the keys have %v", got)
		}
	})
}

func TestDropped(t *testing.T) {
	filled(t, Options[*thing]{Most: 4}, func(t *testing.T, p *Pool[*thing], where *place) {
		p.Offer("a")
		take(p, "a", 2)
		settle(1500 * time.Millisecond) // one waits, one is being made
		if err := p.Drop("a"); err != nil {
			t.Fatal(err)
		}
		if p.Waiting()["a"] != 0 {
			t.Error("what was dropped still waits")
		}
		settle(time.Minute)
		if where.made != 4 || where.live != 2 {
			t.Errorf("%d were made, %d are there: the one on its way was of the old kind", where.made, where.live)
		}
	})
}

func TestFailureIsToldAndTriedAgain(t *testing.T) {
	var told int
	options := Options[*thing]{Most: 4, Failed: func(error) { told++ }}
	filled(t, options, func(t *testing.T, p *Pool[*thing], where *place) {
		where.broken = true
		p.Offer("a")
		take(p, "a", 1)
		settle(failurePause + 5*time.Second)
		if told < 1 || told > 2 {
			t.Errorf("told %d times in %s", told, failurePause)
		}
		where.mu.Lock()
		where.broken = false
		where.mu.Unlock()
		settle(2 * failurePause)
		if got := p.Waiting()["a"]; got != 1 {
			t.Errorf("%d wait after it was mended", got)
		}
	})
}

func TestAgain(t *testing.T) {
	filled(t, Options[*thing]{Most: 4}, func(t *testing.T, p *Pool[*thing], _ *place) {
		p.Offer("a")
		take(p, "a", 2)
		settle(time.Minute)
		for want := range 2 {
			one, ok := p.Again("a")
			if !ok {
				t.Fatalf("only %d were there", want)
			}
			_ = one.Close()
		}
		if _, ok := p.Again("a"); ok {
			t.Error("a third one")
		}
		if _, ok := p.Again("never heard of"); ok {
			t.Error("one of an unknown key")
		}
	})
}

func TestHistory(t *testing.T) {
	var h history
	start := time.Unix(1_700_000_000, 0)
	h.add(start, 2)
	h.add(start.Add(time.Second), 1)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 3}, {slot * (slots - 2), 3}, {slot * (slots + 1), 0}, {slot * slots * 100, 0}} {
		if got := h.peak(start.Add(c.after)); got != c.want {
			t.Errorf("after %s the peak is %d, not %d", c.after, got, c.want)
		}
	}
	h.add(start, 1) // a clock that was set back
	if got := h.peak(start); got > 3 {
		t.Errorf("a clock set back makes %d", got)
	}
}

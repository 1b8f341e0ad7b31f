package watch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNextAfter(t *testing.T) {
	down := errors.New("down")
	cases := map[string]struct {
		interval, again time.Duration
		failures        int
		err             error
		chance          float64
		want            time.Duration
	}{
		"usual":          {5 * time.Minute, 0, 0, nil, 0.5, 5 * time.Minute},
		"early":          {5 * time.Minute, 0, 0, nil, 0, 4 * time.Minute},
		"late":           {5 * time.Minute, 0, 0, nil, 1, 6 * time.Minute},
		"sooner":         {time.Hour, 2 * time.Minute, 0, nil, 0.5, 2 * time.Minute},
		"never later":    {time.Minute, time.Hour, 0, nil, 0.5, time.Minute},
		"once failed":    {5 * time.Minute, 0, 1, down, 0.5, 10 * time.Minute},
		"thrice failed":  {5 * time.Minute, 0, 3, down, 0.5, 40 * time.Minute},
		"an hour":        {5 * time.Minute, 0, 4, down, 1, time.Hour},
		"for ever":       {5 * time.Minute, 0, 1 << 30, down, 1, time.Hour},
		"slower anyway":  {3 * time.Hour, 0, 5, down, 0.5, 3 * time.Hour},
		"told to wait":   {5 * time.Minute, 0, 1, &LaterError{After: 90 * time.Minute, Err: down}, 0.5, 90 * time.Minute},
		"told for years": {5 * time.Minute, 0, 1, &LaterError{After: 1e6 * time.Hour, Err: down}, 0.5, 2 * time.Hour},
	}
	for name, tc := range cases {
		if got := nextAfter(tc.interval, tc.again, tc.failures, tc.err, tc.chance); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestRunLooksFromTimeToTime counts the looks of a day.
func TestRunLooksFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDesk(), &remote{}
		r.set("main", hash("a"))
		o := options(d, r)
		o.Targets = []Target{{Address: "https://a.example.org/x"}}
		w := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { w.Run(ctx) })
		synctest.Wait()
		if r.counted() != 1 {
			t.Errorf("at the start there were %d looks", r.counted())
		}
		time.Sleep(24 * time.Hour)
		r.set("main", hash("b"))
		if n := r.counted(); n < 24*10 || n > 24*15 { // every 4 to 6 minutes
			t.Errorf("in a day there were %d looks", n)
		}
		time.Sleep(6 * time.Minute)
		wantPushes(t, d, "main a000..b000")
		r.mu.Lock()
		r.err = errors.New("the forge is down")
		r.mu.Unlock()
		before := r.counted()
		time.Sleep(24 * time.Hour)
		if n := r.counted() - before; n < 20 || n > 35 { // at most an hour apart
			t.Errorf("while it was down there were %d looks", n)
		}
		r.mu.Lock()
		r.err = nil
		r.mu.Unlock()
		r.set("main", hash("c"))
		time.Sleep(time.Hour)
		wantPushes(t, d, "main a000..b000", "main b000..c000")
		cancel()
		group.Wait()
	})
}

// busy counts who is at work at once, in all and on one host.
type busy struct {
	mu          sync.Mutex
	all, most   int
	host, worst map[string]int
}

func (b *busy) do(host string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		b.count(host, 1)
		defer b.count(host, -1)
		time.Sleep(time.Minute)
		return 0, ctx.Err()
	}
}

func (b *busy) count(host string, by int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all += by
	b.host[host] += by
	b.most, b.worst[host] = max(b.most, b.all), max(b.worst[host], b.host[host])
}

func TestOneAtATimeOnAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{host: map[string]int{}, worst: map[string]int{}}
		var jobs []*job
		for _, host := range []string{"a", "b", "c", "d", "e", "f"} {
			for range 4 {
				jobs = append(jobs, &job{host: host, interval: time.Minute, do: b.do(host)})
			}
		}
		o := Options{Parallel: 3}.withDefaults()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
		defer cancel()
		runAll(ctx, jobs, o)
		for host, n := range b.worst {
			if n != 1 {
				t.Errorf("on %s there were %d at once", host, n)
			}
		}
		if b.most != 3 || len(b.worst) != 6 {
			t.Errorf("there were %d at once on %d hosts", b.most, len(b.worst))
		}
	})
}

// TestStuckServerDelaysNobodyForever holds that a look is given up after a while.
func TestStuckServerDelaysNobodyForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		stuck := &job{host: "h", interval: time.Minute, do: func(ctx context.Context) (time.Duration, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		other := &job{host: "h", interval: time.Minute, do: func(context.Context) (time.Duration, error) {
			looks++
			return 0, nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		runAll(ctx, []*job{stuck, other}, Options{Timeout: 10 * time.Second}.withDefaults())
		if looks < 30 || stuck.failures == 0 {
			t.Errorf("the other one was looked at %d times, the stuck one failed %d times", looks, stuck.failures)
		}
	})
}

func TestHostOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://Git.example.org:8443/a/b": "git.example.org", "ssh://git@h/x": "h", "git@H:a/b.git": "h", "h:a": "h",
		"/srv/git/a.git": "", "./a:b": "", "file:///srv/x": "", "": "", "https://u:p@h/x": "h",
	} {
		if got := hostOf(address); got != want {
			t.Errorf("%q is on %q, want %q", address, got, want)
		}
	}
}

func TestShowHidesPasswords(t *testing.T) {
	for address, want := range map[string]string{
		"https://u:hunter2@h/x@y": "https://h/x@y", "https://h/x": "https://h/x", "git@h:x": "git@h:x", "/srv/x": "/srv/x",
		"https://u:p@hunter2@h": "https://h/",
	} {
		if got := show(address); got != want {
			t.Errorf("%q is shown as %q, want %q", address, got, want)
		}
	}
}

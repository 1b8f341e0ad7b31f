package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"
)

// job is something that is done again and again.
type job struct {
	host     string // jobs of one host are done one after the other
	name     string // for the log
	interval time.Duration
	// do returns when it wants to be called again, 0 for after the interval.
	do func(ctx context.Context) (again time.Duration, err error)

	due      time.Time
	failures int // in a row
}

// runAll does the jobs until ctx ends, and returns when the last one has.
func runAll(ctx context.Context, jobs []*job, o Options) {
	hosts := map[string][]*job{}
	for _, j := range jobs {
		hosts[j.host] = append(hosts[j.host], j)
	}
	turns := make(chan struct{}, o.Parallel)
	var group sync.WaitGroup
	for _, list := range hosts {
		group.Go(func() { runHost(ctx, list, turns, o) })
	}
	group.Wait()
}

// runHost does the jobs of one host, whichever is due first.
func runHost(ctx context.Context, jobs []*job, turns chan struct{}, o Options) {
	for {
		next := jobs[0]
		for _, j := range jobs[1:] {
			if j.due.Before(next.due) {
				next = j
			}
		}
		if !pause(ctx, time.Until(next.due)) {
			return
		}
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		next.run(ctx, o)
		<-turns
	}
}

func (j *job) run(ctx context.Context, o Options) {
	within, cancel := context.WithTimeout(ctx, o.Timeout)
	again, err := j.do(within)
	cancel()
	if ctx.Err() != nil {
		return // whatever failed failed because of that
	}
	if err == nil {
		j.failures = 0
	} else {
		j.failures++
	}
	wait := nextAfter(j.interval, again, j.failures, err, rand.Float64())
	j.due = time.Now().Add(wait)
	if err != nil {
		o.Log.Warn().Err(err).Int("failures", j.failures).Dur("again", wait).Msg("cannot look at " + j.name)
	}
}

// nextAfter is the time to the next try. chance, 0 to 1, spreads those that began
// together. A failure doubles the interval each time, up to an hour; a forge that
// said how long is left alone so long.
func nextAfter(interval, again time.Duration, failures int, err error, chance float64) time.Duration {
	wait := interval
	if again > 0 {
		wait = min(again, interval)
	}
	for range min(failures, 20) {
		wait = min(2*wait, max(longestBackoff, interval))
	}
	wait = time.Duration(float64(wait) * (1 - jitter + 2*jitter*chance))
	if failures > 0 {
		wait = min(wait, max(longestBackoff, interval))
	}
	var later *LaterError
	if errors.As(err, &later) {
		wait = max(wait, min(later.After, 2*longestBackoff))
	}
	return wait
}

// pause waits, and is false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hostOf is the host that an address is on, in lower case; "" for a path on this
// machine. It decides only about who waits for whom.
func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && strings.Contains(address, "://") {
		return strings.ToLower(u.Hostname())
	}
	before, _, colon := strings.Cut(address, ":")
	if !colon || strings.Contains(before, "/") {
		return ""
	}
	return strings.ToLower(before[strings.LastIndexByte(before, '@')+1:])
}

// show is an address without the user and password that it may have.
func show(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	host, path, _ := strings.Cut(rest, "/")
	at := strings.LastIndexByte(host, '@')
	if !found || at < 0 {
		return address
	}
	return scheme + "://" + host[at+1:] + "/" + path
}

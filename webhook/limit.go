package webhook

import (
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how many deliveries one address may send to one source.
type Rate struct {
	PerSecond float64 // in the long run
	Burst     int     // at once, after a rest
}

// The Rate unless Options say otherwise: far more than a forge sends (hundreds a
// second), and more than two cores can store.
const (
	DefaultPerSecond = 10_000
	DefaultBurst     = 10_000
)

// maxBuckets bounds how many addresses are remembered.
const maxBuckets = 10_000

// limiter has a token bucket for each address and source. Behind a proxy all
// senders have the proxy's address, and share one.
type limiter struct {
	rate Rate

	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct{ source, address string }

func newLimiter(r Rate) *limiter {
	if r.PerSecond <= 0 {
		r.PerSecond = DefaultPerSecond
	}
	if r.Burst <= 0 {
		r.Burst = max(1, int(math.Ceil(r.PerSecond)))
	}
	return &limiter{rate: r, buckets: map[bucketKey]*rate.Limiter{}}
}

// take spends one token; wait is 0, or after how long there is one again.
func (l *limiter) take(source, remote string, now time.Time) (wait time.Duration) {
	bucket := l.bucket(bucketKey{source, network(remote)}, now)
	if bucket.AllowN(now, 1) {
		return 0
	}
	missing := 1 - bucket.TokensAt(now)
	return max(time.Millisecond, time.Duration(missing/l.rate.PerSecond*float64(time.Second)))
}

func (l *limiter) bucket(key bucketKey, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, known := l.buckets[key]
	if !known {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		bucket = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
		l.buckets[key] = bucket
	}
	return bucket
}

// forget drops the buckets that are full, which is what a new one would be, and
// then any until there is room: a flood from many addresses must not cost memory.
func (l *limiter) forget(now time.Time) {
	for key, bucket := range l.buckets {
		if bucket.TokensAt(now) >= float64(l.rate.Burst) {
			delete(l.buckets, key)
		}
	}
	for key := range l.buckets {
		if len(l.buckets) <= maxBuckets/2 {
			return
		}
		delete(l.buckets, key)
	}
}

// network is the address of a connection without its port; of IPv6 the /64,
// which is what one sender has.
func network(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return clip(host)
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, _ := ip.Prefix(64) // 64 fits every IPv6 address
	return prefix.String()
}

// retrySeconds writes a wait as Retry-After has it: whole seconds, at least one.
func retrySeconds(wait time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
}

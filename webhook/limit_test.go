package webhook

import (
	"fmt"
	"testing"
	"time"
)

// Senders without end do not cost memory without end; those who rested are
// forgotten first.
func TestLimiterForgets(t *testing.T) {
	l := newLimiter(Rate{PerSecond: 1, Burst: 2})
	now := time.Now()
	spent := func(address string) bool { return l.take("github", address+":1", now) > 0 }
	for range 2 {
		if spent("192.0.2.1") {
			t.Fatal("there is no burst")
		}
	}
	for i := range maxBuckets - 1 {
		spent(fmt.Sprintf("10.0.%d.%d", i>>8, i&255))
	}
	now = now.Add(1500 * time.Millisecond) // all but the first are full again
	if spent("198.51.100.1"); len(l.buckets) > 3 {
		t.Errorf("%d addresses are remembered, most of which have rested", len(l.buckets))
	}
	if spent("192.0.2.1") || !spent("192.0.2.1") {
		t.Error("who has not rested was forgotten")
	}
	for i := range 5 * maxBuckets {
		if spent(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)); len(l.buckets) > maxBuckets {
			t.Fatalf("%d addresses are remembered", len(l.buckets))
		}
	}
}

func TestLimiterDefaults(t *testing.T) {
	for _, test := range []struct{ given, want Rate }{
		{Rate{}, Rate{DefaultPerSecond, DefaultBurst}},
		{Rate{PerSecond: 0.1}, Rate{0.1, 1}},
		{Rate{Burst: 7}, Rate{DefaultPerSecond, 7}},
		{Rate{PerSecond: -1, Burst: -1}, Rate{DefaultPerSecond, DefaultBurst}},
	} {
		if got := newLimiter(test.given).rate; got != test.want {
			t.Errorf("%v becomes %v, want %v", test.given, got, test.want)
		}
	}
}

func TestNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "192.0.2.1": "192.0.2.1", "@": "@", "": "",
	} {
		if got := network(remote); got != want {
			t.Errorf("%q is of %q, want %q", remote, got, want)
		}
	}
}

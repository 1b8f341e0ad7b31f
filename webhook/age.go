package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// timed is a source whose senders may sign the time of a delivery.
type timed interface {
	// SignedAt returns the time that a verified delivery was signed at; ok is
	// false when what vouches for the delivery does not vouch for a time.
	SignedAt(header http.Header, body []byte) (at time.Time, ok bool)
}

// tooOld says why a delivery is refused for its age, "" if it is not. A time
// that lies as far ahead is refused, too: its delivery could be replayed for
// longer than the limit.
func tooOld(source Source, header http.Header, body []byte, now time.Time, limit time.Duration) string {
	t, ok := source.(timed)
	if !ok || limit <= 0 {
		return ""
	}
	at, ok := t.SignedAt(header, body)
	if !ok || now.Sub(at).Abs() <= limit {
		return ""
	}
	return fmt.Sprintf("cannot accept the delivery: it was signed at %s, which is more than %s from now: let the forge send it anew, and check both clocks", at.UTC().Format(time.RFC3339), limit)
}

// maxUnix is the year 9999: later times cannot be written down (RFC 3339).
const maxUnix = 253402300799

// unixTime reads seconds since 1970, with or without a fraction. What cannot be
// read is the oldest time there is, so that it is refused wherever age counts.
func unixTime(s string) (at time.Time, ok bool) {
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil || !(seconds >= 0 && seconds <= maxUnix) {
		return time.Unix(0, 0), true
	}
	return time.Unix(int64(seconds), 0), true
}

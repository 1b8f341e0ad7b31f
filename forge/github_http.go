package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// guard gives every request the token, unless it has what an App puts there, and
// the headers that GitHub asks for, and lets none out to another host.
type guard struct {
	base         *url.URL
	token, agent string
	next         http.RoundTripper
}

// maxGitHubAnswer bounds one answer, in bytes: a page of a hundred comments of
// the greatest length.
const maxGitHubAnswer = 64 << 20

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != g.base.Host || req.URL.Scheme != g.base.Scheme {
		return nil, &strayError{req.URL.Host}
	}
	req = req.Clone(req.Context())
	if g.token != "" {
		req.Header.Set("Authorization", "Bearer "+g.token)
	}
	if !printable(strings.ReplaceAll(req.Header.Get("Authorization"), " ", "")) {
		return nil, &unfitTokenError{}
	}
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	req.Header.Set("Accept", "application/vnd.github+json") // go-github still asks for previews
	req.Header.Set("User-Agent", g.agent)
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxGitHubAnswer), resp.Body}
	return resp, nil
}

// unfitTokenError tells that an App was given a token that fits no header.
type unfitTokenError struct{}

func (*unfitTokenError) Error() string { return "it gave us a token that is none" }

// strayError tells that a request would have gone to another host or would have
// become another request.
type strayError struct{ to string }

func (e *strayError) Error() string {
	return fmt.Sprintf("it points to %.100q", e.to)
}

// stay follows redirects (a repository was renamed) only while they repeat the
// request on the same server.
func stay(req *http.Request, via []*http.Request) error {
	first := via[0]
	if req.Method != first.Method || req.URL.Host != first.URL.Host || req.URL.Scheme != first.URL.Scheme || len(via) > 3 {
		return &strayError{req.URL.Host}
	}
	return nil
}

// fail turns an error of go-github into one of ours; what says what was tried,
// need which permission it takes. Errors that are ours already stay.
func (g *GitHub) fail(ctx context.Context, what, need string, err error) error {
	var again *RetryError
	var never *PermanentError
	if err == nil || errors.As(err, &again) || errors.As(err, &never) {
		return err
	}
	if ctx.Err() != nil {
		return &RetryError{Err: fmt.Errorf("cannot %s: %w", what, ctx.Err())}
	}
	var stray *strayError
	if errors.As(err, &stray) {
		return permanent("cannot %s: %s %v: if the repository has moved, configure its new address", what, g.base.Host, stray)
	}
	resp, message := answerOf(err)
	if resp == nil {
		return &RetryError{Err: fmt.Errorf("cannot %s: no good answer from %s: %v", what, g.base.Host, plainError(err))}
	}
	if after, limited := limit(resp, message, err, time.Now()); limited {
		return &RetryError{After: after, Err: fmt.Errorf("cannot %s: %s is limiting us (%d): %s", what, g.base.Host, resp.StatusCode, message)}
	}
	var asApp *appError
	if errors.As(err, &asApp) {
		return g.appRefused(what, asApp, resp, message)
	}
	return g.refused(what, need, resp.StatusCode, message, resp.Header)
}

// refused sorts the answers that are not about limits.
func (g *GitHub) refused(what, need string, code int, message string, header http.Header) error {
	host := g.base.Host
	if need != "" {
		need = ": it needs the permission " + need
	}
	switch {
	case code >= 500 || code < 400 || code == http.StatusRequestTimeout || code == http.StatusConflict || code == http.StatusTooEarly:
		return &RetryError{After: capped(retryHeader(header, clock(header, time.Now()))), Err: fmt.Errorf("cannot %s: %s says %d: %s", what, host, code, message)}
	case code == http.StatusUnauthorized && g.app != nil: // its token was taken back, and forgotten; the next one is new
		return &RetryError{After: time.Second, Err: fmt.Errorf("cannot %s: %s does not know the token of %s any more (401)", what, host, g.who())}
	case code == http.StatusUnauthorized:
		return permanent("cannot %s: %s does not know %s (401): put a valid one there%s", what, host, g.who(), need)
	case code == http.StatusForbidden:
		return permanent("cannot %s: %s forbids it to %s (403: %s)%s", what, host, g.who(), message, need)
	case code == http.StatusNotFound || code == http.StatusGone:
		return permanent("cannot %s: %s does not have it, or hides it from %s (%d)%s: %w", what, host, g.who(), code, need, assay.ErrNotFound)
	default:
		return permanent("cannot %s: %s says %d: %s", what, host, code, message)
	}
}

// who is us, for messages.
func (g *GitHub) who() string {
	if g.app != nil {
		return fmt.Sprintf("the App %d", g.options.App.ID)
	}
	return "the token in " + g.options.TokenFile
}

// answerOf takes the response and GitHub's message, made safe to print, out of
// go-github's errors. The response is nil when there was none.
func answerOf(err error) (*http.Response, string) {
	var primary *github.RateLimitError
	var secondary *github.AbuseRateLimitError
	var other *github.ErrorResponse
	var later *github.AcceptedError
	var otp *github.TwoFactorAuthError
	switch {
	case errors.As(err, &primary):
		return primary.Response, message(primary.Message)
	case errors.As(err, &secondary):
		return secondary.Response, message(secondary.Message)
	case errors.As(err, &other):
		return other.Response, message(other.Message, other.Errors...)
	case errors.As(err, &otp):
		return otp.Response, message(otp.Message)
	case errors.As(err, &later):
		return &http.Response{StatusCode: http.StatusAccepted}, "it is still at it"
	}
	return nil, ""
}

func message(text string, details ...github.Error) string {
	for _, d := range details {
		text += ": " + d.Field + " " + d.Code + " " + d.Message
	}
	return Line(text)
}

// plainError drops the address that *url.Error repeats.
func plainError(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// Bounds on how long we let a forge send us away.
const (
	secondaryWait = time.Minute // what GitHub asks for when it says nothing
	longestWait   = 2 * time.Hour
)

// limit tells whether an answer is a rate limit and how long it lasts: GitHub's
// documents say ("Rate limits for the REST API", Exceeding the rate limit) 403
// or 429, then Retry-After, else X-RateLimit-Reset when nothing remains, else
// at least a minute. What a limit's text says has changed over time, so that
// only its key words are looked at. Limits that go-github remembers, without
// asking the server, come without headers.
func limit(resp *http.Response, message string, err error, now time.Time) (time.Duration, bool) {
	if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusTooManyRequests {
		return 0, false
	}
	now = clock(resp.Header, now)
	if after := retryHeader(resp.Header, now); after > 0 {
		return capped(after), true
	}
	var primary *github.RateLimitError
	if errors.As(err, &primary) {
		return capped(max(primary.Rate.Reset.Sub(now), time.Second)), true
	}
	if resp.Header.Get("X-RateLimit-Remaining") == "0" {
		return capped(resetHeader(resp.Header, now)), true
	}
	var secondary *github.AbuseRateLimitError
	if errors.As(err, &secondary) && secondary.RetryAfter != nil && *secondary.RetryAfter > 0 {
		return capped(*secondary.RetryAfter), true
	}
	text := strings.ToLower(message)
	limited := secondary != nil || resp.StatusCode == http.StatusTooManyRequests ||
		strings.Contains(text, "rate limit") || strings.Contains(text, "abuse detection")
	return secondaryWait, limited
}

// clock is the server's, as its answer tells it: what it says of times is meant
// by that, however wrong ours is.
func clock(header http.Header, now time.Time) time.Time {
	if at, err := http.ParseTime(header.Get("Date")); err == nil {
		return at
	}
	return now
}

// retryHeader reads Retry-After, seconds or a date (RFC 9110, 10.2.3); 0 for
// none.
func retryHeader(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// resetHeader reads X-RateLimit-Reset, seconds since 1970.
func resetHeader(header http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil {
		return secondaryWait
	}
	return max(time.Unix(seconds, 0).Sub(now), time.Second)
}

func capped(d time.Duration) time.Duration { return min(d, longestWait) }

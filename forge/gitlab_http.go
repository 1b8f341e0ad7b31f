package forge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// webForge is what the forges behind plain REST APIs (GitLab, Pagure) share: how
// they are reached, and how their answers become our errors.
type webForge struct {
	kind      string // "GitLab", for people
	base      *url.URL
	header    string // that bears the token
	prefix    string // what stands before the token there
	tokenFile string
	agent     string
	timeout   time.Duration
	next      http.RoundTripper
	limit     int64 // of one answer, in bytes; 0 for maxWebAnswer
}

// newWebForge fills in what was left out and checks that the token can be read.
func newWebForge(kind, address, tokenFile, agent string, timeout time.Duration, next http.RoundTripper) (*webForge, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("cannot use %q as the address of %s: write it as https://HOST/", address, kind)
	}
	w := &webForge{kind: kind, base: base.JoinPath("/"), tokenFile: tokenFile, agent: agent, timeout: timeout, next: next}
	if w.agent == "" {
		w.agent = "assay"
	}
	if w.timeout <= 0 {
		w.timeout = 30 * time.Second
	}
	if w.next == nil {
		w.next = SafeTransport(address)
	}
	if _, err := w.token(); err != nil {
		return nil, err
	}
	return w, nil
}

// token reads the file anew: it may have been replaced.
func (w *webForge) token() (string, error) { return readToken(w.tokenFile, w.base.Host) }

// client makes requests with this token, and follows no redirect: a POST must
// not become a GET, nor the token go elsewhere.
func (w *webForge) client(token string) *http.Client {
	return &http.Client{Transport: &webGuard{forge: w, token: token}, Timeout: w.timeout}
}

// webGuard gives every request the token, lets none out to another host, and
// turns every answer but 200 and 201 into a *webAnswer.
type webGuard struct {
	forge *webForge
	token string
}

// Bounds of answers, in bytes.
const (
	maxWebAnswer  = 64 << 20
	maxWebProblem = 64 << 10 // one that tells what is wrong
)

func (g *webGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != g.forge.base.Host || req.URL.Scheme != g.forge.base.Scheme {
		return nil, &strayError{req.URL.Host}
	}
	req = req.Clone(req.Context())
	req.Header.Set(g.forge.header, g.forge.prefix+g.token)
	req.Header.Set("User-Agent", g.forge.agent)
	resp, err := g.forge.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return nil, g.problem(resp)
	}
	resp.Body = &boundedBody{resp.Body, cmp.Or(g.forge.limit, maxWebAnswer)}
	return resp, nil
}

// boundedBody fails when more comes than it may: half an answer is none.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("its answer is too long")
	}
	return n, err
}

func (g *webGuard) problem(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxWebProblem))
	_ = resp.Body.Close() // nothing more is wanted of it
	if err != nil {
		text = nil // the code alone tells enough
	}
	text = bytes.ReplaceAll(text, []byte(g.token), []byte("…")) // a server may repeat what it was sent
	said, word := webMessage(text)
	return &webAnswer{code: resp.StatusCode, header: resp.Header, message: said, word: word}
}

// webAnswer is an answer that is not what was asked for.
type webAnswer struct {
	code    int
	header  http.Header
	message string // one line, safe to print
	word    string // Pagure's error_code, "" for none
}

func (a *webAnswer) Error() string { return fmt.Sprintf("%d: %s", a.code, a.message) }

func webAnswered(err error, code int) bool {
	var a *webAnswer
	return errors.As(err, &a) && a.code == code
}

// webMessage reads {"message": …}, as GitLab has it, and {"error": …,
// "error_code": …, "errors": …}, as Pagure has it. What each holds may be
// anything.
func webMessage(text []byte) (message, word string) {
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil {
		if trimmed := strings.TrimSpace(string(text)); trimmed != "" && trimmed[0] != '<' {
			return Line(trimmed), ""
		}
		return "no reason given", ""
	}
	var parts []string
	for _, key := range []string{"message", "error", "error_description", "errors"} {
		value, ok := object[key]
		if !ok {
			continue
		}
		var plain string
		if json.Unmarshal(value, &plain) != nil {
			plain = string(value)
		}
		parts = append(parts, plain)
	}
	_ = json.Unmarshal(object["error_code"], &word) // what is no word is none
	return Line(strings.Join(parts, ": ")), word
}

// fail turns any error of a call into one of ours; what says what was tried,
// need which permission it takes. Errors that are ours already stay.
func (w *webForge) fail(ctx context.Context, what, need string, err error) error {
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
		return permanent("cannot %s: %s leads elsewhere: %v", what, w.base.Host, stray)
	}
	var answer *webAnswer
	if !errors.As(err, &answer) {
		return &RetryError{Err: fmt.Errorf("cannot %s: no good answer from %s: %s", what, w.base.Host, Line(plainError(err).Error()))}
	}
	return w.refused(what, need, answer)
}

func (w *webForge) refused(what, need string, a *webAnswer) error {
	if need != "" {
		need = ": it needs " + need
	}
	after, later := webLater(a, time.Now())
	switch {
	case later:
		return &RetryError{After: after, Err: fmt.Errorf("cannot %s: %s says %d: %s", what, w.base.Host, a.code, a.message)}
	case a.code >= 300 && a.code < 400:
		return permanent("cannot %s: %s says that it has moved (%d): configure the new address", what, w.base.Host, a.code)
	case a.code == http.StatusUnauthorized:
		return permanent("cannot %s: %s does not take the token in %s (401: %s): put a valid one there%s", what, w.base.Host, w.tokenFile, a.message, need)
	case a.code == http.StatusForbidden:
		return permanent("cannot %s: %s forbids it to the token in %s (403: %s)%s", what, w.base.Host, w.tokenFile, a.message, need)
	case a.code == http.StatusNotFound:
		return permanent("cannot %s: %s does not have it, or hides it from the token in %s (404: %s)%s", what, w.base.Host, w.tokenFile, a.message, need)
	}
	return permanent("cannot %s: %s says %d: %s", what, w.base.Host, a.code, a.message)
}

// webLater tells whether the same request may succeed later, and when. GitLab's
// limits answer 429 with Retry-After and RateLimit-Reset ("Rate limits",
// Headers); a lock that another request holds answers 409 or 423; Pagure's
// EDBERROR is a database that failed for the moment, with code 400.
func webLater(a *webAnswer, now time.Time) (time.Duration, bool) {
	after := capped(retryHeader(a.header, now))
	switch a.code {
	case http.StatusTooManyRequests:
		if after > 0 {
			return after, true
		}
		if a.header.Get("RateLimit-Remaining") == "0" {
			return capped(webReset(a.header, now)), true
		}
		return secondaryWait, true
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusLocked, http.StatusTooEarly:
		return after, true
	case http.StatusBadRequest:
		return 0, a.word == "EDBERROR"
	}
	return after, a.code >= 500 || a.code < 300
}

// webReset reads RateLimit-Reset, seconds since 1970.
func webReset(header http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseInt(header.Get("RateLimit-Reset"), 10, 64)
	if err != nil {
		return secondaryWait
	}
	return max(time.Unix(seconds, 0).Sub(now), time.Second)
}

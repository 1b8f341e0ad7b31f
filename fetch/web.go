package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/assay-ci/assay"
)

// Web asks servers over HTTP: only those that the operator allows, again when
// they stumble, and never waiting for a silent one. It may be used from several
// goroutines.
type Web struct {
	HTTP    *http.Client
	Allowed Prefixes
	// Pauses is how long to wait before each further try of what may go away by
	// itself: 5xx, 408, 429, resets, silence. None tries once.
	Pauses []time.Duration
	// Silence is how long a server may say nothing; 0 for a minute.
	Silence time.Duration
}

// maxRetryAfter bounds what a server's Retry-After may ask for.
const maxRetryAfter = time.Minute

// DefaultPauses are three more tries within about fifteen seconds.
func DefaultPauses() []time.Duration {
	return []time.Duration{time.Second, 4 * time.Second, 10 * time.Second}
}

// Get returns the body at an address, of at most limit bytes. The error of a
// final answer is assay.ErrFetchRefused; see ErrMissing.
func (w *Web) Get(ctx context.Context, address string, header http.Header, limit int64) ([]byte, error) {
	return w.whole(ctx, http.MethodGet, address, header, nil, limit)
}

// Post is Get with a body to send; it is sent again with every try, so what it
// asks for must change nothing.
func (w *Web) Post(ctx context.Context, address string, header http.Header, body []byte, limit int64) ([]byte, error) {
	return w.whole(ctx, http.MethodPost, address, header, body, limit)
}

func (w *Web) whole(ctx context.Context, method, address string, header http.Header, body []byte, limit int64) ([]byte, error) {
	var answer []byte
	err := w.Retry(ctx, func(ctx context.Context) error {
		resp, err := w.open(ctx, method, address, header, body)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := verdictOf(resp); err != nil {
			return err
		}
		answer, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err == nil && int64(len(answer)) > limit {
			err = &final{fmt.Errorf("its answer is longer than %s", size(limit))}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", shown(address), err)
	}
	return answer, nil
}

// final ends the tries without being a refusal: what the server says makes no
// sense, and soon it would not either.
type final struct{ error }

func (f *final) Unwrap() error { return f.error }

// Senseless makes an error that ends the tries, without blaming the check.
func Senseless(format string, args ...any) error { return &final{fmt.Errorf(format, args...)} }

// Retry calls try until it succeeds, is refused, or Pauses are used up.
func (w *Web) Retry(ctx context.Context, try func(context.Context) error) error {
	for i := 0; ; i++ {
		err := try(ctx)
		var last *final
		if err == nil || errors.Is(err, assay.ErrFetchRefused) || errors.As(err, &last) || i >= len(w.Pauses) {
			return err
		}
		pause := w.Pauses[i]
		if s := (*statusError)(nil); errors.As(err, &s) {
			pause = max(pause, min(s.after, maxRetryAfter))
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// statusError is an answer that may be another one soon.
type statusError struct {
	status string
	after  time.Duration
}

func (e *statusError) Error() string { return "the server answered " + e.status }

// verdictOf is nil for 200, and otherwise what the answer means.
func verdictOf(resp *http.Response) error {
	status := strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
			return Senseless("the server sends it encoded as %q, which was not asked for", cut(coding, 40))
		}
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return &refusal{"the server answered " + status, ErrMissing}
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &statusError{status, time.Duration(min(max(seconds, 0), 3600)) * time.Second}
	case code < 400: // a redirect that leads nowhere, a part that nobody asked for
		return &statusError{status: status}
	}
	return &refusal{text: "the server answered " + status}
}

// errSilent is why an exchange with a silent server ends.
var errSilent = errors.New("the server fell silent")

// open asks once and returns the answer's head; Close its body. Every byte of it
// gives the server Silence again. Redirects lead only to where may be asked.
func (w *Web) open(ctx context.Context, method, address string, header http.Header, body []byte) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, &refusal{text: "it is no address"}
	}
	if !w.Allowed.Allow(u) {
		return nil, &refusal{ErrNotAllowed.Error() + ": let the operator add its prefix to fetch or builds.from in the configuration", ErrNotAllowed}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	silence := w.Silence
	if silence <= 0 {
		silence = time.Minute
	}
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	end := func() { timer.Stop(); cancel(nil) }
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		end()
		return nil, &refusal{text: "it is no address"}
	}
	for name, values := range header {
		req.Header[name] = values
	}
	// Lengths and ranges are of the file itself; and nothing is unpacked here.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := w.client().Do(req)
	if err != nil {
		err = why(ctx, err)
		end()
		return nil, err
	}
	resp.Body = &patientBody{resp.Body, ctx, func() { timer.Reset(silence) }, end}
	return resp, nil
}

func (w *Web) client() *http.Client {
	client := *w.HTTP
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 || !w.Allowed.Allow(req.URL) {
			return &refusal{fmt.Sprintf("redirected to %s: %v", shown(req.URL.Redacted()), ErrNotAllowed), ErrNotAllowed}
		}
		return nil
	}
	return &client
}

// why replaces the cancellation that a silent server's timer causes.
func why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// patientBody is a body whose every byte gives the server time again.
type patientBody struct {
	io.ReadCloser
	ctx   context.Context
	heard func()
	end   func()
}

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.heard()
	}
	if err != nil && err != io.EOF {
		err = why(b.ctx, err)
	}
	return n, err
}

func (b *patientBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

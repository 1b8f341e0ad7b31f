package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// askedHeaders lists what a guest may say to a mirror; nothing else crosses.
func askedHeaders() []string {
	return []string{"Accept", "Range", "If-Range", "If-Modified-Since", "If-None-Match"}
}

// toldHeaders lists what a mirror may say to a guest, but for Location.
func toldHeaders() []string {
	return []string{
		"Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "Last-Modified", "ETag",
		"Cache-Control", "Expires", "Date", "Age", "Retry-After",
	}
}

// maxHeaderValue bounds a header that is handed on, in bytes.
const maxHeaderValue = 1 << 10

// fromHeader tells guests, and tests, which way a request was served.
const fromHeader = "Assay-From"

// reply is a guest's request on its way.
type reply struct {
	http.ResponseWriter
	proxy *Proxy
	r     *http.Request
	limit *http.ResponseController
	entry Entry
	begun time.Time
}

// WriteHeader notes what the guest is told.
func (a *reply) WriteHeader(status int) {
	a.entry.Status = status
	a.ResponseWriter.WriteHeader(status)
}

// Write counts, and gives the guest its time for each piece.
func (a *reply) Write(p []byte) (int, error) {
	if a.entry.Status == 0 {
		a.entry.Status = http.StatusOK
	}
	a.breathe()
	n, err := a.ResponseWriter.Write(p)
	a.entry.Bytes += int64(n)
	return n, err
}

// breathe lets the guest take its time from now on.
func (a *reply) breathe() {
	_ = a.limit.SetWriteDeadline(time.Now().Add(a.proxy.options.Idle)) // every listener of ours can
}

// stream gives the guest what there is as soon as it is there: package managers
// give up on a proxy that says nothing.
func (a *reply) stream(body io.Reader) error {
	_ = a.limit.Flush() // the head; an error of the connection comes again
	buffer := make([]byte, 32<<10)
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, werr := a.Write(buffer[:n]); werr != nil {
				return werr
			}
			if n < len(buffer) {
				_ = a.limit.Flush()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// answer serves one request and tells the log.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request) {
	a := &reply{ResponseWriter: w, proxy: p, r: r, limit: http.NewResponseController(w), begun: time.Now()}
	a.entry = Entry{Method: clean(r.Method, 20), URL: shown(r.URL), From: FromNobody}
	if r.Method == http.MethodConnect {
		a.entry.URL = clean(r.Host, 300)
	}
	a.breathe()
	err := p.serve(a)
	if err != nil {
		a.refuse(err)
	}
	a.entry.Took = time.Since(a.begun)
	p.options.Log(a.entry)
	if err != nil && a.entry.From != FromTunnel && a.entry.From != FromNobody {
		a.cut()
	}
}

// cut ends the connection: the guest must not take half a body for the whole.
func (a *reply) cut() {
	if conn, _, err := a.limit.Hijack(); err == nil {
		_ = conn.Close() // it was half of an answer
	}
}

// refuse says why there is nothing, unless an answer has begun already.
func (a *reply) refuse(err error) {
	a.entry.Reason = clean(err.Error(), 600)
	if a.entry.Status != 0 {
		return
	}
	var no *refusal
	status := http.StatusBadGateway
	if errors.As(err, &no) {
		status = no.status
	}
	a.entry.From = FromNobody
	a.Header().Set("Content-Type", "text/plain; charset=utf-8")
	a.Header().Set("X-Content-Type-Options", "nosniff")
	a.WriteHeader(status)
	_, _ = io.WriteString(a, a.entry.Reason+"\n") // the guest need not read it
}

// serve does what the policy allows. Its error is told to the guest if no answer
// has begun, and to the log in any case.
func (p *Proxy) serve(a *reply) error {
	t, err := p.policy.decide(a.r)
	switch {
	case err != nil:
		return err
	case t.tunnel:
		return p.tunnel(a, t)
	case p.store == nil || a.r.Method != http.MethodGet:
		return p.pass(a, t)
	}
	return p.serveKept(a, t)
}

// serveKept serves from the cache, or by way of it.
func (p *Proxy) serveKept(a *reply, t target) error {
	key, ctx := t.key(), a.r.Context()
	if !isImmutable(t.path) {
		key += " " + accepted(a.r) // a package index has several forms
	}
	e, first := p.store.join(ctx, key, func(ctx context.Context, e *exchange) { p.ask(ctx, e, t, accepted(a.r)) })
	defer e.leave()
	select {
	case <-e.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case e.err != nil:
		return e.err
	case e.same != nil:
		a.entry.From = FromCache
		return a.sendKept(e.same)
	case e.part != nil:
		a.entry.From = FromUpstream
		if !first {
			a.entry.From = FromShared
		}
		return a.sendGrowing(e)
	case e.claim():
		return p.hand(a, t, e.resp, e.cancel)
	}
	return p.pass(a, t)
}

// ask is the exchange's part that talks to the mirror, once for all guests. What
// can change is asked for with what is known of it (RFC 9110, section 13).
func (p *Proxy) ask(ctx context.Context, e *exchange, t target, accept string) {
	old := p.store.find(e.key)
	if old != nil && isImmutable(t.path) {
		e.same = old
		e.settle()
		return
	}
	header := http.Header{"Accept": {accept}}
	if old != nil && (old.ETag != "" || old.Modified != "") {
		setIf(header, "If-None-Match", old.ETag)
		setIf(header, "If-Modified-Since", old.Modified)
	}
	resp, err := p.fetch(ctx, http.MethodGet, t, header)
	if err != nil {
		e.err = err
	} else if resp.StatusCode == http.StatusNotModified && old != nil {
		_ = resp.Body.Close()
		e.same, old = old, nil
	} else if part, m := p.begin(e.key, resp); part != nil {
		e.part, e.meta = part, m
	} else {
		e.resp = resp
	}
	if old != nil {
		old.close()
	}
	e.settle()
	if e.part != nil {
		body := newPatient(resp.Body, p.options.Idle, e.cancel)
		e.fill(body)
		body.stop()
		_ = resp.Body.Close()
	}
}

// begin begins to keep an answer, if it is one to keep.
func (p *Proxy) begin(key string, resp *http.Response) (*os.File, meta) {
	m := metaOf(key, resp)
	if resp.StatusCode != http.StatusOK || m.Size < 0 || strings.Contains(resp.Header.Get("Cache-Control"), "no-store") {
		return nil, m
	}
	part, err := p.store.create(m)
	if err != nil {
		return nil, m // it is handed on all the same
	}
	return part, m
}

// fetch asks a mirror.
func (p *Proxy) fetch(ctx context.Context, method string, t target, header http.Header) (*http.Response, error) {
	header.Set("User-Agent", "assay")
	request := (&http.Request{Method: method, URL: t.upstream(), Host: joinHost(t.host, t.port), Header: header}).WithContext(ctx)
	resp, err := p.client.RoundTrip(request)
	var inner *errInner
	if errors.As(err, &inner) {
		return nil, &refusal{http.StatusForbidden, inner.Error() + " (" + p.options.Setting + ")"}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach the mirror %s: %w", joinHost(t.host, t.port), err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("cannot use the answer of the mirror %s: its status is %d", joinHost(t.host, t.port), resp.StatusCode)
	}
	return resp, nil
}

// pass asks for one guest alone and keeps nothing.
func (p *Proxy) pass(a *reply, t target) error {
	ctx, cancel := context.WithCancel(a.r.Context())
	defer cancel()
	header := http.Header{}
	for _, name := range askedHeaders() {
		setIf(header, name, plain(a.r.Header.Get(name)))
	}
	resp, err := p.fetch(ctx, a.r.Method, t, header)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it is read, or given up
	return p.hand(a, t, resp, cancel)
}

// hand gives a mirror's answer to one guest.
func (p *Proxy) hand(a *reply, t target, resp *http.Response, cancel func()) error {
	a.entry.From = FromUpstream
	for _, name := range toldHeaders() {
		setIf(a.Header(), name, plain(resp.Header.Get(name)))
	}
	setIf(a.Header(), "Location", p.location(t, resp))
	a.Header().Set(fromHeader, FromUpstream)
	a.WriteHeader(resp.StatusCode)
	body := newPatient(resp.Body, p.options.Idle, cancel)
	defer body.stop()
	if err := a.stream(body); err != nil {
		return fmt.Errorf("cannot hand on the mirror's answer: %w", err)
	}
	return nil
}

// location is where a mirror's redirect leads, as the guest can ask for it: with
// http:// where a rule has the proxy speak TLS. Whether the guest may go there
// is decided when it asks.
func (p *Proxy) location(t target, resp *http.Response) string {
	text := plain(resp.Header.Get("Location"))
	if text == "" {
		return ""
	}
	to, err := t.upstream().Parse(text)
	if err != nil {
		return ""
	}
	if to.Scheme == "https" {
		if again, err := p.policy.decideAddress(guestURL(to)); err == nil && again.rule.Scheme == "https" {
			to = guestURL(to)
		}
	}
	return to.String()
}

// guestURL is an address as guests ask for it.
func guestURL(u *url.URL) *url.URL {
	plain := *u
	plain.Scheme = "http"
	return &plain
}

// sendKept serves a kept file, ranges and conditions included.
func (a *reply) sendKept(k *kept) error {
	a.describe(k.meta)
	modified, err := http.ParseTime(k.Modified)
	if err != nil {
		modified = time.Time{}
	}
	http.ServeContent(a, a.r, "", modified, k.body())
	return a.r.Context().Err()
}

// sendGrowing serves what is being fetched, from its beginning: a range is the
// guest's wish only (RFC 9110, section 14.2).
func (a *reply) sendGrowing(e *exchange) error {
	a.describe(e.meta)
	a.Header().Set("Content-Length", fmt.Sprint(e.meta.Size))
	a.WriteHeader(http.StatusOK)
	if err := a.stream(e.reader(a.r.Context())); err != nil {
		return fmt.Errorf("cannot hand on what is being fetched: %w", err)
	}
	return nil
}

// describe sets the headers of a kept file.
func (a *reply) describe(m meta) {
	for name, value := range map[string]string{"Content-Type": m.Type, "ETag": m.ETag, "Last-Modified": m.Modified} {
		setIf(a.Header(), name, plain(value))
	}
	if m.Type == "" {
		a.Header().Set("Content-Type", "application/octet-stream")
	}
	a.Header().Set(fromHeader, a.entry.From)
}

// accepted is the guest's Accept header; "*/*" for none or an odd one.
func accepted(r *http.Request) string {
	if accept := plain(strings.Join(r.Header.Values("Accept"), ", ")); accept != "" {
		return accept
	}
	return "*/*"
}

// plain lets through values that are short and printable ASCII, else "".
func plain(value string) string {
	for _, c := range []byte(value) {
		if c < ' ' || c >= 0x7f {
			return ""
		}
	}
	if len(value) > maxHeaderValue {
		return ""
	}
	return value
}

func setIf(header http.Header, name, value string) {
	if value != "" {
		header.Set(name, value)
	}
}

// clean makes one short printable line of a stranger's words.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

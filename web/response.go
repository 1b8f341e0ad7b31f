package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/assay-ci/assay"
)

// Content security policies. Pages may load their own style sheet and images
// and nothing else; what a guest wrote may load nothing and has no origin.
const (
	pagePolicy  = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
	guestPolicy = "sandbox; default-src 'none'; frame-ancestors 'none'"
)

// response is what a handler returns: an answer that is complete except for
// being sent. Sending may fail only because the client is gone.
type response interface {
	send(w http.ResponseWriter, r *http.Request)
}

// body is an answer that is in memory.
type body struct {
	status int
	ctype  string
	cache  string // Cache-Control
	data   []byte
}

func (b body) send(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", b.ctype)
	h.Set("Cache-Control", b.cache)
	h.Set("Content-Length", strconv.Itoa(len(b.data)))
	w.WriteHeader(b.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.data) // fails only when the client is gone
	}
}

func text(status int, s string) response {
	return body{status, "text/plain; charset=utf-8", "no-store", []byte(s)}
}

// withHeader is a response with one header more.
type withHeader struct {
	name, value string
	response
}

func (h withHeader) send(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(h.name, h.value)
	h.response.send(w, r)
}

// guestFile is a file that a guest wrote. Sending closes it.
type guestFile struct {
	file        fs.File
	size        int64
	modified    time.Time
	ctype       string
	disposition string
}

func (g guestFile) send(w http.ResponseWriter, r *http.Request) {
	defer g.file.Close()
	h := w.Header()
	h.Set("Content-Security-Policy", guestPolicy)
	h.Set("Content-Type", g.ctype)
	h.Set("Content-Disposition", g.disposition)
	h.Set("Cache-Control", "no-cache")
	if seeker, ok := g.file.(io.ReadSeeker); ok {
		http.ServeContent(w, r, "", g.modified, seeker)
		return
	}
	h.Set("Content-Length", strconv.FormatInt(g.size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, io.LimitReader(g.file, g.size)) // fails only when the client is gone
	}
}

// badRequest is an error whose text may be shown to whoever asked.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// handler makes an http.Handler of a function that returns its answer.
func (s *server) handler(get func(*http.Request) (response, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		resp, err := s.answer(get, r)
		if err != nil {
			resp = s.failure(r, err)
		}
		resp.send(w, r)
	})
}

// answer turns a panic of the handler into an error, so that one broken page
// gets the same treatment as every other failure.
func (s *server) answer(get func(*http.Request) (response, error), r *http.Request) (resp response, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, fmt.Errorf("cannot answer, the handler panicked: %v", p)
		}
	}()
	return get(r)
}

func secure(h http.Header) {
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
}

// failure is the page for an error. Only the errors meant for readers are
// shown; any other goes to the log under an identifier that the page shows.
func (s *server) failure(r *http.Request, err error) response {
	var bad badRequest
	switch {
	case errors.As(err, &bad):
		return s.message(messageView{Status: http.StatusBadRequest, Heading: "That address is not right", Text: string(bad)})
	case missing(err):
		return s.message(messageView{Status: http.StatusNotFound, Heading: "There is nothing here",
			Text: "No page, execution, event or file has this address. It may have been removed, or the address may have been cut short."})
	}
	id := rand.Text()[:10]
	if !errors.Is(err, context.Canceled) {
		s.Log.Error().Err(err).Str("error_id", id).Str("path", r.URL.Path).Msg("cannot show a page")
	}
	return s.message(messageView{Status: http.StatusInternalServerError, Heading: "The server could not show this page",
		Text: "That is the server's mistake, not yours. Its log has the reason under this identifier:", Code: id})
}

// missing tells whether the error says that something is not there. An invalid
// path is one that nothing can have.
func missing(err error) bool {
	return errors.Is(err, assay.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid)
}

// messageView is a page that only says something.
type messageView struct {
	Status  int
	Heading string
	Text    string
	Code    string
}

func (s *server) message(view messageView) response {
	return s.page(page{Template: "message", Status: view.Status, Title: view.Heading, Body: view})
}

// page is one page to render.
type page struct {
	Template string // file name without .html
	Status   int    // 0 for 200
	Title    string
	Refresh  int // seconds until the browser loads the page anew, 0 for never
	Section  string
	Body     any

	Version, Style, Icon string // filled in by server.page
	Events               bool   // there is a list of events; filled in, too
}

// page renders into memory first, so that a template that fails half-way never
// sends half a page with a good status.
func (s *server) page(p page) response {
	if p.Status == 0 {
		p.Status = http.StatusOK
	}
	p.Version, p.Style, p.Icon, p.Events = s.Version, s.assets.style, s.assets.icon, s.Inbox != nil
	var buf bytes.Buffer
	if err := s.pages.render(&buf, p); err != nil {
		s.Log.Error().Err(err).Str("template", p.Template).Msg("cannot render a page")
		return text(http.StatusInternalServerError, "cannot render this page: see the server's log\n")
	}
	return body{p.Status, "text/html; charset=utf-8", "no-cache", buf.Bytes()}
}

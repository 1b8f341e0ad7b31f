package forgetest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is one answer that is not what was hoped for.
type Fault struct {
	On     string            // beginning of "METHOD /path" that it is meant for; "" for any request
	Late   bool              // the request takes effect all the same
	Twice  bool              // the request takes effect twice, as when something on the way repeats it; the second answer is given
	Hang   bool              // no answer until the client gives up
	Times  int               // how many requests it happens to; 0 for one
	Status int               // 0: the connection is reset instead of an answer
	Header map[string]string // of the answer
	Body   string            // of the answer
}

// Faults is the part of a forge's stub that writes requests down and misbehaves
// when it was told to. A stub embeds it and passes every request through Serve.
// The zero value is ready.
type Faults struct {
	mu       sync.Mutex
	faults   []Fault
	requests []string
}

// Misbehave makes each of the faults happen to the next request that it is
// meant for, as often as it says.
func (f *Faults) Misbehave(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

// Requests lists what was asked, "POST /repos/o/r/statuses/…" with the query, in
// order, faults included.
func (f *Faults) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// Serve writes the request down without the path's base ("/api/v3"), and passes
// it to answer unless a fault is meant for it. The request's body is in memory
// then. answer may be called from several goroutines, with a recorder that
// nobody reads, and twice.
func (f *Faults) Serve(w http.ResponseWriter, r *http.Request, base string, answer http.HandlerFunc) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	again := func() *http.Request {
		r.Body = io.NopCloser(bytes.NewReader(body))
		return r
	}
	fault, found := f.take(r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), base))
	if found && (fault.Late || fault.Twice) {
		answer(httptest.NewRecorder(), again())
	}
	switch {
	case !found || fault.Twice:
		answer(w, again())
	case fault.Hang:
		<-r.Context().Done()
	default:
		fault.play(w)
	}
}

// take writes the request down and takes the first fault that is meant for it.
func (f *Faults) take(request string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, request)
	for i, fault := range f.faults {
		if !strings.HasPrefix(request, fault.On) {
			continue
		}
		if f.faults[i].Times--; f.faults[i].Times <= 0 {
			f.faults = slices.Delete(f.faults, i, i+1)
		}
		return fault, true
	}
	return Fault{}, false
}

// Meant returns the fault for requests that begin with on.
func (f Fault) Meant(on string) Fault {
	f.On = on
	return f
}

// Reset is a connection that breaks before anything happened.
func Reset() Fault { return Fault{} }

// LostAnswer is a request that took effect and whose answer never came.
func LostAnswer() Fault { return Fault{Late: true} }

// Repeated is a request that something on the way sends twice.
func Repeated() Fault { return Fault{Twice: true} }

// Silence is an answer that does not come before the client gives up.
func Silence() Fault { return Fault{Hang: true} }

// NotYet is what is not to be seen yet though its event came.
func NotYet(on string) Fault {
	return Fault{On: on, Status: http.StatusNotFound, Body: `{"message":"Not Found"}`}
}

// ServerError is a 5xx with an HTML body, as a load balancer gives it.
func ServerError(status int) Fault {
	return Fault{Status: status, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>Unicorn!</html>"}
}

// RateLimit is the primary rate limit, over until reset.
func RateLimit(reset time.Time) Fault {
	return Fault{Status: http.StatusForbidden, Header: map[string]string{
		"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(reset.Unix()),
	}, Body: `{"message":"API rate limit exceeded for user ID 1001.","documentation_url":"https://docs.github.com/rest/overview/resources-in-the-rest-api#rate-limiting"}`}
}

// TooMany is a 429; retryAfter is the header's value, "" for no header.
func TooMany(retryAfter string) Fault {
	f := Fault{Status: http.StatusTooManyRequests, Body: `{"message":"Too many requests"}`}
	if retryAfter != "" {
		f.Header = map[string]string{"Retry-After": retryAfter}
	}
	return f
}

// SecondaryLimit is the limit on bursts, which only the body tells.
func SecondaryLimit() Fault {
	return Fault{Status: http.StatusForbidden,
		Body: `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again.","documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api"}`}
}

// Redirect sends the client elsewhere with 307, as for a renamed repository.
func Redirect(to string) Fault {
	return Fault{Status: http.StatusTemporaryRedirect, Header: map[string]string{"Location": to}, Body: `{"message":"Moved Permanently"}`}
}

func (f Fault) play(w http.ResponseWriter) {
	if f.Status == 0 {
		reset(w)
		return
	}
	for name, value := range f.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write([]byte(f.Body)) // a client that went away sees to itself
}

// reset closes the connection with RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the close is only less rude
	}
	_ = conn.Close()
}

package forgetest

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

// Fault is one answer that is not what was hoped for.
type Fault struct {
	On     string            // beginning of "METHOD /path" that it is meant for; "" for any request
	Late   bool              // the request takes effect all the same
	Status int               // 0: the connection is reset instead of an answer
	Header map[string]string // of the answer
	Body   string            // of the answer
}

// Misbehave makes each of the faults happen once, to the next request that it
// is meant for.
func (g *GitHub) Misbehave(faults ...Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = append(g.faults, faults...)
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

package forge

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"sync"
)

// conditional asks for what it was told before with If-None-Match, and repeats
// it when the server says that nothing has changed (RFC 9110, 13 and 15.4.5).
// On GitHub that costs nothing of the rate limit ("Best practices for using the
// REST API", Use conditional requests if appropriate). The caller sees a 200
// with the newer headers.
//
// What is kept is given out only after the server has seen the credentials of
// the request at hand, so that it may be shared between several.
type conditional struct {
	next http.RoundTripper

	mu    sync.Mutex
	kept  map[string]*answer // by address
	bytes int
}

// answer is one that may be repeated. It is never changed.
type answer struct {
	tag    string
	header http.Header
	body   []byte
}

// Bounds of what is kept; when they are reached all is forgotten.
const (
	maxAnswer      = 1 << 20 // bytes of one body
	maxAnswers     = 512
	maxAnswerBytes = 16 << 20
)

func (c *conditional) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.Header.Get("Range") != "" {
		return c.next.RoundTrip(req)
	}
	address := req.URL.String()
	before := c.get(address)
	if before != nil {
		req = req.Clone(req.Context())
		req.Header.Set("If-None-Match", before.tag)
	}
	resp, err := c.next.RoundTrip(req)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotModified && before != nil:
		return before.again(resp), nil
	case resp.StatusCode == http.StatusOK && resp.Header.Get("ETag") != "":
		c.keep(address, resp)
	}
	return resp, nil
}

// again makes the answer that 304 stands for.
func (a *answer) again(resp *http.Response) *http.Response {
	resp.Body.Close()
	header := a.header.Clone()
	maps.Copy(header, resp.Header)
	resp.Status, resp.StatusCode, resp.Header = "200 OK", http.StatusOK, header
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(a.body)), int64(len(a.body))
	return resp
}

func (c *conditional) get(address string) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[address]
}

// keep reads the body, as far as it would be kept, and gives it back. What ends
// with an error is not kept: the reader sees that error in its place.
func (c *conditional) keep(address string, resp *http.Response) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failing{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), resp.Body}
	if err != nil || len(body) > maxAnswer {
		return
	}
	c.set(address, &answer{tag: resp.Header.Get("ETag"), header: resp.Header.Clone(), body: body})
}

func (c *conditional) set(address string, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.kept[address]; old != nil {
		c.bytes -= len(old.body)
	}
	if c.kept == nil || len(c.kept) >= maxAnswers || c.bytes+len(a.body) > maxAnswerBytes {
		c.kept, c.bytes = map[string]*answer{}, 0
	}
	c.kept[address] = a
	c.bytes += len(a.body)
}

// failing is the rest of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Receipt is what the intake answered.
type Receipt struct {
	Event   string // the event's id
	URL     string // the event's page
	Fresh   bool   // false when it had the event already
	Ignored string // why nothing will be done about it, "" otherwise
}

// Refused tells that the intake will never take this delivery as it is.
// Sending it again changes nothing.
type Refused struct {
	Status int    // the HTTP status, 3xx or 4xx
	Reason string // the intake's own words
}

func (e *Refused) Error() string {
	return fmt.Sprintf("cannot deliver the event: the server refused it (%d): %s", e.Status, e.Reason)
}

// Bounds of one delivery by Post.
const (
	postTimeout = 30 * time.Second // when the caller brings no client
	maxAnswer   = 64 << 10         // bytes of an answer that are read
)

// Post signs body with Assay's own headers and sends it to SERVER/hooks/SOURCE.
// A nil client stands for one with a timeout of 30 seconds. A *Refused error is
// final; any other (no connection, 408, 429, 5xx, an answer that is not the
// intake's) means that the delivery may be sent again, with the same id.
// Redirects are not followed: they would lose the body.
func Post(ctx context.Context, client *http.Client, server, source, delivery string, secret, body []byte) (Receipt, error) {
	req, err := postRequest(ctx, server, source, delivery, secret, body)
	if err != nil {
		return Receipt{}, err
	}
	if client == nil {
		client = &http.Client{Timeout: postTimeout}
	}
	once := *client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := once.Do(req)
	if err != nil {
		return Receipt{}, fmt.Errorf("cannot deliver the event: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Receipt{}, fmt.Errorf("cannot read the server's answer: %w", err)
	}
	return receipt(resp, answer)
}

func postRequest(ctx context.Context, server, source, delivery string, secret, body []byte) (*http.Request, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("cannot deliver to %q: it is not an http or https address", server)
	}
	u = u.JoinPath("hooks", url.PathEscape(source))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot deliver to %q: %v", server, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "assay")
	req.Header.Set(headerDelivery, delivery)
	if len(secret) > 0 {
		req.Header.Set(headerSignature, Sign(secret, body))
	}
	return req, nil
}

// receipt tells a taken delivery from a refused one and from one to send again.
func receipt(resp *http.Response, answer []byte) (Receipt, error) {
	var said struct {
		accepted
		refused
	}
	parsed := json.Unmarshal(answer, &said) == nil
	switch code := resp.StatusCode; {
	case code == http.StatusAccepted && parsed && said.Event != "":
		return Receipt{Event: said.Event, URL: said.URL, Fresh: said.Fresh, Ignored: said.Ignored}, nil
	case code >= 300 && code < 400:
		return Receipt{}, &Refused{code, "it points to " + quote(resp.Header.Get("Location")) + ": use that address"}
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return Receipt{}, &Refused{code, reasonOf(said.Error, answer)}
	case code < 300:
		return Receipt{}, fmt.Errorf("cannot deliver the event: the answer (%d) is not of this program: check the address", code)
	default:
		return Receipt{}, fmt.Errorf("cannot deliver the event just now: the server says %d: %s", code, reasonOf(said.Error, answer))
	}
}

// reasonOf prefers the intake's own words over what a proxy may have said.
func reasonOf(said string, answer []byte) string {
	if said == "" {
		said = strings.TrimSpace(string(answer))
	}
	return cut(plain(said), 4*maxName)
}

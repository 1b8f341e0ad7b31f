package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// Delivery is one try of a forge to deliver something to a webhook.
type Delivery struct {
	ID    int64     // the forge's number of this try; later ones have higher numbers
	Name  string    // the delivery id that the webhook was told, the same when it is tried again; "" if it cannot be read
	Event string    // the forge's word for what happened: "push"
	At    time.Time // when it was tried; zero if the forge does not say
	OK    bool      // the webhook answered with a 2xx
	Cut   bool      // the forge did not keep what it delivered: it can only be delivered again
}

// DeliveryLog is what a forge remembers of one webhook: GitHub for three days,
// GitLab for seven. Errors are those of a Forge; about a delivery that the forge
// has forgotten they wrap assay.ErrNotFound. Its methods are called by one
// goroutine at a time.
type DeliveryLog interface {
	// List returns a page of deliveries, newest first, and the name of the page
	// with older ones, "" for none. The page "" is the first one.
	List(ctx context.Context, page string) (batch []Delivery, older string, err error)
	// Fetch returns what was delivered, as JSON. It is not the delivery's body
	// byte for byte, so that no signature fits, and secrets are not in the header.
	Fetch(ctx context.Context, d Delivery) (http.Header, []byte, error)
	// Redeliver asks the forge to deliver once more, under the same delivery id.
	Redeliver(ctx context.Context, d Delivery) error
}

// deliveryAPI asks a forge's REST API about webhooks.
type deliveryAPI struct {
	web    *webForge
	need   string // which permission it takes
	signed bool   // the transport proves who we are: no token is read
}

// signedWebForge is a webForge whose transport proves who we are with the key in
// keyFile.
func signedWebForge(kind, address, keyFile, agent string, timeout time.Duration, next http.RoundTripper) (*webForge, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("cannot use %q as the address of %s: write it as https://HOST/", address, kind)
	}
	return &webForge{
		kind: kind, base: base.JoinPath("/"), header: "Authorization", next: next, tokenFile: keyFile,
		agent: cmp.Or(agent, "assay"), timeout: cmp.Or(max(timeout, 0), 30*time.Second),
	}, nil
}

// get returns the answer to a GET below the API's base address.
func (a *deliveryAPI) get(ctx context.Context, what, path string, query url.Values) ([]byte, http.Header, error) {
	return a.ask(ctx, http.MethodGet, what, path, query)
}

// ask makes one request. A 404 wraps assay.ErrNotFound.
func (a *deliveryAPI) ask(ctx context.Context, method, what, path string, query url.Values) ([]byte, http.Header, error) {
	data, header, err := a.once(ctx, method, path, query)
	var answer *webAnswer
	if !errors.As(err, &answer) {
		return data, header, a.web.fail(ctx, what, a.need, err)
	}
	switch {
	case answer.code == http.StatusAccepted:
		return nil, answer.header, nil
	case answer.code == http.StatusNotFound || answer.code == http.StatusGone:
		return nil, nil, permanent("cannot %s: %w: %s does not have it (%d), or hides it: it needs %s", what, assay.ErrNotFound, a.web.base.Host, answer.code, a.need)
	case answer.code == http.StatusForbidden:
		if after := deliveryLimit(answer, time.Now()); after > 0 {
			return nil, nil, &RetryError{After: after, Err: fmt.Errorf("cannot %s: %s is limiting us (%d): %s", what, a.web.base.Host, answer.code, answer.message)}
		}
	}
	return nil, nil, a.web.fail(ctx, what, a.need, err)
}

// deliveryLimit is how long a 403 that is a rate limit lasts, 0 for one that is
// none (GitHub documents, "Rate limits for the REST API").
func deliveryLimit(a *webAnswer, now time.Time) time.Duration {
	if after := retryHeader(a.header, now); after > 0 {
		return capped(after)
	}
	if a.header.Get("X-RateLimit-Remaining") == "0" {
		return capped(resetHeader(a.header, now))
	}
	if strings.Contains(strings.ToLower(a.message), "rate limit") {
		return secondaryWait
	}
	return 0
}

func (a *deliveryAPI) once(ctx context.Context, method, path string, query url.Values) ([]byte, http.Header, error) {
	token := "signed-by-the-transport"
	if !a.signed {
		var err error
		if token, err = a.web.token(); err != nil {
			return nil, nil, &RetryError{Err: err} // the file may be on its way
		}
	}
	address := a.web.base.String() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, nil, &PermanentError{err}
	}
	req.Header.Set("Accept", "application/json")
	resp, err := a.web.client(token).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && len(data) == maxWebAnswer {
		err = fmt.Errorf("the answer is over %d bytes long", maxWebAnswer)
	}
	return data, resp.Header, err
}

// unreadable is the error about an answer that is not what the API documents.
func (a *deliveryAPI) unreadable(what string, err error) error {
	return &RetryError{Err: fmt.Errorf("cannot %s: no good answer from %s: %s", what, a.web.base.Host, Line(err.Error()))}
}

// hookOf finds the one webhook that delivers to the receiver's address.
func hookOf(list []webHook, receiver, where string) (int64, error) {
	var found []int64
	for _, h := range list {
		if h.ID > 0 && sameAddress(h.address(), receiver) {
			found = append(found, h.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, permanent("cannot find the webhook of %s that delivers to %.200q: set one up there, or configure its number", where, receiver)
	}
	return 0, permanent("cannot tell which webhook of %s delivers to %.200q: there are %d: remove all but one", where, receiver, len(found))
}

// webHook is what both forges' lists of webhooks have in common.
type webHook struct {
	ID     int64  `json:"id"`
	URL    string `json:"url"` // GitLab: where it delivers to
	Config *struct {
		URL string `json:"url"`
	} `json:"config"` // GitHub
}

func (h webHook) address() string {
	if h.Config != nil {
		return h.Config.URL
	}
	return h.URL
}

// sameAddress compares where webhooks deliver to: scheme and host in any case, a
// slash at the end or none, and without a query.
func sameAddress(a, b string) bool {
	first, err := url.Parse(a)
	second, err2 := url.Parse(b)
	return err == nil && err2 == nil && first.Host != "" &&
		strings.EqualFold(first.Scheme, second.Scheme) && strings.EqualFold(first.Host, second.Host) &&
		strings.Trim(first.Path, "/") == strings.Trim(second.Path, "/")
}

// maxDeliveries bounds one page of deliveries, whatever a forge sends.
const maxDeliveries = 1000

// cleanDelivery drops what cannot be true or printed.
func cleanDelivery(d Delivery) Delivery {
	if !deliveryWord(d.Name, 128) {
		d.Name = ""
	}
	if !deliveryWord(d.Event, 64) {
		d.Event = "unknown"
	}
	return d
}

func deliveryWord(s string, limit int) bool {
	outside := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:-", r))
	}
	return s != "" && len(s) <= limit && strings.IndexFunc(s, outside) < 0
}

// deliveredHeader takes over what an intake needs of a delivery's header. Secrets
// and signatures, which fit no more, stay behind.
func deliveredHeader(given map[string]any) http.Header {
	header := http.Header{"Content-Type": {"application/json"}}
	for name, value := range given {
		text, ok := value.(string)
		name = http.CanonicalHeaderKey(name)
		if ok && wantedHeader(name) && len(text) <= 1024 && strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
			header.Set(name, text)
		}
	}
	return header
}

func wantedHeader(name string) bool {
	switch name {
	case "User-Agent", "Idempotency-Key", "Webhook-Id":
		return true
	case "X-Gitlab-Token":
		return false
	}
	return strings.HasPrefix(name, "X-Github-") || strings.HasPrefix(name, "X-Gitlab-")
}

// deliveredBody is the JSON object that was delivered. Some servers keep it as
// text.
func deliveredBody(raw json.RawMessage) ([]byte, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = json.RawMessage(text)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, errors.New("what was delivered is no JSON object")
	}
	return raw, nil
}

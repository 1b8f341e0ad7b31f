package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"github.com/bradleyfalzon/ghinstallation/v2"
)

// GitHubDeliveries reads what a GitHub server delivered to the webhooks of
// repositories (REST API 2022-11-28, "Repository webhooks"). The token needs,
// fine-grained: "Webhooks" read, and write for Redeliver; classic: read:repo_hook.
type GitHubDeliveries struct{ api *deliveryAPI }

// NewGitHubDeliveries checks the options and that the token can be read.
func NewGitHubDeliveries(o GitHubOptions) (*GitHubDeliveries, error) {
	web, err := newWebForge("GitHub", gitHubBase(o), o.TokenFile, o.UserAgent, o.Timeout, o.Transport)
	if err != nil {
		return nil, err
	}
	web.header, web.prefix = "Authorization", "Bearer "
	return &GitHubDeliveries{&deliveryAPI{web: web, need: `the permission "Webhooks" read (classic: read:repo_hook)`}}, nil
}

func gitHubBase(o GitHubOptions) string {
	if o.BaseURL == "" {
		return GitHubAPI
	}
	return o.BaseURL
}

// NewGitHubAppDeliveries is the log of a GitHub App's own webhook ("Webhooks for a
// GitHub App"): an App with the number appID proves itself with the private key
// in keyFile, and needs no permission. TokenFile counts for nothing.
func NewGitHubAppDeliveries(o GitHubOptions, appID int64, keyFile string) (DeliveryLog, error) {
	next := o.Transport
	if next == nil {
		next = SafeTransport(gitHubBase(o))
	}
	app, err := ghinstallation.NewAppsTransportKeyFromFile(next, appID, keyFile)
	if err != nil {
		return nil, fmt.Errorf("cannot use the GitHub App's key %s: %v: put the private key that GitHub made there", keyFile, plainError(err))
	}
	web, err := signedWebForge("GitHub", gitHubBase(o), keyFile, o.UserAgent, o.Timeout, app)
	if err != nil {
		return nil, err
	}
	return &gitHubLog{api: &deliveryAPI{web: web, need: "the App's private key", signed: true}, where: "the GitHub App", path: "app/hook/"}, nil
}

// Of is the log of the webhook of a repository, which is named by its configured
// address, with this number. 0 looks for the one that delivers to receiver,
// "https://assay.example.org/hooks/github".
func (g *GitHubDeliveries) Of(address string, hook int64, receiver string) (DeliveryLog, error) {
	_, owner, name, err := ParseGitHub(address)
	if err != nil {
		return nil, err
	}
	return &gitHubLog{api: g.api, where: owner + "/" + name, hooks: "repos/" + owner + "/" + name + "/hooks", hook: hook, receiver: receiver}, nil
}

// gitHubLog is the DeliveryLog of one webhook.
type gitHubLog struct {
	api      *deliveryAPI
	where    string // for people
	hooks    string // the list of webhooks, "repos/O/R/hooks"; "" for an App's only one
	path     string // of the webhook itself, with a slash behind; "" until found
	hook     int64
	receiver string
}

var _ DeliveryLog = (*gitHubLog)(nil)

// find makes sure of the path.
func (l *gitHubLog) find(ctx context.Context) error {
	if l.path != "" {
		return nil
	}
	id := l.hook
	if id == 0 {
		what := "find the webhook of " + l.where
		data, _, err := l.api.get(ctx, what, l.hooks, url.Values{"per_page": {"100"}})
		if err != nil {
			return err
		}
		var list []webHook
		if err := json.Unmarshal(data, &list); err != nil {
			return l.api.unreadable(what, err)
		}
		if id, err = hookOf(list, l.receiver, l.where); err != nil {
			return err
		}
	}
	l.path = l.hooks + "/" + strconv.FormatInt(id, 10) + "/"
	return nil
}

// List does GET …/deliveries.
func (l *gitHubLog) List(ctx context.Context, page string) ([]Delivery, string, error) {
	if err := l.find(ctx); err != nil {
		return nil, "", err
	}
	query := url.Values{"per_page": {"100"}}
	if page != "" {
		query.Set("cursor", page)
	}
	what := "list what was delivered to the webhook of " + l.where
	data, header, err := l.api.get(ctx, what, l.path+"deliveries", query)
	if errors.Is(err, assay.ErrNotFound) && l.hooks != "" {
		l.path = "" // it may have been set up anew
	}
	if err != nil {
		return nil, "", err
	}
	list, err := parseGitHubDeliveries(data)
	if err != nil {
		return nil, "", l.api.unreadable(what, err)
	}
	return list, olderCursor(header.Get("Link")), nil
}

// gitHubDelivery is a delivery in the API's words ("List deliveries for a
// repository webhook", response schema).
type gitHubDelivery struct {
	ID          int64     `json:"id"`
	GUID        string    `json:"guid"`
	DeliveredAt time.Time `json:"delivered_at"`
	StatusCode  int       `json:"status_code"`
	Event       string    `json:"event"`
	Request     struct {
		Headers map[string]any  `json:"headers"`
		Payload json.RawMessage `json:"payload"`
	} `json:"request"`
}

func parseGitHubDeliveries(data []byte) ([]Delivery, error) {
	var given []gitHubDelivery
	if err := json.Unmarshal(data, &given); err != nil {
		return nil, err
	}
	if len(given) > maxDeliveries {
		return nil, fmt.Errorf("there are %d deliveries on one page", len(given))
	}
	list := make([]Delivery, 0, len(given))
	for _, d := range given {
		if d.ID <= 0 {
			return nil, fmt.Errorf("a delivery has the number %d", d.ID)
		}
		list = append(list, cleanDelivery(Delivery{
			ID: d.ID, Name: d.GUID, Event: d.Event, At: d.DeliveredAt.UTC(), OK: d.StatusCode >= 200 && d.StatusCode < 300,
		}))
	}
	return list, nil
}

// olderCursor takes the cursor of rel="next" out of a Link header (RFC 8288); ""
// for none.
func olderCursor(link string) string {
	for part := range strings.SplitSeq(link, ",") {
		target, params, ok := strings.Cut(strings.TrimSpace(part), ">")
		if !ok || !strings.HasPrefix(target, "<") || !strings.Contains(params, `rel="next"`) {
			continue
		}
		u, err := url.Parse(target[1:])
		if err != nil {
			continue
		}
		if cursor := u.Query().Get("cursor"); printable(cursor) && len(cursor) <= 512 {
			return cursor
		}
	}
	return ""
}

// Fetch does GET …/deliveries/ID.
func (l *gitHubLog) Fetch(ctx context.Context, d Delivery) (http.Header, []byte, error) {
	if err := l.find(ctx); err != nil {
		return nil, nil, err
	}
	what := fmt.Sprintf("fetch the delivery %s of %s", d.Name, l.where)
	data, _, err := l.api.get(ctx, what, l.path+"deliveries/"+strconv.FormatInt(d.ID, 10), nil)
	if err != nil {
		return nil, nil, err
	}
	header, body, err := parseGitHubDelivery(data)
	if err != nil {
		return nil, nil, l.api.unreadable(what, err)
	}
	return header, body, nil
}

// parseGitHubDelivery reads one delivery with what it brought.
func parseGitHubDelivery(data []byte) (http.Header, []byte, error) {
	var given gitHubDelivery
	if err := json.Unmarshal(data, &given); err != nil {
		return nil, nil, err
	}
	body, err := deliveredBody(given.Request.Payload)
	if err != nil {
		return nil, nil, err
	}
	header := deliveredHeader(given.Request.Headers)
	d := cleanDelivery(Delivery{Name: given.GUID, Event: given.Event})
	header.Set("X-Github-Delivery", d.Name)
	header.Set("X-Github-Event", d.Event)
	return header, body, nil
}

// Redeliver does POST …/deliveries/ID/attempts.
func (l *gitHubLog) Redeliver(ctx context.Context, d Delivery) error {
	if err := l.find(ctx); err != nil {
		return err
	}
	_, _, err := l.api.ask(ctx, http.MethodPost, fmt.Sprintf("have the delivery %s of %s made again", d.Name, l.where),
		l.path+"deliveries/"+strconv.FormatInt(d.ID, 10)+"/attempts", nil)
	return err
}

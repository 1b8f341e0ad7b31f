package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/assay-ci/assay"
)

// GitLabDeliveries reads what a GitLab server delivered to the webhooks of
// projects and groups (API v4, "Project webhooks API", events; GitLab 17.3, and
// 17.4 for Redeliver). The token needs the scope api and the role Maintainer.
type GitLabDeliveries struct{ api *deliveryAPI }

// NewGitLabDeliveries checks the options and that the token can be read.
func NewGitLabDeliveries(o GitLabOptions) (*GitLabDeliveries, error) {
	web, err := newWebForge("GitLab", cmp.Or(o.BaseURL, "https://gitlab.com/"), o.TokenFile, o.UserAgent, o.Timeout, o.Transport)
	if err != nil {
		return nil, err
	}
	web.header = "PRIVATE-TOKEN"
	web.base = web.base.JoinPath("api/v4/")
	return &GitLabDeliveries{&deliveryAPI{web: web, need: "the scope api and the role Maintainer"}}, nil
}

// Of is the log of the webhook of a project, which is named by its configured
// address, with this number. 0 looks for the one that delivers to receiver.
func (g *GitLabDeliveries) Of(address string, hook int64, receiver string) (DeliveryLog, error) {
	_, path, err := ParseGitLab(address)
	if err != nil {
		return nil, err
	}
	return &gitLabLog{api: g.api, where: path, hooks: "projects/" + url.PathEscape(path) + "/hooks", hook: hook, receiver: receiver}, nil
}

// gitLabLog is the DeliveryLog of one webhook. The API tells no delivery alone, so
// that it remembers on which page each was, and has one page at a time.
type gitLabLog struct {
	api      *deliveryAPI
	where    string
	hooks    string // the list of webhooks
	hook     int64  // 0 until found
	receiver string
	found    bool // hook was looked for

	pages  map[int64]int
	number int // of the page that is held, 0 for none
	held   []gitLabDelivery
}

var _ DeliveryLog = (*gitLabLog)(nil)

// Pages of GitLab's list, and how many further down a delivery may have slid
// since it was listed.
const (
	gitLabPage  = 20
	gitLabSlide = 20
	gitLabPages = 1000
)

func (l *gitLabLog) find(ctx context.Context) error {
	if l.hook != 0 {
		return nil
	}
	what := "find the webhook of " + l.where
	data, _, err := l.api.get(ctx, what, l.hooks, url.Values{"per_page": {"100"}})
	if err != nil {
		return err
	}
	var list []webHook
	if err := json.Unmarshal(data, &list); err != nil {
		return l.api.unreadable(what, err)
	}
	l.hook, err = hookOf(list, l.receiver, l.where)
	l.found = err == nil
	return err
}

// List does GET …/events.
func (l *gitLabLog) List(ctx context.Context, page string) ([]Delivery, string, error) {
	number := 1
	if page == "" {
		l.pages = map[int64]int{}
	} else {
		var err error
		if number, err = strconv.Atoi(page); err != nil || number < 1 || number > gitLabPages {
			return nil, "", permanent("cannot list what was delivered to %s: %.40q is no page", l.where, page)
		}
	}
	if l.pages == nil {
		l.pages = map[int64]int{}
	}
	if err := l.load(ctx, number); err != nil {
		return nil, "", err
	}
	var list []Delivery
	for _, d := range l.held {
		l.pages[d.ID] = number
		list = append(list, d.plain())
	}
	older := ""
	if len(l.held) >= gitLabPage && number < gitLabPages {
		older = strconv.Itoa(number + 1)
	}
	return list, older, nil
}

// load makes a page the one that is held.
func (l *gitLabLog) load(ctx context.Context, number int) error {
	if err := l.find(ctx); err != nil {
		return err
	}
	what := "list what was delivered to the webhook of " + l.where
	query := url.Values{"page": {strconv.Itoa(number)}, "per_page": {strconv.Itoa(gitLabPage)}}
	data, _, err := l.api.get(ctx, what, l.hooks+"/"+strconv.FormatInt(l.hook, 10)+"/events", query)
	if errors.Is(err, assay.ErrNotFound) && l.found {
		l.hook, l.found = 0, false // it may have been set up anew
	}
	if err != nil {
		return err
	}
	held, err := parseGitLabDeliveries(data)
	if err != nil {
		return l.api.unreadable(what, err)
	}
	l.number, l.held = number, held
	return nil
}

// gitLabDelivery is a delivery in the API's words.
type gitLabDelivery struct {
	ID        int64           `json:"id"`
	Trigger   string          `json:"trigger"` // "push_hooks"
	Headers   map[string]any  `json:"request_headers"`
	Data      json.RawMessage `json:"request_data"`
	Status    any             `json:"response_status"` // "200", or words: "internal error"
	CreatedAt time.Time       `json:"created_at"`      // of some versions only
}

func parseGitLabDeliveries(data []byte) ([]gitLabDelivery, error) {
	var list []gitLabDelivery
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	if len(list) > maxDeliveries {
		return nil, fmt.Errorf("there are %d deliveries on one page", len(list))
	}
	for _, d := range list {
		if d.ID <= 0 {
			return nil, fmt.Errorf("a delivery has the number %d", d.ID)
		}
	}
	return list, nil
}

// plain is the delivery without what it brought. Its name is the id that the
// intake prefers: GitLab's webhook documents, "Delivery headers".
func (d gitLabDelivery) plain() Delivery {
	header := deliveredHeader(d.Headers)
	code := fmt.Sprint(d.Status)
	var oversize struct {
		Oversize bool `json:"oversize"`
	}
	_, err := deliveredBody(d.Data)
	return cleanDelivery(Delivery{
		ID:    d.ID,
		Name:  cmp.Or(header.Get("Webhook-Id"), header.Get("Idempotency-Key"), header.Get("X-Gitlab-Event-Uuid")),
		Event: d.Trigger, At: d.CreatedAt.UTC(),
		OK: len(code) == 3 && code[0] == '2',
		// GitLab keeps {"oversize": true} in place of what is too large for its table.
		Cut: err != nil || json.Unmarshal(d.Data, &oversize) == nil && oversize.Oversize,
	})
}

// Fetch looks for the delivery on the page where it was listed, and on those that
// it may have slid to.
func (l *gitLabLog) Fetch(ctx context.Context, d Delivery) (http.Header, []byte, error) {
	gone := permanent("cannot fetch the delivery %s of %s: %w", d.Name, l.where, assay.ErrNotFound)
	number, listed := l.pages[d.ID]
	if !listed {
		return nil, nil, gone
	}
	for page := number; page <= number+gitLabSlide; page++ {
		if l.number != page {
			if err := l.load(ctx, page); err != nil {
				return nil, nil, err
			}
		}
		for _, held := range l.held {
			if held.ID != d.ID {
				continue
			}
			body, err := deliveredBody(held.Data)
			if err != nil {
				return nil, nil, permanent("cannot fetch the delivery %s of %s: %v", d.Name, l.where, err)
			}
			return deliveredHeader(held.Headers), body, nil
		}
		if len(l.held) == 0 || l.held[len(l.held)-1].ID < d.ID {
			break
		}
	}
	return nil, nil, gone
}

// Redeliver does POST …/events/ID/resend, of which GitLab lets five a minute
// through.
func (l *gitLabLog) Redeliver(ctx context.Context, d Delivery) error {
	if err := l.find(ctx); err != nil {
		return err
	}
	_, _, err := l.api.ask(ctx, http.MethodPost, fmt.Sprintf("have the delivery %s of %s made again", d.Name, l.where),
		fmt.Sprintf("%s/%d/events/%d/resend", l.hooks, l.hook, d.ID), nil)
	return err
}

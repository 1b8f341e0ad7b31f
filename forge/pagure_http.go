package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// pagureSession is what belongs to one token.
type pagureSession struct {
	token  string
	api    string // with / at the end
	client *http.Client

	mu   sync.Mutex
	user string // whose token it is; "" until asked
}

// session returns the session of the token that is in the file now.
func (p *Pagure) session() (*pagureSession, error) {
	token, err := p.web.token()
	if err != nil {
		return nil, &RetryError{Err: err} // the file may be on its way
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || p.current.token != token {
		p.current = &pagureSession{token: token, api: p.web.base.String() + "api/0/", client: p.web.client(token)}
	}
	return p.current, nil
}

// user returns the name of the account that the token belongs to (POST
// /api/0/-/whoami).
func (p *Pagure) user(ctx context.Context, s *pagureSession) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.user != "" {
		return s.user, nil
	}
	var who struct {
		Username string `json:"username"`
	}
	if err := s.post(ctx, "-/whoami", url.Values{}, &who); err != nil {
		return "", p.web.fail(ctx, "find out whose token it is", "", err)
	}
	if who.Username == "" {
		return "", permanent("cannot find out whose token it is: %s names no account", p.web.base.Host)
	}
	s.user = who.Username
	return s.user, nil
}

// get reads a JSON object. path is below /api/0/ and made of checked words.
func (s *pagureSession) get(ctx context.Context, path string, into any) error {
	return s.do(ctx, http.MethodGet, path, nil, into)
}

// post sends a form: that is how Pagure wants it ("Request Encoding").
func (s *pagureSession) post(ctx context.Context, path string, form url.Values, into any) error {
	return s.do(ctx, http.MethodPost, path, strings.NewReader(form.Encode()), into)
}

func (s *pagureSession) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.api+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}

// pagurePull is what we look at in a pull request.
type pagurePull struct {
	ID         int64           `json:"id"`
	Status     string          `json:"status"` // "Open", "Closed", "Merged"
	Branch     string          `json:"branch"` // that it is to be merged into
	CommitStop string          `json:"commit_stop"`
	User       pagureUser      `json:"user"`
	Comments   []pagureComment `json:"comments"` // oldest first
}

type pagureComment struct {
	ID      int64      `json:"id"`
	Comment string     `json:"comment"`
	User    pagureUser `json:"user"`
}

// pull does GET /api/0/REPO/pull-request/N.
func (s *pagureSession) pull(ctx context.Context, path string, number int) (pagurePull, error) {
	var pull pagurePull
	err := s.get(ctx, fmt.Sprintf("%s/pull-request/%d", path, number), &pull)
	if err == nil && pull.ID != int64(number) {
		err = errors.New("it tells of another pull request")
	}
	return pull, err
}

package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

const (
	giteaPage      = 50       // the most that Gitea gives, unless its operator says otherwise
	maxGiteaAnswer = 64 << 20 // bytes: all comments of a long pull request come at once
	maxGiteaError  = 64 << 10 // bytes of an answer that is no success
)

// readToken reads the token for a host from its file. It is one printable word
// of up to maxToken bytes.
func readToken(file, host string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		cause, cure := err, "check the path"
		var at *fs.PathError
		if errors.As(err, &at) {
			cause = at.Err
		}
		if errors.Is(err, fs.ErrPermission) {
			cure = "make it readable by the user that runs assay"
		}
		return "", fmt.Errorf("cannot read the token for %s, %s: %v: %s", host, file, cause, cure)
	}
	token := strings.TrimSpace(string(text))
	if !printable(token) || len(token) > maxToken {
		return "", fmt.Errorf("cannot use the token for %s in %s: it must be one word: put the token and nothing else into the file", host, file)
	}
	return token, nil
}

// giteaSession is one call of ours, which may take several requests.
type giteaSession struct {
	*Gitea
	token string
}

func (g *Gitea) session() (*giteaSession, error) {
	token, err := readToken(g.options.TokenFile, g.root.Host)
	if err != nil {
		return nil, &RetryError{Err: err} // the file may be on its way
	}
	return &giteaSession{g, token}, nil
}

// user returns the id of the account that the token belongs to.
func (s *giteaSession) user(ctx context.Context) (int64, error) {
	s.mu.Lock()
	account := s.account
	s.mu.Unlock()
	if account.token == s.token {
		return account.id, nil
	}
	var user giteaUser
	_, err := s.do(ctx, http.MethodGet, "user", nil, &user)
	if err == nil && user.ID <= 0 {
		err = errors.New("it names no account")
	}
	if err != nil {
		return 0, s.fail(ctx, "find out whose token it is", "the scope read:user", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account = giteaAccount{s.token, user.ID}
	return user.ID, nil
}

// giteaUser is what we look at in a User.
type giteaUser struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// giteaRefusal is an answer that is no success.
type giteaRefusal struct {
	code    int
	message string // one line, fit to print, without the token
	header  http.Header
}

func (e *giteaRefusal) Error() string { return fmt.Sprintf("%d: %s", e.code, e.message) }

// answered tells whether err is an answer with one of the codes.
func answered(err error, codes ...int) bool {
	var refusal *giteaRefusal
	if !errors.As(err, &refusal) {
		return false
	}
	for _, code := range codes {
		if refusal.code == code {
			return true
		}
	}
	return false
}

// orNothing is where an answer goes that may be empty.
type orNothing struct{ into any }

// do sends one request to path, which is below /api/v1/ and escaped, and decodes
// a success. body is sent as JSON unless it is nil. The error is a *giteaRefusal
// when there was an answer.
func (s *giteaSession) do(ctx context.Context, method, path string, body, into any) (http.Header, error) {
	req, err := s.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, plainError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, s.refusal(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxGiteaAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxGiteaAnswer {
		return nil, fmt.Errorf("its answer is longer than %d MiB", maxGiteaAnswer>>20)
	}
	if optional, ok := into.(orNothing); ok {
		if len(bytes.TrimSpace(text)) == 0 {
			return resp.Header, nil
		}
		into = optional.into
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, fmt.Errorf("its answer (%d) cannot be read: %v", resp.StatusCode, err)
	}
	return resp.Header, nil
}

func (s *giteaSession) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var payload io.Reader // a bytes.Reader, which a redirect can send again
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.root.String()+"/api/v1/"+path, payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "token "+s.token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", s.options.UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// refusal reads an answer that is no success. A proxy may answer in HTML, and
// may repeat what was sent.
func (s *giteaSession) refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxGiteaError)) // a part will do
	var told struct {
		Message string `json:"message"`
	}
	said := http.StatusText(resp.StatusCode)
	if json.Unmarshal(text, &told) == nil && told.Message != "" {
		said = told.Message
	}
	return &giteaRefusal{resp.StatusCode, s.plain(said), resp.Header}
}

// plain makes a line of what a server wrote, without the token.
func (s *giteaSession) plain(text string) string {
	return Line(strings.ReplaceAll(text, s.token, "(token)"))
}

// orMissing is for an answer that may mean that something does not exist: it
// asks for it at path. The error stays when it exists or that cannot be told.
func (s *giteaSession) orMissing(ctx context.Context, err error, what, path string) error {
	var ignored json.RawMessage
	_, asked := s.do(ctx, http.MethodGet, path, nil, &ignored)
	// 422 is for a commit whose name is too long for the repository's kind of hash.
	if !answered(asked, http.StatusNotFound, http.StatusUnprocessableEntity) {
		return err
	}
	return &giteaMissing{what}
}

// giteaMissing tells that the server, asked for it, does not have something.
type giteaMissing struct{ what string }

func (e *giteaMissing) Error() string { return "there is no " + e.what }

// moreThan tells from the header of a list whether it has more than was seen;
// unknown is the answer when the header does not say.
func moreThan(header http.Header, seen int, unknown bool) bool {
	total, err := strconv.Atoi(header.Get("X-Total-Count"))
	if err != nil {
		return unknown
	}
	return total > seen
}

// fail turns an error of do into one of ours; what says what was tried, need
// what it takes.
func (s *giteaSession) fail(ctx context.Context, what, need string, err error) error {
	var never *PermanentError
	var again *RetryError
	var stray *strayError
	var refusal *giteaRefusal
	var missing *giteaMissing
	host := s.root.Host
	switch {
	case err == nil || errors.As(err, &again) || errors.As(err, &never):
		return err
	case ctx.Err() != nil:
		return &RetryError{Err: fmt.Errorf("cannot %s: %w", what, ctx.Err())}
	case errors.As(err, &stray):
		return permanent("cannot %s: %s %v: if the repository has moved, configure its new address", what, host, stray)
	case errors.As(err, &missing):
		return permanent("cannot %s: %s does not have %s, or hides it from the token in %s: %w", what, host, missing.what, s.options.TokenFile, assay.ErrNotFound)
	case errors.As(err, &refusal):
		return s.refused(what, need, refusal)
	}
	return &RetryError{Err: fmt.Errorf("cannot %s: no good answer from %s: %s", what, host, s.plain(err.Error()))}
}

// refused sorts the answers. Gitea says nothing when it is too much for it; a
// proxy before it may say 429.
func (s *giteaSession) refused(what, need string, e *giteaRefusal) error {
	host, file := s.root.Host, s.options.TokenFile
	after := capped(retryHeader(e.header, time.Now()))
	switch code := e.code; {
	case code == http.StatusTooManyRequests:
		if after == 0 {
			after = secondaryWait
		}
		return &RetryError{After: after, Err: fmt.Errorf("cannot %s: %s is limiting us (429): %s", what, host, e.message)}
	case code >= 500 || code < 400 || code == http.StatusRequestTimeout || code == http.StatusConflict || code == http.StatusTooEarly:
		return &RetryError{After: after, Err: fmt.Errorf("cannot %s: %s says %v", what, host, e)}
	case code == http.StatusUnauthorized:
		return permanent("cannot %s: %s does not know the token in %s (%v): put a valid one there: it needs %s", what, host, file, e, need)
	case code == http.StatusForbidden:
		return permanent("cannot %s: %s forbids it to the token in %s (%v): it needs %s", what, host, file, e, need)
	case code == http.StatusNotFound:
		return permanent("cannot %s: %s does not have it, or hides it from the token in %s (404): it needs %s: %w", what, host, file, need, assay.ErrNotFound)
	case code == http.StatusLocked:
		return permanent("cannot %s: the repository is archived on %s (423): take it out of the archive", what, host)
	}
	return permanent("cannot %s: %s says %v", what, host, e)
}

package forge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/assay-ci/assay"
)

// PagureOptions say how to reach a Pagure server.
type PagureOptions struct {
	// TokenFile holds the API key and nothing else but white space. It is read
	// again before every call, so that it can be replaced at any time.
	TokenFile string
	BaseURL   string            // of the pages: "https://pagure.io/"
	UserAgent string            // "" for "assay"
	Timeout   time.Duration     // of one request; 0 for 30 seconds
	Transport http.RoundTripper // nil for SafeTransport(BaseURL)
}

// Pagure is the Forge of a Pagure server, such as pagure.io or
// src.fedoraproject.org, through its REST API (HOST/api/0/). There is no Go
// client for it that is kept.
//
// The API key needs the ACLs "Flag a commit" (commit_flag), "Flag a
// pull-request" (pull_request_flag) and "Comment on a pull-request"
// (pull_request_comment). A key of a project serves that project; a key of an
// account serves many.
//
// Statuses are flags on commits, which pull requests show, too. The flag's uid
// is made of repository, commit and context, so that a repetition changes the
// one that is there. Pagure takes flags for commits that do not exist, so it is
// asked for the commit first. A commit of a pull request that the project does
// not have is flagged through the pull request, if it is its newest. Pagure
// wants a text and an address for every flag: where there is none it gets
// pagureNoText and the commit's page; also when the address has a host that
// Pagure does not take for one (a name without a dot).
//
// Comments: the API can add one to a pull request, and neither edit nor delete
// it. So a text is written once, and when it changes a new comment follows;
// what is equal to our newest comment with the marker is not written again.
// Commits have no comments at all: Comment on one that belongs to no pull
// request does nothing, the flags tell all.
//
// Reactions are only to be had on Pagure's pages, not through the API: Pagure
// is no Reactor.
type Pagure struct {
	web   *webForge
	locks keyed
	there memory[bool] // commits that exist

	mu      sync.Mutex
	current *pagureSession
}

var (
	_ Forge        = (*Pagure)(nil)
	_ StatusReader = (*Pagure)(nil)
	_ Asker        = (*Pagure)(nil)
	_ Appender     = (*Pagure)(nil)
)

// Appends does as Appender says.
func (*Pagure) Appends() bool { return true }

// NewPagure checks the options and that the token can be read; it does not talk
// to the server.
func NewPagure(o PagureOptions) (*Pagure, error) {
	web, err := newWebForge("Pagure", o.BaseURL, o.TokenFile, o.UserAgent, o.Timeout, o.Transport)
	if err != nil {
		return nil, err
	}
	web.header, web.prefix = "Authorization", "token "
	return &Pagure{web: web}, nil
}

// pagureNoText is the comment of a flag without a description.
const pagureNoText = "no details"

// pagurePlace is a commit in Pagure's terms.
type pagurePlace struct {
	path, sha string // "[fork/USER/][NAMESPACE/]NAME"
	pull      int
}

func (p pagurePlace) String() string { return p.path + " at " + p.sha }

// flag is the part of the API's path below the project.
func (p pagurePlace) flag() string { return "/c/" + p.sha + "/flag" }

// page is the commit's page.
func (p pagurePlace) page(base *url.URL) string { return base.String() + p.path + "/c/" + p.sha }

func pagurePlaceOf(c assay.Commit) (pagurePlace, error) {
	if err := checkCommit(c); err != nil {
		return pagurePlace{}, err
	}
	path, err := pagurePath(c.Repo)
	return pagurePlace{path, c.SHA, c.PullRequest}, err
}

func pagurePath(address string) (string, error) {
	_, path, err := ParsePagure(address)
	if err != nil {
		return "", &PermanentError{err}
	}
	return path, nil
}

// pagureUID is at most 32 characters, Pagure's limit. Pagure looks for it among
// the commit's flags in all projects, forks included, so the project is in it.
func pagureUID(at pagurePlace, context string) string {
	sum := sha256.Sum256([]byte(at.path + "\n" + at.sha + "\n" + context))
	return hex.EncodeToString(sum[:16])
}

// pagureFlag is the request's body. percent colours the flag on older servers.
func pagureFlag(at pagurePlace, s assay.Status, page string) url.Values {
	flag := url.Values{
		"username": {s.Context}, "status": {string(s.State)}, "uid": {pagureUID(at, s.Context)},
		"comment": {Line(s.Description)}, "url": {pagureLink(s.URL)},
	}
	if flag.Get("comment") == "" {
		flag.Set("comment", pagureNoText)
	}
	if flag.Get("url") == "" {
		flag.Set("url", page)
	}
	switch s.State {
	case assay.StatusSuccess:
		flag.Set("percent", "100")
	case assay.StatusFailure, assay.StatusError:
		flag.Set("percent", "0")
	}
	return flag
}

// pagureLink returns an address that Pagure takes, "" for one that it does not:
// its host must be a name with dots, localhost or an IPv4 address.
func pagureLink(address string) string {
	u, err := url.Parse(link(address))
	if err != nil || u.Host == "" || u.User != nil {
		return ""
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	names := regexp.MustCompile(`(?i)^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,}\.?$`)
	if !(err == nil && ip.Is4()) && host != "localhost" && !names.MatchString(host) {
		return ""
	}
	return address
}

// Needs of the key, for people.
const (
	pagureNeedFlag    = "the ACL commit_flag (of a pull request: pull_request_flag)"
	pagureNeedComment = "the ACL pull_request_comment"
)

// SetStatus does POST /api/0/REPO/c/SHA/flag, see Pagure.
func (p *Pagure) SetStatus(ctx context.Context, commit assay.Commit, status assay.Status) error {
	at, err := pagurePlaceOf(commit)
	if err != nil {
		return err
	}
	if err := checkStatus(status); err != nil {
		return err
	}
	release, err := p.locks.lock(ctx, at.String())
	if err != nil {
		return err
	}
	defer release()
	s, err := p.session()
	if err != nil {
		return err
	}
	err = p.setStatus(ctx, s, at, pagureFlag(at, status, at.page(p.web.base)))
	return p.web.fail(ctx, "set the status "+status.Context+" on "+at.String(), pagureNeedFlag, err)
}

func (p *Pagure) setStatus(ctx context.Context, s *pagureSession, at pagurePlace, flag url.Values) error {
	to, err := p.flagAt(ctx, s, at)
	if err != nil {
		return err
	}
	var made struct {
		UID string `json:"uid"`
	}
	if err := s.post(ctx, at.path+to, flag, &made); err != nil {
		return err
	}
	if made.UID != flag.Get("uid") {
		return errors.New("it does not tell the flag's uid")
	}
	return nil
}

// flagAt says where the commit is to be flagged, and makes sure that it exists.
func (p *Pagure) flagAt(ctx context.Context, s *pagureSession, at pagurePlace) (string, error) {
	if there, _ := p.there.get(at.String()); there {
		return at.flag(), nil
	}
	var info struct {
		Hash string `json:"hash"`
	}
	err := s.get(ctx, at.path+"/c/"+at.sha+"/info", &info)
	if err == nil && info.Hash == at.sha {
		p.there.set(at.String(), true)
		return at.flag(), nil
	}
	if err == nil {
		return "", errors.New("it tells of another commit")
	}
	if !webAnswered(err, http.StatusNotFound) || at.pull == 0 {
		return "", err
	}
	pull, asked := s.pull(ctx, at.path, at.pull)
	switch {
	case asked != nil:
		return "", asked
	case pull.CommitStop == at.sha:
		return fmt.Sprintf("/pull-request/%d/flag", at.pull), nil
	}
	return "", err // it is no commit of the project, and no more that of the pull request
}

// pagureFlagged is a flag as it is read back.
type pagureFlagged struct {
	Username string     `json:"username"`
	Status   string     `json:"status"`
	Comment  string     `json:"comment"`
	URL      string     `json:"url"`
	Created  string     `json:"date_created"`
	Updated  string     `json:"date_updated"`
	User     pagureUser `json:"user"`
}

type pagureUser struct {
	Name string `json:"name"`
}

// Status does GET /api/0/REPO/c/SHA/flag, and takes only what our own account
// set: others may flag with any name.
func (p *Pagure) Status(ctx context.Context, commit assay.Commit, context string) (assay.Status, bool, error) {
	at, err := pagurePlaceOf(commit)
	if err != nil {
		return assay.Status{}, false, err
	}
	s, err := p.session()
	if err != nil {
		return assay.Status{}, false, err
	}
	what := "read the flags of " + at.String()
	user, err := p.user(ctx, s)
	if err != nil {
		return assay.Status{}, false, p.web.fail(ctx, what, "", err)
	}
	var answer struct {
		Flags []pagureFlagged `json:"flags"`
	}
	if err := s.get(ctx, at.path+at.flag(), &answer); err != nil {
		return assay.Status{}, false, p.web.fail(ctx, what, pagureNeedFlag, err)
	}
	newest, ok := newestFlag(answer.Flags, user, context)
	if !ok {
		return assay.Status{}, false, nil
	}
	return fromPagure(newest, at.page(p.web.base)), true, nil
}

// newestFlag is the one that was updated last; those of one second are in the
// order of the list.
func newestFlag(flags []pagureFlagged, user, context string) (newest pagureFlagged, found bool) {
	var at int64
	for _, flag := range flags {
		if flag.Username != context || flag.User.Name != user {
			continue
		}
		if when := flag.when(); !found || when > at {
			newest, found, at = flag, true, when
		}
	}
	return newest, found
}

// when is in seconds since 1970; older servers do not tell of updates.
func (f pagureFlagged) when() int64 {
	text := f.Updated
	if text == "" {
		text = f.Created
	}
	seconds, _ := strconv.ParseInt(text, 10, 64) // 0: the oldest
	return seconds
}

func fromPagure(f pagureFlagged, page string) assay.Status {
	state := assay.StatusError // "canceled", and what a server made up
	switch known := assay.StatusState(f.Status); known {
	case assay.StatusPending, assay.StatusSuccess, assay.StatusFailure:
		state = known
	}
	s := assay.Status{Context: f.Username, State: state, Description: Line(f.Comment), URL: link(f.URL)}
	if s.Description == pagureNoText {
		s.Description = ""
	}
	if s.URL == page {
		s.URL = ""
	}
	return s
}

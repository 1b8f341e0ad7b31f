package forgetest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
)

// Gitea is a server that answers as the REST API v1 of Gitea (1.24, its
// /api/swagger) does, or Forgejo's, from memory: statuses, comments, reactions,
// pull requests and permissions. A request that the documents do not allow fails
// the test. Repositories, commits, pull requests and accounts must be added;
// everything else is answered as Gitea would.
type Gitea struct {
	URL   string // as browsers reach it, with a path of its own and a slash at the end
	Token string // what requests must bear
	// TokenFile holds Token; SetToken changes both.
	TokenFile string

	// To be set before the first request.
	PageSize     int      // the most that a page holds (app.ini, MAX_RESPONSE_ITEMS); 0 for 50
	CommentPages bool     // comments come in pages as well, which no document tells
	Forgejo      bool     // 404 where Gitea says 500, and an empty object where it says nothing
	Pictures     []string // allowed as reactions; nil for Gitea's default
	ReadOnly     bool     // the token's account may read the repositories, and comment
	NoAdmin      bool     // the token's account is no administrator of the repositories

	Faults

	t        testing.TB
	mux      *http.ServeMux
	mu       sync.Mutex
	repos    map[string]*giteaRepo // by "owner/name"
	accounts map[string]int64      // by name in lower case
	lastID   int64
}

type giteaRepo struct {
	archived  bool
	statuses  map[string][]giteaStatus // by commit, oldest first
	pulls     map[int]assay.PullRequest
	comments  map[int][]Comment  // by pull request, oldest first
	reactions map[int64][]string // by comment, of the token's account
	levels    map[string]string  // permissions by account
}

type giteaStatus struct {
	id int64
	assay.Status
}

// NewGitea starts the server. It ends with the test.
func NewGitea(t testing.TB) *Gitea {
	t.Helper()
	g := &Gitea{
		t: t, repos: map[string]*giteaRepo{}, accounts: map[string]int64{}, mux: http.NewServeMux(),
		TokenFile: filepath.Join(t.TempDir(), "token"),
	}
	g.SetToken("0123456789abcdef0123456789abcdef01234567")
	for pattern, handle := range g.endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		g.mux.HandleFunc(method+" "+giteaAPI+path, handle)
	}
	server := httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(server.Close)
	g.URL = server.URL + giteaRoot
	return g
}

const (
	giteaRoot = "/git/"
	giteaAPI  = "/git/api/v1"
)

// SetToken makes another token the only valid one.
func (g *Gitea) SetToken(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Token = token
	if err := os.WriteFile(g.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		g.t.Errorf("cannot write the token: %v", err)
	}
}

// AddRepo makes a repository, "owner/name", with these commits, or adds them.
func (g *Gitea) AddRepo(repo string, commits ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.repos[repo]
	if r == nil {
		r = &giteaRepo{
			statuses: map[string][]giteaStatus{}, pulls: map[int]assay.PullRequest{}, comments: map[int][]Comment{},
			reactions: map[int64][]string{}, levels: map[string]string{},
		}
		g.repos[repo] = r
	}
	for _, sha := range commits {
		r.statuses[sha] = slices.Clip(r.statuses[sha])
	}
}

// Archive makes a repository that was added read-only.
func (g *Gitea) Archive(repo string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repos[repo].archived = true
}

// AddPull opens a pull request in a repository that was added, or changes it.
func (g *Gitea) AddPull(repo string, pull assay.PullRequest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repos[repo].pulls[pull.Number] = pull
}

// AddAccount makes an account, and gives it a permission on a repository that
// was added: "read", "write", "admin" or "owner"; "" for none of its own.
func (g *Gitea) AddAccount(name, repo, level string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lastID++
	g.accounts[strings.ToLower(name)] = g.lastID
	if level != "" {
		g.repos[repo].levels[strings.ToLower(name)] = level
	}
}

// Statuses returns everything that was posted on a commit, oldest first.
func (g *Gitea) Statuses(repo, sha string) []assay.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []assay.Status
	if r := g.repos[repo]; r != nil {
		for _, s := range r.statuses[sha] {
			all = append(all, s.Status)
		}
	}
	return all
}

// Comments returns the comments on a commit's pull request, oldest first. The
// commit's Repo is "owner/name" or an address that ends so.
func (g *Gitea) Comments(commit assay.Commit) []Comment {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.repos[shortName(commit.Repo)]; r != nil {
		return slices.Clone(r.comments[commit.PullRequest])
	}
	return nil
}

// AddComment lets an account write a comment on a commit's pull request and
// returns its id.
func (g *Gitea) AddComment(commit assay.Commit, user int64, body string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addComment(g.repos[shortName(commit.Repo)], commit.PullRequest, user, body).ID
}

func (g *Gitea) addComment(r *giteaRepo, pull int, user int64, body string) Comment {
	g.lastID++
	c := Comment{ID: g.lastID, User: user, Body: body}
	r.comments[pull] = append(r.comments[pull], c)
	return c
}

// DeleteComment deletes a comment, whoever wrote it.
func (g *Gitea) DeleteComment(id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.repos {
		for pull, comments := range r.comments {
			r.comments[pull] = slices.DeleteFunc(comments, func(c Comment) bool { return c.ID == id })
		}
	}
}

// Reactions returns the pictures that the token's account gave a comment.
func (g *Gitea) Reactions(id int64) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for _, r := range g.repos {
		all = append(all, r.reactions[id]...)
	}
	return all
}

func (g *Gitea) serve(w http.ResponseWriter, r *http.Request) {
	g.Serve(w, r, giteaAPI, g.answer)
}

// answer checks what holds for every request, then does what was asked.
func (g *Gitea) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Header.Get("Authorization") != "token "+g.Token {
		g.problem(w, http.StatusUnauthorized, "user does not exist [uid: 0, name: ]")
		return
	}
	if wrong := giteaHeaders(r); wrong != "" {
		g.undocumented(w, r, wrong)
		return
	}
	if _, pattern := g.mux.Handler(r); pattern == "" {
		g.undocumented(w, r, "no such endpoint in this test server")
		return
	}
	g.mux.ServeHTTP(w, r)
}

func giteaHeaders(r *http.Request) string {
	want := map[string]string{"Accept": "application/json"}
	if r.Method != http.MethodGet {
		want["Content-Type"] = "application/json"
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := r.Header.Get(name); got != want[name] {
			return fmt.Sprintf("%s is %q, want %q", name, got, want[name])
		}
	}
	if r.UserAgent() == "" || strings.HasPrefix(r.UserAgent(), "Go-http-client") {
		return "no User-Agent of its own"
	}
	return ""
}

// undocumented fails the test: no reader of the documents sends this.
func (g *Gitea) undocumented(w http.ResponseWriter, r *http.Request, why string) {
	g.violation(r, why)
	g.problem(w, http.StatusUnprocessableEntity, why)
}

// violation fails the test for what Gitea takes all the same.
func (g *Gitea) violation(r *http.Request, why string) {
	g.t.Errorf("%s %s: %s", r.Method, r.URL, why)
}

func (g *Gitea) problem(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"message": message, "url": g.URL + "api/swagger"})
}

func (g *Gitea) notFound(w http.ResponseWriter) {
	reply(w, http.StatusNotFound, map[string]any{"errors": nil, "message": "The target couldn't be found.", "url": g.URL + "api/swagger"})
}

// internal is Gitea's answer where it did not expect something not to exist. In
// production it does not say what.
func (g *Gitea) internal(w http.ResponseWriter) {
	if g.Forgejo {
		g.notFound(w)
		return
	}
	g.problem(w, http.StatusInternalServerError, "")
}

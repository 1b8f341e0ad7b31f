// Package forgetest is for the tests of forges and of what stands on them: a
// GitHub that checks every request against GitHub's documented REST API, a note
// editor on real git, and the suite that every forge passes.
package forgetest

import (
	"crypto/sha256"
	"encoding/json"
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

// The account that GitHub's token belongs to, somebody else's, and that of the
// App, whose name is AppSlug + "[bot]".
const (
	OwnUser   = int64(1001)
	OtherUser = int64(6666)
	BotUser   = int64(4141)
	AppSlug   = "assay-checks"
)

// GitHub is a server that answers as GitHub's REST API does (docs.github.com/rest,
// version 2022-11-28), for what forge.GitHub does, from memory. A request that
// the documents do not allow fails the test. Repositories, commits, pull
// requests, accounts and the App must be added; everything else answers 404 or
// 422 as GitHub would. Answers to GET have an ETag and may be asked for with
// If-None-Match.
type GitHub struct {
	URL   string // the API's base: an Enterprise Server's, with /api/v3/ at the end
	Token string // what requests must bear
	// TokenFile holds Token; SetToken changes both.
	TokenFile string
	// PageSize, if set before the first request, is the most that a page holds
	// whatever was asked for; 0 for GitHub's 100.
	PageSize int

	Faults

	t      testing.TB
	mu     sync.Mutex
	repos  map[string]*repository // by "owner/name"
	lastID int64
	app    *app
	actor  actor // of the request at hand
	same   int   // answers with 304
}

type repository struct {
	statuses  map[string][]assay.Status // by commit, oldest first
	pulls     map[int]assay.PullRequest
	comments  map[string][]Comment // by thread: a commit, "#N" or "review", ascending by ID
	accounts  map[string]string    // permission by name
	reactions map[int64][]Reaction // by comment
	checks    []*CheckRun          // ascending by ID
}

// Reaction is one picture below a comment.
type Reaction struct {
	User    int64
	Content string
}

// Comment is a comment as it is kept.
type Comment struct {
	ID   int64
	User int64
	Body string
}

// NewGitHub starts the server. It ends with the test.
func NewGitHub(t testing.TB) *GitHub {
	t.Helper()
	g := &GitHub{t: t, repos: map[string]*repository{}, TokenFile: filepath.Join(t.TempDir(), "token")}
	g.SetToken("ghp_forgetest")
	server := httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(server.Close)
	g.URL = server.URL + "/api/v3/"
	return g
}

// SetToken makes another token the only valid one.
func (g *GitHub) SetToken(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Token = token
	if err := os.WriteFile(g.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		g.t.Errorf("cannot write the token: %v", err)
	}
}

// AddRepo makes a repository, "owner/name", with these commits, or adds them.
func (g *GitHub) AddRepo(repo string, commits ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.repos[repo]
	if r == nil {
		r = &repository{
			statuses: map[string][]assay.Status{}, pulls: map[int]assay.PullRequest{}, comments: map[string][]Comment{},
			accounts: map[string]string{}, reactions: map[int64][]Reaction{},
		}
		g.repos[repo] = r
	}
	for _, sha := range commits {
		r.statuses[sha] = slices.Clip(r.statuses[sha])
	}
}

// AddPull opens a pull request in a repository that was added.
func (g *GitHub) AddPull(repo string, number int) {
	g.SetPull(repo, assay.PullRequest{Number: number, Open: true})
}

// SetPull makes a pull request what it is said to be.
func (g *GitHub) SetPull(repo string, pull assay.PullRequest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repos[repo].pulls[pull.Number] = pull
}

// AddAccount lets an account exist, with a permission in the repository: admin,
// write, read or none.
func (g *GitHub) AddAccount(repo, name, permission string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repos[repo].accounts[name] = permission
}

// AddReview lets an account write a comment on the lines of a pull request and
// returns its id.
func (g *GitHub) AddReview(repo string, user int64, body string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addComment(g.repos[repo], "review", user, body).ID
}

// Reactions returns what is below a comment, first one first.
func (g *GitHub) Reactions(repo string, comment int64) []Reaction {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.repos[repo].reactions[comment])
}

// NotModified is how often 304 was answered.
func (g *GitHub) NotModified() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.same
}

// Statuses returns everything that was posted on a commit, oldest first.
func (g *GitHub) Statuses(repo, sha string) []assay.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.repos[repo]; r != nil {
		return slices.Clone(r.statuses[sha])
	}
	return nil
}

// Comments returns the comments on a pull request, or on a commit when its
// PullRequest is 0, oldest first. The commit's Repo is "owner/name" or an
// address that ends so.
func (g *GitHub) Comments(commit assay.Commit) []Comment {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.repos[shortName(commit.Repo)]; r != nil {
		return slices.Clone(r.comments[threadName(commit.PullRequest, commit.SHA)])
	}
	return nil
}

// AddComment lets an account write a comment and returns its id.
func (g *GitHub) AddComment(commit assay.Commit, user int64, body string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addComment(g.repos[shortName(commit.Repo)], threadName(commit.PullRequest, commit.SHA), user, body).ID
}

// DeleteComment deletes a comment, whoever wrote it.
func (g *GitHub) DeleteComment(id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.repos {
		for thread, comments := range r.comments {
			r.comments[thread] = slices.DeleteFunc(comments, func(c Comment) bool { return c.ID == id })
		}
	}
}

func (g *GitHub) addComment(r *repository, thread string, user int64, body string) Comment {
	g.lastID++
	c := Comment{ID: g.lastID, User: user, Body: body}
	r.comments[thread] = append(r.comments[thread], c)
	return c
}

func shortName(address string) string {
	parts := strings.FieldsFunc(strings.TrimSuffix(address, ".git"), func(r rune) bool { return r == '/' || r == ':' })
	if len(parts) < 2 {
		return address
	}
	return strings.Join(parts[len(parts)-2:], "/")
}

func threadName(pull int, sha string) string {
	if pull > 0 {
		return fmt.Sprintf("#%d", pull)
	}
	return sha
}

func (g *GitHub) serve(w http.ResponseWriter, r *http.Request) {
	g.Serve(w, r, "/api/v3", g.answer)
}

// answer checks what holds for every request, then does what was asked.
func (g *GitHub) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	header := w.Header()
	header.Set("X-RateLimit-Limit", "5000")
	header.Set("X-RateLimit-Remaining", "4999")
	header.Set("X-RateLimit-Reset", "4102444800")
	if wrong := g.authenticate(r); wrong != "" {
		problem(w, http.StatusUnauthorized, wrong)
		return
	}
	if wrong := checkHeaders(r); wrong != "" {
		g.undocumented(w, r, wrong)
		return
	}
	mux := http.NewServeMux()
	for pattern, at := range g.endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v3"+path, func(w http.ResponseWriter, r *http.Request) {
			if g.permit(w, r, at.needs) {
				at.handle(w, r)
			}
		})
	}
	if _, pattern := mux.Handler(r); pattern == "" {
		g.undocumented(w, r, "no such endpoint in this test server")
		return
	}
	if r.Method == http.MethodGet {
		g.conditionally(w, r, mux)
		return
	}
	mux.ServeHTTP(w, r)
}

// conditionally answers 304 to who has the answer already.
func (g *GitHub) conditionally(w http.ResponseWriter, r *http.Request, next http.Handler) {
	record := httptest.NewRecorder()
	next.ServeHTTP(record, r)
	maps.Copy(w.Header(), record.Header())
	if record.Code == http.StatusOK {
		tag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(record.Body.Bytes()))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			g.same++
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(record.Code)
	_, _ = w.Write(record.Body.Bytes()) // a client that went away sees to itself
}

func checkHeaders(r *http.Request) string {
	want := map[string]string{"Accept": "application/vnd.github+json", "X-Github-Api-Version": "2022-11-28"}
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
func (g *GitHub) undocumented(w http.ResponseWriter, r *http.Request, why string) {
	g.t.Errorf("%s %s: %s", r.Method, r.URL, why)
	problem(w, http.StatusBadRequest, why)
}

func problem(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"message": message, "documentation_url": "https://docs.github.com/rest", "status": fmt.Sprint(status)})
}

// invalid is GitHub's answer to a field that it does not take.
func invalid(w http.ResponseWriter, resource, field, message string) {
	reply(w, http.StatusUnprocessableEntity, map[string]any{
		"message":           "Validation Failed",
		"errors":            []map[string]string{{"resource": resource, "code": "custom", "field": field, "message": message}},
		"documentation_url": "https://docs.github.com/rest",
	})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that went away sees to itself
}

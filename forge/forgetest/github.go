// Package forgetest is for the tests of forges and of what stands on them: a
// GitHub that checks every request against GitHub's documented REST API, a note
// editor on real git, and the suite that every forge passes.
package forgetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
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

// The account that GitHub's token belongs to, and somebody else's.
const (
	OwnUser   = int64(1001)
	OtherUser = int64(6666)
)

// GitHub is a server that answers as GitHub's REST API does (docs.github.com/rest,
// version 2022-11-28), for statuses and comments, from memory. A request that
// the documents do not allow fails the test. Repositories, commits and pull
// requests must be added; everything else answers 404 or 422 as GitHub would.
type GitHub struct {
	URL   string // the API's base: an Enterprise Server's, with /api/v3/ at the end
	Token string // what requests must bear
	// TokenFile holds Token; SetToken changes both.
	TokenFile string
	// PageSize, if set before the first request, is the most that a page holds
	// whatever was asked for; 0 for GitHub's 100.
	PageSize int

	t        testing.TB
	mu       sync.Mutex
	repos    map[string]*repository // by "owner/name"
	lastID   int64
	faults   []Fault
	requests []string
}

type repository struct {
	statuses map[string][]assay.Status // by commit, oldest first
	pulls    map[int]bool
	comments map[string][]Comment // by thread: a commit or "#N", ascending by ID
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
		r = &repository{statuses: map[string][]assay.Status{}, pulls: map[int]bool{}, comments: map[string][]Comment{}}
		g.repos[repo] = r
	}
	for _, sha := range commits {
		r.statuses[sha] = slices.Clip(r.statuses[sha])
	}
}

// AddPull opens a pull request in a repository that was added.
func (g *GitHub) AddPull(repo string, number int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.repos[repo].pulls[number] = true
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

// Requests lists what was asked, "POST /repos/o/r/statuses/…" with the query, in
// order, faults included.
func (g *GitHub) Requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
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

// serve misbehaves if it was told to, and otherwise answers.
func (g *GitHub) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	path, _ := strings.CutPrefix(r.URL.RequestURI(), "/api/v3")
	fault, found := g.note(r.Method + " " + path)
	if !found {
		g.answer(w, r)
		return
	}
	if fault.Late {
		g.answer(httptest.NewRecorder(), r)
	}
	fault.play(w)
}

// note writes the request down and takes the first fault that is meant for it.
func (g *GitHub) note(request string) (Fault, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = append(g.requests, request)
	for i, f := range g.faults {
		if strings.HasPrefix(request, f.On) {
			g.faults = slices.Delete(g.faults, i, i+1)
			return f, true
		}
	}
	return Fault{}, false
}

// answer checks what holds for every request, then does what was asked.
func (g *GitHub) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	header := w.Header()
	header.Set("X-RateLimit-Limit", "5000")
	header.Set("X-RateLimit-Remaining", "4999")
	header.Set("X-RateLimit-Reset", "4102444800")
	if r.Header.Get("Authorization") != "Bearer "+g.Token {
		problem(w, http.StatusUnauthorized, "Bad credentials")
		return
	}
	if wrong := checkHeaders(r); wrong != "" {
		g.undocumented(w, r, wrong)
		return
	}
	mux := http.NewServeMux()
	for pattern, handle := range g.endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v3"+path, handle)
	}
	if _, pattern := mux.Handler(r); pattern == "" {
		g.undocumented(w, r, "no such endpoint in this test server")
		return
	}
	mux.ServeHTTP(w, r)
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

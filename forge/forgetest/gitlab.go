package forgetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
)

// GitLab is a server that answers as GitLab's REST API v4 does
// (docs.gitlab.com/api), for statuses, notes, discussions, award emoji, members
// and merge requests, from memory. A request that the documents do not allow
// fails the test. What was not added answers 404 as GitLab would.
//
// Statuses move as GitLab's do: in pipelines, from pending to running to an end,
// and any other way is refused with 400, the transaction undone.
type GitLab struct {
	URL       string // of the pages, with / at the end
	Token     string // what requests must bear
	TokenFile string // holds Token; SetToken changes both
	// PageSize, if set before the first request, is the most that a page holds
	// whatever was asked for; 0 for GitLab's 100.
	PageSize int

	Faults

	t        testing.TB
	mu       sync.Mutex
	projects map[string]*gitLabProject // by path
	users    map[string]int64          // by name
	lastID   int64
}

type gitLabProject struct {
	id        int64
	commits   map[string]string // commit to a branch that it is on, "" for none
	pipelines []gitLabPipeline
	statuses  []*GitLabStatus
	merges    map[int64]*GitLabMerge
	notes     map[string][]*gitLabNote // by thread: a commit or "!N"
	members   map[int64]int            // access levels
	awards    map[int64][]gitLabAward  // by note
}

type gitLabPipeline struct {
	id       int64
	sha, ref string
}

type gitLabNote struct {
	Comment
	discussion string
}

type gitLabAward struct {
	user int64
	name string
}

// GitLabStatus is a status as it is kept.
type GitLabStatus struct {
	ID          int64
	SHA         string
	Ref         string
	Name        string
	State       string
	Description string
	TargetURL   string
	Pipeline    int64
	retried     bool
}

// GitLabMerge is a merge request.
type GitLabMerge struct {
	IID          int64
	Author       string
	State        string // "opened", "closed", "merged", "locked"
	SourceBranch string
	TargetBranch string
	Fork         bool   // its source is another project
	SHA          string // "" while GitLab has not prepared it
	BaseSHA      string
	StartSHA     string
	HeadPipeline int64 // 0 for none
}

// NewGitLab starts the server. It ends with the test.
func NewGitLab(t testing.TB) *GitLab {
	t.Helper()
	g := &GitLab{t: t, projects: map[string]*gitLabProject{}, TokenFile: filepath.Join(t.TempDir(), "token"),
		users: map[string]int64{"assay-bot": OwnUser, "somebody": OtherUser}}
	g.SetToken("glpat-forgetest")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.Serve(w, r, "/api/v4", g.answer)
	}))
	t.Cleanup(server.Close)
	g.URL = server.URL + "/"
	return g
}

// SetToken makes another token the only valid one.
func (g *GitLab) SetToken(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Token = token
	if err := os.WriteFile(g.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		g.t.Errorf("cannot write the token: %v", err)
	}
}

// AddProject makes a project, "group/name", with these commits on its branch
// main, or adds them.
func (g *GitLab) AddProject(path string, commits ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.projects[path]
	if p == nil {
		p = &gitLabProject{id: int64(len(g.projects) + 1), commits: map[string]string{}, merges: map[int64]*GitLabMerge{},
			notes: map[string][]*gitLabNote{}, members: map[int64]int{}, awards: map[int64][]gitLabAward{}}
		g.projects[path] = p
	}
	for _, sha := range commits {
		p.commits[sha] = "main"
	}
}

// AddLooseCommit adds a commit that is on no branch of the project, as the
// commits of a fork's merge request are.
func (g *GitLab) AddLooseCommit(path, sha string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.projects[path].commits[sha] = ""
}

// AddMerge opens a merge request, or changes it.
func (g *GitLab) AddMerge(path string, merge GitLabMerge) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.projects[path].merges[merge.IID] = &merge
}

// AddPipeline makes a pipeline, as a push does where CI is on, and returns its id.
func (g *GitLab) AddPipeline(path, sha, ref string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.projects[path].addPipeline(g.nextID(), sha, ref)
}

// DeletePipeline deletes a pipeline with its statuses.
func (g *GitLab) DeletePipeline(path string, id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.projects[path]
	p.pipelines = slices.DeleteFunc(p.pipelines, func(l gitLabPipeline) bool { return l.id == id })
	p.statuses = slices.DeleteFunc(p.statuses, func(s *GitLabStatus) bool { return s.Pipeline == id })
}

// AddMember makes an account, and a member of the project unless level is 0:
// 20 is Reporter, 30 Developer.
func (g *GitLab) AddMember(path, user string, level int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users[user] == 0 {
		g.users[user] = 2000 + int64(len(g.users))
	}
	if level > 0 {
		g.projects[path].members[g.users[user]] = level
	}
}

// Statuses returns everything that was posted on a commit, oldest first.
func (g *GitLab) Statuses(path, sha string) []GitLabStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []GitLabStatus
	if p := g.projects[path]; p != nil {
		for _, s := range p.statuses {
			if s.SHA == sha {
				found = append(found, *s)
			}
		}
	}
	return found
}

// EndStatus gives a status another state, as another user of the token would.
func (g *GitLab) EndStatus(path string, id int64, state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.projects[path].statuses {
		if s.ID == id {
			s.State = state
		}
	}
}

// Comments returns the notes on a merge request, or on a commit when its
// PullRequest is 0, oldest first.
func (g *GitLab) Comments(path string, commit assay.Commit) []Comment {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []Comment
	for _, n := range g.projects[path].notes[mergeThread(commit)] {
		found = append(found, n.Comment)
	}
	return found
}

// AddComment lets an account write a note and returns its id.
func (g *GitLab) AddComment(path string, commit assay.Commit, user int64, body string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addNote(g.projects[path], mergeThread(commit), user, body).ID
}

// DeleteComment deletes a note, whoever wrote it.
func (g *GitLab) DeleteComment(path string, id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	notes := g.projects[path].notes
	for thread := range notes {
		notes[thread] = slices.DeleteFunc(notes[thread], func(n *gitLabNote) bool { return n.ID == id })
	}
}

// Awards lists the names of the emoji below a note.
func (g *GitLab) Awards(path string, note int64) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, a := range g.projects[path].awards[note] {
		names = append(names, a.name)
	}
	return names
}

func (g *GitLab) nextID() int64 {
	g.lastID++
	return g.lastID
}

func (p *gitLabProject) addPipeline(id int64, sha, ref string) int64 {
	p.pipelines = append(p.pipelines, gitLabPipeline{id, sha, ref})
	return id
}

func (g *GitLab) addNote(p *gitLabProject, thread string, user int64, body string) *gitLabNote {
	id := g.nextID()
	n := &gitLabNote{Comment: Comment{ID: id, User: user, Body: body}, discussion: fmt.Sprintf("%040x", id)}
	p.notes[thread] = append(p.notes[thread], n)
	return n
}

func mergeThread(c assay.Commit) string {
	if c.PullRequest > 0 {
		return fmt.Sprintf("!%d", c.PullRequest)
	}
	return c.SHA
}

// answer checks what holds for every request, then does what was asked.
func (g *GitLab) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	header := w.Header()
	header.Set("RateLimit-Limit", "600")
	header.Set("RateLimit-Remaining", "599")
	header.Set("RateLimit-Reset", "4102444800")
	if r.Header.Get("PRIVATE-TOKEN") != g.Token {
		said(w, http.StatusUnauthorized, "401 Unauthorized")
		return
	}
	switch {
	case r.UserAgent() == "" || strings.HasPrefix(r.UserAgent(), "Go-http-client"):
		g.undocumented(w, r, "no User-Agent of its own")
		return
	case r.Method != http.MethodGet && r.Header.Get("Content-Type") != "application/json":
		g.undocumented(w, r, "Content-Type is "+r.Header.Get("Content-Type"))
		return
	}
	mux := http.NewServeMux()
	for pattern, handle := range g.endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v4"+path, handle)
	}
	if _, pattern := mux.Handler(r); pattern == "" {
		g.undocumented(w, r, "no such endpoint in this test server")
		return
	}
	mux.ServeHTTP(w, r)
}

// undocumented fails the test: no reader of the documents sends this.
func (g *GitLab) undocumented(w http.ResponseWriter, r *http.Request, why string) {
	g.t.Errorf("%s %s: %s", r.Method, r.URL, why)
	said(w, http.StatusBadRequest, why)
}

// said is GitLab's answer to what it does not do; message is text or an object.
func said(w http.ResponseWriter, status int, message any) {
	reply(w, status, map[string]any{"message": message})
}

// query checks that the parameters are among those that are documented.
func (g *GitLab) query(w http.ResponseWriter, r *http.Request, names ...string) (url.Values, bool) {
	q := r.URL.Query()
	for name, values := range q {
		if !slices.Contains(names, name) || len(values) != 1 {
			g.undocumented(w, r, "unknown query parameter "+name)
			return nil, false
		}
	}
	return q, true
}

// page cuts a list as per_page and page ask.
func (g *GitLab) page(w http.ResponseWriter, q url.Values, items []any) []any {
	size, number := 20, 1
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && n > 0 {
		size = min(n, 100)
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 {
		number = n
	}
	if g.PageSize > 0 {
		size = min(size, g.PageSize)
	}
	next := ""
	if number*size < len(items) {
		next = strconv.Itoa(number + 1)
	}
	header := w.Header()
	header.Set("X-Page", strconv.Itoa(number))
	header.Set("X-Per-Page", strconv.Itoa(size))
	header.Set("X-Next-Page", next)
	from := min((number-1)*size, len(items))
	return append([]any{}, items[from:min(from+size, len(items))]...)
}

// body reads a JSON object with these fields at most, and at least the first
// required ones. It has answered when it returns nil.
func (g *GitLab) body(w http.ResponseWriter, r *http.Request, required int, names ...string) map[string]any {
	text, err := io.ReadAll(r.Body)
	given := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &given)
	}
	if err != nil {
		g.undocumented(w, r, "the body is no object: "+err.Error())
		return nil
	}
	for name := range given {
		if !slices.Contains(names, name) {
			g.undocumented(w, r, "unknown body field "+name)
			return nil
		}
	}
	for _, name := range names[:required] {
		if _, ok := given[name].(string); !ok {
			reply(w, http.StatusBadRequest, map[string]string{"error": name + " is missing"})
			return nil
		}
	}
	return given
}

package forgetest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The accounts that Pagure knows to begin with.
const (
	PagureOwn   = "assay-bot" // whose token it is
	PagureOther = "somebody"
)

// Pagure is a server that answers as Pagure's REST API v0 does (HOST/api/0/),
// for flags, pull requests and their comments, projects and groups, from memory.
// A request that the documents do not allow fails the test. What was not added
// answers 404 as Pagure would, with one exception that is Pagure's own: a commit
// that does not exist can be flagged.
type Pagure struct {
	URL       string // of the pages, with / at the end
	Token     string // what requests must bear
	TokenFile string // holds Token; SetToken changes both

	Faults

	t        testing.TB
	mu       sync.Mutex
	projects map[string]*pagureProject // by "[fork/USER/][NAMESPACE/]NAME"
	groups   map[string][]string
	flags    []*PagureFlag
	clock    int64
	lastID   int64
}

type pagureProject struct {
	commits  map[string]bool
	branches map[string]string
	pulls    map[int]*PagurePull
	users    map[string][]string // by right
	groups   map[string][]string // by right
}

// PagureFlag is a flag as it is kept.
type PagureFlag struct {
	Project  string
	SHA      string
	Username string // the name that is shown
	Status   string
	Comment  string
	URL      string
	Percent  string
	UID      string
	User     string // the account that set it
	Created  int64
	Updated  int64
}

// PagurePull is a pull request.
type PagurePull struct {
	ID         int
	Author     string
	Status     string // "Open", "Closed", "Merged"
	Branch     string
	CommitStop string // "" before Pagure has looked at its commits
	Comments   []PagureComment
}

// PagureComment is a comment as it is kept.
type PagureComment struct {
	ID   int64
	User string
	Body string
}

// NewPagure starts the server. It ends with the test.
func NewPagure(t testing.TB) *Pagure {
	t.Helper()
	p := &Pagure{t: t, projects: map[string]*pagureProject{}, groups: map[string][]string{}, clock: 1_700_000_000,
		TokenFile: filepath.Join(t.TempDir(), "token")}
	p.SetToken("FORGETESTFORGETESTFORGETEST")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Serve(w, r, "/api/0", p.answer)
	}))
	t.Cleanup(server.Close)
	p.URL = server.URL + "/"
	return p
}

// SetToken makes another token the only valid one.
func (p *Pagure) SetToken(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Token = token
	if err := os.WriteFile(p.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		p.t.Errorf("cannot write the token: %v", err)
	}
}

// AddProject makes a project with these commits, or adds them.
func (p *Pagure) AddProject(path string, commits ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	project := p.projects[path]
	if project == nil {
		project = &pagureProject{commits: map[string]bool{}, branches: map[string]string{}, pulls: map[int]*PagurePull{},
			users: map[string][]string{"owner": {"owner"}}, groups: map[string][]string{}}
		p.projects[path] = project
	}
	for _, sha := range commits {
		project.commits[sha] = true
	}
}

// SetBranch moves a branch.
func (p *Pagure) SetBranch(path, branch, sha string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.projects[path].branches[branch] = sha
}

// AddPull opens a pull request, or changes it.
func (p *Pagure) AddPull(path string, pull PagurePull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.projects[path].pulls[pull.ID] = &pull
}

// AddMember gives an account a right: "admin", "commit", "collaborator", "ticket".
func (p *Pagure) AddMember(path, user, right string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	users := p.projects[path].users
	users[right] = append(users[right], user)
}

// AddGroup makes a group and gives it a right.
func (p *Pagure) AddGroup(path, group, right string, members ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[group] = members
	groups := p.projects[path].groups
	groups[right] = append(groups[right], group)
}

// DeleteGroup deletes a group that projects may still name.
func (p *Pagure) DeleteGroup(group string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.groups, group)
}

// AddFlag lets an account flag a commit.
func (p *Pagure) AddFlag(flag PagureFlag) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock++
	flag.Created, flag.Updated = p.clock, p.clock
	p.flags = append(p.flags, &flag)
}

// Flags lists the flags of a commit, the first set first.
func (p *Pagure) Flags(path, sha string) []PagureFlag {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []PagureFlag
	for _, f := range p.flags {
		if f.Project == path && f.SHA == sha {
			found = append(found, *f)
		}
	}
	return found
}

// Comments lists the comments on a pull request, oldest first.
func (p *Pagure) Comments(path string, pull int) []PagureComment {
	p.mu.Lock()
	defer p.mu.Unlock()
	if project := p.projects[path]; project != nil && project.pulls[pull] != nil {
		return slices.Clone(project.pulls[pull].Comments)
	}
	return nil
}

// AddComment lets an account write a comment.
func (p *Pagure) AddComment(path string, pull int, user, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addComment(p.projects[path].pulls[pull], user, body)
}

func (p *Pagure) addComment(pull *PagurePull, user, body string) {
	p.lastID++
	pull.Comments = append(pull.Comments, PagureComment{ID: p.lastID, User: user, Body: body})
}

// answer checks what holds for every request, then does what was asked.
func (p *Pagure) answer(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Header.Get("Authorization") != "token "+p.Token {
		pagureError(w, http.StatusUnauthorized, "EINVALIDTOK", "Invalid or expired token. Please visit "+p.URL+"settings#nav-api-tab to get or renew your API token.")
		return
	}
	switch {
	case r.UserAgent() == "" || strings.HasPrefix(r.UserAgent(), "Go-http-client"):
		p.undocumented(w, r, "no User-Agent of its own")
		return
	case r.Method == http.MethodPost && r.Header.Get("Content-Type") != "application/x-www-form-urlencoded":
		p.undocumented(w, r, "Content-Type is "+r.Header.Get("Content-Type"))
		return
	}
	path, rest, ok := cutProject(strings.TrimPrefix(r.URL.Path, "/api/0/"))
	handle := p.endpoint(r.Method, rest)
	if !ok || handle == nil {
		p.undocumented(w, r, "no such endpoint in this test server")
		return
	}
	handle(w, r, path, strings.Split(rest, "/"))
}

// cutProject cuts a path after the project: "fork/u/rpms/x/c/SHA/flag" is
// "fork/u/rpms/x" and "c/SHA/flag". What belongs to no project is all rest.
func cutProject(path string) (project, rest string, ok bool) {
	if path == "-/whoami" || strings.HasPrefix(path, "group/") {
		return "", path, true
	}
	for _, word := range []string{"/c/", "/pull-request/", "/git/"} {
		if at := strings.Index(path, word); at > 0 {
			return path[:at], path[at+1:], true
		}
	}
	return path, "", path != ""
}

// handler answers a request; words are those of the path after the project.
type pagureHandler func(w http.ResponseWriter, r *http.Request, project string, words []string)

// undocumented fails the test: no reader of the documents sends this.
func (p *Pagure) undocumented(w http.ResponseWriter, r *http.Request, why string) {
	p.t.Errorf("%s %s: %s", r.Method, r.URL, why)
	pagureError(w, http.StatusBadRequest, "EINVALIDREQ", why)
}

func pagureError(w http.ResponseWriter, status int, code, message string) {
	reply(w, status, map[string]string{"error": message, "error_code": code})
}

// invalidForm is Pagure's answer to a form that it does not take.
func invalidForm(w http.ResponseWriter, field, why string) {
	reply(w, http.StatusBadRequest, map[string]any{"error": "Invalid or incomplete input submitted", "error_code": "EINVALIDREQ",
		"errors": map[string][]string{field: {why}}})
}

func pagureAccount(name string) map[string]any {
	return map[string]any{"name": name, "fullname": name, "full_url": fmt.Sprintf("https://pagure.example/user/%s", name), "url_path": "user/" + name}
}

package forgetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-ci/assay"
)

// endpoints are the documented ones that are served. Handlers run under the
// server's lock.
func (g *Gitea) endpoints() map[string]http.HandlerFunc {
	const repo = "/repos/{owner}/{repo}"
	return map[string]http.HandlerFunc{
		"GET /user":                      g.getUser,
		"GET " + repo:                    g.getRepo,
		"GET " + repo + "/pulls/{index}": g.getPull,
		"GET " + repo + "/issues/{index}/comments":                 g.listComments,
		"POST " + repo + "/issues/{index}/comments":                g.postComment,
		"PATCH " + repo + "/issues/comments/{id}":                  g.patchComment,
		"POST " + repo + "/issues/comments/{id}/reactions":         g.postReaction,
		"GET " + repo + "/git/commits/{sha}":                       g.getCommit,
		"POST " + repo + "/statuses/{sha}":                         g.postStatus,
		"GET " + repo + "/commits/{sha}/status":                    g.getCombined,
		"GET " + repo + "/collaborators/{collaborator}/permission": g.getPermission,
	}
}

// find finds the repository of a request, and checks that its query has only the
// named parameters. It has answered when it returns nil.
func (g *Gitea) find(w http.ResponseWriter, r *http.Request, parameters ...string) *giteaRepo {
	for name, values := range r.URL.Query() {
		if !slices.Contains(parameters, name) || len(values) > 1 {
			g.undocumented(w, r, "unknown or repeated query parameter "+name)
			return nil
		}
	}
	found := g.repos[r.PathValue("owner")+"/"+r.PathValue("repo")]
	switch {
	case found == nil:
		g.notFound(w)
	case found.archived && r.Method != http.MethodGet:
		g.problem(w, http.StatusLocked, "Repo is archived")
		return nil
	}
	return found
}

// fields reads a body that may have these fields, all strings, and must have the
// required ones, which come first. Gitea ignores fields that it does not know.
func (g *Gitea) fields(w http.ResponseWriter, r *http.Request, required int, names ...string) map[string]string {
	given := map[string]string{}
	if err := json.NewDecoder(r.Body).Decode(&given); err != nil {
		g.undocumented(w, r, "the body is no object of strings: "+err.Error())
		return nil
	}
	for name := range given {
		if !slices.Contains(names, name) {
			g.violation(r, "unknown body field "+name)
		}
	}
	for _, name := range names[:required] {
		if given[name] == "" {
			g.undocumented(w, r, fmt.Sprintf("[%s]: Required", name))
			return nil
		}
	}
	return given
}

func (g *Gitea) getUser(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, giteaUserJSON(OwnUser, fmt.Sprintf("user-%d", OwnUser)))
}

func giteaUserJSON(id int64, login string) map[string]any {
	return map[string]any{"id": id, "login": login, "full_name": "", "email": login + "@noreply.localhost", "is_admin": false, "active": true}
}

func (g *Gitea) getRepo(w http.ResponseWriter, r *http.Request) {
	if g.find(w, r) != nil {
		reply(w, http.StatusOK, g.repoJSON(r))
	}
}

func (g *Gitea) repoJSON(r *http.Request) map[string]any {
	return map[string]any{"id": 1, "name": r.PathValue("repo"), "full_name": r.PathValue("owner") + "/" + r.PathValue("repo"), "default_branch": "main"}
}

// getCommit is "Get a single commit from a repository".
func (g *Gitea) getCommit(w http.ResponseWriter, r *http.Request) {
	repo := g.find(w, r, "stat", "verification", "files")
	if repo == nil {
		return
	}
	sha := r.PathValue("sha")
	if _, known := repo.statuses[sha]; !known {
		g.notFound(w)
		return
	}
	reply(w, http.StatusOK, map[string]any{"sha": sha, "commit": map[string]any{"message": "a change"}})
}

// postStatus is "Create a commit status".
func (g *Gitea) postStatus(w http.ResponseWriter, r *http.Request) {
	repo := g.find(w, r)
	if repo == nil {
		return
	}
	if g.ReadOnly {
		g.problem(w, http.StatusForbidden, "user should have a permission to write to the repository branch")
		return
	}
	given := g.fields(w, r, 0, "state", "context", "description", "target_url")
	if given == nil {
		return
	}
	sha := r.PathValue("sha")
	statuses, known := repo.statuses[sha]
	if !known {
		g.internal(w)
		return
	}
	s := assay.Status{
		Context: strings.TrimSpace(given["context"]), State: assay.StatusState(given["state"]),
		Description: strings.TrimSpace(given["description"]), URL: strings.TrimSpace(given["target_url"]),
	}
	if s.Context == "" {
		s.Context = "default"
	}
	if !slices.Contains([]string{"pending", "success", "error", "failure", "warning"}, string(s.State)) {
		g.violation(r, "there is no state "+string(s.State))
	}
	if target, err := url.Parse(s.URL); err != nil || s.URL != "" && target.Host == "" {
		g.violation(r, "the target is no address: "+s.URL)
	}
	g.lastID++
	kept := giteaStatus{g.lastID, s}
	repo.statuses[sha] = append(statuses, kept)
	reply(w, http.StatusCreated, g.statusJSON(kept))
}

func (g *Gitea) statusJSON(s giteaStatus) map[string]any {
	return map[string]any{
		"id": s.id, "status": s.State, "context": s.Context, "description": s.Description, "target_url": s.URL,
		"url": g.URL + "api/v1/", "creator": giteaUserJSON(OwnUser, "user"),
		"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
	}
}

// getCombined is "Get a commit's combined status, by branch/tag/commit reference".
func (g *Gitea) getCombined(w http.ResponseWriter, r *http.Request) {
	repo := g.find(w, r, "page", "limit")
	if repo == nil {
		return
	}
	sha := r.PathValue("sha")
	if _, known := repo.statuses[sha]; !known && g.Forgejo {
		g.notFound(w)
		return
	}
	newest := map[string]bool{}
	var items []any
	for _, s := range slices.Backward(repo.statuses[sha]) {
		if !newest[s.Context] {
			newest[s.Context] = true
			items = append(items, g.statusJSON(s))
		}
	}
	page, ok := g.page(w, r, items)
	switch {
	case !ok:
	case len(page) > 0:
		if g.Forgejo {
			w.Header().Set("X-Total-Count", strconv.Itoa(len(items)))
		}
		reply(w, http.StatusOK, map[string]any{"state": "pending", "sha": sha, "total_count": len(page), "statuses": page, "repository": g.repoJSON(r)})
	case g.Forgejo:
		reply(w, http.StatusOK, map[string]any{"state": "", "sha": "", "total_count": 0, "statuses": nil, "repository": nil, "commit_url": "", "url": ""})
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// page cuts a list as limit and page ask.
func (g *Gitea) page(w http.ResponseWriter, r *http.Request, items []any) ([]any, bool) {
	given := map[string]int{"page": 1, "limit": 30} // app.ini, DEFAULT_PAGING_NUM
	for name, values := range r.URL.Query() {
		n, err := strconv.Atoi(values[0])
		if err != nil || n < 1 {
			g.undocumented(w, r, "query parameter "+name+" is no positive number")
			return nil, false
		}
		given[name] = n
	}
	most := 50
	if g.PageSize > 0 {
		most = g.PageSize
	}
	size := min(given["limit"], most)
	from := min((given["page"]-1)*size, len(items))
	return append([]any{}, items[from:min(from+size, len(items))]...), true
}

// thread finds the pull request of a request; it has answered when there is none.
func (g *Gitea) thread(w http.ResponseWriter, r *http.Request, parameters ...string) (*giteaRepo, int) {
	repo := g.find(w, r, parameters...)
	if repo == nil {
		return nil, 0
	}
	index, _ := strconv.Atoi(r.PathValue("index"))
	if _, known := repo.pulls[index]; !known {
		g.internal(w)
		return nil, 0
	}
	return repo, index
}

// listComments is "List all comments on an issue": all of them at once.
func (g *Gitea) listComments(w http.ResponseWriter, r *http.Request) {
	parameters := []string{"since", "before"}
	if g.CommentPages {
		parameters = []string{"page", "limit"}
	}
	repo, index := g.thread(w, r, parameters...)
	if repo == nil {
		return
	}
	items := []any{}
	for _, c := range repo.comments[index] {
		items = append(items, giteaCommentJSON(c))
	}
	w.Header().Set("X-Total-Count", strconv.Itoa(len(items)))
	if g.CommentPages {
		page, ok := g.page(w, r, items)
		if !ok {
			return
		}
		items = page
	}
	reply(w, http.StatusOK, items)
}

func giteaCommentJSON(c Comment) map[string]any {
	return map[string]any{"id": c.ID, "user": giteaUserJSON(c.User, fmt.Sprintf("user-%d", c.User)), "body": c.Body, "assets": []any{}}
}

// postComment is "Add a comment to an issue".
func (g *Gitea) postComment(w http.ResponseWriter, r *http.Request) {
	repo, index := g.thread(w, r)
	if repo == nil {
		return
	}
	if given := g.fields(w, r, 1, "body"); given != nil {
		reply(w, http.StatusCreated, giteaCommentJSON(g.addComment(repo, index, OwnUser, given["body"])))
	}
}

// comment finds the comment of a request; it has answered when there is none.
func (g *Gitea) comment(w http.ResponseWriter, r *http.Request) (*giteaRepo, *Comment) {
	repo := g.find(w, r)
	if repo == nil {
		return nil, nil
	}
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // 0 is nobody's
	for _, comments := range repo.comments {
		for i := range comments {
			if comments[i].ID == id {
				return repo, &comments[i]
			}
		}
	}
	g.notFound(w)
	return nil, nil
}

// patchComment is "Edit a comment": one's own, or any by who writes to the
// repository.
func (g *Gitea) patchComment(w http.ResponseWriter, r *http.Request) {
	_, c := g.comment(w, r)
	switch {
	case c == nil:
	case c.User != OwnUser && g.ReadOnly:
		w.WriteHeader(http.StatusForbidden)
	default:
		if given := g.fields(w, r, 1, "body"); given != nil {
			c.Body = given["body"]
			reply(w, http.StatusOK, giteaCommentJSON(*c))
		}
	}
}

// postReaction is "Add a reaction to a comment of an issue".
func (g *Gitea) postReaction(w http.ResponseWriter, r *http.Request) {
	repo, c := g.comment(w, r)
	if c == nil {
		return
	}
	given := g.fields(w, r, 1, "content")
	if given == nil {
		return
	}
	allowed := g.Pictures
	if allowed == nil {
		allowed = []string{"+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"}
	}
	picture, status := given["content"], http.StatusCreated
	switch {
	case !slices.Contains(allowed, picture):
		g.problem(w, http.StatusForbidden, fmt.Sprintf("'%s' is not an allowed reaction", picture))
		return
	case slices.Contains(repo.reactions[c.ID], picture):
		status = http.StatusOK
	default:
		repo.reactions[c.ID] = append(repo.reactions[c.ID], picture)
	}
	reply(w, status, map[string]any{"user": giteaUserJSON(OwnUser, "user"), "content": picture, "created_at": "2026-01-02T03:04:05Z"})
}

// getPull is "Get a pull request".
func (g *Gitea) getPull(w http.ResponseWriter, r *http.Request) {
	repo := g.find(w, r)
	if repo == nil {
		return
	}
	index, _ := strconv.Atoi(r.PathValue("index"))
	p, known := repo.pulls[index]
	if !known {
		g.notFound(w)
		return
	}
	state := "closed"
	if p.Open {
		state = "open"
	}
	base := strings.TrimPrefix(p.Base, "refs/heads/")
	reply(w, http.StatusOK, map[string]any{
		"id": 1000 + p.Number, "number": p.Number, "state": state, "title": "a change", "merged": false,
		"user":       giteaUserJSON(OtherUser, p.Author),
		"base":       map[string]any{"label": base, "ref": base, "sha": p.BaseCommit, "repo_id": 1},
		"head":       map[string]any{"label": "topic", "ref": "topic", "sha": p.Head, "repo_id": 2},
		"merge_base": p.BaseCommit,
	})
}

// getPermission is "Get repository permissions for a user". Who was given nothing
// may read a public repository.
func (g *Gitea) getPermission(w http.ResponseWriter, r *http.Request) {
	repo := g.find(w, r)
	if repo == nil {
		return
	}
	if g.NoAdmin {
		g.problem(w, http.StatusForbidden, "Only admins can query all permissions, repo admins can query all repo permissions, collaborators can query only their own")
		return
	}
	name := strings.ToLower(r.PathValue("collaborator"))
	id, known := g.accounts[name]
	if !known {
		g.problem(w, http.StatusNotFound, fmt.Sprintf("user does not exist [uid: 0, name: %s]", name))
		return
	}
	level := repo.levels[name]
	if level == "" {
		level = "read"
	}
	reply(w, http.StatusOK, map[string]any{"permission": level, "role_name": level, "user": giteaUserJSON(id, name)})
}

package forgetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// endpoint is one operation.
type endpoint struct {
	needs  string // the permission, "checks:write"; see permit
	handle http.HandlerFunc
}

// endpoints are the documented ones that are served. Handlers run under the
// server's lock.
func (g *GitHub) endpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET /user": {"user", g.getUser},
		"POST /repos/{owner}/{repo}/statuses/{sha}":                 {"statuses:write", g.postStatus},
		"GET /repos/{owner}/{repo}/commits/{sha}/status":            {"statuses:read", g.getStatus},
		"GET /repos/{owner}/{repo}/commits/{sha}/comments":          {"contents:read", g.listComments},
		"POST /repos/{owner}/{repo}/commits/{sha}/comments":         {"contents:read", g.postComment},
		"PATCH /repos/{owner}/{repo}/comments/{id}":                 {"contents:read", g.patchComment},
		"GET /repos/{owner}/{repo}/issues/{number}/comments":        {"pull_requests:read", g.listComments},
		"POST /repos/{owner}/{repo}/issues/{number}/comments":       {"pull_requests:write", g.postComment},
		"PATCH /repos/{owner}/{repo}/issues/comments/{id}":          {"pull_requests:write", g.patchComment},
		"POST /repos/{owner}/{repo}/issues/comments/{id}/reactions": {"pull_requests:write", g.postReaction},
		"POST /repos/{owner}/{repo}/pulls/comments/{id}/reactions":  {"pull_requests:write", g.postReaction},
		"GET /repos/{owner}/{repo}/pulls/{number}":                  {"pull_requests:read", g.getPull},
		"GET /repos/{owner}/{repo}/collaborators/{name}/permission": {"metadata:read", g.getPermission},
		"GET /repos/{owner}/{repo}/commits/{sha}/check-runs":        {"checks:read", g.listChecks},
		"POST /repos/{owner}/{repo}/check-runs":                     {"checks:write", g.postCheck},
		"PATCH /repos/{owner}/{repo}/check-runs/{id}":               {"checks:write", g.patchCheck},
		"GET /repos/{owner}/{repo}/check-runs/{id}/annotations":     {"checks:read", g.listAnnotations},
		"GET /app":                                   {"app", g.getApp},
		"GET /repos/{owner}/{repo}/installation":     {"app", g.getInstallation},
		"POST /app/installations/{id}/access_tokens": {"app", g.postToken},
	}
}

func (g *GitHub) getUser(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, userJSON(OwnUser))
}

func userJSON(id int64) map[string]any {
	if id == BotUser {
		return map[string]any{"id": id, "login": AppSlug + "[bot]", "type": "Bot"}
	}
	return map[string]any{"id": id, "login": fmt.Sprintf("user-%d", id), "type": "User"}
}

// repo finds the repository of a request; it has answered when there is none.
func (g *GitHub) repo(w http.ResponseWriter, r *http.Request) *repository {
	found := g.repos[r.PathValue("owner")+"/"+r.PathValue("repo")]
	if found == nil {
		problem(w, http.StatusNotFound, "Not Found")
	}
	return found
}

// fields reads a body that may have these fields, all strings, and must have the
// required ones, which come first.
func (g *GitHub) fields(w http.ResponseWriter, r *http.Request, required int, names ...string) map[string]string {
	given := map[string]string{}
	if err := json.NewDecoder(r.Body).Decode(&given); err != nil {
		g.undocumented(w, r, "the body is no object of strings: "+err.Error())
		return nil
	}
	for name := range given {
		if !slices.Contains(names, name) {
			g.undocumented(w, r, "unknown body field "+name)
			return nil
		}
	}
	for _, name := range names[:required] {
		if _, ok := given[name]; !ok {
			g.undocumented(w, r, "missing body field "+name)
			return nil
		}
	}
	return given
}

// postStatus is "Create a commit status".
func (g *GitHub) postStatus(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	given := g.fields(w, r, 1, "state", "target_url", "description", "context")
	if given == nil {
		return
	}
	sha := r.PathValue("sha")
	statuses, known := repo.statuses[sha]
	if !known {
		problem(w, http.StatusUnprocessableEntity, "No commit found for SHA: "+sha)
		return
	}
	s := assay.Status{Context: given["context"], State: assay.StatusState(given["state"]), Description: given["description"], URL: given["target_url"]}
	if s.Context == "" {
		s.Context = "default"
	}
	if field, message := wrongStatus(s, statuses); field != "" {
		invalid(w, "Status", field, message)
		return
	}
	repo.statuses[sha] = append(statuses, s)
	g.lastID++
	reply(w, http.StatusCreated, statusJSON(g.lastID, s))
}

// wrongStatus says what GitHub has against a status, in its words.
func wrongStatus(s assay.Status, before []assay.Status) (field, message string) {
	target, err := url.Parse(s.URL)
	same := 0
	for _, b := range before {
		if b.Context == s.Context {
			same++
		}
	}
	switch {
	case !slices.Contains([]string{"error", "failure", "pending", "success"}, string(s.State)):
		return "state", "state is not included in the list"
	case utf8.RuneCountInString(s.Description) > 140:
		return "description", "description is too long (maximum is 140 characters)"
	case strings.ContainsFunc(s.Description, func(r rune) bool { return r > 0xFFFF }):
		return "description", "description doesn't accept 4-byte Unicode"
	case utf8.RuneCountInString(s.Context) > 255:
		return "context", "context is too long (maximum is 255 characters)"
	case s.URL != "" && (err != nil || target.Scheme != "http" && target.Scheme != "https"):
		return "target_url", "target_url must use http(s) scheme"
	case same >= 1000:
		return "base", "This SHA and context has reached the maximum number of statuses."
	}
	return "", ""
}

func statusJSON(id int64, s assay.Status) map[string]any {
	out := map[string]any{"id": id, "state": s.State, "context": s.Context, "creator": userJSON(OwnUser), "description": nil, "target_url": nil}
	if s.Description != "" {
		out["description"] = s.Description
	}
	if s.URL != "" {
		out["target_url"] = s.URL
	}
	return out
}

// getStatus is "Get the combined status for a specific reference".
func (g *GitHub) getStatus(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	all, known := repo.statuses[r.PathValue("sha")]
	if !known {
		problem(w, http.StatusNotFound, "Not Found")
		return
	}
	newest := map[string]bool{}
	var items []any
	for i, s := range slices.Backward(all) {
		if !newest[s.Context] {
			newest[s.Context] = true
			items = append(items, statusJSON(int64(i+1), s))
		}
	}
	if page, ok := g.page(w, r, items); ok {
		reply(w, http.StatusOK, map[string]any{"sha": r.PathValue("sha"), "total_count": len(items), "statuses": page})
	}
}

// page cuts a list as per_page and page ask, and links to the neighbours. The
// query may have others, too.
func (g *GitHub) page(w http.ResponseWriter, r *http.Request, items []any, others ...string) ([]any, bool) {
	size, number := 30, 1
	for name, values := range r.URL.Query() {
		if slices.Contains(others, name) {
			continue
		}
		n, err := strconv.Atoi(values[0])
		if err != nil || n < 1 || len(values) > 1 {
			g.undocumented(w, r, "query parameter "+name+" is not one positive number")
			return nil, false
		}
		switch name {
		case "per_page":
			size = min(n, 100)
		case "page":
			number = n
		default:
			g.undocumented(w, r, "unknown query parameter "+name)
			return nil, false
		}
	}
	if g.PageSize > 0 {
		size = min(size, g.PageSize)
	}
	last := max(1, (len(items)+size-1)/size)
	g.link(w, r, size, number, last)
	from := min((number-1)*size, len(items))
	return append([]any{}, items[from:min(from+size, len(items))]...), true
}

func (g *GitHub) link(w http.ResponseWriter, r *http.Request, size, number, last int) {
	to := func(page int, rel string) string {
		q := r.URL.Query()
		q.Set("per_page", strconv.Itoa(size))
		q.Set("page", strconv.Itoa(page))
		return fmt.Sprintf(`<%s%s?%s>; rel=%q`, strings.TrimSuffix(g.URL, "/api/v3/"), r.URL.Path, q.Encode(), rel)
	}
	var links []string
	if number > 1 {
		links = append(links, to(number-1, "prev"))
	}
	if number < last {
		links = append(links, to(number+1, "next"), to(last, "last"))
	}
	if len(links) > 0 {
		w.Header().Set("Link", strings.Join(links, ", "))
	}
}

// thread finds the commit or pull request that a list of comments belongs to;
// it has answered when there is none.
func (g *GitHub) thread(w http.ResponseWriter, r *http.Request) (repo *repository, thread string) {
	repo = g.repo(w, r)
	if repo == nil {
		return nil, ""
	}
	number, _ := strconv.Atoi(r.PathValue("number")) // 0 for a commit's
	thread = threadName(number, r.PathValue("sha"))
	_, commit := repo.statuses[thread]
	if _, pull := repo.pulls[number]; !commit && !pull {
		problem(w, http.StatusNotFound, "Not Found")
		return nil, ""
	}
	return repo, thread
}

// listComments is "List issue comments" and "List commit comments".
func (g *GitHub) listComments(w http.ResponseWriter, r *http.Request) {
	repo, thread := g.thread(w, r)
	if repo == nil {
		return
	}
	var items []any
	for _, c := range repo.comments[thread] {
		items = append(items, commentJSON(c))
	}
	if page, ok := g.page(w, r, items); ok {
		reply(w, http.StatusOK, page)
	}
}

func commentJSON(c Comment) map[string]any {
	return map[string]any{"id": c.ID, "user": userJSON(c.User), "body": c.Body}
}

// postComment is "Create an issue comment" and "Create a commit comment".
func (g *GitHub) postComment(w http.ResponseWriter, r *http.Request) {
	repo, thread := g.thread(w, r)
	if repo == nil {
		return
	}
	if body, ok := g.commentBody(w, r); ok {
		reply(w, http.StatusCreated, commentJSON(g.addComment(repo, thread, g.actor.user, body)))
	}
}

func (g *GitHub) commentBody(w http.ResponseWriter, r *http.Request) (string, bool) {
	given := g.fields(w, r, 1, "body")
	if given == nil {
		return "", false
	}
	switch body := given["body"]; {
	case strings.TrimSpace(body) == "":
		invalid(w, "IssueComment", "body", "body can't be blank")
	case utf8.RuneCountInString(body) > 65536:
		invalid(w, "IssueComment", "body", "body is too long (maximum is 65536 characters)")
	default:
		return body, true
	}
	return "", false
}

// patchComment is "Update an issue comment" and "Update a commit comment". The
// two have ids of one series here, but each is found only at its own endpoint.
func (g *GitHub) patchComment(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // 0 is nobody's
	c := findComment(repo, id, threadKind(r.URL.Path))
	switch {
	case c == nil:
		problem(w, http.StatusNotFound, "Not Found")
	case c.User != g.actor.user:
		problem(w, http.StatusForbidden, "Must have admin rights to Repository.")
	default:
		if body, ok := g.commentBody(w, r); ok {
			c.Body = body
			reply(w, http.StatusOK, commentJSON(*c))
		}
	}
}

// threadKind is what the names of threads begin with: "#" below pull requests,
// "review" on their lines, "" for commits.
func threadKind(path string) string {
	switch {
	case strings.Contains(path, "/issues/comments/"):
		return "#"
	case strings.Contains(path, "/pulls/comments/"):
		return "review"
	}
	return ""
}

func findComment(repo *repository, id int64, kind string) *Comment {
	for thread, comments := range repo.comments {
		fits := strings.HasPrefix(thread, kind) && (kind != "" || thread[0] != '#' && thread != "review")
		for i := range comments {
			if comments[i].ID == id && fits {
				return &comments[i]
			}
		}
	}
	return nil
}

// postReaction is "Create reaction for an issue comment" and "Create reaction
// for a pull request review comment".
func (g *GitHub) postReaction(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	given := g.fields(w, r, 1, "content")
	if given == nil {
		return
	}
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // 0 is nobody's
	one := Reaction{g.actor.user, given["content"]}
	switch {
	case findComment(repo, id, threadKind(r.URL.Path)) == nil:
		problem(w, http.StatusNotFound, "Not Found")
	case !slices.Contains([]string{"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}, one.Content):
		invalid(w, "Reaction", "content", "content is not included in the list")
	case slices.Contains(repo.reactions[id], one):
		reply(w, http.StatusOK, map[string]any{"id": 1, "content": one.Content, "user": userJSON(one.User)})
	default:
		repo.reactions[id] = append(repo.reactions[id], one)
		reply(w, http.StatusCreated, map[string]any{"id": 1, "content": one.Content, "user": userJSON(one.User)})
	}
}

// getPull is "Get a pull request".
func (g *GitHub) getPull(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	number, _ := strconv.Atoi(r.PathValue("number"))
	pull, ok := repo.pulls[number]
	if !ok {
		problem(w, http.StatusNotFound, "Not Found")
		return
	}
	state := map[bool]string{true: "open", false: "closed"}[pull.Open]
	reply(w, http.StatusOK, map[string]any{
		"number": number, "state": state, "user": map[string]any{"login": pull.Author, "id": OtherUser},
		"base": map[string]string{"ref": strings.TrimPrefix(pull.Base, "refs/heads/"), "sha": pull.BaseCommit},
		"head": map[string]string{"ref": "topic", "sha": pull.Head},
	})
}

// getPermission is "Get repository permissions for a user".
func (g *GitHub) getPermission(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	name := r.PathValue("name")
	permission, ok := repo.accounts[name]
	if !ok {
		problem(w, http.StatusNotFound, name+" is not a user")
		return
	}
	reply(w, http.StatusOK, map[string]any{"permission": permission, "role_name": permission, "user": map[string]any{"login": name}})
}

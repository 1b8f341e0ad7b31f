package forgetest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// thread finds the merge request or commit that notes belong to; it has
// answered when there is none.
func (g *GitLab) thread(w http.ResponseWriter, r *http.Request) (*gitLabProject, string) {
	if r.PathValue("iid") != "" {
		p, m := g.merge(w, r)
		if m == nil {
			return nil, ""
		}
		return p, "!" + r.PathValue("iid")
	}
	p := g.project(w, r)
	if p == nil {
		return nil, ""
	}
	sha := r.PathValue("sha")
	if _, known := p.commits[sha]; !known {
		said(w, http.StatusNotFound, "404 Commit Not Found")
		return nil, ""
	}
	return p, sha
}

func (g *GitLab) noteJSON(n *gitLabNote) map[string]any {
	return map[string]any{"id": n.ID, "type": nil, "body": n.Body, "author": g.account(n.User), "system": false, "created_at": "2026-01-02T03:04:05.678Z"}
}

// listNotes is "List all merge request notes".
func (g *GitLab) listNotes(w http.ResponseWriter, r *http.Request) {
	p, thread := g.thread(w, r)
	if p == nil {
		return
	}
	q, ok := g.query(w, r, "page", "per_page", "order_by", "sort")
	if !ok {
		return
	}
	var items []any
	for _, n := range p.notes[thread] {
		items = append(items, g.noteJSON(n))
	}
	if q.Get("sort") != "asc" {
		slices.Reverse(items) // newest first is GitLab's way
	}
	reply(w, http.StatusOK, g.page(w, q, items))
}

// listDiscussions is "List all commit discussion items".
func (g *GitLab) listDiscussions(w http.ResponseWriter, r *http.Request) {
	p, thread := g.thread(w, r)
	if p == nil {
		return
	}
	q, ok := g.query(w, r, "page", "per_page")
	if !ok {
		return
	}
	var items []any
	for _, n := range p.notes[thread] {
		items = append(items, g.discussionJSON(n))
	}
	reply(w, http.StatusOK, g.page(w, q, items))
}

func (g *GitLab) discussionJSON(n *gitLabNote) map[string]any {
	return map[string]any{"id": n.discussion, "individual_note": true, "notes": []any{g.noteJSON(n)}}
}

// postNote is "Create new merge request note" and "Create new commit thread".
func (g *GitLab) postNote(w http.ResponseWriter, r *http.Request) {
	p, thread := g.thread(w, r)
	if p == nil {
		return
	}
	body, ok := g.noteBody(w, r)
	if !ok {
		return
	}
	n := g.addNote(p, thread, OwnUser, body)
	if strings.HasPrefix(thread, "!") {
		reply(w, http.StatusCreated, g.noteJSON(n))
		return
	}
	reply(w, http.StatusCreated, g.discussionJSON(n))
}

// noteBody reads a note's text. What GitLab would do as a quick action fails
// the test: nobody told us to merge.
func (g *GitLab) noteBody(w http.ResponseWriter, r *http.Request) (string, bool) {
	given := g.body(w, r, 1, "body")
	if given == nil {
		return "", false
	}
	body := text(given["body"])
	for _, line := range strings.Split(body, "\n") {
		if strings.HasPrefix(line, "/") {
			g.t.Errorf("%s %s: GitLab does %q", r.Method, r.URL, line)
		}
	}
	switch {
	case strings.TrimSpace(body) == "":
		said(w, http.StatusBadRequest, map[string]any{"note": []string{"can't be blank"}})
	case utf8.RuneCountInString(body) > 1_000_000:
		said(w, http.StatusBadRequest, map[string]any{"note": []string{"is too long (maximum is 1000000 characters)"}})
	default:
		return body, true
	}
	return "", false
}

// note finds a note in its thread; it has answered when there is none.
func (g *GitLab) note(w http.ResponseWriter, r *http.Request) (*gitLabProject, *gitLabNote) {
	p, thread := g.thread(w, r)
	if p == nil {
		return nil, nil
	}
	id, _ := strconv.ParseInt(r.PathValue("note"), 10, 64) // 0 is none's
	for _, n := range p.notes[thread] {
		if n.ID == id && (r.PathValue("discussion") == "" || r.PathValue("discussion") == n.discussion) {
			return p, n
		}
	}
	said(w, http.StatusNotFound, "404 Note Not Found")
	return nil, nil
}

// putNote is "Modify existing merge request note" and "Modify a commit thread note".
func (g *GitLab) putNote(w http.ResponseWriter, r *http.Request) {
	p, n := g.note(w, r)
	if p == nil {
		return
	}
	if n.User != OwnUser {
		said(w, http.StatusForbidden, "403 Forbidden")
		return
	}
	if body, ok := g.noteBody(w, r); ok {
		n.Body = body
		reply(w, http.StatusOK, g.noteJSON(n))
	}
}

func (g *GitLab) listAwards(w http.ResponseWriter, r *http.Request) {
	p, n := g.note(w, r)
	if p == nil {
		return
	}
	q, ok := g.query(w, r, "page", "per_page")
	if !ok {
		return
	}
	var items []any
	for i, a := range p.awards[n.ID] {
		items = append(items, map[string]any{"id": i + 1, "name": a.name, "user": g.account(a.user), "awardable_id": n.ID, "awardable_type": "Note"})
	}
	reply(w, http.StatusOK, g.page(w, q, items))
}

// postAward is "Award a new emoji on a comment". A second one of the same name
// is 404, as GitLab has it.
func (g *GitLab) postAward(w http.ResponseWriter, r *http.Request) {
	p, n := g.note(w, r)
	if p == nil {
		return
	}
	given := g.body(w, r, 1, "name")
	if given == nil {
		return
	}
	award := gitLabAward{OwnUser, text(given["name"])}
	switch {
	case !slices.Contains([]string{"thumbsup", "thumbsdown", "confused", "eyes"}, award.name):
		said(w, http.StatusNotFound, "404 Award Emoji Name is not a valid emoji name Not Found")
	case slices.Contains(p.awards[n.ID], award):
		said(w, http.StatusNotFound, "404 Award Emoji Name has already been taken Not Found")
	default:
		p.awards[n.ID] = append(p.awards[n.ID], award)
		reply(w, http.StatusCreated, map[string]any{"id": len(p.awards[n.ID]), "name": award.name, "user": g.account(OwnUser)})
	}
}

// AddAward lets an account give a note an emoji.
func (g *GitLab) AddAward(path string, note, user int64, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.projects[path]
	p.awards[note] = append(p.awards[note], gitLabAward{user, name})
}

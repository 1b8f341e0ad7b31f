package forgetest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// endpoints are the documented ones that are served. Handlers run under the
// server's lock.
func (g *GitLab) endpoints() map[string]http.HandlerFunc {
	const project = "/projects/{project}"
	const commit = project + "/repository/commits/{sha}"
	const merge = project + "/merge_requests/{iid}"
	return map[string]http.HandlerFunc{
		"GET /user":                                                g.getUser,
		"GET /users":                                               g.findUsers,
		"GET " + project:                                           g.getProject,
		"GET " + project + "/members/all/{user}":                   g.getMember,
		"POST " + project + "/statuses/{sha}":                      g.postStatus,
		"GET " + commit + "/statuses":                              g.listStatuses,
		"GET " + commit + "/discussions":                           g.listDiscussions,
		"POST " + commit + "/discussions":                          g.postNote,
		"PUT " + commit + "/discussions/{discussion}/notes/{note}": g.putNote,
		"GET " + merge:                                             g.getMerge,
		"GET " + merge + "/notes":                                  g.listNotes,
		"POST " + merge + "/notes":                                 g.postNote,
		"PUT " + merge + "/notes/{note}":                           g.putNote,
		"GET " + merge + "/notes/{note}/award_emoji":               g.listAwards,
		"POST " + merge + "/notes/{note}/award_emoji":              g.postAward,
	}
}

func (g *GitLab) getUser(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, g.account(OwnUser))
}

func (g *GitLab) account(id int64) map[string]any {
	name := fmt.Sprintf("user-%d", id)
	for known, its := range g.users {
		if its == id {
			name = known
		}
	}
	return map[string]any{"id": id, "username": name, "name": name, "state": "active"}
}

// findUsers is "List users" with a username.
func (g *GitLab) findUsers(w http.ResponseWriter, r *http.Request) {
	q, ok := g.query(w, r, "username")
	if !ok {
		return
	}
	found := []any{}
	for name, id := range g.users {
		if strings.EqualFold(name, q.Get("username")) {
			found = append(found, g.account(id))
		}
	}
	reply(w, http.StatusOK, found)
}

// project finds the project of a request; it has answered when there is none.
func (g *GitLab) project(w http.ResponseWriter, r *http.Request) *gitLabProject {
	if raw := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/api/v4/projects/"), "/")[0]; !strings.Contains(raw, "%2F") {
		g.undocumented(w, r, "the project's path is not URL-encoded")
		return nil
	}
	found := g.projects[r.PathValue("project")]
	if found == nil {
		said(w, http.StatusNotFound, "404 Project Not Found")
	}
	return found
}

func (g *GitLab) getProject(w http.ResponseWriter, r *http.Request) {
	if p := g.project(w, r); p != nil {
		reply(w, http.StatusOK, map[string]any{"id": p.id, "path_with_namespace": r.PathValue("project")})
	}
}

// getMember is "Get a member of a project, including inherited".
func (g *GitLab) getMember(w http.ResponseWriter, r *http.Request) {
	p := g.project(w, r)
	if p == nil {
		return
	}
	id, _ := strconv.ParseInt(r.PathValue("user"), 10, 64) // 0 is nobody's
	level, ok := p.members[id]
	if !ok {
		said(w, http.StatusNotFound, "404 Not found")
		return
	}
	member := g.account(id)
	member["access_level"] = level
	reply(w, http.StatusOK, member)
}

// postStatus is "Set commit pipeline status".
func (g *GitLab) postStatus(w http.ResponseWriter, r *http.Request) {
	p := g.project(w, r)
	if p == nil {
		return
	}
	given := g.body(w, r, 1, "state", "ref", "name", "context", "target_url", "description", "coverage", "pipeline_id")
	if given == nil {
		return
	}
	s := &GitLabStatus{SHA: r.PathValue("sha"), Name: text(given["name"]), Ref: text(given["ref"]),
		Description: text(given["description"]), TargetURL: text(given["target_url"])}
	branch, known := p.commits[s.SHA]
	if !known {
		said(w, http.StatusNotFound, "404 Commit Not Found")
		return
	}
	if wrong := wrongGitLabStatus(given, s); wrong != nil {
		said(w, http.StatusBadRequest, wrong)
		return
	}
	pipeline, fresh := p.pipelineFor(s, branch, given["pipeline_id"])
	switch {
	case !fresh && pipeline == nil && given["pipeline_id"] != nil:
		said(w, http.StatusNotFound, "404 Pipeline for pipeline_id, sha and ref Not Found")
		return
	case pipeline == nil:
		said(w, http.StatusNotFound, "404 References for commit Not Found")
		return
	}
	g.place(w, p, s, pipeline, fresh, given)
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// wrongGitLabStatus says what GitLab has against a status.
func wrongGitLabStatus(given map[string]any, s *GitLabStatus) any {
	target, err := url.Parse(s.TargetURL)
	switch {
	case !slices.Contains([]string{"pending", "running", "success", "failed", "canceled", "skipped"}, text(given["state"])):
		return "state does not have a valid value"
	case utf8.RuneCountInString(s.Name) > 255:
		return map[string]any{"name": []string{"is too long (maximum is 255 characters)"}}
	case utf8.RuneCountInString(s.Description) > 255:
		return map[string]any{"description": []string{"is too long (maximum is 255 characters)"}}
	case utf8.RuneCountInString(s.TargetURL) > 255:
		return map[string]any{"target_url": []string{"is too long (maximum is 255 characters)"}}
	case s.TargetURL != "" && (err != nil || target.Scheme != "http" && target.Scheme != "https"):
		return map[string]any{"target_url": []string{"is blocked: Only allowed schemes are http, https"}}
	}
	return nil
}

// pipelineFor is the newest pipeline of the commit and ref, with that id if one
// is given, or a new one.
func (p *gitLabProject) pipelineFor(s *GitLabStatus, branch string, id any) (found *gitLabPipeline, fresh bool) {
	for i := range p.pipelines {
		l := &p.pipelines[i]
		if l.sha == s.SHA && (s.Ref == "" || l.ref == s.Ref) && (id == nil || id == float64(l.id)) {
			found = l
		}
	}
	if found != nil || id != nil {
		return found, false
	}
	ref := s.Ref
	if ref == "" {
		ref = branch
	}
	if ref == "" {
		return nil, true
	}
	return &gitLabPipeline{sha: s.SHA, ref: ref}, true
}

// place puts the status into its pipeline: into the one of its name that has
// not ended, or as a new one.
func (g *GitLab) place(w http.ResponseWriter, p *gitLabProject, s *GitLabStatus, in *gitLabPipeline, fresh bool, given map[string]any) {
	state := text(given["state"])
	if s.Name == "" {
		s.Name = "default"
	}
	if s.Ref == "" {
		s.Ref = in.ref
	}
	var open *GitLabStatus
	for _, old := range p.statuses {
		if old.Pipeline == in.id && old.Name == s.Name && old.Ref == s.Ref && (old.State == "pending" || old.State == "running") {
			open = old
		}
	}
	if open != nil && (state == "pending" || state == open.State) {
		event := map[string]string{"pending": "enqueue", "running": "run"}[state]
		said(w, http.StatusBadRequest, fmt.Sprintf("Cannot transition status via :%s from :%s (Reason(s): Status cannot transition via %q)", event, open.State, event))
		return
	}
	if open != nil {
		open.State = state
		if given["description"] != nil { // what is not given stays
			open.Description = s.Description
		}
		if given["target_url"] != nil {
			open.TargetURL = s.TargetURL
		}
		reply(w, http.StatusCreated, g.statusJSON(open))
		return
	}
	if fresh {
		in.id = p.addPipeline(g.nextID(), in.sha, in.ref)
	}
	for _, old := range p.statuses {
		old.retried = old.retried || old.Pipeline == in.id && old.Name == s.Name
	}
	s.ID, s.Pipeline, s.State = g.nextID(), in.id, state
	p.statuses = append(p.statuses, s)
	reply(w, http.StatusCreated, g.statusJSON(s))
}

func (g *GitLab) statusJSON(s *GitLabStatus) map[string]any {
	out := map[string]any{"id": s.ID, "sha": s.SHA, "ref": s.Ref, "name": s.Name, "status": s.State, "pipeline_id": s.Pipeline,
		"author": g.account(OwnUser), "description": nil, "target_url": nil, "created_at": "2026-01-02T03:04:05.678Z", "coverage": nil, "allow_failure": false}
	if s.Description != "" {
		out["description"] = s.Description
	}
	if s.TargetURL != "" {
		out["target_url"] = s.TargetURL
	}
	return out
}

// listStatuses is "List commit statuses".
func (g *GitLab) listStatuses(w http.ResponseWriter, r *http.Request) {
	p := g.project(w, r)
	if p == nil {
		return
	}
	q, ok := g.query(w, r, "page", "per_page", "ref", "stage", "name", "pipeline_id", "order_by", "sort", "all")
	if !ok {
		return
	}
	sha := r.PathValue("sha")
	if _, known := p.commits[sha]; !known {
		said(w, http.StatusNotFound, "404 Commit Not Found")
		return
	}
	var items []any
	for _, s := range p.statuses {
		if s.SHA == sha && (q.Get("name") == "" || q.Get("name") == s.Name) && (q.Get("all") == "true" || !s.retried) {
			items = append(items, g.statusJSON(s))
		}
	}
	reply(w, http.StatusOK, g.page(w, q, items))
}

// merge finds a merge request; it has answered when there is none.
func (g *GitLab) merge(w http.ResponseWriter, r *http.Request) (*gitLabProject, *GitLabMerge) {
	p := g.project(w, r)
	if p == nil {
		return nil, nil
	}
	iid, _ := strconv.ParseInt(r.PathValue("iid"), 10, 64) // 0 is none's
	found := p.merges[iid]
	if found == nil {
		said(w, http.StatusNotFound, "404 Not found")
		return nil, nil
	}
	return p, found
}

// getMerge is "Retrieve a merge request".
func (g *GitLab) getMerge(w http.ResponseWriter, r *http.Request) {
	p, m := g.merge(w, r)
	if m == nil {
		return
	}
	source := p.id
	if m.Fork {
		source = 999
	}
	out := map[string]any{"id": 5000 + m.IID, "iid": m.IID, "state": m.State, "author": map[string]any{"id": 1, "username": m.Author},
		"source_branch": m.SourceBranch, "target_branch": m.TargetBranch, "source_project_id": source, "target_project_id": p.id,
		"sha": nil, "diff_refs": nil, "head_pipeline": nil}
	if m.SHA != "" {
		out["sha"] = m.SHA
		out["diff_refs"] = map[string]string{"base_sha": m.BaseSHA, "start_sha": m.StartSHA, "head_sha": m.SHA}
	}
	for _, l := range p.pipelines {
		if l.id == m.HeadPipeline {
			out["head_pipeline"] = map[string]any{"id": l.id, "sha": l.sha, "ref": l.ref, "project_id": p.id}
		}
	}
	reply(w, http.StatusOK, out)
}

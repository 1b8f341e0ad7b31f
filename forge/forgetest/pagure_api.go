package forgetest

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// endpoint finds the handler of a documented endpoint. Handlers run under the
// server's lock.
func (p *Pagure) endpoint(method, rest string) pagureHandler {
	words := strings.Split(rest, "/")
	shape := method
	for i, word := range words {
		if i == 1 && (words[0] == "c" || words[0] == "pull-request" || words[0] == "group") {
			word = "*"
		}
		shape += " " + word
	}
	return map[string]pagureHandler{
		"GET ":                        p.getProject,
		"POST - whoami":               p.postWhoami,
		"GET group *":                 p.getGroup,
		"GET git branches":            p.getBranches,
		"GET c * info":                p.getCommit,
		"GET c * flag":                p.getFlags,
		"POST c * flag":               p.postFlag,
		"GET pull-request *":          p.getPull,
		"POST pull-request * comment": p.postComment,
		"POST pull-request * flag":    p.postPullFlag,
	}[shape]
}

func (p *Pagure) postWhoami(w http.ResponseWriter, _ *http.Request, _ string, _ []string) {
	reply(w, http.StatusOK, map[string]string{"username": PagureOwn})
}

// project finds the project of a request; it has answered when there is none.
func (p *Pagure) project(w http.ResponseWriter, path string) *pagureProject {
	found := p.projects[path]
	if found == nil {
		pagureError(w, http.StatusNotFound, "ENOPROJECT", "Project not found")
	}
	return found
}

// getProject is "Project information".
func (p *Pagure) getProject(w http.ResponseWriter, _ *http.Request, path string, _ []string) {
	project := p.project(w, path)
	if project == nil {
		return
	}
	rights := func(of map[string][]string, names ...string) map[string][]string {
		all := map[string][]string{}
		for _, name := range names {
			all[name] = append([]string{}, of[name]...)
		}
		return all
	}
	reply(w, http.StatusOK, map[string]any{
		"name": path[strings.LastIndexByte(path, '/')+1:], "fullname": path, "user": pagureAccount("owner"),
		"access_users":  rights(project.users, "owner", "admin", "commit", "collaborator", "ticket"),
		"access_groups": rights(project.groups, "admin", "commit", "collaborator", "ticket"),
	})
}

// getGroup is "Group information".
func (p *Pagure) getGroup(w http.ResponseWriter, _ *http.Request, _ string, words []string) {
	members, ok := p.groups[words[1]]
	if !ok {
		pagureError(w, http.StatusNotFound, "ENOGROUP", "Group not found")
		return
	}
	reply(w, http.StatusOK, map[string]any{"name": words[1], "group_type": "user", "members": members})
}

// getBranches is "List git branches".
func (p *Pagure) getBranches(w http.ResponseWriter, r *http.Request, path string, _ []string) {
	project := p.project(w, path)
	if project == nil {
		return
	}
	if r.URL.RawQuery != "with_commits=true" {
		p.undocumented(w, r, "this test server has branches with commits only")
		return
	}
	reply(w, http.StatusOK, map[string]any{"total_branches": len(project.branches), "branches": project.branches})
}

// getCommit is "Get commit information".
func (p *Pagure) getCommit(w http.ResponseWriter, _ *http.Request, path string, words []string) {
	project := p.project(w, path)
	if project == nil {
		return
	}
	if !project.commits[words[1]] {
		pagureError(w, http.StatusNotFound, "ENOCOMMIT", "No such commit found in this repository")
		return
	}
	reply(w, http.StatusOK, map[string]any{"hash": words[1], "author": "A", "committer": "A", "commit_time": 1700000000, "message": "m", "parent_ids": []string{}})
}

// getFlags is "Flags for a commit". A commit that does not exist has none.
func (p *Pagure) getFlags(w http.ResponseWriter, _ *http.Request, path string, words []string) {
	if p.project(w, path) == nil {
		return
	}
	flags := []any{}
	for _, f := range p.flags {
		if f.Project == path && f.SHA == words[1] {
			flags = append(flags, flagJSON(f))
		}
	}
	reply(w, http.StatusOK, map[string]any{"total_flags": len(flags), "flags": flags})
}

func flagJSON(f *PagureFlag) map[string]any {
	var percent any
	if n, err := strconv.Atoi(f.Percent); err == nil {
		percent = n
	}
	return map[string]any{"comment": f.Comment, "commit_hash": f.SHA, "percent": percent, "status": f.Status, "url": f.URL,
		"username": f.Username, "user": pagureAccount(f.User), "date_created": fmt.Sprint(f.Created), "date_updated": fmt.Sprint(f.Updated)}
}

// postFlag is "Flag a commit".
func (p *Pagure) postFlag(w http.ResponseWriter, r *http.Request, path string, words []string) {
	if p.project(w, path) == nil {
		return
	}
	if _, err := hex.DecodeString(words[1]); err != nil {
		pagureError(w, http.StatusNotFound, "ENOCOMMIT", "No such commit found in this repository")
		return
	}
	p.flag(w, r, path, words[1])
}

// postPullFlag is "Flag a pull-request": its newest commit.
func (p *Pagure) postPullFlag(w http.ResponseWriter, r *http.Request, path string, words []string) {
	if pull := p.pull(w, path, words); pull != nil {
		p.flag(w, r, path, pull.CommitStop)
	}
}

// form reads a form with these fields at most.
func (p *Pagure) form(w http.ResponseWriter, r *http.Request, names ...string) url.Values {
	if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" {
		p.undocumented(w, r, fmt.Sprintf("the form cannot be read: %v", err))
		return nil
	}
	for name, values := range r.PostForm {
		if !slices.Contains(names, name) || len(values) != 1 {
			p.undocumented(w, r, "unknown field "+name)
			return nil
		}
	}
	if r.PostForm == nil {
		return url.Values{}
	}
	return r.PostForm
}

// pagureURL is what Pagure's form takes for an address.
const pagureURL = `(?i)^(?:http|ftp)s?://(?:(?:[A-Z0-9](?:[A-Z0-9-]{0,61}[A-Z0-9])?\.)+(?:[A-Z]{2,6}\.?|[A-Z0-9-]{2,}\.?)|localhost|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?::\d+)?(?:/?|[/?]\S+)$`

func (p *Pagure) flag(w http.ResponseWriter, r *http.Request, path, sha string) {
	form := p.form(w, r, "username", "comment", "url", "status", "percent", "uid")
	if form == nil {
		return
	}
	for _, name := range []string{"username", "comment", "url", "status"} {
		if strings.TrimSpace(form.Get(name)) == "" {
			invalidForm(w, name, "This field is required.")
			return
		}
	}
	switch {
	case !slices.Contains([]string{"pending", "success", "error", "failure", "canceled"}, form.Get("status")):
		invalidForm(w, "status", "Not a valid choice")
	case !regexp.MustCompile(pagureURL).MatchString(form.Get("url")):
		invalidForm(w, "url", "Invalid input.")
	case len(form.Get("uid")) > 32:
		pagureError(w, http.StatusBadRequest, "EDBERROR", "An error occurred at the database level and prevent the action from reaching completion")
	default:
		p.keep(w, path, sha, form)
	}
}

// keep changes the commit's flag with the uid, in whichever project it is, or
// adds one.
func (p *Pagure) keep(w http.ResponseWriter, path, sha string, form url.Values) {
	p.clock++
	uid := form.Get("uid")
	message := "Flag updated"
	at := slices.IndexFunc(p.flags, func(f *PagureFlag) bool { return f.SHA == sha && f.UID == uid && uid != "" })
	if at < 0 {
		message, at = "Flag added", len(p.flags)
		if uid == "" {
			uid = fmt.Sprintf("%032x", p.clock)
		}
		p.flags = append(p.flags, &PagureFlag{Project: path, SHA: sha, UID: uid, Username: form.Get("username"), User: PagureOwn, Created: p.clock})
	}
	f := p.flags[at]
	f.Status, f.Comment, f.URL, f.Percent = form.Get("status"), strings.TrimSpace(form.Get("comment")), form.Get("url"), form.Get("percent")
	f.Updated = p.clock
	reply(w, http.StatusOK, map[string]any{"flag": flagJSON(f), "message": message, "uid": uid})
}

// pull finds a pull request; it has answered when there is none.
func (p *Pagure) pull(w http.ResponseWriter, path string, words []string) *PagurePull {
	project := p.project(w, path)
	if project == nil {
		return nil
	}
	number, _ := strconv.Atoi(words[1]) // 0 is none's
	found := project.pulls[number]
	if found == nil {
		pagureError(w, http.StatusNotFound, "ENOREQ", "Pull-Request not found")
	}
	return found
}

// getPull is "Pull-request information".
func (p *Pagure) getPull(w http.ResponseWriter, _ *http.Request, path string, words []string) {
	pull := p.pull(w, path, words)
	if pull == nil {
		return
	}
	comments := []any{}
	for _, c := range pull.Comments {
		comments = append(comments, map[string]any{"id": c.ID, "comment": c.Body, "user": pagureAccount(c.User), "date_created": "1700000000",
			"commit": nil, "filename": nil, "line": nil, "parent": nil, "notification": false, "edited_on": nil})
	}
	var stop any
	if pull.CommitStop != "" {
		stop = pull.CommitStop
	}
	reply(w, http.StatusOK, map[string]any{"id": pull.ID, "uid": "x", "status": pull.Status, "branch": pull.Branch, "branch_from": "topic",
		"commit_start": stop, "commit_stop": stop, "user": pagureAccount(pull.Author), "comments": comments})
}

// postComment is "Comment on a pull-request".
func (p *Pagure) postComment(w http.ResponseWriter, r *http.Request, path string, words []string) {
	pull := p.pull(w, path, words)
	if pull == nil {
		return
	}
	form := p.form(w, r, "comment", "commit", "filename", "row", "tree_id")
	if form == nil {
		return
	}
	if strings.TrimSpace(form.Get("comment")) == "" {
		invalidForm(w, "comment", "This field is required.")
		return
	}
	p.addComment(pull, PagureOwn, strings.ReplaceAll(form.Get("comment"), "\n", "\r\n")) // as browsers and forms have it
	reply(w, http.StatusOK, map[string]string{"message": "Comment added"})
}

package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// Comment does POST /api/0/REPO/pull-request/N/comment, unless our newest
// comment with the marker says the same; see Pagure for what it cannot do.
func (p *Pagure) Comment(ctx context.Context, commit assay.Commit, marker, body string) error {
	at, err := pagurePlaceOf(commit)
	if err != nil {
		return err
	}
	if err := checkComment(marker, body); err != nil {
		return err
	}
	if at.pull == 0 {
		return ctxError(ctx, "write the comment "+marker+" on "+at.String())
	}
	key := fmt.Sprintf("the comment %s on %s#%d", marker, at.path, at.pull)
	// Without the lock two callers would both find nothing and write two.
	release, err := p.locks.lock(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	s, err := p.session()
	if err != nil {
		return err
	}
	err = p.comment(ctx, s, at, hidden(marker), gitHubBody(marker, "\n"+body))
	return p.web.fail(ctx, "write "+key, pagureNeedComment, err)
}

// ctxError keeps what does nothing from succeeding after its context's end.
func ctxError(ctx context.Context, what string) error {
	if ctx.Err() == nil {
		return nil
	}
	return &RetryError{Err: fmt.Errorf("cannot %s: %w", what, ctx.Err())}
}

func (p *Pagure) comment(ctx context.Context, s *pagureSession, at pagurePlace, first, body string) error {
	user, err := p.user(ctx, s)
	if err != nil {
		return err
	}
	pull, err := s.pull(ctx, at.path, at.pull)
	if err != nil {
		return err
	}
	if sameText(newestComment(pull.Comments, user, first), body) {
		return nil
	}
	var ignored struct{} // all that is told is "Comment added"
	return s.post(ctx, fmt.Sprintf("%s/pull-request/%d/comment", at.path, at.pull), url.Values{"comment": {body}}, &ignored)
}

// newestComment is the text of our newest comment that begins with the line.
func newestComment(comments []pagureComment, user, first string) string {
	for _, c := range slices.Backward(comments) {
		line, _, _ := strings.Cut(c.Comment, "\n")
		if c.User.Name == user && strings.TrimRight(line, "\r") == first {
			return c.Comment
		}
	}
	return ""
}

// sameText compares what is left after a form's way: its line ends may change
// and its ends be trimmed.
func sameText(a, b string) bool {
	plain := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	return plain(a) == plain(b)
}

// maxPagureGroups bounds how many groups of a project are asked for.
const maxPagureGroups = 50

// MayWrite reads the project (GET /api/0/REPO): its owner, admins and
// committers may write, and members of the groups that it gives those rights
// (GET /api/0/group/NAME). Collaborators may write to some branches only and
// count as those who may not; so do a server's external committers, such as
// Fedora's provenpackagers, whom the API does not tell of.
func (p *Pagure) MayWrite(ctx context.Context, repo, user string) (bool, error) {
	path, err := pagurePath(repo)
	if err != nil {
		return false, err
	}
	s, err := p.session()
	if err != nil {
		return false, err
	}
	if !pagureWord(user) {
		return false, nil // Pagure has no such account
	}
	may, err := pagureMayWrite(ctx, s, path, user)
	return may, p.web.missing(ctx, "find out whether "+user+" may write to "+path, "a valid API key", err)
}

// pagureAccess is who has what right, by "owner", "admin", "commit",
// "collaborator" and "ticket".
type pagureAccess map[string][]string

// writers lists those who may write to every branch.
func (a pagureAccess) writers() []string { return slices.Concat(a["owner"], a["admin"], a["commit"]) }

func pagureMayWrite(ctx context.Context, s *pagureSession, path, user string) (bool, error) {
	var project struct {
		Name   string       `json:"name"`
		Users  pagureAccess `json:"access_users"`
		Groups pagureAccess `json:"access_groups"`
	}
	if err := s.get(ctx, path, &project); err != nil {
		return false, err
	}
	if slices.Contains(project.Users.writers(), user) {
		return true, nil
	}
	groups := project.Groups.writers()
	for _, name := range groups[:min(len(groups), maxPagureGroups)] {
		if !pagureWord(name) {
			continue
		}
		var group struct {
			Members []string `json:"members"`
		}
		err := s.get(ctx, "group/"+name, &group)
		if err != nil && !webAnswered(err, http.StatusNotFound) { // it was deleted since
			return false, err
		}
		if slices.Contains(group.Members, user) {
			return true, nil
		}
	}
	return false, nil
}

// PullRequest does GET /api/0/REPO/pull-request/N, then GET
// /api/0/REPO/git/branches?with_commits=true for BaseCommit, which is where the
// branch is now. A pull request whose commits Pagure has not looked at yet is a
// *RetryError.
func (p *Pagure) PullRequest(ctx context.Context, repo string, number int) (assay.PullRequest, error) {
	path, err := pagurePath(repo)
	if err != nil {
		return assay.PullRequest{}, err
	}
	if number <= 0 {
		return assay.PullRequest{}, permanent("cannot ask for pull request %d: its number must be positive", number)
	}
	s, err := p.session()
	if err != nil {
		return assay.PullRequest{}, err
	}
	what := fmt.Sprintf("read pull request %s#%d", path, number)
	pull, err := s.pull(ctx, path, number)
	if err != nil {
		return assay.PullRequest{}, p.web.missing(ctx, what, "a valid API key", err)
	}
	var now struct {
		Branches map[string]string `json:"branches"`
	}
	if err := s.get(ctx, path+"/git/branches?with_commits=true", &now); err != nil {
		return assay.PullRequest{}, p.web.missing(ctx, what, "a valid API key", err)
	}
	got := assay.PullRequest{Number: number, Open: pull.Status == "Open",
		Base: "refs/heads/" + pull.Branch, BaseCommit: now.Branches[pull.Branch], Head: pull.CommitStop}
	if pagureWord(pull.User.Name) {
		got.Author = pull.User.Name
	}
	if !refWord(pull.Branch) || !commitHash(got.Head) || !commitHash(got.BaseCommit) {
		return assay.PullRequest{}, &RetryError{Err: fmt.Errorf("cannot %s: %s has not looked at its commits yet", what, p.web.base.Host)}
	}
	return got, nil
}

// commitHash holds for what may be a commit's name.
func commitHash(sha string) bool { return checkCommit(assay.Commit{SHA: sha}) == nil }

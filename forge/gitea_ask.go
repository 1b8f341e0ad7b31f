package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/assay-ci/assay"
)

// MayWrite does GET /repos/O/R/collaborators/USER/permission, which knows teams
// and owners, too. It answers an administrator of the repository only; the list
// of assignees, which others may read, also has people who write to issues alone.
// An account that does not exist may not write.
func (g *Gitea) MayWrite(ctx context.Context, repo, user string) (bool, error) {
	path, err := g.repo(repo)
	if err != nil {
		return false, err
	}
	if !gitHubWord(user) {
		return false, permanent("cannot ask what the account %.40q may do: no account is called so", user)
	}
	s, err := g.session()
	if err != nil {
		return false, err
	}
	var told struct {
		Permission string `json:"permission"`
	}
	_, err = s.do(ctx, http.MethodGet, path+"/collaborators/"+user+"/permission", nil, &told)
	if answered(err, http.StatusNotFound) {
		var ignored struct{} // an object: a portal's page is no repository
		_, err = s.do(ctx, http.MethodGet, path, nil, &ignored)
		told.Permission = "none"
	}
	if err = giteaLevel(err, told.Permission); err != nil {
		what := fmt.Sprintf("ask what the account %s may do to %s", user, strings.TrimPrefix(path, "repos/"))
		return false, s.fail(ctx, what, "the scope read:repository and an administrator of the repository", err)
	}
	return giteaWriter(told.Permission), nil
}

// giteaLevel refuses levels that there are not.
func giteaLevel(err error, level string) error {
	if err != nil || giteaWriter(level) || level == "read" || level == "none" {
		return err
	}
	return fmt.Errorf("it tells an unknown permission, %.40q", level)
}

func giteaWriter(level string) bool {
	return level == "write" || level == "admin" || level == "owner"
}

// giteaPull is what we look at in a PullRequest.
type giteaPull struct {
	Number int         `json:"number"`
	State  string      `json:"state"`
	User   giteaUser   `json:"user"` // empty once the account is deleted
	Base   giteaBranch `json:"base"`
	Head   giteaBranch `json:"head"`
	Fork   string      `json:"merge_base"`
}

type giteaBranch struct {
	Ref string `json:"ref"`
	SHA string `json:"sha"`
}

// PullRequest does GET /repos/O/R/pulls/N. BaseCommit is the base branch's head
// as it is now, or where the two parted once that branch is deleted. The head of
// a closed one may be "", when its fork is gone.
func (g *Gitea) PullRequest(ctx context.Context, repo string, number int) (assay.PullRequest, error) {
	path, err := g.repo(repo)
	if err != nil {
		return assay.PullRequest{}, err
	}
	if number <= 0 {
		return assay.PullRequest{}, permanent("cannot ask for pull request %d: its number must be positive", number)
	}
	s, err := g.session()
	if err != nil {
		return assay.PullRequest{}, err
	}
	var told giteaPull
	_, err = s.do(ctx, http.MethodGet, fmt.Sprintf("%s/pulls/%d", path, number), nil, &told)
	if err == nil {
		err = told.check(number)
	}
	if err != nil {
		what := fmt.Sprintf("ask for pull request %s#%d", strings.TrimPrefix(path, "repos/"), number)
		return assay.PullRequest{}, s.fail(ctx, what, "the scope read:repository", err)
	}
	return told.pull(), nil
}

// check refuses an answer that is not about the pull request or names what could
// not be.
func (p giteaPull) check(number int) error {
	open := p.State == "open"
	switch {
	case p.Number != number:
		return fmt.Errorf("it tells of number %d", p.Number)
	case !open && p.State != "closed":
		return fmt.Errorf("it tells an unknown state, %.40q", p.State)
	case !branchName(p.Base.Ref):
		return fmt.Errorf("it tells no base branch: %.40q", p.Base.Ref)
	case p.User.Login != "" && !gitHubWord(p.User.Login):
		return fmt.Errorf("it tells an author that cannot be: %.40q", p.User.Login)
	case !commitName(p.Head.SHA) && (open || p.Head.SHA != ""):
		return fmt.Errorf("it tells no head: %.40q", p.Head.SHA)
	case !commitName(p.base()):
		return fmt.Errorf("it tells no base: %.40q", p.base())
	}
	return nil
}

func (p giteaPull) base() string {
	if p.Base.SHA == "" {
		return p.Fork
	}
	return p.Base.SHA
}

func (p giteaPull) pull() assay.PullRequest {
	return assay.PullRequest{
		Number: p.Number, Author: p.User.Login, Open: p.State == "open",
		Base: "refs/heads/" + p.Base.Ref, BaseCommit: p.base(), Head: p.Head.SHA,
	}
}

// commitName holds for what may be a commit's name.
func commitName(sha string) bool { return checkCommit(assay.Commit{SHA: sha}) == nil }

// branchName holds for what may be a branch (git-check-ref-format(1)), as far as
// it could hurt.
func branchName(s string) bool {
	bad := func(r rune) bool {
		return r == ' ' || !unicode.IsGraphic(r) || strings.ContainsRune("~^:?*[\\\uFFFD", r)
	}
	return s != "" && len(s) <= 255 && s[0] != '-' && s[0] != '/' && !strings.Contains(s, "..") && strings.IndexFunc(s, bad) < 0
}

// giteaPictures are the names of a reaction, best first: an operator may have
// allowed others only (app.ini, [ui] REACTIONS). The first of each is in the
// default.
func giteaPictures(reaction assay.Reaction) []string {
	switch reaction {
	case assay.ReactionDone:
		return []string{"+1", "rocket", "heart"}
	case assay.ReactionRefused:
		return []string{"-1", "confused"}
	case assay.ReactionConfused:
		return []string{"confused", "-1"}
	case assay.ReactionUnderstood:
		return []string{"eyes", "rocket", "+1"}
	}
	return nil
}

// React does POST /repos/O/R/issues/comments/ID/reactions, which answers the same
// for a reaction that is there already. The comment is "ID", "issue:ID" or
// "review:ID": on Gitea comments on lines are of the same series.
func (g *Gitea) React(ctx context.Context, commit assay.Commit, comment string, reaction assay.Reaction) error {
	path, err := g.repo(commit.Repo)
	if err != nil {
		return err
	}
	id, err := giteaCommentID(comment)
	if err != nil {
		return err
	}
	pictures := giteaPictures(reaction)
	if pictures == nil {
		return permanent("cannot answer the comment %s with %.40q: there is no such reaction", comment, reaction)
	}
	s, err := g.session()
	if err != nil {
		return err
	}
	for _, picture := range pictures {
		if err = s.react(ctx, fmt.Sprintf("%s/issues/comments/%d/reactions", path, id), picture); !notAllowed(err) {
			break
		}
	}
	what := fmt.Sprintf("answer the comment %d on %s", id, strings.TrimPrefix(path, "repos/"))
	return s.fail(ctx, what, "the scope write:issue", err)
}

func giteaCommentID(comment string) (int64, error) {
	kind, digits, found := strings.Cut(comment, ":")
	if !found {
		kind, digits = "issue", comment
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || id <= 0 || digits[0] == '+' || kind != "issue" && kind != "review" {
		return 0, permanent("cannot answer the comment %.40q: its name must be a number, with issue: or review: before it or without", comment)
	}
	return id, nil
}

func (s *giteaSession) react(ctx context.Context, path, picture string) error {
	type reaction struct {
		Content string `json:"content"`
	}
	var kept reaction
	_, err := s.do(ctx, http.MethodPost, path, reaction{picture}, &kept)
	if err == nil && kept.Content != picture {
		err = fmt.Errorf("it answers with another reaction, %.40q", kept.Content)
	}
	return err
}

// notAllowed tells that the server does not have this picture.
func notAllowed(err error) bool {
	var refusal *giteaRefusal
	return errors.As(err, &refusal) && refusal.code == http.StatusForbidden && strings.Contains(refusal.message, "not an allowed reaction")
}

package forge

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// Permissions that questions take.
const (
	needMetadata = `"Metadata" read, and an account that may push (classic: repo or public_repo)`
	needPulls    = `"Pull requests" read (classic: repo or public_repo)`
	needReact    = `"Pull requests" write (classic: repo or public_repo)`
)

// MayWrite does GET /repos/O/R/collaborators/USER/permission, whose "permission"
// is admin, write, read or none; it counts maintain as write and triage as
// read. An account that does not exist may not.
func (g *GitHub) MayWrite(ctx context.Context, repo, user string) (bool, error) {
	_, owner, name, err := ParseGitHub(repo)
	if err != nil {
		return false, &PermanentError{err}
	}
	if !gitHubAccount(user) {
		return false, permanent("cannot ask what %.60q may do in %s/%s: that is no name of an account", user, owner, name)
	}
	s, err := g.session(ctx, owner, name)
	if err != nil {
		return false, err
	}
	level, _, err := s.client.Repositories.GetPermissionLevel(ctx, owner, name, user)
	if resp, message := answerOf(err); resp != nil && resp.StatusCode == http.StatusNotFound && strings.HasSuffix(message, " is not a user") {
		return false, nil
	}
	if err != nil {
		return false, g.fail(ctx, fmt.Sprintf("ask what %s may do in %s/%s", user, owner, name), needMetadata, err)
	}
	switch level.GetPermission() {
	case "admin", "write":
		return true, nil
	case "read", "none":
		return false, nil
	}
	return false, &RetryError{Err: fmt.Errorf("cannot ask what %s may do in %s/%s: %s says %q, which it should not", user, owner, name, g.base.Host, Line(level.GetPermission()))}
}

// gitHubAccount holds for what GitHub may call an account: letters, digits,
// dashes, an underscore for managed ones, "[bot]" at the end of an App's.
func gitHubAccount(s string) bool {
	s = strings.TrimSuffix(s, "[bot]")
	return gitHubWord(s) && !strings.Contains(s, ".")
}

// PullRequest does GET /repos/O/R/pulls/N.
func (g *GitHub) PullRequest(ctx context.Context, repo string, number int) (assay.PullRequest, error) {
	_, owner, name, err := ParseGitHub(repo)
	if err != nil {
		return assay.PullRequest{}, &PermanentError{err}
	}
	if number <= 0 || number > math.MaxInt32 {
		return assay.PullRequest{}, permanent("cannot read pull request %d of %s/%s: its number must be positive", number, owner, name)
	}
	s, err := g.session(ctx, owner, name)
	if err != nil {
		return assay.PullRequest{}, err
	}
	what := fmt.Sprintf("read pull request %d of %s/%s", number, owner, name)
	found, _, err := s.client.PullRequests.Get(ctx, owner, name, number)
	if err != nil {
		return assay.PullRequest{}, g.fail(ctx, what, needPulls, err)
	}
	pull, ok := pullOf(found)
	if !ok || pull.Number != number {
		return assay.PullRequest{}, &RetryError{Err: fmt.Errorf("cannot %s: what %s says makes no sense", what, g.base.Host)}
	}
	return pull, nil
}

// pullOf looks at what a server says of a pull request.
func pullOf(p *github.PullRequest) (assay.PullRequest, bool) {
	base := p.GetBase().GetRef()
	pull := assay.PullRequest{
		Number: p.GetNumber(), Author: p.GetUser().GetLogin(), Open: p.GetState() == "open",
		Base: "refs/heads/" + base, BaseCommit: p.GetBase().GetSHA(), Head: p.GetHead().GetSHA(),
	}
	named := commitName(pull.BaseCommit) && commitName(pull.Head)
	return pull, named && branchName(base) && (pull.Author == "" || gitHubAccount(pull.Author)) // an account that was deleted has no name
}

// React does POST /repos/O/R/issues/comments/ID/reactions for a comment
// "issue:ID", which is below a pull request, or POST
// /repos/O/R/pulls/comments/ID/reactions for "review:ID", which is on its
// lines. GitHub gives one account's reaction of one kind once.
func (g *GitHub) React(ctx context.Context, commit assay.Commit, comment string, reaction assay.Reaction) error {
	_, owner, name, err := ParseGitHub(commit.Repo)
	if err != nil {
		return &PermanentError{err}
	}
	picture := map[assay.Reaction]string{
		assay.ReactionDone: "+1", assay.ReactionRefused: "-1",
		assay.ReactionConfused: "confused", assay.ReactionUnderstood: "eyes",
	}[reaction]
	if picture == "" {
		return permanent("cannot react with %.40q: it is no reaction that there is", reaction)
	}
	kind, id, ok := gitHubComment(comment)
	if !ok {
		return permanent("cannot react to the comment %.40q: its name must be issue:ID or review:ID", comment)
	}
	s, err := g.session(ctx, owner, name)
	if err != nil {
		return err
	}
	if kind == "review" {
		_, _, err = s.client.Reactions.CreatePullRequestCommentReaction(ctx, owner, name, id, picture)
	} else {
		_, _, err = s.client.Reactions.CreateIssueCommentReaction(ctx, owner, name, id, picture)
	}
	return g.fail(ctx, fmt.Sprintf("react to the comment %s in %s/%s", comment, owner, name), needReact, err)
}

// gitHubComment reads the name of a comment.
func gitHubComment(name string) (kind string, id int64, ok bool) {
	kind, number, _ := strings.Cut(name, ":")
	id, err := strconv.ParseInt(number, 10, 64)
	return kind, id, (kind == "issue" || kind == "review") && err == nil && id > 0 && strconv.FormatInt(id, 10) == number
}

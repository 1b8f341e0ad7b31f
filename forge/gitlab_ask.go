package forge

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/assay-ci/assay"
	gitlab "gitlab.com/gitlab-org/api/client-go"
)

// MayWrite asks for the account's id, then for its membership with what it
// inherits from groups (GET /projects/:id/members/all/:user_id): who has the
// role Developer or a higher one may push.
func (g *GitLab) MayWrite(ctx context.Context, repo, user string) (bool, error) {
	project, err := g.project(repo)
	if err != nil {
		return false, err
	}
	s, err := g.session()
	if err != nil {
		return false, err
	}
	if !gitLabWord(user) {
		return false, nil // GitLab has no such account
	}
	may, err := gitLabMayWrite(ctx, s, project, user)
	what := "find out whether " + user + " may write to " + project
	return may, g.web.missing(ctx, what, "the scope api", err)
}

func gitLabMayWrite(ctx context.Context, s *gitLabSession, project, user string) (bool, error) {
	id, err := gitLabUser(ctx, s, user)
	if err != nil {
		return false, err
	}
	if id == 0 {
		return false, gitLabProject(ctx, s, project)
	}
	member, _, err := s.client.ProjectMembers.GetInheritedProjectMember(project, id, gitlab.WithContext(ctx))
	if webAnswered(err, http.StatusNotFound) { // it is the membership or the project that there is not
		return false, gitLabProject(ctx, s, project)
	}
	if err != nil || member == nil || member.ID != id {
		return false, err
	}
	return member.AccessLevel >= gitlab.DeveloperPermissions && (member.State == "" || member.State == "active"), nil
}

func gitLabProject(ctx context.Context, s *gitLabSession, project string) error {
	_, _, err := s.client.Projects.GetProject(project, nil, gitlab.WithContext(ctx))
	return err
}

// gitLabUser does GET /users?username=NAME; 0: there is none.
func gitLabUser(ctx context.Context, s *gitLabSession, name string) (int64, error) {
	found, _, err := s.client.Users.ListUsers(&gitlab.ListUsersOptions{Username: &name}, gitlab.WithContext(ctx))
	if err != nil {
		return 0, err
	}
	for _, user := range found {
		if user != nil && strings.EqualFold(user.Username, name) {
			return user.ID, nil
		}
	}
	return 0, nil
}

// missing is fail, but what does not exist wraps assay.ErrNotFound.
func (w *webForge) missing(ctx context.Context, what, need string, err error) error {
	if webAnswered(err, http.StatusNotFound) && ctx.Err() == nil {
		return permanent("cannot %s: %s: %w (or hidden from the token in %s): it needs %s", what, w.base.Host, assay.ErrNotFound, w.tokenFile, need)
	}
	return w.fail(ctx, what, need, err)
}

// PullRequest does GET /projects/:id/merge_requests/:iid. A merge request whose
// diff GitLab has not prepared yet is a *RetryError. BaseCommit is where the
// target branch was when the newest commits came.
func (g *GitLab) PullRequest(ctx context.Context, repo string, number int) (assay.PullRequest, error) {
	project, err := g.project(repo)
	if err != nil {
		return assay.PullRequest{}, err
	}
	if number <= 0 {
		return assay.PullRequest{}, permanent("cannot ask for merge request %d: its number must be positive", number)
	}
	s, err := g.session()
	if err != nil {
		return assay.PullRequest{}, err
	}
	what := fmt.Sprintf("read merge request %s!%d", project, number)
	mr, err := mergeRequest(ctx, s, project, int64(number))
	if err != nil {
		return assay.PullRequest{}, g.web.missing(ctx, what, "the scope api", err)
	}
	pull := fromMergeRequest(mr)
	if mr.IID != int64(number) || !commitHash(pull.Head) || !commitHash(pull.BaseCommit) || !refWord(mr.TargetBranch) {
		return assay.PullRequest{}, &RetryError{Err: fmt.Errorf("cannot %s: %s has not prepared its commits yet", what, g.web.base.Host)}
	}
	return pull, nil
}

func fromMergeRequest(mr *gitlab.MergeRequest) assay.PullRequest {
	pull := assay.PullRequest{
		Number: int(mr.IID), Open: mr.State == "opened", Base: "refs/heads/" + mr.TargetBranch,
		BaseCommit: mr.DiffRefs.StartSha, Head: mr.SHA,
	}
	if pull.BaseCommit == "" {
		pull.BaseCommit = mr.DiffRefs.BaseSha
	}
	if mr.Author != nil && gitLabWord(mr.Author.Username) {
		pull.Author = mr.Author.Username
	}
	return pull
}

// refWord holds for a branch's name that may stand in a ref: what
// git-check-ref-format(1) allows, and no more than 255 bytes.
func refWord(s string) bool {
	if s == "" || len(s) > 255 || s[0] == '-' || s[0] == '/' || strings.HasSuffix(s, "/") || strings.HasSuffix(s, ".") || strings.HasSuffix(s, ".lock") {
		return false
	}
	for _, bad := range []string{"..", "//", "/.", "@{"} {
		if strings.Contains(s, bad) {
			return false
		}
	}
	return s[0] != '.' && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }) < 0
}

// React gives a note on a merge request an award emoji (POST
// …/notes/:note_id/award_emoji), unless we gave it before: GitLab refuses a
// second one. comment is the note's id in decimal digits.
func (g *GitLab) React(ctx context.Context, commit assay.Commit, comment string, reaction assay.Reaction) error {
	at, err := g.place(commit)
	if err != nil {
		return err
	}
	name := map[assay.Reaction]string{
		assay.ReactionDone: "thumbsup", assay.ReactionRefused: "thumbsdown",
		assay.ReactionConfused: "confused", assay.ReactionUnderstood: "eyes",
	}[reaction]
	note, err := strconv.ParseInt(comment, 10, 64)
	if err != nil || note <= 0 || strconv.FormatInt(note, 10) != comment || at.pull <= 0 || at.pull > math.MaxInt32 || name == "" {
		return permanent("cannot react with %.40q to the comment %.40q on %s!%d: there is no such reaction or comment", reaction, comment, at.project, at.pull)
	}
	key := fmt.Sprintf("%s!%d note %d", at.project, at.pull, note)
	release, err := g.locks.lock(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	s, err := g.session()
	if err != nil {
		return err
	}
	return g.web.missing(ctx, "react to "+key, gitLabNeed, g.award(ctx, s, at, note, name))
}

func (g *GitLab) award(ctx context.Context, s *gitLabSession, at gitLabPlace, note int64, name string) error {
	user, err := g.user(ctx, s)
	if err != nil {
		return err
	}
	options := &gitlab.ListAwardEmojiOptions{ListOptions: gitlab.ListOptions{PerPage: perPage}}
	for page := int64(1); page != 0 && page <= maxPages; {
		options.Page = page
		found, resp, err := s.client.AwardEmoji.ListMergeRequestAwardEmojiOnNote(at.project, at.pull, note, options, gitlab.WithContext(ctx))
		if err != nil {
			return err
		}
		for _, award := range found {
			if award != nil && award.Name == name && award.User.ID == user {
				return nil
			}
		}
		page = resp.NextPage
	}
	_, _, err = s.client.AwardEmoji.CreateMergeRequestAwardEmojiOnNote(at.project, at.pull, note, &gitlab.CreateAwardEmojiOptions{Name: name}, gitlab.WithContext(ctx))
	return err
}

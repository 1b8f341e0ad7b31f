package webhook

import (
	"fmt"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// gitHubIssueComment reads a comment below an issue or a pull request, which is
// an issue too and then has "pull_request". GitHub does not say the commit.
func gitHubIssueComment(payload []byte) (assay.Event, error) {
	var p github.IssueCommentEvent
	if err := parse(payload, &p); err != nil {
		return assay.Event{}, err
	}
	c, issue := p.GetComment(), p.GetIssue()
	e, r, err := gitHubRemark(p.GetRepo(), p.GetAction(), c.GetUser(), c.GetAuthorAssociation())
	if err != nil {
		return assay.Event{}, err
	}
	e.PullRequest = issue.GetNumber()
	r.id, r.text = commentID("issue", c.GetID()), c.GetBody()
	r.pull, r.open = issue.GetPullRequestLinks() != nil, issue.GetState() == "open"
	return commented(e, r)
}

// gitHubReviewComment reads a comment on lines of a pull request. Its event has
// the branches and commits of the pull request as they were then, when they are
// sound.
func gitHubReviewComment(payload []byte) (assay.Event, error) {
	var p github.PullRequestReviewCommentEvent
	if err := parse(payload, &p); err != nil {
		return assay.Event{}, err
	}
	c, pull := p.GetComment(), p.GetPullRequest()
	e, r, err := gitHubRemark(p.GetRepo(), p.GetAction(), c.GetUser(), c.GetAuthorAssociation())
	if err != nil {
		return assay.Event{}, err
	}
	e = below(e, gitHubPull(pull), pull.GetNumber())
	r.id, r.text = commentID("review", c.GetID()), c.GetBody()
	r.pull, r.open = true, pull.GetState() == "open"
	return commented(e, r)
}

// gitHubRemark is what both kinds of comment have in common. An app comments as
// a Bot; a program with a person's token looks like that person.
func gitHubRemark(repo *github.Repository, action string, by *github.User, association string) (assay.Event, remark, error) {
	name, err := gitHubRepo(repo.GetCloneURL(), repo.GetFullName())
	if err == nil {
		err = checkAction(action)
	}
	if err != nil {
		return assay.Event{}, remark{}, err
	}
	bot := by.GetType() == "Bot" || strings.HasSuffix(by.GetLogin(), "[bot]")
	e := assay.Event{Repo: name, Trusted: gitHubBelongs(association)}
	return e, remark{action: action, author: by.GetLogin(), bot: bot}, nil
}

// commentID tells an issue's comment from a review's: GitHub counts them apart
// and takes reactions to them in different places. "" when there is no id.
func commentID(kind string, id int64) string {
	if id <= 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", kind, id)
}

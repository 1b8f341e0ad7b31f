package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// Bounds of lists.
const (
	perPage  = 100 // the most that GitHub gives
	maxPages = 100
)

// maxGitHubBody is GitHub's limit for a comment, in characters ("body is too
// long (maximum is 65536 characters)").
const maxGitHubBody = 65536

const cutHere = "\n\n… (cut here: it was too long for a comment)"

// thread is where comments of one kind are: below a pull request (issue
// comments) or below a commit.
type thread interface {
	list(ctx context.Context, page int) ([]comment, *github.Response, error)
	create(ctx context.Context, body string) (id int64, err error)
	edit(ctx context.Context, id int64, body string) error
}

// comment is what we look at in either kind.
type comment struct {
	id, user    int64
	login, body string
}

// Comment finds our comment by its first line, which HTML hides, and by its
// author: anybody could write that line. It edits it, or writes a new one.
func (g *GitHub) Comment(ctx context.Context, commit assay.Commit, marker, body string) error {
	at, err := gitHubPlace(commit)
	if err != nil {
		return err
	}
	if err := checkComment(marker, body); err != nil {
		return err
	}
	key := fmt.Sprintf("the comment %s on %s", marker, at)
	if at.pull > 0 { // one comment over all its commits
		key = fmt.Sprintf("the comment %s on %s/%s#%d", marker, at.owner, at.name, at.pull)
	}
	// Without the lock two callers would both find nothing and write two.
	release, err := g.locks.lock(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	s, err := g.session(ctx, at.owner, at.name)
	if err != nil {
		return err
	}
	in, need := threadOf(s.client, at)
	err = g.comment(ctx, s, in, key, hidden(marker), gitHubBody(marker, body))
	return g.fail(ctx, "write "+key, need, err)
}

// hidden is a comment's first line.
func hidden(marker string) string { return "<!-- assay:" + marker + " -->" }

func gitHubBody(marker, body string) string {
	body = strings.ReplaceAll(strings.ToValidUTF8(body, "\uFFFD"), "\x00", "\uFFFD")
	head := hidden(marker) + "\n"
	room := maxGitHubBody - len(head)
	if runes := []rune(body); len(runes) > room {
		body = string(runes[:room-len([]rune(cutHere))]) + cutHere
	}
	return head + body
}

// comment edits the comment whose id we remember, else the one that is listed,
// else creates one. Listing is what costs most of a rate limit.
func (g *GitHub) comment(ctx context.Context, s *session, in thread, key, first, body string) error {
	if id, _ := g.known.get(key); id != 0 {
		err := in.edit(ctx, id, body)
		if !gone(err) {
			return err
		}
		g.known.forget(key) // somebody deleted it
	}
	if err := g.identify(ctx, s); err != nil {
		return err
	}
	old, err := find(ctx, in, s.author, first)
	if err != nil {
		return err
	}
	if old.id == 0 {
		old.id, err = in.create(ctx, body)
	} else if old.body != body {
		err = in.edit(ctx, old.id, body)
	}
	if err == nil {
		g.known.set(key, old.id)
	}
	return err
}

func find(ctx context.Context, in thread, by *author, first string) (comment, error) {
	for page := 1; page != 0 && page <= maxPages; {
		comments, resp, err := in.list(ctx, page)
		if err != nil {
			return comment{}, err
		}
		for _, c := range comments {
			line, _, _ := strings.Cut(c.body, "\n")
			if by.wrote(c) && strings.TrimRight(line, "\r") == first {
				return c, nil
			}
		}
		page = resp.NextPage
	}
	return comment{}, nil
}

func gone(err error) bool {
	var e *github.ErrorResponse
	return errors.As(err, &e) && e.Response != nil && e.Response.StatusCode == http.StatusNotFound
}

func threadOf(client *github.Client, at place) (in thread, need string) {
	if at.pull > 0 {
		return pullThread{client.Issues, at}, `"Pull requests" write (classic: repo or public_repo)`
	}
	return commitThread{client.Repositories, at}, `"Contents" (classic: repo or public_repo)`
}

// pullThread is /repos/O/R/issues/N/comments: a pull request is an issue there.
type pullThread struct {
	issues *github.IssuesService
	at     place
}

func (t pullThread) list(ctx context.Context, page int) ([]comment, *github.Response, error) {
	found, resp, err := t.issues.ListComments(ctx, t.at.owner, t.at.name, t.at.pull,
		&github.IssueListCommentsOptions{ListOptions: github.ListOptions{Page: page, PerPage: perPage}})
	comments := make([]comment, len(found))
	for i, c := range found {
		comments[i] = comment{c.GetID(), c.GetUser().GetID(), c.GetUser().GetLogin(), c.GetBody()}
	}
	return comments, resp, err
}

func (t pullThread) create(ctx context.Context, body string) (int64, error) {
	c, _, err := t.issues.CreateComment(ctx, t.at.owner, t.at.name, t.at.pull, &github.IssueComment{Body: &body})
	return c.GetID(), err
}

func (t pullThread) edit(ctx context.Context, id int64, body string) error {
	_, _, err := t.issues.EditComment(ctx, t.at.owner, t.at.name, id, &github.IssueComment{Body: &body})
	return err
}

// commitThread is /repos/O/R/commits/SHA/comments; single ones are at
// /repos/O/R/comments/ID.
type commitThread struct {
	repos *github.RepositoriesService
	at    place
}

func (t commitThread) list(ctx context.Context, page int) ([]comment, *github.Response, error) {
	found, resp, err := t.repos.ListCommitComments(ctx, t.at.owner, t.at.name, t.at.sha, &github.ListOptions{Page: page, PerPage: perPage})
	comments := make([]comment, len(found))
	for i, c := range found {
		comments[i] = comment{c.GetID(), c.GetUser().GetID(), c.GetUser().GetLogin(), c.GetBody()}
	}
	return comments, resp, err
}

func (t commitThread) create(ctx context.Context, body string) (int64, error) {
	c, _, err := t.repos.CreateComment(ctx, t.at.owner, t.at.name, t.at.sha, &github.RepositoryComment{Body: &body})
	return c.GetID(), err
}

func (t commitThread) edit(ctx context.Context, id int64, body string) error {
	_, _, err := t.repos.UpdateComment(ctx, t.at.owner, t.at.name, id, &github.RepositoryComment{Body: &body})
	return err
}

package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/assay-ci/assay"
)

// maxGiteaBody bounds a comment, in characters. Gitea names no limit; a body of
// this many fits where GitHub's does.
const maxGiteaBody = 65536

// Comment keeps the comment below the pull request. Gitea has no comments on
// commits: without a pull request there is nowhere to write to, Comment does
// nothing and returns nil, and the commit's statuses tell all. An error would
// say that a person must do something, and there is nothing to do.
//
// Our comment is found by its first line, which HTML hides, and by its author:
// anybody could write that line. A pull request that is not there is a
// *PermanentError that wraps assay.ErrNotFound.
func (g *Gitea) Comment(ctx context.Context, commit assay.Commit, marker, body string) error {
	at, err := g.place(commit)
	if err != nil {
		return err
	}
	if err := checkComment(marker, body); err != nil || at.pull == 0 {
		return err
	}
	key := fmt.Sprintf("the comment %s on %s#%d", marker, strings.TrimPrefix(at.repo, "repos/"), at.pull)
	// Without the lock two callers would both find nothing and write two.
	release, err := g.locks.lock(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	s, err := g.session()
	if err != nil {
		return err
	}
	err = s.comment(ctx, at, key, hidden(marker), giteaBody(marker, body))
	if answered(err, http.StatusInternalServerError) {
		err = s.orMissing(ctx, err, "the pull request", at.pullPath())
	}
	return s.fail(ctx, "write "+key, "the scope write:issue", err)
}

func (p giteaPlace) pullPath() string { return fmt.Sprintf("%s/pulls/%d", p.repo, p.pull) }

func (p giteaPlace) commentsPath() string {
	return fmt.Sprintf("%s/issues/%d/comments", p.repo, p.pull)
}

func giteaBody(marker, body string) string {
	body = strings.ReplaceAll(strings.ToValidUTF8(body, "\uFFFD"), "\x00", "\uFFFD")
	head := hidden(marker) + "\n"
	room := maxGiteaBody - len(head)
	if runes := []rune(body); len(runes) > room {
		body = string(runes[:room-len([]rune(cutHere))]) + cutHere
	}
	return head + body
}

// giteaComment is a comment as requests and answers have it.
type giteaComment struct {
	ID   int64     `json:"id,omitempty"`
	User giteaUser `json:"user,omitzero"`
	Body string    `json:"body"`
}

// comment edits the comment whose id we remember, else the one that is listed,
// else creates one. The list comes whole, so that remembering saves much.
func (s *giteaSession) comment(ctx context.Context, at giteaPlace, key, first, body string) error {
	if id, _ := s.known.get(key); id != 0 {
		err := s.edit(ctx, at, id, body)
		if !answered(err, http.StatusNotFound, http.StatusForbidden) {
			return err
		}
		s.known.forget(key) // somebody deleted it, or the token is another account's now
	}
	user, err := s.user(ctx)
	if err != nil {
		return err
	}
	old, err := s.find(ctx, at, user, first)
	if err != nil {
		return err
	}
	if old.ID == 0 {
		old.ID, err = s.create(ctx, at, body)
	} else if old.Body != body {
		err = s.edit(ctx, at, old.ID, body)
	}
	if err == nil {
		s.known.set(key, old.ID)
	}
	return err
}

// find lists the comments, oldest first. The documents know no pages of this
// list; should a server make some, its count tells.
func (s *giteaSession) find(ctx context.Context, at giteaPlace, user int64, first string) (giteaComment, error) {
	path := at.commentsPath()
	for page, seen := 1, 0; page <= maxPages; page++ {
		var comments []giteaComment
		header, err := s.do(ctx, http.MethodGet, path, nil, &comments)
		if err != nil {
			return giteaComment{}, err
		}
		for _, c := range comments {
			line, _, _ := strings.Cut(c.Body, "\n")
			if c.ID > 0 && c.User.ID == user && strings.TrimRight(line, "\r") == first {
				return c, nil
			}
		}
		if seen += len(comments); len(comments) == 0 || !moreThan(header, seen, false) {
			break
		}
		path = fmt.Sprintf("%s?page=%d", at.commentsPath(), page+1)
	}
	return giteaComment{}, nil
}

func (s *giteaSession) create(ctx context.Context, at giteaPlace, body string) (int64, error) {
	var kept giteaComment
	_, err := s.do(ctx, http.MethodPost, at.commentsPath(), giteaComment{Body: body}, &kept)
	if err == nil && kept.ID <= 0 {
		err = errors.New("it answers without the comment")
	}
	return kept.ID, err
}

func (s *giteaSession) edit(ctx context.Context, at giteaPlace, id int64, body string) error {
	var kept giteaComment
	_, err := s.do(ctx, http.MethodPatch, fmt.Sprintf("%s/issues/comments/%d", at.repo, id), giteaComment{Body: body}, &kept)
	if err == nil && kept.ID != id {
		err = errors.New("it answers with another comment")
	}
	return err
}

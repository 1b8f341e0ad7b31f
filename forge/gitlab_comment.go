package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/assay-ci/assay"
	gitlab "gitlab.com/gitlab-org/api/client-go"
)

// notesPerPage is small because a note may have a million characters, each of
// which may take six bytes ("\u003c"): a page of the greatest notes must stay
// below maxWebAnswer.
const notesPerPage = 10

// gitLabNote names a note; one on a commit is found through its discussion.
type gitLabNote struct {
	discussion string
	id         int64
}

// gitLabThread is where notes of one kind are.
type gitLabThread interface {
	// find returns our note whose first line is first, with its text.
	find(ctx context.Context, page, user int64, first string) (note gitLabNote, body string, next int64, err error)
	create(ctx context.Context, body string) (gitLabNote, error)
	edit(ctx context.Context, note gitLabNote, body string) error
}

// Comment finds our note by its first line, which GitLab's Markdown hides, and
// by its author. It edits it, or writes a new one.
func (g *GitLab) Comment(ctx context.Context, commit assay.Commit, marker, body string) error {
	at, err := g.place(commit)
	if err != nil {
		return err
	}
	if err := checkComment(marker, body); err != nil {
		return err
	}
	key := fmt.Sprintf("the comment %s on %s", marker, at)
	if at.pull > 0 { // one comment over all its commits
		key = fmt.Sprintf("the comment %s on %s!%d", marker, at.project, at.pull)
	}
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
	err = g.comment(ctx, s, at, key, hidden(marker), gitHubBody(marker, withoutActions(body)))
	return g.web.fail(ctx, "write "+key, gitLabNeed, err)
}

// withoutActions puts a space before a line that GitLab would take for a quick
// action ("/merge", "/approve") and do in our name. The space is not to be seen.
func withoutActions(body string) string {
	lines := strings.Split(strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\r", "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "/") {
			lines[i] = " " + line
		}
	}
	return strings.Join(lines, "\n")
}

// comment edits the note that we remember, else the one that is listed, else
// creates one.
func (g *GitLab) comment(ctx context.Context, s *gitLabSession, at gitLabPlace, key, first, body string) error {
	in := gitLabThreadOf(s.client, at)
	if note, ok := g.notes.get(key); ok {
		err := in.edit(ctx, note, body)
		if !webAnswered(err, http.StatusNotFound) {
			return err
		}
		g.notes.forget(key) // somebody deleted it
	}
	user, err := g.user(ctx, s)
	if err != nil {
		return err
	}
	note, old, err := findNote(ctx, in, user, first)
	if err != nil {
		return err
	}
	if note.id == 0 {
		note, err = in.create(ctx, body)
	} else if old != body {
		err = in.edit(ctx, note, body)
	}
	if err == nil {
		g.notes.set(key, note)
	}
	return err
}

func findNote(ctx context.Context, in gitLabThread, user int64, first string) (gitLabNote, string, error) {
	for page := int64(1); page != 0 && page <= maxPages; {
		note, body, next, err := in.find(ctx, page, user, first)
		if err != nil || note.id != 0 {
			return note, body, err
		}
		page = next
	}
	return gitLabNote{}, "", nil
}

// ours tells a note of the user's that begins with the line. A server may send
// null for a note.
func ours(note *gitlab.Note, user int64, first string) bool {
	if note == nil || note.ID == 0 || note.System || note.Author.ID != user {
		return false
	}
	line, _, _ := strings.Cut(note.Body, "\n")
	return strings.TrimRight(line, "\r") == first
}

func gitLabThreadOf(client *gitlab.Client, at gitLabPlace) gitLabThread {
	if at.pull > 0 {
		return mergeThread{client.Notes, at}
	}
	return discussionThread{client.Discussions, at}
}

// mergeThread is /projects/:id/merge_requests/:iid/notes.
type mergeThread struct {
	notes gitlab.NotesServiceInterface
	at    gitLabPlace
}

func (t mergeThread) find(ctx context.Context, page, user int64, first string) (gitLabNote, string, int64, error) {
	order, sort := "created_at", "asc" // ours is among the first
	found, resp, err := t.notes.ListMergeRequestNotes(t.at.project, t.at.pull, &gitlab.ListMergeRequestNotesOptions{
		ListOptions: gitlab.ListOptions{Page: page, PerPage: notesPerPage}, OrderBy: &order, Sort: &sort}, gitlab.WithContext(ctx))
	if err != nil {
		return gitLabNote{}, "", 0, err
	}
	for _, note := range found {
		if ours(note, user, first) {
			return gitLabNote{id: note.ID}, note.Body, 0, nil
		}
	}
	return gitLabNote{}, "", resp.NextPage, nil
}

func (t mergeThread) create(ctx context.Context, body string) (gitLabNote, error) {
	note, _, err := t.notes.CreateMergeRequestNote(t.at.project, t.at.pull, &gitlab.CreateMergeRequestNoteOptions{Body: &body}, gitlab.WithContext(ctx))
	if err != nil {
		return gitLabNote{}, err
	}
	if note == nil || note.ID == 0 {
		return gitLabNote{}, errors.New("the note has no id")
	}
	return gitLabNote{id: note.ID}, nil
}

func (t mergeThread) edit(ctx context.Context, note gitLabNote, body string) error {
	_, _, err := t.notes.UpdateMergeRequestNote(t.at.project, t.at.pull, note.id, &gitlab.UpdateMergeRequestNoteOptions{Body: &body}, gitlab.WithContext(ctx))
	return err
}

// discussionThread is /projects/:id/repository/commits/:sha/discussions.
type discussionThread struct {
	discussions gitlab.DiscussionsServiceInterface
	at          gitLabPlace
}

func (t discussionThread) find(ctx context.Context, page, user int64, first string) (gitLabNote, string, int64, error) {
	found, resp, err := t.discussions.ListCommitDiscussions(t.at.project, t.at.sha, &gitlab.ListCommitDiscussionsOptions{
		ListOptions: gitlab.ListOptions{Page: page, PerPage: notesPerPage}}, gitlab.WithContext(ctx))
	if err != nil {
		return gitLabNote{}, "", 0, err
	}
	for _, discussion := range found {
		if discussion == nil || !discussionID(discussion.ID) || len(discussion.Notes) == 0 || !ours(discussion.Notes[0], user, first) {
			continue
		}
		return gitLabNote{discussion.ID, discussion.Notes[0].ID}, discussion.Notes[0].Body, 0, nil
	}
	return gitLabNote{}, "", resp.NextPage, nil
}

func (t discussionThread) create(ctx context.Context, body string) (gitLabNote, error) {
	made, _, err := t.discussions.CreateCommitDiscussion(t.at.project, t.at.sha, &gitlab.CreateCommitDiscussionOptions{Body: &body}, gitlab.WithContext(ctx))
	if err != nil {
		return gitLabNote{}, err
	}
	if made == nil || !discussionID(made.ID) || len(made.Notes) == 0 || made.Notes[0] == nil || made.Notes[0].ID == 0 {
		return gitLabNote{}, errors.New("the discussion has no id")
	}
	return gitLabNote{made.ID, made.Notes[0].ID}, nil
}

func (t discussionThread) edit(ctx context.Context, note gitLabNote, body string) error {
	_, _, err := t.discussions.UpdateCommitDiscussionNote(t.at.project, t.at.sha, note.discussion, note.id,
		&gitlab.UpdateCommitDiscussionNoteOptions{Body: &body}, gitlab.WithContext(ctx))
	return err
}

// discussionID holds for what GitLab calls a discussion, hexadecimal digits: it
// will stand in a path.
func discussionID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

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

// maxGitLabURL is GitLab's limit for a status's address, in characters.
const maxGitLabURL = 255

// gitLabSeen is a status as GitLab has it, and where.
type gitLabSeen struct {
	state    gitlab.BuildStateValue // "" for none
	text     string
	url      string
	pipeline int64  // 0 for GitLab's choice
	ref      string // "" for GitLab's choice
}

// gitLabWanted is a status in GitLab's terms.
func gitLabWanted(s assay.Status) gitLabSeen {
	states := map[assay.StatusState]gitlab.BuildStateValue{
		assay.StatusPending: gitlab.Pending, assay.StatusSuccess: gitlab.Success,
		assay.StatusFailure: gitlab.Failed, assay.StatusError: gitlab.Canceled,
	}
	w := gitLabSeen{state: states[s.State], text: Line(s.Description), url: link(s.URL)}
	if len(w.url) > maxGitLabURL {
		w.url = ""
	}
	return w
}

// gitLabNext decides what to send when there is a status already: "" for
// nothing, because it is what is wanted or cannot be brought nearer to it.
func gitLabNext(now, want gitLabSeen) gitlab.BuildStateValue {
	same := now.text == want.text && now.url == want.url
	switch {
	case now.state == want.state && same:
		return ""
	case want.state == gitlab.Pending && now.state == gitlab.Running:
		return ""
	case want.state == gitlab.Pending && now.state == gitlab.Pending:
		return gitlab.Running
	}
	return want.state
}

const gitLabNeed = "the scope api and the role Developer"

// SetStatus does POST /projects/:id/statuses/:sha, see GitLab.
func (g *GitLab) SetStatus(ctx context.Context, commit assay.Commit, status assay.Status) error {
	at, err := g.place(commit)
	if err != nil {
		return err
	}
	if err := checkStatus(status); err != nil {
		return err
	}
	release, err := g.locks.lock(ctx, at.String())
	if err != nil {
		return err
	}
	defer release()
	s, err := g.session()
	if err != nil {
		return err
	}
	err = g.setStatus(ctx, s, at, status.Context, gitLabWanted(status))
	return g.web.fail(ctx, "set the status "+status.Context+" on "+at.String(), gitLabNeed, err)
}

func (g *GitLab) setStatus(ctx context.Context, s *gitLabSession, at gitLabPlace, name string, want gitLabSeen) error {
	key := at.String() + " " + name
	now, known := g.seen.get(key)
	// What would not be sent is looked up: others may have changed it since.
	if !known || gitLabNext(now, want) == "" {
		var err error
		if now, err = g.look(ctx, s, at, name); err != nil {
			return err
		}
	}
	next := gitLabNext(now, want)
	if next == "" {
		g.seen.set(key, now)
		return nil
	}
	g.seen.forget(key) // until the answer tells
	got, err := send(ctx, s, at, name, next, want, now)
	if webAnswered(err, http.StatusNotFound) && now.pipeline != 0 {
		got, err = send(ctx, s, at, name, next, want, gitLabSeen{ref: now.ref}) // the pipeline was deleted
	}
	if refusedMove(err) {
		got, err = g.moved(ctx, s, at, name, want, err)
	}
	if err == nil {
		g.seen.set(key, got)
	}
	return err
}

// moved is for a status that is not in the state that it was thought to be: it
// is looked at, and sent once more unless it is what is wanted.
func (g *GitLab) moved(ctx context.Context, s *gitLabSession, at gitLabPlace, name string, want gitLabSeen, refusal error) (gitLabSeen, error) {
	now, err := g.look(ctx, s, at, name)
	if err != nil {
		return now, err
	}
	next := gitLabNext(now, want)
	if next == "" {
		return now, nil
	}
	got, err := send(ctx, s, at, name, next, want, now)
	if refusedMove(err) {
		return got, &RetryError{Err: fmt.Errorf("cannot set the status %s on %s: somebody else changes it, too: %v", name, at, refusal)}
	}
	return got, err
}

// refusedMove tells GitLab's refusal of one state after another. Its text has
// been "Cannot transition status via :enqueue from :pending (…)" for ten years.
func refusedMove(err error) bool {
	var a *webAnswer
	return errors.As(err, &a) && a.code == http.StatusBadRequest && strings.Contains(a.message, "Cannot transition status")
}

func send(ctx context.Context, s *gitLabSession, at gitLabPlace, name string, state gitlab.BuildStateValue, want, where gitLabSeen) (gitLabSeen, error) {
	body := &gitlab.SetCommitStatusOptions{State: state, Name: &name, Description: &want.text}
	if want.url != "" {
		body.TargetURL = &want.url
	}
	if where.ref != "" {
		body.Ref = &where.ref
	}
	if where.pipeline != 0 {
		body.PipelineID = &where.pipeline
	}
	got, _, err := s.client.Commits.SetCommitStatus(at.project, at.sha, body, gitlab.WithContext(ctx))
	if err != nil {
		return gitLabSeen{}, err
	}
	if got == nil {
		return gitLabSeen{}, errors.New("the status is null")
	}
	return seenOf(got), nil
}

func seenOf(s *gitlab.CommitStatus) gitLabSeen {
	return gitLabSeen{state: gitlab.BuildStateValue(s.Status), text: s.Description, url: s.TargetURL, pipeline: s.PipelineID, ref: s.Ref}
}

// look returns the newest status of this name; when there is none, where the
// first one belongs.
func (g *GitLab) look(ctx context.Context, s *gitLabSession, at gitLabPlace, name string) (gitLabSeen, error) {
	newest, err := newestStatus(ctx, s, at, name)
	if err != nil {
		return gitLabSeen{}, err
	}
	if newest != nil {
		return seenOf(newest), nil
	}
	if at.pull == 0 {
		return gitLabSeen{}, nil
	}
	mr, err := mergeRequest(ctx, s, at.project, at.pull)
	if webAnswered(err, http.StatusNotFound) {
		return gitLabSeen{}, nil // it is not to be seen yet, or deleted: the commit is there
	}
	if err != nil {
		return gitLabSeen{}, err
	}
	return gitLabWhere(mr, at.sha), nil
}

// gitLabWhere says where the first status of a merge request's commit belongs.
func gitLabWhere(mr *gitlab.MergeRequest, sha string) gitLabSeen {
	if head := mr.HeadPipeline; head != nil && head.SHA == sha && head.ProjectID == mr.TargetProjectID {
		return gitLabSeen{pipeline: head.ID, ref: head.Ref}
	}
	if mr.SourceProjectID == mr.TargetProjectID {
		return gitLabSeen{ref: mr.SourceBranch}
	}
	return gitLabSeen{ref: fmt.Sprintf("refs/merge-requests/%d/head", mr.IID)}
}

// newestStatus does GET /projects/:id/repository/commits/:sha/statuses, which
// has the latest status of every name and pipeline. nil: there is none.
func newestStatus(ctx context.Context, s *gitLabSession, at gitLabPlace, name string) (*gitlab.CommitStatus, error) {
	var newest *gitlab.CommitStatus
	options := &gitlab.GetCommitStatusesOptions{ListOptions: gitlab.ListOptions{PerPage: perPage}, Name: &name}
	for page := int64(1); page != 0 && page <= maxPages; {
		options.Page = page
		found, resp, err := s.client.Commits.GetCommitStatuses(at.project, at.sha, options, gitlab.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		for _, status := range found {
			if status != nil && status.Name == name && (newest == nil || status.ID > newest.ID) {
				newest = status
			}
		}
		page = resp.NextPage
	}
	return newest, nil
}

// Status reads the newest status in one context, see newestStatus.
func (g *GitLab) Status(ctx context.Context, commit assay.Commit, context string) (assay.Status, bool, error) {
	at, err := g.place(commit)
	if err != nil {
		return assay.Status{}, false, err
	}
	s, err := g.session()
	if err != nil {
		return assay.Status{}, false, err
	}
	newest, err := newestStatus(ctx, s, at, context)
	if err != nil {
		return assay.Status{}, false, g.web.fail(ctx, "read the statuses of "+at.String(), gitLabNeed, err)
	}
	if newest == nil {
		return assay.Status{}, false, nil
	}
	return fromGitLab(newest), true, nil
}

func fromGitLab(s *gitlab.CommitStatus) assay.Status {
	state := assay.StatusPending // created, manual, preparing, …: it has not ended
	switch gitlab.BuildStateValue(s.Status) {
	case gitlab.Success:
		state = assay.StatusSuccess
	case gitlab.Failed:
		state = assay.StatusFailure
	case gitlab.Canceled, gitlab.Skipped:
		state = assay.StatusError
	}
	return assay.Status{Context: s.Name, State: state, Description: Line(s.Description), URL: link(s.TargetURL)}
}

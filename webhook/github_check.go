package webhook

import (
	"cmp"
	"fmt"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// gitHubCheckRun reads "Re-run" beside one check. GitHub sends that to the app
// whose check run it is and to nobody else (docs, "check_run"), so it is not
// asked again whether the app is ours. Assay gives its check runs the context as
// "external_id"; of others the name is taken.
func gitHubCheckRun(payload []byte) (assay.Event, error) {
	var p github.CheckRunEvent
	if err := parse(payload, &p); err != nil {
		return assay.Event{}, err
	}
	if p.CheckRun == nil {
		p.CheckRun = &github.CheckRun{}
	}
	run := p.CheckRun
	e, err := gitHubRerun("check_run", p.GetRepo(), p.GetAction(), p.GetSender(), run.GetHeadSHA(), run.PullRequests)
	if err != nil || e.Ignored != "" {
		return e, err
	}
	e.Context = cmp.Or(run.GetExternalID(), run.GetName())
	if !validText(e.Context, maxContext) {
		return assay.Event{}, fmt.Errorf("\"check_run.name\" must be 1 to %d bytes on one line, not %s", maxContext, quote(e.Context))
	}
	return e, nil
}

// maxContext is the longest context of a status, in bytes; GitHub's own limit is
// 255 characters.
const maxContext = 1024

// gitHubCheckSuite reads "Re-run all checks" of a commit.
func gitHubCheckSuite(payload []byte) (assay.Event, error) {
	var p github.CheckSuiteEvent
	if err := parse(payload, &p); err != nil {
		return assay.Event{}, err
	}
	if p.CheckSuite == nil {
		p.CheckSuite = &github.CheckSuite{}
	}
	suite := p.CheckSuite
	return gitHubRerun("check_suite", p.GetRepo(), p.GetAction(), p.GetSender(), suite.GetHeadSHA(), suite.PullRequests)
}

// gitHubRerun is a wish to have checks of a commit run again; kind is GitHub's
// name for what brings it. It means nothing but itself, since each click is a
// wish of its own, and is not trusted, since GitHub does not say what the person
// may do.
func gitHubRerun(kind assay.EventKind, repo *github.Repository, action string, by *github.User, commit string, pulls []*github.PullRequest) (assay.Event, error) {
	name, err := gitHubRepo(repo.GetCloneURL(), repo.GetFullName())
	if err == nil {
		err = checkAction(action)
	}
	if err != nil {
		return assay.Event{}, err
	}
	e := assay.Event{Kind: assay.EventRerun, Repo: name, Author: login(by.GetLogin())}
	if validCommit(commit) {
		e.Commit = commit
	}
	switch {
	case action != "rerequested":
		e.Kind, e.Ignored = kind, fmt.Sprintf("the check's action is %q, and only a request to run it again counts", action)
		return e, nil
	case e.Commit == "":
		return assay.Event{}, fmt.Errorf("\"head_sha\" must be %s, not %s", wantCommit, quote(commit))
	}
	return gitHubRerunOf(e, repo.GetID(), pulls), nil
}

// gitHubRerunOf adds the pull request, if one is given: GitHub lists those with
// this head, also such that are opened in other repositories, and none from forks.
func gitHubRerunOf(e assay.Event, repo int64, pulls []*github.PullRequest) assay.Event {
	for _, pull := range pulls {
		at := gitHubPull(pull)
		at.PullRequest = pull.GetNumber()
		if at.Commit == e.Commit && pull.GetBase().GetRepo().GetID() == repo && checkPullRequest(at) == nil {
			e.PullRequest, e.Ref, e.Before = at.PullRequest, at.Ref, at.Before
			return e
		}
	}
	return e
}

package webhook

import (
	"fmt"
	"strings"

	"github.com/assay-ci/assay"
)

// gitHubOther is an event that starts nothing, with what it says of the
// repository and who did it.
func gitHubOther(kind string, payload []byte) assay.Event {
	e := assay.Event{Kind: assay.EventKind(kind), Trusted: true, Ignored: idleEvent(kind)}
	var p idlePayload
	if parse(payload, &p) == nil {
		e.Repo, _ = gitHubRepo(p.Repository.CloneURL, p.Repository.FullName)
		e.Author, e.Ref, e.Commit = login(p.Sender.Login), p.ref(), p.commit()
	}
	return e
}

// idlePayload is what the payloads of events that start nothing have in common,
// each of them some of it.
type idlePayload struct {
	Ref        string  `json:"ref"`      // short, of create and delete
	RefType    string  `json:"ref_type"` // "branch" or "tag"
	SHA        string  `json:"sha"`      // of status
	Sender     account `json:"sender"`
	Repository struct {
		FullName string `json:"full_name"`
		CloneURL string `json:"clone_url"`
	} `json:"repository"`
}

// ref is the full name of the ref that was created or deleted, "" for none.
// Gitea has the full name of some already.
func (p idlePayload) ref() string {
	full := p.Ref
	switch {
	case validRef(full):
		return full
	case p.RefType == "branch":
		full = "refs/heads/" + full
	case p.RefType == "tag":
		full = "refs/tags/" + full
	}
	if !validRef(full) {
		return ""
	}
	return full
}

func (p idlePayload) commit() string {
	if !validCommit(p.SHA) {
		return ""
	}
	return p.SHA
}

// idleEvent tells why an event of GitHub, Gitea or Forgejo starts nothing, in
// words for the maintainer who looks for the run that never came.
func idleEvent(kind string) string {
	if strings.HasPrefix(kind, "workflow_") || strings.HasPrefix(kind, "action_run_") || kind == "schedule" {
		return "the forge's own workflows start no checks"
	}
	switch kind {
	case "status":
		return "a status starts no checks: those that Assay sets come back this way"
	case "create":
		return "a branch or tag was created: the push that brings its commits is an event of its own"
	case "delete":
		return "a branch or tag was deleted: there is nothing to check"
	case "release":
		return "a release starts no checks: its commits came with a push"
	case "installation", "installation_repositories", "installation_target":
		return "the app's installation changed: Assay's configuration says which repositories count"
	case "pull_request_review", "pull_request_review_thread",
		"pull_request_approved", "pull_request_rejected", "pull_request_comment":
		return "a review starts no checks: commands are taken from comments"
	case "repository", "fork", "meta":
		return "the repository or its webhook changed, and no commits with it"
	}
	return fmt.Sprintf("the event %q starts no checks", kind)
}

package webhook

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

// Headers of GitHub's deliveries (docs, "Webhook events and payloads", delivery
// headers).
const (
	gitHubEvent     = "X-GitHub-Event"
	gitHubDelivery  = "X-GitHub-Delivery"
	gitHubSignature = "X-Hub-Signature-256"
)

// GitHub is the Source of github.com's and GitHub Enterprise Server's webhooks,
// with a body of JSON or form-encoded (payload=…), which GitHub signs as it is
// sent.
//
// An event's Repo is "HOST/OWNER/NAME", HOST being that of the repository's
// clone address: "github.com/octocat/hello". A pull request's Ref is its base
// branch, Before the base branch's commit, Commit its head. The package comment
// has the table of what each event becomes.
type GitHub struct{ signer }

// NewGitHub returns the source that takes GitHub's deliveries signed with one
// of keys.
func NewGitHub(keys Keys) *GitHub { return &GitHub{newSigner(keys, gitHubSignature)} }

var _ Source = (*GitHub)(nil)

const form = "application/x-www-form-urlencoded"

// ContentTypes lists what a GitHub webhook can be set to send.
func (*GitHub) ContentTypes() []string { return []string{"application/json", form} }

// Delivery returns GitHub's id of the delivery, unchecked.
func (*GitHub) Delivery(header http.Header) string { return header.Get(gitHubDelivery) }

// Decode returns one event. What it does not know comes out ignored, never as
// an error: GitHub adds events and actions as it likes. The kind of an ignored
// one is GitHub's own name for it ("issues").
func (s *GitHub) Decode(header http.Header, body []byte) ([]assay.Event, error) {
	if err := fromGitHub(header); err != nil {
		return nil, err
	}
	kind, delivery := header.Get(gitHubEvent), s.Delivery(header)
	if !madeOf(kind, letters, alnum+"_", 64) {
		return nil, fmt.Errorf("cannot take the delivery: the %s header must name an event, not %s", gitHubEvent, quote(kind))
	}
	if !validID(delivery) {
		return nil, fmt.Errorf("cannot take the delivery: the %s header must be %s, not %s", gitHubDelivery, wantID, quote(delivery))
	}
	payload, err := formPayload(header, body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the %s event: %v", kind, err)
	}
	e, err := gitHubDecode(kind, payload)
	if err != nil {
		return nil, fmt.Errorf("cannot read the %s event: %v", kind, err)
	}
	e.Delivery = delivery
	return []assay.Event{e}, nil
}

// fromGitHub refuses what Gitea, Forgejo and Gogs send with GitHub's headers
// beside their own: much of it reads the same and means something else, trust
// for one.
func fromGitHub(header http.Header) error {
	for _, name := range []string{"X-Forgejo-Event", "X-Gitea-Event", "X-Gogs-Event"} {
		if _, found := header[name]; found {
			return fmt.Errorf("cannot take the delivery: its %s header says that it is not GitHub's: send it to the source of that forge, such as /hooks/gitea", name)
		}
	}
	return nil
}

// formPayload takes the JSON out of a form-encoded body.
func formPayload(header http.Header, body []byte) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != form {
		return body, nil
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the form is malformed")
	}
	if n := len(values["payload"]); n != 1 {
		return nil, fmt.Errorf("the form has %d fields named payload instead of one", n)
	}
	return []byte(values.Get("payload")), nil
}

func gitHubDecode(kind string, payload []byte) (assay.Event, error) {
	switch kind {
	case "ping":
		return assay.Event{Kind: assay.EventPing, Ignored: "a ping"}, nil
	case "push":
		return gitHubPush(payload)
	case "pull_request":
		return gitHubPullRequest(payload)
	case "issue_comment":
		return gitHubIssueComment(payload)
	case "pull_request_review_comment":
		return gitHubReviewComment(payload)
	case "check_run":
		return gitHubCheckRun(payload)
	case "check_suite":
		return gitHubCheckSuite(payload)
	default:
		return gitHubOther(kind, payload), nil
	}
}

// parse fills a go-github type. Fields of the wrong type are left empty: what
// matters is checked afterwards, and the rest may change as GitHub likes.
func parse(payload []byte, into any) error {
	if err := checkShape(payload); err != nil {
		return err
	}
	return decode(payload, into)
}

// decode is parse of what has a good shape.
func decode(payload []byte, into any) error {
	err := json.Unmarshal(payload, into)
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return objectError(syntax)
	case errors.As(err, &mistyped) && mistyped.Field != "":
		return nil
	case err != nil:
		return errors.New("it is not the JSON object that the forge documents")
	}
	return nil
}

// gitHubPushed is what we look at of a github.PushEvent. Pushes are what a forge
// sends most of, with twenty commits each: to skip what nobody looks at halves the
// time.
type gitHubPushed struct {
	Ref        string `json:"ref"`
	Before     string `json:"before"`
	After      string `json:"after"`
	Deleted    bool   `json:"deleted"`
	Repository struct {
		CloneURL string `json:"clone_url"`
		FullName string `json:"full_name"`
	} `json:"repository"`
	Sender struct {
		Login string `json:"login"`
	} `json:"sender"`
	Pusher struct {
		Name string `json:"name"`
	} `json:"pusher"`
}

func gitHubPush(payload []byte) (assay.Event, error) {
	if err := checkShape(payload); err != nil {
		return assay.Event{}, err
	}
	var p gitHubPushed
	if err := decode(members(payload, "ref", "before", "after", "deleted", "repository", "sender", "pusher"), &p); err != nil {
		return assay.Event{}, err
	}
	repo, err := gitHubRepo(p.Repository.CloneURL, p.Repository.FullName)
	if err != nil {
		return assay.Event{}, err
	}
	e := assay.Event{
		Kind: assay.EventPush, Trusted: true,
		Repo: repo, Ref: p.Ref, Before: p.Before, Commit: p.After,
		Author: login(cmp.Or(p.Sender.Login, p.Pusher.Name)),
	}
	if err := checkPush(e); err != nil {
		return assay.Event{}, err
	}
	if p.Deleted {
		e.Commit = strings.Repeat("0", len(e.Commit))
	}
	return pushed(e), nil
}

func checkPush(e assay.Event) error {
	switch {
	case !validRef(e.Ref):
		return fmt.Errorf("\"ref\" must be a full ref name, not %s", quote(e.Ref))
	case !validHash(e.Before):
		return fmt.Errorf("\"before\" must be 40 or 64 hex digits, not %s", quote(e.Before))
	case !validHash(e.Commit):
		return fmt.Errorf("\"after\" must be 40 or 64 hex digits, not %s", quote(e.Commit))
	}
	return nil
}

func gitHubPullRequest(payload []byte) (assay.Event, error) {
	var p github.PullRequestEvent
	if err := parse(payload, &p); err != nil {
		return assay.Event{}, err
	}
	repo, err := gitHubRepo(p.GetRepo().GetCloneURL(), p.GetRepo().GetFullName())
	if err != nil {
		return assay.Event{}, err
	}
	if err := checkAction(p.GetAction()); err != nil {
		return assay.Event{}, err
	}
	pull := p.GetPullRequest()
	e := gitHubPull(pull)
	e.Kind, e.Repo, e.PullRequest = assay.EventPullRequest, repo, p.GetNumber()
	// Who wrote the pull request, not who pushed or opened it again: a maintainer
	// who does that vouches for nothing in it.
	e.Author = login(pull.GetUser().GetLogin())
	e.Trusted = gitHubTrusts(p)
	rebased := p.GetChanges().GetBase() != nil
	return proposed(e, idleAction(p.GetAction(), rebased, pull.GetMerged()))
}

// gitHubPull is what a pull request says of branches and commits.
func gitHubPull(pull *github.PullRequest) assay.Event {
	return assay.Event{
		Ref:    "refs/heads/" + pull.GetBase().GetRef(),
		Before: pull.GetBase().GetSHA(), Commit: pull.GetHead().GetSHA(),
	}
}

// proposed finishes the event of a pull request. One that is ignored anyway may
// be as odd as it likes: then only what is sound of it is kept.
func proposed(e assay.Event, ignored string) (assay.Event, error) {
	return proposedIf(e, ignored, checkPullRequest(e))
}

// proposedIf is proposed for an event of which it is known what is wrong.
func proposedIf(e assay.Event, ignored string, wrong error) (assay.Event, error) {
	switch {
	case ignored != "" && wrong != nil:
		return assay.Event{Kind: e.Kind, Repo: e.Repo, Author: e.Author, Ignored: ignored}, nil
	case ignored != "":
		e.Ignored = ignored
		return e, nil
	case wrong != nil:
		return assay.Event{}, wrong
	}
	e.Meaning = meaning(e.Kind, e.Repo, e.Ref, e.Commit, strconv.Itoa(e.PullRequest))
	return e, nil
}

// idleAction tells why an action of a pull request calls for nothing, "" if it
// does. After those that do there are commits to check; a draft that becomes
// ready, or a pull request that is opened again, means the same as what came
// before it unless its commit is new. One that is rebased has another base
// branch. GitHub says "synchronize" where Gitea says "synchronized".
func idleAction(action string, rebased, merged bool) string {
	switch action {
	case "opened", "synchronize", "synchronized", "reopened", "ready_for_review":
		return ""
	case "edited":
		if rebased {
			return ""
		}
	case "closed":
		if merged {
			return "the pull request was merged: the push to its base branch is an event of its own"
		}
		return "the pull request was closed"
	}
	return fmt.Sprintf("the pull request's action %q brings no commits to check", action)
}

func checkAction(action string) error {
	if !madeOf(action, letters, alnum+"_", 64) {
		return fmt.Errorf("\"action\" must be a word, not %s", quote(action))
	}
	return nil
}

func checkPullRequest(e assay.Event) error {
	switch {
	case e.PullRequest <= 0:
		return errors.New("\"number\" must be a positive number")
	case !validRef(e.Ref):
		return fmt.Errorf("\"pull_request.base.ref\" must be a branch, not %s", quote(e.Ref))
	case !validCommit(e.Before):
		return fmt.Errorf("\"pull_request.base.sha\" must be %s, not %s", wantCommit, quote(e.Before))
	case !validCommit(e.Commit):
		return fmt.Errorf("\"pull_request.head.sha\" must be %s, not %s", wantCommit, quote(e.Commit))
	}
	return nil
}

// gitHubTrusts tells whether the author may write: the head is a branch of the
// repository itself, or GitHub says that the author belongs to it.
func gitHubTrusts(p github.PullRequestEvent) bool {
	head, base := p.GetPullRequest().GetHead().GetRepo(), p.GetRepo()
	if head != nil && head.GetID() == base.GetID() && head.GetFullName() != "" && head.GetFullName() == base.GetFullName() {
		return true
	}
	return gitHubBelongs(p.GetPullRequest().GetAuthorAssociation())
}

// gitHubBelongs reads an "author_association"; a CONTRIBUTOR only had something
// merged once.
func gitHubBelongs(association string) bool {
	return slices.Contains([]string{"OWNER", "MEMBER", "COLLABORATOR"}, association)
}

// gitHubRepo names a repository by the host of its clone address and its full
// name. The host tells github.com's from an Enterprise Server's of the same name.
func gitHubRepo(clone, full string) (string, error) {
	u, ok := address(clone, "http", "https")
	if !ok || u.User != nil || !madeOf(u.Host, alnum, alnum+".:-", maxName*2) {
		return "", fmt.Errorf("\"repository.clone_url\" must be an https address, not %s", quote(clone))
	}
	owner, name, _ := strings.Cut(full, "/")
	if !madeOf(owner, alnum+"_", nameRest, maxName) || !madeOf(name, nameRest, nameRest, maxName) || strings.Trim(name, ".") == "" {
		return "", fmt.Errorf("\"repository.full_name\" must be OWNER/NAME, not %s", quote(full))
	}
	return strings.ToLower(u.Host) + "/" + owner + "/" + name, nil
}

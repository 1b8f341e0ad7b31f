package webhook

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/assay-ci/assay"
)

// Gitea is the Source of the webhooks of Gitea and of Forgejo, which began as a
// copy of it, with a body of JSON or form-encoded (payload=…). Both are made by
// the webhook types "Gitea" and "Forgejo"; the others speak to other programs.
//
// Both send GitHub's and Gogs' headers beside their own ("Webhooks", delivery
// headers). Those are not looked at: Gitea's "pull_request" is not GitHub's.
//
// An event's Repo is "HOST/OWNER/NAME"; below ROOT_URL's path, if it has one,
// "HOST/PATH/OWNER/NAME". Both forges send a delivery again under a new id, and
// neither does so by itself.
type Gitea struct {
	signer
	families []string // "X-Gitea", "X-Forgejo": of the headers, the first first
}

// NewGitea returns the source that takes Gitea's deliveries signed with one of
// keys.
func NewGitea(keys Keys) *Gitea { return newGitea(keys, "X-Gitea", "X-Forgejo") }

// NewForgejo returns the source that takes Forgejo's deliveries signed with one
// of keys. It takes Gitea's as well, as NewGitea takes Forgejo's.
func NewForgejo(keys Keys) *Gitea { return newGitea(keys, "X-Forgejo", "X-Gitea") }

func newGitea(keys Keys, families ...string) *Gitea {
	return &Gitea{newSignerOf(keys, giteaScheme(families)), families}
}

var _ Source = (*Gitea)(nil)

// ContentTypes lists what a webhook can be set to send by POST.
func (*Gitea) ContentTypes() []string { return []string{"application/json", form} }

// Delivery returns the forge's id of the delivery, unchecked.
func (s *Gitea) Delivery(header http.Header) string { return s.header(header, "-Delivery") }

// header reads what has the same name in each family.
func (s *Gitea) header(header http.Header, name string) string {
	for _, family := range s.families {
		if value := header.Get(family + name); value != "" {
			return value
		}
	}
	return ""
}

// giteaScheme reads the forge's own signature, or GitHub's header where a proxy
// lets only that pass. What is signed is the JSON, also when a form carries it
// (services/webhook/deliver.go of Gitea and Forgejo; the documentation says "the
// raw body", which is true of JSON only).
func giteaScheme(families []string) scheme {
	own := make([]string, len(families))
	for i, family := range families {
		own[i] = family + "-Signature"
	}
	bare, hub := hexScheme("", own...), hexScheme("sha256=", gitHubSignature)
	return func(header http.Header, body []byte) (func([]byte) bool, error) {
		payload, err := formPayload(header, body)
		if err != nil {
			return nil, err
		}
		for _, name := range own {
			if header.Get(name) != "" {
				return bare(header, payload)
			}
		}
		if header.Get(gitHubSignature) != "" {
			return hub(header, payload)
		}
		return bare(header, payload)
	}
}

// Decode returns one event. What it does not know comes out ignored, never as
// an error. The kind of an ignored one is the forge's own name for it
// ("issues"). Some versions leave X-Gitea-Event empty for what they added late
// (packages, statuses); X-Gitea-Event-Type names those.
func (s *Gitea) Decode(header http.Header, body []byte) ([]assay.Event, error) {
	kind := cmp.Or(s.header(header, "-Event"), s.header(header, "-Event-Type"))
	delivery := s.Delivery(header)
	if !madeOf(kind, letters, alnum+"_", 64) {
		return nil, fmt.Errorf("cannot take the delivery: the %s-Event header must name an event, not %s", s.families[0], quote(kind))
	}
	if !validID(delivery) {
		return nil, fmt.Errorf("cannot take the delivery: the %s-Delivery header must be %s, not %s", s.families[0], wantID, quote(delivery))
	}
	payload, err := formPayload(header, body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the %s event: %v", kind, err)
	}
	e, err := giteaDecode(kind, payload)
	if err != nil {
		return nil, fmt.Errorf("cannot read the %s event: %v", kind, err)
	}
	e.Delivery = delivery
	return []assay.Event{e}, nil
}

func giteaDecode(kind string, payload []byte) (assay.Event, error) {
	var decode func(giteaPayload, string) (assay.Event, error)
	switch kind {
	case "push":
		decode = giteaPush
	case "pull_request", "pull_request_sync":
		decode = giteaPullRequest
	case "issue_comment", "pull_request_comment":
		decode = giteaComment
	default:
		return giteaOther(kind, payload), nil
	}
	var p giteaPayload
	if err := parse(payload, &p); err != nil {
		return assay.Event{}, err
	}
	repo, err := giteaName(p.Repository)
	if err != nil {
		return assay.Event{}, err
	}
	return decode(p, repo)
}

func giteaPush(p giteaPayload, repo string) (assay.Event, error) {
	e := assay.Event{
		Kind: assay.EventPush, Trusted: true, Author: login(cmp.Or(p.Sender.Login, p.Pusher.Login)),
		Repo: repo, Ref: p.Ref, Before: p.Before, Commit: p.After,
	}
	if err := checkPush(e); err != nil {
		return assay.Event{}, err
	}
	e = pushed(e)
	// "Test delivery" on the webhook's page sends a push that moves nothing.
	if e.Before == e.Commit && e.Commit != "" {
		e.Meaning, e.Ignored = "", "a test delivery: it says that a branch was pushed to where it was"
	}
	return e, nil
}

func giteaPullRequest(p giteaPayload, repo string) (assay.Event, error) {
	if err := checkAction(p.Action); err != nil {
		return assay.Event{}, err
	}
	e := p.PullRequest.event()
	e.Kind, e.Repo, e.PullRequest = assay.EventPullRequest, repo, p.Number
	e.Author = login(p.PullRequest.User.Login) // not who pushed to it or opened it again
	e.Trusted = p.PullRequest.trusted(p.Repository.ID)
	return proposed(e, idleAction(p.Action, p.Changes.Ref != nil, p.PullRequest.Merged))
}

// giteaComment reads a comment below an issue or a pull request. Both events
// may be either of two things: X-Gitea-Event "pull_request_comment" is a review,
// whose text has no id to answer to, and X-Gitea-Event-Type of the same name is
// a comment.
func giteaComment(p giteaPayload, repo string) (assay.Event, error) {
	e := assay.Event{Repo: repo, Author: login(p.Sender.Login), PullRequest: max(p.Number, 0)}
	if p.Comment == nil {
		e.Kind, e.Ignored = assay.EventComment, idleEvent("pull_request_review")
		return e, nil
	}
	if err := checkAction(p.Action); err != nil {
		return assay.Event{}, err
	}
	by := p.Comment.User
	return commented(below(e, p.PullRequest.event(), p.Issue.Number), remark{
		action: p.Action, id: commentID("issue", p.Comment.ID), text: p.Comment.Body,
		author: by.Login, bot: by.ID < 0, // Actions and Ghost have negative ids
		pull: p.IsPull, open: p.Issue.State == "open",
	})
}

func giteaOther(kind string, payload []byte) assay.Event {
	e := assay.Event{Kind: assay.EventKind(kind), Trusted: true, Ignored: idleEvent(kind)}
	var p giteaIdle
	if parse(payload, &p) == nil {
		e.Repo, _ = giteaName(p.repo())
		e.Author, e.Ref, e.Commit = login(p.Sender.Login), p.ref(), p.commit()
	}
	return e
}

// giteaIdle is what is read of the payloads of events that start nothing.
type giteaIdle struct {
	idlePayload
	Repository giteaRepo  `json:"repository"`
	Forkee     *giteaRepo `json:"forkee"`
	Run        struct {
		Repository *giteaRepo `json:"repository"`
	} `json:"run"` // of Forgejo's action_run_…
}

// repo is the repository whose webhook it is. Of a fork that is what the payload
// calls the forkee, the other way round than on GitHub (services/webhook,
// ForkRepository).
func (p giteaIdle) repo() giteaRepo {
	switch {
	case p.Forkee != nil:
		return *p.Forkee
	case p.Run.Repository != nil:
		return *p.Run.Repository
	}
	return p.Repository
}

// giteaPayload is what is read of the payloads of events that may count, each of
// which has some of it (modules/structs/hook.go of Gitea and Forgejo). The SDK
// has no types for it.
type giteaPayload struct {
	Action     string    `json:"action"`
	Repository giteaRepo `json:"repository"`
	Sender     account   `json:"sender"`

	Ref    string  `json:"ref"`
	Before string  `json:"before"`
	After  string  `json:"after"`
	Pusher account `json:"pusher"`

	Number      int       `json:"number"`
	PullRequest giteaPull `json:"pull_request"`
	Changes     struct {
		Ref *struct{} `json:"ref"` // of the base branch
	} `json:"changes"`

	IsPull bool `json:"is_pull"`
	Issue  struct {
		Number int    `json:"number"`
		State  string `json:"state"`
	} `json:"issue"`
	Comment *struct {
		ID   int64   `json:"id"`
		Body string  `json:"body"`
		User account `json:"user"`
	} `json:"comment"`
}

type giteaRepo struct {
	ID       int64  `json:"id"`
	FullName string `json:"full_name"`
	CloneURL string `json:"clone_url"`
}

type giteaPull struct {
	User   account     `json:"user"`
	Merged bool        `json:"merged"`
	Base   giteaBranch `json:"base"`
	Head   giteaBranch `json:"head"`
}

type giteaBranch struct {
	Label  string `json:"label"`
	Ref    string `json:"ref"`
	SHA    string `json:"sha"`
	RepoID int64  `json:"repo_id"`
}

func (p giteaPull) event() assay.Event {
	return assay.Event{Ref: "refs/heads/" + p.Base.Ref, Before: p.Base.SHA, Commit: p.Head.SHA}
}

// trusted tells whether the head is a branch of the repository itself, which
// only they can push who may write. A pull request that was made by pushing to
// refs/for/BRANCH (AGit flow) has the same repository as its head though anyone
// who reads may do that: its label is empty and its ref no branch
// (services/convert/pull.go). Authors' rights are not told.
func (p giteaPull) trusted(repo int64) bool {
	same := repo > 0 && p.Base.RepoID == repo && p.Head.RepoID == repo
	return same && p.Head.Label != "" && p.Head.Ref == p.Head.Label && !strings.HasPrefix(p.Head.Ref, "refs/")
}

// giteaName names a repository by its clone address, which must end with its
// full name.
func giteaName(r giteaRepo) (string, error) {
	name, err := gitHubRepo(r.CloneURL, r.FullName)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(r.CloneURL)
	if err != nil {
		return "", fmt.Errorf("\"repository.clone_url\" must be an address, not %s", quote(r.CloneURL))
	}
	below, found := strings.CutSuffix(strings.TrimSuffix(u.Path, ".git"), "/"+r.FullName)
	if !found || below != "" && !madeOf(below, "/", nameRest+"/", maxName) || strings.Contains(below, "..") {
		return "", fmt.Errorf("\"repository.clone_url\" must end with \"repository.full_name\", not be %s", quote(r.CloneURL))
	}
	host, rest, _ := strings.Cut(name, "/")
	return host + below + "/" + rest, nil
}

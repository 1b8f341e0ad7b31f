package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// Headers of Pagure's deliveries (docs, "Using web-hooks"). X-Pagure-Topic,
// X-Pagure-Project and X-Pagure are not signed and say nothing that the body
// does not say, and so are not read; X-Pagure-Signature is SHA-1, and not enough.
const pagureSignature = "X-Pagure-Signature-256"

// Pagure is the Source of the web-hooks of pagure.io, src.fedoraproject.org and
// other servers of Pagure, signed with the project's hook token over the JSON.
// The JSON is the body, or the field "payload" of a form, as old versions send
// it, even under the name of application/json.
//
// Each project has a hook token of its own, which its administrators know: as
// one of Keys.Secrets it would vouch for every project. Make it one of
// Keys.Scoped.
//
// An event's Repo is "HOST/NAMESPACE/NAME" or "HOST/NAME", and
// "HOST/forks/USER/…" for a fork, from the server's address and the project's
// full name as the signed body has them. A pull request's Ref is its base
// branch, Commit its newest commit; Before is "". Its Author is who opened it. A
// comment's Comment.ID is its number.
type Pagure struct{ signer }

// NewPagure returns the source that takes Pagure's deliveries signed with one of
// keys.
func NewPagure(keys Keys) *Pagure { return &Pagure{newSignerOf(keys, pagureScheme)} }

var _ Source = (*Pagure)(nil)

func pagureScheme(header http.Header, body []byte) (func([]byte) bool, error) {
	payload, err := pagurePayload(body)
	if err != nil {
		return nil, err
	}
	return hexScheme("", pagureSignature)(header, payload)
}

// ContentTypes lists what Pagure sends.
func (*Pagure) ContentTypes() []string { return []string{"application/json", form} }

// pagurePayload takes the JSON out of a form. It is used on what nobody vouched
// for yet, and so makes no more of a body than one string.
func pagurePayload(body []byte) ([]byte, error) {
	const field = "payload="
	if len(body) < len(field) || string(body[:len(field)]) != field {
		return body, nil
	}
	value := string(body[len(field):])
	if strings.Contains(value, "&") {
		return nil, errors.New("the form has more than the field payload")
	}
	payload, err := url.QueryUnescape(value)
	if err != nil {
		return nil, errors.New("the form is malformed")
	}
	return []byte(payload), nil
}

// SignedAt tells when Pagure made the delivery: it is in the body.
func (*Pagure) SignedAt(_ http.Header, body []byte) (time.Time, bool) {
	var p struct {
		Timestamp json.Number `json:"timestamp"`
	}
	if payload, err := pagurePayload(body); err == nil && checkShape(payload) == nil {
		_ = json.Unmarshal(payload, &p) // what is not a time is an old one
	}
	return unixTime(p.Timestamp.String())
}

// Decode returns one event. What starts no checks comes out ignored, never as an
// error. The kind of an ignored one is Pagure's topic ("issue.new").
func (s *Pagure) Decode(_ http.Header, body []byte) ([]assay.Event, error) {
	payload, err := pagurePayload(body)
	var p pagureMessage
	if err == nil {
		err = parse(payload, &p)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the event: %v", err)
	case !madeOf(p.Topic, letters, alnum+"._-", 64):
		return nil, fmt.Errorf("cannot read the event: \"topic\" must name an event, not %s", quote(p.Topic))
	case !validID(p.ID):
		return nil, fmt.Errorf("cannot read the event: \"msg_id\" must be %s, not %s", wantID, quote(p.ID))
	}
	e, err := p.Msg.event(p.Topic)
	if err != nil {
		return nil, fmt.Errorf("cannot read the %s event: %v", p.Topic, err)
	}
	e.Delivery = p.ID
	return []assay.Event{e}, nil
}

// pagureMessage is what counts in a delivery (Pagure: the messages of
// fedora-messaging, "pagure-messages", within an envelope).
type pagureMessage struct {
	Topic string    `json:"topic"`
	ID    string    `json:"msg_id"`
	Msg   pagureMsg `json:"msg"`
}

type pagureMsg struct {
	Instance string        `json:"pagure_instance"`
	Project  string        `json:"project_fullname"`
	Agent    pagureAgent   `json:"agent"`
	Branch   string        `json:"branch"`
	Old      string        `json:"old_commit"` // since Pagure 5; "" in older ones
	End      string        `json:"end_commit"`
	Rev      string        `json:"rev"` // where a new branch is
	Pull     pagureRequest `json:"pullrequest"`
}

// pagureAgent is a user's name, or an object that has it: both are sent.
type pagureAgent string

func (a *pagureAgent) UnmarshalJSON(raw []byte) error {
	var user struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(raw, (*string)(a)) != nil && json.Unmarshal(raw, &user) == nil {
		*a = pagureAgent(user.Name)
	}
	return nil
}

type pagureRequest struct {
	ID      int            `json:"id"`
	Status  string         `json:"status"`
	Branch  string         `json:"branch"`
	Stop    string         `json:"commit_stop"`
	User    pagureAgent    `json:"user"`
	Project pagureProject  `json:"project"`
	From    *pagureProject `json:"repo_from"` // null when it is gone, or elsewhere
	Remarks []pagureRemark `json:"comments"`
}

type pagureProject struct {
	ID   int64  `json:"id"`
	Full string `json:"fullname"`
}

type pagureRemark struct {
	ID     int64       `json:"id"`
	Text   string      `json:"comment"`
	Notice bool        `json:"notification"` // Pagure itself wrote it
	User   pagureAgent `json:"user"`
}

func (m pagureMsg) event(topic string) (assay.Event, error) {
	repo, err := m.repo()
	ignored := pagureIdle(topic)
	switch {
	case ignored != "": // an odd one is ignored all the same
		return assay.Event{Kind: assay.EventKind(topic), Trusted: true, Repo: repo, Author: login(string(m.Agent)), Ignored: ignored}, nil
	case err != nil:
		return assay.Event{}, err
	}
	switch topic {
	case "git.receive":
		return m.push(repo, m.Old, m.End)
	case "git.branch.creation":
		return m.push(repo, "", m.Rev)
	case "pull-request.comment.added":
		return m.comment(repo)
	default:
		return m.proposal(repo)
	}
}

// repo is HOST/PROJECT, with what of the server's address follows its host
// between them.
func (m pagureMsg) repo() (string, error) {
	host, root, err := forgeHost(strings.TrimRight(m.Instance, "/"), "")
	if err != nil {
		return "", fmt.Errorf("\"msg.pagure_instance\" %v", err)
	}
	if !validProject(m.Project, 1) {
		return "", fmt.Errorf("\"msg.project_fullname\" must be NAMESPACE/NAME or NAME, not %s", quote(m.Project))
	}
	return host + root + "/" + m.Project, nil
}

// push is of a branch that has new commits, or is new. Pagure tells of a new
// branch with commits by both topics, which then mean the same.
func (m pagureMsg) push(repo, before, commit string) (assay.Event, error) {
	ref := m.Branch
	if !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	e := assay.Event{Kind: assay.EventPush, Trusted: true, Repo: repo, Ref: ref, Before: before, Commit: commit, Author: login(string(m.Agent))}
	switch {
	case !validRef(e.Ref):
		return assay.Event{}, fmt.Errorf("\"msg.branch\" must be a branch, not %s", quote(m.Branch))
	case before != "" && !validHash(before):
		return assay.Event{}, fmt.Errorf("\"msg.old_commit\" must be 40 or 64 hex digits, not %s", quote(before))
	case !validHash(commit):
		return assay.Event{}, fmt.Errorf("the new commit must be 40 or 64 hex digits, not %s", quote(commit))
	}
	return pushed(e), nil
}

func (m pagureMsg) proposal(repo string) (assay.Event, error) {
	e := m.Pull.event()
	e.Kind, e.Repo, e.PullRequest = assay.EventPullRequest, repo, m.Pull.ID
	e.Author, e.Trusted = login(string(m.Pull.User)), m.Pull.trusted()
	ignored := ""
	if m.Pull.closed() {
		ignored = "the pull request is closed"
	}
	return proposedAnywhere(e, ignored)
}

func (r pagureRequest) event() assay.Event {
	return assay.Event{Ref: "refs/heads/" + r.Branch, Commit: r.Stop}
}

// trusted tells that the commits come from a branch of the project itself, to
// which only those who may write push.
func (r pagureRequest) trusted() bool {
	return r.From != nil && r.From.ID > 0 && *r.From == r.Project && r.From.Full != ""
}

// closed is false for a pull request without a status: those of old versions.
func (r pagureRequest) closed() bool { return r.Status != "" && r.Status != "Open" }

// comment reads the last comment, which is the one that was added.
func (m pagureMsg) comment(repo string) (assay.Event, error) {
	if len(m.Pull.Remarks) == 0 {
		return assay.Event{}, errors.New("\"msg.pullrequest.comments\" is empty")
	}
	c := m.Pull.Remarks[len(m.Pull.Remarks)-1]
	r := remark{action: "created", text: c.Text, author: string(c.User), bot: c.Notice, pull: true, open: !m.Pull.closed()}
	if c.ID > 0 {
		r.id = fmt.Sprint(c.ID)
	}
	return commented(aside(assay.Event{Repo: repo}, m.Pull.event(), m.Pull.ID), r)
}

// pagureIdle tells why a topic starts nothing, "" if it does.
func pagureIdle(topic string) string {
	switch topic {
	case "git.receive", "git.branch.creation", "pull-request.comment.added",
		"pull-request.new", "pull-request.updated", "pull-request.rebased", "pull-request.reopened":
		return ""
	case "git.branch.deletion":
		return "the ref was deleted"
	case "git.tag.creation", "git.tag.deletion":
		return "a tag was pushed, and only branches start checks"
	case "pull-request.closed", "pull-request.merged":
		return "the pull request was closed: if it was merged, the push to its branch is an event of its own"
	case "pull-request.comment.edited":
		return "the comment was edited, and only new comments count"
	case "pull-request.initial_comment.edited":
		return "the description brings no commits to check"
	}
	if strings.HasPrefix(topic, "pull-request.flag.") || strings.HasPrefix(topic, "commit.flag.") {
		return "a flag starts no checks: those that Assay sets come back this way"
	}
	return fmt.Sprintf("the event %q starts no checks", topic)
}

package webhook

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// Headers of GitLab's deliveries (docs, "Webhooks", delivery headers).
const (
	gitLabEvent  = "X-Gitlab-Event"
	gitLabToken  = "X-Gitlab-Token"
	gitLabKey    = "Idempotency-Key"       // of one delivery, the same when it is tried again; since 17.4
	gitLabUUID   = "X-Gitlab-Event-Uuid"   // of what happened: one push of three branches may share it
	gitLabHookID = "X-Gitlab-Webhook-Uuid" // of the webhook: the same in all of its deliveries
)

// GitLab is the Source of the project and group webhooks of gitlab.com and of
// GitLab of one's own.
//
// A secret that begins with "whsec_" is a signing token: it vouches for body, id
// and time by the header Webhook-Signature (Standard Webhooks; newer versions of
// GitLab), and never as a plain token. Any other secret is a secret token, which
// GitLab sends as it is in X-Gitlab-Token: it vouches for who sends, and for
// nothing that is sent. Where both kinds are configured a signature that is there
// has to fit, and only a delivery without one may bring the token instead.
//
// An event's Repo is "HOST/GROUP/NAME", with as many groups as there are. A
// merge request's Ref is its target branch, Commit the head of its source
// branch; Before is "", because GitLab does not say where the target branch is.
// Its Author is "" when somebody else than who opened it changed it. A comment's
// Comment.ID is the number of the note.
type GitLab struct{ signer }

// NewGitLab returns the source that takes GitLab's deliveries that bring one of
// keys.
func NewGitLab(keys Keys) *GitLab {
	s := newSignerOf(keys, nil)
	s.scheme = gitLabScheme(s.keys)
	return &GitLab{s}
}

var _ Source = (*GitLab)(nil)

// gitLabScheme takes signatures where there is a key for them, and tokens
// otherwise.
func gitLabScheme(keys Keys) scheme {
	all := keys.all()
	signs := slices.ContainsFunc(all, isSigningToken)
	plain := slices.ContainsFunc(all, func(secret []byte) bool { return !isSigningToken(secret) })
	return func(header http.Header, body []byte) (func([]byte) bool, error) {
		switch given := header.Get(standardSignature); {
		case signs && given != "":
			return standardScheme(header, body)
		case !plain:
			return nil, fmt.Errorf("it has no %s header: set the signing token of the webhook", standardSignature)
		}
		fits, err := tokenScheme(gitLabToken)(header, body)
		return func(secret []byte) bool { return fits(secret) && !isSigningToken(secret) }, err
	}
}

// Warning tells the operator of a signing token that fits nothing, too.
func (s *GitLab) Warning() string {
	for _, secret := range s.keys.all() {
		if _, err := standardKey(secret); isSigningToken(secret) && err != nil {
			return "a signing token of this source is not whsec_ and base64, and fits nothing: copy it from GitLab once more"
		}
	}
	return s.signer.Warning()
}

func isSigningToken(secret []byte) bool { return strings.HasPrefix(string(secret), standardPrefix) }

// SignedAt tells when GitLab signed the delivery. A secret token vouches for no
// time.
func (s *GitLab) SignedAt(header http.Header, _ []byte) (time.Time, bool) {
	if header.Get(standardSignature) == "" || !slices.ContainsFunc(s.keys.all(), isSigningToken) {
		return time.Time{}, false
	}
	return unixTime(header.Get(standardTime))
}

// Delivery returns GitLab's id of the delivery, unchecked.
func (*GitLab) Delivery(header http.Header) string {
	return cmp.Or(header.Get(standardID), header.Get(gitLabKey), header.Get(gitLabUUID), header.Get(gitLabHookID))
}

// delivery makes ids that several deliveries may share unique by their bodies.
func (s *GitLab) delivery(header http.Header, body []byte) (string, error) {
	id := s.Delivery(header)
	if id == "" {
		return "", fmt.Errorf("cannot take the delivery: it has no %s header", gitLabKey)
	}
	if !madeOf(id, alnum, idChars, maxName-33) {
		return "", fmt.Errorf("cannot take the delivery: its id must be 1 to %d letters, digits and . _ : -, not %s", maxName-33, quote(id))
	}
	if header.Get(standardID) == "" && header.Get(gitLabKey) == "" {
		id += "." + meaning("", string(body))[:32]
	}
	return id, nil
}

// Decode returns one event. What starts no checks comes out ignored, never as an
// error. The kind of an ignored one is GitLab's own name for it ("wiki_page").
func (s *GitLab) Decode(header http.Header, body []byte) ([]assay.Event, error) {
	kind, known := gitLabKind(header.Get(gitLabEvent))
	if !known {
		return nil, fmt.Errorf("cannot take the delivery: the %s header must name an event, not %s", gitLabEvent, quote(header.Get(gitLabEvent)))
	}
	delivery, err := s.delivery(header, body)
	if err != nil {
		return nil, err
	}
	e, err := gitLabDecode(kind, body)
	if err != nil {
		return nil, fmt.Errorf("cannot read the %s event: %v", kind, err)
	}
	e.Delivery = delivery
	return []assay.Event{e}, nil
}

// gitLabKind makes a word of an event's name: "merge_request" of "Merge Request
// Hook".
func gitLabKind(name string) (kind string, ok bool) {
	name = strings.TrimSuffix(name, " Hook")
	kind = strings.ReplaceAll(strings.ToLower(name), " ", "_")
	return kind, madeOf(kind, letters, alnum+"_", 64)
}

func gitLabDecode(kind string, body []byte) (assay.Event, error) {
	want, read := "", (func(gitLabPayload) (assay.Event, error))(nil)
	switch kind {
	case "push", "tag_push":
		want, read = kind, gitLabPush
	case "merge_request":
		want, read = kind, gitLabMerge
	case "note", "confidential_note":
		want, read = "note", gitLabNote
	}
	var p gitLabPayload
	err := parse(body, &p)
	switch {
	case read == nil && err != nil:
		return gitLabOther(kind, gitLabPayload{}), nil
	case read == nil:
		return gitLabOther(kind, p), nil
	case err != nil:
		return assay.Event{}, err
	case p.Kind != want: // the header is not signed, the body is
		return assay.Event{}, fmt.Errorf("\"object_kind\" must be %q as the %s header says, not %s", want, gitLabEvent, quote(p.Kind))
	}
	return read(p)
}

// gitLabPayload is what counts in the payloads (docs, "Webhook events").
type gitLabPayload struct {
	Kind     string        `json:"object_kind"`
	Ref      string        `json:"ref"`
	Before   string        `json:"before"`
	After    string        `json:"after"`
	Username string        `json:"user_username"` // of a push
	User     gitLabUser    `json:"user"`
	Project  gitLabProject `json:"project"`
	About    gitLabObject  `json:"object_attributes"`
	Merge    gitLabObject  `json:"merge_request"` // of a note
}

type gitLabUser struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
}

type gitLabProject struct {
	ID   int64  `json:"id"`
	HTTP string `json:"git_http_url"`
	Path string `json:"path_with_namespace"`
}

// gitLabObject is a merge request, or a note.
type gitLabObject struct {
	ID         int64  `json:"id"`
	Number     int    `json:"iid"`
	Action     string `json:"action"`
	State      string `json:"state"`
	Author     int64  `json:"author_id"`
	Target     string `json:"target_branch"`
	FromID     int64  `json:"source_project_id"`
	ToID       int64  `json:"target_project_id"`
	OldRev     string `json:"oldrev"`
	LastCommit struct {
		ID string `json:"id"`
	} `json:"last_commit"`

	On      string `json:"noteable_type"`
	Text    string `json:"note"`
	System  bool   `json:"system"`
	Created string `json:"created_at"`
	Updated string `json:"updated_at"`
}

func gitLabPush(p gitLabPayload) (assay.Event, error) {
	repo, err := p.Project.name()
	if err != nil {
		return assay.Event{}, err
	}
	e := assay.Event{
		Kind: assay.EventPush, Trusted: true,
		Repo: repo, Ref: p.Ref, Before: p.Before, Commit: p.After, Author: login(p.Username),
	}
	if err := checkPush(e); err != nil {
		return assay.Event{}, err
	}
	return pushed(e), nil
}

func gitLabMerge(p gitLabPayload) (assay.Event, error) {
	repo, err := p.Project.name()
	if err != nil {
		return assay.Event{}, err
	}
	e := p.About.event()
	e.Kind, e.Repo, e.PullRequest = assay.EventPullRequest, repo, p.About.Number
	if p.User.ID > 0 && p.User.ID == p.About.Author {
		e.Author = login(p.User.Username)
	}
	e.Trusted = p.About.FromID > 0 && p.About.FromID == p.About.ToID
	return proposedAnywhere(e, p.About.idle())
}

// event is what a merge request says of branch and commit.
func (m gitLabObject) event() assay.Event {
	return assay.Event{Ref: "refs/heads/" + m.Target, Commit: m.LastCommit.ID}
}

// idle tells why an action of a merge request calls for nothing, "" if it does.
// An update has "oldrev" only when commits came with it.
func (m gitLabObject) idle() string {
	switch m.Action {
	case "open", "reopen", "update":
	case "merge":
		return "the merge request was merged: the push to its target branch is an event of its own"
	case "close":
		return "the merge request was closed"
	case "":
		return "the merge request changed without an action: it brings no commits to check"
	default:
		return fmt.Sprintf("the merge request's action %q brings no commits to check", word(m.Action))
	}
	switch {
	case m.closed():
		return "the merge request is closed"
	case m.Action == "update" && m.OldRev == "":
		return "the update brings no commits to check"
	}
	return ""
}

func (m gitLabObject) closed() bool { return m.State == "closed" || m.State == "merged" }

// gitLabNote reads a comment. Before GitLab 16.11 a note had no "action": a
// changed one has been updated since it was created.
func gitLabNote(p gitLabPayload) (assay.Event, error) {
	repo, err := p.Project.name()
	if err != nil {
		return assay.Event{}, err
	}
	if p.About.On != "MergeRequest" {
		e := assay.Event{Kind: assay.EventComment, Repo: repo, Author: login(p.User.Username)}
		e.Ignored = "the comment is not on a merge request, and only those take commands"
		return e, nil
	}
	r := remark{
		action: "created", text: p.About.Text, author: p.User.Username, bot: p.About.System || gitLabBot(p.User.Username),
		pull: true, open: !p.Merge.closed(),
	}
	if p.About.ID > 0 {
		r.id = fmt.Sprint(p.About.ID)
	}
	if a := p.About.Action; a == "update" || a == "" && p.About.Created != p.About.Updated {
		r.action = "edited"
	} else if a != "" && a != "create" {
		r.action = word(a)
	}
	return commented(aside(assay.Event{Repo: repo}, p.Merge.event(), p.Merge.Number), r)
}

// word is a word of GitLab's that it may show.
func word(s string) string {
	if !madeOf(s, letters, alnum+"_", 64) {
		return "unknown"
	}
	return s
}

// gitLabBot knows the users that GitLab makes for access tokens (docs, "Bot
// users for projects" and "for groups"): "project_15_bot_c0ffee", "group_7_bot".
func gitLabBot(name string) bool {
	kind, rest, _ := strings.Cut(name, "_")
	number, _, found := strings.Cut(rest, "_bot")
	return found && (kind == "project" || kind == "group") && madeOf(number, digits, digits, maxName)
}

// gitLabOther is an event that starts nothing, with its project if it names one.
func gitLabOther(kind string, p gitLabPayload) assay.Event {
	e := assay.Event{Kind: assay.EventKind(kind), Trusted: true, Ignored: gitLabIdle(kind)}
	e.Repo, _ = p.Project.name()
	e.Author = login(cmp.Or(p.User.Username, p.Username))
	return e
}

// gitLabIdle tells why an event starts nothing, in words for the maintainer who
// looks for the run that never came.
func gitLabIdle(kind string) string {
	switch kind {
	case "pipeline", "job", "build":
		return "GitLab's own pipelines start no checks: the statuses that Assay sets come back this way, too"
	case "system":
		return "a system hook tells of the whole server: add a webhook to the project or its group instead"
	case "issue", "confidential_issue", "work_item", "confidential_work_item", "milestone":
		return "planning starts no checks"
	case "wiki_page":
		return "a wiki page starts no checks"
	case "deployment", "release", "feature_flag":
		return "a release starts no checks: its commits came with a push"
	case "emoji":
		return "an emoji starts no checks: commands are taken from comments"
	case "member", "subgroup", "project", "resource_access_token", "vulnerability":
		return "the project or who may use it changed, and no commits with it"
	}
	return fmt.Sprintf("the event %q starts no checks", kind)
}

// name is HOST/PATH. A GitLab that is not at the root of its host has the rest
// of its address between them, as clone addresses do.
func (p gitLabProject) name() (string, error) {
	host, root, err := forgeHost(p.HTTP, "/"+p.Path+".git")
	if err != nil {
		return "", fmt.Errorf("\"project.git_http_url\" %v", err)
	}
	if !validProject(p.Path, 2) {
		return "", fmt.Errorf("\"project.path_with_namespace\" must be GROUP/NAME, not %s", quote(p.Path))
	}
	return host + root + "/" + p.Path, nil
}

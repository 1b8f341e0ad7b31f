package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/assay-ci/assay"
	"github.com/google/uuid"
)

// Git is the Source of what Assay's own post-receive hook sends; the package
// comment documents its format.
type Git struct{ ownHeaders }

// NewGit returns the source that takes the hook's events signed with one of
// keys.
func NewGit(keys Keys) *Git { return &Git{newOwnHeaders(keys)} }

var _ Source = (*Git)(nil)

// Decode returns one event of kind push. Its ID is the delivery's: the hook has
// already printed the address of the event's page. Tags, other refs and
// deletions come out ignored.
func (s *Git) Decode(header http.Header, body []byte) ([]assay.Event, error) {
	delivery, err := s.delivery(header)
	if err != nil {
		return nil, err
	}
	e := assay.Event{Delivery: delivery, Kind: assay.EventPush, Trusted: true}
	if err := readObject(body, gitFields(&e)); err != nil {
		return nil, fmt.Errorf("cannot read the git event: %v", err)
	}
	if e.ID != delivery {
		return nil, fmt.Errorf("cannot read the git event: \"delivery\" differs from the %s header", headerDelivery)
	}
	if zeroHash(e.Before) && zeroHash(e.Commit) {
		return nil, errors.New("cannot read the git event: \"before\" and \"after\" are both zero")
	}
	e = pushed(e)
	// The hook sends each push under one id for good, and has told the pusher
	// where its page will be: a branch that is pushed back to an earlier commit
	// is an event of its own.
	e.Meaning = ""
	return []assay.Event{e}, nil
}

func gitFields(e *assay.Event) []field {
	var when string
	return []field{
		{name: "version", set: versionOne},
		{name: "delivery", set: text(&e.ID, validUUID, "a UUID in lower case")},
		{name: "repository", set: text(&e.Repo, validRepository, "the path or address of a repository")},
		{name: "ref", set: text(&e.Ref, validRef, "a full ref name such as refs/heads/main")},
		{name: "before", set: text(&e.Before, validHash, "40 or 64 lower-case hex digits")},
		{name: "after", set: text(&e.Commit, validHash, "40 or 64 lower-case hex digits")},
		{name: "time", set: text(&when, validTime, "a time such as 2026-01-31T12:00:00Z")},
	}
}

func versionOne(raw json.RawMessage) error {
	if string(raw) != "1" {
		return errors.New("must be 1: the hook is of another version: run assay hook install again")
	}
	return nil
}

// validUUID takes the canonical form only (RFC 9562, section 4), because the id
// becomes a name in addresses; not the nil UUID.
func validUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s && id != uuid.Nil
}

// validRepository takes what an operator may have configured: a path or a URL.
func validRepository(s string) bool {
	return validText(s, maxAddress) && !strings.HasPrefix(s, "-")
}

func validTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

// pushed finishes the event of a ref that moved: what it means, or why nothing
// is to be done about it. Zeros become "".
func pushed(e assay.Event) assay.Event {
	e.Before, e.Commit = noZero(e.Before), noZero(e.Commit)
	switch {
	case e.Commit == "":
		e.Ignored = "the ref was deleted"
	case strings.HasPrefix(e.Ref, "refs/tags/"):
		e.Ignored = "a tag was pushed, and only branches start checks"
	case !strings.HasPrefix(e.Ref, "refs/heads/"):
		e.Ignored = "the ref is no branch, and only branches start checks"
	default:
		e.Meaning = meaning(e.Kind, e.Repo, e.Ref, e.Commit)
	}
	return e
}

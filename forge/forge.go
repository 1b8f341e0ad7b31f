// Package forge tells reviewers: it sets commit statuses and keeps one comment,
// on GitHub, Gitea, Forgejo, GitLab, Pagure and, for people without a web forge, as
// notes in a plain git repository. Most can also be asked who may do what, answer
// comments with pictures, and say what they delivered. One file (or a few with its name in front) per forge; every forge
// passes the suite in forge/forgetest.
package forge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// Forge is where reviewers look.
//
// Both methods are idempotent: a call whose answer was lost may be made again,
// and leaves what one call would have left (GitHub keeps a history of statuses,
// of which only the newest of a context counts). They may be called from
// several goroutines; calls for the same commit take effect one after the
// other, in no promised order: who cares for order calls one by one.
//
// Every error is, or wraps, a *RetryError or a *PermanentError. A *RetryError
// says that the same call may succeed later; the forge never waits or retries
// by itself. A *PermanentError says that it will not unless a person does
// something, which the text names. When ctx ends the error is a *RetryError
// that wraps ctx.Err(): whether the call took effect is then unknown.
type Forge interface {
	// SetStatus sets the commit's status in one context. The description may
	// have any length; a forge takes what fits on one line of 140 characters. A
	// URL that is no http or https address is left out. Context is 1 to 255
	// printable ASCII characters without spaces.
	SetStatus(ctx context.Context, commit assay.Commit, status assay.Status) error
	// Comment makes body, in Markdown, the one comment with this marker on the
	// commit's pull request, or on the commit when it belongs to none. An
	// earlier one is edited in place. marker is 1 to 100 letters, digits and
	// . _ / - and never shown to the reader of a web page. A body that is too
	// long for the forge is cut, an empty one is refused.
	Comment(ctx context.Context, commit assay.Commit, marker, body string) error
}

// StatusReader is a Forge that can tell what status a commit has. It is asked
// after a crash, when a status may have been sent already. ok is false when the
// commit has no status in that context; a commit that does not exist may count
// as one without a status. Errors are those of a Forge. What is
// read back of a Description is what the forge kept of it: see Line.
type StatusReader interface {
	Status(ctx context.Context, commit assay.Commit, context string) (status assay.Status, ok bool, err error)
}

// RetryError tells that the same call may succeed later.
type RetryError struct {
	After time.Duration // the forge asked to be left alone so long; 0: it did not say
	Err   error
}

func (e *RetryError) Error() string {
	if e.After > 0 {
		return fmt.Sprintf("%v (try again in %s)", e.Err, e.After.Round(time.Second))
	}
	return e.Err.Error()
}

func (e *RetryError) Unwrap() error { return e.Err }

// PermanentError tells that the same call will fail until a person changes
// something.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }

func (e *PermanentError) Unwrap() error { return e.Err }

func permanent(format string, args ...any) error {
	return &PermanentError{fmt.Errorf(format, args...)}
}

// Limits that all forges share; they are GitHub's.
const (
	maxDescription = 140 // characters
	maxContext     = 255 // characters
	maxMarker      = 100 // characters
)

// Line makes a description fit for a status: one line without control or
// format characters, at most 140 characters, the last of which is an ellipsis
// when something was cut. It is idempotent.
func Line(description string) string {
	s := strings.ToValidUTF8(description, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
	return shorten(strings.TrimSpace(s), maxDescription)
}

// shorten cuts s to at most limit characters, between characters.
func shorten(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	runes := []rune(s)
	return strings.TrimRight(string(runes[:limit-1]), " ") + "…"
}

// checkStatus refuses a status that no forge could keep.
func checkStatus(s assay.Status) error {
	switch s.State {
	case assay.StatusPending, assay.StatusSuccess, assay.StatusFailure, assay.StatusError:
	default:
		return permanent("cannot set the status %.40q: its state %.40q is none of pending, success, failure, error", s.Context, s.State)
	}
	if !printable(s.Context) || len(s.Context) > maxContext {
		return permanent("cannot set the status %.40q: its context must be 1 to %d printable characters without spaces", s.Context, maxContext)
	}
	return nil
}

func printable(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

func checkCommit(c assay.Commit) error {
	if len(c.SHA) != 40 && len(c.SHA) != 64 || strings.Trim(c.SHA, "0123456789abcdef") != "" {
		return permanent("cannot report on commit %.70q: it is not 40 or 64 lower-case hex digits", c.SHA)
	}
	if c.PullRequest < 0 {
		return permanent("cannot report on pull request %d: its number must be positive", c.PullRequest)
	}
	return nil
}

func checkComment(marker, body string) error {
	if strings.TrimSpace(body) == "" {
		return permanent("cannot keep an empty comment with the marker %.40q", marker)
	}
	return checkMarker(marker)
}

func checkMarker(marker string) error {
	outside := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-", r))
	}
	if marker == "" || len(marker) > maxMarker || strings.IndexFunc(marker, outside) >= 0 || strings.Contains(marker, "--") || strings.HasSuffix(marker, "-") {
		return permanent("cannot keep a comment with the marker %.40q: it must be 1 to %d letters, digits and . _ / -, without two dashes together", marker, maxMarker)
	}
	return nil
}

// link returns an address that may stand in a status, "" for one that may not.
func link(address string) string {
	if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
		return ""
	}
	if !printable(address) || len(address) > 2048 || strings.ContainsAny(address, "<>\"") {
		return ""
	}
	return address
}

// asForgeError makes sure that an error is one of the two kinds: what is
// neither may be tried again.
func asForgeError(err error) error {
	var again *RetryError
	var never *PermanentError
	if err == nil || errors.As(err, &again) || errors.As(err, &never) {
		return err
	}
	return &RetryError{Err: err}
}

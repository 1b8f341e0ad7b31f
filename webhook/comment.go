package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assay-ci/assay"
)

// maxComment is the longest comment that is taken, in bytes (assay.Comment).
// GitHub stops at 65,536 characters.
const maxComment = 64 << 10

// command begins every line that asks something of us.
const command = "/assay"

// ourComment begins each comment that Assay itself writes. A forge that knows no
// bots tells them from a person's by nothing else.
const ourComment = "<!-- assay:"

// remark is a comment as a forge tells of it, before it is clear that it counts.
type remark struct {
	action string // "created" is the only one that counts
	id     string // of Comment.ID; "" when the payload has none
	text   string // as it was written
	author string // as the payload has it
	bot    bool   // a program wrote it
	pull   bool   // it is below a pull request, not an issue
	open   bool   // which is not closed
}

// commented finishes the event of a remark below e's pull request: what it
// means, or why nothing is to be done about it. The text is kept only of a
// remark that counts. Editing an old comment must not run anything: it would
// say so in the name of who wrote it first.
func commented(e assay.Event, r remark) (assay.Event, error) {
	e.Kind, e.Author = assay.EventComment, login(r.author)
	text := commentText(r.text)
	if e.Ignored = r.idle(text); e.Ignored != "" {
		e.PullRequest = max(e.PullRequest, 0)
		return e, nil
	}
	switch {
	case e.PullRequest <= 0:
		return assay.Event{}, errors.New("the number of the comment's pull request must be a positive number")
	case r.id == "":
		return assay.Event{}, errors.New("\"comment.id\" must be a positive number")
	case e.Author == "":
		return assay.Event{}, fmt.Errorf("\"comment.user.login\" must be an account's name, not %s", quote(r.author))
	}
	e.Comment = &assay.Comment{ID: r.id, Text: text}
	e.Meaning = meaning(e.Kind, e.Repo, r.id)
	return e, nil
}

// below puts a comment's event below pull request number, with its branches and
// commits if they are sound: a comment does not need them.
func below(e, pull assay.Event, number int) assay.Event {
	e.PullRequest, pull.PullRequest = number, number
	if checkPullRequest(pull) == nil {
		e.Ref, e.Before, e.Commit = pull.Ref, pull.Before, pull.Commit
	}
	return e
}

// idle tells why a remark calls for nothing, "" if it does.
func (r remark) idle(text string) string {
	switch {
	case r.action != "created":
		return fmt.Sprintf("the comment's action is %q, and only new comments count", r.action)
	case r.bot || strings.HasPrefix(text, ourComment):
		return "a program wrote the comment, and only people give commands"
	case !hasCommand(text):
		return "no line of the comment begins with " + command
	case !r.pull:
		return "the comment is on an issue, and only pull requests take commands"
	case !r.open:
		return "the pull request is closed"
	case len(text) > maxComment:
		return fmt.Sprintf("the comment is longer than %d bytes", maxComment)
	}
	return ""
}

// hasCommand looks for a line that is the command or begins with it and a space.
// A quoted line ("> /assay run") is none.
func hasCommand(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if rest, found := strings.CutPrefix(line, command); found && (rest == "" || rest[0] == ' ') {
			return true
		}
	}
	return false
}

// commentText makes lines of what was typed: they end in "\n", tabs are spaces,
// and other control and format characters are replaced. Forges keep the "\r\n"
// that browsers send.
func commentText(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\t", " ").Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = plain(line)
	}
	return strings.Join(lines, "\n")
}

// login is an account's name as a forge gives it ("octocat", "renovate[bot]"),
// "" for what cannot be one.
func login(s string) string {
	if !madeOf(s, alnum+"_", alnum+"_-.[]", maxName) {
		return ""
	}
	return s
}

// account is who did something, in the payloads of GitHub, Gitea and Forgejo.
type account struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

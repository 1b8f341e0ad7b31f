package forge_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

var (
	shaA = strings.Repeat("a", 40)
	shaB = strings.Repeat("b", 40)
	shaC = strings.Repeat("c", 40)
)

func TestGitHubSuite(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) forgetest.Subject {
		server, hub := newGitHub(t)
		server.PageSize = 3
		subject := gitHubSubject(server, hub)
		subject.Statuses = func(c assay.Commit) map[string]assay.Status {
			newest := map[string]assay.Status{}
			for _, s := range server.Statuses("o/r", c.SHA) {
				newest[s.Context] = s
			}
			return newest
		}
		return subject
	})
}

// gitHubSubject is a server that newGitHub made, but for Statuses.
func gitHubSubject(server *forgetest.GitHub, hub *forge.GitHub) forgetest.Subject {
	const repo = "https://github.com/o/r.git"
	for name, permission := range map[string]string{"writer": "write", "reader": "read", "dependabot[bot]": "none"} {
		server.AddAccount("o/r", name, permission)
	}
	pull := assay.PullRequest{Number: 7, Author: "reader", Open: true, Base: "refs/heads/release/f42", BaseCommit: shaB, Head: shaA}
	server.SetPull("o/r", pull)
	onPull := assay.Commit{Repo: repo, SHA: shaA, PullRequest: 7}
	review := server.AddReview("o/r", forgetest.OtherUser, "/assay run")
	return forgetest.Subject{
		Forge:   hub,
		Commit:  assay.Commit{Repo: repo, SHA: shaA},
		Other:   assay.Commit{Repo: repo, SHA: shaB},
		Pull:    onPull,
		Unknown: assay.Commit{Repo: repo, SHA: shaC},
		Comments: func(c assay.Commit) []string {
			var bodies []string
			for _, comment := range server.Comments(c) {
				bodies = append(bodies, comment.Body)
			}
			return bodies
		},
		Ask: &forgetest.Ask{
			Repo: repo, Missing: "https://github.com/o/nothing",
			Writer: "writer", Reader: "reader", Stranger: "dependabot[bot]", Pull: pull,
		},
		React: &forgetest.React{
			Commit: onPull, Comment: fmt.Sprintf("review:%d", review), Missing: fmt.Sprintf("issue:%d", review),
			Pictures: map[assay.Reaction]string{
				assay.ReactionDone: "+1", assay.ReactionRefused: "-1",
				assay.ReactionConfused: "confused", assay.ReactionUnderstood: "eyes",
			},
			Seen: func() []string {
				var pictures []string
				for _, r := range server.Reactions("o/r", review) {
					pictures = append(pictures, r.Content)
				}
				return pictures
			},
		},
	}
}

// newGitHub starts a server that knows o/r with two commits and pull request 7,
// and makes a forge for it.
func newGitHub(t *testing.T) (*forgetest.GitHub, *forge.GitHub) {
	t.Helper()
	server := forgetest.NewGitHub(t)
	server.AddRepo("o/r", shaA, shaB)
	server.AddPull("o/r", 7)
	hub, err := forge.NewGitHub(forge.GitHubOptions{TokenFile: server.TokenFile, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return server, hub
}

func TestNotesSuite(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) forgetest.Subject {
		path, names := forgetest.Repository(t, 2)
		notes := forge.Notes{Editor: &forgetest.GitNotes{}}
		return forgetest.Subject{
			Forge:   notes,
			Commit:  assay.Commit{Repo: path, SHA: names[0]},
			Other:   assay.Commit{Repo: path, SHA: names[1]},
			Unknown: assay.Commit{Repo: path, SHA: shaC},
			Statuses: func(c assay.Commit) map[string]assay.Status {
				return seenStatuses(gitLog(t, path, c.SHA))
			},
			Comments: func(c assay.Commit) []string {
				return seenComments(gitLog(t, path, c.SHA))
			},
		}
	})
}

// gitLog is what a person sees of a commit's note.
func gitLog(t *testing.T, path, sha string) string {
	t.Helper()
	cmd := exec.Command("git", "log", "-1", "--notes=assay", "--format=%N", sha)
	cmd.Dir = path
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git log: %v", err)
	}
	return string(out)
}

// seenComments and seenStatuses read the note as simply as a person would.
func seenComments(text string) []string {
	var found []string
	for _, block := range strings.Split("\n"+text, "\n--- assay comment ")[1:] {
		_, body, _ := strings.Cut(block, " ---\n")
		body, _, _ = strings.Cut(body, "\n--- end of assay comment ")
		found = append(found, body)
	}
	return found
}

func seenStatuses(text string) map[string]assay.Status {
	found := map[string]assay.Status{}
	text, _, _ = strings.Cut("\n"+text, "\n--- assay comment ")
	for _, line := range strings.Split(text, "\n") {
		context, rest, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		s := assay.Status{Context: context}
		if at := strings.LastIndex(rest, " <"); at >= 0 && strings.HasSuffix(rest, ">") {
			s.URL, rest = rest[at+2:len(rest)-1], rest[:at]
		}
		state, description, _ := strings.Cut(rest, " - ")
		s.State, s.Description = assay.StatusState(state), description
		found[context] = s
	}
	return found
}

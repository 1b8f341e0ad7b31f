package forge_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/forge/forgetest"
)

const (
	labPath = "group/sub/r"
	labRepo = "https://gitlab.example.org/group/sub/r.git"
)

var (
	labCommit = assay.Commit{Repo: "git@gitlab.example.org:group/sub/r.git", SHA: shaA}
	labPull   = assay.Commit{Repo: labRepo, SHA: shaA, PullRequest: 7}
)

// newGitLab starts a server that knows group/sub/r with two commits and merge
// request 7, and makes a forge for it.
func newGitLab(t *testing.T) (*forgetest.GitLab, *forge.GitLab) {
	t.Helper()
	server := forgetest.NewGitLab(t)
	server.AddProject(labPath, shaA, shaB)
	server.AddMerge(labPath, forgetest.GitLabMerge{IID: 7, Author: "author", State: "opened", SourceBranch: "topic", TargetBranch: "main", SHA: shaA, BaseSHA: shaC, StartSHA: shaB})
	server.AddMember(labPath, "writer", 30)
	server.AddMember(labPath, "reader", 20)
	server.AddMember(labPath, "stranger", 0)
	lab, err := forge.NewGitLab(forge.GitLabOptions{TokenFile: server.TokenFile, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return server, lab
}

func TestGitLabSuite(t *testing.T) {
	forgetest.Run(t, func(t *testing.T) forgetest.Subject {
		server, lab := newGitLab(t)
		server.PageSize = 3
		note := server.AddComment("group/sub/r", assay.Commit{PullRequest: 9}, forgetest.OtherUser, "/assay run")
		server.AddMerge(labPath, forgetest.GitLabMerge{IID: 9, State: "opened"})
		return forgetest.Subject{
			Forge:   lab,
			Commit:  assay.Commit{Repo: labRepo, SHA: shaA},
			Other:   assay.Commit{Repo: labRepo, SHA: shaB},
			Pull:    labPull,
			Unknown: assay.Commit{Repo: labRepo, SHA: shaC},
			Statuses: func(c assay.Commit) map[string]assay.Status {
				return labStatuses(server.Statuses(labPath, c.SHA))
			},
			Comments: func(c assay.Commit) []string { return bodies(server.Comments(labPath, c)) },
			Ask: &forgetest.Ask{
				Repo: labRepo, Missing: "https://gitlab.example.org/group/none", Writer: "writer", Reader: "reader", Stranger: "stranger",
				Pull: assay.PullRequest{Number: 7, Author: "author", Open: true, Base: "refs/heads/main", BaseCommit: shaB, Head: shaA},
			},
			React: &forgetest.React{
				Commit: assay.Commit{Repo: labRepo, SHA: shaA, PullRequest: 9}, Comment: fmt.Sprint(note), Missing: "987654",
				Pictures: map[assay.Reaction]string{assay.ReactionDone: "thumbsup", assay.ReactionRefused: "thumbsdown",
					assay.ReactionConfused: "confused", assay.ReactionUnderstood: "eyes"},
				Seen: func() []string { return server.Awards(labPath, note) },
			},
		}
	})
}

func bodies(comments []forgetest.Comment) (found []string) {
	for _, c := range comments {
		found = append(found, c.Body)
	}
	return found
}

// labStatuses is what a person sees, in our words.
func labStatuses(all []forgetest.GitLabStatus) map[string]assay.Status {
	states := map[string]assay.StatusState{"pending": assay.StatusPending, "running": assay.StatusPending,
		"success": assay.StatusSuccess, "failed": assay.StatusFailure, "canceled": assay.StatusError}
	newest := map[string]assay.Status{}
	for _, s := range all {
		newest[s.Name] = assay.Status{Context: s.Name, State: states[s.State], Description: s.Description, URL: s.TargetURL}
	}
	return newest
}

func requests(server interface{ Requests() []string }, prefix string) (found []string) {
	for _, request := range server.Requests() {
		if strings.HasPrefix(request, prefix) {
			found = append(found, request)
		}
	}
	return found
}

func statesOf(all []forgetest.GitLabStatus) (found []string) {
	for _, s := range all {
		found = append(found, s.State)
	}
	return found
}

func labStatus(state assay.StatusState, text string) assay.Status {
	return assay.Status{Context: "assay/x", State: state, Description: text, URL: "https://a.example/1"}
}

// Rows are the statuses that are set one after the other; GitLab allows only
// some steps, and refuses repetitions.
func TestGitLabTransitions(t *testing.T) {
	pending, success, failure, broken := assay.StatusPending, assay.StatusSuccess, assay.StatusFailure, assay.StatusError
	tests := []struct {
		name  string
		set   []assay.Status
		posts int      // requests
		rows  []string // what GitLab has then
		text  string   // of the newest
	}{
		{"once", []assay.Status{labStatus(pending, "a")}, 1, []string{"pending"}, "a"},
		{"the same again", []assay.Status{labStatus(pending, "a"), labStatus(pending, "a")}, 1, []string{"pending"}, "a"},
		{"another text", []assay.Status{labStatus(pending, "a"), labStatus(pending, "b")}, 2, []string{"running"}, "b"},
		{"a third text is lost", []assay.Status{labStatus(pending, "a"), labStatus(pending, "b"), labStatus(pending, "c")}, 2, []string{"running"}, "b"},
		{"through running to an end", []assay.Status{labStatus(pending, "a"), labStatus(pending, "b"), labStatus(failure, "c")}, 3, []string{"failed"}, "c"},
		{"an end twice", []assay.Status{labStatus(success, "a"), labStatus(success, "a")}, 1, []string{"success"}, "a"},
		{"an end with another text", []assay.Status{labStatus(success, "a"), labStatus(success, "b")}, 2, []string{"success", "success"}, "b"},
		{"anew after an end", []assay.Status{labStatus(broken, "a"), labStatus(pending, "b"), labStatus(success, "c")}, 3, []string{"canceled", "success"}, "c"},
		{"a text that goes away", []assay.Status{labStatus(pending, "a"), labStatus(success, "")}, 2, []string{"success"}, ""},
	}
	for _, restarted := range []bool{false, true} {
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s, restarted %v", test.name, restarted), func(t *testing.T) {
				server, lab := newGitLab(t)
				for _, status := range test.set {
					if restarted {
						lab = again(t, server)
					}
					if err := lab.SetStatus(t.Context(), labCommit, status); err != nil {
						t.Fatal(err)
					}
				}
				got := server.Statuses(labPath, shaA)
				if !slices.Equal(statesOf(got), test.rows) || got[len(got)-1].Description != test.text {
					t.Errorf("statuses are %+v", got)
				}
				if posts := requests(server, "POST"); len(posts) != test.posts {
					t.Errorf("%d statuses were sent: %q", len(posts), posts)
				}
			})
		}
	}
}

// again is the forge after a restart.
func again(t *testing.T, server *forgetest.GitLab) *forge.GitLab {
	t.Helper()
	lab, err := forge.NewGitLab(forge.GitLabOptions{TokenFile: server.TokenFile, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// Somebody else, or we before a crash, changed the status since we looked.
func TestGitLabStatusMovedMeanwhile(t *testing.T) {
	tests := []struct {
		name  string
		moved string // to this state
		want  assay.Status
		rows  []string
	}{
		{"it runs already", "running", labStatus(assay.StatusPending, "b"), []string{"running"}},
		{"it has ended as it should", "success", labStatus(assay.StatusSuccess, "a"), []string{"success", "success"}},
		{"it has ended otherwise", "failed", labStatus(assay.StatusSuccess, "b"), []string{"failed", "success"}},
		{"it has ended, and begins again", "failed", labStatus(assay.StatusPending, "b"), []string{"failed", "running"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, lab := newGitLab(t)
			if err := lab.SetStatus(t.Context(), labCommit, labStatus(assay.StatusPending, "a")); err != nil {
				t.Fatal(err)
			}
			server.EndStatus(labPath, server.Statuses(labPath, shaA)[0].ID, test.moved)
			if err := lab.SetStatus(t.Context(), labCommit, test.want); err != nil {
				t.Fatal(err)
			}
			if got := statesOf(server.Statuses(labPath, shaA)); !slices.Equal(got, test.rows) {
				t.Errorf("statuses are %q", got)
			}
		})
	}
}

// A refusal that does not go away is not for ever: the other one may stop.
func TestGitLabRefusedMove(t *testing.T) {
	server, lab := newGitLab(t)
	no := forgetest.Fault{On: "POST", Status: 400, Times: 2,
		Body: `{"message":"Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")"}`}
	server.Misbehave(no)
	err := wantRetry(t, lab.SetStatus(t.Context(), labCommit, passed))
	if !strings.Contains(err.Error(), "Cannot transition") {
		t.Errorf("error %q does not say why", err)
	}
	if err := lab.SetStatus(t.Context(), labCommit, passed); err != nil {
		t.Error(err)
	}
}

// A request that something on the way repeats answers 400 the second time.
func TestGitLabRepeatedRequest(t *testing.T) {
	server, lab := newGitLab(t)
	server.Misbehave(forgetest.Repeated().Meant("POST"))
	if err := lab.SetStatus(t.Context(), labCommit, labStatus(assay.StatusPending, "a")); err != nil {
		t.Fatal(err)
	}
	if got := statesOf(server.Statuses(labPath, shaA)); !slices.Equal(got, []string{"pending"}) {
		t.Errorf("statuses are %q", got)
	}
}

// A status must end in the pipeline that it began in: otherwise that never ends.
func TestGitLabPipelines(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		server, lab := newGitLab(t)
		if err := lab.SetStatus(t.Context(), labCommit, labStatus(assay.StatusPending, "a")); err != nil {
			t.Fatal(err)
		}
		server.AddPipeline(labPath, shaA, "main") // the project's own CI begins
		if restarted {
			lab = again(t, server)
		}
		if err := lab.SetStatus(t.Context(), labCommit, labStatus(assay.StatusSuccess, "b")); err != nil {
			t.Fatal(err)
		}
		got := server.Statuses(labPath, shaA)
		if !slices.Equal(statesOf(got), []string{"success"}) {
			t.Fatalf("restarted %v: statuses are %+v", restarted, got)
		}
		server.DeletePipeline(labPath, got[0].Pipeline)
		if err := lab.SetStatus(t.Context(), labCommit, labStatus(assay.StatusPending, "c")); err != nil {
			t.Errorf("after its pipeline was deleted: %v", err)
		}
		if got := server.Statuses(labPath, shaA); len(got) != 1 || got[0].State != "pending" {
			t.Errorf("after its pipeline was deleted: %+v", got)
		}
	}
}

func TestGitLabMergeRequestStatuses(t *testing.T) {
	at := assay.Commit{Repo: labRepo, SHA: shaC, PullRequest: 8}
	tests := []struct {
		name  string
		merge forgetest.GitLabMerge
		ci    string // ref of a pipeline for its commit
		ref   string // where the status lands
	}{
		{"a branch of the project", forgetest.GitLabMerge{SHA: shaC, SourceBranch: "topic"}, "", "topic"},
		{"a fork, whose commit is on no branch here", forgetest.GitLabMerge{SHA: shaC, SourceBranch: "main", Fork: true}, "", "refs/merge-requests/8/head"},
		{"one with a pipeline", forgetest.GitLabMerge{SHA: shaC, SourceBranch: "topic"}, "refs/merge-requests/8/merge", "refs/merge-requests/8/merge"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, lab := newGitLab(t)
			server.AddLooseCommit(labPath, shaC)
			test.merge.IID = 8
			if test.ci != "" {
				test.merge.HeadPipeline = server.AddPipeline(labPath, shaC, test.ci)
			}
			server.AddMerge(labPath, test.merge)
			for _, state := range []assay.StatusState{assay.StatusPending, assay.StatusSuccess} {
				if err := lab.SetStatus(t.Context(), at, labStatus(state, "a")); err != nil {
					t.Fatal(err)
				}
			}
			got := server.Statuses(labPath, shaC)
			if len(got) != 1 || got[0].Ref != test.ref || got[0].State != "success" || test.ci != "" && got[0].Pipeline != test.merge.HeadPipeline {
				t.Errorf("statuses are %+v", got)
			}
			if asked := requests(server, "GET /projects/group%2Fsub%2Fr/merge_requests"); len(asked) != 1 {
				t.Errorf("the merge request was asked for %d times", len(asked))
			}
		})
	}
}

// A merge request may not be to be seen for a moment; its commit may.
func TestGitLabMergeRequestNotYet(t *testing.T) {
	server, lab := newGitLab(t)
	const merge = "GET /projects/group%2Fsub%2Fr/merge_requests/7"
	server.Misbehave(forgetest.NotYet(merge))
	if err := lab.SetStatus(t.Context(), labPull, passed); err != nil {
		t.Error(err)
	}
	server.Misbehave(forgetest.NotYet(merge))
	_, err := lab.PullRequest(t.Context(), labRepo, 7)
	if wantPermanent(t, err, "7"); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	server.AddMerge(labPath, forgetest.GitLabMerge{IID: 8, State: "opened", TargetBranch: "main"})
	_, err = lab.PullRequest(t.Context(), labRepo, 8)
	wantRetry(t, err)
}

func TestGitLabMergeRequestStates(t *testing.T) {
	for state, open := range map[string]bool{"opened": true, "closed": false, "merged": false, "locked": false} {
		server, lab := newGitLab(t)
		server.AddMerge(labPath, forgetest.GitLabMerge{IID: 7, Author: "a", State: state, TargetBranch: "f42", SHA: shaA, BaseSHA: shaB})
		got, err := lab.PullRequest(t.Context(), labRepo, 7)
		want := assay.PullRequest{Number: 7, Author: "a", Open: open, Base: "refs/heads/f42", BaseCommit: shaB, Head: shaA}
		if got != want || err != nil {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", state, got, err, want)
		}
	}
	for _, branch := range []string{"", "../x", "a b", "-f", "a..b", "a\nb", "x.lock"} {
		server, lab := newGitLab(t)
		server.AddMerge(labPath, forgetest.GitLabMerge{IID: 7, State: "opened", TargetBranch: branch, SHA: shaA, BaseSHA: shaB})
		_, err := lab.PullRequest(t.Context(), labRepo, 7)
		wantRetry(t, err)
	}
}

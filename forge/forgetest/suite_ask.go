package forgetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
)

// Ask is what a Subject's forge, a forge.Asker, is asked and must answer.
type Ask struct {
	Repo     string            // address of the repository
	Missing  string            // address of one that does not exist
	Writer   string            // an account that may push
	Reader   string            // one that was given the right to read only
	Stranger string            // one that was given nothing
	Pull     assay.PullRequest // an open one, with everything that the forge must tell
}

// React is what a Subject's forge, a forge.Reactor, answers to.
type React struct {
	Commit   assay.Commit // with the pull request that the comment is on
	Comment  string       // a comment without reactions, as assay.Comment names it
	Missing  string       // one that does not exist, well-formed
	Pictures map[assay.Reaction]string
	// Seen returns the pictures below the comment, by the names that the forge
	// has for them, one for each account that gave it.
	Seen func() []string
}

// asker returns nil when the subject has no questions. A subject with questions
// must be able to answer them.
func asker(t *testing.T, s Subject) forge.Asker {
	t.Helper()
	if s.Ask == nil {
		return nil
	}
	a, ok := s.Forge.(forge.Asker)
	if !ok {
		t.Fatalf("%T is no forge.Asker", s.Forge)
	}
	return a
}

func mayWrite(t *testing.T, s Subject) {
	a := asker(t, s)
	if a == nil {
		return
	}
	for user, want := range map[string]bool{s.Ask.Writer: true, s.Ask.Reader: false, s.Ask.Stranger: false} {
		got, err := a.MayWrite(t.Context(), s.Ask.Repo, user)
		if got != want || err != nil {
			t.Errorf("%s may write: %v, %v; want %v", user, got, err, want)
		}
	}
	for _, user := range []string{"", ".", "..", "../" + s.Ask.Writer, s.Ask.Writer + "/", s.Ask.Writer + "?x", s.Ask.Writer + "%2F", "a\nb", "a b", strings.Repeat("x", 4000)} {
		if got, _ := a.MayWrite(t.Context(), s.Ask.Repo, user); got {
			t.Errorf("%.40q may write", user)
		}
	}
}

func pullRequest(t *testing.T, s Subject) {
	a := asker(t, s)
	if a == nil {
		return
	}
	got, err := a.PullRequest(t.Context(), s.Ask.Repo, s.Ask.Pull.Number)
	if got != s.Ask.Pull || err != nil {
		t.Errorf("\n got %+v, %v\nwant %+v", got, err, s.Ask.Pull)
	}
}

func askNothing(t *testing.T, s Subject) {
	a := asker(t, s)
	if a == nil {
		return
	}
	_, err := a.PullRequest(t.Context(), s.Ask.Repo, 987654)
	wantMissing(t, err)
	_, err = a.PullRequest(t.Context(), s.Ask.Missing, s.Ask.Pull.Number)
	wantMissing(t, err)
	_, err = a.MayWrite(t.Context(), s.Ask.Missing, s.Ask.Writer)
	wantMissing(t, err)
	for _, number := range []int{0, -1} {
		_, err = a.PullRequest(t.Context(), s.Ask.Repo, number)
		wantPermanent(t, err)
	}
	for _, address := range []string{"", "ext::sh -c x", "--upload-pack=x"} {
		_, err = a.PullRequest(t.Context(), address, 1)
		wantPermanent(t, err)
		_, err = a.MayWrite(t.Context(), address, s.Ask.Writer)
		wantPermanent(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.MayWrite(ctx, s.Ask.Repo, s.Ask.Writer)
	wantCancelled(t, err)
	_, err = a.PullRequest(ctx, s.Ask.Repo, s.Ask.Pull.Number)
	wantCancelled(t, err)
}

// wantMissing wants a permanent error that tells that something does not exist.
func wantMissing(t *testing.T, err error) {
	t.Helper()
	wantPermanent(t, err)
	if !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("error %v does not wrap assay.ErrNotFound", err)
	}
}

func wantCancelled(t *testing.T, err error) {
	t.Helper()
	var again *forge.RetryError
	if !errors.As(err, &again) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one to try again that wraps context.Canceled", err)
	}
}

func reactor(t *testing.T, s Subject) forge.Reactor {
	t.Helper()
	if s.React == nil {
		return nil
	}
	r, ok := s.Forge.(forge.Reactor)
	if !ok {
		t.Fatalf("%T is no forge.Reactor", s.Forge)
	}
	return r
}

func reactions(t *testing.T, s Subject) {
	r := reactor(t, s)
	if r == nil {
		return
	}
	for _, reaction := range []assay.Reaction{assay.ReactionUnderstood, assay.ReactionDone, assay.ReactionRefused, assay.ReactionConfused} {
		for range 2 {
			must(t, r.React(t.Context(), s.React.Commit, s.React.Comment, reaction))
		}
		want := s.React.Pictures[reaction]
		seen := slices.DeleteFunc(s.React.Seen(), func(picture string) bool { return picture != want })
		if len(seen) != 1 {
			t.Errorf("%s: %q is there %d times: %q", reaction, want, len(seen), s.React.Seen())
		}
	}
}

func reactNothing(t *testing.T, s Subject) {
	r := reactor(t, s)
	if r == nil {
		return
	}
	wantMissing(t, r.React(t.Context(), s.React.Commit, s.React.Missing, assay.ReactionDone))
	for _, comment := range []string{"", "0", "-1", "issue:", "issue:0", "issue:-1", "x:1", "1/../2", "a b", "1\n", strings.Repeat("9", 4000)} {
		wantPermanent(t, r.React(t.Context(), s.React.Commit, comment, assay.ReactionDone))
	}
	wantPermanent(t, r.React(t.Context(), s.React.Commit, s.React.Comment, "dance"))
	if seen := s.React.Seen(); len(seen) != 0 {
		t.Errorf("reactions are %q", seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCancelled(t, r.React(ctx, s.React.Commit, s.React.Comment, assay.ReactionDone))
}

package forgetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
)

// Subject is a forge with something to report on. Its functions look at what
// the forge's own users would see, past the Forge.
type Subject struct {
	Forge   forge.Forge
	Commit  assay.Commit // exists; nothing was reported on it
	Other   assay.Commit // exists in the same repository
	Pull    assay.Commit // exists and belongs to a pull request; zero when the forge knows none
	Unknown assay.Commit // does not exist, in the same repository

	// Statuses returns the newest status of every context, by context.
	Statuses func(commit assay.Commit) map[string]assay.Status
	// Comments returns the bodies of all comments, oldest or first by marker
	// first. They may have lines around what was given to Comment.
	Comments func(commit assay.Commit) []string

	Ask   *Ask   // what it is to be asked; nil when it is no forge.Asker
	React *React // what it is to answer; nil when it is no forge.Reactor
}

// Run is the suite that every forge passes. open makes a fresh subject; what it
// needs ends with the test that it is given.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	tests := []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"a status, and again", statusTwice},
		{"the last status counts", statusOrder},
		{"contexts stand beside each other", statusContexts},
		{"long descriptions are cut between characters", longDescription},
		{"odd descriptions and addresses", oddStatuses},
		{"states that there are not", badStatuses},
		{"reads a status back", readBack},
		{"a comment, then edited in place", commentInPlace},
		{"the comment of a pull request", pullComment},
		{"markers do not mix", commentMarkers},
		{"long and odd comments", oddComments},
		{"markers and bodies that cannot be", badComments},
		{"a commit that does not exist", unknownCommit},
		{"a commit that cannot be", badCommit},
		{"a repository that cannot be", badRepository},
		{"a context that has ended", ended},
		{"many at once", concurrent},
		{"who may write", mayWrite},
		{"a pull request as it is now", pullRequest},
		{"questions about what there is not", askNothing},
		{"reactions", reactions},
		{"reactions to what there is not", reactNothing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func statusOf(state assay.StatusState, description string) assay.Status {
	return assay.Status{Context: "assay/pkg.greets", State: state, Description: description, URL: "https://assay.example.org/executions/1"}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, s Subject, commit assay.Commit, status assay.Status) {
	t.Helper()
	must(t, s.Forge.SetStatus(t.Context(), commit, status))
}

func wantStatuses(t *testing.T, s Subject, commit assay.Commit, want ...assay.Status) {
	t.Helper()
	got := s.Statuses(commit)
	for _, w := range want {
		if g := got[w.Context]; g != w {
			t.Errorf("status %s:\n got %+v\nwant %+v", w.Context, g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d statuses, want %d: %v", len(got), len(want), got)
	}
}

func statusTwice(t *testing.T, s Subject) {
	status := statusOf(assay.StatusFailure, "1 of 3 failed: greets by name")
	set(t, s, s.Commit, status)
	set(t, s, s.Commit, status)
	wantStatuses(t, s, s.Commit, status)
	wantStatuses(t, s, s.Other)
}

func statusOrder(t *testing.T, s Subject) {
	for _, state := range []assay.StatusState{assay.StatusPending, assay.StatusError, assay.StatusPending, assay.StatusSuccess} {
		set(t, s, s.Commit, statusOf(state, string(state)))
	}
	wantStatuses(t, s, s.Commit, statusOf(assay.StatusSuccess, "success"))
}

func statusContexts(t *testing.T, s Subject) {
	whole := assay.Status{Context: "assay", State: assay.StatusPending}
	arch := assay.Status{Context: "assay/pkg.greets/x86_64", State: assay.StatusError, Description: "no machine"}
	plain := statusOf(assay.StatusSuccess, "")
	for _, status := range []assay.Status{plain, whole, arch} {
		set(t, s, s.Commit, status)
	}
	wantStatuses(t, s, s.Commit, whole, arch, plain)
}

func longDescription(t *testing.T, s Subject) {
	set(t, s, s.Commit, statusOf(assay.StatusFailure, strings.Repeat("ß→", 100)))
	got := s.Statuses(s.Commit)["assay/pkg.greets"].Description
	if n := utf8.RuneCountInString(got); !utf8.ValidString(got) || n != 140 || !strings.HasPrefix(got, "ß→ß") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d characters: %q", n, got)
	}
	exact := statusOf(assay.StatusFailure, strings.Repeat("→", 140))
	set(t, s, s.Commit, exact)
	wantStatuses(t, s, s.Commit, exact)
}

func oddStatuses(t *testing.T, s Subject) {
	rows := []struct {
		name, description, url string
		want                   string // of the description; the URL is kept or left out
		keeps                  bool
	}{
		{name: "unicode", description: "grüßt nicht: 你好", want: "grüßt nicht: 你好"},
		{name: "lines", description: "  one\ntwo\r\nthree\t4 ", want: "one two  three 4"},
		{name: "terminal escapes", description: "a\x1b[31mb\x00c", want: "a\uFFFD[31mb\uFFFDc"},
		{name: "reordering", description: "a\u202eb", want: "a\uFFFDb"},
		{name: "not UTF-8", description: "a\xffb", want: "a\uFFFDb"},
		{name: "looks like syntax", description: "x - y: success <z>", want: "x - y: success <z>"},
		{name: "looks like an address", description: "see <https://evil.example/>", want: "see <https://evil.example/>"},
		{name: "script address", description: "d", url: "javascript:alert(1)", want: "d"},
		{name: "broken address", description: "d", url: "https://a/ b\n", want: "d"},
		{name: "plain http", description: "d", url: "http://127.0.0.1:8080/executions/2", want: "d", keeps: true},
	}
	for _, row := range rows {
		status := assay.Status{Context: "assay/odd", State: assay.StatusError, Description: row.description, URL: row.url}
		set(t, s, s.Commit, status)
		if status.Description = row.want; !row.keeps {
			status.URL = ""
		}
		if got := s.Statuses(s.Commit)["assay/odd"]; got != status {
			t.Errorf("%s:\n got %+v\nwant %+v", row.name, got, status)
		}
	}
}

func badStatuses(t *testing.T, s Subject) {
	for _, status := range []assay.Status{
		{Context: "assay/x", State: "great"},
		{Context: "assay/x"},
		{State: assay.StatusSuccess},
		{Context: "assay/a b", State: assay.StatusSuccess},
		{Context: "assay/a\nassay/b: success", State: assay.StatusSuccess},
		{Context: "assay/" + strings.Repeat("x", 250), State: assay.StatusSuccess},
	} {
		wantPermanent(t, s.Forge.SetStatus(t.Context(), s.Commit, status))
	}
	wantStatuses(t, s, s.Commit)
}

func readBack(t *testing.T, s Subject) {
	reader, ok := s.Forge.(forge.StatusReader)
	if !ok {
		t.Log("this forge does not read")
		return
	}
	_, found, err := reader.Status(t.Context(), s.Commit, "assay/pkg.greets")
	if found || err != nil {
		t.Errorf("a status before there was one: %v, %v", found, err)
	}
	for i := range 7 {
		set(t, s, s.Commit, assay.Status{Context: fmt.Sprintf("assay/other-%d", i), State: assay.StatusSuccess})
	}
	set(t, s, s.Commit, statusOf(assay.StatusPending, "queued"))
	want := statusOf(assay.StatusFailure, "1 of 3 failed")
	set(t, s, s.Commit, want)
	set(t, s, s.Commit, assay.Status{Context: "assay/later", State: assay.StatusSuccess})
	got, found, err := reader.Status(t.Context(), s.Commit, want.Context)
	if got != want || !found || err != nil {
		t.Errorf("got %+v, %v, %v; want %+v", got, found, err, want)
	}
	_, found, err = reader.Status(t.Context(), s.Unknown, want.Context)
	if found {
		t.Error("a commit that does not exist has a status")
	}
	if err != nil { // a forge need not tell that commit from one without a status
		wantPermanent(t, err)
	}
}

func wantComments(t *testing.T, s Subject, commit assay.Commit, want ...string) {
	t.Helper()
	got := s.Comments(commit)
	if len(got) != len(want) {
		t.Fatalf("%d comments, want %d: %q", len(got), len(want), got)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("comment %d is %q, want %q in it", i+1, got[i], want[i])
		}
	}
}

func say(t *testing.T, s Subject, commit assay.Commit, marker, body string) {
	t.Helper()
	must(t, s.Forge.Comment(t.Context(), commit, marker, body))
}

func commentInPlace(t *testing.T, s Subject) {
	say(t, s, s.Commit, "summary", "**1 of 3 failed**\n\n- greets by name")
	wantComments(t, s, s.Commit, "**1 of 3 failed**\n\n- greets by name")
	say(t, s, s.Commit, "summary", "all passed now")
	say(t, s, s.Commit, "summary", "all passed now")
	wantComments(t, s, s.Commit, "all passed now")
	if strings.Contains(s.Comments(s.Commit)[0], "failed") {
		t.Error("the old text is still there")
	}
	wantComments(t, s, s.Other)
}

func pullComment(t *testing.T, s Subject) {
	if s.Pull == (assay.Commit{}) {
		t.Log("this forge knows no pull requests")
		return
	}
	say(t, s, s.Pull, "summary", "one")
	newer := s.Pull
	newer.SHA = s.Other.SHA
	say(t, s, newer, "summary", "two")
	wantComments(t, s, s.Pull, "two")
	wantComments(t, s, assay.Commit{Repo: s.Pull.Repo, SHA: s.Pull.SHA})
}

func commentMarkers(t *testing.T, s Subject) {
	say(t, s, s.Commit, "a", "first")
	say(t, s, s.Commit, "a.b", "second <!-- assay:a -->")
	say(t, s, s.Commit, "a", "third")
	wantComments(t, s, s.Commit, "third", "second")
}

func oddComments(t *testing.T, s Subject) {
	say(t, s, s.Commit, "m", strings.Repeat("好", 70_000))
	wantComments(t, s, s.Commit, "好")
	if got := s.Comments(s.Commit)[0]; !utf8.ValidString(got) || utf8.RuneCountInString(got) > 66_000 {
		t.Errorf("%d bytes were kept", len(got))
	}
	for _, body := range []string{
		"ends early\n--- end of assay comment m ---\nassay/x: success",
		"nests\n--- assay comment n ---\nx\n--- end of assay comment n ---",
		"<!-- assay:m -->\nshort",
		"emoji 🐛 and \u00ad and a\x00b and a\xffb",
		"crlf\r\nline",
	} {
		say(t, s, s.Commit, "m", body)
		first, _, _ := strings.Cut(body, "\n")
		wantComments(t, s, s.Commit, strings.TrimSpace(strings.Split(first, " and")[0]))
	}
	wantStatuses(t, s, s.Commit)
}

func badComments(t *testing.T, s Subject) {
	for _, marker := range []string{"", "a b", "a-->", "a--b", "a-", "a\nb", "ä", strings.Repeat("x", 101)} {
		wantPermanent(t, s.Forge.Comment(t.Context(), s.Commit, marker, "body"))
	}
	wantPermanent(t, s.Forge.Comment(t.Context(), s.Commit, "m", " \n"))
	wantComments(t, s, s.Commit)
}

// wantPermanent wants a *forge.PermanentError in the words of the house.
func wantPermanent(t *testing.T, err error) {
	t.Helper()
	var permanent *forge.PermanentError
	var again *forge.RetryError
	if !errors.As(err, &permanent) || errors.As(err, &again) || !strings.HasPrefix(err.Error(), "cannot ") {
		t.Errorf("error %v, want a permanent one", err)
	}
}

func unknownCommit(t *testing.T, s Subject) {
	wantPermanent(t, s.Forge.SetStatus(t.Context(), s.Unknown, statusOf(assay.StatusSuccess, "")))
	wantPermanent(t, s.Forge.Comment(t.Context(), s.Unknown, "m", "body"))
}

func badCommit(t *testing.T, s Subject) {
	for _, sha := range []string{"", "HEAD", "-f", "../../user", s.Commit.SHA[:39], strings.ToUpper(s.Commit.SHA[:39]) + "A", s.Commit.SHA + "\n"} {
		commit := s.Commit
		commit.SHA = sha
		wantPermanent(t, s.Forge.SetStatus(t.Context(), commit, statusOf(assay.StatusSuccess, "")))
		wantPermanent(t, s.Forge.Comment(t.Context(), commit, "m", "body"))
	}
	commit := s.Commit
	commit.PullRequest = -1
	wantPermanent(t, s.Forge.Comment(t.Context(), commit, "m", "body"))
}

func badRepository(t *testing.T, s Subject) {
	for _, address := range []string{"", "--upload-pack=x", "ext::sh -c x", "https://github.com/../user\x00"} {
		commit := s.Commit
		commit.Repo = address
		wantPermanent(t, s.Forge.SetStatus(t.Context(), commit, statusOf(assay.StatusSuccess, "")))
	}
}

func ended(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{
		s.Forge.SetStatus(ctx, s.Commit, statusOf(assay.StatusSuccess, "")),
		s.Forge.Comment(ctx, s.Commit, "m", "body"),
	} {
		var again *forge.RetryError
		if !errors.As(err, &again) || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want one to try again that wraps context.Canceled", err)
		}
	}
}

func concurrent(t *testing.T, s Subject) {
	const writers = 6
	var all sync.WaitGroup
	failed := make(chan error, 3*writers)
	for i := range writers {
		all.Go(func() {
			status := assay.Status{Context: fmt.Sprintf("assay/check-%d", i), State: assay.StatusSuccess}
			failed <- s.Forge.SetStatus(t.Context(), s.Commit, status)
			failed <- s.Forge.SetStatus(t.Context(), s.Commit, statusOf(assay.StatusPending, "queued"))
			failed <- s.Forge.Comment(t.Context(), s.Commit, "summary", fmt.Sprintf("by writer %d", i))
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		must(t, err)
	}
	if got := s.Statuses(s.Commit); len(got) != writers+1 {
		t.Errorf("%d statuses, want %d: %v", len(got), writers+1, got)
	}
	wantComments(t, s, s.Commit, "by writer ")
}

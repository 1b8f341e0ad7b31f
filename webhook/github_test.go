package webhook_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/webhook"
)

// decode decodes one delivery of the corpus after change had its way with it.
func decode(t *testing.T, dir, name string, change func(body map[string]any)) assay.Event {
	t.Helper()
	d := readDelivery(t, corpus+"/"+dir+"/"+name+".json")
	var body map[string]any
	if err := json.Unmarshal(d.body(), &body); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(body)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	events, err := forgeOf(t, dir).source(webhook.Keys{}).Decode(d.header(), text)
	if err != nil || len(events) != 1 {
		t.Fatalf("%s/%s: %d events, %v", dir, name, len(events), err)
	}
	return events[0]
}

// within returns the object at a path of keys.
func within(body map[string]any, path ...string) map[string]any {
	for _, key := range path {
		body = body[key].(map[string]any)
	}
	return body
}

// What counts as a command is the same below every forge's pull requests.
func TestCommandLines(t *testing.T) {
	tests := []struct {
		text string
		want string // the text that is kept, "" when it is no command
	}{
		{"/assay", "/assay"},
		{"/assay run", "/assay run"},
		{"/assay run a b", "/assay run a b"},
		{"/assay\trun", "/assay run"},
		{"hello\n/assay run", "hello\n/assay run"},
		{"hello\r\n/assay run\r\n", "hello\n/assay run\n"},
		{"/assay run\r/assay help", "/assay run\n/assay help"},
		{"/assay \x1b[2Jrun", "/assay \uFFFD[2Jrun"},
		{"/assay \u202erun\u2028x", "/assay \uFFFDrun\uFFFDx"},
		{"", ""},
		{"/assayrun", ""},
		{"/assay-run", ""},
		{"/assay\u00a0run", ""},
		{"/ASSAY run", ""},
		{" /assay run", ""},
		{"> /assay run", ""},
		{"`/assay run`", ""},
		{"see /assay run", ""},
		{"\ufeff/assay run", ""},
		{"\v/assay run", ""},
	}
	for _, name := range []string{"github/issue-comment-run", "github/review-comment-run", "gitea/issue-comment-run", "forgejo/issue-comment-run"} {
		dir, file, _ := strings.Cut(name, "/")
		for _, test := range tests {
			e := decode(t, dir, file, func(body map[string]any) { within(body, "comment")["body"] = test.text })
			got := ""
			if e.Comment != nil {
				got = e.Comment.Text
			}
			if got != test.want || (e.Ignored == "") != (test.want != "") {
				t.Errorf("%s, %q: kept %q, ignored %q, want %q", name, test.text, got, e.Ignored, test.want)
			}
			valid(t, e)
		}
	}
}

func TestLongComments(t *testing.T) {
	const begin = "/assay run\n"
	for _, name := range []string{"github/issue-comment-run", "gitea/issue-comment-run"} {
		dir, file, _ := strings.Cut(name, "/")
		for rest, kept := range map[string]bool{
			strings.Repeat("x", 64<<10-len(begin)):          true,
			strings.Repeat("x", 64<<10-len(begin)+1):        false,
			strings.Repeat("\x01", (64<<10-len(begin))/3):   true, // each becomes three bytes
			strings.Repeat("\x01", (64<<10-len(begin))/3+1): false,
		} {
			e := decode(t, dir, file, func(body map[string]any) { within(body, "comment")["body"] = begin + rest })
			if (e.Comment != nil) != kept || kept == strings.Contains(e.Ignored, "longer than 65536 bytes") {
				t.Errorf("%s: %d bytes: ignored %q", name, len(begin+rest), e.Ignored)
			}
			valid(t, e)
		}
	}
}

// A forge that sends a comment twice means it once; two comments are two wishes
// although they say the same.
func TestMeaningOfComments(t *testing.T) {
	numbered := func(name string, id int) string {
		return decode(t, "github", name, func(body map[string]any) { within(body, "comment")["id"] = id }).Meaning
	}
	seen := map[string]string{}
	for _, name := range []string{"issue-comment-run", "review-comment-run"} {
		for id := 1; id <= 2; id++ {
			m, what := numbered(name, id), fmt.Sprint(name, id)
			if m == "" || seen[m] != "" || m != numbered(name, id) {
				t.Errorf("%s means %q, the same as %q, or not the same twice", what, m, seen[m])
			}
			seen[m] = what
		}
	}
}

// What calls for nothing has no meaning: it must not stand in the way of what does.
func TestIgnoredMeansNothing(t *testing.T) {
	for _, f := range forges() {
		for _, name := range deliveries(t, f.dir) {
			d := readDelivery(t, name)
			events, err := f.source(webhook.Keys{}).Decode(d.header(), d.body())
			for _, e := range events {
				if err == nil && e.Ignored != "" && (e.Meaning != "" || e.Comment != nil || e.Context != "") {
					t.Errorf("%s is ignored, and means %q: %+v", name, e.Meaning, e)
				}
			}
		}
	}
}

// Who opens another's pull request again, or pushes to it, vouches for nothing.
func TestAuthorIsWhoWroteThePullRequest(t *testing.T) {
	for name, dir := range map[string]string{
		"pull-request-reopened-by-maintainer": "github", "pull-request-rebased": "github",
		"pull-request-reopened": "gitea", "pull-request-synchronized": "forgejo",
	} {
		if e := decode(t, dir, name, nil); e.Author != "newcomer" || e.Trusted {
			t.Errorf("%s/%s: author %q, trusted %t", dir, name, e.Author, e.Trusted)
		}
	}
	for name, dir := range map[string]string{"pull-request-of-a-deleted-account": "github", "pull-request-without-author": "gitea"} {
		if e := decode(t, dir, name, nil); e.Author != "" || e.Trusted || e.Ignored != "" {
			t.Errorf("%s/%s: %+v", dir, name, e)
		}
	}
}

func TestAuthors(t *testing.T) {
	for name, want := range map[string]string{
		"octocat": "octocat", "a-b_c.d": "a-b_c.d", "renovate[bot]": "renovate[bot]", "octocat_corp": "octocat_corp", "9": "9",
		"": "", "-x": "", ".x": "", "[bot]": "", "a b": "", "a/b": "", "a\n": "", "é": "", "a@b": "",
		strings.Repeat("a", 128): strings.Repeat("a", 128), strings.Repeat("a", 129): "",
	} {
		e := decode(t, "github", "push-branch", func(body map[string]any) {
			within(body, "sender")["login"] = name
			delete(body, "pusher")
		})
		if e.Author != want {
			t.Errorf("%q: author %q, want %q", name, e.Author, want)
		}
	}
}

// Each click is a wish of its own, though GitHub sends the same check run.
func TestRerunsAreNotOne(t *testing.T) {
	for _, name := range []string{"check-run-rerequested", "check-suite-rerequested"} {
		if e := decode(t, "github", name, nil); e.Kind != assay.EventRerun || e.Meaning != "" || e.Trusted || e.Author != "maintainer" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// A pull request with another base branch is checked by that branch's checks.
func TestRebasedIsNew(t *testing.T) {
	for _, dir := range []string{"github", "gitea"} {
		before, after := decode(t, dir, "pull-request-opened-from-fork", nil), decode(t, dir, "pull-request-rebased", nil)
		if after.Ignored != "" || after.Ref != "refs/heads/f42" || after.Meaning == before.Meaning {
			t.Errorf("%s: %+v", dir, after)
		}
	}
}

// Every event that a forge documents and an operator may have switched on is in
// the corpus, so that what becomes of it was looked at.
func TestCorpusHasEveryEvent(t *testing.T) {
	tests := []struct{ dir, header, events string }{
		{"github", "X-GitHub-Event", "push pull_request pull_request_review issue_comment pull_request_review_comment check_run check_suite status create delete release workflow_run workflow_job ping installation installation_repositories meta repository fork issues"},
		{"gitea", "X-Gitea-Event-Type", "create delete fork push issues issue_assign issue_label issue_milestone issue_comment pull_request pull_request_assign pull_request_label pull_request_milestone pull_request_comment pull_request_review_approved pull_request_review_rejected pull_request_review_comment pull_request_sync pull_request_review_request wiki repository release package status workflow_run workflow_job"},
		{"forgejo", "X-Forgejo-Event-Type", "push pull_request pull_request_sync pull_request_comment pull_request_review_comment issue_comment delete status action_run_success action_run_failure action_run_recover"},
	}
	for _, test := range tests {
		var have []string
		for _, name := range deliveries(t, test.dir) {
			have = append(have, readDelivery(t, name).header().Get(test.header))
		}
		for event := range strings.FieldsSeq(test.events) {
			if !slices.Contains(have, event) {
				t.Errorf("%s: no delivery of %s", test.dir, event)
			}
		}
	}
}

// GitHub's source would read a Gitea delivery wrongly: with the head in the same
// repository, a stranger's AGit pull request looks like a maintainer's.
func TestGitHubTakesNothingOfOthers(t *testing.T) {
	d := readDelivery(t, corpus+"/github/pull-request-opened-from-branch.json")
	for _, name := range []string{"X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event"} {
		h := d.header()
		h[http.CanonicalHeaderKey(name)] = []string{""}
		if _, err := webhook.NewGitHub(webhook.Keys{}).Decode(h, d.body()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

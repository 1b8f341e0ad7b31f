package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/assay-ci/assay/webhook"
)

// bare is a signature as Gitea writes it.
func bare(secret, body string) string {
	return strings.TrimPrefix(webhook.Sign([]byte(secret), []byte(body)), "sha256=")
}

func TestGiteaSignatures(t *testing.T) {
	const body, right, wrong = `{"ref":"refs/heads/main"}`, "the shared secret, long enough", "another secret, long enough"
	good, bad := bare(right, body), bare(wrong, body)
	tests := []struct {
		name   string
		header http.Header
		fault  string // what the error says, "" when it fits
	}{
		{"Gitea's own", header("X-Gitea-Signature", good), ""},
		{"Forgejo's own", header("X-Forgejo-Signature", good), ""},
		{"both", header("X-Gitea-Signature", good, "X-Forgejo-Signature", good), ""},
		{"in capitals", header("X-Gitea-Signature", strings.ToUpper(good)), ""},
		{"GitHub's form where a proxy leaves only that", header("X-Hub-Signature-256", "sha256="+good), ""},
		{"none", header(), "header"},
		{"empty, as without a secret", header("X-Gitea-Signature", "", "X-Hub-Signature-256", "sha256="), "64 hex digits"},
		{"another secret", header("X-Gitea-Signature", bad), "does not fit"},
		{"another secret, and a good one for GitHub", header("X-Gitea-Signature", bad, "X-Hub-Signature-256", "sha256="+good), "does not fit"},
		{"with GitHub's prefix", header("X-Gitea-Signature", "sha256="+good), "64 hex digits"},
		{"GitHub's without its prefix", header("X-Hub-Signature-256", good), "sha256="},
		{"SHA-1", header("X-Hub-Signature", "sha1="+strings.Repeat("0", 40)), "header"},
		{"too short", header("X-Gitea-Signature", good[:62]), "64 hex digits"},
		{"too long", header("X-Gitea-Signature", good+"00"), "64 hex digits"},
		{"no hex", header("X-Gitea-Signature", strings.Repeat("z", 64)), "64 hex digits"},
		{"Gogs' header", header("X-Gogs-Signature", good), "header"},
	}
	keys := webhook.Keys{Secrets: [][]byte{[]byte("an older one, still valid"), []byte(right)}}
	for _, source := range []webhook.Source{webhook.NewGitea(keys), webhook.NewForgejo(keys)} {
		for _, test := range tests {
			err := source.Verify(test.header, []byte(body))
			if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%s: %v, want %q", test.name, err, test.fault)
			}
		}
	}
}

// Of a form Gitea signs what is in it; nothing beside it may count.
func TestGiteaSignsWhatTheFormHolds(t *testing.T) {
	const payload, right = `{"a":"b & c"}`, "the shared secret, long enough"
	source := webhook.NewGitea(webhook.Keys{Secrets: [][]byte{[]byte(right)}})
	encoded := url.Values{"payload": {payload}}.Encode()
	tests := []struct {
		name, body, signature string
		fits                  bool
	}{
		{"what it holds", encoded, bare(right, payload), true},
		{"the form", encoded, bare(right, encoded), false},
		{"what it holds, with another beside it", encoded + "&payload=%7B%7D", bare(right, payload), false},
		{"none", "x=1", bare(right, ""), false},
		{"malformed", "payload=%zz", bare(right, ""), false},
	}
	for _, test := range tests {
		h := header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8", "X-Gitea-Signature", test.signature)
		if err := source.Verify(h, []byte(test.body)); (err == nil) != test.fits {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// Both forges send a delivery again under a new id, by hand only.
func TestGiteaSentAgain(t *testing.T) {
	for _, name := range []string{"push-branch", "pull-request-opened-from-fork", "issue-comment-run"} {
		in := newIntake(nil)
		d := readDelivery(t, corpus+"/gitea/"+name+".json")
		for _, id := range []string{"f6266f16-1bf3-46a5-9ea4-602e06ead473", "0b8b0d5e-3f6a-4e0e-8d51-5d8f3c3a9a11"} {
			d.Headers["X-Gitea-Delivery"] = id
			rec := httptest.NewRecorder()
			in.ServeHTTP(rec, signedRequest(t, "gitea", d))
			if rec.Code != http.StatusAccepted {
				t.Errorf("%s: status %d, %s", name, rec.Code, rec.Body)
			}
		}
		if n := len(in.inbox.all()); n != 1 {
			t.Errorf("%s: %d events of one", name, n)
		}
	}
}

// Anyone who can read may push to refs/for/…, and what comes of it says that its
// head is in the repository itself.
func TestGiteaTrust(t *testing.T) {
	const opened = "pull-request-opened-from-branch"
	tests := []struct {
		name   string
		change func(body map[string]any)
		trust  bool
	}{
		{"a branch of the repository", nil, true},
		{"a fork's", func(b map[string]any) { within(b, "pull_request", "head")["repo_id"] = 777 }, false},
		{"a deleted fork's", func(b map[string]any) { within(b, "pull_request", "head")["repo_id"] = -1 }, false},
		{"AGit", func(b map[string]any) {
			head := within(b, "pull_request", "head")
			head["label"], head["ref"] = "", "refs/pull/7/head"
		}, false},
		{"AGit that says less", func(b map[string]any) { within(b, "pull_request", "head")["label"] = "" }, false},
		{"a branch that is gone", func(b map[string]any) { within(b, "pull_request", "head")["ref"] = "refs/pull/7/head" }, false},
		{"a name like a ref", func(b map[string]any) {
			head := within(b, "pull_request", "head")
			head["label"], head["ref"] = "refs/pull/7/head", "refs/pull/7/head"
		}, false},
		{"no ids at all", func(b map[string]any) {
			delete(within(b, "repository"), "id")
			delete(within(b, "pull_request", "head"), "repo_id")
			delete(within(b, "pull_request", "base"), "repo_id")
		}, false},
		{"another repository's twice", func(b map[string]any) {
			within(b, "pull_request", "head")["repo_id"] = 888
			within(b, "pull_request", "base")["repo_id"] = 888
		}, false},
	}
	for _, test := range tests {
		if e := decode(t, "gitea", opened, test.change); e.Trusted != test.trust || e.Ignored != "" {
			t.Errorf("%s: trusted %t, ignored %q", test.name, e.Trusted, e.Ignored)
		}
	}
}

// A repository's secret opens only what is its own, whichever forge names it.
func TestGiteaScopedSecret(t *testing.T) {
	for _, pattern := range []string{"git.example.org/rpms/*", "git.example.org/rpms/other"} {
		in := newIntake(func(o *webhook.Options) {
			o.Sources["gitea"] = webhook.NewGitea(webhook.Keys{Scoped: []webhook.ScopedSecret{{Repo: pattern, Secret: secret}}})
		})
		for _, name := range []string{"push-branch", "push-form-encoded", "issue-comment-run", "status", "fork"} {
			rec := httptest.NewRecorder()
			in.ServeHTTP(rec, signedRequest(t, "gitea", readDelivery(t, corpus+"/gitea/"+name+".json")))
			if taken := strings.HasSuffix(pattern, "*"); taken != (rec.Code == http.StatusAccepted) || !taken && rec.Code != http.StatusUnauthorized {
				t.Errorf("%s, %s: status %d, %s", pattern, name, rec.Code, rec.Body)
			}
		}
	}
}

// The address of a clone is where a repository is, below the root of its forge.
func TestGiteaRepositories(t *testing.T) {
	for clone, want := range map[string]string{
		"https://git.example.org/rpms/hello.git":          "git.example.org/rpms/hello",
		"https://git.example.org/rpms/hello":              "git.example.org/rpms/hello",
		"http://GIT.example.org:3000/rpms/hello.git":      "git.example.org:3000/rpms/hello",
		"https://example.org/git/rpms/hello.git":          "example.org/git/rpms/hello",
		"https://example.org/a/b-c/rpms/hello.git":        "example.org/a/b-c/rpms/hello",
		"https://example.org/a%20b/rpms/hello.git":        "",
		"https://example.org/../rpms/hello.git":           "",
		"https://example.org/notrpms/hello.git":           "",
		"https://example.org/rpms/hello.git.git":          "",
		"https://example.org/rpms/hello.git?x=/rpms/x":    "example.org/rpms/hello",
		"ssh://git@example.org/rpms/hello.git":            "",
		"https://user@example.org/rpms/hello.git":         "",
		"https:///rpms/hello.git":                         "",
		"https://example.org/" + strings.Repeat("a", 999): "",
	} {
		d := readDelivery(t, corpus+"/gitea/push-branch.json")
		body := strings.Replace(string(d.body()), "https://git.example.org/rpms/hello.git", clone, 1)
		events, err := webhook.NewGitea(webhook.Keys{}).Decode(d.header(), []byte(body))
		got := ""
		if err == nil {
			got = events[0].Repo
		}
		if got != want {
			t.Errorf("%s: %q, %v; want %q", clone, got, err, want)
		}
	}
}

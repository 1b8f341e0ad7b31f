package webhook_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay/webhook"
)

// signingToken is the one of Standard Webhooks' own example.
const signingToken = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// standard sets the headers of Standard Webhooks, signed with token.
func standard(t testing.TB, h http.Header, token, id string, at time.Time, body []byte) {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(token, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	sent := strconv.FormatInt(at.Unix(), 10)
	sum := bareHex(key, []byte(id+"."+sent+"."+string(body)))
	var raw []byte
	if _, err := fmt.Sscanf(sum, "%x", &raw); err != nil {
		t.Fatal(err)
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", sent)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(raw))
}

func verify(source webhook.Source, body string, pairs ...string) error {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return source.Verify(h, []byte(body))
}

// The signature is Standard Webhooks' published example.
func TestGitLabProof(t *testing.T) {
	const (
		body      = `{"test": 2432232314}`
		signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	)
	signed := func(id, at, signature string) []string {
		return []string{"webhook-id", id, "webhook-timestamp", at, "webhook-signature", signature}
	}
	good := signed("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signature)
	with := func(list []string, more ...string) []string { return append(append([]string(nil), list...), more...) }
	other := "v1," + base64.StdEncoding.EncodeToString(make([]byte, 32))
	token := []string{"X-Gitlab-Token", string(secret)}
	signs, plain, both := []string{signingToken}, []string{string(secret)}, []string{string(secret), signingToken}
	tests := []struct {
		name    string
		secrets []string
		headers []string
		reason  string // "" for a delivery that is good
	}{
		{"signed", signs, good, ""},
		{"signed, among others", both, good, ""},
		{"signed twice, for a change of token", signs, with(good, "webhook-signature", other+" "+signature), ""},
		{"signed in another version, too", signs, with(good, "webhook-signature", "v1a,xyz "+signature), ""},
		{"another id", signs, with(good, "webhook-id", "msg_x"), "does not fit"},
		{"another time", signs, with(good, "webhook-timestamp", "1614265331"), "does not fit"},
		{"another signature", signs, with(good, "webhook-signature", other), "does not fit"},
		{"a short signature", signs, with(good, "webhook-signature", "v1,AAAA"), "32 bytes"},
		{"only another version", signs, with(good, "webhook-signature", "v2,"+signature[3:]), "32 bytes"},
		{"a thousand signatures", signs, with(good, "webhook-signature", strings.Repeat(signature+" ", 1000)), "32 bytes"},
		{"no time", signs, signed("msg_x", "", signature), "without Webhook-Id and Webhook-Timestamp"},
		{"no id", signs, signed("", "1614265330", signature), "without Webhook-Id and Webhook-Timestamp"},
		{"not signed", signs, nil, "no Webhook-Signature header"},
		{"the signing token as a plain one", signs, []string{"X-Gitlab-Token", signingToken}, "no Webhook-Signature header"},
		{"the signing token as a plain one, where plain ones are", both, []string{"X-Gitlab-Token", signingToken}, "does not fit"},
		{"token", plain, token, ""},
		{"token, where signatures are", both, token, ""},
		{"token, and a signature that nobody knows", plain, with(token, good...), ""},
		{"a good token does not make up for a bad signature", both, with(with(good, "webhook-signature", other), token...), "does not fit"},
		{"another token", plain, []string{"X-Gitlab-Token", "a guess"}, "does not fit"},
		{"the beginning of the token", plain, []string{"X-Gitlab-Token", string(secret[:8])}, "does not fit"},
		{"no token", plain, nil, "no X-Gitlab-Token header"},
		{"a token that is no base64", []string{"whsec_***"}, good, "does not fit"},
		{"no secret", nil, token, "no secret is configured"},
	}
	for _, test := range tests {
		var keys webhook.Keys
		for _, s := range test.secrets {
			keys.Secrets = append(keys.Secrets, []byte(s))
		}
		err := verify(webhook.NewGitLab(keys), body, test.headers...)
		if (err == nil) != (test.reason == "") || err != nil && !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: %v, want %q", test.name, err, test.reason)
		}
	}
}

func TestPagureProof(t *testing.T) {
	const body = `{"topic":"x"}`
	sum := bareHex(secret, []byte(body))
	tests := []struct{ name, body, header, value, reason string }{
		{"signed", body, "X-Pagure-Signature-256", sum, ""},
		{"a form", "payload=%7B%22topic%22%3A%22x%22%7D", "X-Pagure-Signature-256", sum, ""},
		{"the form instead of what is in it", "payload=%7B%7D", "X-Pagure-Signature-256", bareHex(secret, []byte("payload=%7B%7D")), "does not fit"},
		{"SHA-1 alone", body, "X-Pagure-Signature", strings.Repeat("0", 40), "no X-Pagure-Signature-256"},
		{"with GitHub's prefix", body, "X-Pagure-Signature-256", "sha256=" + sum, "is not 64 hex digits"},
		{"another", body + " ", "X-Pagure-Signature-256", sum, "does not fit"},
		{"more fields", "payload=x&payload=y", "X-Pagure-Signature-256", sum, "more than the field"},
	}
	source := webhook.NewPagure(webhook.Keys{Secrets: [][]byte{secret}})
	for _, test := range tests {
		err := verify(source, test.body, test.header, test.value)
		if (err == nil) != (test.reason == "") || err != nil && !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: %v, want %q", test.name, err, test.reason)
		}
	}
}

// A secret of some repositories is none of others, whoever signs with it.
func TestScopedSecrets(t *testing.T) {
	own, old := []byte("the secret of this repository"), []byte("what it was before this one")
	tests := []struct {
		source, file, scope string
		taken               bool
	}{
		{"github", "push-branch", "github.com/example-org/hello", true},
		{"github", "push-branch", "GitHub.com/example-org/*", true},
		{"github", "push-branch", "github.com/**", true},
		{"github", "push-branch", "github.com/example-org/hell", false},
		{"github", "push-branch", "github.com/example-org/hello/x", false},
		{"github", "push-branch", "github.com/*", false},
		{"github", "push-branch", "github.com/other/*", false},
		{"github", "push-branch", "github.com/example-org", false},
		{"github", "push-branch", "*/example-org/hello", false},
		{"github", "push-branch", "**", false},
		{"github", "push-branch", "[", false},
		{"github", "push-branch", "", false},
		{"gitlab", "push-subgroup-port", "gitlab.example.org:8443/dist/**", true},
		{"gitlab", "push-subgroup-port", "gitlab.example.org:8443/dist/*/*/hello", true},
		{"gitlab", "push-subgroup-port", "gitlab.example.org:8443/dist/*", false},
		{"gitlab", "push-subgroup-port", "gitlab.example.org/dist/**", false},
		{"gitlab", "other-member", "gitlab.example.org/**", false},
		{"pagure", "git-receive", "src.example.org/rpms/hello", true},
		{"pagure", "git-receive", "src.example.org/rpms/h?llo", true},
		{"pagure", "git-receive-fork", "src.example.org/rpms/hello", false},
		{"git", "branch", "/srv/git/**", true},
		{"git", "branch", "/srv/other/**", false},
		{"build", "everything", "rpms/hello", true},
		{"build", "everything", "rpms/*", true},
		{"build", "everything", "rpms/other", false},
		{"cloudevents", "structured", "rpms/hello", true},
		{"cloudevents", "structured-other-type", "rpms/hello", false},
	}
	for _, test := range tests {
		t.Run(test.source+" "+test.file+" "+test.scope, func(t *testing.T) {
			for _, signedWith := range [][]byte{own, old} {
				keys := webhook.Keys{Secrets: [][]byte{secret}, Scoped: []webhook.ScopedSecret{
					{Repo: "elsewhere.example.org/a/b", Secret: []byte("nobody signs with this one")},
					{Repo: test.scope, Secret: own}, {Repo: test.scope, Secret: old}, {Repo: "github.com/**"},
				}}
				code, stored := scopedPost(t, test.source, test.file, keys, signedWith)
				if want := map[bool]int{true: 202, false: 401}[test.taken]; code != want || stored != test.taken {
					t.Errorf("status %d, want %d; stored %v", code, want, stored)
				}
			}
			if code, _ := scopedPost(t, test.source, test.file, webhook.Keys{Secrets: [][]byte{secret}, Scoped: []webhook.ScopedSecret{{Repo: test.scope, Secret: own}}}, secret); code != 202 {
				t.Errorf("the secret for all is refused: status %d", code)
			}
		})
	}
}

// scopedPost plays a delivery of the corpus to a source of its own with keys.
func scopedPost(t *testing.T, source, file string, keys webhook.Keys, signedWith []byte) (code int, stored bool) {
	t.Helper()
	d := readDelivery(t, corpus+"/"+source+"/"+file+".json")
	in := newIntake(func(o *webhook.Options) {
		o.Sources = map[string]webhook.Source{source: forgeOf(t, source).source(keys)}
	})
	req := httptest.NewRequest(http.MethodPost, "/hooks/"+source, bytes.NewReader(d.body()))
	req.Header = d.header()
	switch source {
	case "gitlab":
		req.Header.Set("X-Gitlab-Token", string(signedWith))
	case "pagure":
		req.Header.Set("X-Pagure-Signature-256", bareHex(signedWith, d.body()))
	case "github":
		req.Header.Set("X-Hub-Signature-256", webhook.Sign(signedWith, d.body()))
	default:
		req.Header.Set("X-Assay-Signature-256", webhook.Sign(signedWith, d.body()))
	}
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, req)
	return rec.Code, len(in.inbox.all()) == 1
}

// A ping names no repository: a scoped secret may say hello.
func TestScopedPing(t *testing.T) {
	keys := webhook.Keys{Scoped: []webhook.ScopedSecret{{Repo: "github.com/a/b", Secret: secret}}}
	if code, stored := scopedPost(t, "github", "ping", keys, secret); code != 200 || stored {
		t.Errorf("status %d, stored %v", code, stored)
	}
}

func TestScopedWarnings(t *testing.T) {
	long := []byte("a secret of enough bytes")
	for name, test := range map[string]struct {
		scoped  webhook.ScopedSecret
		warning string
	}{
		"good":       {webhook.ScopedSecret{Repo: "github.com/a/*", Secret: long}, ""},
		"everything": {webhook.ScopedSecret{Repo: "**", Secret: long}, "good for nothing"},
		"any host":   {webhook.ScopedSecret{Repo: "*/a/b", Secret: long}, "good for nothing"},
		"malformed":  {webhook.ScopedSecret{Repo: "github.com/[", Secret: long}, "good for nothing"},
		"short":      {webhook.ScopedSecret{Repo: "github.com/a/*", Secret: []byte("x")}, "fewer than 16 bytes"},
		"empty":      {webhook.ScopedSecret{Repo: "github.com/a/*"}, "every delivery will be refused"},
	} {
		in := newIntake(func(o *webhook.Options) {
			o.Sources = map[string]webhook.Source{"github": webhook.NewGitHub(webhook.Keys{Scoped: []webhook.ScopedSecret{test.scoped}})}
		})
		if said := len(in.log.all); (said == 1) != (test.warning != "") || !strings.Contains(in.log.raw, test.warning) {
			t.Errorf("%s: said %s, want %q", name, in.log.raw, test.warning)
		}
	}
}

func TestSigningTokenWarning(t *testing.T) {
	for token, warning := range map[string]string{
		signingToken: "", "whsec_***************": "fits nothing", "whsec_": "fits nothing", "whsec_AAAA": "fewer than 16 bytes", "": "no secret is configured",
	} {
		said := webhook.NewGitLab(webhook.Keys{Secrets: [][]byte{[]byte(token)}}).Warning()
		if (said == "") != (warning == "") || !strings.Contains(said, warning) {
			t.Errorf("%q: %q, want %q", token, said, warning)
		}
	}
}

// What was signed long ago is refused, wherever the sender signs a time.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		tests := []struct {
			name   string
			limit  time.Duration
			signed time.Duration // ago
			status int
		}{
			{"no limit", 0, 1000 * day, 202},
			{"now", day, 0, 202},
			{"just young enough", day, day - time.Second, 202},
			{"too old", day, day + time.Second, 401},
			{"a clock that is ahead", day, -time.Hour, 202},
			{"the far future", day, -2 * day, 401},
		}
		for _, test := range tests {
			for source, post := range map[string]func(*testing.T, intake, time.Time) *httptest.ResponseRecorder{
				"pagure": postPagure, "gitlab": postGitLab,
			} {
				in := newIntake(func(o *webhook.Options) {
					o.MaxAge = test.limit
					o.Sources["gitlab"] = webhook.NewGitLab(webhook.Keys{Secrets: [][]byte{[]byte(signingToken)}})
				})
				rec := post(t, in, time.Now().Add(-test.signed))
				if rec.Code != test.status || test.status == 401 && !strings.Contains(rec.Body.String(), "cannot accept the delivery: it was signed at ") {
					t.Errorf("%s, %s: status %d, want %d: %s", source, test.name, rec.Code, test.status, rec.Body)
				}
			}
		}
	})
}

func postPagure(t *testing.T, in intake, at time.Time) *httptest.ResponseRecorder {
	return postPagureAt(t, in, strconv.FormatInt(at.Unix(), 10))
}

func postPagureAt(t *testing.T, in intake, at string) *httptest.ResponseRecorder {
	t.Helper()
	body := fmt.Sprintf(`{"topic":"issue.new","msg_id":"2026-1","timestamp":%s,"msg":{}}`, at)
	req := httptest.NewRequest(http.MethodPost, "/hooks/pagure", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Pagure-Signature-256", bareHex(secret, []byte(body)))
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, req)
	return rec
}

func postGitLab(t *testing.T, in intake, at time.Time) *httptest.ResponseRecorder {
	t.Helper()
	const body = `{"object_kind":"wiki_page"}`
	req := httptest.NewRequest(http.MethodPost, "/hooks/gitlab", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Gitlab-Event", "Wiki Page Hook")
	standard(t, req.Header, signingToken, "msg_1", at, []byte(body))
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, req)
	return rec
}

// What is no time is an old one; what the sender does not sign is none at all.
func TestAgeOfOddTimes(t *testing.T) {
	limited := newIntake(func(o *webhook.Options) { o.MaxAge = 24 * time.Hour })
	for _, at := range []string{`null`, `"yesterday"`, `{}`, `-1`, `1e300`, `99999999999999`, `[1]`} {
		if rec := postPagureAt(t, limited, at); rec.Code != 401 {
			t.Errorf("%s: status %d: %s", at, rec.Code, rec.Body)
		}
	}
	rec := httptest.NewRecorder()
	limited.ServeHTTP(rec, signedRequest(t, "gitlab", readDelivery(t, corpus+"/gitlab/push-branch.json")))
	if rec.Code != 202 {
		t.Errorf("a token vouches for no time, and is refused for it: status %d: %s", rec.Code, rec.Body)
	}
}

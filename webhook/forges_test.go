package webhook_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/webhook"
)

// signsGitLab sets the secret token, which is what GitLab sends unless a signing
// token is set.
func signsGitLab(h http.Header, _ []byte) { h.Set("X-Gitlab-Token", string(secret)) }

// signsPagure signs the JSON that is in the body, be it in a form or not.
func signsPagure(h http.Header, body []byte) {
	if value, found := bytes.CutPrefix(body, []byte("payload=")); found {
		if payload, err := url.QueryUnescape(string(value)); err == nil {
			body = []byte(payload)
		}
	}
	h.Set("X-Pagure-Signature-256", bareHex(secret, body))
}

func bareHex(secret, body []byte) string {
	return strings.TrimPrefix(webhook.Sign(secret, body), "sha256=")
}

// What a forge tells twice in other words means the same, and nothing else does.
func TestMeaningOfOtherForges(t *testing.T) {
	for _, same := range [][]string{
		{"gitlab/push-branch", "gitlab/push-without-idempotency-key", "gitlab/push-author-with-spaces"},
		{"gitlab/push-new-branch"},
		{"gitlab/merge-request-open", "gitlab/merge-request-reopen", "gitlab/merge-request-update-with-commits"},
		{"gitlab/note-command", "gitlab/note-command-before-16", "gitlab/note-command-head-odd"},
		{"pagure/git-receive", "pagure/git-receive-forced", "pagure/git-receive-old-pagure", "pagure/form", "pagure/form-called-json"},
		{"pagure/git-branch-creation", "pagure/git-receive-of-created-branch"},
		{"pagure/git-receive-fork"},
		{"pagure/pull-request-new-from-fork", "pagure/pull-request-updated", "pagure/pull-request-rebased", "pagure/pull-request-reopened"},
		{"pagure/comment-command"},
		{"cloudevents/structured", "cloudevents/binary", "cloudevents/structured-id-of-words"},
	} {
		want := decoded(t, same[0]).Meaning
		for _, file := range same[1:] {
			if got := decoded(t, file).Meaning; got != want || got == "" {
				t.Errorf("%s means something else than %s", file, same[0])
			}
		}
		for _, other := range []string{"gitlab/push-subgroup-port", "pagure/git-receive-no-namespace", "build/minimal"} {
			if decoded(t, other).Meaning == want {
				t.Errorf("%s means the same as %s", other, same[0])
			}
		}
	}
}

func decoded(t *testing.T, file string) assay.Event {
	t.Helper()
	source, _, _ := strings.Cut(file, "/")
	d := readDelivery(t, corpus+"/"+file+".json")
	events, err := forgeOf(t, source).source(webhook.Keys{}).Decode(d.header(), d.body())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return events[0]
}

// The ids of deliveries tell them apart even where the sender's own do not.
func TestDeliveries(t *testing.T) {
	gitLab := func(body string, pairs ...string) string {
		h := http.Header{"X-Gitlab-Event": {"Wiki Page Hook"}}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		events, err := webhook.NewGitLab(webhook.Keys{}).Decode(h, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return events[0].Delivery
	}
	if got := gitLab("{}", "webhook-id", "w", "Idempotency-Key", "k", "X-Gitlab-Event-UUID", "u", "X-Gitlab-Webhook-UUID", "h"); got != "w" {
		t.Errorf("the signed id does not come first: %s", got)
	}
	if got := gitLab("{}", "Idempotency-Key", "k", "X-Gitlab-Event-UUID", "u", "X-Gitlab-Webhook-UUID", "h"); got != "k" {
		t.Errorf("the id of the delivery does not come first: %s", got)
	}
	one, two := gitLab(`{"a":1}`, "X-Gitlab-Event-UUID", "u"), gitLab(`{"a":2}`, "X-Gitlab-Event-UUID", "u")
	if one == two || one != gitLab(`{"a":1}`, "X-Gitlab-Event-UUID", "u") || !strings.HasPrefix(one, "u.") {
		t.Errorf("two branches of one push have the ids %s and %s", one, two)
	}

	cloud := func(body string, pairs ...string) string {
		h := http.Header{"Content-Type": {"application/json"}, "Ce-Specversion": {"1.0"}, "Ce-Type": {"x"}}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		events, err := webhook.NewCloudEvents(webhook.Keys{}).Decode(h, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return events[0].Delivery
	}
	first := cloud("1", "ce-id", "7", "ce-source", "/a")
	if first != cloud("1", "ce-id", "7", "ce-source", "/a", "ce-type", "y") {
		t.Error("the same event again has another id")
	}
	for what, other := range map[string]string{
		"source": cloud("1", "ce-id", "7", "ce-source", "/b"),
		"id":     cloud("1", "ce-id", "8", "ce-source", "/a"),
		"body":   cloud("2", "ce-id", "7", "ce-source", "/a"),
	} {
		if other == first {
			t.Errorf("another %s has the same id", what)
		}
	}
}

// Who takes a signed build and changes its headers on the way can neither keep
// it from being known again nor keep another one out: in the binary mode the
// headers are not signed.
func TestCloudEventHeadersAreNotSigned(t *testing.T) {
	in := newIntake(nil)
	post := func(body string, pairs ...string) string {
		req := httptest.NewRequest(http.MethodPost, "/hooks/cloudevents", strings.NewReader(body))
		for i := 0; i < len(pairs); i += 2 {
			req.Header.Set(pairs[i], pairs[i+1])
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Ce-Specversion", "1.0")
		req.Header.Set("X-Assay-Signature-256", webhook.Sign(secret, []byte(body)))
		rec := httptest.NewRecorder()
		in.ServeHTTP(rec, req)
		if rec.Code != 202 {
			t.Fatalf("status %d: %s", rec.Code, rec.Body)
		}
		return rec.Body.String()
	}
	fresh := func(answer string) bool { return strings.Contains(answer, `"fresh":true`) }
	next := strings.Replace(buildBody, `"7"`, `"8"`, 1)
	if !fresh(post(buildBody, "ce-id", "7", "ce-source", "/b", "ce-type", webhook.BuildEventType)) {
		t.Error("a build is not fresh")
	}
	if fresh(post(buildBody, "ce-id", "700", "ce-source", "/b", "ce-type", webhook.BuildEventType)) {
		t.Error("the same build under another id is fresh")
	}
	if !fresh(post(buildBody, "ce-id", "8", "ce-source", "/b", "ce-type", "of.no.use")) {
		t.Error("the old body under another type and the next id is no event of its own")
	}
	if !fresh(post(next, "ce-id", "8", "ce-source", "/b", "ce-type", webhook.BuildEventType)) {
		t.Error("the next build was kept out by who took its id")
	}
}

func FuzzGitLab(f *testing.F) { fuzz(f, "gitlab") }
func FuzzPagure(f *testing.F) { fuzz(f, "pagure") }

// FuzzCloudEvents has the version beside what fuzz gives a source, so that the
// binary mode is reached.
func FuzzCloudEvents(f *testing.F) {
	for _, name := range deliveries(f, "cloudevents") {
		d := readDelivery(f, name)
		h := d.header()
		f.Add(h.Get("Content-Type"), h.Get("Ce-Specversion"), h.Get("Ce-Id"), h.Get("Ce-Source"), h.Get("Ce-Type"), string(d.body()))
	}
	source := webhook.NewCloudEvents(webhook.Keys{})
	f.Fuzz(func(t *testing.T, contentType, version, id, from, kind, body string) {
		h := http.Header{}
		for name, value := range map[string]string{
			"Content-Type": contentType, "Ce-Specversion": version, "Ce-Id": id, "Ce-Source": from, "Ce-Type": kind,
		} {
			if value != "" {
				h.Set(name, value)
			}
		}
		check(t, source, h, body)
	})
}

// FuzzProof reads what vouches for a delivery, which is hostile until it does:
// nothing may be good that was not made with the secret.
func FuzzProof(f *testing.F) {
	f.Add("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "msg_1", "1614265330", "token", "payload=%7B%7D", strings.Repeat("0", 64))
	f.Add("", "", "", "", "{}", "")
	f.Fuzz(func(t *testing.T, signature, id, at, token, body, mac string) {
		h := http.Header{}
		for name, value := range map[string]string{
			"Webhook-Signature": signature, "Webhook-Id": id, "Webhook-Timestamp": at, "X-Gitlab-Token": token,
			"X-Pagure-Signature-256": mac, "X-Assay-Signature-256": mac,
		} {
			h.Set(name, value)
		}
		keys := webhook.Keys{
			Secrets: [][]byte{secret, []byte(signingToken)},
			Scoped:  []webhook.ScopedSecret{{Repo: "a/b", Secret: []byte("another of enough bytes")}},
		}
		for _, source := range []webhook.Source{webhook.NewGitLab(keys), webhook.NewPagure(keys), webhook.NewBuild(keys)} {
			err := source.Verify(h, []byte(body))
			if err == nil || !strings.HasPrefix(err.Error(), "cannot accept ") || !oneLine(err.Error(), 300) {
				t.Errorf("%T: %v", source, err)
			}
			if timed, ok := source.(interface {
				SignedAt(http.Header, []byte) (time.Time, bool)
			}); ok {
				timed.SignedAt(h, []byte(body))
			}
		}
	})
}

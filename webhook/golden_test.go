package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/webhook"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

var update = flag.Bool("update", false, "write the .want.json files anew")

const corpus = "../fixtures/webhooks"

var secret = []byte("a secret that is long enough")

// box is an inbox as its contract describes it, in memory.
type box struct {
	mu      sync.Mutex
	entries []entry
	fail    error
	block   func(context.Context) // called before anything is stored
}

type entry struct {
	event  assay.Event
	header http.Header
	body   []byte
}

func (b *box) AddEvent(ctx context.Context, e assay.Event, header http.Header, body []byte) (string, bool, error) {
	if b.block != nil {
		b.block(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return "", false, b.fail
	}
	for _, old := range b.entries {
		o := old.event
		if o.Source == e.Source && (o.Delivery == e.Delivery || o.Meaning != "" && o.Meaning == e.Meaning) {
			return o.ID, false, nil
		}
	}
	b.entries = append(b.entries, entry{e, header, body})
	return e.ID, true, nil
}

func (b *box) all() []entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.entries)
}

// forge is one directory of the corpus, and how its deliveries are made.
type forge struct {
	dir     string // below corpus; also the source's name
	source  func(webhook.Keys) webhook.Source
	sign    func(h http.Header, body []byte) // sets the header that vouches for body
	headers [4]string                        // those that Decode reads, for its fuzz target; "" for none
}

// forges has one line for each directory: tests and fuzz targets go by it.
func forges() []forge {
	own := [4]string{"X-Assay-Delivery"}
	gitea := func(family string) [4]string {
		return [4]string{family + "-Event", family + "-Event-Type", family + "-Delivery", "Content-Type"}
	}
	return []forge{
		{"github", made(webhook.NewGitHub), signs("X-Hub-Signature-256", webhook.Sign), [4]string{"X-GitHub-Event", "X-GitHub-Delivery", "Content-Type"}},
		{"gitea", made(webhook.NewGitea), signsPayload("X-Gitea-Signature"), gitea("X-Gitea")},
		{"forgejo", made(webhook.NewForgejo), signsPayload("X-Forgejo-Signature"), gitea("X-Forgejo")},
		{"gitlab", made(webhook.NewGitLab), signsGitLab, [4]string{"X-Gitlab-Event", "Idempotency-Key", "X-Gitlab-Event-Uuid", "X-Gitlab-Webhook-Uuid"}},
		{"pagure", made(webhook.NewPagure), signsPagure, [4]string{}},
		{"cloudevents", made(webhook.NewCloudEvents), signs("X-Assay-Signature-256", webhook.Sign), [4]string{"Content-Type", "Ce-Id", "Ce-Source", "Ce-Type"}},
		{"build", made(webhook.NewBuild), signs("X-Assay-Signature-256", webhook.Sign), own},
		{"git", made(webhook.NewGit), signs("X-Assay-Signature-256", webhook.Sign), own},
	}
}

// made is a constructor of one kind of source as one of any.
func made[S webhook.Source](construct func(webhook.Keys) S) func(webhook.Keys) webhook.Source {
	return func(keys webhook.Keys) webhook.Source { return construct(keys) }
}

// signs sets header to what sign makes of the corpus's secret and the body.
func signs(header string, sign func(secret, body []byte) string) func(http.Header, []byte) {
	return func(h http.Header, body []byte) { h.Set(header, sign(secret, body)) }
}

// signsPayload signs as Gitea does: bare hex digits, and of a form only what is
// in it.
func signsPayload(header string) func(http.Header, []byte) {
	return func(h http.Header, body []byte) {
		if form, err := url.ParseQuery(string(body)); err == nil && strings.Contains(h.Get("Content-Type"), "form") {
			body = []byte(form.Get("payload"))
		}
		h.Set(header, strings.TrimPrefix(webhook.Sign(secret, body), "sha256="))
	}
}

func forgeOf(t testing.TB, dir string) forge {
	t.Helper()
	for _, f := range forges() {
		if f.dir == dir {
			return f
		}
	}
	t.Fatalf("no forge has the directory %q", dir)
	return forge{}
}

func sources() map[string]webhook.Source {
	all := map[string]webhook.Source{}
	for _, f := range forges() {
		all[f.dir] = f.source(webhook.Keys{Secrets: [][]byte{secret}})
	}
	return all
}

// delivery is one file of the corpus.
type delivery struct {
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body,omitempty"`
	Raw     *string           `json:"raw,omitempty"` // instead of Body, for what is not JSON
}

func (d delivery) body() []byte {
	if d.Raw != nil {
		return []byte(*d.Raw)
	}
	return d.Body
}

func (d delivery) header() http.Header {
	h := http.Header{}
	for name, value := range d.Headers {
		h.Set(name, value)
	}
	return h
}

// outcome is what a .want.json holds.
type outcome struct {
	Status int             `json:"status"`
	Answer json.RawMessage `json:"answer"`
	Event  *stored         `json:"event,omitempty"`
	Kept   http.Header     `json:"kept,omitempty"`
}

// stored is an assay.Event for people to read: without zero fields, without
// what is new each time.
type stored struct {
	ID          string           `json:"id,omitempty"`
	Source      string           `json:"source"`
	Delivery    string           `json:"delivery"`
	Meaning     string           `json:"meaning,omitempty"`
	Kind        assay.EventKind  `json:"kind"`
	Repo        string           `json:"repo,omitempty"`
	Ref         string           `json:"ref,omitempty"`
	Before      string           `json:"before,omitempty"`
	Commit      string           `json:"commit,omitempty"`
	PullRequest int              `json:"pull_request,omitempty"`
	Trusted     bool             `json:"trusted"`
	Author      string           `json:"author,omitempty"`
	Comment     *assay.Comment   `json:"comment,omitempty"`
	Context     string           `json:"context,omitempty"`
	Build       *json.RawMessage `json:"build,omitempty"`
	Ignored     string           `json:"ignored,omitempty"`
}

func asStored(t *testing.T, e assay.Event) *stored {
	s := &stored{
		ID: e.ID, Source: e.Source, Delivery: e.Delivery, Meaning: e.Meaning, Kind: e.Kind, Repo: e.Repo, Ref: e.Ref,
		Before: e.Before, Commit: e.Commit, PullRequest: e.PullRequest, Trusted: e.Trusted, Ignored: e.Ignored,
		Author: e.Author, Comment: e.Comment, Context: e.Context,
	}
	if e.Source != "git" {
		if id, err := uuid.Parse(e.ID); err != nil || id.Version() != 7 {
			t.Errorf("the id %q is no UUID of version 7", e.ID)
		}
		s.ID = "" // new each time
	}
	if e.Received.IsZero() {
		t.Error("no time of receipt")
	}
	if e.Build != nil {
		text, err := json.Marshal(e.Build)
		if err != nil {
			t.Fatal(err)
		}
		raw := json.RawMessage(text)
		s.Build = &raw
	}
	return s
}

func TestCorpus(t *testing.T) {
	for _, f := range forges() {
		for _, name := range deliveries(t, f.dir) {
			t.Run(f.dir+"/"+strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) { golden(t, f.dir, name) })
		}
	}
}

// Every directory is played, and no outcome is left of a delivery that is gone.
func TestCorpusIsWhole(t *testing.T) {
	dirs, err := os.ReadDir(corpus)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		forgeOf(t, dir.Name())
		wants, err := filepath.Glob(filepath.Join(corpus, dir.Name(), "*.want.json"))
		if err != nil || len(wants) != len(deliveries(t, dir.Name())) {
			t.Errorf("%s: %d outcomes of %d deliveries, %v", dir.Name(), len(wants), len(deliveries(t, dir.Name())), err)
		}
	}
}

// deliveries lists the files of one directory of the corpus.
func deliveries(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(corpus, dir, "*.json"))
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".want.json") })
	if err != nil || len(names) == 0 {
		t.Fatalf("no corpus for %s: %v", dir, err)
	}
	return names
}

func golden(t *testing.T, source, name string) {
	d := readDelivery(t, name)
	if bad := strings.HasPrefix(filepath.Base(name), "bad-"); bad != (play(t, source, d).Status >= 400) {
		t.Errorf("only what is named bad-… may be refused, and must be")
	}
	got, err := json.MarshalIndent(play(t, source, d), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := strings.TrimSuffix(name, ".json") + ".want.json"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func readDelivery(t testing.TB, name string) delivery {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var d delivery
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// play posts a delivery, signed, and tells what came of it.
func play(t *testing.T, source string, d delivery) outcome {
	inbox := &box{}
	handler := webhook.Handler(webhook.Options{
		Sources: sources(), Inbox: inbox, Log: zerolog.Nop(), PublicURL: "https://assay.example.org/",
	})
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, signedRequest(t, source, d))
	out := outcome{Status: rec.Code, Answer: json.RawMessage(rec.Body.Bytes())}
	entries := inbox.all()
	if len(entries) == 0 {
		return out
	}
	if len(entries) != 1 || !bytes.Equal(entries[0].body, d.body()) {
		t.Errorf("%d events are stored, or not with the raw body", len(entries))
	}
	out.Event, out.Kept = asStored(t, entries[0].event), entries[0].header
	if out.Event.ID == "" {
		out.Answer = json.RawMessage(strings.ReplaceAll(rec.Body.String(), entries[0].event.ID, "ID"))
	}
	return out
}

func signedRequest(t testing.TB, source string, d delivery) *http.Request {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/hooks/"+source, bytes.NewReader(d.body()))
	req.Header = d.header()
	forgeOf(t, source).sign(req.Header, d.body())
	return req
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

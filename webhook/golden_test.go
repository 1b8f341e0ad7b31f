package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
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

func sources() map[string]webhook.Source {
	keys := webhook.Keys{Secrets: [][]byte{secret}}
	return map[string]webhook.Source{
		"github": webhook.NewGitHub(keys), "build": webhook.NewBuild(keys), "git": webhook.NewGit(keys),
	}
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
	Build       *json.RawMessage `json:"build,omitempty"`
	Ignored     string           `json:"ignored,omitempty"`
}

func asStored(t *testing.T, e assay.Event) *stored {
	s := &stored{
		ID: e.ID, Source: e.Source, Delivery: e.Delivery, Meaning: e.Meaning, Kind: e.Kind, Repo: e.Repo, Ref: e.Ref,
		Before: e.Before, Commit: e.Commit, PullRequest: e.PullRequest, Trusted: e.Trusted, Ignored: e.Ignored,
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
	for _, source := range []string{"github", "build", "git"} {
		names, err := filepath.Glob(filepath.Join(corpus, source, "*.json"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no corpus for %s: %v", source, err)
		}
		for _, name := range names {
			if !strings.HasSuffix(name, ".want.json") {
				t.Run(source+"/"+strings.TrimSuffix(filepath.Base(name), ".json"), func(t *testing.T) { golden(t, source, name) })
			}
		}
	}
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
	for name, value := range d.Headers {
		req.Header.Set(name, value)
	}
	header := "X-Assay-Signature-256"
	if source == "github" {
		header = "X-Hub-Signature-256"
	}
	req.Header.Set(header, webhook.Sign(secret, d.body()))
	return req
}

package webhook_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/webhook"
)

func FuzzGitHub(f *testing.F)  { fuzz(f, "github") }
func FuzzGitea(f *testing.F)   { fuzz(f, "gitea") }
func FuzzForgejo(f *testing.F) { fuzz(f, "forgejo") }
func FuzzBuild(f *testing.F)   { fuzz(f, "build") }
func FuzzGit(f *testing.F)     { fuzz(f, "git") }

// fuzz decodes what becomes of a forge's part of the corpus: its headers, in
// the order of forge.headers, and the body.
func fuzz(f *testing.F, dir string) {
	of := forgeOf(f, dir)
	for _, name := range deliveries(f, dir) {
		d := readDelivery(f, name)
		h := d.header()
		f.Add(h.Get(of.headers[0]), h.Get(of.headers[1]), h.Get(of.headers[2]), h.Get(of.headers[3]), string(d.body()))
	}
	source := of.source(webhook.Keys{})
	f.Fuzz(func(t *testing.T, a, b, c, d, body string) {
		h := http.Header{}
		for i, value := range []string{a, b, c, d} {
			if name := of.headers[i]; name != "" && value != "" {
				h.Set(name, value)
			}
		}
		check(t, source, h, body)
	})
}

// Whatever is missing in a payload, or is something else, makes a fit error or a
// valid event of it: each key of each object two deep is taken away and replaced
// in one delivery of each kind that counts, and one that does not.
func TestKeysTakenAway(t *testing.T) {
	for _, f := range forges() {
		done := map[string]bool{}
		for _, name := range deliveries(t, f.dir) {
			d := readDelivery(t, name)
			source, h := f.source(webhook.Keys{}), d.header()
			events, err := source.Decode(h, d.body())
			var body map[string]any
			if err != nil || json.Unmarshal(d.body(), &body) != nil {
				continue
			}
			kind := fmt.Sprint(events[0].Kind, events[0].Ignored == "")
			if done[kind] {
				continue
			}
			done[kind] = true
			without(body, func() {
				text, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				check(t, source, h, string(text))
			})
			if t.Failed() {
				t.Fatal(name)
			}
		}
		if len(done) == 0 {
			t.Errorf("nothing was tried of %s", f.dir)
		}
	}
}

// without calls try with each key of the object, and of those in it, taken away
// or replaced.
func without(body map[string]any, try func()) {
	for key, value := range body {
		delete(body, key)
		try()
		for _, other := range []any{nil, "x", map[string]any{}} {
			body[key] = other
			try()
		}
		body[key] = value
		inner, _ := value.(map[string]any)
		for key, value := range inner {
			inner[key] = nil
			try()
			inner[key] = value
		}
	}
}

// check wants either a fit error or valid events, the same ones each time.
func check(t *testing.T, source webhook.Source, header http.Header, body string) {
	events, err := source.Decode(header, []byte(body))
	if err != nil {
		if text := err.Error(); !strings.HasPrefix(text, "cannot ") || len(text) > 500 || !oneLine(text, 500) {
			t.Errorf("unfit error %q", text)
		}
		return
	}
	again, err := source.Decode(header, []byte(body))
	if err != nil || !reflect.DeepEqual(again, events) || len(events) != 1 {
		t.Errorf("decodes to %v, then to %v, %v", events, again, err)
	}
	for _, e := range events {
		valid(t, e)
	}
}

var (
	hash    = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	ref     = regexp.MustCompile(`^refs/[^\s~^:?*\[\\]+$`)
	word    = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
	name    = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9._+-]*/)?[A-Za-z0-9_][A-Za-z0-9._+-]*$`)
	release = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~^:-]*$`)
	login   = regexp.MustCompile(`^[\pL\pN_][^\s/]*$`)
	repo    = regexp.MustCompile(`^[^-\s]`)
)

// valid holds an event against what the nouns promise.
func valid(t *testing.T, e assay.Event) {
	t.Helper()
	fits := func(what, s string, form *regexp.Regexp, limit int) {
		if s != "" && (!form.MatchString(s) || !oneLine(s, limit)) {
			t.Errorf("%s is %q", what, s)
		}
	}
	fits("commit", e.Commit, hash, 64)
	fits("before", e.Before, hash, 64)
	fits("meaning", e.Meaning, hash, 64)
	fits("ref", e.Ref, ref, 1024)
	fits("delivery", e.Delivery, word, 128)
	fits("id", e.ID, word, 36)
	fits("repo", e.Repo, repo, 2048)
	fits("kind", string(e.Kind), word, 64)
	if !oneLine(e.Ignored, 200) || e.Kind == "" || e.Delivery == "" || e.PullRequest < 0 {
		t.Errorf("unfit event %+v", e)
	}
	// Not every forge says the commit of a comment.
	if e.Ignored == "" && e.Kind != assay.EventComment && strings.Trim(e.Commit, "0") == "" {
		t.Errorf("an event that counts has no commit: %+v", e)
	}
	// Only the git source gives an id, and its deliveries alone tell events apart;
	// so it is with each click that asks for a rerun.
	if counts := e.Ignored == "" && e.ID == "" && e.Kind != assay.EventRerun; counts != (e.Meaning != "") {
		t.Errorf("a meaning that should not be, or none: %+v", e)
	}
	fits("author", e.Author, login, 128)
	if e.Received != (time.Time{}) || e.Source != "" || e.Origin != "" {
		t.Errorf("an event says what only the intake knows: %+v", e)
	}
	validBuild(t, e)
	validComment(t, e)
	validRerun(t, e)
}

func validComment(t *testing.T, e assay.Event) {
	t.Helper()
	c := e.Comment
	if (c != nil) != (e.Kind == assay.EventComment && e.Ignored == "") {
		t.Fatalf("comment %v in an event of kind %q", c, e.Kind)
	}
	if c == nil {
		return
	}
	if !word.MatchString(c.ID) || len(c.Text) > 64<<10 || e.Author == "" || e.PullRequest == 0 || e.Repo == "" {
		t.Errorf("unfit comment %+v of %+v", c, e)
	}
	commands := 0
	for line := range strings.SplitSeq(c.Text, "\n") {
		if !oneLine(line, 64<<10) {
			t.Errorf("unfit line %q", line)
		}
		if line == "/assay" || strings.HasPrefix(line, "/assay ") {
			commands++
		}
	}
	if commands == 0 {
		t.Errorf("a comment without a command: %q", c.Text)
	}
}

func validRerun(t *testing.T, e assay.Event) {
	t.Helper()
	if e.Context != "" && e.Kind != assay.EventRerun || !oneLine(e.Context, 1024) {
		t.Errorf("context %q in an event of kind %q", e.Context, e.Kind)
	}
	if e.Kind == assay.EventRerun && e.Trusted {
		t.Errorf("a rerun is trusted, though nobody said that it may be: %+v", e)
	}
}

func validBuild(t *testing.T, e assay.Event) {
	t.Helper()
	b := e.Build
	if (b != nil) != (e.Kind == assay.EventBuild && e.Ignored == "") {
		t.Fatalf("build %v in an event of kind %q", b, e.Kind)
	}
	if b == nil {
		return
	}
	if !name.MatchString(b.Package) || !release.MatchString(b.Version) || !release.MatchString(b.Release) || !word.MatchString(b.ID) || strings.Contains(b.Branch, "..") {
		t.Errorf("unfit build %+v", b)
	}
	for _, address := range b.Artifacts {
		if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") || !oneLine(address, 2048) {
			t.Errorf("unfit artifact %q", address)
		}
	}
}

// oneLine tells whether s is short, printable, and UTF-8.
func oneLine(s string, limit int) bool {
	bad := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
	return len(s) <= limit && utf8.ValidString(s) && strings.IndexFunc(s, bad) < 0
}

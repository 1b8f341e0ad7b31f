package webhook_test

import (
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/webhook"
)

func FuzzGitHub(f *testing.F) {
	seed(f, "github")
	source := webhook.NewGitHub(webhook.Keys{})
	f.Fuzz(func(t *testing.T, kind, contentType, delivery, body string) {
		check(t, source, header("X-GitHub-Event", kind, "Content-Type", contentType, "X-GitHub-Delivery", delivery), body)
	})
}

func FuzzBuild(f *testing.F) {
	seed(f, "build")
	source := webhook.NewBuild(webhook.Keys{})
	f.Fuzz(func(t *testing.T, _, _, delivery, body string) {
		check(t, source, header("X-Assay-Delivery", delivery), body)
	})
}

func FuzzGit(f *testing.F) {
	seed(f, "git")
	source := webhook.NewGit(webhook.Keys{})
	f.Fuzz(func(t *testing.T, _, _, delivery, body string) {
		check(t, source, header("X-Assay-Delivery", delivery), body)
	})
}

// seed adds the source's part of the corpus.
func seed(f *testing.F, source string) {
	names, err := filepath.Glob(filepath.Join(corpus, source, "*.json"))
	if err != nil || len(names) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".want.json") {
			continue
		}
		d := readDelivery(f, name)
		id := d.Headers["X-GitHub-Delivery"] + d.Headers["X-Assay-Delivery"]
		f.Add(d.Headers["X-GitHub-Event"], d.Headers["Content-Type"], id, string(d.body()))
	}
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
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
	if e.Ignored == "" && strings.Trim(e.Commit, "0") == "" {
		t.Errorf("an event that counts has no commit: %+v", e)
	}
	// Only the git source gives an id, and its deliveries alone tell events apart.
	if counts := e.Ignored == "" && e.ID == ""; counts != (e.Meaning != "") {
		t.Errorf("a meaning that should not be, or none: %+v", e)
	}
	validBuild(t, e)
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

package forge

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

func TestParseGitHub(t *testing.T) {
	for address, want := range map[string]string{
		"https://github.com/o/r":               "github.com o r",
		"https://github.com/o/r.git":           "github.com o r",
		"https://github.com/o/r/":              "github.com o r",
		"https://user:pass@GitHub.com/o/r.git": "github.com o r",
		"http://ghe.example.org:8080/o/r":      "ghe.example.org o r",
		"git@github.com:o/r.git":               "github.com o r",
		"github.com:o/r":                       "github.com o r",
		"ssh://git@github.com/o/r":             "github.com o r",
		"ssh://git@github.com:22/o/r.git":      "github.com o r",
		"git://github.com/O-1/r_.x":            "github.com O-1 r_.x",

		"":                                    "",
		"/srv/git/o/r.git":                    "",
		"file:///o/r":                         "",
		"https://github.com/o":                "",
		"https://github.com/o/r/x":            "",
		"https://github.com/o/..":             "",
		"https://github.com/../o":             "",
		"https://github.com/o/.git":           "",
		"https://github.com/o%2Fr/x":          "",
		"https://github.com/o/r?x":            "",
		"https://github.com/o/r#x":            "",
		"https://github.com/o/-r":             "",
		"https:///o/r":                        "",
		"ext::sh -c touch% /tmp/x":            "",
		"--upload-pack=x:o/r":                 "",
		"-oProxyCommand=x@github.com:o/r":     "",
		"javascript://github.com/o/r":         "",
		"git@github.com:o/r\n":                "",
		"git@gith ub.com:o/r":                 "",
		"https://github.com/o/" + long("r"):   "",
		"https://github.com/о/r":              "", // a Cyrillic o
		"git@github.com:":                     "",
		"https://github.com/o/r" + long("./"): "",
	} {
		host, owner, name, err := ParseGitHub(address)
		got := strings.TrimSpace(host + " " + owner + " " + name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.60q: got %q, %v; want %q", address, got, err, want)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), "cannot ") || len(err.Error()) > 400) {
			t.Errorf("%.60q: unfit error %q", address, err)
		}
	}
}

func long(s string) string { return strings.Repeat(s, 3000) }

func TestSet(t *testing.T) {
	hub, own, notes := &GitHub{}, &GitHub{}, Notes{}
	set := Set{Hosts: map[string]Forge{"github.com": hub, "ghe.example.org": own}, Notes: notes}
	for address, want := range map[string]Forge{
		"https://github.com/o/r":         hub,
		"git@github.com:o/r.git":         hub,
		"https://GHE.example.org/o/r":    own,
		"https://git.example.org/o/r":    notes,
		"https://github.com.evil.org/o":  notes,
		"/srv/git/r.git":                 notes,
		"file:///srv/git/r.git":          notes,
		"./github.com:o/r":               notes,
		"https://evil.org/github.com/o":  notes,
		"https://github.com@evil.org/oo": notes,
		"":                               nil,
		"ext::x":                         nil,
		"-x":                             nil,
	} {
		got, err := set.For(address)
		if got != want || (err == nil) != (want != nil) {
			t.Errorf("%q: got %v, %v", address, got, err)
		}
	}
	for _, address := range []string{"https://github.com/o/r", "/srv/git/r.git"} {
		if _, err := (Set{}).For(address); err == nil || !strings.Contains(err.Error(), "configure") {
			t.Errorf("%s: error %v has no cure", address, err)
		}
	}
	if _, err := (Set{Notes: notes}).For("https://github.com/o/r"); err == nil {
		t.Error("notes were taken for github.com, where nobody would see them")
	}
}

func TestLimit(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name    string
		status  int
		header  map[string]string
		message string
		after   time.Duration
		limited bool
	}{
		{"Retry-After in seconds", 403, map[string]string{"Retry-After": "5"}, "", 5 * time.Second, true},
		{"Retry-After as a date", 429, map[string]string{"Retry-After": "Sat, 31 Jan 2026 12:00:09 GMT"}, "", 9 * time.Second, true},
		{"Retry-After in the past", 429, map[string]string{"Retry-After": "Sat, 31 Jan 2026 11:00:00 GMT"}, "", time.Minute, true},
		{"Retry-After without end", 429, map[string]string{"Retry-After": "999999999"}, "", 2 * time.Hour, true},
		{"negative Retry-After", 429, map[string]string{"Retry-After": "-5"}, "", time.Minute, true},
		{"nothing remains", 403, map[string]string{"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": fmt.Sprint(now.Unix() + 90)}, "", 90 * time.Second, true},
		{"nothing remains, no reset", 403, map[string]string{"X-Ratelimit-Remaining": "0"}, "", time.Minute, true},
		{"our clock is wrong, with a date", 429, map[string]string{"Date": "Sat, 31 Jan 2026 05:00:00 GMT", "Retry-After": "Sat, 31 Jan 2026 05:00:09 GMT"}, "", 9 * time.Second, true},
		{"our clock is wrong, with a reset", 403, map[string]string{"Date": "Sat, 31 Jan 2026 13:00:00 GMT", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": fmt.Sprint(now.Unix() + 3690)}, "", 90 * time.Second, true},
		{"a date that is none", 403, map[string]string{"Date": "today", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": fmt.Sprint(now.Unix() + 90)}, "", 90 * time.Second, true},
		{"much remains", 403, map[string]string{"X-Ratelimit-Remaining": "9"}, "Forbidden", time.Minute, false},
		{"old secondary text", 403, nil, "You have triggered an abuse detection mechanism.", time.Minute, true},
		{"new secondary text", 403, nil, "You have exceeded a SECONDARY RATE LIMIT", time.Minute, true},
		{"forbidden", 403, nil, "Resource not accessible by integration", time.Minute, false},
		{"not found", 404, map[string]string{"Retry-After": "5"}, "", 0, false},
	}
	for _, test := range tests {
		header := http.Header{}
		for name, value := range test.header {
			header.Set(name, value)
		}
		after, limited := limit(&http.Response{StatusCode: test.status, Header: header}, test.message, errors.New("x"), now)
		if limited != test.limited || limited && after != test.after {
			t.Errorf("%s: %s, %v; want %s, %v", test.name, after, limited, test.after, test.limited)
		}
	}
}

func TestNoteForms(t *testing.T) {
	failed := assay.Status{Context: "assay/pkg.greets", State: assay.StatusFailure, Description: "1 of 3 failed: greets by name", URL: "http://a.example/executions/1"}
	tests := []struct {
		name, old string
		change    func(*note)
		want      string
	}{
		{"nothing", "", func(*note) {}, ""},
		{"first status", "", func(n *note) { n.setStatus(failed) },
			"assay/pkg.greets: failure - 1 of 3 failed: greets by name <http://a.example/executions/1>\n"},
		{"replaced, in order", "assay/z: success\nassay/pkg.greets: pending\nassay: pending - 2 to go\n", func(n *note) { n.setStatus(failed) },
			"assay: pending - 2 to go\nassay/pkg.greets: failure - 1 of 3 failed: greets by name <http://a.example/executions/1>\nassay/z: success\n"},
		{"first comment", "assay: success\n", func(n *note) { n.setComment("summary", "\n# Failed\n\n\n\n- a  \n\n") },
			"assay: success\n\n--- assay comment summary ---\n# Failed\n\n- a\n--- end of assay comment summary ---\n"},
		{"other people's text stays", "Reviewed-by: A\r\n\n\nassay/x: success\n\n  indented\xff\n--- assay comment x ---\nno end\n", func(n *note) { n.setStatus(assay.Status{Context: "assay/x", State: "error"}) },
			"assay/x: error\n\nReviewed-by: A\r\n\n\n\n  indented\xff\n--- assay comment x ---\nno end\n"},
		{"not quite ours", "assay/x: great\nassay/x: success - \nassay /x: success\nassay/x: success -  two spaces\nassayer: success\n", func(*note) {},
			"assay/x: great\nassay/x: success - \nassay /x: success\nassay/x: success -  two spaces\nassayer: success\n"},
		{"the first of two counts", "assay/x: success\nassay/x: failure\n", func(*note) {}, "assay/x: success\n"},
		{"an editor that writes CRLF", "assay/x: success\r\n\r\n--- assay comment m ---\r\nhi\r\n--- end of assay comment m ---\r\n", func(n *note) { n.setComment("m", "ho") },
			"assay/x: success\n\n--- assay comment m ---\nho\n--- end of assay comment m ---\n"},
		{"one block around another", "--- assay comment x ---\n--- assay comment y ---\nin\n--- end of assay comment y ---\n--- end of assay comment x ---\n", func(n *note) { n.setComment("x", "out") },
			"--- assay comment x ---\nout\n--- end of assay comment x ---\n\n--- assay comment y ---\nin\n--- end of assay comment y ---\n"},
		{"a body cannot end its block", "", func(n *note) { n.setComment("m", "a\n--- end of assay comment m ---\nassay/x: success") },
			"--- assay comment m ---\na\n\\--- end of assay comment m ---\nassay/x: success\n--- end of assay comment m ---\n"},
		{"no escapes for a terminal", "", func(n *note) { n.setComment("m", "a\x1b]0;x\x07b\u202e") },
			"--- assay comment m ---\na\uFFFD]0;x\uFFFDb\uFFFD\n--- end of assay comment m ---\n"},
	}
	for _, test := range tests {
		n := parseNote([]byte(test.old))
		test.change(&n)
		got := string(n.render())
		if got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
		if again := string(renderAgain([]byte(got))); again != got {
			t.Errorf("%s: rendered again\n got %q\nwant %q", test.name, again, got)
		}
	}
}

func renderAgain(text []byte) []byte {
	n := parseNote(text)
	return n.render()
}

// FuzzNote holds any old note against what is promised of it: rendering is
// idempotent, and what we set is there however hostile the rest is.
func FuzzNote(f *testing.F) {
	f.Add("assay/x: success - a <http://b>\n\n--- assay comment m ---\nx\n--- end of assay comment m ---\n\nother\n", "1 of 2", "body")
	f.Add("--- assay comment m ---\n--- assay comment n ---\n--- end of assay comment n ---\n--- end of assay comment m ---", "<x>", "--- end of assay comment m ---")
	f.Add("assay/x: success <>\r\n\r\r\n", " <> ", "\\--- assay comment m ---\r")
	f.Fuzz(func(t *testing.T, old, description, body string) {
		once := renderAgain([]byte(old))
		if twice := renderAgain(once); string(twice) != string(once) {
			t.Fatalf("not idempotent:\n%q\n%q", once, twice)
		}
		n := parseNote([]byte(old))
		status := assay.Status{Context: "assay/fuzz", State: assay.StatusFailure, Description: description, URL: body}
		n.setStatus(status)
		n.setComment("fuzz", "a"+body)
		got := parseNote(n.render())
		want := assay.Status{Context: "assay/fuzz", State: assay.StatusFailure, Description: Line(description), URL: link(body)}
		if got.statuses["assay/fuzz"] != want {
			t.Errorf("got %+v, want %+v", got.statuses["assay/fuzz"], want)
		}
		if g, w := fmt.Sprintf("%q %q", got.comments, got.other), fmt.Sprintf("%q %q", n.comments, n.other); g != w {
			t.Errorf("got %s\nwant %s", g, w)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add("a\n\xff\u202e " + strings.Repeat("ß", 200))
	f.Fuzz(func(t *testing.T, s string) {
		got := Line(s)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxDescription || strings.ContainsAny(got, "\n\r\x1b\x00") || Line(got) != got {
			t.Errorf("%q becomes %q", s, got)
		}
	})
}

func FuzzParseGitHub(f *testing.F) {
	for _, s := range []string{"https://github.com/o/r.git", "git@github.com:o/r", "ssh://git@github.com/o/r", "ext::x", "/a/b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, owner, name, err := ParseGitHub(s)
		if err == nil && (!hostname(host) || !gitHubWord(owner) || !gitHubWord(name)) {
			t.Errorf("%q gives %q %q %q", s, host, owner, name)
		}
	})
}

package web

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gorilla/mux"
	"golang.org/x/net/html"

	"github.com/assay-ci/assay"
)

// hostile is text that does harm where it is not escaped.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`' onmouseover='alert(1)`,
	`</title></textarea></style><svg onload=alert(1)>`,
	`javascript:alert(1)`,
	`{{.}}{{template "main"}}`,
	"&lt;script&gt;\x00\x1b[31m<b>\u202e",
	`data:text/html,<script>alert(1)</script>`,
	strings.Repeat("A<", 2500),
}

// poison puts one text wherever somebody else's text can come from.
func poison(w *world, text string) {
	fillWorld(w)
	e := assay.Execution{
		ID: idBig, EventID: eventNew, Package: text, Check: text, ChecksRepo: text, ChecksBranch: text, ChecksCommit: text, Path: text,
		SourceRepo: "https://" + text, SourceCommit: text, Item: text, Type: text, Arch: text, Builds: []string{text, "https://x/" + text},
		Target: assay.Commit{Repo: text, SHA: text, PullRequest: 1}, State: assay.StateFinished, Verdict: assay.VerdictCrashed,
		Reason: text, Attempt: 1, Created: ago(100), Started: ago(90), Finished: ago(10),
	}
	odd := e
	odd.ID, odd.State, odd.Verdict = idQueued+"0", assay.State(text), assay.Verdict(text)
	w.executions = []assay.Execution{e, odd}
	w.steps[idBig] = []assay.StepRun{{Attempt: 1, Number: 1, Name: text, Started: ago(80), Finished: ago(70), Outcome: text}}
	w.results[idBig] = []assay.Result{{Item: text, Type: text, Checkname: text, Outcome: assay.Outcome(text), Note: text, Artifact: text,
		Data: map[string][]string{text: {text, text}}}}
	w.artifacts[idBig] = []assay.Artifact{{Path: text, Size: -1}}
	w.write(idBig, "log-1", "2026-11-21T17:15:10.123Z 1 err "+text+"\n"+text+"\n")
	w.write(idBig, "console", text)
	w.events[eventNew] = assay.EventRecord{State: assay.EventState(text), Note: text, Event: assay.Event{
		ID: eventNew, Source: text, Delivery: text, Kind: assay.EventKind(text), Repo: text, Ref: text, Before: text, Commit: text, Ignored: text,
		Author: text, Context: text, Origin: assay.Origin(text), Received: ago(0),
		Build: &assay.Build{ID: text, Package: text, Version: text, Release: text, Arch: text, Branch: text, Artifacts: []string{text}}}}
	quoted, _ := json.Marshal(map[string]string{text: text})
	w.sent = map[string]sent{eventNew: {http.Header{text: {text, text}}, string(quoted)}}
	w.showBodies = true
}

func TestHostileTextStaysText(t *testing.T) {
	for _, text := range hostile {
		w := newWorld(t)
		poison(w, text)
		router := w.router(t)
		name := (&url.URL{Path: "/packages/" + text}).EscapedPath()
		for _, target := range []string{"/", "/?package=" + url.QueryEscape(text), "/?state=" + url.QueryEscape(text), "/?before=" + url.QueryEscape(text),
			name, "/executions/" + idBig, "/executions/" + idQueued + "0", "/executions/" + idBig + "/log", "/executions/" + idBig + "/log?line=" + url.QueryEscape(text),
			"/events/" + eventNew, "/events", "/events?repo=" + url.QueryEscape(text), "/events?source=" + url.QueryEscape(text), "/events?since=" + url.QueryEscape(text),
			"/" + strings.TrimPrefix(name, "/packages/")} {
			checkInert(t, target, get(t, router, target).Body.String())
		}
		if r := get(t, router, "/executions/"+idBig+".json"); r.Header().Get("Content-Type") != "application/json" || strings.Contains(r.Body.String(), "<") {
			t.Errorf("the JSON is %s with raw < in it", r.Header().Get("Content-Type"))
		}
	}
}

// checkInert fails when a page has an element, attribute or link that none of
// the templates has, or a character that changes how text is shown.
func checkInert(t *testing.T, target, page string) {
	t.Helper()
	elements := " html head meta title link body svg symbol use path circle rect a header div nav main footer p b h1 h2 ul ol li span small br table thead tbody tr th td time section aside dl dt dd pre code details summary i "
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !strings.Contains(elements, " "+n.Data+" ") {
			t.Errorf("%s: the page has an element <%s>", clip(target, 200), n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || !safeLink(a) {
				t.Errorf("%s: the page has <%s %s=%q>", clip(target, 200), n.Data, a.Key, clip(a.Val, 200))
			}
		}
	}
	if strings.ContainsAny(page, "\x00\x1b\u202e") {
		t.Errorf("%s: the page has control characters", clip(target, 200))
	}
}

func safeLink(a html.Attribute) bool {
	if a.Key != "href" {
		return true
	}
	return strings.HasPrefix(a.Val, "https://") || strings.HasPrefix(a.Val, "#") || strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//")
}

func TestArtifactsAreNeverRun(t *testing.T) {
	var archive bytes.Buffer
	if err := zip.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	const text, binary = "text/plain; charset=utf-8", "application/octet-stream"
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	for _, c := range []struct{ name, content, ctype, disposition string }{
		{"report.html", "<!doctype html><script>alert(1)</script>", text, "inline"},
		{"no-extension", "<script>alert(1)</script>", text, "inline"},
		{"x.svg", `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`, text, "inline"},
		{"x.xml", `<?xml version="1.0"?><x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>`, text, "inline"},
		{"x.js", "alert(1)", text, "inline"},
		{"x.css", "body{}", text, "inline"},
		{"x.json", `{"a":1}`, text, "inline"},
		{"x.manifest", "CACHE MANIFEST", text, "inline"},
		{"utf16.html", "\xff\xfe<\x00s\x00", text, "inline"},
		{"empty", "", text, "inline"},
		{"shot.png", "\x89PNG\r\n\x1a\n\x00", "image/png", "inline"},
		{"shot.jpg", "\xff\xd8\xff\xe0", "image/jpeg", "inline"},
		{"shot.gif", "GIF89a", "image/gif", "inline"},
		{"shot.webp", "RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp", "inline"},
		{"picture.html", "GIF89a/*<script>alert(1)</script>", "image/gif", "inline"},
		{"text.png", "<script>alert(1)</script>", text, "inline"},
		{"x.bmp", "BM\x00\x00", binary, "attachment"},
		{"x.pdf", "%PDF-1.7", binary, "attachment"},
		{"x.wasm", "\x00asm\x01\x00\x00\x00", binary, "attachment"},
		{"x.zip", archive.String(), binary, "attachment"},
		{"log.gz", "\x1f\x8b\x08\x00", binary, "attachment"},
		{`quote".txt`, "x", text, "inline"},
		{"line\r\nX-Evil: 1.txt", "x", text, "inline"},
		{"ü–∆.txt", "x", text, "inline"},
		{"100% #1?.txt", "x", text, "inline"},
		{"deep/er/x.txt", "x", text, "inline"},
	} {
		w.artifact(idFailed, c.name, c.content)
		if page := get(t, router, "/executions/"+idFailed).Body.String(); !strings.Contains(page, `href="`+artifactURL(idFailed, c.name)+`"`) {
			t.Errorf("%q: the page has no link %s", c.name, artifactURL(idFailed, c.name))
		}
		r := get(t, router, artifactURL(idFailed, c.name))
		if got := wantStatus(t, r, http.StatusOK); got != c.content {
			t.Errorf("%q: content %q", c.name, got)
		}
		checkArtifact(t, r.Result(), c.name, c.ctype, c.disposition)
	}
}

func checkArtifact(t *testing.T, r *http.Response, name, ctype, disposition string) {
	t.Helper()
	if got := r.Header.Get("Content-Security-Policy"); got != guestPolicy {
		t.Errorf("%q: policy %q", name, got)
	}
	if got := r.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("%q: may be sniffed: %q", name, got)
	}
	if got := r.Header.Get("Content-Type"); got != ctype {
		t.Errorf("%q: content type %q, want %q", name, got, ctype)
	}
	header := r.Header.Get("Content-Disposition")
	got, params, err := mime.ParseMediaType(header)
	if err != nil || got != disposition || params["filename"] != path.Base(name) || strings.ContainsAny(header, "\r\n") {
		t.Errorf("%q: disposition %q, %v", name, header, err)
	}
}

// mapFiles are files that cannot seek.
type mapFiles struct {
	*world
	files fstest.MapFS
}

// stream hides every method but those of fs.File.
type stream struct{ fs.File }

func (f mapFiles) OpenArtifact(_, name string) (fs.File, error) {
	file, err := f.files.Open(name)
	if err != nil {
		return nil, err
	}
	return stream{file}, nil
}

func TestArtifactsThatCannotSeek(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	content := strings.Repeat("0123456789", 1000)
	s, err := newServer(Options{Store: w, Files: mapFiles{w, fstest.MapFS{"a.txt": {Data: []byte(content)}}}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Files.OpenArtifact("", "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := describe(f, "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := s.handler(func(*http.Request) (response, error) { return resp, nil })
	if got := get(t, h, "/").Body.String(); got != content {
		t.Errorf("got %d bytes, want %d", len(got), len(content))
	}
}

func TestRangesOfArtifacts(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	r := get(t, w.router(t), "/executions/"+idFailed+"/artifacts/report.html", "Range", "bytes=0-6")
	if got := wantStatus(t, r, http.StatusPartialContent); got != "<script" {
		t.Errorf("got %q", got)
	}
	checkArtifact(t, r.Result(), "report.html", "text/plain; charset=utf-8", "inline")
}

func TestFilesThatCannotBeReadAreErrors(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	options := w.options()
	options.Files = brokenFiles{}
	s, err := newServer(options)
	if err != nil {
		t.Fatal(err)
	}
	for _, get := range []func(*http.Request) (response, error){s.executionPage, s.logPage, s.rawLog, s.artifact} {
		w.log.Reset()
		h := s.handler(withVars(get, map[string]string{"id": idCrashed, "path": "x"}))
		wantStatus(t, request(t, h, http.MethodGet, "/"), http.StatusInternalServerError)
		wantContains(t, w.log.String(), "input/output error")
	}
}

func withVars(get func(*http.Request) (response, error), vars map[string]string) func(*http.Request) (response, error) {
	return func(r *http.Request) (response, error) { return get(mux.SetURLVars(r, vars)) }
}

type brokenFiles struct{}

var errIO = errors.New("input/output error")

func (brokenFiles) OpenLog(string, int) (*os.File, error)        { return nil, errIO }
func (brokenFiles) OpenConsole(string) (*os.File, error)         { return nil, errIO }
func (brokenFiles) OpenArtifact(string, string) (fs.File, error) { return nil, errIO }

package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/mux"
	"golang.org/x/net/html"
)

// addresses has at least one address of every route of the table, by pattern.
func addresses(s *server) map[string][]string {
	const execution = "/executions/{id:[0-9A-Za-z-]{1,64}}"
	return map[string][]string{
		"/":                                     {"/", "/?state=running", "/?package=rpms/gzip", "/?before=" + idFailed, "/?state=nonsense", "/?before=nonsense"},
		"/packages/{name:(?s:.+)}":              {"/packages/rpms/hello", "/packages/none"},
		execution + ".json":                     {"/executions/" + idFailed + ".json", "/executions/none.json"},
		execution:                               {"/executions/" + idFailed, "/executions/" + idQueued, "/executions/" + idCrashed, "/executions/none", "/executions/" + idFailed + "?results=x"},
		execution + "/log":                      {"/executions/" + idFailed + "/log", "/executions/" + idQueued + "/log", "/executions/" + idFailed + "/log?line=x", "/executions/" + idFailed + "/log?attempt=9"},
		execution + "/log.txt":                  {"/executions/" + idFailed + "/log.txt", "/executions/" + idQueued + "/log.txt"},
		execution + "/artifacts/{path:(?s:.+)}": {"/executions/" + idFailed + "/artifacts/report.html", "/executions/" + idFailed + "/artifacts/none"},
		"/events/{id:[0-9A-Za-z-]{1,64}}":       {"/events/" + eventBuild, "/events/" + eventIgnored, "/events/" + eventNew, "/events/none"},
		"/events":                               {"/events", "/events?state=new", "/events?state=nonsense", "/events?since=nonsense", "/events?before=none", "/events?repo=hello&source=git&since=7d"},
		"/static/{file}":                        {s.assets.style, s.assets.icon, "/static/none.css"},
		"/schema/formula.json":                  {"/schema/formula.json", "/schema/none.json"},
		"/robots.txt":                           {"/robots.txt"},
		"/healthz":                              {"/healthz"},
		"an address that is in no route at all": {"/none", "/executions/", "/executions//log", "/packages/", "//", "/executions/" + idFailed + "/../x", "/static/%2e%2e/style.css"},
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	s, err := newServer(w.options())
	if err != nil {
		t.Fatal(err)
	}
	router, all := w.router(t), addresses(s)
	for _, rt := range s.routes() {
		if len(all[rt.pattern]) == 0 {
			t.Errorf("no address of route %s is tested", rt.pattern)
		}
	}
	for _, targets := range all {
		for _, target := range targets {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
				checkGuards(t, request(t, router, method, target).Result(), method+" "+target)
			}
		}
	}
	w.fail = errors.New("disk on fire")
	checkGuards(t, get(t, router, "/").Result(), "an internal error")
}

func checkGuards(t *testing.T, r *http.Response, what string) {
	t.Helper()
	policy := r.Header.Get("Content-Security-Policy")
	if policy != pagePolicy && policy != guestPolicy {
		t.Errorf("%s: policy %q", what, policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Set-Cookie": ""} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	if r.Header.Get("Content-Type") == "" || r.StatusCode >= 300 && r.StatusCode < 400 {
		t.Errorf("%s: status %d, content type %q", what, r.StatusCode, r.Header.Get("Content-Type"))
	}
}

func TestPoliciesForbidScripts(t *testing.T) {
	for _, policy := range []string{pagePolicy, guestPolicy} {
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
			t.Errorf("policy %q", policy)
		}
	}
	if !strings.HasPrefix(guestPolicy, "sandbox;") {
		t.Errorf("what guests wrote is not in a sandbox: %q", guestPolicy)
	}
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	for _, target := range []string{"/", "/executions/" + idFailed, "/executions/" + idFailed + "/log", "/executions/" + idFailed + "/log.txt",
		"/executions/" + idFailed + ".json", "/executions/" + idFailed + "/artifacts/report.html", "/healthz", "/none"} {
		g, h := get(t, router, target), request(t, router, http.MethodHead, target)
		if h.Body.Len() != 0 {
			t.Errorf("HEAD %s has a body of %d bytes", target, h.Body.Len())
		}
		if h.Code != g.Code || h.Header().Get("Content-Length") != fmt.Sprint(g.Body.Len()) {
			t.Errorf("HEAD %s: %d, length %s; GET: %d, %d bytes", target, h.Code, h.Header().Get("Content-Length"), g.Code, g.Body.Len())
		}
	}
}

func TestStatuses(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	for target, want := range map[string]int{
		"/": 200, "/?state=nonsense": 400, "/?before=nonsense": 404, "/?state=finished&package=rpms/hello": 200,
		"/packages/rpms/hello": 200, "/packages/rpms/none": 404, "/packages/rpms/hello?before=nonsense": 404,
		"/executions/" + idFailed: 200, "/executions/none": 404, "/executions/" + idFailed + "?results=-1": 400, "/executions/" + idFailed + "?results=99999": 200,
		"/executions/" + strings.Repeat("a", 65): 404, "/executions/..%2fx": 404, "/executions/" + idFailed + "/": 404,
		"/executions/" + idFailed + "/log": 200, "/executions/" + idQueued + "/log": 200, "/executions/none/log": 404,
		"/executions/" + idFailed + "/log?line=0": 400, "/executions/" + idFailed + "/log?from=-1": 400, "/executions/" + idFailed + "/log?attempt=x": 400,
		"/executions/" + idFailed + "/log?attempt=2": 404, "/executions/" + idFailed + "/log?line=999999999": 200,
		"/executions/" + idFailed + "/log.txt": 200, "/executions/" + idQueued + "/log.txt": 404, "/executions/" + idErrored + "/log.txt?attempt=1": 404,
		"/executions/" + idFailed + ".json": 200, "/executions/none.json": 404,
		"/executions/" + idFailed + "/artifacts/greets/output.txt": 200, "/executions/" + idFailed + "/artifacts/greets": 404,
		"/executions/" + idFailed + "/artifacts/../log-1": 404, "/executions/" + idFailed + "/artifacts/%2e%2e/log-1": 404, "/executions/none/artifacts/report.html": 404,
		"/executions/" + idFailed + "/artifacts//etc/passwd": 404, "/executions/" + idFailed + "/artifacts/a%00b": 404,
		"/events/" + eventBuild: 200, "/events/none": 404, "/events": 200, "/events?state=x": 400, "/events?until=x": 400, "/events?before=x": 404, "/events?source=none": 200, "/static/none.css": 404, "/robots.txt": 200, "/healthz": 200, "/none": 404,
	} {
		if got := get(t, router, target).Code; got != want {
			t.Errorf("GET %s: %d, want %d", target, got, want)
		}
	}
	r := request(t, router, http.MethodPost, "/")
	if r.Code != http.StatusMethodNotAllowed || r.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %d, Allow %q", r.Code, r.Header().Get("Allow"))
	}
}

func TestOtherRoutesKeepTheirMethods(t *testing.T) {
	w := newWorld(t)
	router := mux.NewRouter()
	router.HandleFunc("/webhook", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }).Methods(http.MethodPost)
	if err := Register(router, w.options()); err != nil {
		t.Fatal(err)
	}
	if got := request(t, router, http.MethodPost, "/webhook").Code; got != http.StatusAccepted {
		t.Errorf("POST: %d", got)
	}
	if r := get(t, router, "/webhook"); r.Code != http.StatusMethodNotAllowed || r.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", r.Code, r.Header().Get("Allow"))
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	w.fail = errors.New("cannot open /srv/secret.db: disk on fire")
	page := wantStatus(t, get(t, router, "/executions/"+idFailed), http.StatusInternalServerError)
	if strings.Contains(page, "fire") || strings.Contains(page, "secret.db") {
		t.Errorf("the page tells what only the log may:\n%s", page)
	}
	id := regexp.MustCompile(`<code class="code">([A-Z2-7]{10})</code>`).FindStringSubmatch(page)
	if id == nil {
		t.Fatalf("no identifier on the page:\n%s", page)
	}
	wantContains(t, w.log.String(), id[1], "disk on fire")
}

func TestPanicsBecomePages(t *testing.T) {
	w := newWorld(t)
	s, err := newServer(w.options())
	if err != nil {
		t.Fatal(err)
	}
	h := s.handler(func(*http.Request) (response, error) { panic("out of cheese") })
	wantStatus(t, get(t, h, "/"), http.StatusInternalServerError)
	wantContains(t, w.log.String(), "out of cheese")
}

func TestRegisterWantsItsOptions(t *testing.T) {
	if err := Register(mux.NewRouter(), Options{}); err == nil || !strings.HasPrefix(err.Error(), "cannot") {
		t.Errorf("got %v", err)
	}
}

func TestTemplatesRender(t *testing.T) {
	ps, err := loadPages()
	if err != nil {
		t.Fatal(err)
	}
	for name := range ps {
		var b bytes.Buffer
		if err := ps.render(&b, page{Template: name, Body: emptyBody(name)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ps.render(&bytes.Buffer{}, page{Template: "none"}); err == nil {
		t.Error("a page that does not exist was rendered")
	}
}

// emptyBody is the zero value of what a template shows: templates must bear it.
func emptyBody(name string) any {
	return map[string]any{
		"front": frontView{}, "package": packageView{}, "execution": executionView{},
		"log": logView{}, "event": eventView{}, "events": eventsView{}, "message": messageView{},
	}[name]
}

// Golden pages: the whole HTML of pages that everybody sees. Written anew by
// go test ./web -update.
func TestGoldenPages(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	for name, target := range map[string]string{
		"failed": "/executions/" + idFailed, "queued": "/executions/" + idQueued, "log": "/executions/" + idFailed + "/log?line=31",
		"event": "/events/" + eventBuild, "ignored": "/events/" + eventIgnored, "events": "/events",
		"missing": "/none", "front": "/?state=running",
	} {
		t.Run(name, func(t *testing.T) {
			got := regexp.MustCompile(`/static/[0-9a-f]{16}`).ReplaceAllString(get(t, router, target).Body.String(), "/static/HASH")
			golden(t, name+".html", got)
		})
	}
	golden(t, "failed.json", get(t, router, "/executions/"+idFailed+".json").Body.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-golden +now); if that is right: go test ./web -update\n%s", file, diff)
	}
}

// TestPagesAreWellFormed looks at every page as a browser and a screen reader do.
func TestPagesAreWellFormed(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	for _, target := range []string{"/", "/packages/rpms/hello", "/executions/" + idFailed, "/executions/" + idPassed, "/executions/" + idErrored,
		"/executions/" + idRunning, "/executions/" + idFailed + "/log", "/events/" + eventBuild, "/events", "/events?source=git", "/none"} {
		root, err := html.Parse(get(t, router, target).Body)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		ids := map[string]bool{}
		for n := range root.Descendants() {
			seen[n.Data]++
			checkElement(t, target, n, ids)
		}
		for _, name := range []string{"h1", "main", "header", "footer", "title"} {
			if seen[name] == 0 {
				t.Errorf("%s has no <%s>", target, name)
			}
		}
		if seen["h1"] != 1 || seen["main"] != 1 || seen["script"] != 0 || seen["form"] != 0 || seen["style"] != 0 {
			t.Errorf("%s has %d h1, %d main, %d script, %d form, %d style", target, seen["h1"], seen["main"], seen["script"], seen["form"], seen["style"])
		}
	}
}

// checkElement finds what the policy would block, what is there twice, and what
// has no name.
func checkElement(t *testing.T, target string, n *html.Node, ids map[string]bool) {
	t.Helper()
	if n.Type != html.ElementNode {
		return
	}
	for _, a := range n.Attr {
		if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
			t.Errorf("%s: <%s %s=%q> is what the policy blocks", target, n.Data, a.Key, a.Val)
		}
		if a.Key == "id" {
			if ids[a.Val] {
				t.Errorf("%s: id %q is there twice", target, a.Val)
			}
			ids[a.Val] = true
		}
	}
	if n.Data == "a" && strings.TrimSpace(words(n)) == "" {
		t.Errorf("%s: a link without words: %v", target, n.Attr)
	}
}

func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	options := w.options()
	healthy := errors.New("the database is locked")
	options.Ping = func(context.Context) error { return healthy }
	router := mux.NewRouter()
	if err := Register(router, options); err != nil {
		t.Fatal(err)
	}
	if got := wantStatus(t, get(t, router, "/healthz"), http.StatusServiceUnavailable); strings.Contains(got, "locked") {
		t.Errorf("the answer tells what only the log may: %q", got)
	}
	wantContains(t, w.log.String(), "the database is locked")
	healthy = nil
	if got := wantStatus(t, get(t, router, "/healthz"), http.StatusOK); got != "ok\n" {
		t.Errorf("got %q", got)
	}
}

func TestStaticFilesAreKeptForEver(t *testing.T) {
	w := newWorld(t)
	router := w.router(t)
	page := get(t, router, "/").Body.String()
	for _, file := range regexp.MustCompile(`/static/[^"]+`).FindAllString(page, -1) {
		r := get(t, router, file)
		wantStatus(t, r, http.StatusOK)
		if got := r.Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control %q", file, got)
		}
	}
}

func TestJSONIsVersionedAndComplete(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	var d executionDocument
	r := get(t, w.router(t), "/executions/"+idPassed+".json?results=2000")
	if err := json.Unmarshal([]byte(wantStatus(t, r, 200)), &d); err != nil {
		t.Fatal(err)
	}
	if d.Version != 1 || d.Execution.Verdict != "passed" || d.ResultsTotal != 2350 || d.ResultsFrom != 2000 || len(d.Results) != 350 {
		t.Errorf("version %d, verdict %q, %d results of %d from %d", d.Version, d.Execution.Verdict, len(d.Results), d.ResultsTotal, d.ResultsFrom)
	}
}

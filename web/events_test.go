package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

// sent is what an event was made from.
type sent struct {
	header http.Header
	body   string
}

func (w *world) entry(id string) assay.InboxEntry {
	made := 0
	for _, e := range w.executions {
		if e.EventID == id {
			made++
		}
	}
	return assay.InboxEntry{EventRecord: w.events[id], Repeats: w.repeats[id], Executions: made, Size: int64(len(w.sent[id].body))}
}

func (w *world) Inbox(_ context.Context, f assay.InboxFilter) ([]assay.InboxEntry, error) {
	var all []assay.InboxEntry
	for id := range w.events {
		all = append(all, w.entry(id))
	}
	slices.SortFunc(all, func(a, b assay.InboxEntry) int {
		return cmp.Or(b.Received.Compare(a.Received), strings.Compare(b.ID, a.ID))
	})
	from := 0
	if f.Before != "" {
		from = slices.IndexFunc(all, func(e assay.InboxEntry) bool { return e.ID == f.Before }) + 1
		if from == 0 {
			return nil, assay.ErrNotFound
		}
	}
	var found []assay.InboxEntry
	for _, e := range all[from:] {
		if f.Source != "" && e.Source != f.Source || f.Kind != "" && e.Kind != f.Kind || f.State != "" && e.State != f.State ||
			!strings.Contains(e.Repo, f.Repo) || f.Package != "" && (e.Build == nil || e.Build.Package != f.Package) ||
			e.Received.Before(f.Since) || !f.Until.IsZero() && !e.Received.Before(f.Until) {
			continue
		}
		if found = append(found, e); len(found) == f.Limit {
			break
		}
	}
	return found, w.fail
}

func (w *world) InboxEntry(_ context.Context, id string) (assay.InboxEntry, error) {
	return w.entry(id), w.fail
}

func (w *world) CountEvents(context.Context) (map[assay.EventState]int, error) {
	counts := map[assay.EventState]int{}
	for _, e := range w.events {
		counts[e.State]++
	}
	return counts, w.fail
}

func (w *world) DeliveryPart(_ context.Context, id string, most int) (http.Header, []byte, int64, error) {
	d := w.sent[id]
	return d.header, []byte(d.body[:min(most, len(d.body))]), int64(len(d.body)), w.fail
}

func newInbox(t *testing.T) (*world, *mux.Router) {
	t.Helper()
	w := newWorld(t)
	fillWorld(w)
	return w, w.router(t)
}

var eventLinks = regexp.MustCompile(`class="c-check"><a href="/events/([^"]+)"`)

func listed(page string) (ids []string) {
	for _, m := range eventLinks.FindAllStringSubmatch(page, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

func TestEventsAreFiltered(t *testing.T) {
	_, router := newInbox(t)
	for target, want := range map[string][]string{
		"/events":                        {eventNew, eventBuild, eventIgnored, eventFailed},
		"/events?source=github":          {eventNew, eventIgnored},
		"/events?kind=build":             {eventBuild},
		"/events?state=failed":           {eventFailed},
		"/events?repo=hello.git":         {eventBuild, eventFailed},
		"/events?package=rpms/hello":     {eventBuild},
		"/events?since=1h":               {eventNew, eventBuild},
		"/events?since=1d":               {eventNew, eventBuild, eventIgnored},
		"/events?until=2026-11-21":       {eventFailed},
		"/events?since=1h&source=github": {eventNew},
		"/events?before=" + eventIgnored: {eventFailed},
		"/events?source=gitea":           nil,
	} {
		page := wantStatus(t, get(t, router, target), 200)
		if got := listed(page); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
		if want == nil {
			wantContains(t, page, "Nothing here matches")
		}
	}
}

// Every link of a filter leads to a page, and keeps the filters that hold.
func TestEventFiltersAreLinks(t *testing.T) {
	_, router := newInbox(t)
	page := wantStatus(t, get(t, router, "/events?source=github&since=7d&repo=nano"), 200)
	wantContains(t, page, "source <b>github</b>", "repo <b>nano</b>", "since <b>7d</b>", "new 1", "ignored 1", "given up 1",
		`href="/events?repo=nano&amp;since=7d"`, `href="/events?repo=nano&amp;since=7d&amp;source=github&amp;state=ignored"`)
	links := regexp.MustCompile(`href="(/events[?][^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(links) < 10 {
		t.Errorf("%d links", len(links))
	}
	for _, m := range links {
		target := strings.ReplaceAll(m[1], "&amp;", "&")
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, get(t, router, target), 200)
		if len(u.Query()) < 2 {
			t.Errorf("%s has lost filters", target)
		}
	}
}

func TestEventPagesShowEveryEventOnce(t *testing.T) {
	w, router := newInbox(t)
	for i := range 120 {
		id := fmt.Sprintf("e0000000-0000-4000-9000-%012d", i)
		w.events[id] = assay.EventRecord{State: assay.EventIgnored, Event: assay.Event{ID: id, Source: "git", Received: ago(float64(i / 7))}}
	}
	seen := map[string]bool{}
	older := regexp.MustCompile(`href="([^"]+)" rel="next">Older`)
	for target := "/events?source=git"; target != ""; {
		page := wantStatus(t, get(t, router, target), 200)
		for _, id := range listed(page) {
			if seen[id] {
				t.Errorf("%s is there twice", id)
			}
			seen[id] = true
		}
		target = ""
		if m := older.FindStringSubmatch(page); m != nil {
			target = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != 121 {
		t.Errorf("%d events, want 121", len(seen))
	}
}

func TestManyEventsAreCountedRoughly(t *testing.T) {
	links := inboxStates(assay.EventNew, url.Values{}, map[assay.EventState]int{assay.EventNew: 9_999, assay.EventPlanned: 10_000})
	var words []string
	for _, l := range links {
		words = append(words, l.Word)
	}
	if got := strings.Join(words, ", "); got != "all, new 9,999, planned 10,000+, ignored 0, given up 0" {
		t.Error(got)
	}
}

func TestEmptyInboxSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	wantContains(t, wantStatus(t, get(t, w.router(t), "/events"), 200), "Nothing has been delivered yet", "assay hook install")
}

func TestWithoutAnInbox(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	options := w.options()
	options.Inbox = nil
	router := mux.NewRouter()
	if err := Register(router, options); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, get(t, router, "/events"), 404)
	for _, target := range []string{"/", "/events/" + eventBuild} {
		if page := wantStatus(t, get(t, router, target), 200); strings.Contains(page, `href="/events"`) || strings.Contains(page, "What was sent") {
			t.Errorf("%s tells of an inbox", target)
		}
	}
}

// Bodies can be private: nothing of one is on a page unless that was asked for.
func TestBodiesAreShownOnlyOnRequest(t *testing.T) {
	w, router := newInbox(t)
	w.sent[eventBuild] = sent{w.sent[eventBuild].header, `{"secret":"hunter2"}`}
	page := wantStatus(t, get(t, router, "/events/"+eventBuild), 200)
	wantContains(t, page, "20 B, is not shown here", "X-Assay-Delivery", "koji-2718281", "202 Accepted", "2 times")
	if strings.Contains(page, "hunter2") {
		t.Error("the body is on the page")
	}
	w.showBodies = true
	page = wantStatus(t, get(t, w.router(t), "/events/"+eventBuild), 200)
	wantContains(t, page, "{\n  &#34;secret&#34;: &#34;hunter2&#34;\n}")
}

func TestBodiesThatAreNotShown(t *testing.T) {
	w, _ := newInbox(t)
	w.showBodies = true
	router := w.router(t)
	for body, want := range map[string]string{
		"":                                       "It has no body",
		"payload=%7B%7D":                         "is not JSON",
		"<script>":                               "is not JSON",
		`{"a":1} {"b":2}`:                        "is not JSON",
		`"` + strings.Repeat("x", 300<<10) + `"`: "too large to be shown",
	} {
		w.sent[eventBuild] = sent{http.Header{"A": {"b"}}, body}
		page := wantStatus(t, get(t, router, "/events/"+eventBuild), 200)
		if !strings.Contains(page, want) || strings.Contains(page, `class="payload"`) {
			t.Errorf("%.40s: the page lacks %q, or has the body", body, want)
		}
	}
	delete(w.sent, eventBuild)
	wantContains(t, wantStatus(t, get(t, router, "/events/"+eventBuild), 200), "too old to be kept")
}

func TestShowJSON(t *testing.T) {
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	for body, want := range map[string]string{
		`{"a":[1,{}]}`:         "{\n  \"a\": [\n    1,\n    {}\n  ]\n}",
		"\"\u202e\x7f\u2028\"": "\"\uFFFD\uFFFD\uFFFD\"",
		deep:                   deep,
		"nil":                  "",
		"":                     "",
	} {
		if got, cut := showJSON([]byte(body)); got != want || cut {
			t.Errorf("%.40q: %.60q, cut %v", body, got, cut)
		}
	}
	wide := "[" + strings.Repeat("[],", 40_000) + "0]"
	if got, cut := showJSON([]byte(wide)); len(got) != bodyShown || !cut {
		t.Errorf("%d bytes, cut %v", len(got), cut)
	}
}

func TestDepth(t *testing.T) {
	for body, want := range map[string]int{`1`: 0, `[]`: 1, `[[],{"a":[1]}]`: 3, `["[[["]`: 1, `["\"[","\\"]`: 1, `{"[":"\\\"{"}`: 1} {
		if got := depth([]byte(body)); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	plain := assay.InboxEntry{}
	again, ignored, watched := plain, plain, plain
	again.Repeats, ignored.Ignored, watched.Origin = 1, "a tag", assay.OriginWatched
	for _, tt := range []struct {
		entry assay.InboxEntry
		want  string
	}{{plain, "202 Accepted."}, {again, "it is known"}, {ignored, "nothing will be done"}, {watched, "Nobody was waiting"}} {
		if got := answerWords(tt.entry); !strings.Contains(got, tt.want) {
			t.Errorf("%+v: %q", tt.entry, got)
		}
	}
}

func TestWhatHappened(t *testing.T) {
	for want, e := range map[string]assay.Event{
		"A command on pull request 7 of example/hello":       {Kind: assay.EventComment, PullRequest: 7, Repo: "example/hello"},
		"A request to run assay/x again on example/hello":    {Kind: assay.EventRerun, Context: "assay/x", Repo: "example/hello"},
		"A request to run everything again on example/hello": {Kind: assay.EventRerun, Repo: "example/hello"},
		"A delivery of an unknown kind":                      {Kind: "party"},
	} {
		if got := what(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, kind := range []assay.EventKind{assay.EventPullRequest, assay.EventComment, assay.EventRerun, assay.EventPush, assay.EventBuild} {
		want := kind != assay.EventPush && kind != assay.EventBuild
		if untrusted(assay.Event{Kind: kind}) != want || untrusted(assay.Event{Kind: kind, Trusted: true}) {
			t.Errorf("%s: untrusted is not %v", kind, want)
		}
	}
}

func TestParseMoment(t *testing.T) {
	for text, want := range map[string]time.Time{
		"90m": noon.Add(-90 * time.Minute), "24h": noon.Add(-24 * time.Hour), "7d": noon.AddDate(0, 0, -7), "0s": noon,
		"2026-11-21": time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), "2026-11-21T17:20:00Z": noon, "2026-11-21T18:20:00+01:00": noon,
	} {
		if got, err := ParseMoment(text, noon); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1h", "-3d", "99999d", "1e9d", "0001-01-01", "2300-01-01", "2026-13-01", "24h;x", strings.Repeat("9", 1000) + "h"} {
		if got, err := ParseMoment(text, noon); err == nil {
			t.Errorf("%.20s gave %v", text, got)
		} else if !strings.HasPrefix(err.Error(), "cannot read ") || len(err.Error()) > 300 {
			t.Errorf("%.20s: %v", text, err)
		}
	}
}

func FuzzShowJSON(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"a":[1,{"b":"\u202e"}]}`, "\xff", `"\"[["`, strings.Repeat("[", 40) + strings.Repeat("]", 40), "[\r1\r]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		text, _ := showJSON(body)
		if len(text) > 3*bodyShown { // U+FFFD is three bytes
			t.Errorf("%d bytes became %d", len(body), len(text))
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return deceptive(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q became %q", body, text)
		}
		if text != "" && !json.Valid(body) {
			t.Errorf("%q is not JSON, and is shown", body)
		}
	})
}

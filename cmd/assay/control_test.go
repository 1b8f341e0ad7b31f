package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/webhook"
)

// controlled is a store behind a real socket, and the commands that use it.
type controlled struct {
	t     *testing.T
	data  string
	store *results.Store
	log   *lockedBuffer
	woken int
	stop  func()
}

// startControl serves the socket of a new data directory. sources may be nil.
func startControl(t *testing.T, sources map[string]webhook.Source) *controlled {
	t.Helper()
	c := &controlled{t: t, data: filepath.Join(t.TempDir(), "data"), log: &lockedBuffer{}}
	var err error
	if c.store, err = results.Open(t.Context(), c.data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.store.Close(); err != nil {
			t.Error(err)
		}
	})
	page := func(kind, id string) string { return "https://assay.example.org/" + kind + "/" + id }
	control := newControl(c.store, sources, func() { c.woken++ }, page, zerolog.New(c.log))
	l, err := listenControl(c.data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- serveUntil(ctx, l, control.handler(), time.Minute) }()
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(c.stop)
	return c
}

// add keeps an event and plans it: with an execution for each check ("CHECK",
// "CHECK@VARIANT"), or with a note alone.
func (c *controlled) add(e assay.Event, body, note string, checks ...string) string {
	c.t.Helper()
	id, fresh, err := c.store.AddEvent(c.t.Context(), e, http.Header{"Content-Type": {"application/json"}, "User-Agent": {"t\x1b[2J"}}, []byte(body))
	if err != nil || !fresh {
		c.t.Fatal(fresh, err)
	}
	if e.Ignored != "" || note == "" && len(checks) == 0 {
		return id
	}
	var made []assay.Execution
	for _, check := range checks {
		name, variant, _ := strings.Cut(check, "@")
		made = append(made, assay.Execution{ID: uuid.NewString(), Package: "rpms/hello", Check: name, Variant: variant, Item: "hello-1.0-1", Arch: "x86_64",
			Verdict: assay.VerdictFailed, Reason: "step 1\x1b failed"})
	}
	if err := c.store.PlanEvent(c.t.Context(), id, assay.Decision{Note: note, Executions: made}); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// assay runs a command against the server and returns its exit code and output.
func (c *controlled) assay(args ...string) (code int, out, errs string) {
	c.t.Helper()
	var o, e bytes.Buffer
	code = run(c.t.Context(), append(args, "--data", c.data), strings.NewReader(""), &o, &e)
	for _, text := range []string{o.String(), e.String()} {
		if strings.ContainsAny(text, "\x1b\x00\u202e\u009b") {
			c.t.Errorf("%v: what does not print reaches the terminal: %q", args, text)
		}
	}
	return code, o.String(), e.String()
}

// good is assay of a command that must succeed.
func (c *controlled) good(args ...string) string {
	c.t.Helper()
	code, out, errs := c.assay(args...)
	if code != exitOK {
		c.t.Fatalf("%v: exit %d: %s", args, code, errs)
	}
	return out
}

var (
	aPush = assay.Event{Source: "github", Delivery: "d-1", Meaning: "m-1", Kind: assay.EventPush, Received: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Repo: "github.com/example/hello", Ref: "refs/heads/main", Commit: "c0ffee", Before: "beef", Trusted: true, Author: "ada"}
	aBuild = assay.Event{Source: "build", Delivery: "d-2", Kind: assay.EventBuild, Received: time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC),
		Build: &assay.Build{Package: "rpms/hello", Version: "1.0", Release: "1.fc42"}}
	anEvil = assay.Event{Source: "git\x1b[31m", Delivery: "d-3\x00", Kind: "push\u202e", Received: time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC),
		Repo: "\x1b]0;pwned\x07\n\nrepo\tname\u009b1m", Ref: "refs/heads/\xff"}
)

func TestEventList(t *testing.T) {
	c := startControl(t, nil)
	push := c.add(aPush, "{}", "no check wants a dist_git_commit")
	build := c.add(aBuild, "{}", "", "greets", "help")
	for range 2 {
		if _, _, err := c.store.AddEvent(t.Context(), aBuild, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf(`RECEIVED             EVENT                                 SOURCE  KIND   STATE    MADE  AGAIN  ABOUT
2026-11-21 18:00:00  %s  build   build  planned  2     2      hello-1.0-1.fc42
2026-11-21 17:00:00  %s  github  push   ignored  0     0      github.com/example/hello main: no check wants a dist_git_commit
`, build, push)
	if diff := cmp.Diff(want, c.good("event", "list")); diff != "" {
		t.Error(diff)
	}
	for filter, want := range map[string]string{
		"--source=github": push, "--kind=build": build, "--state=ignored": push, "--repo=EXAMPLE/": push, "--package=rpms/hello": build,
		"--since=2026-11-21T17:30:00Z": build, "--until=2026-11-21T17:30:00Z": push, "--before=" + build: push, "--limit=1": build,
	} {
		var list []eventItem
		if err := json.Unmarshal([]byte(c.good("event", "list", "--json", filter)), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].ID != want {
			t.Errorf("%s: got %+v, want %s", filter, list, want)
		}
	}
	if code, out, errs := c.assay("event", "list", "--source=gitea"); code != exitOK || out != "" || errs != "No event matches.\n" {
		t.Errorf("nothing found: %d, %q, %q", code, out, errs)
	}
	if out := c.good("event", "list", "--source=gitea", "--json"); out != "[]\n" {
		t.Errorf("nothing found, as JSON: %q", out)
	}
}

func TestEventShow(t *testing.T) {
	c := startControl(t, nil)
	id := c.add(aPush, `{"ref":"refs/heads/main","n":[1]}`, "", "greets")
	out := c.good("event", "show", id)
	for _, want := range []string{
		"Event       " + id, "State       planned", "Commit      beef → c0ffee", "Author      ada\n", "Received    2026-11-21 17:00:00 UTC",
		"Body        33 B: see --body", "Page        https://assay.example.org/events/" + id,
		"\nHeaders\n  Content-Type: application/json\n", `  User-Agent: t\x1b[2J`,
		"\nExecutions\n  failed  greets  x86_64  hello-1.0-1  https://assay.example.org/executions/", `step 1\x1b failed`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if got, want := c.good("event", "show", id, "--body"), "{\n  \"ref\": \"refs/heads/main\",\n  \"n\": [\n    1\n  ]\n}\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var d eventDetail
	if err := json.Unmarshal([]byte(c.good("event", "show", id, "--json", "--body")), &d); err != nil {
		t.Fatal(err)
	}
	if d.ID != id || string(d.Body) != `{"ref":"refs/heads/main","n":[1]}` || d.Header.Get("User-Agent") != "t\x1b[2J" || len(d.Executions) != 1 || d.Made != 1 {
		t.Errorf("got %+v", d)
	}
	if strings.Contains(c.good("event", "show", id, "--json"), `"body"`) {
		t.Error("the body is there without --body")
	}
}

// TestEventShowVariants tells the variants of one check apart.
func TestEventShowVariants(t *testing.T) {
	c := startControl(t, nil)
	id := c.add(aPush, "{}", "", "greets@python=3.11", "greets@python=3.12\x1b", "help")
	out := c.good("event", "show", id)
	for _, want := range []string{"  failed  greets  x86_64  python=3.11      hello-1.0-1  https", `  failed  greets  x86_64  python=3.12\x1b  hello-1.0-1  https`,
		"  failed  help    x86_64                   hello-1.0-1  https"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	var d eventDetail
	if err := json.Unmarshal([]byte(c.good("event", "show", id, "--json")), &d); err != nil {
		t.Fatal(err)
	}
	var variants []string
	for _, x := range d.Executions {
		variants = append(variants, x.Variant)
	}
	slices.Sort(variants)
	if want := []string{"", "python=3.11", "python=3.12\x1b"}; !slices.Equal(variants, want) {
		t.Errorf("variants %q, want %q", variants, want)
	}
}

func TestEventShowIgnored(t *testing.T) {
	c := startControl(t, nil)
	e := aPush
	e.Kind, e.PullRequest, e.Trusted, e.Ignored = assay.EventPullRequest, 7, false, "the action labeled calls for nothing"
	id := c.add(e, "", "")
	out := c.good("event", "show", id)
	for _, want := range []string{"State         ignored", "Reason        the action labeled calls for nothing", "Pull request  7",
		"ada (may not write to the repository)", "Body          none, or too old to be kept", "\nNo executions.\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if code, _, errs := c.assay("event", "show", id, "--body"); code != exitFailed || !strings.Contains(errs, "cannot print the body of event "+id) {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// Nothing that a sender wrote reaches a terminal as it is; c.assay looks.
func TestHostileEventsAreShownInert(t *testing.T) {
	c := startControl(t, nil)
	for i, body := range []string{
		"\x1b]0;pwned\x07\x1b[2J\u202e\xff\x9b31m\r\n", `{"a":"` + "\u202e\u009b\x7f\xff" + `"}`, strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
	} {
		e := anEvil
		e.Delivery += fmt.Sprint(i)
		id := c.add(e, body, "\x1b[5mwhy\u202e")
		for _, args := range [][]string{{"show", id}, {"show", id, "--body"}, {"show", id, "--json", "--body"}, {"list"}, {"list", "--json"}, {"replay", id}} {
			out := c.good(append([]string{"event"}, args...)...)
			if strings.HasPrefix(out, "{") || strings.HasPrefix(out, "[") {
				if !json.Valid([]byte(out)) {
					t.Errorf("%v: this is no JSON: %q", args, out)
				}
			} else if args[0] == "list" && strings.Count(out, "\n") != 2+2*i {
				t.Errorf("an event takes more than one line:\n%s", out)
			}
		}
	}
}

func TestEventReplay(t *testing.T) {
	c := startControl(t, nil)
	id := c.add(aPush, "{}", "", "greets")
	out := c.good("event", "replay", id, "--json")
	var made replayed
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Of != id || made.URL != "https://assay.example.org/events/"+made.Event {
		t.Fatalf("%s: %v", out, err)
	}
	got, err := c.store.Event(t.Context(), made.Event)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.Delivery, "replay:") || got.Received.Before(aPush.Received) {
		t.Errorf("delivery %q, received %s", got.Delivery, got.Received)
	}
	want := aPush
	want.ID, want.Delivery, want.Meaning, want.Received, want.Origin = made.Event, got.Delivery, "", got.Received, assay.OriginReplayed
	if diff := cmp.Diff(assay.EventRecord{Event: want, State: assay.EventNew}, got); diff != "" {
		t.Error(diff)
	}
	header, body, err := c.store.Delivery(t.Context(), made.Event)
	if err != nil || string(body) != "{}" || header.Get(replayOf) != id || header.Get("Content-Type") != "application/json" {
		t.Errorf("the delivery is %v, %q, %v", header, body, err)
	}
	if c.woken != 1 {
		t.Errorf("the planner was woken %d times", c.woken)
	}
	if log := c.log.String(); !strings.Contains(log, `"of":"`+id+`"`) || !strings.Contains(log, fmt.Sprintf(`"by":"user %d"`, os.Getuid())) {
		t.Errorf("the log does not say who replayed what: %s", log)
	}
	if again := c.good("event", "replay", id); !strings.HasPrefix(again, "replayed: https://") || strings.Contains(again, made.Event) {
		t.Errorf("a second replay: %s", again)
	}
}

func TestEventReplayRefused(t *testing.T) {
	c := startControl(t, nil)
	unplanned := c.add(aBuild, "{}", "")
	e := aPush
	e.Ignored = "a tag was deleted"
	ignored := c.add(e, "{}", "")
	e = aPush
	e.Delivery, e.Meaning = "d-9", ""
	good := c.add(e, "{}", "no check wants it")
	unknown := uuid.NewString()
	code, out, errs := c.assay("event", "replay", unplanned, ignored, unknown, "..", good)
	if code != exitFailed || strings.Count(out, "replayed: ") != 1 || c.woken != 1 {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, want := range []string{
		"cannot replay event " + unplanned + ": it is still to be planned", "cannot replay event " + ignored + ": nothing would be done about it again: a tag was deleted",
		fmt.Sprintf("cannot read event %q: not found: see assay event list", unknown), "not found",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("lacks %q:\n%s", want, errs)
		}
	}
}

// oddSource reads a delivery as the test says.
type oddSource struct {
	webhook.Source
	events []assay.Event
	err    error
}

func (s oddSource) Decode(http.Header, []byte) ([]assay.Event, error) { return s.events, s.err }

// A replay takes the delivery as the program reads it now.
func TestReplayReadsTheDeliveryAgain(t *testing.T) {
	was := aPush
	was.Ignored = "an unknown action"
	now, other := aPush, aPush
	now.Author, other.Commit = "grace", "0ther"
	for _, tt := range []struct {
		name   string
		source webhook.Source
		body   string
		author string // of the replay; "" for none
	}{
		{"one", oddSource{events: []assay.Event{now}}, "{}", "grace"},
		{"one of two", oddSource{events: []assay.Event{other, now}}, "{}", "grace"},
		{"none of two", oddSource{events: []assay.Event{other, other}}, "{}", ""},
		{"not understood any more", oddSource{err: errors.New("no ref")}, "{}", ""},
		{"pruned", oddSource{events: []assay.Event{now}}, "", ""},
	} {
		c := startControl(t, map[string]webhook.Source{"github": tt.source})
		id := c.add(was, tt.body, "")
		code, _, errs := c.assay("event", "replay", id)
		list, err := c.store.Events(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if tt.author == "" && (code == exitOK || !strings.Contains(errs, "an unknown action")) {
			t.Errorf("%s: exit %d: %s", tt.name, code, errs)
		}
		if tt.author != "" && (code != exitOK || list[0].Author != tt.author || list[0].Ignored != "" || list[0].Origin != assay.OriginReplayed) {
			t.Errorf("%s: exit %d: %s: %+v", tt.name, code, errs, list[0])
		}
	}
}

func TestEventUsage(t *testing.T) {
	for _, args := range [][]string{
		{"list", "--state", "x"}, {"list", "--since", "yesterday"}, {"list", "--limit", "0"}, {"list", "--limit", "1001"}, {"list", "x"},
		{"show"}, {"show", "a", "b"}, {"replay"}, {"list", "--config", "/none.yml"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"event"}, args...), strings.NewReader(""), &out, &errs); code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, code, errs.String())
		}
	}
}

func TestNoServer(t *testing.T) {
	c := startControl(t, nil)
	socket := filepath.Join(c.data, controlName)
	c.stop()
	if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	none := func(what string) {
		t.Helper()
		code, _, errs := c.assay("event", "list")
		if code != exitFailed || !strings.Contains(errs, "cannot reach the server of "+c.data+": none runs: start assay serve") {
			t.Errorf("%s: exit %d: %s", what, code, errs)
		}
	}
	none("ended")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	none("killed")
}

// What a killed server left is no hindrance, and nobody but the owner may open
// the socket.
func TestControlSocket(t *testing.T) {
	for _, name := range []string{"data", strings.Repeat("long", 40)} {
		data := filepath.Join(t.TempDir(), name)
		for _, dir := range []string{"control.new/x", controlName} {
			if err := os.MkdirAll(filepath.Join(data, filepath.Dir(dir)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(data, dir), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		l, err := listenControl(data)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(data)
		if err != nil || len(entries) != 1 || entries[0].Name() != controlName {
			t.Errorf("there is %v, %v", entries, err)
		}
		if info, err := entries[0].Info(); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("the socket has the mode %v, %v", info.Mode(), err)
		}
		taken := make(chan string)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				taken <- err.Error()
				return
			}
			from := conn.RemoteAddr().String()
			_ = conn.Close() // the other end is what counts
			taken <- from
		}()
		conn, err := (&controlClient{data}).dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if from := <-taken; from != fmt.Sprint("user ", os.Getuid()) {
			t.Errorf("the caller is taken for %s", from)
		}
		if err := errors.Join(conn.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestControlOfAnotherVersion(t *testing.T) {
	c := startControl(t, nil)
	client := &controlClient{c.data}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		err := client.call(t.Context(), method, "/v2/events", nil)
		if err == nil || !strings.Contains(err.Error(), "of another version") {
			t.Errorf("%s: %v", method, err)
		}
	}
	for query, want := range map[string]string{"limit=x": "cannot read the limit", "since=x": "cannot read \"x\" as a time"} {
		if err := client.call(t.Context(), http.MethodGet, "/v1/events?"+query, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", query, err)
		}
	}
}

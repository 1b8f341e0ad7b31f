package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay/webhook"
	"github.com/gorilla/mux"
	"github.com/rs/zerolog"
)

const buildBody = `{"package":"rpms/hello","version":"1.0","release":"1.fc42","commit":"41d5c0ffee0123456789abcdef0123456789abcd","build_id":"7"}`

// intake is a handler with what it wrote.
type intake struct {
	http.Handler
	inbox *box
	log   *lines
	woken *int
}

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	all []map[string]any
	raw string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	l.all, l.raw = append(l.all, line), l.raw+string(p)
	return len(p), nil
}

func newIntake(change func(*webhook.Options)) intake {
	in := intake{inbox: &box{}, log: &lines{}, woken: new(int)}
	o := webhook.Options{
		Sources: sources(), Inbox: in.inbox, Log: zerolog.New(in.log), PublicURL: "https://assay.example.org",
		Wake: func() { *in.woken++ },
	}
	if change != nil {
		change(&o)
	}
	in.Handler = webhook.Handler(o)
	return in
}

// post sends a signed build event after change had its way with it.
func (in intake) post(body string, change func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "/hooks/build", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Assay-Delivery", "d-1")
	req.Header.Set("X-Assay-Signature-256", webhook.Sign(secret, []byte(body)))
	if change != nil {
		change(req)
	}
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, req)
	return rec
}

// refusal is a change to a good request, and the answer to it.
type refusal struct {
	name   string
	change func(*http.Request)
	status int
	header [2]string
	reason string
}

func refusals() []refusal {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	signedBy := func(secret string) func(*http.Request) {
		return set("X-Assay-Signature-256", webhook.Sign([]byte(secret), []byte(buildBody)))
	}
	to := func(path string) func(*http.Request) {
		return func(r *http.Request) { r.URL.Path = path }
	}
	return []refusal{
		{"GET", func(r *http.Request) { r.Method = "GET" }, 405, [2]string{"Allow", "POST"}, "use POST"},
		{"an unknown method", func(r *http.Request) { r.Method = "BREW" }, 405, [2]string{"Allow", "POST"}, "BREW"},
		{"the method comes before the source", func(r *http.Request) { r.Method = "PUT"; r.URL.Path = "/hooks/x" }, 405, [2]string{"Allow", "POST"}, "PUT"},
		{"unknown source", to("/hooks/sourceforge"), 404, [2]string{}, `"sourceforge"`},
		{"hostile source", to("/hooks/" + strings.Repeat("x\x1b", 999)), 404, [2]string{}, `x\x1b`},
		{"no source", to("/hooks/"), 404, [2]string{}, "/hooks/SOURCE"},
		{"more path", to("/hooks/build/x"), 404, [2]string{}, "/hooks/SOURCE"},
		{"double slash", to("//hooks/build"), 404, [2]string{}, "/hooks/SOURCE"},
		{"elsewhere", to("/"), 404, [2]string{}, "/hooks/SOURCE"},
		{"plain text", set("Content-Type", "text/plain"), 415, [2]string{}, "application/json"},
		{"no type", set("Content-Type", ""), 415, [2]string{}, "application/json"},
		{"a form where none is taken", set("Content-Type", "application/x-www-form-urlencoded"), 415, [2]string{}, "application/json"},
		{"malformed type", set("Content-Type", "application/json; ;="), 415, [2]string{}, "application/json"},
		{"compressed as we cannot read", set("Content-Encoding", "br"), 415, [2]string{}, `"br"`},
		{"no signature", set("X-Assay-Signature-256", ""), 401, [2]string{"WWW-Authenticate", "HMAC-SHA256"}, "has no X-Assay-Signature-256"},
		{"wrong secret", signedBy("another secret that is long"), 401, [2]string{"WWW-Authenticate", "HMAC-SHA256"}, "does not fit"},
		{"empty secret", signedBy(""), 401, [2]string{"WWW-Authenticate", "HMAC-SHA256"}, "does not fit"},
		{"SHA-1", set("X-Assay-Signature-256", "sha1="+strings.Repeat("0", 40)), 401, [2]string{}, "sha256="},
		{"short signature", set("X-Assay-Signature-256", "sha256=00"), 401, [2]string{}, "64 hex digits"},
		{"no hex", set("X-Assay-Signature-256", "sha256="+strings.Repeat("z", 64)), 401, [2]string{}, "64 hex digits"},
		{"without its prefix", set("X-Assay-Signature-256", strings.Repeat("0", 64)), 401, [2]string{}, "sha256="},
		{"GitHub's header instead of ours", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", r.Header.Get("X-Assay-Signature-256"))
			r.Header.Del("X-Assay-Signature-256")
		}, 401, [2]string{}, "has no X-Assay-Signature-256"},
		{"changed after signing", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(buildBody + " ")) }, 401, [2]string{}, "does not fit"},
		{"no delivery id", set("X-Assay-Delivery", ""), 400, [2]string{}, "no X-Assay-Delivery"},
		{"said to be too large", func(r *http.Request) { r.ContentLength = webhook.DefaultMaxBody + 1 }, 413, [2]string{}, "26214400 bytes"},
		{"cut short", func(r *http.Request) { r.Body = io.NopCloser(&broken{io.ErrUnexpectedEOF}) }, 400, [2]string{}, "too early"},
		{"too slow", func(r *http.Request) { r.Body = io.NopCloser(&broken{slow{}}) }, 408, [2]string{}, "slowly"},
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range refusals() {
		t.Run(test.name, func(t *testing.T) {
			in := newIntake(nil)
			rec := in.post(buildBody, test.change)
			if rec.Code != test.status || test.header[0] != "" && rec.Header().Get(test.header[0]) != test.header[1] {
				t.Errorf("status %d, headers %v, want %d, %v", rec.Code, rec.Header(), test.status, test.header)
			}
			var answer struct{ Error string }
			if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || !strings.HasPrefix(answer.Error, "cannot ") || !strings.Contains(answer.Error, test.reason) {
				t.Errorf("answer %s, want %q in it", rec.Body, test.reason)
			}
			if len(answer.Error) > 300 {
				t.Errorf("the answer has %d bytes", len(answer.Error))
			}
			if len(in.inbox.all()) != 0 || *in.woken != 0 {
				t.Error("something was stored")
			}
			wantLine(t, in.log, test.status, answer.Error)
		})
	}
}

// wantLine wants exactly one log line, with status and reason.
func wantLine(t *testing.T, log *lines, status int, reason string) map[string]any {
	t.Helper()
	if len(log.all) != 1 {
		t.Fatalf("%d log lines, want 1: %s", len(log.all), log.raw)
	}
	line := log.all[0]
	if line["status"] != float64(status) || reason != "" && line["reason"] != reason || line["duration"] == nil {
		t.Errorf("log line %v, want status %d and reason %q", line, status, reason)
	}
	if len(log.raw) > 1500 {
		t.Errorf("a log line of %d bytes", len(log.raw))
	}
	return line
}

type broken struct{ err error }

func (b *broken) Read([]byte) (int, error) { return 0, b.err }

// slow is a net.Error.
type slow struct{}

func (slow) Error() string   { return "i/o timeout" }
func (slow) Timeout() bool   { return true }
func (slow) Temporary() bool { return true }

func TestTaken(t *testing.T) {
	in := newIntake(nil)
	rec := in.post(buildBody, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Cookie", "session=x")
		r.Header.Set("User-Agent", "a\x1b"+strings.Repeat("b", 5000))
		r.Header.Set("X-Forwarded-For", "10.0.0.1")
	})
	entries := in.inbox.all()
	if rec.Code != 202 || len(entries) != 1 || *in.woken != 1 {
		t.Fatalf("status %d, %d stored, woken %d: %s", rec.Code, len(entries), *in.woken, rec.Body)
	}
	e := entries[0]
	want := fmt.Sprintf(`{"event":"%[1]s","url":"https://assay.example.org/events/%[1]s","fresh":true}`+"\n", e.event.ID)
	if rec.Body.String() != want || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("answer %s, want %s", rec.Body, want)
	}
	for name := range e.header {
		if name != "Content-Type" && name != "User-Agent" && name != "X-Assay-Delivery" {
			t.Errorf("the header %s was kept", name)
		}
	}
	if agent := e.header.Get("User-Agent"); len(agent) > 1024 || strings.Contains(agent, "\x1b") {
		t.Errorf("unfit User-Agent of %d bytes was kept", len(agent))
	}
	line := wantLine(t, in.log, 202, "")
	if line["source"] != "build" || line["delivery"] != "d-1" || line["kind"] != "build" || line["event"] != e.event.ID || line["fresh"] != true {
		t.Errorf("log line %v", line)
	}
	if strings.Contains(in.log.raw, "rpms") || strings.Contains(in.log.raw, "sha256=") {
		t.Errorf("the log has something of the body or the signature: %s", in.log.raw)
	}
}

func TestSameDeliveryTwiceIsOneEvent(t *testing.T) {
	in := newIntake(nil)
	tests := []struct {
		name, body, delivery string
		fresh                bool
	}{
		{"first", buildBody, "d-1", true},
		{"again", buildBody, "d-1", false},
		{"the same under another id", buildBody, "d-2", false},
		{"the same in other white space", strings.ReplaceAll(buildBody, ",", " , "), "d-3", false},
		{"another build", strings.Replace(buildBody, `"1.0"`, `"1.1"`, 1), "d-4", true},
		{"another build under a known id", strings.Replace(buildBody, `"1.0"`, `"1.2"`, 1), "d-1", false},
	}
	for _, test := range tests {
		rec := in.post(test.body, func(r *http.Request) { r.Header.Set("X-Assay-Delivery", test.delivery) })
		var answer struct {
			Event string
			Fresh bool
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != 202 || answer.Fresh != test.fresh {
			t.Errorf("%s: status %d, answer %s", test.name, rec.Code, rec.Body)
		}
		if known := in.inbox.all()[0].event.ID; !test.fresh && answer.Event != known {
			t.Errorf("%s: event %s, want the one known, %s", test.name, answer.Event, known)
		}
	}
	if n := len(in.inbox.all()); n != 2 || *in.woken != 2 {
		t.Errorf("%d events, woken %d times", n, *in.woken)
	}
}

func TestStoreFails(t *testing.T) {
	in := newIntake(nil)
	in.inbox.fail = errors.New("database or disk is full at /var/lib")
	rec := in.post(buildBody, nil)
	if rec.Code != 503 || rec.Header().Get("Retry-After") != "10" || strings.Contains(rec.Body.String(), "/var/lib") || *in.woken != 0 {
		t.Errorf("status %d, headers %v, body %s", rec.Code, rec.Header(), rec.Body)
	}
	line := wantLine(t, in.log, 503, "cannot store the event: database or disk is full at /var/lib")
	if line["level"] != "error" || line["delivery"] != "d-1" {
		t.Errorf("log line %v", line)
	}
	in.inbox.fail = nil
	if rec := in.post(buildBody, nil); rec.Code != 202 || !strings.Contains(rec.Body.String(), `"fresh":true`) {
		t.Errorf("sent again: status %d, body %s", rec.Code, rec.Body)
	}
}

func TestIgnoredIsStoredAndWakesNobody(t *testing.T) {
	in := newIntake(nil)
	d := readDelivery(t, corpus+"/github/push-tag.json")
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, signedRequest(t, "github", d))
	if rec.Code != 202 || !strings.Contains(rec.Body.String(), `"ignored":"a tag was pushed`) || len(in.inbox.all()) != 1 || *in.woken != 0 {
		t.Errorf("status %d, body %s, woken %d", rec.Code, rec.Body, *in.woken)
	}
	wantLine(t, in.log, 202, "a tag was pushed, and only branches start checks")
}

func TestPing(t *testing.T) {
	in := newIntake(nil)
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, signedRequest(t, "github", readDelivery(t, corpus+"/github/ping.json")))
	if rec.Code != 200 || rec.Body.String() != `{"pong":true}`+"\n" || len(in.inbox.all()) != 0 {
		t.Errorf("status %d, body %s", rec.Code, rec.Body)
	}
	if line := wantLine(t, in.log, 200, ""); line["kind"] != "ping" {
		t.Errorf("log line %v", line)
	}
}

// Two secrets are valid while one is replaced by the other.
func TestRotation(t *testing.T) {
	old, next := []byte("the old secret, long enough"), []byte("the next secret, long enough")
	in := newIntake(func(o *webhook.Options) {
		o.Sources["build"] = webhook.NewBuild(webhook.Keys{Secrets: [][]byte{next, nil, old}})
	})
	for who, secret := range map[string][]byte{"old": old, "next": next} {
		rec := in.post(buildBody, func(r *http.Request) { r.Header.Set("X-Assay-Signature-256", webhook.Sign(secret, []byte(buildBody))) })
		if rec.Code != 202 {
			t.Errorf("%s secret: status %d", who, rec.Code)
		}
	}
	rec := in.post(buildBody, func(r *http.Request) { r.Header.Set("X-Assay-Signature-256", webhook.Sign(nil, []byte(buildBody))) })
	if rec.Code != 401 {
		t.Errorf("signed with nothing: status %d", rec.Code)
	}
}

func TestUnsigned(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:8080": true, "[::1]:8080": true, "localhost:0": true, "127.9.9.9:1": true,
		"0.0.0.0:8080": false, ":8080": false, "[::]:80": false, "192.0.2.1:80": false, "localhost.evil.example:80": false, "127.0.0.1": false, "": false,
	} {
		if _, err := webhook.AllowUnsigned(address); (err == nil) != allowed {
			t.Errorf("%q: %v", address, err)
		}
	}
	local, err := webhook.AllowUnsigned("127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		keys    webhook.Keys
		warning string
		status  int
	}{
		{"neither", webhook.Keys{}, "every delivery will be refused", 401},
		{"only an empty secret", webhook.Keys{Secrets: [][]byte{{}}}, "every delivery will be refused", 401},
		{"allowed", webhook.Keys{Unsigned: local}, "without a signature", 202},
		{"a secret wins", webhook.Keys{Secrets: [][]byte{secret}, Unsigned: local}, "", 401},
		{"a short secret", webhook.Keys{Secrets: [][]byte{[]byte("short")}}, "fewer than 16 bytes", 401},
	}
	for _, test := range tests {
		in := newIntake(func(o *webhook.Options) {
			o.Sources = map[string]webhook.Source{"build": webhook.NewBuild(test.keys)}
		})
		if said := len(in.log.all); (said == 1) != (test.warning != "") || !strings.Contains(in.log.raw, test.warning) {
			t.Errorf("%s: said at start: %s", test.name, in.log.raw)
		}
		rec := in.post(buildBody, func(r *http.Request) { r.Header.Del("X-Assay-Signature-256") })
		if rec.Code != test.status {
			t.Errorf("%s: status %d, want %d", test.name, rec.Code, test.status)
		}
		if in.post(buildBody, nil); strings.Count(in.log.raw, `"build"`) < 2 || strings.Count(in.log.raw, test.warning) > 1 && test.warning != "" && test.status == 202 {
			t.Errorf("%s: the warning comes more than once: %s", test.name, in.log.raw)
		}
	}
}

// The limit holds for bodies that do not say how long they are.
func TestSizeLimit(t *testing.T) {
	in := newIntake(func(o *webhook.Options) { o.MaxBody = int64(len(buildBody)) + 10 })
	server := httptest.NewServer(in)
	defer server.Close()
	for extra, status := range map[int]int{0: 202, 10: 202, 11: 413, 1 << 20: 413} {
		body := buildBody + strings.Repeat(" ", extra)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/hooks/build", io.MultiReader(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		if req.ContentLength > 0 {
			t.Fatal("the body would not be sent in chunks")
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Assay-Delivery", fmt.Sprint("d-", extra))
		req.Header.Set("X-Assay-Signature-256", webhook.Sign(secret, []byte(body)))
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%d more bytes: status %d, want %d", extra, resp.StatusCode, status)
		}
	}
}

// A sender that falls silent is let go when the server gives the request up.
func TestSilentSender(t *testing.T) {
	in := newIntake(nil)
	ctx, giveUp := context.WithCancel(t.Context())
	began, done := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		close(began)
		in.ServeHTTP(w, r)
	}))
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /hooks/build HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	<-began
	giveUp()
	<-done
	if line := wantLine(t, in.log, 503, ""); !strings.Contains(line["reason"].(string), "given up") {
		t.Errorf("log line %v", line)
	}
}

func TestManyAtOnce(t *testing.T) {
	in := newIntake(func(o *webhook.Options) { o.Wake = nil })
	const events, copies = 8, 8
	var all sync.WaitGroup
	fresh := make(chan string, events*copies)
	for i := range events * copies {
		all.Go(func() {
			body := strings.Replace(buildBody, `"7"`, fmt.Sprintf(`"b-%d"`, i%events), 1)
			rec := in.post(body, func(r *http.Request) { r.Header.Set("X-Assay-Delivery", fmt.Sprint("d-", i)) })
			if strings.Contains(rec.Body.String(), `"fresh":true`) {
				fresh <- rec.Body.String()
			}
		})
	}
	all.Wait()
	if len(fresh) != events || len(in.inbox.all()) != events || len(in.log.all) != events*copies {
		t.Errorf("%d fresh, %d stored, %d lines", len(fresh), len(in.inbox.all()), len(in.log.all))
	}
}

func TestRegisterLeavesTheRestAlone(t *testing.T) {
	router := mux.NewRouter()
	inbox := &box{}
	webhook.Register(router, webhook.Options{Sources: sources(), Inbox: inbox, Log: zerolog.Nop()})
	router.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for path, want := range map[string]int{"/": 418, "/nothing": 404, "/hooks/nothing": 404, "/hooks/build": 401, "/hooks/build/x": 404} {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(nil))
		req.Header.Set("Content-Type", "application/json")
		router.ServeHTTP(rec, req)
		if rec.Code != want {
			t.Errorf("%s: status %d, want %d", path, rec.Code, want)
		}
	}
}

// Meaning must be the same for what GitHub says twice, and only then.
func TestMeaning(t *testing.T) {
	meaningOf := func(source webhook.Source, name string) string {
		d := readDelivery(t, corpus+"/"+name+".json")
		h := http.Header{}
		for key, value := range d.Headers {
			h.Set(key, value)
		}
		events, err := source.Decode(h, d.body())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return events[0].Meaning
	}
	hub := webhook.NewGitHub(webhook.Keys{})
	push := meaningOf(hub, "github/push-branch")
	for _, same := range []string{"push-force", "push-form-encoded", "push-fields-of-another-type"} {
		if meaningOf(hub, "github/"+same) != push {
			t.Errorf("%s means something else than push-branch", same)
		}
	}
	opened := meaningOf(hub, "github/pull-request-opened-from-fork")
	if ready := meaningOf(hub, "github/pull-request-ready-for-review"); ready != opened {
		t.Error("a draft that becomes ready means something else than when it was opened")
	}
	seen := map[string]string{}
	for _, name := range []string{"push-branch", "push-new-branch", "push-sha256", "push-enterprise-server", "pull-request-reopened"} {
		m := meaningOf(hub, "github/"+name)
		if other, twice := seen[m]; twice || m == "" {
			t.Errorf("%s means the same as %q", name, other)
		}
		seen[m] = name
	}
}

package webhook_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/webhook"
	"github.com/rs/zerolog"
)

func zipped(t testing.TB, data string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// The signature is over what comes out, and so is the limit.
func TestGzip(t *testing.T) {
	good := zipped(t, buildBody)
	limit := int64(len(buildBody)) + 100
	spaces := strings.Repeat(" ", 100)
	tests := []struct {
		name, signed string
		body         []byte
		status       int
		reason       string
	}{
		{"good", buildBody, good, 202, ""},
		{"in two parts", buildBody, append(zipped(t, buildBody[:20]), zipped(t, buildBody[20:])...), 202, ""},
		{"just small enough", buildBody + spaces, zipped(t, buildBody+spaces), 202, ""},
		{"one byte too large", buildBody + spaces + " ", zipped(t, buildBody+spaces+" "), 413, "more than"},
		{"a bomb", buildBody, zipped(t, strings.Repeat(" ", 100<<10)), 413, "more than"},
		{"large before it is unpacked", buildBody, append(good, zipped(t, strings.Repeat("x", 1))...), 401, "does not fit"},
		{"signed as it is sent", string(good), good, 401, "does not fit"},
		{"not compressed", buildBody, []byte(buildBody), 400, "not what gzip makes"},
		{"cut short", buildBody, good[:len(good)-9], 400, "too early"},
		{"with a wrong sum", buildBody, append(append([]byte(nil), good[:len(good)-8]...), 0, 0, 0, 0, 0, 0, 0, 0), 400, "not what gzip makes"},
		{"damaged", buildBody, append(append([]byte(nil), good[:10]...), bytes.Repeat([]byte{0xff}, 90)...), 400, "not what gzip makes"},
		{"nothing", buildBody, nil, 400, "too early"},
	}
	for _, test := range tests {
		in := newIntake(func(o *webhook.Options) { o.MaxBody = limit })
		rec := in.post(test.signed, func(r *http.Request) {
			r.Header.Set("Content-Encoding", "gzip")
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(test.body)), int64(len(test.body))
		})
		if rec.Code != test.status || !strings.Contains(rec.Body.String(), test.reason) {
			t.Errorf("%s: status %d: %s; want %d, %q", test.name, rec.Code, rec.Body, test.status, test.reason)
		}
		if entries := in.inbox.all(); test.status == 202 && (len(entries) != 1 || string(entries[0].body) != test.signed) {
			t.Errorf("%s: what was stored is not what was unpacked", test.name)
		}
	}
}

// A small body that unpacks to more than memory holds is given up at the limit:
// the sender of this one never ends.
func TestGzipWithoutEnd(t *testing.T) {
	in := newIntake(func(o *webhook.Options) { o.MaxBody = 1 << 20 })
	member := zipped(t, strings.Repeat("0", 64<<10))
	rec := in.post(buildBody, func(r *http.Request) {
		r.Header.Set("Content-Encoding", "GZIP")
		r.Body, r.ContentLength = io.NopCloser(&endless{member: member}), -1
	})
	if rec.Code != 413 || len(in.inbox.all()) != 0 {
		t.Errorf("status %d: %s", rec.Code, rec.Body)
	}
}

// endless repeats one member of a gzip file.
type endless struct {
	member []byte
	at     int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.member[e.at:])
	e.at = (e.at + n) % len(e.member)
	return n, nil
}

// Every body up to GitHub's cap is taken, and none above it.
func TestLargestBody(t *testing.T) {
	pad := func(size int) string { return buildBody + strings.Repeat(" ", size-len(buildBody)) }
	for size, status := range map[int]int{webhook.DefaultMaxBody: 202, webhook.DefaultMaxBody + 1: 413} {
		in := newIntake(nil)
		rec := in.post(pad(size), func(r *http.Request) { r.ContentLength = -1 })
		if rec.Code != status {
			t.Errorf("%d bytes: status %d, want %d: %s", size, rec.Code, status, rec.Body)
		}
	}
}

// No source is given what is not UTF-8, nests without end, or says a thing twice.
func TestShapeForAllSources(t *testing.T) {
	hostile := map[string]string{
		"not UTF-8":   "{\"a\":\"\xff\"}",
		"deep":        strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500),
		"twice":       `{"a":1,"b":{},"a":2}`,
		"twice, deep": `{"a":[{"b":{"c":1,"\u0063":2}}]}`,
	}
	for _, f := range forges() {
		names := deliveries(t, f.dir)
		for what, body := range hostile {
			refusedBody(t, f, readDelivery(t, handledDelivery(t, f, names)).header(), what, body)
		}
	}
}

// handledDelivery is a delivery of the corpus that is neither refused nor
// ignored, so that its headers make the source read the body.
func handledDelivery(t *testing.T, f forge, names []string) string {
	t.Helper()
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "bad-") {
			continue
		}
		d := readDelivery(t, name)
		events, err := f.source(webhook.Keys{}).Decode(d.header(), d.body())
		if err == nil && events[0].Ignored == "" {
			return name
		}
	}
	t.Fatalf("%s has no delivery that counts", f.dir)
	return ""
}

func refusedBody(t *testing.T, f forge, header http.Header, what, body string) {
	t.Helper()
	in := newIntake(nil)
	req := httptest.NewRequest(http.MethodPost, "/hooks/"+f.dir, strings.NewReader(body))
	req.Header = header
	req.Header.Set("Content-Type", strings.Replace(header.Get("Content-Type"), "application/x-www-form-urlencoded", "application/json", 1))
	f.sign(req.Header, []byte(body))
	rec := httptest.NewRecorder()
	in.ServeHTTP(rec, req)
	if rec.Code != 400 || len(in.inbox.all()) != 0 || !strings.Contains(rec.Body.String(), "cannot read") {
		t.Errorf("%s, %s: status %d: %s", f.dir, what, rec.Code, rec.Body)
	}
}

// Each address and source has a burst, and then so many a second.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newIntake(func(o *webhook.Options) { o.Rate = webhook.Rate{PerSecond: 0.25, Burst: 3} })
		send := func(address, source string) *httptest.ResponseRecorder {
			return in.post(buildBody, func(r *http.Request) { r.RemoteAddr, r.URL.Path = address, "/hooks/"+source })
		}
		want := func(step, address, source string, status int) {
			t.Helper()
			if rec := send(address, source); rec.Code != status {
				t.Errorf("%s: status %d, want %d: %s", step, rec.Code, status, rec.Body)
			}
		}
		for i := range 3 {
			want(fmt.Sprint("burst ", i), fmt.Sprintf("192.0.2.1:%d", i), "build", 202)
		}
		rec := send("192.0.2.1:9", "build")
		if rec.Code != 429 || rec.Header().Get("Retry-After") != "4" || !strings.Contains(rec.Body.String(), "cannot take so many") {
			t.Errorf("status %d, headers %v: %s", rec.Code, rec.Header(), rec.Body)
		}
		want("another address", "192.0.2.2:1", "build", 202)
		want("another source", "192.0.2.1:1", "git", 400)
		want("no source at all", "192.0.2.1:1", "nothing", 404)
		want("the same address, as IPv6 has it", "[::ffff:192.0.2.1]:1", "build", 429)
		for i := range 3 {
			want("a network", fmt.Sprintf("[2001:db8::%d]:1", i), "build", 202)
		}
		want("the same network", "[2001:db8::ffff]:1", "build", 429)
		want("another network", "[2001:db8:0:1::1]:1", "build", 202)
		time.Sleep(4 * time.Second)
		want("four seconds later", "192.0.2.1:1", "build", 202)
		want("and no more", "192.0.2.1:1", "build", 429)
	})
}

// Thousands of deliveries at once from one address are not held up by default.
func TestRateOfForges(t *testing.T) {
	in := newIntake(func(o *webhook.Options) { o.Log = zerolog.Nop() })
	for i := range 2000 {
		if rec := in.post("{", func(r *http.Request) { r.Header.Del("X-Assay-Signature-256") }); rec.Code != 401 {
			t.Fatalf("delivery %d: status %d: %s", i, rec.Code, rec.Body)
		}
	}
}

// several is a source whose deliveries have several events.
type several struct{ events []assay.Event }

func (several) Verify(http.Header, []byte) error                    { return nil }
func (s several) Decode(http.Header, []byte) ([]assay.Event, error) { return s.events, nil }
func (several) Vouch(_ http.Header, _ []byte, e assay.Event) error  { return vouchFor(e) }
func vouchFor(e assay.Event) (err error) {
	if e.Repo == "another" {
		err = errors.New("cannot accept the delivery: not for this repository")
	}
	return err
}

// A store that fails in the middle of a delivery: nobody is told that it was
// taken, nobody is woken, and the same delivery again completes it.
func TestStoreFailsInTheMiddle(t *testing.T) {
	push := func(delivery, ignored string) assay.Event {
		return assay.Event{Kind: assay.EventPush, Delivery: delivery, Ignored: ignored}
	}
	for name, events := range map[string][]assay.Event{
		"all count":           {push("1", ""), push("2", ""), push("3", "")},
		"the last is ignored": {push("1", ""), push("2", "a tag"), push("3", "a tag")},
	} {
		in := newIntake(func(o *webhook.Options) { o.Sources["build"] = several{events} })
		stored := 0
		in.inbox.block = func(context.Context) {
			in.inbox.mu.Lock()
			defer in.inbox.mu.Unlock()
			if stored++; stored == 2 {
				in.inbox.fail = errors.New("database or disk is full")
			}
		}
		rec := in.post(buildBody, nil)
		if rec.Code != 503 || rec.Header().Get("Retry-After") != "10" || *in.woken != 0 || strings.Contains(rec.Body.String(), "event\":") {
			t.Errorf("%s: status %d, woken %d: %s", name, rec.Code, *in.woken, rec.Body)
		}
		in.inbox.fail, in.inbox.block = nil, nil
		rec = in.post(buildBody, nil)
		if rec.Code != 202 || len(in.inbox.all()) != 3 || *in.woken != 1 {
			t.Errorf("%s, again: status %d, %d stored, woken %d: %s", name, rec.Code, len(in.inbox.all()), *in.woken, rec.Body)
		}
		if rec = in.post(buildBody, nil); rec.Code != 202 || len(in.inbox.all()) != 3 || *in.woken != 1 {
			t.Errorf("%s, a third time: status %d, %d stored, woken %d", name, rec.Code, len(in.inbox.all()), *in.woken)
		}
	}
}

// One event that the secret is not good for spoils the delivery.
func TestVouchForEachEvent(t *testing.T) {
	for name, test := range map[string]struct {
		events []assay.Event
		status int
	}{
		"none":    {nil, 400},
		"good":    {[]assay.Event{{Repo: "one", Delivery: "1"}, {Repo: "two", Delivery: "2"}}, 202},
		"one bad": {[]assay.Event{{Repo: "one", Delivery: "1"}, {Repo: "another", Delivery: "2"}}, 401},
	} {
		in := newIntake(func(o *webhook.Options) { o.Sources["build"] = several{test.events} })
		rec := in.post(buildBody, nil)
		if rec.Code != test.status || test.status != 202 && len(in.inbox.all()) != 0 {
			t.Errorf("%s: status %d, %d stored: %s", name, rec.Code, len(in.inbox.all()), rec.Body)
		}
	}
}

// What is stored can be read on a page: no proof of a secret may be in it.
func TestNoSecretIsKept(t *testing.T) {
	for _, f := range forges() {
		d := readDelivery(t, handledDelivery(t, f, deliveries(t, f.dir)))
		in := newIntake(nil)
		req := signedRequest(t, f.dir, d)
		for _, name := range []string{"Authorization", "Cookie", "X-Hub-Signature", "X-Pagure-Signature", "Webhook-Signature", "X-Gitlab-Token"} {
			if req.Header.Get(name) == "" && (name != "X-Gitlab-Token" || f.dir != "gitlab") {
				req.Header.Set(name, "a proof of something")
			}
		}
		rec := httptest.NewRecorder()
		in.ServeHTTP(rec, req)
		if len(in.inbox.all()) != 1 {
			t.Fatalf("%s: status %d: %s", f.dir, rec.Code, rec.Body)
		}
		for name, values := range in.inbox.all()[0].header {
			lower := strings.ToLower(name)
			if strings.Contains(lower, "signature") || strings.Contains(lower, "token") || strings.Contains(values[0], "proof") || strings.Contains(values[0], string(secret)) {
				t.Errorf("%s: %s was kept", f.dir, name)
			}
		}
		if strings.Contains(in.log.raw, string(secret)) {
			t.Errorf("%s: the log has the secret", f.dir)
		}
	}
}

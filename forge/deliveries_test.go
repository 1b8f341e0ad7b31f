package forge

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-ci/assay"
)

// stubHooks is the part of a forge's API that tells of webhooks. Every request
// must be one that the documents have.
type stubHooks struct {
	*httptest.Server
	t      *testing.T
	prefix string // of every path
	auth   func(*http.Request) bool

	mu      sync.Mutex
	answers map[string]string // by "METHOD /path?query"; a body, or "CODE [Header=value] body"
	asked   []string
}

func newStubHooks(t *testing.T, prefix string, auth func(*http.Request) bool) *stubHooks {
	s := &stubHooks{t: t, prefix: prefix, auth: auth, answers: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *stubHooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Method + " " + strings.TrimPrefix(r.URL.EscapedPath(), s.prefix)
	if r.URL.RawQuery != "" {
		key += "?" + r.URL.RawQuery
	}
	s.asked = append(s.asked, key)
	if !s.auth(r) {
		s.t.Errorf("%s came with the wrong token", key)
	}
	answer, ok := s.answers[key]
	if !ok {
		http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
		return
	}
	code := http.StatusOK
	if n, rest, found := strings.Cut(answer, " "); found && len(n) == 3 && strings.Trim(n, "0123456789") == "" {
		code, _ = strconv.Atoi(n)
		answer = rest
		for strings.HasPrefix(answer, "[") && strings.Contains(answer, "=") {
			header, rest, _ := strings.Cut(answer[1:], "] ")
			name, value, _ := strings.Cut(header, "=")
			w.Header().Set(name, value)
			answer = rest
			if strings.HasPrefix(rest, "[\n") {
				break
			}
		}
	}
	w.WriteHeader(code)
	_, _ = w.Write([]byte(answer))
}

func (s *stubHooks) on(key, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[key] = answer
}

func tokenIn(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const receiver = "https://assay.example.org/hooks/github"

func newGitHubHooks(t *testing.T) (*stubHooks, *GitHubDeliveries) {
	s := newStubHooks(t, "", func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer tok" })
	g, err := NewGitHubDeliveries(GitHubOptions{BaseURL: s.URL, TokenFile: tokenIn(t, "tok\n")})
	if err != nil {
		t.Fatal(err)
	}
	return s, g
}

func TestGitHubDeliveries(t *testing.T) {
	s, g := newGitHubHooks(t)
	s.on("GET /repos/o/n/hooks?per_page=100", `[{"id":1,"config":{"url":"https://other.example.org/hooks/github"}},
		{"id":7,"config":{"url":"https://Assay.example.org/hooks/github/"}}]`)
	next := "<" + s.URL + `/repositories/1/hooks/7/deliveries?per_page=100&cursor=v1_12>; rel="next", <x>; rel="prev"`
	s.on("GET /repos/o/n/hooks/7/deliveries?per_page=100", "200 [Link="+next+`] [
		{"id":14,"guid":"g-14","delivered_at":"2026-01-31T12:00:00Z","status_code":502,"event":"push","unknown":{"x":[1]}},
		{"id":13,"guid":"g 13\n","delivered_at":"2026-01-31T11:00:00+01:00","status_code":202,"event":"pull_request"}]`)
	s.on("GET /repos/o/n/hooks/7/deliveries?cursor=v1_12&per_page=100", `[]`)
	s.on("GET /repos/o/n/hooks/7/deliveries/14", `{"id":14,"guid":"g-14","event":"push","request":{"headers":{
		"X-GitHub-Event":"push","x-hub-signature-256":"sha256=00","Authorization":"secret","User-Agent":"GitHub-Hookshot/1",
		"X-GitHub-Odd":"a\nb","X-GitHub-Hook-ID":7,"content-type":"application/x-www-form-urlencoded"},"payload":{"ref":"refs/heads/main"}}}`)
	s.on("POST /repos/o/n/hooks/7/deliveries/14/attempts", "202 {}")

	log, err := g.Of("https://github.com/o/n.git", 0, receiver)
	if err != nil {
		t.Fatal(err)
	}
	list, older, err := log.List(t.Context(), "")
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	want := []Delivery{{ID: 14, Name: "g-14", Event: "push", At: at}, {ID: 13, Event: "pull_request", At: at.Add(-2 * time.Hour), OK: true}}
	if err != nil || older != "v1_12" || !reflect.DeepEqual(list, want) {
		t.Fatalf("got %+v, %q, %v", list, older, err)
	}
	if list, older, err := log.List(t.Context(), older); len(list) != 0 || older != "" || err != nil {
		t.Errorf("the last page is %v, %q, %v", list, older, err)
	}
	header, body, err := log.Fetch(t.Context(), want[0])
	wantHeader := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"GitHub-Hookshot/1"},
		"X-Github-Event": {"push"}, "X-Github-Delivery": {"g-14"}}
	if err != nil || string(body) != `{"ref":"refs/heads/main"}` || !reflect.DeepEqual(header, wantHeader) {
		t.Errorf("got %v, %s, %v", header, body, err)
	}
	if err := log.Redeliver(t.Context(), want[0]); err != nil {
		t.Error(err)
	}
	_, _, err = log.Fetch(t.Context(), Delivery{ID: 99})
	if never := new(PermanentError); !errors.Is(err, assay.ErrNotFound) || !errors.As(err, &never) {
		t.Errorf("a forgotten delivery is %v", err)
	}
	if n := len(slices.DeleteFunc(s.asked, func(k string) bool { return k != "GET /repos/o/n/hooks?per_page=100" })); n != 1 {
		t.Errorf("the webhook was looked for %d times", n)
	}
}

func TestGitHubDeliveriesOfNothing(t *testing.T) {
	_, g := newGitHubHooks(t)
	if _, err := g.Of("https://github.com/only", 5, ""); err == nil {
		t.Error("an address without a repository passes")
	}
}

// TestGitHubAppDeliveries checks the token that an App makes of its key.
func TestGitHubAppDeliveries(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	file := tokenIn(t, string(pem.EncodeToMemory(block)))
	s := newStubHooks(t, "/api/v3", func(r *http.Request) bool {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return false
		}
		claims, err := base64.RawURLEncoding.DecodeString(parts[1])
		return err == nil && strings.Contains(string(claims), `"iss":"42"`)
	})
	s.on("GET /app/hook/deliveries?per_page=100", `[{"id":1,"guid":"a","event":"push","status_code":0}]`)
	s.on("GET /app/hook/deliveries/1", "404 {\"message\":\"gone for good\"}")
	log, err := NewGitHubAppDeliveries(GitHubOptions{BaseURL: s.URL + "/api/v3"}, 42, file)
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := log.List(t.Context(), "")
	if err != nil || len(list) != 1 || list[0].OK {
		t.Fatalf("got %v, %v", list, err)
	}
	if _, _, err := log.Fetch(t.Context(), list[0]); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := NewGitHubAppDeliveries(GitHubOptions{}, 42, tokenIn(t, "no key")); err == nil || !strings.Contains(err.Error(), "cannot use the GitHub App's key") {
		t.Errorf("got %v", err)
	}
}

func TestDeliveriesTellErrorsApart(t *testing.T) {
	reset := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	cases := map[string]struct {
		answer string
		again  bool
		after  bool
		words  string
	}{
		"down":            {"503 busy", true, false, "says 503"},
		"asked to wait":   {"503 [Retry-After=60] busy", true, true, "503"},
		"primary limit":   {"403 [X-RateLimit-Remaining=0] [X-RateLimit-Reset=" + reset + `] {"message":"API rate limit exceeded"}`, true, true, "limiting us"},
		"secondary limit": {`403 {"message":"You have exceeded a secondary rate limit"}`, true, true, "limiting us"},
		"too many":        {"429 [Retry-After=7] no", true, true, "429"},
		"forbidden":       {`403 {"message":"Resource not accessible"}`, false, false, `forbids it to the token in`},
		"wrong token":     {`401 {"message":"Bad credentials"}`, false, false, "does not take the token"},
		"HTML":            {"<html>", true, false, "no good answer"},
		"no list":         {`{"id":1}`, true, false, "no good answer"},
		"wrong types":     {`[{"id":"1"}]`, true, false, "no good answer"},
		"no number":       {`[{"guid":"x"}]`, true, false, "no good answer"},
		"too long a list": {"[" + strings.Repeat(`{"id":1},`, maxDeliveries) + `{"id":1}]`, true, false, "1001 deliveries"},
		"moved":           {"302 [Location=http://127.0.0.1:1/x] x", false, false, "moved"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s, g := newGitHubHooks(t)
			s.on("GET /repos/o/n/hooks/7/deliveries?per_page=100", tc.answer)
			log, err := g.Of("https://github.com/o/n", 7, "")
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = log.List(t.Context(), "")
			var again *RetryError
			if errors.As(err, &again) != tc.again || again != nil && (again.After > 0) != tc.after {
				t.Errorf("got %#v", err)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "cannot list") || !strings.Contains(err.Error(), tc.words) || strings.Contains(err.Error(), "Bearer") {
				t.Errorf("got %v", err)
			}
		})
	}
	s, g := newGitHubHooks(t)
	s.Close()
	log, _ := g.Of("https://github.com/o/n", 7, "")
	_, _, err := log.List(t.Context(), "")
	if again := new(RetryError); !errors.As(err, &again) {
		t.Errorf("a server that is away is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = log.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFindingTheWebhook(t *testing.T) {
	cases := map[string][2]string{
		"none":     {`[]`, "set one up there"},
		"two":      {`[{"id":1,"config":{"url":"` + receiver + `"}},{"id":2,"config":{"url":"` + receiver + `"}}]`, "there are 2"},
		"hostile":  {`[{"id":-1,"config":{"url":"` + receiver + `"}},{"id":3,"config":null},{"config":{"url":"::"}}]`, "set one up there"},
		"no list":  {`{"message":"x"}`, "no good answer"},
		"no right": {`404 {"message":"Not Found"}`, `"Webhooks" read`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s, g := newGitHubHooks(t)
			s.on("GET /repos/o/n/hooks?per_page=100", tc[0])
			log, err := g.Of("https://github.com/o/n", 0, receiver)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = log.List(t.Context(), ""); err == nil || !strings.Contains(err.Error(), tc[1]) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestWebhookThatIsSetUpAnew is looked for again.
func TestWebhookThatIsSetUpAnew(t *testing.T) {
	s, g := newGitHubHooks(t)
	hook := func(id string) string { return `[{"id":` + id + `,"config":{"url":"` + receiver + `"}}]` }
	s.on("GET /repos/o/n/hooks?per_page=100", hook("7"))
	s.on("GET /repos/o/n/hooks/7/deliveries?per_page=100", "[]")
	log, _ := g.Of("https://github.com/o/n", 0, receiver)
	if _, _, err := log.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	s.on("GET /repos/o/n/hooks?per_page=100", hook("8"))
	s.on("GET /repos/o/n/hooks/7/deliveries?per_page=100", "404 gone")
	s.on("GET /repos/o/n/hooks/8/deliveries?per_page=100", `[{"id":1,"guid":"a"}]`)
	if _, _, err := log.List(t.Context(), ""); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if list, _, err := log.List(t.Context(), ""); len(list) != 1 || err != nil {
		t.Errorf("got %v, %v", list, err)
	}
}

// gitLabEvents writes deliveries with these numbers as GitLab does.
func gitLabEvents(ids ...int) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprintf(`{"id":%d,"url":"x","trigger":"push_hooks","request_headers":{"X-Gitlab-Event":"Push Hook",
			"Idempotency-Key":"key-%d","X-Gitlab-Token":"[REDACTED]"},"request_data":{"n":%d},"response_status":"500"}`, id, id, id))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func downFrom(id, n int) []int {
	var ids []int
	for i := range n {
		ids = append(ids, id-i)
	}
	return ids
}

func newGitLabHooks(t *testing.T) (*stubHooks, DeliveryLog) {
	s := newStubHooks(t, "/api/v4", func(r *http.Request) bool { return r.Header.Get("PRIVATE-TOKEN") == "tok" })
	g, err := NewGitLabDeliveries(GitLabOptions{BaseURL: s.URL, TokenFile: tokenIn(t, "tok")})
	if err != nil {
		t.Fatal(err)
	}
	s.on("GET /projects/grp%2Fsub%2Fn/hooks?per_page=100", `[{"id":3,"url":"`+receiver+`"}]`)
	log, err := g.Of("https://gitlab.com/grp/sub/n.git", 0, receiver)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

const gitLabList = "GET /projects/grp%2Fsub%2Fn/hooks/3/events?"

func TestGitLabDeliveries(t *testing.T) {
	s, log := newGitLabHooks(t)
	s.on(gitLabList+"page=1&per_page=20", gitLabEvents(downFrom(45, 20)...))
	s.on(gitLabList+"page=2&per_page=20", gitLabEvents(25, 24))
	first, older, err := log.List(t.Context(), "")
	if err != nil || len(first) != 20 || older != "2" || first[0] != (Delivery{ID: 45, Name: "key-45", Event: "push_hooks"}) {
		t.Fatalf("got %+v, %q, %v", first, older, err)
	}
	second, older, err := log.List(t.Context(), older)
	if err != nil || len(second) != 2 || older != "" {
		t.Fatalf("got %v, %q, %v", second, older, err)
	}
	// Since then others came, and the list slid.
	s.on(gitLabList+"page=1&per_page=20", gitLabEvents(downFrom(60, 20)...))
	s.on(gitLabList+"page=2&per_page=20", gitLabEvents(downFrom(40, 17)...))
	for _, d := range []Delivery{second[1], second[0], first[19], first[0]} {
		header, body, err := log.Fetch(t.Context(), d)
		want := fmt.Sprintf(`{"n":%d}`, d.ID)
		if err != nil || string(body) != want || header.Get("X-Gitlab-Event") != "Push Hook" || header.Get("X-Gitlab-Token") != "" {
			t.Errorf("%d: got %v, %s, %v", d.ID, header, body, err)
		}
	}
	s.on("POST /projects/grp%2Fsub%2Fn/hooks/3/events/45/resend", `{"response_status":200}`)
	if err := log.Redeliver(t.Context(), first[0]); err != nil {
		t.Error(err)
	}
	for _, d := range []Delivery{{ID: 1}, first[5]} {
		s.on(gitLabList+"page=1&per_page=20", gitLabEvents(61))
		s.on(gitLabList+"page=2&per_page=20", "[]")
		log.(*gitLabLog).number = 0 // nothing is held
		if _, _, err := log.Fetch(t.Context(), d); !errors.Is(err, assay.ErrNotFound) {
			t.Errorf("%d: got %v", d.ID, err)
		}
	}
}

func TestGitLabDeliveriesThatAreCut(t *testing.T) {
	s, log := newGitLabHooks(t)
	s.on(gitLabList+"page=1&per_page=20", `[{"id":5,"trigger":"x","request_data":{"oversize":true},"response_status":"internal error"},
		{"id":4,"request_data":"{\"ref\":\"a\"}","response_status":201,"created_at":"2026-01-31T12:00:00.5Z"},
		{"id":3,"request_data":null},{"id":2,"request_data":[1],"request_headers":{"Webhook-ID":"msg_1","Idempotency-Key":"k"}}]`)
	list, _, err := log.List(t.Context(), "")
	want := []Delivery{
		{ID: 5, Event: "x", Cut: true}, {ID: 4, Event: "unknown", OK: true, At: time.Date(2026, 1, 31, 12, 0, 0, 5e8, time.UTC)},
		{ID: 3, Event: "unknown", Cut: true}, {ID: 2, Name: "msg_1", Event: "unknown", Cut: true},
	}
	if err != nil || !reflect.DeepEqual(list, want) {
		t.Fatalf("got %+v, %v", list, err)
	}
	if _, body, err := log.Fetch(t.Context(), list[1]); err != nil || string(body) != `{"ref":"a"}` {
		t.Errorf("got %s, %v", body, err)
	}
	if _, _, err := log.Fetch(t.Context(), list[0]); err != nil {
		t.Error(err) // it is an object: the caller does not ask
	}
	if _, _, err := log.List(t.Context(), "-1"); err == nil {
		t.Error("a page -1 passes")
	}
}

func FuzzDeliveries(f *testing.F) {
	f.Add([]byte(gitLabEvents(3, 2)), `<https://h/x?cursor=v1_1>; rel="next"`)
	f.Add([]byte(`[{"id":1,"guid":"g","delivered_at":"2026-01-31T12:00:00Z","status_code":200,"event":"push"}]`), "")
	f.Add([]byte(`{"id":1,"guid":"g","event":"push","request":{"headers":{"X-GitHub-Event":"a\r\nb"},"payload":"{}"}}`), `<>;rel="next",<`)
	f.Add([]byte(`[{"id":1,"request_data":{"oversize":true},"response_status":["2"]}]`), `<%zz>; rel="next"`)
	f.Fuzz(func(t *testing.T, data []byte, link string) {
		var list []Delivery
		if given, err := parseGitHubDeliveries(data); err == nil {
			list = append(list, given...)
		}
		if given, err := parseGitLabDeliveries(data); err == nil {
			for _, d := range given {
				list = append(list, d.plain())
			}
		}
		for _, d := range list {
			if d.ID <= 0 || d.Name != "" && !deliveryWord(d.Name, 128) || !deliveryWord(d.Event, 64) {
				t.Errorf("passed: %+v", d)
			}
		}
		if header, body, err := parseGitHubDelivery(data); err == nil {
			if !json.Valid(body) {
				t.Errorf("passed: %q", body)
			}
			for name, values := range header {
				if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
					t.Errorf("passed: %q: %q", name, values)
				}
			}
		}
		if cursor := olderCursor(link); cursor != "" && (!printable(cursor) || len(cursor) > 512) {
			t.Errorf("passed: %q", cursor)
		}
	})
}

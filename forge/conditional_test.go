package forge

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// tagged is a server whose body and tag a test changes.
type tagged struct {
	body, tag string
	breakOff  bool
	full      int // answers with a body
}

func (s *tagged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Now", fmt.Sprint(s.full))
	if s.tag != "" {
		w.Header().Set("ETag", s.tag)
	}
	if s.tag != "" && r.Header.Get("If-None-Match") == s.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.full++
	if s.breakOff {
		w.Header().Set("Content-Length", fmt.Sprint(len(s.body)+10))
	}
	_, _ = io.WriteString(w, s.body)
}

func newTagged(t *testing.T) (*tagged, func(method, path string) (string, *http.Response, error), *conditional) {
	t.Helper()
	s := &tagged{body: "one", tag: `"1"`}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c := &conditional{next: server.Client().Transport}
	client := &http.Client{Transport: c}
	return s, func(method, path string) (string, *http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), resp, err
	}, c
}

func TestConditional(t *testing.T) {
	s, ask, _ := newTagged(t)
	tests := []struct {
		name, method, path, body, tag string
		full                          int // bodies sent so far
	}{
		{"first", "GET", "/a", "one", `"1"`, 1},
		{"unchanged", "GET", "/a", "one", `"1"`, 1},
		{"unchanged again", "GET", "/a", "one", `"1"`, 1},
		{"another address", "GET", "/b", "one", `"1"`, 2},
		{"another query", "GET", "/a?page=2", "one", `"1"`, 3},
		{"changed", "GET", "/a", "two", `"2"`, 4},
		{"unchanged after a change", "GET", "/a", "two", `"2"`, 4},
		{"not a read", "POST", "/a", "two", `"2"`, 5},
		{"too large to keep", "GET", "/c", strings.Repeat("x", maxAnswer+1), `"3"`, 6},
		{"too large to keep, again", "GET", "/c", strings.Repeat("x", maxAnswer+1), `"3"`, 7},
		{"no tag", "GET", "/d", "four", "", 8},
		{"no tag again", "GET", "/d", "four", "", 9},
	}
	for _, test := range tests {
		s.body, s.tag = test.body, test.tag
		body, resp, err := ask(test.method, test.path)
		if err != nil || body != test.body || resp.StatusCode != http.StatusOK || resp.Status != "200 OK" || s.full != test.full {
			t.Errorf("%s: %d bytes, %v; %d bodies were sent, want %d", test.name, len(body), err, s.full, test.full)
		}
	}
}

// Rate limits and dates are those of the answer at hand.
func TestConditionalHasNewHeaders(t *testing.T) {
	s, ask, _ := newTagged(t)
	for i := range 3 {
		_, resp, err := ask("GET", "/a")
		if err != nil || resp.Header.Get("X-Now") != fmt.Sprint(min(i, 1)) || resp.Header.Get("Content-Type") == "" {
			t.Errorf("headers are %v, %v", resp.Header, err)
		}
	}
	if s.full != 1 {
		t.Errorf("%d bodies were sent", s.full)
	}
}

func TestConditionalKeepsNoHalves(t *testing.T) {
	s, ask, c := newTagged(t)
	s.breakOff = true
	if body, _, err := ask("GET", "/a"); err == nil || body != "one" {
		t.Errorf("got %q, %v", body, err)
	}
	if len(c.kept) != 0 {
		t.Error("half an answer was kept")
	}
	s.breakOff = false
	if body, _, err := ask("GET", "/a"); err != nil || body != "one" || s.full != 2 {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestConditionalIsBounded(t *testing.T) {
	c := &conditional{}
	for i := range 3 * maxAnswers {
		c.set(fmt.Sprint(i), &answer{body: make([]byte, 1)})
	}
	if len(c.kept) > maxAnswers || c.bytes != len(c.kept) {
		t.Errorf("%d answers of %d bytes are kept", len(c.kept), c.bytes)
	}
	large := &answer{body: make([]byte, maxAnswer)}
	for i := range 40 {
		c.set(fmt.Sprint("large", i), large)
		c.set("same", large)
	}
	sum := 0
	for _, a := range c.kept {
		sum += len(a.body)
	}
	if sum > maxAnswerBytes || c.bytes != sum {
		t.Errorf("%d bytes are kept and %d counted", sum, c.bytes)
	}
}

// A server that says 304 to who did not ask.
func TestConditionalUnasked(t *testing.T) {
	s, ask, _ := newTagged(t)
	s.tag = ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }))
	defer server.Close()
	resp, err := (&http.Client{Transport: &conditional{next: server.Client().Transport}}).Get(server.URL)
	if err != nil || resp.StatusCode != http.StatusNotModified {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	if body, _, err := ask("GET", "/a"); err != nil || body != "one" {
		t.Errorf("got %q, %v", body, err)
	}
}

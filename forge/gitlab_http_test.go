package forge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// endless answers with more than anybody wants to know.
type endless struct {
	status int
	read   int
}

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: e.status, Header: http.Header{}, Body: io.NopCloser(e), Request: r}, nil
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

func newEndless(t *testing.T, status int) (*webForge, *endless) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := &endless{status: status}
	w, err := newWebForge("X", "https://h/", token, "", 0, source)
	if err != nil {
		t.Fatal(err)
	}
	w.header = "X-Token"
	return w, source
}

func TestWebAnswersAreBounded(t *testing.T) {
	w, source := newEndless(t, http.StatusOK)
	w.limit = 1000
	resp, err := w.client("secret").Get("https://h/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil || len(text) > 1000 || source.read > 2000 {
		t.Errorf("%d bytes of %d were taken: %v", len(text), source.read, err)
	}
	w, source = newEndless(t, http.StatusTeapot)
	_, err = w.client("secret").Get("https://h/x")
	if !webAnswered(err, http.StatusTeapot) || source.read > 2*maxWebProblem {
		t.Errorf("%d bytes of a problem were taken: %v", source.read, err)
	}
}

func TestWebTokenStaysAtHome(t *testing.T) {
	for _, address := range []string{"https://h2/x", "http://h/x", "https://h:8443/x", "https://h.evil.example/"} {
		w, source := newEndless(t, http.StatusOK)
		resp, err := w.client("secret").Get(address)
		if err == nil {
			resp.Body.Close()
		}
		var stray *strayError
		if !errors.As(err, &stray) || source.read > 0 {
			t.Errorf("%s was asked: %v", address, err)
		}
		var never *PermanentError
		if err := w.fail(t.Context(), "ask", "", err); !errors.As(err, &never) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestWebMessages(t *testing.T) {
	for text, want := range map[string][2]string{
		`{"message":"401 Unauthorized"}`:               {"401 Unauthorized", ""},
		`{"message":{"a":["b"]}}`:                      {`{"a":["b"]}`, ""},
		`{"error":"x","error_description":"y\nz"}`:     {"x: y z", ""},
		`{"error":"No such","error_code":"ENOCOMMIT"}`: {"No such", "ENOCOMMIT"},
		`{"error_code":7}`:                             {"", ""},
		"Retry later\n":                                {"Retry later", ""},
		"<html><body>x":                                {"no reason given", ""},
		"":                                             {"no reason given", ""},
		`["x"]`:                                        {`["x"]`, ""},
		`{"message":"` + strings.Repeat("x", 200) + `"}`: {strings.Repeat("x", 139) + "…", ""},
	} {
		message, word := webMessage([]byte(text))
		if got := [2]string{message, word}; got != want {
			t.Errorf("%.60s: %q, want %q", text, got, want)
		}
	}
}

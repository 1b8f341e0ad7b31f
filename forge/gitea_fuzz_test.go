package forge_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
)

// oneAnswer is a server that has one answer for everything.
type oneAnswer struct {
	status int
	total  string
	body   string
}

func (a oneAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	header := http.Header{"X-Total-Count": {a.total}, "Retry-After": {a.total}}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// FuzzGiteaAnswers wants of any answer that it is success as a forge promises it
// or one of the two kinds of error, in one line without the token.
func FuzzGiteaAnswers(f *testing.F) {
	for _, body := range append(giteaBadPulls(), "", "[", "[null]", `[{"id":1,"user":{"id":1},"body":"<!-- assay:m -->"}]`, `{"id":1,"permission":"write"}`,
		`{"sha":"`+shaA+`","statuses":[{"context":"assay/x","status":"warning","target_url":"http://a/"}]}`, `{"message":"is not an allowed reaction token-of-ours"}`) {
		f.Add(200, "1", body)
		f.Add(403, "soon", body)
		f.Add(500, "", body)
	}
	token := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token-of-ours"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, total, body string) {
		if status < 100 || status > 999 {
			return // no such answer gets through net/http
		}
		tea, err := forge.NewGitea(forge.GiteaOptions{BaseURL: "https://h/", TokenFile: token, Transport: oneAnswer{status, total, body}})
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range giteaCalls(tea) {
			wantSound(t, call(context.Background()))
		}
		pull, err := tea.PullRequest(t.Context(), teaPull.Repo, 7)
		if err == nil && (pull.Number != 7 || len(pull.BaseCommit) < 40 || pull.Open && len(pull.Head) < 40 || strings.ContainsAny(pull.Base+pull.Author, " \n\x00")) {
			t.Errorf("pull request %+v", pull)
		}
		kept, ok, _ := tea.Status(t.Context(), teaCommit, "assay/x")
		if ok && (kept.Context != "assay/x" || forge.Line(kept.Description) != kept.Description || kept.State == "warning") {
			t.Errorf("status %+v", kept)
		}
	})
}

func wantSound(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var again *forge.RetryError
	var never *forge.PermanentError
	if errors.As(err, &again) == errors.As(err, &never) {
		t.Errorf("error %v is not of one kind", err)
	}
	if text := err.Error(); !strings.HasPrefix(text, "cannot ") || len(text) > 1200 || strings.ContainsAny(text, "\n\r\x1b\x00") || strings.Contains(text, "token-of-ours") {
		t.Errorf("unfit error %q", text)
	}
	if errors.Is(err, assay.ErrNotFound) && never == nil {
		t.Errorf("error %v tells that something is missing, and to try again", err)
	}
}

package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/assay-ci/assay/webhook"
)

const gitBody = `{"version":1,"delivery":"0198c5f6-5f0a-7cc3-8a11-2f1f6b0f9d3e","repository":"/srv/git/x.git","ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"41d5c0ffee0123456789abcdef0123456789abcd","time":"2026-01-31T12:00:00Z"}`

func TestPost(t *testing.T) {
	in := newIntake(nil)
	server := httptest.NewServer(in)
	defer server.Close()
	const id = "0198c5f6-5f0a-7cc3-8a11-2f1f6b0f9d3e"
	want := webhook.Receipt{Event: id, URL: "https://assay.example.org/events/" + id, Fresh: true}
	for range 2 {
		got, err := webhook.Post(t.Context(), nil, server.URL+"/", "git", id, secret, []byte(gitBody))
		if err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		want.Fresh = false
	}
	var refused *webhook.Refused
	_, err := webhook.Post(t.Context(), server.Client(), server.URL, "git", id, []byte("wrong"), []byte(gitBody))
	if !errors.As(err, &refused) || refused.Status != 401 || !strings.Contains(refused.Reason, "does not fit") {
		t.Errorf("wrong secret: %v", err)
	}
	in.inbox.fail = errors.New("full")
	if _, err := webhook.Post(t.Context(), server.Client(), server.URL, "build", "d", secret, []byte(buildBody)); err == nil || errors.As(err, &refused) && refused.Status != 401 {
		t.Errorf("full store: %v", err)
	}
}

func TestPostSortsAnswers(t *testing.T) {
	tests := []struct {
		status  int
		body    string
		refused bool
		reason  string
	}{
		{400, `{"error":"cannot read it"}`, true, "cannot read it"},
		{401, `{"error":"no"}`, true, "no"},
		{404, "<html>nothing\x1b here</html>", true, "nothing\uFFFD here"},
		{413, "", true, "413"},
		{301, "", true, "points to"},
		{308, "", true, "points to"},
		{408, "", false, "408"},
		{429, `{"error":"later"}`, false, "later"},
		{500, strings.Repeat("x", 1<<20), false, "500"},
		{503, `{"error":"full"}`, false, "full"},
		{200, "<html>welcome</html>", false, "check the address"},
		{202, `{"accepted":true}`, false, "check the address"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/hooks/build" || r.Method != http.MethodPost {
					t.Errorf("%s %s was asked", r.Method, r.URL)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			defer server.Close()
			_, err := webhook.Post(t.Context(), server.Client(), server.URL, "build", "d", secret, []byte(buildBody))
			var refused *webhook.Refused
			if err == nil || errors.As(err, &refused) != test.refused || !strings.Contains(err.Error(), test.reason) || !strings.HasPrefix(err.Error(), "cannot ") || len(err.Error()) > 700 {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestPostCannot(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, post := range map[string]func() error{
		"nobody there": func() error {
			_, err := webhook.Post(t.Context(), nil, server.URL, "git", "d", secret, nil)
			return err
		},
		"given up": func() error {
			_, err := webhook.Post(ctx, nil, server.URL, "git", "d", secret, nil)
			return err
		},
		"no address": func() error {
			_, err := webhook.Post(t.Context(), nil, "/srv/git", "git", "d", secret, nil)
			return err
		},
		"another scheme": func() error {
			_, err := webhook.Post(t.Context(), nil, "ftp://x", "git", "d", secret, nil)
			return err
		},
	} {
		var refused *webhook.Refused
		if err := post(); err == nil || errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// The value is RFC 4231's test case 2, in GitHub's form.
func TestSign(t *testing.T) {
	const want = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
	if got := webhook.Sign([]byte("Jefe"), []byte("what do ya want for nothing?")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

package forgetest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay/forge/forgetest"
)

// stub is a server that writes down what takes effect.
type stub struct {
	forgetest.Faults
	done chan string
}

func newStub(t *testing.T) (*stub, string) {
	t.Helper()
	s := &stub{done: make(chan string, 100)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Serve(w, r, "/api", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			s.done <- string(body)
			fmt.Fprint(w, "done")
		})
	}))
	t.Cleanup(server.Close)
	return s, server.URL
}

// send returns the status and the body, or "reset".
func send(t *testing.T, ctx context.Context, address, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "reset"
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name    string
		fault   forgetest.Fault
		answers []string // to four requests, the second of which is for something else
		done    int
	}{
		{"none", forgetest.Fault{On: "GET"}, []string{"200 done", "200 done", "200 done", "200 done"}, 4},
		{"reset", forgetest.Reset().Meant("POST /a"), []string{"reset", "200 done", "200 done", "200 done"}, 3},
		{"lost", forgetest.LostAnswer().Meant("POST /a"), []string{"reset", "200 done", "200 done", "200 done"}, 4},
		{"repeated", forgetest.Repeated().Meant("POST /a"), []string{"200 done", "200 done", "200 done", "200 done"}, 5},
		{"for any", forgetest.Fault{Status: 500, Body: "x"}, []string{"500 x", "200 done", "200 done", "200 done"}, 3},
		{"twice", forgetest.Fault{On: "POST /a", Status: 500, Times: 2}, []string{"500 ", "200 done", "500 ", "200 done"}, 2},
		{"late", forgetest.Fault{On: "POST /a?q", Late: true, Status: 502, Times: 3}, []string{"502 ", "200 done", "502 ", "502 "}, 4},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, base := newStub(t)
			s.Misbehave(test.fault)
			var answers []string
			for _, path := range []string{"/api/a?q", "/api/b", "/api/a?q", "/api/a?q"} {
				answers = append(answers, send(t, t.Context(), base+path, "body"))
			}
			if !slices.Equal(answers, test.answers) || len(s.done) != test.done {
				t.Errorf("answers are %q, %d took effect; want %q, %d", answers, len(s.done), test.answers, test.done)
			}
			for range len(s.done) {
				if body := <-s.done; body != "body" {
					t.Errorf("one took effect with %q", body)
				}
			}
			if got := s.Requests(); len(got) != 4 || got[0] != "POST /a?q" || got[1] != "POST /b" {
				t.Errorf("requests are %q", got)
			}
		})
	}
}

func TestSilenceEndsWithItsClient(t *testing.T) {
	var faults forgetest.Faults
	faults.Misbehave(forgetest.Silence())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		faults.Serve(w, r, "", func(http.ResponseWriter, *http.Request) { t.Error("it was answered") })
		close(over)
	}))
	defer server.Close()
	if got := send(t, ctx, server.URL+"/a", ""); got != "reset" {
		t.Errorf("got %q", got)
	}
	<-over
}

package forge_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/forge"
)

// fuzzToken is a file with a token that no error may show.
func fuzzToken(f *testing.F) string {
	token := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token-of-ours"), 0o600); err != nil {
		f.Fatal(err)
	}
	return token
}

// soundPull wants of a pull request that was believed that it can be used.
func soundPull(t *testing.T, pull assay.PullRequest, err error) {
	t.Helper()
	wantSound(t, err)
	if err == nil && (pull.Number != 7 || len(pull.BaseCommit) < 40 || len(pull.Head) < 40 || strings.ContainsAny(pull.Base+pull.Author, " \n\x00")) {
		t.Errorf("pull request %+v", pull)
	}
}

// soundStatus wants the same of a status.
func soundStatus(t *testing.T, s assay.Status, ok bool) {
	t.Helper()
	switch s.State {
	case assay.StatusPending, assay.StatusSuccess, assay.StatusFailure, assay.StatusError:
	default:
		ok = ok && s.State != ""
		if ok {
			t.Errorf("status %+v", s)
		}
	}
	if ok && (s.Context != "assay/x" || forge.Line(s.Description) != s.Description) {
		t.Errorf("status %+v", s)
	}
}

// FuzzGitLabAnswers wants of any answer that it is success as a forge promises
// it or one of the two kinds of error, in one line without the token.
func FuzzGitLabAnswers(f *testing.F) {
	for _, body := range []string{
		"", "null", "[null]", "{}", `{"message":{"base":["token-of-ours"]}}`, `{"message":"Cannot transition status via :run from :running"}`,
		`[{"id":1,"name":"assay/x","status":"manual","description":"a\nb","target_url":"javascript:x","pipeline_id":-1}]`,
		`{"id":1,"status":"success"}`, `[{"id":"ab","notes":[{"id":1,"author":{"id":1},"body":"<!-- assay:m -->"}]}]`,
		`{"id":7,"iid":7,"state":"opened","sha":"` + shaA + `","target_branch":"main","diff_refs":{"start_sha":"` + shaB + `"},"author":{"username":"a b"}}`,
		`[{"id":1,"username":"writer"}]`, `{"id":1,"access_level":50}`,
	} {
		f.Add(200, "2", body)
		f.Add(400, "soon", body)
		f.Add(429, "99999999999999999999", body)
	}
	token := fuzzToken(f)
	f.Fuzz(func(t *testing.T, status int, total, body string) {
		if status < 100 || status > 999 {
			return // no such answer gets through net/http
		}
		lab, err := forge.NewGitLab(forge.GitLabOptions{BaseURL: "https://h/", TokenFile: token, Transport: oneAnswer{status, total, body}})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []assay.Commit{labCommit, labPull} {
			wantSound(t, lab.SetStatus(t.Context(), at, passed))
			wantSound(t, lab.Comment(t.Context(), at, "m", "x"))
		}
		wantSound(t, lab.React(t.Context(), labPull, "1", assay.ReactionDone))
		_, err = lab.MayWrite(t.Context(), labRepo, "writer")
		wantSound(t, err)
		pull, err := lab.PullRequest(t.Context(), labRepo, 7)
		soundPull(t, pull, err)
		kept, ok, err := lab.Status(t.Context(), labCommit, "assay/x")
		wantSound(t, err)
		soundStatus(t, kept, ok)
	})
}

// FuzzPagureAnswers wants the same of Pagure's.
func FuzzPagureAnswers(f *testing.F) {
	for _, body := range []string{
		"", "null", "[]", "{}", `{"error":"token-of-ours","error_code":"EDBERROR"}`, `{"error":{},"error_code":[],"errors":{"a":["b"]}}`,
		`{"username":"bot","flags":[{"username":"assay/x","status":"made-up","comment":"a\nb","url":"javascript:x","user":{"name":"bot"},"date_updated":"x"}]}`,
		`{"username":"bot","hash":"` + shaA + `","uid":"x"}`, `{"access_users":{"commit":["writer"]},"access_groups":{"admin":["../x","g"]}}`,
		`{"username":"bot","id":7,"status":"Open","branch":"main","commit_stop":"` + shaA + `","branches":{"main":"` + shaB + `"},"user":{"name":"a b"},"comments":[{}]}`,
	} {
		f.Add(200, "2", body)
		f.Add(400, "soon", body)
		f.Add(503, "7", body)
	}
	token := fuzzToken(f)
	f.Fuzz(func(t *testing.T, status int, total, body string) {
		if status < 100 || status > 999 {
			return // no such answer gets through net/http
		}
		pagure, err := forge.NewPagure(forge.PagureOptions{BaseURL: "https://h/", TokenFile: token, Transport: oneAnswer{status, total, body}})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []assay.Commit{pagureCommit, pagurePull} {
			wantSound(t, pagure.SetStatus(t.Context(), at, passed))
			wantSound(t, pagure.Comment(t.Context(), at, "m", "x"))
		}
		_, err = pagure.MayWrite(t.Context(), pagureRepo, "writer")
		wantSound(t, err)
		pull, err := pagure.PullRequest(t.Context(), pagureRepo, 7)
		soundPull(t, pull, err)
		kept, ok, err := pagure.Status(t.Context(), pagureCommit, "assay/x")
		wantSound(t, err)
		soundStatus(t, kept, ok)
	})
}

// FuzzWebAddresses wants of what is found in an address that it can stand in the
// path of a request.
func FuzzWebAddresses(f *testing.F) {
	for _, address := range []string{labRepo, "git@h:g/r.git", "https://h/g/../r", "https://h/g%2f..%2fr", "ssh://h/fork/jo/rpms/r", "https://h/forks/jo/c++.git", "https://h/a/b?c#d", "h:a/b\n"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		for name, parse := range map[string]func(string) (string, string, error){"GitLab": forge.ParseGitLab, "Pagure": forge.ParsePagure} {
			host, path, err := parse(address)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\x1b") || !strings.HasPrefix(err.Error(), "cannot ") {
					t.Errorf("%s: error %q", name, err)
				}
				continue
			}
			if host == "" || host != strings.ToLower(host) || strings.ContainsAny(path, "?#%\\ \n@:") || strings.Contains("/"+path+"/", "/../") || strings.Contains("/"+path+"/", "//") {
				t.Errorf("%s: %q is %q, %q", name, address, host, path)
			}
		}
	})
}

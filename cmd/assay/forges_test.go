package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/forge/forgetest"
	"github.com/assay-ci/assay/webhook"
)

// onForge is a forge of which a push comes, and on which the statuses are looked
// at past everything of ours.
type onForge struct {
	fixture string
	// configure gives the server its token.
	configure func(*config.Config)
	// commits makes the repository rpms/hello known.
	commits func(shas ...string)
	// push makes the recorded body one of rpms/hello on a git server.
	push func(body map[string]any, git, before, after string)
	sign func(header http.Header, secret, body []byte)
	// states are the newest states of rpms/hello's commit, by context.
	states func(sha string) map[string]string
	failed string // the forge's word
}

func TestPushOnEveryForge(t *testing.T) {
	for name, open := range map[string]func(*testing.T) onForge{
		"gitea": onGitea("gitea", "X-Gitea-Signature"), "forgejo": onGitea("forgejo", "X-Forgejo-Signature"),
		"gitlab": onGitLab, "pagure": onPagure,
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			s := newSite(t, f.configure)
			git := overHTTP(t, s.dir)
			s.cfg.Packages[0].Source = git.URL + "/rpms/*.git"
			s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets})
			base := s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
			head := s.commit("rpms/hello", "main", map[string]string{"hello": "echo Goodbye"})
			f.commits(base, head)
			s.start()
			x := s.one(s.forgePush(name, f, git.URL, base, head))
			if x.Type != assay.TypeDistGitCommit || x.Verdict != assay.VerdictFailed || x.Target.SHA != head {
				t.Errorf("the execution: %+v", x)
			}
			s.settled()
			want := map[string]string{"assay": f.failed, "assay/greets": f.failed}
			if got := f.states(head); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the statuses are %v, want %v", got, want)
			}
		})
	}
}

// forgePush delivers the recorded push, changed, and returns its event.
func (s *site) forgePush(source string, f onForge, git, before, after string) string {
	s.t.Helper()
	recorded, err := os.ReadFile("../../fixtures/webhooks/" + f.fixture)
	if err != nil {
		s.t.Fatal(err)
	}
	var delivery struct {
		Headers map[string]string
		Body    map[string]any
	}
	if err := json.Unmarshal(recorded, &delivery); err != nil {
		s.t.Fatal(err)
	}
	f.push(delivery.Body, git, before, after)
	body, err := json.Marshal(delivery.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.srv.url+"/hooks/"+source, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range delivery.Headers {
		req.Header.Set(name, value)
	}
	f.sign(req.Header, s.secret, body)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var receipt struct{ Event string }
	if err != nil || resp.StatusCode != http.StatusAccepted || json.Unmarshal(text, &receipt) != nil {
		s.t.Fatalf("the delivery was answered with %s: %s", resp.Status, text)
	}
	return receipt.Event
}

// hexSigned signs as most do: with the digits alone.
func hexSigned(name string) func(http.Header, []byte, []byte) {
	return func(h http.Header, secret, body []byte) {
		h.Set(name, strings.TrimPrefix(webhook.Sign(secret, body), "sha256="))
	}
}

func onGitea(source, signature string) func(*testing.T) onForge {
	return func(t *testing.T) onForge {
		hub := forgetest.NewGitea(t)
		hub.Forgejo = source == "forgejo"
		return onForge{
			fixture:   source + "/push-branch.json",
			configure: func(c *config.Config) { c.Forges.Gitea = []config.Host{{URL: hub.URL, TokenFile: hub.TokenFile}} },
			commits:   func(shas ...string) { hub.AddRepo("rpms/hello", shas...) },
			push: func(body map[string]any, git, before, after string) {
				body["before"], body["after"] = before, after
				within(body, "repository")["clone_url"] = git + "/rpms/hello.git"
			},
			sign:   hexSigned(signature),
			failed: "failure",
			states: func(sha string) map[string]string {
				states := map[string]string{}
				for _, s := range hub.Statuses("rpms/hello", sha) {
					states[s.Context] = string(s.State)
				}
				return states
			},
		}
	}
}

func onGitLab(t *testing.T) onForge {
	hub := forgetest.NewGitLab(t)
	return onForge{
		fixture:   "gitlab/push-branch.json",
		configure: func(c *config.Config) { c.Forges.GitLab = []config.Host{{URL: hub.URL, TokenFile: hub.TokenFile}} },
		commits:   func(shas ...string) { hub.AddProject("rpms/hello", shas...) },
		push: func(body map[string]any, git, before, after string) {
			body["before"], body["after"], body["checkout_sha"] = before, after, after
			project := within(body, "project")
			project["git_http_url"], project["path_with_namespace"] = git+"/rpms/hello.git", "rpms/hello"
		},
		sign:   func(h http.Header, secret, _ []byte) { h.Set("X-Gitlab-Token", string(secret)) },
		failed: "failed",
		states: func(sha string) map[string]string {
			states := map[string]string{}
			for _, s := range hub.Statuses("rpms/hello", sha) {
				states[s.Name] = s.State
			}
			return states
		},
	}
}

func onPagure(t *testing.T) onForge {
	hub := forgetest.NewPagure(t)
	return onForge{
		fixture:   "pagure/git-receive.json",
		configure: func(c *config.Config) { c.Forges.Pagure = []config.Host{{URL: hub.URL, TokenFile: hub.TokenFile}} },
		commits:   func(shas ...string) { hub.AddProject("rpms/hello", shas...) },
		push: func(body map[string]any, git, before, after string) {
			body["timestamp"], body["msg_id"] = time.Now().Unix(), uuid.NewString()
			msg := within(body, "msg")
			msg["branch"], msg["old_commit"], msg["start_commit"], msg["end_commit"] = "main", before, after, after
			msg["pagure_instance"] = git + "/"
			within(msg, "repo")["full_url"] = git + "/rpms/hello"
		},
		sign:   hexSigned("X-Pagure-Signature-256"),
		failed: "failure",
		states: func(sha string) map[string]string {
			states := map[string]string{}
			for _, f := range hub.Flags("rpms/hello", sha) {
				states[f.Username] = f.Status
			}
			return states
		},
	}
}

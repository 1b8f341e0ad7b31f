package main

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/forge/forgetest"
)

// pull is an outsider's pull request 7 on a stub of GitHub, with a check that it
// does not pass.
type pull struct {
	*site
	hub        *forgetest.GitHub
	git        string
	base, head string
}

func newPull(t *testing.T) *pull {
	p := &pull{hub: forgetest.NewGitHub(t)}
	p.site = newSite(t, func(c *config.Config) {
		c.Forges.GitHub = config.GitHub{TokenFile: p.hub.TokenFile, API: p.hub.URL, Hosts: []string{"127.0.0.1"}}
	})
	p.git = overHTTP(t, p.dir).URL
	p.cfg.Packages[0].Source = p.git + "/rpms/*.git"
	p.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets, "other/runtask.yml": formula("other", "true")})
	p.base = p.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
	p.head = p.commit("rpms/hello", "topic", map[string]string{"hello": "echo Goodbye"})
	// As on GitHub, the head of a fork's branch is on none of the branches here.
	p.site.git(p.bare("rpms/hello"), "update-ref", "refs/pull/7/head", p.head)
	p.site.git(p.bare("rpms/hello"), "update-ref", "-d", "refs/heads/topic")
	p.hub.AddRepo("rpms/hello", p.base, p.head)
	p.hub.AddAccount("rpms/hello", "keeper", "write")
	p.hub.AddAccount("rpms/hello", "newcomer", "read")
	p.moveTo(p.head)
	p.start()
	return p
}

// moveTo makes a commit the pull request's head, as the forge knows it.
func (p *pull) moveTo(head string) {
	p.hub.SetPull("rpms/hello", assay.PullRequest{Number: 7, Author: "newcomer", Open: true, Base: "refs/heads/main", BaseCommit: p.base, Head: head})
}

// say has somebody comment, and returns the event and the pictures below it when
// it was answered.
func (p *pull) say(who, text string) (event, picture string) {
	p.t.Helper()
	id := p.hub.AddComment(assay.Commit{Repo: "rpms/hello", PullRequest: 7}, 12, text)
	event = p.deliver("issue-comment-by-stranger", func(body map[string]any) {
		repository := within(body, "repository")
		repository["clone_url"], repository["full_name"] = p.git+"/rpms/hello.git", "rpms/hello"
		comment := within(body, "comment")
		comment["id"], comment["body"] = id, text
		within(comment, "user")["login"], within(body, "sender")["login"] = who, who
	})
	until(p.t, "the answer to "+strconv.Quote(text), func() bool { return len(p.hub.Reactions("rpms/hello", id)) > 0 })
	return event, p.hub.Reactions("rpms/hello", id)[0].Content
}

// now is the newest status of each context on the head.
func (p *pull) now() map[string]assay.Status {
	now := map[string]assay.Status{}
	for _, s := range p.hub.Statuses("rpms/hello", p.head) {
		now[s.Context] = s
	}
	return now
}

func TestCommandsOnGitHub(t *testing.T) {
	p := newPull(t)
	if list := p.executions(p.pullRequest(p.git, p.head, p.base, "NONE")); len(list) != 0 {
		t.Errorf("an outsider's pull request ran %d checks", len(list))
	}
	for _, tt := range [][3]string{
		{"newcomer", "/assay ok", "-1"},
		{"nobody", "/assay run", "-1"},
		{"keeper", "/assay obey", "confused"},
		{"newcomer", "/assay help", "+1"},
	} {
		if event, picture := p.say(tt[0], tt[1]); picture != tt[2] || len(p.executions(event)) != 0 {
			t.Errorf("%s said %s: %s", tt[0], tt[1], picture)
		}
	}
	event, picture := p.say("keeper", "Looks harmless.\r\n\r\n/assay ok")
	list := p.executions(event)
	if picture != "eyes" || len(list) != 2 || list[0].Type != assay.TypePullRequest || list[0].Target.SHA != p.head {
		t.Fatalf("approved: %s, %+v", picture, list)
	}
	p.settled()
	if now := p.now(); now["assay"].State != assay.StatusFailure || now["assay"].Description != "1 of 2 did not pass: greets" || now["assay/other"].State != assay.StatusSuccess {
		t.Errorf("after the approval: %+v", now)
	}
	event, picture = p.say("keeper", "/assay rerun failed")
	if list := p.executions(event); picture != "eyes" || len(list) != 1 || list[0].Check != "greets" || list[0].Priority != assay.PriorityPerson {
		t.Errorf("run again: %s, %+v", picture, list)
	}
	if _, picture = p.say("keeper", "/assay waive greets it is known, see #9"); picture != "+1" {
		t.Errorf("waived: %s", picture)
	}
	p.settled()
	if now := p.now(); now["assay"].State != assay.StatusSuccess || now["assay/greets"].Description != "waived by keeper: it is known, see #9" {
		t.Errorf("after the waiver: %+v", now)
	}
	var ours []string
	for _, c := range p.hub.Comments(assay.Commit{Repo: p.git + "/rpms/hello.git", PullRequest: 7}) {
		if strings.Contains(c.Body, "Assay: ") {
			ours = append(ours, c.Body)
		}
	}
	if len(ours) != 1 || !strings.Contains(ours[0], "waived | by `keeper`: it is known") {
		t.Errorf("our comments: %q", ours)
	}
}

// TestApprovalIsOfWhatWasSeen has the author push just before the approval.
func TestApprovalIsOfWhatWasSeen(t *testing.T) {
	p := newPull(t)
	p.executions(p.pullRequest(p.git, p.head, p.base, "NONE"))
	evil := p.commit("rpms/hello", "evil", map[string]string{"hello": "echo evil"})
	p.hub.AddRepo("rpms/hello", evil)
	p.moveTo(evil)
	event, picture := p.say("keeper", "/assay ok")
	if picture != "confused" || len(p.executions(event)) != 0 {
		t.Errorf("what nobody has seen was approved: %s", picture)
	}
	if record, err := p.srv.store.Event(t.Context(), event); err != nil || !strings.Contains(record.Note, "look at them and say it again") {
		t.Errorf("the note is %q, %v", record.Note, err)
	}
	p.executions(p.pullRequest(p.git, evil, p.base, "NONE"))
	if event, picture = p.say("keeper", "/assay ok"); picture != "eyes" || len(p.executions(event)) != 2 {
		t.Errorf("approved now: %s", picture)
	}
}

func TestCancelCommand(t *testing.T) {
	p := newPull(t)
	p.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": formula("greets", "touch "+p.dir+"/begun; sleep 1000")})
	event := p.pullRequest(p.git, p.head, p.base, "MEMBER")
	until(t, "the step", func() bool { return slices.Contains(p.site.files(), "begun") })
	if _, picture := p.say("keeper", "/assay cancel"); picture != "+1" {
		t.Errorf("cancelled: %s", picture)
	}
	for _, x := range p.executions(event) {
		if x.Check == "greets" && (x.Verdict != assay.VerdictCancelled || x.Reason != "keeper cancelled it") {
			t.Errorf("it ended as %+v", x)
		}
	}
	p.settled()
	if now := p.now(); now["assay/greets"].Description != "cancelled: keeper cancelled it" {
		t.Errorf("the statuses: %+v", now)
	}
}

func TestRerunOnGitHub(t *testing.T) {
	p := newPull(t)
	p.executions(p.pullRequest(p.git, p.head, p.base, "MEMBER"))
	again := func(who, name string) []assay.Execution {
		return p.executions(p.deliver("check-run-rerequested", func(body map[string]any) {
			repository := within(body, "repository")
			repository["clone_url"], repository["full_name"] = p.git+"/rpms/hello.git", "rpms/hello"
			run := within(body, "check_run")
			run["head_sha"], run["external_id"], run["name"] = p.head, name, name
			within(body, "sender")["login"] = who
		}))
	}
	if list := again("newcomer", "assay/greets"); len(list) != 0 {
		t.Errorf("who may not write had %d run again", len(list))
	}
	if list := again("keeper", "assay/greets"); len(list) != 1 || list[0].Check != "greets" || list[0].Target.SHA != p.head {
		t.Errorf("one: %+v", list)
	}
	if list := again("keeper", "assay"); len(list) != 2 {
		t.Errorf("all: %+v", list)
	}
}

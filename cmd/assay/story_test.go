package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/forge/forgetest"
	"github.com/assay-ci/assay/hooks"
	"github.com/assay-ci/assay/webhook"
)

// greets passes for the good hello and fails for the bad one.
var greets = formula("greets", `sh ${sources}/hello | grep 'Hello, world'`)

func TestTwoBuilds(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets})
	good := s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
	bad := s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, wold!'"})
	s.start()
	first, second := s.build("1.0", good), s.build("1.1", bad)
	if x := s.one(first.Event); x.Verdict != assay.VerdictPassed || x.Item != "hello-1.0-1.fc42" || x.Type != "koji_build" {
		t.Errorf("the good build: %+v", x)
	}
	failed := s.one(second.Event)
	if failed.Verdict != assay.VerdictFailed || !strings.Contains(failed.Reason, `step 1 "look" failed`) {
		t.Errorf("the bad build: %s: %s", failed.Verdict, failed.Reason)
	}
	s.settled()
	s.finalOnce("rpms/hello", good, "success")
	s.finalOnce("rpms/hello", bad, "failure")
	if note := s.note("rpms/hello", good); strings.Contains(note, "comment") {
		t.Errorf("the good commit has a comment:\n%s", note)
	}
	if note := s.note("rpms/hello", bad); !strings.Contains(note, `step 1 "look" failed`) || !strings.Contains(note, "1 of 1 checks did not pass") {
		t.Errorf("the bad commit's note:\n%s", note)
	}
	for _, page := range []string{"/", "/packages/rpms/hello", "/executions/" + failed.ID, "/executions/" + failed.ID + "/log", "/events/" + second.Event} {
		if status, body := s.get(page); status != http.StatusOK || !strings.Contains(body, "greets") {
			t.Errorf("%s: %d", page, status)
		}
	}
}

func TestStatusesOnGitHub(t *testing.T) {
	hub := forgetest.NewGitHub(t)
	s := newSite(t, func(c *config.Config) {
		c.Forges.GitHub = config.GitHub{TokenFile: hub.TokenFile, API: hub.URL, Hosts: []string{"127.0.0.1"}}
	})
	git := overHTTP(t, s.dir)
	s.cfg.Packages[0].Source = git.URL + "/rpms/*.git"
	s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets})
	bad := s.commit("rpms/hello", "main", map[string]string{"hello": "echo Goodbye"})
	hub.AddRepo("rpms/hello", bad)
	hub.Misbehave(forgetest.ServerError(502).Meant("POST /repos/rpms/hello/statuses/"+bad), forgetest.LostAnswer().Meant("POST /repos/rpms/hello/statuses/"+bad))
	s.start()
	s.one(s.build("1.0", bad).Event)
	s.settled()
	states := map[string][]string{}
	for _, status := range hub.Statuses("rpms/hello", bad) {
		states[status.Context] = append(states[status.Context], string(status.State))
	}
	for _, context := range []string{"assay", "assay/greets"} {
		if got := states[context]; len(got) == 0 || got[len(got)-1] != "failure" || strings.Count(strings.Join(got, ","), "failure") != 1 {
			t.Errorf("%s went through %v, want one failure, as the last", context, got)
		}
	}
	comments := hub.Comments(assay.Commit{Repo: git.URL + "/rpms/hello.git", SHA: bad})
	if len(comments) != 1 || !strings.Contains(comments[0].Body, "greets") {
		t.Errorf("the comments: %+v", comments)
	}
}

// deliver sends GitHub's event as its documentation shows it, changed.
func (s *site) deliver(fixture string, change func(body map[string]any)) string {
	s.t.Helper()
	recorded, err := os.ReadFile("../../fixtures/webhooks/github/" + fixture + ".json")
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
	change(delivery.Body)
	body, err := json.Marshal(delivery.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.srv.url+"/hooks/github", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range delivery.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("X-GitHub-Delivery", uuid.NewString())
	req.Header.Set("X-Hub-Signature-256", webhook.Sign(s.secret, body))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var receipt struct{ Event string }
	if err := json.NewDecoder(resp.Body).Decode(&receipt); err != nil || resp.StatusCode != http.StatusAccepted {
		s.t.Fatalf("the delivery was answered with %s, %v", resp.Status, err)
	}
	return receipt.Event
}

// within is an object in an object.
func within(body map[string]any, names ...string) map[string]any {
	for _, name := range names {
		body = body[name].(map[string]any)
	}
	return body
}

// pullRequest delivers GitHub's event of pull request 7 from a fork, by somebody
// with the given association.
func (s *site) pullRequest(git, head, base, association string) string {
	s.t.Helper()
	return s.deliver("pull-request-opened-from-fork", func(body map[string]any) {
		repository := within(body, "repository")
		repository["clone_url"], repository["full_name"] = git+"/rpms/hello.git", "rpms/hello"
		pull := within(body, "pull_request")
		pull["author_association"] = association
		within(pull, "head")["sha"] = head
		within(pull, "base")["sha"], within(pull, "base")["ref"] = base, "main"
		within(pull, "base")["repo"] = repository
	})
}

func TestPullRequestOnGitHub(t *testing.T) {
	hub := forgetest.NewGitHub(t)
	s := newSite(t, func(c *config.Config) {
		c.Forges.GitHub = config.GitHub{TokenFile: hub.TokenFile, API: hub.URL, Hosts: []string{"127.0.0.1"}}
	})
	git := overHTTP(t, s.dir)
	s.cfg.Packages[0].Source = git.URL + "/rpms/*.git"
	s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets})
	base := s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
	head := s.commit("rpms/hello", "topic", map[string]string{"hello": "echo Goodbye"})
	// As on GitHub, the head of a fork's branch is on none of the branches here.
	s.git(s.bare("rpms/hello"), "update-ref", "refs/pull/7/head", head)
	s.git(s.bare("rpms/hello"), "update-ref", "-d", "refs/heads/topic")
	hub.AddRepo("rpms/hello", base, head)
	hub.AddPull("rpms/hello", 7)
	s.start()

	outside := s.pullRequest(git.URL, base, base, "NONE")
	if list := s.executions(outside); len(list) != 0 {
		t.Errorf("an outsider's pull request ran %d checks", len(list))
	}
	x := s.one(s.pullRequest(git.URL, head, base, "MEMBER"))
	if x.Type != assay.TypePullRequest || x.Verdict != assay.VerdictFailed || x.SourceCommit != head {
		t.Errorf("the pull request: %+v", x)
	}
	s.settled()
	if statuses := hub.Statuses("rpms/hello", head); len(statuses) == 0 {
		t.Error("no status on its head")
	}
	comments := hub.Comments(assay.Commit{Repo: git.URL + "/rpms/hello.git", SHA: head, PullRequest: 7})
	if len(comments) != 1 || !strings.Contains(comments[0].Body, "1 of 1 checks did not pass") {
		t.Errorf("its comments: %+v", comments)
	}
}

func TestBranchOfTheRelease(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("on-main", "true")})
	s.commit("checks/hello", "f42", map[string]string{"c/runtask.yml": formula("on-f42", "true")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	if x := s.one(s.build("1.0", commit).Event); x.Check != "on-f42" || x.ChecksBranch != "f42" {
		t.Errorf("a build for fc42 ran %s of branch %s", x.Check, x.ChecksBranch)
	}
	r := s.post("build", "d2", buildEvent{Package: "rpms/hello", Version: "1", Release: "1.fc41", Commit: commit, BuildID: "b"})
	if x := s.one(r.Event); x.Check != "on-main" || x.ChecksBranch != "main" {
		t.Errorf("a build for fc41 ran %s of branch %s", x.Check, x.ChecksBranch)
	}
}

func TestSameDeliveryAndSameMeaning(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "true")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	event := buildEvent{Package: "rpms/hello", Version: "1", Release: "1", Commit: commit, BuildID: "b"}
	first := s.post("build", "d1", event)
	again := s.post("build", "d1", event)
	renamed := s.post("build", "d2", event)
	if !first.Fresh || again.Fresh || renamed.Fresh || again.Event != first.Event || renamed.Event != first.Event {
		t.Errorf("receipts: %+v %+v %+v", first, again, renamed)
	}
	s.one(first.Event)
	all, err := s.srv.store.Executions(t.Context(), assay.ExecutionFilter{})
	if err != nil || len(all) != 1 {
		t.Errorf("%d executions: %v", len(all), err)
	}
}

func TestBrokenFormulaIsAnErrorOnTheCommit(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{
		"bad/runtask.yml":  "name: bad\nactions: 3\n",
		"good/runtask.yml": formula("good", "true"),
	})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	verdicts := map[assay.Verdict]string{}
	for _, x := range s.executions(s.build("1.0", commit).Event) {
		verdicts[x.Verdict] = x.Reason
	}
	if len(verdicts) != 2 || !strings.Contains(verdicts[assay.VerdictErrored], "bad/runtask.yml:") {
		t.Errorf("verdicts: %v", verdicts)
	}
	s.settled()
	if note := s.note("rpms/hello", commit); !strings.Contains(note, ": error - errored: bad/runtask.yml:") || !strings.Contains(note, "assay/good: success") {
		t.Errorf("the note:\n%s", note)
	}
}

func TestMachineTroubleIsTriedThreeTimes(t *testing.T) {
	s := newSite(t, nil)
	check := strings.Replace(formula("c", "true"), "actions:", "environment: {image: unbootable}\nactions:", 1)
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": check})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	x := s.one(s.build("1.0", commit).Event)
	if x.Verdict != assay.VerdictErrored || !strings.Contains(x.Reason, "(tried 3 times)") {
		t.Errorf("%s: %s", x.Verdict, x.Reason)
	}
	s.settled()
	s.finalOnce("rpms/hello", commit, "error")
	if _, body := s.get("/executions/" + x.ID); !strings.Contains(body, "Kernel panic") {
		t.Error("the page does not show the console")
	}
}

func TestTroubleOfTheHostIsAnError(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "true")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	if status, _ := s.get("/healthz"); status != http.StatusOK { // it serves, so the directory is made
		t.Fatalf("the server answers with %d", status)
	}
	scratch := s.cfg.Data + "/scratch"
	if err := os.RemoveAll(scratch); err != nil {
		t.Fatal(err)
	}
	s.write(scratch, "no directory any more")
	x := s.one(s.build("1.0", commit).Event)
	if x.Verdict != assay.VerdictErrored || !strings.Contains(x.Reason, "cannot make the execution's directory") || !strings.Contains(x.Reason, "(tried 3 times)") {
		t.Errorf("%s: %s", x.Verdict, x.Reason)
	}
	s.settled()
	s.finalOnce("rpms/hello", commit, "error")
}

func TestPowerOffIsACrash(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "poweroff")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	x := s.one(s.build("1.0", commit).Event)
	if x.Verdict != assay.VerdictCrashed || x.Attempt != 1 {
		t.Errorf("%s after %d attempts: %s", x.Verdict, x.Attempt, x.Reason)
	}
	s.settled()
	s.finalOnce("rpms/hello", commit, "failure")
}

// finalOnce demands that a commit's status ended with want, after pending at
// the most: pending is not sent any more when the end came first.
func (s *site) finalOnce(name, commit, want string) {
	s.t.Helper()
	got := s.states(name, commit)
	if len(got) == 0 || got[len(got)-1] != want || len(got) > 2 || len(got) == 2 && got[0] != "pending" {
		s.t.Errorf("%s %.10s went through the states %v, want pending, %s", name, commit, got, want)
	}
}

// push is what the git hook sends.
func (s *site) push(name, before, after string) webhook.Receipt {
	s.t.Helper()
	id := uuid.NewString()
	if before == "" {
		before = strings.Repeat("0", 40)
	}
	return s.post("git", id, map[string]any{
		"version": 1, "delivery": id, "repository": s.bare(name), "ref": "refs/heads/main",
		"before": before, "after": after, "time": "2026-11-21T17:15:10Z",
	})
}

func TestTrialOfAChangedCheck(t *testing.T) {
	s := newSite(t, nil)
	s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
	first := s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets, "other/runtask.yml": formula("other", "true")})
	s.start()
	receipt := s.push("checks/hello", "", first)
	list := s.executions(receipt.Event)
	if len(list) != 2 || list[0].Type != assay.TypeDistGitCommit || list[0].Verdict != assay.VerdictPassed {
		t.Fatalf("the first push: %+v", list)
	}
	if list[0].Target.SHA != first || list[0].Target.Repo != s.bare("checks/hello") {
		t.Errorf("its status lands on %+v", list[0].Target)
	}
	second := s.commit("checks/hello", "main", map[string]string{"greets/data.txt": "new"})
	if x := s.one(s.push("checks/hello", first, second).Event); x.Check != "greets" {
		t.Errorf("a change of greets ran %s", x.Check)
	}
	third := s.commit("checks/hello", "main", map[string]string{"README": "words"})
	idle := s.push("checks/hello", second, third).Event
	if list := s.executions(idle); len(list) != 0 {
		t.Errorf("a change of no check ran %d", len(list))
	}
	if _, body := s.get("/events/" + idle); !strings.Contains(body, "none of the 2 checks changed") {
		t.Error("the event's page does not say why nothing ran")
	}
}

func TestTrialUsesTheLatestBuild(t *testing.T) {
	s := newSite(t, nil)
	check := strings.Replace(greets, "actions:", "input: {args: [koji_build]}\nactions:", 1)
	head := s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": check})
	built := s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
	s.commit("rpms/hello", "main", map[string]string{"hello": "echo broken since"})
	s.start()
	if x := s.one(s.push("checks/hello", "", head).Event); x.Verdict != assay.VerdictSkipped || !strings.Contains(x.Reason, "no build of rpms/hello is known yet") {
		t.Errorf("without a build: %s: %s", x.Verdict, x.Reason)
	}
	s.one(s.build("1.0", built).Event)
	next := s.commit("checks/hello", "main", map[string]string{"greets/x": "y"})
	x := s.one(s.push("checks/hello", head, next).Event)
	if x.Item != "hello-1.0-1.fc42" || x.Verdict != assay.VerdictPassed || x.Target.SHA != next {
		t.Errorf("with a build: %+v", x)
	}
}

func TestEventsThatMeanNothingSayWhy(t *testing.T) {
	s := newSite(t, nil)
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.commit("checks/hello", "main", map[string]string{"README": "no checks yet"})
	s.start()
	tests := map[string]webhook.Receipt{
		"no check repository is known for debs/other": s.post("build", "1", buildEvent{Package: "debs/other", Version: "1", Release: "1", Commit: commit, BuildID: "1"}),
		"none of the 0 checks of rpms/hello":          s.build("1.0", commit),
		"no package has the repository":               s.push("other/repo", "", commit),
	}
	for why, receipt := range tests {
		if n := len(s.executions(receipt.Event)); n != 0 {
			t.Errorf("%s: %d executions", why, n)
		}
		record, err := s.srv.store.Event(t.Context(), receipt.Event)
		if err != nil || !strings.Contains(record.Note, why) {
			t.Errorf("the note %q lacks %q (%v)", record.Note, why, err)
		}
	}
}

func TestSpooledPushIsTakenAtStart(t *testing.T) {
	s := newSite(t, nil)
	s.commit("rpms/hello", "main", map[string]string{"hello": "echo 'Hello, world!'"})
	commit := s.commit("checks/hello", "main", map[string]string{"greets/runtask.yml": greets})
	err := hooks.Install(hooks.Options{GitDir: s.bare("checks/hello"), Exe: mustExecutable(t), Server: "http://127.0.0.1:1", SecretFile: s.cfg.Webhook.SecretFiles[0]})
	if err != nil {
		t.Fatal(err)
	}
	spool, err := hooks.NewSpool(s.bare("checks/hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	err = spool.Add(hooks.Event{Version: 1, Delivery: id, Repository: s.bare("checks/hello"), Ref: "refs/heads/main", Before: strings.Repeat("0", 40), After: commit})
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	until(t, "the spooled event", func() bool {
		_, err := s.srv.store.Event(t.Context(), id)
		return err == nil
	})
	if x := s.one(id); x.Verdict != assay.VerdictPassed {
		t.Errorf("%s: %s", x.Verdict, x.Reason)
	}
}

func mustExecutable(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func TestStopAndStartInTheMiddle(t *testing.T) {
	s := newSite(t, nil)
	gate := s.dir + "/gate"
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "touch "+gate+".begun; while [ ! -e "+gate+" ]; do sleep 0.05; done")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	event := s.build("1.0", commit).Event
	until(t, "the step", func() bool { _, err := os.Stat(gate + ".begun"); return err == nil })
	until(t, "the first status", func() bool { return strings.Contains(s.note("rpms/hello", commit), "pending") })
	s.shutdown()
	s.write(gate, "")
	s.start()
	x := s.one(event)
	if x.Verdict != assay.VerdictPassed || x.Attempt != 2 {
		t.Errorf("%s in attempt %d: %s", x.Verdict, x.Attempt, x.Reason)
	}
	s.settled()
	s.finalOnce("rpms/hello", commit, "success")
}

func TestANewerCommitSupersedes(t *testing.T) {
	s := newSite(t, nil)
	gate := s.dir + "/gate"
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "touch "+gate+".$(cat ${sources}/hello); while [ $(cat ${sources}/hello) = slow ] && [ ! -e "+gate+" ]; do sleep 0.05; done")})
	old := s.commit("rpms/hello", "main", map[string]string{"hello": "slow"})
	s.start()
	slow := s.push("rpms/hello", "", old).Event
	until(t, "the step", func() bool { _, err := os.Stat(gate + ".slow"); return err == nil })
	head := s.commit("rpms/hello", "main", map[string]string{"hello": "quick"})
	if x := s.one(s.push("rpms/hello", old, head).Event); x.Verdict != assay.VerdictPassed || x.Target.SHA != head {
		t.Errorf("the newer commit: %+v", x)
	}
	x := s.one(slow)
	if x.Verdict != assay.VerdictCancelled || x.Reason != "commit "+head[:12]+" is newer" || x.Attempt != 1 {
		t.Errorf("the older commit: %+v", x)
	}
	s.settled()
	if note := s.note("rpms/hello", old); !strings.Contains(note, "assay/c: error - cancelled: commit "+head[:12]+" is newer") || !strings.Contains(note, "assay: error - 1 of 1 did not pass: c") {
		t.Errorf("the older commit's note:\n%s", note)
	}
	if note := s.note("rpms/hello", head); !strings.Contains(note, "assay: success - the check passed") {
		t.Errorf("the newer commit's note:\n%s", note)
	}
}

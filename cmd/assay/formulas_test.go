package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/config"
)

// with is a check of one shell step that says more than its actions.
func with(name, command, more string) string { return formula(name, command) + more + "\n" }

// byLabel are executions by what people call them.
func byLabel(list []assay.Execution) map[string]assay.Execution {
	all := map[string]assay.Execution{}
	for _, x := range list {
		all[x.Label()] = x
	}
	return all
}

// verdicts is what a list of executions came to.
func verdicts(list []assay.Execution) string {
	var words []string
	for _, x := range list {
		words = append(words, x.Label()+" "+string(x.Verdict))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

const uploadToken = "correct-horse/battery+staple"

// wantVerdicts ends the test, with the logs, when executions came to anything else.
func (s *site) wantVerdicts(list []assay.Execution, want string) {
	s.t.Helper()
	got := verdicts(list)
	if got == want {
		return
	}
	for _, x := range list {
		_, log := s.get("/executions/" + x.ID + "/log.txt")
		s.t.Logf("%s: %s: %s\n%s", x.Label(), x.Verdict, x.Reason, log)
	}
	s.t.Fatalf("the executions: %s\nwant %s", got, want)
}

func withSecret(t *testing.T) func(*config.Config) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(uploadToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *config.Config) {
		c.CheckSecrets = []config.Secret{{Name: "UPLOAD_TOKEN", File: file, Packages: []string{"rpms/he*"}}}
	}
}

// TestMatrixNeedsAndSecrets has a build in two flavours, a check of each of them,
// one of both, and one that is given a secret.
func TestMatrixNeedsAndSecrets(t *testing.T) {
	s := newSite(t, withSecret(t))
	flavours := "matrix: {flavour: [mild, hot]}"
	s.commit("checks/hello", "main", map[string]string{
		"build/runtask.yml": with("build", "echo made ${flavour} > ${artifactsdir}/out; mkdir ${artifactsdir}/d; echo deep > ${artifactsdir}/d/e", flavours),
		"use/runtask.yml":   with("use", `grep "made ${flavour}" ${needs}/build/out && grep deep ${needs}/build/d/e`, flavours+"\nneeds: build"),
		"both/runtask.yml":  with("both", `cat ${needs}/build/flavour=mild/out ${needs}/build/flavour=hot/out ${needs}/use/*/said || test -d ${needs}/use/flavour=hot`, "needs: [build, use]"),
		"send/runtask.yml":  with("send", `test "$UPLOAD_TOKEN" = correct-"horse/batt"ery+staple && echo "with $UPLOAD_TOKEN" && echo "$UPLOAD_TOKEN" | base64 && test ! -e "$UPLOAD_TOKEN"`, "secrets: [UPLOAD_TOKEN]"),
		"other/runtask.yml": with("other", "false", "on: {events: push}"),
	})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	event := s.build("1.0", commit).Event
	list := s.executions(event)
	s.wantVerdicts(list, "both passed, build/flavour=hot passed, build/flavour=mild passed, send passed, use/flavour=hot passed, use/flavour=mild passed")
	s.settled()
	all := byLabel(list)
	if all["use/flavour=hot"].Started.Before(all["build/flavour=hot"].Finished) || all["both"].Started.Before(all["use/flavour=mild"].Finished) {
		t.Error("something ran before what it needs had ended")
	}
	if record, err := s.srv.store.Event(t.Context(), event); err != nil || !strings.Contains(record.Note, "other: on.events has no") {
		t.Errorf("the event's note is %q, %v", record.Note, err)
	}
	note := s.note("rpms/hello", commit)
	for _, context := range []string{"assay/build/flavour=mild: success", "assay/use/flavour=hot: success", "assay/both: success", "assay: success"} {
		if !strings.Contains(note, context) {
			t.Errorf("the note lacks %q:\n%s", context, note)
		}
	}
	use := all["use/flavour=hot"]
	_, page := s.get("/executions/" + use.ID)
	_, document := s.get("/executions/" + use.ID + ".json")
	for text, in := range map[string]string{"flavour=hot": page, "/executions/" + all["build/flavour=hot"].ID: page, `"variant": "flavour=hot"`: document, `"label": "build/flavour=hot"`: document} {
		if !strings.Contains(in, text) {
			t.Errorf("%q is not shown in\n%s", text, in)
		}
	}
	if _, log := s.get("/executions/" + all["send"].ID + "/log.txt"); !strings.Contains(log, "out with ***") {
		t.Errorf("the log:\n%s", log)
	}
	s.shutdown()
	for _, label := range []string{"both", "use/flavour=hot"} {
		code, _, said := runFrom(t, "", all[label].ID, "--data", s.cfg.Data, "--yes")
		if code != exitOK {
			t.Errorf("the replay of %s ended with %d", label, code)
		}
		wants(t, said, "fetching what other checks left", "same     verdict: passed\n")
	}
	holds(t, s.cfg.Data, uploadToken)
	holds(t, s.cfg.Data, "Y29ycmVjdC1ob3JzZS9iYXR0ZXJ5K3N0YXBsZ")
}

// holds fails the test where a file below a directory has a text in it.
func holds(t *testing.T, dir, text string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(name)
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("%s has the secret in it", name)
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("looked through %d files, %v", files, err)
	}
}

// TestSecretsAreNotForEverybody tries all who get none.
func TestSecretsAreNotForEverybody(t *testing.T) {
	s := newSite(t, withSecret(t))
	s.repository("checks/mine")
	s.repository("rpms/mine")
	ask := with("send", "true", "secrets: [UPLOAD_TOKEN]")
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": with("send", "true", "secrets: [OTHER_TOKEN]")})
	s.commit("checks/mine", "main", map[string]string{"c/runtask.yml": ask})
	s.start()
	for name, want := range map[string]string{
		"rpms/hello": "cannot give send the secret OTHER_TOKEN", "rpms/mine": "the operator has to add it for rpms/mine under secrets",
	} {
		commit := s.commit(name, "main", map[string]string{"hello": "x"})
		x := s.one(s.post("build", strings.ReplaceAll(name, "/", "."), buildEvent{Package: name, Version: "1", Release: "1", Commit: commit, BuildID: strings.ReplaceAll(name, "/", ".")}).Event)
		if x.Verdict != assay.VerdictErrored || x.Attempt != 1 || !strings.Contains(x.Reason, want) || strings.Contains(x.Reason, "tried") {
			t.Errorf("%s: %s in attempt %d: %s", name, x.Verdict, x.Attempt, x.Reason)
		}
	}
}

// TestOutsidersGetNoSecrets has an outsider's pull request approved.
func TestOutsidersGetNoSecrets(t *testing.T) {
	p := newPull(t)
	p.get("/healthz") // it serves
	p.shutdown()
	withSecret(t)(&p.cfg)
	p.commit("checks/hello", "main", map[string]string{
		"greets/runtask.yml": with("greets", `test -n "$UPLOAD_TOKEN"`, "secrets: [UPLOAD_TOKEN]"),
		"other/runtask.yml":  formula("other", `test -z "$UPLOAD_TOKEN"`),
	})
	p.start()
	p.executions(p.pullRequest(p.git, p.head, p.base, "NONE"))
	for _, command := range []string{"/assay ok", "/assay rerun", "/assay rerun greets"} {
		event, _ := p.say("keeper", command)
		x := byLabel(p.executions(event))["greets"]
		if x.Verdict != assay.VerdictErrored || x.Attempt != 1 || !strings.Contains(x.Reason, "an outsider's pull request, which gets none") {
			t.Errorf("%s: %s: %s", command, x.Verdict, x.Reason)
		}
	}
}

// TestSkippedForWhatItNeeds has a check fail that others need, and run again.
func TestSkippedForWhatItNeeds(t *testing.T) {
	p := newPull(t)
	mended := p.dir + "/mended"
	p.commit("checks/hello", "main", map[string]string{
		"greets/runtask.yml": with("build", "echo made > ${artifactsdir}/out; test -e "+mended, "required: false"),
		"other/runtask.yml":  with("use", "grep made ${needs}/build/out", "needs: [build]"),
		"last/runtask.yml":   with("last", "test -d ${needs}/use", "needs: use"),
		"free/runtask.yml":   formula("free", "true"),
	})
	list := p.executions(p.pullRequest(p.git, p.head, p.base, "MEMBER"))
	if got := verdicts(list); got != "build failed, free passed, last skipped, use skipped" {
		t.Fatalf("at first: %s", got)
	}
	all := byLabel(list)
	if got := all["use"].Reason; got != "needs build, which failed (it is not required, but this check is)" {
		t.Errorf("use was skipped: %s", got)
	}
	if got := all["last"].Reason; got != "needs use, which was skipped" || all["last"].Attempt != 0 {
		t.Errorf("last was skipped: %s", got)
	}
	p.settled()
	if now := p.now(); now["assay"].State != assay.StatusError || now["assay"].Description != "2 of 4 did not pass: last, use" || now["assay/use"].State != assay.StatusError {
		t.Errorf("the statuses: %+v", now)
	}
	p.write(mended, "")
	event, _ := p.say("keeper", "/assay rerun failed")
	if got := verdicts(p.executions(event)); got != "build passed, last passed, use passed" {
		t.Errorf("run again: %s", got)
	}
	p.settled()
	if now := p.now(); now["assay"].State != assay.StatusSuccess || now["assay/use"].State != assay.StatusSuccess {
		t.Errorf("the statuses then: %+v", now)
	}
	event, _ = p.say("keeper", "/assay rerun assay/last")
	if got := p.executions(event); verdicts(got) != "last passed" {
		t.Errorf("the last again: %s: %s", verdicts(got), got[0].Reason)
	}
	event, _ = p.say("keeper", "/assay run use")
	if got := verdicts(p.executions(event)); got != "build passed, use passed" {
		t.Errorf("run by name: %s", got)
	}
}

// TestSupersededWhileItWaits has a newer commit come while one check runs and
// another one waits for it.
func TestSupersededWhileItWaits(t *testing.T) {
	s := newSite(t, nil)
	gate := s.dir + "/gate"
	s.commit("checks/hello", "main", map[string]string{
		"slow/runtask.yml": formula("slow", "touch "+gate+".$(cat ${sources}/hello); while [ $(cat ${sources}/hello) = old ] && [ ! -e "+gate+" ]; do sleep 0.05; done"),
		"then/runtask.yml": with("then", "true", "needs: [slow]"),
	})
	old := s.commit("rpms/hello", "main", map[string]string{"hello": "old"})
	s.start()
	first := s.push("rpms/hello", "", old).Event
	until(t, "the step", func() bool { _, err := os.Stat(gate + ".old"); return err == nil })
	list, err := s.srv.store.Executions(t.Context(), assay.ExecutionFilter{EventID: first})
	if err != nil {
		t.Fatal(err)
	}
	if x := byLabel(list)["then"]; !x.Waits() {
		t.Errorf("it does not wait: %+v", x)
	} else if _, page := s.get("/executions/" + x.ID); !strings.Contains(page, "Waiting for slow") {
		t.Errorf("its page does not say for what it waits:\n%s", page)
	}
	head := s.commit("rpms/hello", "main", map[string]string{"hello": "new"})
	if got := verdicts(s.executions(s.push("rpms/hello", old, head).Event)); got != "slow passed, then passed" {
		t.Errorf("the newer commit: %s", got)
	}
	if got := verdicts(s.executions(first)); got != "slow cancelled, then cancelled" {
		t.Errorf("the older commit: %s", got)
	}
}

// TestRetriesAreTheFormulas has machines that never come up.
func TestRetriesAreTheFormulas(t *testing.T) {
	s := newSite(t, nil)
	s.commit("checks/hello", "main", map[string]string{
		"none/runtask.yml":   with("none", "true", "environment: {image: unbootable}\nretries: 0"),
		"five/runtask.yml":   with("five", "true", "environment: {image: unbootable}\nretries: 5"),
		"failed/runtask.yml": with("failed", "false", "retries: 5"),
	})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	s.start()
	all := byLabel(s.executions(s.build("1.0", commit).Event))
	for name, want := range map[string]int{"none": 1, "five": 6, "failed": 1} {
		if x := all[name]; x.Attempt != want || (x.Verdict == assay.VerdictFailed) != (name == "failed") {
			t.Errorf("%s: %s after %d attempts, want %d: %s", name, x.Verdict, x.Attempt, want, x.Reason)
		}
	}
}

// TestVariantThatIsGone is what an execution of another program's version comes to.
func TestVariantThatIsGone(t *testing.T) {
	f := parsed(t, "matrix: {python: ['3.12', '3.13']}")
	for _, x := range []assay.Execution{{}, {Variant: "python=3.11"}} {
		if _, ok := variantOf(f, x); ok {
			t.Errorf("there is a variant %q", x.Variant)
		}
	}
	if v, ok := variantOf(f, assay.Execution{Variant: "python=3.13", Arch: "noarch"}); !ok || v.Vars["python"] != "3.13" {
		t.Errorf("found %+v, %v", v, ok)
	}
	if _, ok := variantOf(parsed(t, ""), assay.Execution{Arch: "x86_64"}); !ok {
		t.Error("a formula without a matrix does not run")
	}
}

// TestKilledWhileChecksWait kills the server again and again while checks that need
// each other are on their way: none of them waits for ever, and none runs early.
func TestKilledWhileChecksWait(t *testing.T) {
	s := newSite(t, nil)
	files := map[string]string{"c0/runtask.yml": formula("c0", "echo 0 > ${artifactsdir}/n")}
	for _, pair := range []string{"01", "12", "23", "34", "45"} {
		name, before := "c"+pair[1:], "c"+pair[:1]
		files[name+"/runtask.yml"] = with(name, "grep "+pair[:1]+" ${needs}/"+before+"/n && echo "+pair[1:]+" > ${artifactsdir}/n", "needs: ["+before+"]")
	}
	files["bad/runtask.yml"] = formula("bad", "false")
	files["skipped/runtask.yml"] = with("skipped", "true", "needs: [bad, c2]")
	s.commit("checks/hello", "main", files)
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	config := s.config("machines: {kind: local, count: 2}\n")
	p := s.startProgram(config)
	p.build("1.0", commit)
	done := func() bool {
		note := s.note("rpms/hello", commit)
		return strings.Contains(note, "assay: failure") && !strings.Contains(note, "pending")
	}
	for kills := range 12 {
		if done() {
			break
		}
		<-time.After(time.Duration(40*kills+30) * time.Millisecond) // the killer's own time
		p.end(syscall.SIGKILL)
		p = s.startProgram(config)
	}
	until(t, "the end of all", done)
	note := s.note("rpms/hello", commit)
	for _, want := range []string{"assay/c0: success", "assay/c3: success", "assay/c5: success", "assay/bad: failure", "assay/skipped: error - skipped: needs bad, which failed", "2 of 8 did not pass: bad, skipped"} {
		if !strings.Contains(note, want) {
			t.Errorf("the note lacks %q:\n%s", want, note)
		}
	}
}

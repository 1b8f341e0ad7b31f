package web

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/assay-ci/assay"
)

// fillWorld puts a believable afternoon into a world.
func fillWorld(w *world) {
	w.steps, w.results = map[string][]assay.StepRun{}, map[string][]assay.Result{}
	w.artifacts, w.events = map[string][]assay.Artifact{}, map[string]assay.EventRecord{}
	fillExecutions(w)
	fillFailed(w)
	fillPassed(w)
	fillRunning(w)
	fillCrashed(w)
	fillEvents(w)
	w.steps[idErrored] = []assay.StepRun{
		step(1, 0, "boot", 3000, 3061, "errored"), step(2, 0, "boot", 3070, 3131, "errored"), step(3, 0, "boot", 3140, 3201, "errored"),
	}
	w.write(idErrored, "log-3", "2026-11-21T16:27:40.000Z 0 run boot a debian-12 machine\n"+
		"2026-11-21T16:26:39.000Z 0 run cannot boot a machine (waited 1m0s): no hello from the agent\n")
}

func ago(seconds float64) time.Time {
	return noon.Add(-time.Duration(seconds * float64(time.Second)))
}

// step began and ended so many seconds after an hour before noon.
func step(attempt, number int, name string, from, to float64, outcome string) assay.StepRun {
	hour := noon.Add(-time.Hour)
	at := func(s float64) time.Time { return hour.Add(time.Duration(s * float64(time.Second))) }
	st := assay.StepRun{Attempt: attempt, Number: number, Name: name, Started: at(from), Outcome: outcome}
	if outcome != "" {
		st.Finished = at(to)
	}
	return st
}

func hello(id, version, commit string) assay.Execution {
	return assay.Execution{
		ID: id, EventID: eventBuild, Package: "rpms/hello", Check: "pkg.greets", Arch: "x86_64",
		ChecksRepo: "https://git.example.org/checks/hello.git", ChecksBranch: "f42", ChecksCommit: checksSHA, Path: "greets/runtask.yml",
		SourceRepo: "https://github.com/example/hello.git", SourceCommit: commit,
		Item: "hello-" + version + ".fc42", Type: assay.TypeBuild, Builds: []string{"https://builds.example.org/hello/" + version + "/hello-" + version + ".fc42.x86_64.rpm"},
		Target: assay.Commit{Repo: "https://github.com/example/hello.git", SHA: commit}, State: assay.StateFinished, Attempt: 1,
	}
}

func fillExecutions(w *world) {
	add := func(e assay.Execution, created, started, finished float64) {
		e.Created = ago(created)
		if started > 0 {
			e.Started = ago(started)
		}
		if finished > 0 {
			e.Finished = ago(finished)
		}
		w.executions = append(w.executions, e)
	}
	queued := hello(idQueued, "1.2-1", goodCommit)
	queued.State, queued.Attempt, queued.Check = assay.StateQueued, 0, "pkg.upgrades"
	add(queued, 4, 0, 0)
	running := hello(idRunning, "1.2-1", goodCommit)
	running.State = assay.StateRunning
	add(running, 9, 7.5, 0)
	failed := hello(idFailed, "1.1-1", badCommit)
	failed.Verdict, failed.Reason = assay.VerdictFailed, `Step 2, "greets by name", exited with 1`
	add(failed, 3600-2998, 3600-3000, 3600-3023.4)
	passed := hello(idPassed, "1.0-1", goodCommit)
	passed.Verdict = assay.VerdictPassed
	add(passed, 1100, 1098, 1092)
	crashed := hello(idCrashed, "1.1-1", badCommit)
	crashed.Verdict, crashed.Check, crashed.Reason = assay.VerdictCrashed, "pkg.survives-reboot", "The machine died during step 1, power off"
	add(crashed, 1500, 1498, 1430)
	errored := hello(idErrored, "1.0-1", goodCommit)
	errored.Verdict, errored.Attempt, errored.Check = assay.VerdictErrored, 3, "pkg.upgrades"
	errored.Reason = "No machine could be booted on 3 attempts: the agent never said hello (waited 1 min each)"
	add(errored, 3600-2990, 3600-3140, 3600-3201)
	fillHistory(add)
}

func fillHistory(add func(e assay.Execution, created, started, finished float64)) {
	verdicts := []assay.Verdict{assay.VerdictPassed, assay.VerdictPassed, assay.VerdictFailed, assay.VerdictSkipped, assay.VerdictPassed, assay.VerdictCancelled}
	reasons := map[assay.Verdict]string{
		assay.VerdictFailed: "Step 3, rpmlint, exited with 64", assay.VerdictSkipped: "There is no build for x86_64",
		assay.VerdictCancelled: "A newer commit took its place",
	}
	for i := range 70 {
		e := hello(fmt.Sprintf("5b0c2a34-9a53-4f7e-8a6e-0c1f3a2d%04d", i), fmt.Sprintf("0.%d-%d", 40-i/2, 1+i%2), goodCommit)
		if i%3 == 0 {
			e.Package, e.Item, e.Check = "rpms/gzip", fmt.Sprintf("gzip-1.%d-1.fc42", 30-i/3), "rpmlint"
		}
		e.EventID = fmt.Sprintf("e0000000-0000-4000-8000-00000001%04d", i/2)
		e.Verdict = verdicts[i%len(verdicts)]
		e.Reason = reasons[e.Verdict]
		created := 4000 + float64(i)*5400
		add(e, created, created-2, created-2-float64(i%7)*11-3.7)
	}
}

func fillFailed(w *world) {
	id := idFailed
	w.steps[id] = []assay.StepRun{
		step(1, 0, "boot", 3000, 3014.2, "ok"), step(1, 0, "upload", 3014.2, 3014.5, "ok"),
		step(1, 1, "install the build", 3014.5, 3019.1, "ok"), step(1, 2, "greets by name", 3019.1, 3021.8, "failed"),
		step(1, 0, "collect", 3021.8, 3023.4, "ok"),
	}
	w.results[id] = []assay.Result{
		{Item: "hello-1.1-1.fc42", Type: "koji_build", Checkname: "pkg.greets.world", Outcome: assay.Passed, Note: "says Hello, world!"},
		{Item: "hello-1.1-1.fc42", Type: "koji_build", Checkname: "pkg.greets.by-name", Outcome: assay.Failed,
			Note: `wanted "Hello, Ada!", got "Hello, !"`, Artifact: "greets/output.txt",
			Data: map[string][]string{"locale": {"C.UTF-8"}, "exit": {"0"}}},
		{Item: "hello-1.1-1.fc42", Type: "koji_build", Checkname: "pkg.greets.help", Outcome: assay.Info, Note: "--help is 14 lines long"},
	}
	w.artifacts[id] = nil
	w.artifact(id, "greets/output.txt", "Hello, !\n")
	w.artifact(id, "greets/junit.xml", `<testsuite tests="3" failures="1"/>`)
	w.artifact(id, "report.html", "<script>alert(1)</script>")
	w.write(id, "log-1", failedLog())
	w.write(id, "console", "Linux version 6.12\n")
}

func failedLog() string {
	var b strings.Builder
	at := noon.Add(-10 * time.Minute)
	line := func(after float64, step int, stream, text string) {
		fmt.Fprintf(&b, "%s %d %s %s\n", at.Add(time.Duration(after*float64(time.Second))).Format("2006-01-02T15:04:05.000Z"), step, stream, text)
	}
	line(0, 0, "run", "boot a debian-12 machine, x86_64, 2 CPUs, 1.0 GB")
	line(14.2, 0, "run", "upload the check, 3 files, 4.1 kB")
	line(14.5, 1, "run", "run step 1: install the build")
	for i := range 22 {
		line(14.6+float64(i)*.2, 1, "out", fmt.Sprintf("Unpacking hello-data-%02d (1.1-1.fc42) over (1.0-1.fc42) ...", i))
	}
	line(19.1, 2, "run", "run step 2: greets by name")
	line(19.2, 2, "out", "+ hello")
	line(19.3, 2, "out", "Hello, world!")
	line(19.4, 2, "out", "+ hello --name Ada")
	line(21.2, 2, "out", "Hello, !")
	line(21.3, 2, "err", "\x1b[31mtest-greets.sh:12: FAIL\x1b[0m: wanted \x1b[1m\"Hello, Ada!\"\x1b[0m, got \x1b[1m\"Hello, !\"\x1b[0m")
	line(21.4, 2, "err", "  at /var/tmp/assay/greets/test-greets.sh:12, called from /var/tmp/assay/greets/a-very-long-path-name-without-any-break/that/goes/on/and/on/until/it/does/not/fit/on/a/telephone")
	line(21.7, 2, "run", "step 2 exited with 1 after 2.7 s")
	line(21.8, 0, "run", "collect 3 artifacts, 61 B")
	line(23.4, 0, "run", "failed: step 2, greets by name, exited with 1")
	return b.String()
}

func fillPassed(w *world) {
	w.steps[idPassed] = []assay.StepRun{
		step(1, 0, "boot", 2502, 2503.1, "ok"), step(1, 1, "install the build", 2503.1, 2506, "ok"), step(1, 2, "greets by name", 2506, 2508, "ok"),
	}
	for i := range 2350 {
		outcome := assay.Passed
		if i%500 == 499 {
			outcome = assay.NeedsInspection
		}
		w.results[idPassed] = append(w.results[idPassed], assay.Result{Item: "hello-1.0-1.fc42", Type: "koji_build",
			Checkname: fmt.Sprintf("pkg.greets.case-%04d", i+1), Outcome: outcome})
	}
	w.write(idPassed, "log-1", strings.ReplaceAll(failedLog(), "FAIL", "ok"))
}

func fillRunning(w *world) {
	w.steps[idRunning] = []assay.StepRun{step(1, 0, "boot", 3592.5, 3596, "ok"), step(1, 1, "install the build", 3596, 0, "")}
	w.write(idRunning, "log-1", "2026-11-21T17:19:52.500Z 0 run boot a debian-12 machine\n"+
		"2026-11-21T17:19:56.000Z 1 run run step 1: install the build\n2026-11-21T17:19:57.120Z 1 out Unpacking hello (1.2-1.fc42) ...\n")
}

func fillCrashed(w *world) {
	w.steps[idCrashed] = []assay.StepRun{step(1, 0, "boot", 2102, 2110, "ok"), step(1, 1, "power off", 2110, 2170, "crashed")}
	w.write(idCrashed, "log-1", "2026-11-21T16:55:02.000Z 0 run boot a debian-12 machine\n2026-11-21T16:55:10.000Z 1 run run step 1: power off\n"+
		"2026-11-21T16:55:10.100Z 1 out going down\n2026-11-21T16:56:10.000Z 0 run the machine died\n")
	w.write(idCrashed, "console", strings.Repeat("[    0.000000] Linux version 6.12.0-1-amd64\n", 800)+
		"[   12.300000] \x1b[1;31mreboot: Power down\x1b[0m\n")
}

func fillEvents(w *world) {
	w.events[eventBuild] = assay.EventRecord{State: assay.EventPlanned, Tries: 1, Event: assay.Event{
		ID: eventBuild, Source: "build", Delivery: "koji-2718281", Kind: assay.EventBuild, Received: ago(610), Repo: "https://github.com/example/hello.git",
		Commit: badCommit, Build: &assay.Build{ID: "2718281", Package: "rpms/hello", Version: "1.1", Release: "1.fc42", Arch: "x86_64", Branch: "f42",
			Artifacts: []string{"https://builds.example.org/hello-1.1-1.fc42.x86_64.rpm"}}}}
	w.events[eventIgnored] = assay.EventRecord{State: assay.EventIgnored, Note: "rpms/nano has no check repository in the configuration", Event: assay.Event{
		ID: eventIgnored, Source: "github", Delivery: "72d3162e-cc78-11e3-81ab-4c9367dc0958", Kind: assay.EventPush, Received: ago(7200),
		Repo: "example/nano", Ref: "refs/heads/main", Before: goodCommit, Commit: badCommit}}
	w.events[eventNew] = assay.EventRecord{State: assay.EventNew, Event: assay.Event{
		ID: eventNew, Source: "github", Kind: assay.EventPullRequest, PullRequest: 7, Received: ago(1), Repo: "example/hello", Ref: "refs/heads/main", Commit: badCommit}}
	w.events[eventFailed] = assay.EventRecord{State: assay.EventFailed, Tries: 5, Note: "cannot read the check repository: it has no branch f42", Event: assay.Event{
		ID: eventFailed, Source: "git", Delivery: "replay:0198c0de", Kind: assay.EventPush, Received: ago(90000), Repo: "/srv/git/checks/hello.git",
		Ref: "refs/heads/f42", Commit: checksSHA, Author: "maintainer", Origin: assay.OriginReplayed}}
	w.sent = map[string]sent{
		eventBuild: {http.Header{"Content-Type": {"application/json"}, "X-Assay-Delivery": {"koji-2718281"}},
			`{"package":"rpms/hello","version":"1.1","release":"1.fc42","artifacts":["https://builds.example.org/?a=1&b=<2>"]}`},
		eventIgnored: {http.Header{"X-Github-Event": {"push"}}, "payload=%7B%7D"},
	}
	w.repeats = map[string]int{eventBuild: 2}
}

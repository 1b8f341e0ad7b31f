package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
)

// The tests here boot real virtual machines; make test has built the image.

// noMachines waits until libvirt holds no machine of an execution any more.
func noMachines(t *testing.T, execution string) {
	t.Helper()
	until(t, "the machines to be gone", func() bool { return !strings.Contains(machineList(t), execution) })
}

// machineList is every machine of assay's that libvirt holds.
func machineList(t *testing.T) string {
	t.Helper()
	out, err := assayOutput(t, "vm", "list", "--json")
	if err != nil {
		t.Fatalf("cannot list the machines: %v\n%s", err, out)
	}
	return out
}

// needImage fails a test that has no image to boot, and says how to get it.
func needImage(t *testing.T) {
	t.Helper()
	cfg := config.Default()
	if _, err := images(cfg).Find(cfg.Machines.Image); err != nil {
		t.Fatalf("%v: make test builds it", err)
	}
}

// newVMSite is newSite where the virtual machines' user may reach what lies
// below: a test's directory is its owner's alone.
func newVMSite(t *testing.T) *site {
	t.Helper()
	needImage(t)
	s := newSite(t, nil)
	if err := os.Chmod(filepath.Dir(s.dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDemo is the main job, as make demo shows it.
func TestDemo(t *testing.T) {
	needImage(t)
	tmp := passable(t)
	t.Setenv("TMPDIR", tmp)
	out, err := assayOutput(t, "demo")
	if err != nil {
		t.Fatalf("the demo failed: %v\n%s", err, out)
	}
	for _, want := range []string{
		`(?m)^  remote: checks/greeting/runtask.yml:7:5: cannot .*shel`,
		`(?m)^  remote: checks/greeting/runtask.yml:20:16: cannot .*outcome`,
		`(?m)^   ! \[remote rejected\] main -> main`,
		`(?m)^  remote: assay: watch the trial run at http://127\.0\.0\.1:\d+/events/`,
		`(?m)^trial +\w{10} +success +\d+s +http`,
		`(?m)^hello-1.0-1.fc42 +\w{10} +success +\d+s +http`,
		`(?m)^hello-1.1-1.fc42 +\w{10} +failure +\d+s +http`,
		`(?m)^  assay/greeting: failure - 2 of 3 failed: greets-by-name, greets-with-spaces <http`,
		`FAILED greeting\.greets-by-name: said 'Hello, !', expected 'Hello, Ada!'`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the output lacks %s", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("the demo left %v", left)
	}
	for execution := range strings.Lines(strings.Join(regexp.MustCompile(`/executions/(\S+)`).FindAllString(out, -1), "\n")) {
		noMachines(t, filepath.Base(strings.TrimSpace(execution)))
	}
}

// TestDemoInterrupted ends the demo the way people do, while a machine boots.
func TestDemoInterrupted(t *testing.T) {
	needImage(t)
	var out lockedBuffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "assay"), "demo")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "TMPDIR="+passable(t))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile(`pending +http\S+/executions/(\S+)`)
	until(t, "an execution", func() bool { return page.MatchString(out.String()) })
	id := page.FindStringSubmatch(out.String())[1]
	until(t, "its machine", func() bool { return strings.Contains(machineList(t), id) })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted, the demo ended with %v", err)
	}
	if !strings.Contains(out.String(), "Nothing is left behind") {
		t.Errorf("its last words:\n%s", out.String())
	}
	noMachines(t, id)
	left, err := filepath.Glob(filepath.Join(cmd.Env[len(cmd.Env)-1][len("TMPDIR="):], "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// passable is a test's directory that the virtual machines' user may enter.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// execution waits for the one execution of an event and returns its id.
func (p *program) execution(event string) string {
	p.site.t.Helper()
	id := ""
	until(p.site.t, "an execution", func() bool {
		body := p.site.fetch(p.url + "/events/" + event)
		m := regexp.MustCompile(`/executions/([0-9a-f-]{36})`).FindStringSubmatch(body)
		if m != nil {
			id = m[1]
		}
		return m != nil
	})
	return id
}

// facts are what the server tells of an execution.
type facts struct {
	Execution struct {
		Check, State, Verdict, Reason string
		Attempt                       int
	}
	Steps []struct {
		Name, Outcome string
		Attempt       int
	}
}

func (p *program) facts(execution string) facts {
	p.site.t.Helper()
	f, err := p.look(execution)
	if err != nil {
		p.site.t.Fatal(err)
	}
	return f
}

// look reads an execution from a server that may be away.
func (p *program) look(execution string) (f facts, err error) {
	body, err := getPage(p.url + "/executions/" + execution + ".json")
	if err == nil {
		err = json.Unmarshal([]byte(body), &f)
	}
	return f, err
}

// running waits until a step of an attempt runs.
func (p *program) running(execution string, attempt int, step string) {
	p.site.t.Helper()
	until(p.site.t, fmt.Sprintf("step %s of attempt %d", step, attempt), func() bool {
		f := p.facts(execution)
		if f.Execution.State == "finished" {
			p.site.t.Fatalf("the execution is over: %s: %s", f.Execution.Verdict, f.Execution.Reason)
		}
		for _, s := range f.Steps {
			if s.Attempt == attempt && s.Name == step && s.Outcome == "" {
				return true
			}
		}
		return false
	})
}

// TestKilledDuringBootAndStep kills the server with -9 while a machine boots,
// and its successor while the check runs. The third one finishes the job.
func TestKilledDuringBootAndStep(t *testing.T) {
	s := newVMSite(t)
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "sleep 15")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	config := s.config("")

	p := s.startProgram(config)
	id := p.execution(p.build("1.0", commit))
	until(t, "a machine", func() bool { return strings.Contains(machineList(t), id) })
	p.end(syscall.SIGKILL)

	p = s.startProgram(config)
	p.running(id, 2, "look")
	p.end(syscall.SIGKILL)

	p = s.startProgram(config)
	until(t, "the final status", func() bool { return strings.Contains(s.note("rpms/hello", commit), "success") })
	f := p.facts(id)
	if f.Execution.Verdict != "passed" || f.Execution.Attempt != 3 {
		t.Errorf("%s in attempt %d: %s", f.Execution.Verdict, f.Execution.Attempt, f.Execution.Reason)
	}
	s.finalOnce("rpms/hello", commit, "success")
	p.end(syscall.SIGTERM)
	noMachines(t, id)
	left, err := filepath.Glob(filepath.Join(s.cfg.Data, "machines", "*", "*.qcow2"))
	if err != nil || len(left) > 0 {
		t.Errorf("disks are left: %v", left)
	}
}

// hostileCheck is a check that does its worst, and what becomes of it.
type hostileCheck struct {
	command, verdict, reason string
	timeout                  string // "" for a time in which it ends by itself
}

func hostileChecks() map[string]hostileCheck {
	const look = `the check took its machine down during step 1 "look"`
	return map[string]hostileCheck{
		"loops-for-ever":  {"while :; do :; done", "failed", "timed out: the check may take 20s", "20s"},
		"sleeps-for-ever": {"sleep infinity", "failed", "timed out: the check may take 20s", "20s"},
		"fills-the-disk": {
			"fallocate -l $(df --output=avail -B1 / | tail -n 1) /bulk; cat /dev/zero > /filler", "failed", "No space left on device", "",
		},
		"fills-memory":   {"tail /dev/zero", "failed", "ended by signal 9: Killed", ""},
		"forks-for-ever": {"bomb() { bomb | bomb & }; bomb; while :; do sleep 300 & done", "failed", "Cannot fork", "2m"},
		"prints-a-gig": {
			"yes 'a line that is printed over and over again' | head -c 1073741824", "failed", "printed more than 4 MiB, the log limit", "",
		},
		"powers-off":      {"systemctl poweroff --force --force; sleep 300", "crashed", look, ""},
		"panics":          {"echo c > /proc/sysrq-trigger; sleep 300", "crashed", look, ""},
		"kills-the-agent": {"pkill -9 -x assay-agent; sleep 300", "crashed", look, ""},
		"speaks-garbage": {
			"systemd-run sh -c 'systemctl stop assay-agent; cat /dev/urandom > /dev/virtio-ports/org.assay.agent.0'; sleep 300", "crashed", look, "",
		},
		"removes-everything": {"rm -rf --no-preserve-root / 2>/dev/null; exit 3", "failed", "exit 3", "300s"},
		"sets-the-clock":     {"date -s 2001-01-01; test $(date +%Y) = 2001", "passed", "every step passed", ""},
		"leaves-a-mess": {
			`cd ${artifactsdir}; ln -s /etc/shadow link; ln -s .. up; mknod disk b 8 0; mkfifo pipe; truncate -s 1T sparse;` +
				` echo kept > 0; seq 200000 | xargs touch`, "passed", "every step passed", "600s",
		},
	}
}

// TestHostileChecks lets checks do their worst to their machines. Each ends by
// itself with the right verdict and reason, and the next ones are normal.
func TestHostileChecks(t *testing.T) {
	s := newVMSite(t)
	tests := hostileChecks()
	files := map[string]string{}
	for name, tt := range tests {
		text := formula(name, "'"+strings.ReplaceAll(tt.command, "'", "''")+"'")
		if tt.timeout == "" {
			tt.timeout = "100s"
		}
		files[name+"/runtask.yml"] = strings.Replace(text, "actions:", "timeout: "+tt.timeout+"\nactions:", 1)
	}
	s.repository("checks/calm")
	s.repository("rpms/calm")
	s.commit("checks/hello", "main", files)
	s.commit("checks/calm", "main", map[string]string{"calm/runtask.yml": formula("calm", "test ! -e /filler && test $(date +%Y) -gt 2001")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	calm := s.commit("rpms/calm", "main", map[string]string{"calm": "x"})
	p := s.startProgram(s.config("limits: {log: 4MiB}\n"))
	ids := p.executions(p.build("1.0", commit), len(tests))
	for _, id := range ids {
		f := p.finished(id)
		want := tests[f.Execution.Check]
		if f.Execution.Verdict != want.verdict || !strings.Contains(f.Execution.Reason, want.reason) || f.Execution.Attempt != 1 {
			t.Errorf("%s: %s in attempt %d: %s\nwant %s: %s", f.Execution.Check, f.Execution.Verdict, f.Execution.Attempt, f.Execution.Reason, want.verdict, want.reason)
		}
		if f.Execution.Check == "leaves-a-mess" {
			onlyPlainFiles(t, filepath.Join(s.cfg.Data, "executions"), id)
		}
	}
	for i := range 3 {
		id := p.executions(p.buildOf("rpms/calm", fmt.Sprint(i), calm), 1)[0]
		if f := p.finished(id); f.Execution.Verdict != "passed" || f.Execution.Attempt != 1 {
			t.Errorf("after the hostile ones, a calm one: %s in attempt %d: %s", f.Execution.Verdict, f.Execution.Attempt, f.Execution.Reason)
		}
		ids = append(ids, id)
	}
	p.end(syscall.SIGTERM)
	for _, id := range ids {
		noMachines(t, id)
	}
}

// onlyPlainFiles checks what was kept of a hostile tree of artifacts.
func onlyPlainFiles(t *testing.T, root, id string) {
	t.Helper()
	kept := 0
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !strings.Contains(path, id) || entry.IsDir() {
			return err
		}
		if !entry.Type().IsRegular() {
			t.Errorf("%s was kept, which is no plain file", path)
		}
		kept++
		return nil
	})
	if err != nil || kept < 2 || kept > runner.DefaultLimits().Artifacts.Files+10 {
		t.Errorf("%d files were kept, %v", kept, err)
	}
}

// executions waits until an event has so many executions.
func (p *program) executions(event string, count int) []string {
	p.site.t.Helper()
	ids := map[string]bool{}
	until(p.site.t, "the executions", func() bool {
		for _, m := range regexp.MustCompile(`/executions/([0-9a-f-]{36})`).FindAllStringSubmatch(p.site.fetch(p.url+"/events/"+event), -1) {
			ids[m[1]] = true
		}
		return len(ids) == count
	})
	return slices.Sorted(maps.Keys(ids))
}

// finished waits for an execution's end.
func (p *program) finished(id string) facts {
	p.site.t.Helper()
	var f facts
	until(p.site.t, "the end of "+id, func() bool { f = p.facts(id); return f.Execution.State == "finished" })
	return f
}

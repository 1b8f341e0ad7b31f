//go:build soak

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// soakChecks are the checks of the soak tests and how each must end.
func soakChecks() map[string]struct{ command, verdict string } {
	return map[string]struct{ command, verdict string }{
		"passes":     {"test ! -e /stain && touch /stain", "passed"},
		"fails":      {"touch /stain; exit 3", "failed"},
		"leaves":     {"echo left > ${artifactsdir}/left", "passed"},
		"powers-off": {"poweroff -f; sleep 60", "crashed"},
		"prints":     {"seq 2000", "passed"},
	}
}

const soakBuilds = 40 // of five executions each

// soak is one soak test under way.
type soak struct {
	t      *testing.T
	site   *site
	config string
	p      *program
}

func newSoak(t *testing.T) *soak {
	s := newVMSite(t)
	files := map[string]string{}
	for name, c := range soakChecks() {
		files[name+"/runtask.yml"] = formula(name, c.command)
	}
	s.commit("checks/hello", "main", files)
	config := s.config("machines: {count: 4}\nlimits: {retries: [1s, 1s, 2s, 5s, 10s, 15s]}\n")
	return &soak{t, s, config, s.startProgram(config)}
}

// build reports a build, to a server that may be away for a moment.
func (s *soak) build(i int, commit string) string {
	var event string
	until(s.t, "the server to take a build", func() bool {
		receipt, err := postBuild(s.t.Context(), s.p.url, fmt.Sprint("build-", i), s.site.secret, buildEvent{
			Package: "rpms/hello", Version: fmt.Sprint(i), Release: "1.fc42", Commit: commit, BuildID: fmt.Sprint(i),
		})
		event = receipt.Event
		return err == nil
	})
	return event
}

var (
	executionLink = regexp.MustCompile(`/executions/([0-9a-f-]{36})`)
	metricLine    = regexp.MustCompile(`(?m)^(\w+)(?:\{[^}]*\})? ([0-9.e+]+)$`)
)

// run has all builds checked and compares every verdict.
func (s *soak) run(disturb func()) {
	begun := time.Now()
	commit := s.site.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	var events []string
	for i := range soakBuilds {
		events = append(events, s.build(i, commit))
	}
	checked := 0
	for i, event := range events {
		for id := range s.executions(event) {
			s.compare(id, disturb)
			checked++
		}
		if i == soakBuilds/4 || i == soakBuilds-1 {
			s.t.Logf("%3d executions after %s: %s", checked, time.Since(begun).Round(time.Second), s.vitals())
		}
	}
	if want := soakBuilds * len(soakChecks()); checked != want {
		s.t.Errorf("%d executions were checked, not %d", checked, want)
	}
}

// executions waits for the executions of an event.
func (s *soak) executions(event string) map[string]bool {
	ids := map[string]bool{}
	deadline := time.Now().Add(10 * time.Minute)
	for len(ids) < len(soakChecks()) {
		if time.Now().After(deadline) {
			s.t.Fatalf("event %s has %d executions", event, len(ids))
		}
		body, err := getPage(s.p.url + "/events/" + event)
		if err != nil {
			s.pause()
			continue
		}
		for _, m := range executionLink.FindAllStringSubmatch(body, -1) {
			ids[m[1]] = true
		}
	}
	return ids
}

// pause is between two questions to a server that is away.
func (s *soak) pause() {
	select {
	case <-s.t.Context().Done():
		s.t.Fatal("the test ended")
	case <-time.After(100 * time.Millisecond):
	}
}

// compare waits for an execution's end, disturbing meanwhile, and compares.
func (s *soak) compare(id string, disturb func()) {
	deadline := time.Now().Add(15 * time.Minute)
	for {
		if time.Now().After(deadline) {
			s.t.Fatalf("execution %s does not end", id)
		}
		disturb()
		f, err := s.p.look(id)
		if err != nil || f.Execution.State != "finished" {
			s.pause()
			continue
		}
		want := soakChecks()[f.Execution.Check].verdict
		if f.Execution.Verdict != want {
			s.t.Errorf("%s %s: %s in attempt %d: %s; want %s", id, f.Execution.Check, f.Execution.Verdict, f.Execution.Attempt, f.Execution.Reason, want)
		}
		return
	}
}

// vitals are the server's memory and goroutines.
func (s *soak) vitals() string {
	body, err := getPage(s.p.url + "/metrics")
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, m := range metricLine.FindAllStringSubmatch(body, -1) {
		switch m[1] {
		case "process_resident_memory_bytes", "go_goroutines", "process_open_fds", "assay_machines_lost_total", "assay_forks_refused_total", "assay_machines_destroyed_total":
			out = append(out, m[1]+" "+m[2])
		}
	}
	return strings.Join(out, ", ")
}

func (s *soak) metric(name string) float64 {
	body := s.site.fetch(s.p.url + "/metrics")
	for _, m := range metricLine.FindAllStringSubmatch(body, -1) {
		if m[1] == name {
			v, _ := strconv.ParseFloat(m[2], 64)
			return v
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

// nothingLeft ends the server and looks for what it left, in libvirt, among the
// processes and on the disk.
func (s *soak) nothingLeft() {
	s.p.end(syscall.SIGTERM)
	until(s.t, "the machines to be gone", func() bool { return len(s.qemus()) == 0 })
	for _, pattern := range []string{"machines/o-*", "scratch/*"} {
		left, err := filepath.Glob(filepath.Join(s.site.cfg.Data, pattern))
		if err != nil || len(left) > 0 {
			s.t.Errorf("left behind: %v, %v", left, err)
		}
	}
	if list := machineList(s.t); strings.Contains(list, s.site.cfg.Data) {
		s.t.Errorf("libvirt still has %s", list)
	}
}

// qemus are the processes of this test's own machines.
func (s *soak) qemus() []int {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("qemu-system")) && bytes.Contains(text, []byte(s.site.cfg.Data)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestSoak runs 200 executions, four at a time: every verdict is right, nothing
// leaks, the process does not grow.
func TestSoak(t *testing.T) {
	s := newSoak(t)
	s.run(func() {})
	until(t, "the machines to rest", func() bool { return s.metric("assay_machines") <= 4 })
	memory, goroutines := s.metric("process_resident_memory_bytes"), s.metric("go_goroutines")
	s.run2(memory, goroutines)
	s.nothingLeft()
}

// run2 runs half as many again and compares what the process takes.
func (s *soak) run2(memory, goroutines float64) {
	commit := s.site.commit("rpms/hello", "main", map[string]string{"hello": "y"})
	for i := range soakBuilds / 2 {
		for id := range s.executions(s.build(1000+i, commit)) {
			s.compare(id, func() {})
		}
	}
	after, now := s.metric("process_resident_memory_bytes"), s.metric("go_goroutines")
	s.t.Logf("the process's memory: %.0f MiB after 200 executions, %.0f MiB after 300; goroutines: %.0f, %.0f", memory/(1<<20), after/(1<<20), goroutines, now)
	if after > memory*1.25+(8<<20) || now > goroutines+30 {
		s.t.Errorf("the process grows: %s", s.vitals())
	}
}

// TestSoakWithKiller does the same while every few seconds a machine, libvirt's
// daemon or the server itself is killed.
func TestSoakWithKiller(t *testing.T) {
	s := newSoak(t)
	random := rand.New(rand.NewPCG(1, 2))
	next := time.Now().Add(30 * time.Second) // the template is made by then, perhaps
	killed := map[string]int{}
	s.run(func() {
		if time.Now().Before(next) {
			return
		}
		next = time.Now().Add(time.Duration(3+random.IntN(4)) * time.Second)
		what := s.kill(random)
		killed[what]++
	})
	t.Logf("killed: %v", killed)
	s.nothingLeft()
}

// kill ends something and says what.
func (s *soak) kill(random *rand.Rand) string {
	switch random.IntN(6) {
	case 0:
		// All that listens where libvirt does: the killer must not hit another's.
		_ = exec.Command("pkill", "-9", "-x", "libvirtd|virtqemud").Run() // none may run
		return "libvirt"
	case 1:
		s.p.end(syscall.SIGKILL)
		s.p = s.site.startProgram(s.config)
		return "server"
	}
	pids := s.qemus()
	if len(pids) == 0 {
		return "nothing"
	}
	_ = syscall.Kill(pids[random.IntN(len(pids))], syscall.SIGKILL) // it may have ended
	return "machine"
}

// TestSoakChaos is TestChaos with 2,000 deliveries.
func TestSoakChaos(t *testing.T) { testChaos(t, 400, 60) }

package results_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/google/uuid"
)

// crashDir names the data directory to a re-executed test binary, which then
// works in it until it is killed.
const crashDir = "ASSAY_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := workUntilKilled(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func parallelism() int { return runtime.GOMAXPROCS(0) }

// workUntilKilled takes events through their lives in many goroutines and says
// what the store has acknowledged, one line each.
func workUntilKilled(ctx context.Context, dir string) error {
	s, err := results.Open(ctx, dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(what, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, id)
	}
	errs := make(chan error)
	for range 16 {
		go func() {
			for {
				if err := liveOnce(ctx, s, say); err != nil {
					errs <- err
				}
			}
		}()
	}
	return <-errs
}

func liveOnce(ctx context.Context, s *results.Store, say func(what, id string)) error {
	event, _, err := s.AddEvent(ctx, assay.Event{Source: "git", Delivery: uuid.NewString()}, nil, make([]byte, 8<<10))
	if err != nil {
		return err
	}
	say("event", event)
	e := assay.Execution{ID: uuid.NewString(), Package: "p", Check: "c", Target: assay.Commit{Repo: "r", SHA: event}}
	report := assay.Report{Kind: assay.ReportStatus, Commit: e.Target, Execution: e.ID}
	if err := s.PlanEvent(ctx, event, assay.Decision{Executions: []assay.Execution{e}, Reports: []assay.Report{report}}); err != nil {
		return err
	}
	say("planned", e.ID)
	if e, err = s.Begin(ctx, e.ID, false); err != nil {
		return err
	}
	say("begun", e.ID)
	report.Status.State = assay.StatusSuccess
	c := assay.Conclusion{Verdict: assay.VerdictPassed, Results: []assay.Result{{Outcome: assay.Passed}}}
	if err := s.Conclude(ctx, e.ID, e.Attempt, c, []assay.Report{report}); err != nil {
		return err
	}
	say("concluded", e.ID)
	return nil
}

// Killed at any instruction, a server keeps everything that it acknowledged, and
// nothing by halves.
func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]string{} // id: the last thing said of it
	for round := range 4 {
		killAfter(t, dir, 40+170*round, acknowledged)
		s := openStore(t, dir)
		for id, what := range acknowledged {
			checkKept(t, s, what, id)
		}
		checkWhole(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter runs a worker, kills it when it has said so many lines, and notes
// everything that it said.
func killAfter(t *testing.T, dir string, lines int, acknowledged map[string]string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for sc := bufio.NewScanner(out); sc.Scan(); said++ {
		if what, id, ok := strings.Cut(sc.Text(), " "); ok && checkUUID(id) {
			acknowledged[id] = what
		}
		if said == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || said < lines {
		t.Fatalf("the worker ended by itself after %d lines: %v", said, err)
	}
}

// checkUUID tells a whole line from one that the kill has cut.
func checkUUID(id string) bool { _, err := uuid.Parse(id); return err == nil && len(id) == 36 }

func checkKept(t *testing.T, s *results.Store, what, id string) {
	t.Helper()
	if what == "event" {
		if _, err := s.Event(t.Context(), id); err != nil {
			t.Errorf("an acknowledged event is lost: %v", err)
		}
		return
	}
	e, err := s.Execution(t.Context(), id)
	if err != nil {
		t.Errorf("an execution that was %s is lost: %v", what, err)
		return
	}
	order := map[string]int{"planned": 0, "begun": 1, "concluded": 2, "queued": 0, "running": 1, "finished": 2}
	if order[string(e.State)] < order[what] {
		t.Errorf("execution %s was %s and is %s", id, what, e.State)
	}
}

// checkWhole looks at everything for what only half a transaction could leave.
func checkWhole(t *testing.T, s *results.Store) {
	t.Helper()
	list, err := s.Executions(t.Context(), assay.ExecutionFilter{Limit: 1000})
	if err != nil || len(list) == 0 {
		t.Fatalf("%d executions, %v", len(list), err)
	}
	for _, e := range list {
		found, err := s.Results(t.Context(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		reports, err := s.ReportHistory(t.Context(), e.Target)
		if err != nil {
			t.Fatal(err)
		}
		event, err := s.Event(t.Context(), e.EventID)
		if err != nil || event.State != assay.EventPlanned {
			t.Errorf("the event of execution %s is %s, %v", e.ID, event.State, err)
		}
		finished := e.State == assay.StateFinished
		if finished != (e.Verdict != "") || finished != (len(found) == 1) || finished != (len(reports) == 2) || len(reports) == 0 {
			t.Errorf("execution %s is %s with verdict %q, %d results and %d reports", e.ID, e.State, e.Verdict, len(found), len(reports))
		}
	}
}

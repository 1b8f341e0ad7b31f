package results

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// history is a store's past, in hours. Executions end when they are told to.
type history struct {
	t     *testing.T
	s     *Store
	names map[string]string // by ID, what the test calls it
}

func newHistory(t *testing.T, s *Store) *history { return &history{t, s, map[string]string{}} }

func (h *history) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// build is a build event of so many hours after the first.
func (h *history) build(name, pkg string, n int) string {
	h.t.Helper()
	id := keepEvent(h.t, h.s, buildOf(pkg, n), strings.Repeat("b", 100))
	h.names[id] = name
	return id
}

// other is an event without a package, which planning ignores.
func (h *history) other(name string, n int) string {
	h.t.Helper()
	id := keepEvent(h.t, h.s, assay.Event{Source: "git", Delivery: name, Kind: assay.EventPush, Received: hour(n)}, "body")
	h.names[id] = name
	h.must(h.s.PlanEvent(h.t.Context(), id, assay.Decision{Note: "nothing wants it"}))
	return id
}

// ran plans executions of checks ("CHECK", "CHECK@VARIANT") for an event, and ends
// them at an hour with a log, an artifact, a step, results and a report that was
// sent.
func (h *history) ran(event, pkg string, n int, checks ...string) {
	h.t.Helper()
	var list []assay.Execution
	for _, check := range checks {
		name, variant, _ := strings.Cut(check, "@")
		e := assay.Execution{ID: uuid.NewString(), Package: pkg, Check: name, Variant: variant, Arch: "x86_64", Target: assay.Commit{Repo: "r", SHA: event}, Created: hour(n)}
		list = append(list, e)
		h.names[e.ID] = h.names[event] + "/" + check
	}
	h.must(h.s.PlanEvent(h.t.Context(), event, assay.Decision{Executions: list}))
	for _, e := range list {
		h.end(e, n)
	}
}

func (h *history) end(e assay.Execution, n int) {
	h.t.Helper()
	e, err := h.s.Begin(h.t.Context(), e.ID, false)
	h.must(err)
	h.must(h.s.Step(h.t.Context(), e.ID, assay.StepRun{Attempt: 1, Number: 1, Name: "shell", Started: hour(n)}))
	log, err := h.s.Files().Log(e.ID, 1)
	h.must(err)
	_, err = log.Write([]byte("log\n"))
	h.must(errors.Join(err, log.Close()))
	dir, err := h.s.Files().ArtifactsDir(e.ID, 1)
	h.must(errors.Join(err, os.WriteFile(filepath.Join(dir, "out.txt"), []byte("out"), 0o600)))
	h.must(h.s.Conclude(h.t.Context(), e.ID, 1, assay.Conclusion{Verdict: assay.VerdictPassed,
		Results: []assay.Result{{Outcome: assay.Passed}, {Outcome: assay.Info}}, Artifacts: []assay.Artifact{{Path: "out.txt", Size: 3}},
	}, []assay.Report{{Kind: assay.ReportStatus, Commit: e.Target, Execution: e.ID, Status: assay.Status{Context: e.StatusContext()}}}))
	h.send()
	h.set(`UPDATE executions SET finished = ? WHERE id = ?`, stamp(hour(n)), e.ID)
	h.set(`UPDATE reports SET written = ?, ended = ? WHERE execution = ?`, stamp(hour(n)), stamp(hour(n)), e.ID)
}

// send sends every report that is owed.
func (h *history) send() {
	h.t.Helper()
	owed, err := h.s.OwedReports(h.t.Context(), time.Now(), 100)
	h.must(err)
	for _, r := range owed {
		h.must(h.s.ReportBegun(h.t.Context(), r.ID))
		h.must(h.s.ReportSent(h.t.Context(), r.ID))
	}
}

// set changes what only time changes.
func (h *history) set(query string, args ...any) {
	h.t.Helper()
	h.must(h.s.write(h.t.Context(), func(t *tx) error { _, err := t.exec(query, args...); return err }))
}

// left is what is there still, by name, and how many rows of each other table.
func (h *history) left() string {
	h.t.Helper()
	var all []string
	for _, query := range []string{
		`SELECT id FROM events WHERE header <> '' OR LENGTH(body) > 0 ORDER BY received, id`,
		`SELECT id FROM events ORDER BY received, id`,
		`SELECT id FROM executions ORDER BY seq`,
	} {
		rows, err := h.s.reads.QueryContext(h.t.Context(), query)
		names, err := collect(rows, err, func(row scanner) (id string, err error) {
			err = row.Scan(&id)
			return h.names[id], err
		})
		h.must(err)
		all = append(all, strings.Join(names, " "))
	}
	var counts []string
	for _, table := range []string{"results", "artifacts", "steps", "transitions", "reports"} {
		counts = append(counts, fmt.Sprint(table, " ", h.count(`SELECT COUNT(*) FROM `+table)))
	}
	counts = append(counts, fmt.Sprint("files ", len(filesOf(h.t, h.s))))
	return strings.Join(append(all, strings.Join(counts, ", ")), "\n")
}

func (h *history) count(query string) (n int) {
	h.t.Helper()
	h.must(h.s.reads.QueryRowContext(h.t.Context(), query).Scan(&n))
	return n
}

// filesOf lists the executions that have files.
func filesOf(t *testing.T, s *Store) (ids []string) {
	t.Helper()
	found, err := fs.Glob(os.DirFS(s.dir.path), "executions/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		ids = append(ids, filepath.Base(name))
	}
	return ids
}

// fill is a past with everything in it that Prune tells apart.
func (h *history) fill() {
	h.t.Helper()
	h.ran(h.build("b1", "rpms/hello", 1), "rpms/hello", 1, "greets", "retired")
	h.other("o2", 2)
	h.ran(h.build("b3", "rpms/hello", 3), "rpms/hello", 3, "greets")
	h.build("n4", "rpms/gzip", 4) // never planned
	h.other("o5", 5)
	h.must(h.s.PlanEvent(h.t.Context(), h.build("b6", "rpms/gzip", 6), assay.Decision{Note: "no check wants it"}))
	h.ran(h.build("b7", "rpms/hello", 7), "rpms/hello", 7, "greets", "new")
	h.ran(h.other2("p8", 8), "rpms/hello", 8, "greets", "new")
	h.other("o9", 9)
}

// other2 is an event without a package that is not planned yet.
func (h *history) other2(name string, n int) string {
	h.t.Helper()
	id := keepEvent(h.t, h.s, assay.Event{Source: "git", Delivery: name, Kind: assay.EventPush, Received: hour(n)}, "body")
	h.names[id] = name
	return id
}

func TestPrune(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep Retention
		want Pruned
		left string // with bodies; events; executions; the rest
	}{
		{"nothing", Retention{}, Pruned{},
			"b1 o2 b3 n4 o5 b6 b7 p8 o9\nb1 o2 b3 n4 o5 b6 b7 p8 o9\nb1/greets b1/retired b3/greets b7/greets b7/new p8/greets p8/new\n" +
				"results 14, artifacts 7, steps 7, transitions 21, reports 7, files 7"},
		{"nothing so old", Retention{hour(1), hour(1), hour(1)}, Pruned{},
			"b1 o2 b3 n4 o5 b6 b7 p8 o9\nb1 o2 b3 n4 o5 b6 b7 p8 o9\nb1/greets b1/retired b3/greets b7/greets b7/new p8/greets p8/new\n" +
				"results 14, artifacts 7, steps 7, transitions 21, reports 7, files 7"},
		{"bodies", Retention{Bodies: hour(5)}, Pruned{Bodies: 3},
			"n4 o5 b6 b7 p8 o9\nb1 o2 b3 n4 o5 b6 b7 p8 o9\nb1/greets b1/retired b3/greets b7/greets b7/new p8/greets p8/new\n" +
				"results 14, artifacts 7, steps 7, transitions 21, reports 7, files 7"},
		{"events alone", Retention{Events: hour(9)}, Pruned{Events: 2},
			"b1 b3 n4 b6 b7 p8 o9\nb1 b3 n4 b6 b7 p8 o9\nb1/greets b1/retired b3/greets b7/greets b7/new p8/greets p8/new\n" +
				"results 14, artifacts 7, steps 7, transitions 21, reports 7, files 7"},
		// b1/retired is the newest of its check; b7 is the newest build, b6 that of gzip.
		{"executions", Retention{Executions: hour(100)}, Pruned{Executions: 2},
			"b1 o2 b3 n4 o5 b6 b7 p8 o9\nb1 o2 b3 n4 o5 b6 b7 p8 o9\nb1/retired b7/greets b7/new p8/greets p8/new\n" +
				"results 10, artifacts 5, steps 5, transitions 15, reports 7, files 5"},
		{"everything", Retention{hour(100), hour(100), hour(100)}, Pruned{Bodies: 8, Executions: 2, Events: 4, Reports: 1},
			"n4\nb1 n4 b6 b7 p8\nb1/retired b7/greets b7/new p8/greets p8/new\n" +
				"results 10, artifacts 5, steps 5, transitions 15, reports 6, files 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistory(t, openTest(t))
			h.fill()
			got, err := h.s.Prune(t.Context(), tt.keep)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, want %+v, %v", got, tt.want, err)
			}
			if diff := cmp.Diff(tt.left, h.left()); diff != "" {
				t.Error(diff)
			}
			if again, err := h.s.Prune(t.Context(), tt.keep); err != nil || again != (Pruned{}) {
				t.Errorf("a second time: %+v, %v", again, err)
			}
		})
	}
}

// The newest execution of each variant stays, whatever ran of the others since.
func TestPruneKeepsEachVariant(t *testing.T) {
	h := newHistory(t, openTest(t))
	h.ran(h.other2("p1", 1), "rpms/hello", 1, "greets", "greets@python=3.11", "greets@python=3.12")
	h.ran(h.other2("p2", 2), "rpms/hello", 2, "greets@python=3.12")
	h.ran(h.other2("p3", 3), "rpms/hello", 3, "greets@python=3.12")
	got, err := h.s.Prune(t.Context(), Retention{Executions: hour(100)})
	if want := (Pruned{Executions: 2}); err != nil || got != want {
		t.Errorf("got %+v, want %+v, %v", got, want, err)
	}
	want := "p1/greets p1/greets@python=3.11 p3/greets@python=3.12"
	if left := strings.Split(h.left(), "\n")[2]; left != want {
		t.Errorf("left %s, want %s", left, want)
	}
}

func TestPrunedDeliveryIsStillKnown(t *testing.T) {
	s := openTest(t)
	e := buildOf("rpms/hello", 1)
	e.Meaning = "m"
	id := keepEvent(t, s, e, "body")
	runCheck(t, s, id, "rpms/hello", "greets")
	if p, err := s.Prune(t.Context(), Retention{Bodies: hour(2)}); err != nil || p.Bodies != 1 {
		t.Fatal(p, err)
	}
	e.Delivery = "another"
	if again, fresh, err := s.AddEvent(t.Context(), e, nil, []byte("body")); err != nil || fresh || again != id {
		t.Errorf("after pruning: %s, fresh %v, %v", again, fresh, err)
	}
	header, body, err := s.Delivery(t.Context(), id)
	if err != nil || len(header) != 0 || len(body) != 0 {
		t.Errorf("the delivery is %v, %q, %v", header, body, err)
	}
	if latest, err := s.LatestBuild(t.Context(), "rpms/hello"); err != nil || latest.Build.Version != "1" {
		t.Errorf("the latest build is %+v, %v", latest, err)
	}
}

// What is unfinished, or has something to say still, stays however old it is.
func TestPruneLeavesTheLiving(t *testing.T) {
	s := openTest(t)
	h := newHistory(t, s)
	running := runCheck(t, s, h.other2("running", 1), "rpms/a", "x")
	owing := runCheck(t, s, h.other2("owing", 1), "rpms/b", "x")
	for _, e := range []assay.Execution{running, owing} {
		if _, err := s.Begin(t.Context(), e.ID, false); err != nil {
			t.Fatal(err)
		}
	}
	report := assay.Report{Kind: assay.ReportStatus, Commit: owing.Target, Execution: owing.ID, Status: assay.Status{Context: "c"}}
	h.must(s.Conclude(t.Context(), owing.ID, 1, assay.Conclusion{Verdict: assay.VerdictPassed}, []assay.Report{report}))
	h.set(`UPDATE executions SET finished = ? WHERE id = ?`, stamp(hour(1)), owing.ID)
	// Newer ones of both checks, so that only their state keeps them.
	for _, pkg := range []string{"rpms/a", "rpms/b"} {
		h.names[h.other2(pkg, 2)] = pkg
	}
	for id, name := range h.names {
		if strings.HasPrefix(name, "rpms/") {
			e := runCheck(t, s, id, name, "x")
			h.must(s.Conclude(t.Context(), e.ID, 0, assay.Conclusion{Verdict: assay.VerdictSkipped}, nil))
		}
	}
	all := Retention{time.Now().Add(time.Hour), time.Now().Add(time.Hour), time.Now().Add(time.Hour)}
	for _, id := range []string{running.ID, owing.ID} {
		if p, err := s.Prune(t.Context(), all); err != nil || p.Executions != 0 {
			t.Fatalf("pruned %+v, %v", p, err)
		}
		if _, err := s.Execution(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	h.send()
	h.must(s.Conclude(t.Context(), running.ID, 1, assay.Conclusion{Verdict: assay.VerdictPassed}, nil))
	if p, err := s.Prune(t.Context(), all); err != nil || p.Executions != 2 || p.Events != 2 {
		t.Errorf("when both had come to their end: %+v, %v", p, err)
	}
}

// Many rows take many transactions, and none of them is large.
func TestPruneManyRows(t *testing.T) {
	s := openTest(t)
	h := newHistory(t, s)
	h.names[h.other2("big", 1)] = "big"
	for id := range h.names {
		e := runCheck(t, s, id, "rpms/hello", "greets")
		c := assay.Conclusion{Verdict: assay.VerdictPassed}
		for i := range 2*pruneRows + 7 {
			c.Results = append(c.Results, assay.Result{Outcome: assay.Passed})
			c.Artifacts = append(c.Artifacts, assay.Artifact{Path: fmt.Sprint(i)})
		}
		h.must(s.Conclude(t.Context(), e.ID, 0, c, nil))
		h.set(`UPDATE executions SET finished = ? WHERE id = ?`, stamp(hour(1)), e.ID)
	}
	for i := range pruneBatch + 5 {
		h.other(fmt.Sprint("o", i), 1)
	}
	h.ran(h.build("b", "rpms/hello", 2), "rpms/hello", 3, "greets")
	want := Pruned{Bodies: pruneBatch + 6, Executions: 1, Events: pruneBatch + 6}
	if got, err := s.Prune(t.Context(), Retention{hour(2), hour(2), hour(2)}); err != nil || got != want {
		t.Errorf("got %+v, want %+v, %v", got, want, err)
	}
	if n := h.count(`SELECT COUNT(*) FROM results`); n != 2 {
		t.Errorf("%d results are left, want 2", n)
	}
}

// What Prune looks at costs no more than what is old.
func TestPruneUsesIndexes(t *testing.T) {
	s := openTest(t)
	checkPlan(t, s, oldBodies, 1, 1)
	checkPlan(t, s, oldExecutions, 1, 1, 1)
	checkPlan(t, s, oldEvents, 1, 1, "", 1)
	checkPlan(t, s, oldReports, 1, 1, 1)
}

func TestBatches(t *testing.T) {
	list := []old{{id: "a", due: true, size: pruneBytes + 1}, {id: "b"}, {id: "c", due: true, size: pruneBytes}, {id: "d", due: true}, {id: "e", due: true, size: 1}, {id: "f", due: true}}
	if diff := cmp.Diff([][]string{{"a"}, {"c", "d"}, {"e", "f"}}, batches(list)); diff != "" {
		t.Error(diff)
	}
	if got := batches(list[1:2]); got != nil {
		t.Errorf("got %v", got)
	}
}

// Files that cannot be removed keep their execution, and no other.
func TestPruneFilesThatStay(t *testing.T) {
	s := openTest(t)
	h := newHistory(t, s)
	h.fill()
	var stuck string
	for id, name := range h.names {
		if name == "b1/greets" {
			stuck = id
		}
	}
	// Where there is no directory to look in there is nothing to be removed.
	shard := filepath.Join(s.dir.path, "executions", stuck[:2])
	h.must(os.Rename(shard, shard+".away"))
	h.must(os.Symlink("/", shard))
	p, err := s.Prune(t.Context(), Retention{Executions: hour(100)})
	if err == nil || !strings.Contains(err.Error(), "cannot remove the files of execution "+stuck) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Execution(t.Context(), stuck); err != nil {
		t.Error(err)
	}
	h.must(errors.Join(os.Remove(shard), os.Rename(shard+".away", shard)))
	q, err := s.Prune(t.Context(), Retention{Executions: hour(100)})
	if err != nil || p.Executions+q.Executions != 2 || q.Executions == 0 {
		t.Errorf("first %+v, then %+v, %v", p, q, err)
	}
}

func TestRemoveFilesOfNobody(t *testing.T) {
	s := openTest(t)
	if err := s.Files().Remove(uuid.NewString()); err != nil {
		t.Error(err)
	}
	if err := s.Files().Remove("../.."); !errors.Is(err, assay.ErrNotFound) {
		t.Errorf("a path: %v", err)
	}
}

// countdown is a context that ends when it was asked so often.
type countdown struct {
	context.Context
	left atomic.Int64
	once sync.Once
	done chan struct{}
}

func endAfter(ctx context.Context, n int) *countdown {
	c := &countdown{Context: ctx, done: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *countdown) Done() <-chan struct{} { c.asked(); return c.done }

func (c *countdown) Err() error {
	if c.asked() {
		return context.Canceled
	}
	return nil
}

func (c *countdown) asked() bool {
	if c.left.Add(-1) >= 0 {
		return false
	}
	c.once.Do(func() { close(c.done) })
	return true
}

// reopen opens a store that the test closes.
func reopen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Cut short anywhere, pruning leaves nothing that the next run does not find.
func TestPruneCutShort(t *testing.T) {
	all := Retention{hour(100), hour(100), hour(100)}
	past := t.TempDir()
	h := newHistory(t, reopen(t, past))
	h.fill()
	h.must(h.s.Close())
	want := ""
	for n := 0; ; n += 3 {
		dir := t.TempDir()
		h.must(os.CopyFS(dir, os.DirFS(past)))
		h.s = reopen(t, dir)
		_, cut := h.s.Prune(endAfter(t.Context(), n), all)
		h.must(h.s.Close())
		h.s = reopen(t, dir)
		for _, id := range filesOf(t, h.s) {
			if _, err := h.s.Execution(t.Context(), id); err != nil {
				t.Errorf("after %d: files that nothing names: %v", n, err)
			}
		}
		if _, err := h.s.Prune(t.Context(), all); err != nil {
			t.Errorf("after %d: %v", n, err)
		}
		left := h.left()
		h.must(h.s.Close())
		if want == "" {
			want = left
		}
		if diff := cmp.Diff(want, left); diff != "" {
			t.Fatalf("cut short after %d:\n%s", n, diff)
		}
		if cut == nil {
			break
		}
	}
	if !strings.HasPrefix(want, "n4\nb1 n4 b6 b7 p8\n") {
		t.Errorf("left is\n%s", want)
	}
}

package web

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

var executionLinks = regexp.MustCompile(`class="c-check"><a href="(/executions/[^"]+)"`)

func TestPagingShowsEveryExecutionOnce(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	older := regexp.MustCompile(`href="([^"]+)" rel="next">Older`)
	for start, want := range map[string]int{"/": 76, "/?state=finished": 74, "/?package=rpms%2Fgzip": 24, "/packages/rpms/hello": 52} {
		seen := map[string]bool{}
		for target := start; target != ""; {
			page := wantStatus(t, get(t, router, target), 200)
			for _, m := range executionLinks.FindAllStringSubmatch(page, -1) {
				if seen[m[1]] {
					t.Errorf("%s: %s is there twice", start, m[1])
				}
				seen[m[1]] = true
			}
			target = ""
			if m := older.FindStringSubmatch(page); m != nil {
				target = strings.ReplaceAll(m[1], "&amp;", "&")
			}
		}
		if len(seen) != want {
			t.Errorf("%s: %d executions, want %d", start, len(seen), want)
		}
	}
}

func TestFrontPageOfANewServerSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	wantContains(t, wantStatus(t, get(t, w.router(t), "/"), 200), "No check has run yet", "assay lint", "assay hook install", "git push")
	wantContains(t, wantStatus(t, get(t, w.router(t), "/?state=queued"), 200), "Nothing here matches")
}

func TestTheReasonIsInTheList(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	wantContains(t, get(t, w.router(t), "/").Body.String(), "Step 2, &#34;greets by name&#34;, exited with 1")
}

func TestGrid(t *testing.T) {
	run := func(check, arch, item string, v assay.Verdict) assay.Execution {
		return assay.Execution{ID: check + item + string(v), Check: check, Arch: arch, Item: item, State: assay.StateFinished, Verdict: v}
	}
	g := makeGrid("rpms/gzip", []assay.Execution{
		run("a", "noarch", "gzip-2-1", "passed"), run("b", "x86_64", "gzip-2-1", "failed"), run("b", "s390x", "gzip-1-1", "passed"),
		run("a", "noarch", "gzip-2-1", "errored"), run("a", "noarch", "gzip-1-1", "skipped"),
	})
	var got []string
	for _, r := range g.Rows {
		line := r.Check + " " + r.Arch
		for _, c := range r.Cells {
			line += fmt.Sprintf(" | %s %d", c.Chip.Word, c.Runs)
		}
		got = append(got, line)
	}
	want := []string{"a  | passed 2 | skipped 1", "b x86_64 | failed 1 |  0", "b s390x |  0 | passed 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]gridItem{{"gzip-2-1", "2-1"}, {"gzip-1-1", "1-1"}}, g.Items); diff != "" {
		t.Error(diff)
	}
}

func TestGridIsBounded(t *testing.T) {
	var many []assay.Execution
	for i := range 3 * gridChecks {
		many = append(many, assay.Execution{ID: "x", Check: fmt.Sprint("c", i), Item: fmt.Sprint("i", i%20), State: assay.StateQueued})
	}
	g := makeGrid("x", many)
	if len(g.Items) != gridItems || len(g.Rows) != gridChecks || g.Cut != 3*gridChecks*gridItems/20-gridChecks {
		t.Errorf("%d items, %d rows, %d cut", len(g.Items), len(g.Rows), g.Cut)
	}
}

func TestShortItem(t *testing.T) {
	for item, want := range map[string]string{
		"hello-1.0-1.fc42": "1.0-1.fc42", "hello-": "hello-", "other-1-1": "other-1-1", "rpms/hello#" + goodCommit: "#8c1f0e7d5b",
		strings.Repeat("x", 40): strings.Repeat("x", 29) + "…",
	} {
		if got := shortItem("rpms/hello", item); got != want {
			t.Errorf("%s: %q, want %q", item, got, want)
		}
	}
}

func TestResultsArePagedWorstFirst(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	page := wantStatus(t, get(t, router, "/executions/"+idPassed), 200)
	wantContains(t, page, `href="/executions/`+idPassed+`?results=1000#results" rel="next">1350 more`, "1 to 1000 of 2350")
	first := strings.Index(page, "case-0500")
	if first < 0 || first > strings.Index(page, "case-0001") {
		t.Error("what needs inspection is not before what passed")
	}
	page = wantStatus(t, get(t, router, "/executions/"+idPassed+"?results=2000"), 200)
	if got := strings.Count(page, "pkg.greets.case-"); got != 350 {
		t.Errorf("the last page has %d results, want 350", got)
	}
}

// TestVerdictReasonEvidence keeps the order of the page: what happened, why,
// and the lines that show it, before anything else.
func TestVerdictReasonEvidence(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	page := get(t, w.router(t), "/executions/"+idFailed).Body.String()
	_, page, _ = strings.Cut(page, "<main")
	at := -1
	for _, part := range []string{`class="chip failed"`, "exited with 1", "What did not pass", "wanted &#34;Hello, Ada!&#34;", "The end of step 2", "FAIL",
		"?line=33#L33", "Timeline", "Results", "Artifacts", "assay run", "Facts"} {
		next := strings.Index(page, part)
		if next <= at {
			t.Fatalf("%q is at %d, not after what should come before it (%d)", part, next, at)
		}
		at = next
	}
	if strings.Contains(page, "Unpacking hello-data") {
		t.Error("the excerpt shows another step's lines")
	}
}

func TestConsoleIsShownOnlyWhereItHelps(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	router := w.router(t)
	wantContains(t, get(t, router, "/executions/"+idCrashed).Body.String(), "<details", "reboot: Power down", "its last 16 kB of 35 kB")
	if page := get(t, router, "/executions/"+idFailed).Body.String(); strings.Contains(page, "console") {
		t.Error("the console of a machine that did not crash is shown")
	}
}

func TestTimeline(t *testing.T) {
	w := newWorld(t)
	fillWorld(w)
	s, err := newServer(w.options())
	if err != nil {
		t.Fatal(err)
	}
	failed := w.executions[slices.IndexFunc(w.executions, func(e assay.Execution) bool { return e.ID == idFailed })]
	var got []string
	for _, e := range s.timelines(failed, w.steps[idFailed], map[int]int64{2: 26})[0].Entries {
		got = append(got, fmt.Sprintf("%d %s: %s, %s, %s+%s %s", e.Number, e.Label, e.Chip.Word, e.Took, e.X, e.Width, e.LogURL))
	}
	want := []string{
		"0 waiting in the queue: , 2.0 s, 0.00+7.87 ", "0 boot: ok, 14 s, 7.87+55.91 ", "0 upload: ok, 300 ms, 63.78+1.18 ",
		"1 install the build: ok, 4.6 s, 64.96+18.11 ", "2 greets by name: failed, 2.7 s, 83.07+10.63 /executions/" + idFailed + "/log?line=26#L26",
		"0 collect: ok, 1.6 s, 93.70+6.30 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTimelineBearsOddTimes(t *testing.T) {
	w := newWorld(t)
	s, err := newServer(w.options())
	if err != nil {
		t.Fatal(err)
	}
	e := assay.Execution{ID: "x", State: assay.StateFinished, Attempt: 2, Created: noon, Started: noon.Add(-time.Hour), Finished: noon}
	for _, tl := range s.timelines(e, []assay.StepRun{
		{Attempt: 1, Number: 1, Name: "its runner died", Started: noon}, {Attempt: 2, Number: 1, Name: "backwards", Started: noon, Finished: noon.Add(-time.Hour), Outcome: "ok"},
		{Attempt: 2, Number: 2, Name: "never", Outcome: "ok"}, {Attempt: 7, Number: 2, Name: "from the future"},
	}, nil) {
		for _, en := range tl.Entries {
			var x, width float64
			if _, err := fmt.Sscan(en.X+" "+en.Width, &x, &width); err != nil || x < 0 || width <= 0 || x+width > 100.01 {
				t.Errorf("%s: a bar from %s, %s wide", en.Label, en.X, en.Width)
			}
		}
	}
}

package dispatch

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

var update = flag.Bool("update", false, "write the golden files anew")

func page(kind, id string) string { return "http://assay.example/" + kind + "/" + id }

func TestComment(t *testing.T) {
	commit := assay.Commit{Repo: "/r", SHA: "abc"}
	finished := func(check string, v assay.Verdict, reason string) assay.Execution {
		return assay.Execution{ID: check, Check: check, Item: "hello-1.0-1", State: assay.StateFinished, Verdict: v, Reason: reason, Target: commit}
	}
	var many []assay.Result
	for range 15 {
		many = append(many, assay.Result{Outcome: assay.Failed, Checkname: "many.one", Note: "oops"})
	}
	tests := map[string][]commentRow{
		"one-failed": {{x: finished("greets", "failed", "1 of 3 failed: by-name"), page: "http://p/1", results: []assay.Result{
			{Outcome: assay.Passed, Checkname: "greets.world"},
			{Outcome: assay.Failed, Checkname: "greets.by-name", Note: "said 'Hello, !'"},
		}}},
		"green-again": {{x: finished("greets", "passed", "3 PASSED"), page: "http://p/1"}},
		"mixed": {
			{x: finished("a-good", "passed", "fine"), page: "http://p/1"},
			{x: assay.Execution{Check: "open", State: assay.StateRunning}, page: "http://p/2"},
			{x: finished("z-crashed", "crashed", "the check took its machine down"), page: "http://p/3"},
			{x: finished("many", "failed", "15 of 15 failed"), page: "http://p/4", results: many},
		},
		"hostile": {{x: finished("x`y", "failed", "<script>alert(1)</script> ![x](http://e) @everyone\n# head | cell"), page: "http://p/1", results: []assay.Result{
			{Outcome: assay.Failed, Checkname: "a`b\x00c", Note: "**bold** [link](javascript:1) <img src=x> @admin \x1b[31m"},
		}}},
	}
	for name, rows := range tests {
		t.Run(name, func(t *testing.T) {
			got := renderComment(rows)
			golden := filepath.Join("testdata", "comment-"+name+".md")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestFinalReports(t *testing.T) {
	x := assay.Execution{ID: "id", Check: "c", Arch: "x86_64", Target: assay.Commit{Repo: "/r", SHA: "s"}, State: assay.StateFinished}
	tests := []struct {
		verdict   assay.Verdict
		commented bool
		state     assay.StatusState
		text      string
		comment   bool
	}{
		{assay.VerdictPassed, false, "success", "why", false},
		{assay.VerdictPassed, true, "success", "why", true},
		{assay.VerdictFailed, false, "failure", "why", true},
		{assay.VerdictCrashed, false, "failure", "crashed: why", true},
		{assay.VerdictErrored, false, "error", "errored: why", true},
		{assay.VerdictCancelled, false, "error", "cancelled: why", true},
		{assay.VerdictSkipped, false, "success", "skipped: why", false},
	}
	for _, tt := range tests {
		x.Verdict, x.Reason = tt.verdict, "why"
		got := FinalReports(x, page, tt.commented)
		want := assay.Status{Context: "assay/c/x86_64", State: tt.state, Description: tt.text, URL: "http://assay.example/executions/id"}
		if len(got) == 0 || got[0].Status != want || (len(got) == 2) != tt.comment {
			t.Errorf("%s: %+v", tt.verdict, got)
		}
	}
	x.Target = assay.Commit{}
	if got := FinalReports(x, page, true); len(got) != 0 {
		t.Errorf("without a commit: %+v", got)
	}
}

func TestOneLine(t *testing.T) {
	long := strings.Repeat("ä", 200)
	for in, want := range map[string]string{
		"a\nb\t c":         "a b c",
		"\x1b[31mred\x00":  "[31mred",
		long:               strings.Repeat("ä", 139) + "…",
		"a" + long[:2*139]: "a" + long[:2*139],
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) is %q", in, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 10: time.Minute, 1000: time.Minute} {
		if got := backoff(tries, time.Second, time.Minute); got != want {
			t.Errorf("after %d: %s, want %s", tries, got, want)
		}
	}
}

// outbox holds reports in memory and tells what became of them.
type outbox struct {
	mu     sync.Mutex
	owed   []assay.Report
	broken map[int64]int // how often writing down the report's fate fails
	fate   map[int64]string
	left   int           // reports without a fate
	ended  chan struct{} // closed when there are none
}

func (o *outbox) OwedReports(context.Context, time.Time, int) ([]assay.Report, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.owed
	o.owed = nil
	return list, nil
}

func (o *outbox) end(id int64, fate string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken[id] > 0 && fate != "begun " {
		o.broken[id]--
		return errors.New("disk full")
	}
	o.fate[id] += fate
	if fate != "begun " {
		if o.left--; o.left == 0 {
			close(o.ended)
		}
	}
	return nil
}

func (o *outbox) ReportBegun(_ context.Context, id int64) error { return o.end(id, "begun ") }
func (o *outbox) ReportSent(_ context.Context, id int64) error  { return o.end(id, "sent") }
func (o *outbox) ReportFailed(_ context.Context, id int64, reason string, _ time.Time) error {
	return o.end(id, "failed: "+reason)
}

func (o *outbox) ReportDropped(_ context.Context, id int64, reason string) error {
	return o.end(id, "dropped: "+reason)
}

// forge has the statuses that it was given, and fails as the commit's name asks.
type forge struct {
	mu   sync.Mutex
	set  map[string][]assay.Status
	have assay.Status
}

var errGone = errors.New("no such commit")

func (f *forge) SetStatus(_ context.Context, c assay.Commit, s assay.Status) error {
	switch c.SHA {
	case "gone":
		return errGone
	case "busy":
		return errors.New("come back later")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set[c.SHA] = append(f.set[c.SHA], s)
	return nil
}

func (f *forge) Comment(context.Context, assay.Commit, string, string) error { return nil }

func (f *forge) Status(context.Context, assay.Commit, string) (assay.Status, bool, error) {
	return f.have, true, nil
}

func TestReporter(t *testing.T) {
	status := assay.Status{Context: "assay/c", State: "success"}
	f := &forge{set: map[string][]assay.Status{}, have: status}
	box := &outbox{fate: map[int64]string{}, broken: map[int64]int{1: 2}, left: 5, ended: make(chan struct{}), owed: []assay.Report{
		{ID: 1, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "fine"}, Status: status},
		{ID: 2, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "gone"}, Status: status},
		{ID: 3, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "busy"}, Status: status},
		{ID: 4, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "again"}, Status: status, Tries: 1},
		{ID: 5, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "changed"}, Status: assay.Status{Context: "assay/c", State: "failure"}, Tries: 1},
	}}
	r := &Reporter{
		Outbox: box, Page: page, Log: zerolog.Nop(), Wake: NewSignal(),
		Forge:   func(string) (Forge, error) { return f, nil },
		Refused: func(err error) (bool, time.Duration) { return errors.Is(err, errGone), 0 },
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-box.ended
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	want := map[int64]string{
		1: "begun sent", 2: "begun dropped: no such commit", 3: "begun failed: come back later",
		4: "begun sent", 5: "begun sent",
	}
	for id, fate := range want {
		if box.fate[id] != fate {
			t.Errorf("report %d: %q, want %q", id, box.fate[id], fate)
		}
	}
	if len(f.set["again"]) != 0 {
		t.Error("a status that had arrived before the crash was sent again")
	}
	if len(f.set["changed"]) != 1 || len(f.set["fine"]) != 1 {
		t.Errorf("sent: %v", f.set)
	}
}

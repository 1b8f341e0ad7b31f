package dispatch

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
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
		}, excerpt: []string{"$ ./hello --name", "Hello, !", "</details>", "```", "FAIL: by-name"}}},
		"green-again": {{x: finished("greets", "passed", "3 PASSED"), page: "http://p/1"}},
		"mixed": {
			{x: finished("a-good", "passed", "fine"), page: "http://p/1"},
			{x: assay.Execution{Check: "open", State: assay.StateRunning}, page: "http://p/2"},
			{x: finished("waived", "failed", "no"), page: "http://p/5", waiver: assay.Waiver{Context: "assay/waived", By: "octocat", Reason: "known, see #7"}},
			{x: finished("z-crashed", "crashed", "the check took its machine down"), page: "http://p/3"},
			{x: finished("many", "failed", "15 of 15 failed"), page: "http://p/4", results: many},
		},
		"hostile": {{x: finished("x`y", "failed", "<script>alert(1)</script> ![x](http://e) @everyone\n# head | cell"), page: "http://p/1", results: []assay.Result{
			{Outcome: assay.Failed, Checkname: "a`b\x00c", Note: "**bold** [link](javascript:1) <img src=x> @admin \x1b[31m"},
		}}},
	}
	for name, rows := range tests {
		t.Run(name, func(t *testing.T) {
			got := renderComment(rows) + "\n=== as plain text\n" + renderText(rows)
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
		verdict assay.Verdict
		state   assay.StatusState
		text    string
	}{
		{assay.VerdictPassed, "success", "why"},
		{assay.VerdictFailed, "failure", "why"},
		{assay.VerdictCrashed, "failure", "crashed: why"},
		{assay.VerdictErrored, "error", "errored: why"},
		{assay.VerdictCancelled, "error", "cancelled: why"},
		{assay.VerdictSkipped, "success", "skipped: why"},
	}
	for _, tt := range tests {
		x.Verdict, x.Reason = tt.verdict, "why"
		got := FinalReports(x, page)
		want := assay.Status{Context: "assay/c/x86_64", State: tt.state, Description: tt.text, URL: "http://assay.example/executions/id"}
		if len(got) != 3 || got[0].Status != want || got[1].Kind != assay.ReportWhole || got[2].Kind != assay.ReportComment {
			t.Errorf("%s: %+v", tt.verdict, got)
		}
	}
	x.Target = assay.Commit{}
	if got := FinalReports(x, page); len(got) != 0 {
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
	Outbox
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

func (o *outbox) CommentSent(_ context.Context, c assay.Commit, _ int64) (bool, error) {
	return strings.Contains(c.SHA, "commented"), nil
}

// forge has the statuses that it was given, and fails as the commit's name asks.
type forge struct {
	mu   sync.Mutex
	set  map[string][]assay.Status
	said []string
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

func (f *forge) Comment(_ context.Context, c assay.Commit, marker, body string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, c.SHA+" "+marker+" "+strings.SplitN(body, "\n", 2)[0])
	return nil
}

func (f *forge) React(_ context.Context, c assay.Commit, comment string, r assay.Reaction) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, comment+" "+string(r))
	return nil
}

func (f *forge) Status(context.Context, assay.Commit, string) (assay.Status, bool, error) {
	return f.have, true, nil
}

func TestReporter(t *testing.T) {
	status := assay.Status{Context: "assay/c", State: "success"}
	f := &forge{set: map[string][]assay.Status{}, have: status}
	box := &outbox{fate: map[int64]string{}, broken: map[int64]int{1: 2}, left: 6, ended: make(chan struct{}), owed: []assay.Report{
		{ID: 1, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "fine"}, Status: status},
		{ID: 2, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "gone"}, Status: status},
		{ID: 3, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "busy"}, Status: status},
		{ID: 4, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "again"}, Status: status, Tries: 1},
		{ID: 5, Kind: assay.ReportStatus, Commit: assay.Commit{SHA: "changed"}, Status: assay.Status{Context: "assay/c", State: "failure"}, Tries: 1},
		{ID: 6, Kind: assay.ReportComment, Commit: assay.Commit{SHA: "good"}},
	}}
	r := &Reporter{
		Outbox: box, History: history{}, Page: page, Log: zerolog.Nop(), Wake: NewSignal(),
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
		4: "begun sent", 5: "begun sent", 6: "dropped: there is nothing to say",
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

// history has one execution on each commit, that passed if the commit says so.
// Pull request 9 has its newest commit elsewhere.
type history struct{}

func (history) Executions(_ context.Context, f assay.ExecutionFilter) ([]assay.Execution, error) {
	x := assay.Execution{ID: "x", EventID: "e", Check: "c", State: assay.StateFinished, Verdict: assay.VerdictFailed, Target: f.Target}
	switch {
	case f.Target.SHA == "" && f.Target.PullRequest == 9:
		x.Target.SHA = "newer"
	case f.Target.SHA == "":
		return nil, nil
	case strings.Contains(f.Target.SHA, "none"):
		return nil, nil
	case strings.Contains(f.Target.SHA, "good"):
		x.Verdict = assay.VerdictPassed
	case strings.Contains(f.Target.SHA, "open"):
		return []assay.Execution{x, {ID: "y", Check: "y", State: assay.StateRunning, Target: f.Target}}, nil
	}
	return []assay.Execution{x}, nil
}

func (history) Results(context.Context, string) ([]assay.Result, error) { return nil, nil }

func (history) Waivers(_ context.Context, c assay.Commit) ([]assay.Waiver, error) {
	if strings.Contains(c.SHA, "waived") {
		return []assay.Waiver{{Context: "assay/c", By: "octocat"}}, nil
	}
	return nil, nil
}

func TestComments(t *testing.T) {
	const bad, good = "report Assay: 1 of 1 checks did not pass.", "report Assay: the check passed now."
	tests := []struct {
		mode   CommentMode
		commit assay.Commit
		report assay.Report
		want   string // "" for nothing
	}{
		{"", assay.Commit{SHA: "bad"}, assay.Report{}, bad},
		{"", assay.Commit{SHA: "good"}, assay.Report{}, ""},
		{"", assay.Commit{SHA: "bad-waived"}, assay.Report{}, ""},
		{"", assay.Commit{SHA: "good-commented"}, assay.Report{}, good},
		{"", assay.Commit{SHA: "good-again"}, assay.Report{Tries: 1}, good}, // it may have arrived, with older news
		{"", assay.Commit{SHA: "good-asked"}, assay.Report{Body: "help"}, good},
		{"", assay.Commit{SHA: "bad", PullRequest: 8}, assay.Report{}, bad},
		{"", assay.Commit{SHA: "bad", PullRequest: 9}, assay.Report{}, ""},
		{CommentAlways, assay.Commit{SHA: "good"}, assay.Report{}, good},
		{CommentNever, assay.Commit{SHA: "bad"}, assay.Report{}, ""},
		{CommentNever, assay.Commit{SHA: "bad-commented"}, assay.Report{}, bad},
	}
	for _, tt := range tests {
		f := &forge{}
		r := &Reporter{Outbox: &outbox{}, History: history{}, Page: page, Comments: tt.mode, Forge: func(string) (Forge, error) { return f, nil }}
		tt.report.Kind, tt.report.Commit = assay.ReportComment, tt.commit
		err := say(t, r, tt.report)
		if said := strings.Join(f.said, "; "); tt.want == "" && (!errors.Is(err, errNothingToSay) || said != "") || tt.want != "" && (err != nil || said != tt.commit.SHA+" "+tt.want) {
			t.Errorf("%q on %+v: said %q, %v", tt.mode, tt.commit, said, err)
		}
	}
}

// say sends a report if it is wanted.
func say(t *testing.T, r *Reporter, report assay.Report) error {
	if err := r.wanted(t.Context(), report); err != nil {
		return err
	}
	return r.send(t.Context(), report)
}

// appender is a forge that cannot edit comments.
type appender struct{ *forge }

func (appender) Appends() bool { return true }

func TestWhereCommentsCannotBeEdited(t *testing.T) {
	f := &forge{}
	r := &Reporter{Outbox: &outbox{}, History: history{}, Page: page, Forge: func(string) (Forge, error) { return appender{f}, nil }}
	send := func(sha string) error {
		return say(t, r, assay.Report{Kind: assay.ReportComment, Commit: assay.Commit{SHA: sha}})
	}
	if err := send("open"); !errors.Is(err, errNothingToSay) || len(f.said) > 0 {
		t.Errorf("while one is running: %v, %v", f.said, err)
	}
	if err := send("bad"); err != nil || len(f.said) != 1 {
		t.Errorf("at the end: %v, %v", f.said, err)
	}
}

func TestWholeAndReaction(t *testing.T) {
	f := &forge{set: map[string][]assay.Status{}}
	r := &Reporter{
		Outbox: &outbox{}, History: history{}, Page: page, Forge: func(string) (Forge, error) { return f, nil },
		Refused: func(error) (bool, time.Duration) { return false, 0 },
	}
	whole := func(sha string) error {
		return r.send(t.Context(), assay.Report{Kind: assay.ReportWhole, Commit: assay.Commit{SHA: sha}})
	}
	if err := whole("bad"); err != nil || f.set["bad"][0].State != assay.StatusFailure || f.set["bad"][0].Context != "assay" {
		t.Errorf("got %+v, %v", f.set, err)
	}
	if err := whole("bad-waived"); err != nil || f.set["bad-waived"][0].State != assay.StatusSuccess {
		t.Errorf("got %+v, %v", f.set, err)
	}
	if err := whole("none"); !errors.Is(err, errNothingToSay) {
		t.Errorf("a commit without executions: %v", err)
	}
	reaction := assay.Report{Kind: assay.ReportReaction, Comment: "issue:7", Reaction: assay.ReactionDone}
	if err := r.send(t.Context(), reaction); err != nil || len(f.said) != 1 || f.said[0] != "issue:7 done" {
		t.Errorf("got %v, %v", f.said, err)
	}
	r.Forge = func(string) (Forge, error) { return struct{ Forge }{f}, nil }
	if err := r.send(t.Context(), reaction); !errors.Is(err, errNothingToSay) {
		t.Errorf("a forge without pictures: %v", err)
	}
}

func TestAnnotations(t *testing.T) {
	at := func(file, line string) map[string][]string {
		return map[string][]string{"file": {file}, "line": {line, "99"}}
	}
	got := annotations([]assay.Result{
		{Outcome: assay.Failed, Checkname: "pkg.a", Note: "unused", Data: at("src/a.c", "7")},
		{Outcome: assay.Passed, Checkname: "pkg.b", Data: at("b", "1")},
		{Outcome: assay.NeedsInspection, Data: at("c", "2")},
		{Outcome: assay.Failed, Data: at("d", "seven")},
		{Outcome: assay.Failed, Data: map[string][]string{"file": {"e"}}},
		{Outcome: assay.Failed, Data: map[string][]string{"line": {"1"}, "file": {}}},
	})
	want := []assay.Annotation{
		{Path: "src/a.c", Line: 7, Level: assay.AnnotationFailure, Title: "pkg.a", Message: "unused"},
		{Path: "b", Line: 1, Level: assay.AnnotationNotice, Title: "pkg.b", Message: "PASSED"},
		{Path: "c", Line: 2, Level: assay.AnnotationWarning, Message: "NEEDS_INSPECTION"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

package resultstest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/google/uuid"
)

func owed(t testing.TB, s *results.Store) []assay.Report {
	t.Helper()
	return must[[]assay.Report](t)(s.OwedReports(t.Context(), time.Now(), 100))
}

// owe writes reports as the end of an event, and returns what is owed then.
func owe(t testing.TB, s *results.Store, reports ...assay.Report) []assay.Report {
	t.Helper()
	id := addEvent(t, s, buildEvent("rpms/hello", uuid.NewString()))
	ok(t, s.FailEvent(t.Context(), id, "x", reports))
	return owed(t, s)
}

func texts(reports []assay.Report) []string {
	list := []string{}
	for _, r := range reports {
		list = append(list, r.Status.Description+r.Body)
	}
	return list
}

// history is text and state of every report for a commit.
func history(t testing.TB, s *results.Store, c assay.Commit) []string {
	t.Helper()
	var list []string
	for _, r := range must[[]results.ReportRecord](t)(s.ReportHistory(t.Context(), c)) {
		if r.Written.IsZero() || r.Ended.IsZero() != (r.State == results.ReportOwed || r.State == results.ReportSending) {
			t.Errorf("%s report: written %s, ended %s", r.State, r.Written, r.Ended)
		}
		list = append(list, r.Status.Description+r.Body+" "+string(r.State))
	}
	return list
}

func testReports(t *testing.T, open Open) {
	s := start(t, open)
	e := execution("rpms/hello", "x")
	want := []assay.Report{status(e, assay.StatusFailure, "no"), comment(e, "because")}
	got := owe(t, s, want...)
	if len(got) != 2 || got[0].ID <= 0 || got[1].ID <= got[0].ID {
		t.Fatalf("owed are %+v", got)
	}
	want[0].ID, want[1].ID = got[0].ID, got[1].ID
	same(t, "owed", got, want)
	one := must[[]assay.Report](t)(s.OwedReports(t.Context(), time.Now(), 1))
	same(t, "one owed", one, want[:1])

	id := got[0].ID
	if err := s.ReportSent(t.Context(), id); err == nil {
		t.Error("a report was sent that was never begun")
	}
	ok(t, s.ReportBegun(t.Context(), id))
	isErr(t, "begin twice", s.ReportBegun(t.Context(), id), assay.ErrFenced)
	ok(t, s.ReportSent(t.Context(), id))
	isErr(t, "begin when sent", s.ReportBegun(t.Context(), id), assay.ErrFinished)
	isErr(t, "sent twice", s.ReportSent(t.Context(), id), assay.ErrFinished)
	isErr(t, "fail when sent", s.ReportFailed(t.Context(), id, "x", time.Time{}), assay.ErrFinished)
	isErr(t, "drop when sent", s.ReportDropped(t.Context(), id, "x"), assay.ErrFinished)
	ok(t, s.ReportDropped(t.Context(), got[1].ID, "no such repository"))
	same(t, "owed", texts(owed(t, s)), []string{})
	same(t, "history", history(t, s, e.Target), []string{"no sent", "because dropped"})
	records := must[[]results.ReportRecord](t)(s.ReportHistory(t.Context(), e.Target))
	if records[0].Tries != 1 || records[1].Reason != "no such repository" {
		t.Errorf("the history is %+v", records)
	}
}

func testReportKeys(t *testing.T, open Open) {
	s := start(t, open)
	e := execution("rpms/hello", "x")
	change := func(text string, f func(*assay.Report)) assay.Report {
		r := status(e, assay.StatusSuccess, text)
		f(&r)
		return r
	}
	got := owe(t, s,
		change("first", func(r *assay.Report) {}),
		change("repo", func(r *assay.Report) { r.Commit.Repo = "other" }),
		change("sha", func(r *assay.Report) { r.Commit.SHA = "other" }),
		change("context", func(r *assay.Report) { r.Status.Context = "other" }),
		comment(e, "comment"),
		change("pull", func(r *assay.Report) { r.Commit.PullRequest = 99 }), // the same key as the first
	)
	same(t, "owed", texts(got), []string{"repo", "sha", "context", "comment", "pull"})
}

func testReportSupersede(t *testing.T, open Open) {
	s := start(t, open)
	e := begun(t, s)
	old := owe(t, s, status(e, assay.StatusPending, "queued"))[0]
	ok(t, s.Conclude(t.Context(), e.ID, 1, passed, []assay.Report{status(e, assay.StatusSuccess, "final")}))
	isErr(t, "begin a superseded report", s.ReportBegun(t.Context(), old.ID), assay.ErrFinished)
	isErr(t, "send a superseded report", s.ReportSent(t.Context(), old.ID), assay.ErrFinished)
	isErr(t, "fail a superseded report", s.ReportFailed(t.Context(), old.ID, "x", time.Time{}), assay.ErrFinished)
	same(t, "owed", texts(owed(t, s)), []string{"final"})
	same(t, "history", history(t, s, e.Target), []string{"queued superseded", "final owed"})
}

// While an old report is under way the newer one waits, so that the forge never
// gets them in the wrong order.
func testReportInFlight(t *testing.T, open Open) {
	s := start(t, open)
	e := execution("rpms/hello", "x")
	for _, end := range []struct {
		name string
		end  func(id int64) error
		want string
	}{
		{"sent", func(id int64) error { return s.ReportSent(t.Context(), id) }, "sent"},
		{"failed", func(id int64) error { return s.ReportFailed(t.Context(), id, "x", time.Time{}) }, "superseded"},
		{"dropped", func(id int64) error { return s.ReportDropped(t.Context(), id, "x") }, "dropped"},
	} {
		e.Target.SHA = end.name
		old := owe(t, s, status(e, assay.StatusPending, "old"))
		ok(t, s.ReportBegun(t.Context(), old[0].ID))
		if got := owe(t, s, status(e, assay.StatusSuccess, "new")); len(got) != 0 {
			t.Errorf("%s: owed while the old one is under way: %v", end.name, texts(got))
		}
		records := must[[]results.ReportRecord](t)(s.ReportHistory(t.Context(), e.Target))
		isErr(t, end.name+": begin the new one", s.ReportBegun(t.Context(), records[1].ID), assay.ErrFenced)
		ok(t, end.end(old[0].ID))
		same(t, end.name, history(t, s, e.Target), []string{"old " + end.want, "new owed"})
		ok(t, s.ReportBegun(t.Context(), records[1].ID))
		ok(t, s.ReportSent(t.Context(), records[1].ID))
	}
	testReportOrder(t, s, e)
}

// Senders and writers race; what the forge saw last must be what was written
// last.
func testReportOrder(t *testing.T, s *results.Store, e assay.Execution) {
	e.Target.SHA = "race"
	var mu sync.Mutex
	var forge []int64
	send := func() error {
		due, err := s.OwedReports(t.Context(), time.Now(), 10)
		for _, r := range due {
			if err := s.ReportBegun(t.Context(), r.ID); err != nil {
				if errors.Is(err, assay.ErrFenced) || errors.Is(err, assay.ErrFinished) {
					continue
				}
				return err
			}
			mu.Lock()
			forge = append(forge, r.ID)
			mu.Unlock()
			if err := s.ReportSent(t.Context(), r.ID); err != nil {
				return err
			}
		}
		return err
	}
	for _, err := range together(24, func(i int) error {
		if i%3 != 0 {
			return send()
		}
		id, _, err := s.AddEvent(t.Context(), buildEvent("rpms/hello", fmt.Sprint("race", i)), nil, nil)
		if err != nil {
			return err
		}
		return s.FailEvent(t.Context(), id, "x", []assay.Report{status(e, assay.StatusSuccess, fmt.Sprint(i))})
	}) {
		ok(t, err)
	}
	ok(t, send())
	records := must[[]results.ReportRecord](t)(s.ReportHistory(t.Context(), e.Target))
	for i := 1; i < len(forge); i++ {
		if forge[i] <= forge[i-1] {
			t.Errorf("the forge saw the reports %v, out of order", forge)
		}
	}
	if last := records[len(records)-1]; last.ID != forge[len(forge)-1] || last.State != results.ReportSent {
		t.Errorf("the forge saw %v, the last one written is %d, %s", forge, last.ID, last.State)
	}
}

func testReportRetry(t *testing.T, open Open) {
	s := start(t, open)
	e := execution("rpms/hello", "x")
	r := owe(t, s, status(e, assay.StatusSuccess, "final"))[0]
	now := time.Now()
	ok(t, s.ReportBegun(t.Context(), r.ID))
	ok(t, s.ReportFailed(t.Context(), r.ID, "502", now.Add(time.Minute)))
	for _, tt := range []struct {
		now  time.Time
		want int
	}{{now, 0}, {now.Add(59 * time.Second), 0}, {now.Add(time.Minute), 1}} {
		if got := must[[]assay.Report](t)(s.OwedReports(t.Context(), tt.now, 10)); len(got) != tt.want {
			t.Errorf("%s later %d are due, want %d", tt.now.Sub(now), len(got), tt.want)
		}
	}
	got := must[[]results.ReportRecord](t)(s.ReportHistory(t.Context(), e.Target))[0]
	if got.Tries != 1 || got.Reason != "502" || got.State != results.ReportOwed {
		t.Errorf("after a failure: %+v", got)
	}
	ok(t, s.ReportFailed(t.Context(), r.ID, "rate limit", now)) // without having been begun
	same(t, "owed", texts(owed(t, s)), []string{"final"})
	// A newer one does not wait for the older one's time.
	ok(t, s.ReportFailed(t.Context(), r.ID, "rate limit", now.Add(time.Hour)))
	same(t, "owed", texts(owe(t, s, status(e, assay.StatusSuccess, "newer"))), []string{"newer"})
}

// A process that died while sending leaves reports that may have arrived: owed
// again, with their tries, unless there is a newer one.
func testReportRecovery(t *testing.T, open Open) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := execution("rpms/hello", "a"), execution("rpms/hello", "b")
	both := owe(t, s, status(a, assay.StatusPending, "a old"), status(b, assay.StatusSuccess, "b"))
	for _, r := range both {
		ok(t, s.ReportBegun(t.Context(), r.ID))
	}
	owe(t, s, status(a, assay.StatusSuccess, "a new"))
	ok(t, s.Close())

	s = open(t, dir)
	defer s.Close()
	got := owed(t, s)
	same(t, "owed", texts(got), []string{"b", "a new"})
	if got[0].Tries != 1 || got[1].Tries != 0 {
		t.Errorf("tries are %d and %d, want 1 and 0", got[0].Tries, got[1].Tries)
	}
	same(t, "history", history(t, s, a.Target), []string{"a old superseded", "b owed", "a new owed"})
}

func testReportUnknown(t *testing.T, open Open) {
	s := start(t, open)
	isErr(t, "begin", s.ReportBegun(t.Context(), 7), assay.ErrNotFound)
	isErr(t, "sent", s.ReportSent(t.Context(), 7), assay.ErrNotFound)
	isErr(t, "failed", s.ReportFailed(t.Context(), 7, "", time.Time{}), assay.ErrNotFound)
	isErr(t, "dropped", s.ReportDropped(t.Context(), 7, ""), assay.ErrNotFound)
}

func testCommentSent(t *testing.T, open Open) {
	s := start(t, open)
	e := execution("rpms/hello", "x")
	except := int64(0)
	check := func(when string, want bool) {
		t.Helper()
		if got := must[bool](t)(s.CommentSent(t.Context(), e.Target, except)); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("nothing owed", false)
	got := owe(t, s, status(e, assay.StatusFailure, "no"), comment(e, "first"))
	ok(t, s.ReportBegun(t.Context(), got[0].ID))
	ok(t, s.ReportSent(t.Context(), got[0].ID))
	check("only a status was sent", false)
	ok(t, s.ReportBegun(t.Context(), got[1].ID))
	check("under way", true)
	except = got[1].ID
	check("under way, but it is the one that asks", false)
	except = 0
	ok(t, s.ReportDropped(t.Context(), got[1].ID, "not allowed"))
	check("refused by the forge", false)
	second := owe(t, s, comment(e, "second"))[0]
	ok(t, s.ReportBegun(t.Context(), second.ID))
	ok(t, s.ReportSent(t.Context(), second.ID))
	owe(t, s, comment(e, "third"))
	check("sent, and another owed", true)
	e.Target.SHA = "other"
	check("another commit of the pull request", true)
	e.Target.PullRequest = 0
	check("another commit", false)
}

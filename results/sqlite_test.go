package results

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

func openTest(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestPragmas(t *testing.T) {
	s := openTest(t)
	for _, tt := range []struct{ pragma, want string }{
		{"journal_mode", "wal"}, {"synchronous", "2"}, {"foreign_keys", "1"}, {"busy_timeout", "10000"}, {"query_only", "0"},
	} {
		var got string
		err := s.write(t.Context(), func(x *tx) error { return x.get([]any{&got}, "PRAGMA "+tt.pragma) })
		if err != nil || got != tt.want {
			t.Errorf("the writer's %s is %q, want %q (%v)", tt.pragma, got, tt.want, err)
		}
		if tt.pragma == "query_only" {
			tt.want = "1"
		}
		if err := s.reads.QueryRowContext(t.Context(), "PRAGMA "+tt.pragma).Scan(&got); err != nil || got != tt.want {
			t.Errorf("the readers' %s is %q, want %q (%v)", tt.pragma, got, tt.want, err)
		}
	}
	if _, err := s.reads.ExecContext(t.Context(), "DELETE FROM counters"); err == nil {
		t.Error("a reader could write")
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	err = s.write(t.Context(), func(x *tx) error {
		return x.do("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), dir)
	want := "a newer assay wrote it (version 99, this one knows 3): upgrade assay"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want … %s", err, want)
	}
}

// Every filter finds its rows, already in order, in an index: a page costs the
// same with ten million executions.
func TestFiltersUseIndexes(t *testing.T) {
	s := openTest(t)
	target := assay.Commit{Repo: "r", SHA: "s"}
	for _, f := range []assay.ExecutionFilter{
		{}, {Package: "p"}, {EventID: "e"}, {Target: target},
		{State: assay.StateQueued}, {Package: "p", State: assay.StateQueued},
	} {
		for _, before := range []int64{0, 7} {
			query, args := filterQuery(f, before)
			checkPlan(t, s, query, args...)
		}
	}
	checkPlan(t, s, `SELECT id FROM events WHERE state = 'new' AND retry_at <= ? ORDER BY received, id LIMIT ?`, 1, 1)
	checkPlan(t, s, `SELECT id FROM events ORDER BY received DESC, id DESC LIMIT ?`, 1)
	checkPlan(t, s, `SELECT id FROM events WHERE package <> '' AND package = ? AND kind = 'build' AND ignored = ''
		ORDER BY received DESC, id DESC LIMIT 1`, "p")
	checkPlan(t, s, owedQuery, 1, 1)
}

func checkPlan(t *testing.T, s *Store, query string, args ...any) {
	t.Helper()
	rows, err := s.reads.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	lines, err := collect(rows, err, func(row scanner) (text string, err error) {
		var id, parent, unused int
		err = row.Scan(&id, &parent, &unused, &text)
		return text, err
	})
	if err != nil || len(lines) == 0 {
		t.Fatalf("%s: %v", query, err)
	}
	plan := strings.Join(lines, "; ")
	ordered := strings.Contains(query, "FROM executions ORDER BY") // the table itself is in order
	if strings.Contains(plan, "TEMP B-TREE") || (!ordered && strings.HasPrefix(plan, "SCAN") && !strings.Contains(plan, "INDEX")) {
		t.Errorf("%s:\n%s", query, plan)
	}
}

// idleWriter takes the place of the store's own, without its goroutine.
func idleWriter(t *testing.T, s *Store) *writer {
	s.writer.close()
	w := &writer{told: func() {}, tx: &tx{ctx: t.Context(), conn: s.conn, stmts: map[string]*sql.Stmt{}}}
	t.Cleanup(w.tx.close)
	return w
}

// Members of one group share a transaction, and one that fails, or whose caller
// has left, takes nothing of the others with it.
func TestGroupCommit(t *testing.T) {
	s := openTest(t)
	w := idleWriter(t, s)
	own := errors.New("own")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	set := func(name string, err error) func(*tx) error {
		return func(x *tx) error {
			if err := x.do("INSERT INTO counters (name, value) VALUES ('" + name + "', 1)"); err != nil {
				return err
			}
			return err
		}
	}
	group := []*member{
		{ctx: t.Context(), fn: set("a", nil)},
		{ctx: t.Context(), fn: set("b", own)},
		{ctx: gone, fn: set("c", nil)},
		{ctx: t.Context(), fn: set("a", nil)}, // a constraint fails
		{ctx: t.Context(), fn: set("d", nil)},
	}
	for _, m := range group {
		m.done = make(chan struct{})
	}
	w.commit(group)
	for i, m := range group {
		<-m.done
		if good := i == 0 || i == 4; good != (m.err == nil) {
			t.Errorf("member %d: %v", i, m.err)
		}
	}
	if !errors.Is(group[1].err, own) || !errors.Is(group[2].err, context.Canceled) {
		t.Errorf("the errors are %v and %v", group[1].err, group[2].err)
	}
	var names string
	err := s.reads.QueryRowContext(t.Context(), `SELECT group_concat(name) FROM (SELECT name FROM counters WHERE value = 1 ORDER BY name)`).Scan(&names)
	if err != nil || names != "a,d" {
		t.Errorf("kept are %q, want a,d (%v)", names, err)
	}
}

// A failure that ends the transaction itself, as a full disk does, reaches
// everybody in the group, and the next group works.
func TestSpoiltGroup(t *testing.T) {
	s := openTest(t)
	w := idleWriter(t, s)
	group := []*member{
		{ctx: t.Context(), fn: func(x *tx) error { return x.do("INSERT INTO counters (name, value) VALUES ('a', 1)") }},
		{ctx: t.Context(), fn: func(x *tx) error { return errors.Join(x.do("ROLLBACK"), errors.New("disk full")) }},
		{ctx: t.Context(), fn: func(x *tx) error { return x.do("INSERT INTO counters (name, value) VALUES ('b', 1)") }},
	}
	for _, m := range group {
		m.done = make(chan struct{})
	}
	w.commit(group)
	for i, m := range group {
		if m.err == nil || !strings.Contains(m.err.Error(), "disk full") {
			t.Errorf("member %d was told %v", i, m.err)
		}
	}
	next := &member{ctx: t.Context(), done: make(chan struct{}), fn: func(x *tx) error {
		return x.do("INSERT INTO counters (name, value) VALUES ('a', 1)")
	}}
	w.commit([]*member{next})
	if next.err != nil {
		t.Errorf("the next group fails: %v", next.err)
	}
}

func TestFullDatabase(t *testing.T) {
	s := openTest(t)
	err := s.write(t.Context(), func(x *tx) error {
		var pages int
		return x.get([]any{&pages}, "PRAGMA max_page_count = 1")
	})
	if err != nil {
		t.Fatal(err)
	}
	var full error
	for range 200 {
		if _, _, full = s.AddEvent(t.Context(), assay.Event{Source: "s"}, nil, make([]byte, 64<<10)); full != nil {
			break
		}
	}
	if full == nil || !strings.HasPrefix(full.Error(), "cannot keep event") {
		t.Fatalf("a full database gave %v", full)
	}
	err = s.write(t.Context(), func(x *tx) error {
		var pages int
		return x.get([]any{&pages}, "PRAGMA max_page_count = 1000000")
	})
	if err == nil {
		_, _, err = s.AddEvent(t.Context(), assay.Event{Source: "s"}, nil, make([]byte, 64<<10))
	}
	if err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Open(ctx, dir); err == nil {
		t.Fatal("opened without a context")
	}
	ctx, cancel = context.WithCancel(t.Context())
	s, err := Open(ctx, dir)
	if err != nil {
		t.Fatalf("a failed opening left the directory locked: %v", err)
	}
	cancel()
	defer s.Close()
	if _, _, err := s.AddEvent(t.Context(), assay.Event{Source: "s"}, nil, nil); err != nil {
		t.Errorf("the store ended with the context that opened it: %v", err)
	}
}

func TestLockNamesNobodyItCannotRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), lockFile)
	if err := os.WriteFile(name, []byte("rm -rf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := holder(name); got != "(unknown)" {
		t.Errorf("got %q", got)
	}
}

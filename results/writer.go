package results

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"modernc.org/sqlite"
)

// maxGroup bounds how many write functions share one transaction, and with it
// how long the first of them waits.
const maxGroup = 256

var errClosed = errors.New("the store is closed")

// writer is the one goroutine that writes. Whoever wants to write while a
// transaction is being made durable waits, and all who wait share the next one:
// its cost, the wait for the disk, is paid once for all of them.
type writer struct {
	tx   *tx
	told func() // of each commit
	last int    // members of the last group
	in   chan *member
	quit chan struct{}
	done chan struct{}
	stop sync.Once
}

// member is one write function on its way through a group.
type member struct {
	ctx  context.Context
	fn   func(*tx) error
	one  bool          // at most one of its statements writes: there is never half of it
	err  error         // set before done is closed
	done chan struct{} // closed when the fate of the write is known
}

// newWriter takes over the connection, until close. ctx must not end before.
func newWriter(ctx context.Context, conn *sql.Conn, told func()) *writer {
	w := &writer{
		told: told,
		tx:   &tx{ctx: ctx, conn: conn, stmts: map[string]*sql.Stmt{}},
		in:   make(chan *member),
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	go w.run()
	return w
}

// write runs fn in a transaction and returns when its outcome is on disk. When
// fn fails nothing of it is kept, and its error is returned. fn runs on another
// goroutine, once, and never after write has returned.
func (w *writer) write(ctx context.Context, fn func(*tx) error) error {
	return w.join(&member{ctx: ctx, fn: fn, done: make(chan struct{})})
}

// writeOne is write for a function of whose statements at most one writes, the
// last that it runs. It is spared the savepoint.
func (w *writer) writeOne(ctx context.Context, fn func(*tx) error) error {
	return w.join(&member{ctx: ctx, fn: fn, one: true, done: make(chan struct{})})
}

func (w *writer) join(m *member) error {
	ctx := m.ctx
	select {
	case w.in <- m:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return errClosed
	}
	<-m.done
	return m.err
}

// close lets the running group finish and joins the goroutine. The connection
// stays the caller's to close.
func (w *writer) close() {
	w.stop.Do(func() { close(w.quit) })
	<-w.done
}

func (w *writer) run() {
	defer close(w.done)
	defer w.tx.close()
	for {
		select {
		case m := <-w.in:
			w.commit(w.gather(m))
		case <-w.quit:
			return
		}
	}
}

// gatherWait is how long those are waited for who came to the last group: they
// have their answers, and may be about to write again. It is less than the wait for
// the disk that each of them saves the others.
const gatherWait = time.Millisecond

// gather takes whoever is waiting right now into the first one's group, and those
// who come at once if the last group was larger.
func (w *writer) gather(first *member) []*member {
	group := []*member{first}
	defer func() { w.last = len(group) }()
	timer := time.NewTimer(gatherWait)
	defer timer.Stop()
	for len(group) < maxGroup {
		select {
		case m := <-w.in:
			group = append(group, m)
			continue
		default:
		}
		if len(group) >= w.last {
			break
		}
		select {
		case m := <-w.in:
			group = append(group, m)
		case <-timer.C:
			return group
		}
	}
	return group
}

// commit runs a group in one transaction and answers its members.
func (w *writer) commit(group []*member) {
	err := w.transact(group)
	for _, m := range group {
		if m.err == nil {
			m.err = err
		}
		close(m.done)
	}
}

func (w *writer) transact(group []*member) error {
	if err := w.begin(); err != nil {
		return fmt.Errorf("cannot begin a transaction: %v", err)
	}
	kept := 0
	for _, m := range group {
		ok, err := w.try(m)
		if err != nil {
			w.tx.do("ROLLBACK")
			return err
		}
		if ok {
			kept++
		}
	}
	if kept == 0 {
		return w.tx.do("ROLLBACK")
	}
	if err := w.tx.do("COMMIT"); err != nil {
		w.tx.do("ROLLBACK")
		return fmt.Errorf("cannot write the database: %v", err)
	}
	w.told()
	return nil
}

// begin clears away a transaction that an earlier failure may have left open.
func (w *writer) begin() error {
	err := w.tx.do("BEGIN IMMEDIATE")
	if err == nil {
		return nil
	}
	w.tx.do("ROLLBACK")
	return w.tx.do("BEGIN IMMEDIATE")
}

// try runs one member between savepoints. An error of its own stays its own; the
// error that is returned has spoilt the whole transaction, as a full disk does.
func (w *writer) try(m *member) (kept bool, err error) {
	if m.err = m.ctx.Err(); m.err != nil {
		return false, nil
	}
	if m.one {
		m.err = m.fn(w.tx)
		if broken := (*sqlite.Error)(nil); errors.As(m.err, &broken) {
			return false, fmt.Errorf("cannot write the database: %v", m.err) // which may have ended the transaction
		}
		return m.err == nil, nil
	}
	if err := w.tx.do("SAVEPOINT member"); err != nil {
		return false, fmt.Errorf("cannot begin a write: %v", err)
	}
	if m.err = m.fn(w.tx); m.err != nil {
		if err := w.tx.do("ROLLBACK TO member"); err != nil {
			return false, fmt.Errorf("cannot write the database: %v", m.err)
		}
	}
	if err := w.tx.do("RELEASE member"); err != nil {
		return false, fmt.Errorf("cannot end a write: %v", err)
	}
	return m.err == nil, nil
}

// tx is what a write function works with. Its statements run under the writer's
// own context: the end of a caller's would interrupt SQLite, which then rolls
// back the whole group.
type tx struct {
	ctx   context.Context
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by their text, which is constant
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s := t.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.conn.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, err
	}
	t.stmts[query] = s
	return s, nil
}

func (t *tx) do(query string) error {
	_, err := t.exec(query)
	return err
}

// exec returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(t.ctx, cleaned(args)...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// get scans the one row of a query; sql.ErrNoRows if there is none.
func (t *tx) get(dest []any, query string, args ...any) error {
	s, err := t.stmt(query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(t.ctx, cleaned(args)...).Scan(dest...)
}

func (t *tx) query(query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmt(query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(t.ctx, cleaned(args)...)
}

func (t *tx) close() {
	for _, s := range t.stmts {
		s.Close()
	}
}

// next reserves n numbers of a counter and returns the first.
func (t *tx) next(counter string, n int) (int64, error) {
	if _, err := t.exec(`UPDATE counters SET value = value + ? WHERE name = ?`, n, counter); err != nil {
		return 0, err
	}
	var last int64
	err := t.get([]any{&last}, `SELECT value FROM counters WHERE name = ?`, counter)
	return last - int64(n) + 1, err
}

package results

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"
)

// How the log of writes (SQLite's WAL) is brought into the database: beside the
// writer, so that no commit waits for it, unless the log has grown beyond bounds.
const (
	checkpointEvery = 250 * time.Millisecond
	checkpointQuery = `PRAGMA wal_checkpoint(PASSIVE)`
	checkpointFirm  = `PRAGMA wal_checkpoint(RESTART)`
	mostLog         = 16_000 // pages, 64 MB
)

// checkpointer is the goroutine that does so.
type checkpointer struct {
	db      *sql.DB // a connection of its own
	commits atomic.Int64
	seen    int64
	quit    chan struct{}
	done    chan struct{}
}

func newCheckpointer(ctx context.Context, db *sql.DB) *checkpointer {
	c := &checkpointer{db: db, quit: make(chan struct{}), done: make(chan struct{})}
	go c.run(ctx)
	return c
}

// committed tells that the log has grown.
func (c *checkpointer) committed() { c.commits.Add(1) }

func (c *checkpointer) close() error {
	close(c.quit)
	<-c.done
	return c.db.Close()
}

func (c *checkpointer) run(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-tick.C:
			c.once(ctx)
		}
	}
}

// once copies what it can. What it cannot, because somebody reads an older state,
// is copied the next time; errors are those of the disk, which the writer meets,
// too.
func (c *checkpointer) once(ctx context.Context) {
	now := c.commits.Load()
	if now == c.seen {
		return
	}
	c.seen = now
	var busy, log, copied int
	if err := c.db.QueryRowContext(ctx, checkpointQuery).Scan(&busy, &log, &copied); err != nil || log < mostLog {
		return
	}
	_ = c.db.QueryRowContext(ctx, checkpointFirm).Scan(&busy, &log, &copied)
}

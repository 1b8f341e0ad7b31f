// Package results is the store: events, executions with every state they went
// through, their results, and the reports that are owed to forges. What a method
// has returned without an error is on disk.
//
// A data directory holds the database and the files (logs, artifacts), and
// belongs to one process at a time. All writing goes through one goroutine that
// commits many callers' writes together; reading has connections of its own and
// never waits for a writer.
package results

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// Store is an open data directory. Its methods may be called from any goroutine
// and fail after Close. Errors wrap assay.ErrNotFound, assay.ErrFenced or
// assay.ErrFinished where the method says so, and the context's error.
type Store struct {
	dir    *directory
	files  *Files
	writes *sql.DB
	conn   *sql.Conn // the only connection of writes; the writer's
	reads  *sql.DB
	writer *writer
	points *checkpointer
	close  sync.Once
}

// Open opens the data directory dir, which is made if need be, and brings its
// database up to date. It fails when another process has it open and when a
// newer version of the program wrote it. Reports whose sending was under way
// when the last process ended are owed again. ctx bounds only the opening.
func Open(ctx context.Context, dir string) (*Store, error) {
	d, err := takeDirectory(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: d}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.files, err = OpenFiles(s.dir.path); err != nil {
		return err
	}
	if s.writes, s.reads, err = openSQLite(ctx, s.dir.path); err != nil {
		return err
	}
	if s.conn, err = s.writes.Conn(ctx); err != nil {
		return fmt.Errorf("cannot open the database in %s: %v", s.dir.path, err)
	}
	points, err := sql.Open("sqlite", sqliteDSN(filepath.Join(s.dir.path, databaseFile), false))
	if err != nil {
		return fmt.Errorf("cannot open the database in %s: %v", s.dir.path, err)
	}
	points.SetMaxOpenConns(1)
	s.points = newCheckpointer(context.WithoutCancel(ctx), points)
	s.writer = newWriter(context.WithoutCancel(ctx), s.conn, s.points.committed)
	return s.recoverReports(ctx)
}

// Close waits for the writes that were taken up, refuses others, and gives the
// data directory back. A second call does nothing.
func (s *Store) Close() error {
	var errs []error
	s.close.Do(func() {
		if s.writer != nil {
			s.writer.close()
		}
		if s.points != nil {
			errs = append(errs, s.points.close())
		}
		if s.reads != nil {
			errs = append(errs, s.reads.Close())
		}
		if s.conn != nil {
			errs = append(errs, s.conn.Close())
		}
		if s.writes != nil {
			errs = append(errs, s.writes.Close())
		}
		if s.files != nil {
			errs = append(errs, s.files.Close())
		}
		errs = append(errs, s.dir.release())
	})
	return errors.Join(errs...)
}

// Owner is a UUID that was made with the data directory and stays: machines
// carry it, so that a reaper knows its own.
func (s *Store) Owner() string { return s.dir.owner }

// Files keeps the logs and artifacts of this data directory. It is closed with
// the store.
func (s *Store) Files() *Files { return s.files }

func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	return s.writer.write(ctx, fn)
}

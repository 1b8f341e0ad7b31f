package results

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// sqliteDSN says how one connection to the file is to be opened. The driver runs
// busy_timeout before everything else, as it must be: already the switch to WAL
// may find the file locked.
func sqliteDSN(file string, readOnly bool) string {
	q := url.Values{"_pragma": {
		"busy_timeout(10000)",
		"foreign_keys(1)",
		"synchronous(FULL)",
	}}
	if readOnly {
		q.Set("mode", "ro")
		q.Set("_query_only", "1")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "journal_size_limit(67108864)")
		q.Add("_pragma", "wal_autocheckpoint(0)") // see checkpointer
	}
	u := url.URL{Scheme: "file", Path: file, RawQuery: q.Encode()}
	return u.String()
}

// ownerOnly makes the file, empty, unless it is there, and takes it from others.
func ownerOnly(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the database: %v: make it writable for the user that runs assay", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return fmt.Errorf("cannot open the database %s: %v", file, err)
	}
	return nil
}

// openSQLite opens the file in dir with every migration applied: one connection
// that writes, and a pool that cannot.
func openSQLite(ctx context.Context, dir string) (writes, reads *sql.DB, err error) {
	file, err := filepath.Abs(filepath.Join(dir, databaseFile))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot find the database in %s: %v", dir, err)
	}
	// Payloads may hold secrets. SQLite gives its side files the same mode.
	if err := ownerOnly(file); err != nil {
		return nil, nil, err
	}
	if writes, err = sql.Open("sqlite", sqliteDSN(file, false)); err != nil {
		return nil, nil, fmt.Errorf("cannot open the database %s: %v", file, err)
	}
	writes.SetMaxOpenConns(1)
	if err := migrate(ctx, writes, file); err != nil {
		writes.Close()
		return nil, nil, err
	}
	if reads, err = sql.Open("sqlite", sqliteDSN(file, true)); err != nil {
		writes.Close()
		return nil, nil, fmt.Errorf("cannot open the database %s for reading: %v", file, err)
	}
	n := max(4, runtime.GOMAXPROCS(0))
	reads.SetMaxOpenConns(n)
	reads.SetMaxIdleConns(n)
	return writes, reads, nil
}

// migrate brings the database to the newest version that this program knows,
// and refuses one that is newer still.
func migrate(ctx context.Context, db *sql.DB, file string) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("cannot read the migrations: %v", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sub,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("cannot read the migrations: %v", err)
	}
	have, know, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the version of the database %s: %v: if it is damaged, put a backup in its place", file, err)
	}
	if have > know {
		return fmt.Errorf("cannot open the database %s: a newer assay wrote it (version %d, this one knows %d): upgrade assay", file, have, know)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("cannot bring the database %s up to date: %v", file, err)
	}
	return nil
}

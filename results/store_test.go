package results_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/results"
	"github.com/assay-ci/assay/results/resultstest"
)

func openStore(t testing.TB, dir string) *results.Store {
	t.Helper()
	s, err := results.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSQLite(t *testing.T) { resultstest.Run(t, openStore) }

func TestOpenTakesAnyDirectoryName(t *testing.T) {
	for _, name := range []string{"a b", "50%", "a?mode=memory", "a#b", "ü", "a&_pragma=x", "deep/er"} {
		dir := filepath.Join(t.TempDir(), name)
		s := openStore(t, dir)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		info, err := os.Stat(filepath.Join(dir, "assay.db"))
		if err != nil || info.Size() == 0 {
			t.Errorf("%s: the database is not where it should be: %v", name, err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the database has mode %v: others may read secrets in payloads", name, info.Mode())
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the directory has mode %v: others may read secrets in payloads", name, info.Mode())
		}
	}
}

func TestOpenRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := openStore(t, "data").Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("data/assay.db"); err != nil {
		t.Error(err)
	}
}

func TestTwoProcessesNeverShareADirectory(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := results.Open(t.Context(), dir)
	want := fmt.Sprintf("cannot use the data directory %s: process %d uses it: stop that one, or name another directory", dir, os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openStore(t, dir).Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, file, text, want string
	}{
		{"newer layout", "VERSION", "2\n", "a newer assay wrote it (layout 2, this one knows 1): upgrade assay"},
		{"no number", "VERSION", "hello\n", "VERSION should hold a number"},
		{"negative", "VERSION", "-1\n", "VERSION should hold a number"},
		{"broken owner", "OWNER", "root\n", `"root" is not a UUID`},
		{"no database", "assay.db", strings.Repeat("not a database\n", 100), "cannot read the version of the database"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := results.Open(t.Context(), dir)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", tt.name, err)
		}
		if err := os.Remove(filepath.Join(dir, tt.file)); err != nil {
			t.Fatal(err)
		}
		if err := openStore(t, dir).Close(); err != nil {
			t.Errorf("%s: the refusal left the directory unusable: %v", tt.name, err)
		}
	}
}

// What a backup or a crash copies is the database with its log, mid-flight.
func TestCopyOfALiveDatabaseIsWhole(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	s := openStore(t, dir)
	defer s.Close()
	var acknowledged []string
	for i := range 50 {
		id, _, err := s.AddEvent(t.Context(), assay.Event{Source: "git", Delivery: strconv.Itoa(i)}, nil, bytes.Repeat([]byte("x"), 8<<10))
		if err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, id)
	}
	for _, name := range []string{"assay.db", "assay.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := openStore(t, copied)
	defer c.Close()
	for _, id := range acknowledged {
		if _, err := c.Event(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkAddEvent is the intake: 64 connections, each waiting until its 8 KB
// are on disk.
func BenchmarkAddEvent(b *testing.B) {
	s := openStore(b, b.TempDir())
	defer s.Close()
	header := http.Header{"X-Github-Event": {"push"}, "X-Github-Delivery": {"8c5a1f0e-7a0f-4b7e-9d43-0b9f2c1d4e5f"}}
	body := bytes.Repeat([]byte(`{"key":"value"},`), 512)
	var n atomic.Int64
	b.SetParallelism(max(1, 64/parallelism()))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := strconv.FormatInt(n.Add(1), 10)
			e := assay.Event{Source: "github", Delivery: i, Meaning: "meaning of " + i, Kind: assay.EventPush,
				Repo: "rpms/hello", Ref: "refs/heads/main", Commit: "c0ffee"}
			if _, fresh, err := s.AddEvent(b.Context(), e, header, body); err != nil || !fresh {
				b.Errorf("fresh %v, %v", fresh, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

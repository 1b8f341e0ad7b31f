package results

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/assay-ci/assay"
	"github.com/google/uuid"
)

// maxLine bounds notes and reasons: they are one line on a page.
const maxLine = 1000

// stamp is how a time is kept: the zero time as 0, which no event ever had.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// cleaned makes strings fit for any database: PostgreSQL takes neither NUL nor
// broken UTF-8, and a sender may send both.
func cleaned(args []any) []any {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clean(s)
		}
	}
	return args
}

func clean(s string) string {
	if !strings.ContainsRune(s, 0) && utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

// line makes one bounded line of what may be many.
func line(s string) string {
	s = strings.Join(strings.Fields(clean(s)), " ")
	if len(s) <= maxLine {
		return s
	}
	s = s[:maxLine-len("…")]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// encode writes a value as JSON, "" for a nil one.
func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot write %T as JSON: %v", v, err)
	}
	if string(b) == "null" {
		return "", nil
	}
	return string(b), nil
}

func decode(s string, v any) error {
	if s == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s), v); err != nil {
		return fmt.Errorf("cannot read a %T from the database: %v", v, err)
	}
	return nil
}

// checkID keeps everything that is not a UUID in its usual spelling out of the
// database and, above all, out of paths.
func checkID(id string) error {
	if u, err := uuid.Parse(id); err != nil || u.String() != id {
		return fmt.Errorf("%.50q is not a UUID in lower case", id)
	}
	return nil
}

// newID is a UUID whose order is that of its making.
func newID() (string, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("cannot make a UUID: %v", err)
	}
	return u.String(), nil
}

// absent turns the driver's word for "no such row" into ours.
func absent(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return assay.ErrNotFound
	}
	return err
}

// scanner is a row: *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// collect reads all rows and closes them.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

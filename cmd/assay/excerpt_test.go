package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

// logDir has a log ID.N for each attempt.
type logDir string

func (d logDir) OpenLog(id string, attempt int) (*os.File, error) {
	return os.Open(filepath.Join(string(d), fmt.Sprintf("%s.%d", id, attempt)))
}

func TestExcerpt(t *testing.T) {
	const at = "2026-11-21T17:15:10.123Z "
	var long strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&long, at+"1 out line %d of many\n", i)
	}
	tests := map[string]struct {
		log  string
		want []string
	}{
		"nothing":   {"", nil},
		"own-words": {at + "0 run boot: ok\n" + at + "1 run step 1: look (shell)\n", nil},
		"both":      {at + "1 run $ make\n" + at + "1 out good\n" + at + "1 err bad  thing\n" + at + "1 run failed\n", []string{"good", "bad  thing"}},
		"torn":      {at + "1 out good\n2026", []string{"good"}},
		"long":      {long.String(), nil},
	}
	dir := logDir(t.TempDir())
	for name, tt := range tests {
		if err := os.WriteFile(filepath.Join(string(dir), name+".2"), []byte(tt.log), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := excerpt(dir, assay.Execution{ID: name, Attempt: 2})
		if name == "long" {
			if err != nil || len(got) != excerptLines || got[excerptLines-1] != "line 2999 of many" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tt.want)
		}
	}
	if got, err := excerpt(dir, assay.Execution{ID: "removed", Attempt: 1}); err != nil || got != nil {
		t.Errorf("a log that is gone: %q, %v", got, err)
	}
}

package fetch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/assay-ci/assay/internal/filelock"
)

// touch marks an entry as used.
func touch(file string) error {
	now := time.Now()
	if err := os.Chtimes(file, now, now); err != nil {
		return fmt.Errorf("cannot mark a download as used: %w", err)
	}
	return nil
}

// kept is one entry as Trim sees it.
type kept struct {
	base  string // the path of its files, without their suffixes
	bytes int64
	used  time.Time
}

// Trim removes entries, the longest unused first, until what is left fits into
// Bytes. What is in use at this moment stays, and so does everything when another
// process is trimming.
func (c *Cache) Trim() error {
	if c.Bytes <= 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "locks"), 0o700); err != nil {
		return fmt.Errorf("cannot make the download cache: %w", err)
	}
	unlock, err := filelock.Try(filepath.Join(c.Dir, "locks", "trim"))
	if errors.Is(err, filelock.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	entries, err := c.list()
	if err != nil {
		return err
	}
	for _, k := range surplus(entries, c.Bytes) {
		err = errors.Join(err, c.drop(k.base))
	}
	return err
}

// surplus picks what must go, the longest unused first.
func surplus(entries []kept, limit int64) []kept {
	sum := int64(0)
	for _, k := range entries {
		sum += k.bytes
	}
	slices.SortFunc(entries, func(a, b kept) int { return a.used.Compare(b.used) })
	for i, k := range entries {
		if sum <= limit {
			return entries[:i]
		}
		sum -= k.bytes
	}
	return entries
}

// list finds every entry; one that vanishes meanwhile is none.
func (c *Cache) list() ([]kept, error) {
	files, err := filepath.Glob(filepath.Join(c.Dir, "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		return nil, fmt.Errorf("cannot look into the download cache: %w", err)
	}
	found := make(map[string]*kept)
	var entries []*kept
	for _, file := range files {
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		base := filepath.Join(filepath.Dir(file), name)
		k := found[base]
		if k == nil {
			k = &kept{base: base}
			found[base] = k
			entries = append(entries, k)
		}
		k.bytes += info.Size()
		// The data keep the time of their download; notes and parts tell of use.
		if used := info.ModTime(); used.After(k.used) && !strings.HasSuffix(file, ".data") {
			k.used = used
		}
	}
	all := make([]kept, len(entries))
	for i, k := range entries {
		all[i] = *k
	}
	return all, nil
}

// drop removes one entry unless somebody is at it.
func (c *Cache) drop(base string) error {
	key := filepath.Base(base)
	if len(key) < 3 {
		return nil // not ours
	}
	unlock, err := filelock.Try(c.lockOf(key))
	if errors.Is(err, filelock.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	e := entry{base + ".data", base + ".json", base + ".part", base + ".part.json", ""}
	return errors.Join(e.removeFiles(), forget(base+".json.new"), forget(base+".part.json.new"))
}

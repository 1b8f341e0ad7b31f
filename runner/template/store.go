package template

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/internal/filelock"
)

// Store is a directory of templates. Any number of processes may use it at the
// same time.
type Store struct {
	Root   string // absolute
	Budget int64  // bytes that all templates together may take; 0 for any number
}

// Find gives the newest whole template of a key. The error is an
// assay.ErrNotFound when there is none.
func (s Store) Find(key string) (Template, error) {
	list, _ := s.all(key) // the damaged ones are Prune's
	if len(list) == 0 {
		return Template{}, fmt.Errorf("cannot find the template %s: %w", key, assay.ErrNotFound)
	}
	return list[0], nil
}

// List lists the whole templates, newest use first.
func (s Store) List() ([]Template, error) {
	list, _ := s.all("")
	slices.SortFunc(list, func(a, b Template) int { return b.Used.Compare(a.Used) })
	return list, nil
}

// all reads the templates of a key, or all of them, newest first; damaged are
// the directories of the others.
func (s Store) all(key string) (whole []Template, damaged []string) {
	entries, err := os.ReadDir(s.Root)
	if err != nil {
		return nil, nil // there is none yet
	}
	for _, entry := range entries {
		if !dirName.MatchString(entry.Name()) || !strings.HasPrefix(entry.Name(), key) {
			continue
		}
		dir := filepath.Join(s.Root, entry.Name())
		t, err := read(dir)
		if err != nil {
			damaged = append(damaged, dir)
			continue
		}
		whole = append(whole, t)
	}
	slices.SortFunc(whole, func(a, b Template) int { return b.Built.Compare(a.Built) })
	return whole, damaged
}

// Publish makes a template of the plain files in dir, which lies on the same
// file system and is moved. It takes the place of an older one of its key.
func (s Store) Publish(dir string, recipe Recipe, took time.Duration) (Template, error) {
	t, err := s.publish(dir, recipe, took)
	if err != nil {
		return t, fmt.Errorf("cannot keep a template: %w", err)
	}
	return t, nil
}

func (s Store) publish(dir string, recipe Recipe, took time.Duration) (Template, error) {
	boot, err := bootID()
	if err != nil {
		return Template{}, err
	}
	f := file{
		Version: formatVersion, Key: recipe.Key(), Recipe: recipe, Took: took, Boot: boot,
		Built: time.Now().UTC(), Files: map[string]string{},
	}
	if err := os.WriteFile(filepath.Join(dir, usedName), nil, 0o600); err != nil {
		return Template{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Template{}, err
	}
	for _, entry := range entries {
		if entry.Name() == usedName {
			continue
		}
		if f.Files[entry.Name()], err = stamp(filepath.Join(dir, entry.Name())); err != nil {
			return Template{}, err
		}
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, describes), text, 0o644)
	}
	target := filepath.Join(s.Root, f.Key+"-"+generation())
	if err == nil {
		err = os.Rename(dir, target)
	}
	if err != nil {
		return Template{}, err
	}
	return read(target)
}

func generation() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Remove removes every template whose key begins with key, of at least four
// digits, and tells how many. One that is being forked this moment stays.
func (s Store) Remove(key string) (int, error) {
	if len(key) < 4 {
		return 0, fmt.Errorf("cannot remove templates by %q: give at least four digits of the key", key)
	}
	return s.remove(key)
}

// RemoveAll removes every template, damaged ones, too, and tells how many.
func (s Store) RemoveAll() (int, error) { return s.remove("") }

func (s Store) remove(key string) (int, error) {
	whole, damaged := s.all(key)
	removed := 0
	for _, t := range whole {
		damaged = append(damaged, t.Dir)
	}
	for _, dir := range damaged {
		ok, err := s.discard(dir)
		if err != nil {
			return removed, err
		}
		if ok {
			removed++
		}
	}
	return removed, nil
}

// Prune removes what no fork will be made of: damaged templates, those that a
// newer one has taken the place of, and, until the rest is within the budget,
// those that were not used for longest; keep is never removed. It returns the
// keys of what went for want of room.
func (s Store) Prune(keep string) ([]string, error) {
	whole, unwanted := s.all("")
	newest := map[string]bool{}
	var rest []Template
	for _, t := range whole {
		if newest[t.Key] {
			unwanted = append(unwanted, t.Dir)
			continue
		}
		newest[t.Key] = true
		rest = append(rest, t)
	}
	gone, err := filepath.Glob(filepath.Join(s.Root, goneMark+"*"))
	for _, dir := range gone {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	for _, dir := range unwanted {
		_, derr := s.discard(dir)
		err = errors.Join(err, derr)
	}
	evicted, eerr := s.evict(rest, keep)
	return evicted, errors.Join(err, eerr)
}

// evict removes templates, least recently used first, until the others are
// within the budget.
func (s Store) evict(list []Template, keep string) ([]string, error) {
	if s.Budget <= 0 {
		return nil, nil
	}
	var sum int64
	for _, t := range list {
		sum += t.Size
	}
	slices.SortFunc(list, func(a, b Template) int { return a.Used.Compare(b.Used) })
	var evicted []string
	for _, t := range list {
		if sum <= s.Budget {
			break
		}
		if t.Key == keep {
			continue
		}
		ok, err := s.discard(t.Dir)
		if err != nil {
			return evicted, err
		}
		if ok {
			sum -= t.Size
			evicted = append(evicted, t.Key)
		}
	}
	return evicted, nil
}

// discard removes a template's directory, unless it is held. It goes out of
// sight in one step, so that nobody finds half of it.
func (s Store) discard(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, describes))
	if err == nil {
		defer func() { _ = f.Close() }() // only a lock
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return false, nil
		}
	}
	gone := filepath.Join(s.Root, goneMark+filepath.Base(dir))
	err = os.Rename(dir, gone)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // another process was quicker
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return false, fmt.Errorf("cannot remove a template: %w", err)
	}
	return true, nil
}

// Lock waits until nobody else makes the template of a key, in any process;
// waiting is called once if that takes a while. The lock ends with the process
// at the latest.
func (s Store) Lock(ctx context.Context, key string, waiting func()) (unlock func(), err error) {
	if unlock, err = filelock.Wait(ctx, filepath.Join(s.Root, "."+key+".lock"), waiting); err != nil {
		return nil, fmt.Errorf("cannot make the template %s: %w", key, err)
	}
	return unlock, nil
}

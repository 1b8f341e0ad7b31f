package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"

	"github.com/assay-ci/assay/internal/filelock"
)

// Cache keeps downloads on the disk, for all processes that share its directory.
// An entry is a file and a note of what it is; both appear by a rename, under the
// entry's lock. What a killed process left half is gone on with.
type Cache struct {
	Dir   string // made if need be
	Bytes int64  // what Trim leaves at most; 0 for any number
}

// Use is the cache for one batch of downloads; done ends it, and trims the cache.
// A nil Cache is one below scratch ("" for the system's temporary directory) that
// done removes.
func (c *Cache) Use(scratch string) (cache *Cache, done func() error, err error) {
	if c != nil {
		return c, c.Trim, nil
	}
	dir, err := os.MkdirTemp(scratch, "assay-downloads-")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a directory for downloads: %w", err)
	}
	return &Cache{Dir: dir}, func() error { return os.RemoveAll(dir) }, nil
}

// Want is one file to have.
type Want struct {
	URL  string
	Name string // for messages
	Size int64  // what it must have, in bytes; 0 when nobody knows
	// About is what it probably has, for whoever waits; 0 when nobody knows.
	About int64
	Max   int64 // what it may have
	// Fixed tells that what is at URL never changes: what is kept need not be asked
	// about again.
	Fixed bool
	// Check looks at the whole file; its error throws the file away. May be nil.
	Check func(*os.File) error
}

// note is what is known of a kept file, or of a half one.
type note struct {
	URL      string
	ETag     string `json:",omitempty"`
	Modified string `json:",omitempty"` // Last-Modified, as the server wrote it
	Size     int64  `json:",omitempty"`
	SHA256   string `json:",omitempty"`
}

// entry is where one address is kept.
type entry struct{ data, note, part, partNote, lock string }

func (c *Cache) entry(address string) entry {
	sum := sha256.Sum256([]byte(address))
	key := hex.EncodeToString(sum[:])
	base := filepath.Join(c.Dir, key[:2], key)
	return entry{base + ".data", base + ".json", base + ".part", base + ".part.json", c.lockOf(key)}
}

// lockOf is the lock of an entry. Entries share some thousands of them, so that
// lock files, which must never be removed, do not pile up.
func (c *Cache) lockOf(key string) string { return filepath.Join(c.Dir, "locks", key[:3]) }

// Have puts what is wanted into dir under name, downloaded or kept from before,
// and returns its size. Directories of name are made; nothing is written outside
// dir. Errors of a final answer are assay.ErrFetchRefused.
func (c *Cache) Have(ctx context.Context, web *Web, want Want, dir *os.Root, name string, tell *Teller) (int64, error) {
	e := c.entry(want.URL)
	for _, d := range []string{filepath.Dir(e.data), filepath.Dir(e.lock)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return 0, fmt.Errorf("cannot make the download cache: %w", err)
		}
	}
	for again := false; ; again = true {
		n, err := c.have(ctx, web, want, e, dir, name, tell)
		if !errors.Is(err, errSpoilt) || again {
			return n, err
		}
		tell.Line("the kept copy of %s is damaged: downloading it again", want.Name)
	}
}

// errSpoilt tells that a kept file is not what was kept.
var errSpoilt = errors.New("the kept copy is damaged")

func (c *Cache) have(ctx context.Context, web *Web, want Want, e entry, dir *os.Root, name string, tell *Teller) (int64, error) {
	unlock, err := filelock.Wait(ctx, e.lock, func() { tell.Line("waiting: %s is being downloaded already", want.Name) })
	if err != nil {
		return 0, err
	}
	kept, err := c.refresh(ctx, web, want, e, tell)
	var file *os.File
	if err == nil {
		file, err = os.Open(e.data)
	}
	unlock()
	if err != nil {
		return 0, err
	}
	defer file.Close() // removed or not, the open file is whole
	n, err := copyOut(file, dir, name, kept)
	if errors.Is(err, errSpoilt) {
		err = errors.Join(err, c.remove(ctx, e))
	}
	return n, err
}

// refresh makes the entry be there and be current; its lock is held.
func (c *Cache) refresh(ctx context.Context, web *Web, want Want, e entry, tell *Teller) (note, error) {
	kept, there := readNote(e.note, want.URL)
	if info, err := os.Stat(e.data); err != nil || info.Size() != kept.Size {
		there = false
	}
	switch {
	case there && want.Max > 0 && kept.Size > want.Max:
		return note{}, tooLarge(want.Max)
	case there && want.Size > 0 && kept.Size != want.Size:
		there = false
	case there && want.Fixed:
		return kept, touch(e.note)
	}
	old := note{}
	if there {
		old = kept
	}
	d := &download{web: web, want: want, part: e.part, partNote: e.partNote, old: old, progress: tell.begin(want.Name)}
	fresh, unchanged, err := d.run(ctx)
	if err != nil {
		return note{}, err
	}
	if unchanged {
		return kept, touch(e.note)
	}
	return fresh, publish(e, fresh)
}

// publish makes a finished part the entry. A kill between the two renames leaves
// a note that does not fit its file, which nobody takes.
func publish(e entry, fresh note) error {
	if err := os.Rename(e.part, e.data); err != nil {
		return fmt.Errorf("cannot keep a download: %w", err)
	}
	if err := writeNote(e.note, fresh); err != nil {
		return err
	}
	return forget(e.partNote)
}

// remove takes an entry away, half ones too.
func (c *Cache) remove(ctx context.Context, e entry) error {
	unlock, err := filelock.Wait(ctx, e.lock, func() {})
	if err != nil {
		return err
	}
	defer unlock()
	return e.removeFiles()
}

func (e entry) removeFiles() error {
	return errors.Join(forget(e.note), forget(e.data), forget(e.partNote), forget(e.part))
}

// forget is os.Remove of what may be gone already.
func forget(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot clean the download cache: %w", err)
	}
	return nil
}

// copyOut writes a kept file to its place and proves on the way that it is what
// was kept.
func copyOut(file *os.File, dir *os.Root, name string, kept note) (int64, error) {
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return 0, fmt.Errorf("cannot make a directory for %s: %w", shown(name), err)
	}
	out, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return 0, fmt.Errorf("cannot write %s: %w", shown(name), err)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), file)
	if err = errors.Join(err, out.Close()); err != nil {
		return n, fmt.Errorf("cannot write %s: %w", shown(name), err)
	}
	if n != kept.Size || hex.EncodeToString(sum.Sum(nil)) != kept.SHA256 {
		return n, errSpoilt
	}
	return n, nil
}

// maxNote bounds a note, in bytes.
const maxNote = 64 << 10

// readNote reads what is known of an entry; false when that is nothing.
func readNote(file, address string) (note, bool) {
	f, err := os.Open(file)
	if err != nil {
		return note{}, false
	}
	defer f.Close()
	var n note
	err = json.NewDecoder(io.LimitReader(f, maxNote)).Decode(&n)
	return n, err == nil && n.URL == address
}

func writeNote(file string, n note) error {
	data, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("cannot write a note of a download: %w", err)
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return fmt.Errorf("cannot write a note of a download: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("cannot keep a note of a download: %w", err)
	}
	return nil
}

// noteOf is what an answer says of what it brings.
func noteOf(address string, header http.Header) note {
	return note{URL: address, ETag: cut(header.Get("ETag"), 1000), Modified: cut(header.Get("Last-Modified"), 100)}
}

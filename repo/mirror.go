package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// damagedFile in a mirror tells that it lacks an object, or has one that cannot
// be read: whoever takes the lock next makes the mirror anew.
const damagedFile = "assay-damaged"

// mirror is a bare repository that the holder of its lock may write to.
type mirror struct {
	dir     string
	address address
	limits  Limits
	store   *filesystem.Storage
}

func (c *Cache) mirrorDir(a address) string { return filepath.Join(c.dir, a.name()+".git") }

// source opens the mirror for reading, which needs no lock: packs appear whole.
func (c *Cache) source(a address) (*source, func()) {
	return c.sourceWith(a, filesystem.Options{})
}

// reading is source for many reads: it keeps files open until it is closed.
func (c *Cache) reading(a address) (*source, func()) {
	return c.sourceWith(a, filesystem.Options{KeepDescriptors: true})
}

func (c *Cache) sourceWith(a address, options filesystem.Options) (*source, func()) {
	dir, closing := c.mirrorDir(a), func() {}
	open := func() objectReader {
		closing()
		st := openStore(dir, options)
		closing = func() { _ = st.Close() } // only read from
		return st
	}
	lost := func() {
		if _, err := os.Stat(dir); err == nil {
			_ = writeFile(filepath.Join(dir, damagedFile), nil) // the reader has its error already
		}
	}
	s := newSource(c.limits, open, lost)
	return s, func() { closing() }
}

func openStore(dir string, options filesystem.Options) *filesystem.Storage {
	return filesystem.NewStorageWithOptions(osfs.New(dir, osfs.WithBoundOS()), cache.NewObjectLRU(16*cache.MiByte), options)
}

// locked runs work on the mirror of the address while nobody else in any
// process writes to it. A mirror that is missing or damaged is made first.
func (c *Cache) locked(ctx context.Context, a address, work func(context.Context, *mirror) error) error {
	gate := c.gate(a.name())
	select {
	case gate <- struct{}{}:
		defer func() { <-gate }()
	case <-ctx.Done():
		return fmt.Errorf("its mirror is in use: %w", ctx.Err())
	}
	unlock, err := lockFile(ctx, filepath.Join(c.dir, a.name()+".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	m := &mirror{dir: c.mirrorDir(a), address: a, limits: c.limits}
	if err := m.prepare(); err != nil {
		return err
	}
	defer func() { _ = m.store.Close() }() // what matters was synced
	return work(ctx, m)
}

func (c *Cache) gate(name string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	gate, ok := c.gates[name]
	if !ok {
		gate = make(chan struct{}, 1)
		c.gates[name] = gate
	}
	return gate
}

// prepare opens the mirror, after it cleaned up what a killed process left.
func (m *mirror) prepare() error {
	for _, leftover := range []string{m.dir + ".new", m.dir + ".old"} {
		if err := os.RemoveAll(leftover); err != nil {
			return fmt.Errorf("cannot remove an old mirror: %v: remove it", err)
		}
	}
	if !m.sound() {
		return m.remake()
	}
	m.removePartial()
	m.store = openStore(m.dir, filesystem.Options{KeepDescriptors: true})
	// Reading any object makes go-git read every index.
	if err := m.store.HasEncodedObject(plumbing.ZeroHash); err != nil && !errors.Is(err, plumbing.ErrObjectNotFound) {
		return m.remake()
	}
	return nil
}

// sound tells whether the mirror can be used: complete, not found damaged, not
// in too many pieces.
func (m *mirror) sound() bool {
	if _, err := os.Lstat(m.damaged()); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if _, err := os.Stat(filepath.Join(m.dir, "HEAD")); err != nil {
		return false
	}
	packs := m.packFiles("pack-", ".pack")
	for _, pack := range packs {
		if _, err := os.Stat(strings.TrimSuffix(pack, ".pack") + ".idx"); err != nil {
			return false
		}
	}
	return len(packs) <= maxPacks
}

func (m *mirror) damaged() string { return filepath.Join(m.dir, damagedFile) }

func (m *mirror) packDir() string { return filepath.Join(m.dir, "objects", "pack") }

// packFiles lists the files among the packs whose names begin and end so.
func (m *mirror) packFiles(prefix, suffix string) []string {
	entries, _ := os.ReadDir(m.packDir()) // what cannot be read fails at the next write
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), suffix) {
			files = append(files, filepath.Join(m.packDir(), e.Name()))
		}
	}
	return files
}

// removePartial removes packs that were being fetched when their process died.
func (m *mirror) removePartial() {
	for _, file := range m.packFiles("tmp_", "") {
		_ = os.Remove(file) // only the quota would notice
	}
}

// remake puts an empty mirror in the place of what is there. Readers keep the
// files that they have open.
func (m *mirror) remake() error {
	if m.store != nil {
		_ = m.store.Close() // it is removed
	}
	fresh := m.dir + ".new"
	if err := initBare(fresh, m.address.show); err != nil {
		return fmt.Errorf("cannot make a mirror: %v: make the cache writable", err)
	}
	if err := os.Rename(m.dir, m.dir+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot put the damaged mirror aside: %v: remove %s", err, m.dir)
	}
	if err := os.Rename(fresh, m.dir); err != nil {
		return fmt.Errorf("cannot make a mirror: %v: make the cache writable", err)
	}
	m.store = openStore(m.dir, filesystem.Options{KeepDescriptors: true})
	if err := os.RemoveAll(m.dir + ".old"); err != nil {
		return fmt.Errorf("cannot remove an old mirror: %v: remove it", err)
	}
	return nil
}

// initBare makes an empty bare repository that git itself reads, too.
func initBare(dir, description string) error {
	for _, sub := range []string{"objects/pack", "objects/info", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	files := map[string]string{
		"config":      "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[gc]\n\tauto = 0\n",
		"description": "mirror of " + description + "\n",
		"HEAD":        "ref: refs/heads/main\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether an object is there, and with it all that it refers to:
// packs come whole.
func (m *mirror) has(h plumbing.Hash) bool { return m.store.HasEncodedObject(h) == nil }

// size is what the packs take on disk, in bytes.
func (m *mirror) size() int64 {
	var sum int64
	for _, file := range m.packFiles("", "") {
		if info, err := os.Stat(file); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// refs reads the refs that were kept at the last fetch.
func (m *mirror) refs() map[string]plumbing.Hash {
	refs := map[string]plumbing.Hash{}
	data, _ := os.ReadFile(filepath.Join(m.dir, "packed-refs")) // none before the first fetch
	for line := range strings.Lines(string(data)) {
		hash, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && hexHash.MatchString(hash) {
			refs[name] = plumbing.NewHash(hash)
		}
	}
	return refs
}

// keepRefs writes down which of the repository's refs are here. They tell the
// next fetch what need not be sent.
func (m *mirror) keepRefs(refs map[string]plumbing.Hash) error {
	var lines []string
	for name, h := range refs {
		if m.has(h) {
			lines = append(lines, name+"\x00"+h.String())
		}
	}
	slices.Sort(lines)
	text := "# pack-refs with: sorted \n"
	for _, line := range lines {
		name, hash, _ := strings.Cut(line, "\x00")
		text += hash + " " + name + "\n"
	}
	return writeFile(filepath.Join(m.dir, "packed-refs"), []byte(text))
}

// writeFile replaces a file as a whole, so that a kill leaves the old content
// or the new.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

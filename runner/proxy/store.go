package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A kept file is one file on the disk: a head of fixed size that says what it
// is, then the body. It is written under another name, locked, and renamed when
// it is whole and on the disk: whoever finds it can use it.
const (
	headSize  = 4 << 10
	headMagic = "assay-cache 1\n"
	partMark  = ".part"
)

// meta says what a kept file is.
type meta struct {
	Key      string
	Type     string // Content-Type
	ETag     string
	Modified string // Last-Modified
	Size     int64  // of the body
}

// metaOf reads what a mirror says about a body.
func metaOf(key string, r *http.Response) meta {
	return meta{
		Key: key, Type: r.Header.Get("Content-Type"), ETag: r.Header.Get("ETag"),
		Modified: r.Header.Get("Last-Modified"), Size: r.ContentLength,
	}
}

// head encodes the beginning of a kept file; nil when it does not fit.
func (m meta) head() []byte {
	text, err := json.Marshal(m)
	if err != nil || len(headMagic)+len(text)+1 > headSize {
		return nil
	}
	head := make([]byte, headSize)
	copy(head[copy(head, headMagic):], append(text, '\n'))
	return head
}

var errNotKept = errors.New("cannot use the kept file: it is not whole, or of another address")

// parseHead reads the beginning of a file of that size.
func parseHead(head []byte, size int64) (meta, error) {
	text, ok := bytes.CutPrefix(head, []byte(headMagic))
	text, _, whole := bytes.Cut(text, []byte("\n"))
	var m meta
	if !ok || !whole || json.Unmarshal(text, &m) != nil || m.Size < 0 || m.Size != size-headSize {
		return meta{}, errNotKept
	}
	return m, nil
}

// kept is an open kept file.
type kept struct {
	meta
	file *os.File
}

func (k *kept) body() *io.SectionReader { return io.NewSectionReader(k.file, headSize, k.Size) }
func (k *kept) close()                  { _ = k.file.Close() } // it was only read

// store is the directory of kept files.
type store struct {
	dir string
	max int64 // bytes

	mu     sync.Mutex
	used   int64                // bytes, about: other processes may use the directory
	broken time.Time            // until when nothing is kept: the disk is full
	flight map[string]*exchange // by key
}

// openStore opens a cache and removes what killed processes had begun.
func openStore(dir string, limit int64) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the package cache: %w", err)
	}
	s := &store{dir: dir, max: limit, flight: map[string]*exchange{}}
	files, err := s.files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasSuffix(f.path, partMark) && removeStale(f.path) {
			continue
		}
		s.used += f.size
	}
	return s, nil
}

// removeStale removes a part that no living process writes.
func removeStale(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer func() { _ = file.Close() }()
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	return os.Remove(path) == nil
}

// path is where the body of a key lies.
func (s *store) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(s.dir, name[:2], name)
}

// find opens the kept file of a key, nil if there is none, and marks it as used.
func (s *store) find(key string) *kept {
	path := s.path(key)
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	m, err := readHead(file)
	if err != nil || m.Key != key {
		_ = file.Close()
		_ = os.Remove(path) // what cannot be read is fetched again
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // another process may have removed it: ours is open
	return &kept{m, file}
}

func readHead(file *os.File) (meta, error) {
	info, err := file.Stat()
	if err != nil {
		return meta{}, err
	}
	head := make([]byte, headSize)
	if _, err := file.ReadAt(head, 0); err != nil {
		return meta{}, err
	}
	return parseHead(head, info.Size())
}

// errNoRoom tells that a body is not kept, and why.
var errNoRoom = errors.New("cannot keep it")

// create begins a file for a body of a known size, having made room for it.
func (s *store) create(m meta) (*os.File, error) {
	head := m.head()
	if head == nil || m.Size < 0 || m.Size > s.max/2 {
		return nil, fmt.Errorf("%w: it is too large", errNoRoom)
	}
	if err := s.reserve(headSize + m.Size); err != nil {
		return nil, err
	}
	file, err := s.createPart(s.path(m.Key), head)
	if err != nil {
		s.release(headSize + m.Size)
		s.fail()
		return nil, fmt.Errorf("cannot keep a package: %w", err)
	}
	return file, nil
}

func (s *store) createPart(path string, head []byte) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*"+partMark)
	if err != nil {
		return nil, err
	}
	// Nobody else has had the time to lock it, but for one who takes it for stale.
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = file.Write(head)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// keep gives a whole file its name.
func (s *store) keep(file *os.File, m meta) error {
	err := file.Sync()
	if err == nil {
		err = os.Rename(file.Name(), s.path(m.Key))
	}
	if err != nil {
		return fmt.Errorf("cannot keep a package: %w", err)
	}
	return nil
}

// drop removes a file that did not become whole.
func (s *store) drop(file *os.File, m meta) {
	_ = os.Remove(file.Name()) // the next start removes what is left
	s.release(headSize + m.Size)
}

// fail stops keeping for a minute: guests get what they ask for all the same.
func (s *store) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = time.Now().Add(time.Minute)
}

func (s *store) release(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= size
}

// reserve counts what is about to be written, and removes the files that were
// used longest ago when the directory becomes too large.
func (s *store) reserve(size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.broken) {
		return fmt.Errorf("%w: the disk was full a moment ago", errNoRoom)
	}
	if s.used+size > s.max {
		if err := s.evict(size); err != nil {
			return err
		}
	}
	s.used += size
	return nil
}

// evict makes room for size bytes, and some more so that it need not look again
// for the next file.
func (s *store) evict(size int64) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	s.used = 0
	for _, f := range files {
		s.used += f.size
	}
	for _, f := range files {
		if s.used+size <= s.max-s.max/10 {
			break
		}
		if !strings.HasSuffix(f.path, partMark) && os.Remove(f.path) == nil {
			s.used -= f.size
		}
	}
	if s.used+size > s.max {
		return fmt.Errorf("%w: what is being fetched fills the cache", errNoRoom)
	}
	return nil
}

// file is one file of the directory.
type file struct {
	path string
	size int64 // a part counts as what it has so far
	used time.Time
}

func (s *store) files() ([]file, error) {
	var files []file
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err == nil {
			files = append(files, file{path, info.Size(), info.ModTime()})
		}
		return ignoreMissing(err)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the package cache: %w", err)
	}
	return files, nil
}

// ignoreMissing forgives what another process removed meanwhile.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isImmutable tells addresses whose content never changes: packages, which have
// their version in their name, and indices named by their own hash.
func isImmutable(path string) bool {
	base := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case strings.Contains(path, "/by-hash/"):
		return true
	case strings.Contains(path, "/dists/"):
		return false // some indices are archives
	case strings.Contains(path, "/repodata/"):
		hash, _, _ := strings.Cut(base, "-")
		_, err := hex.DecodeString(hash)
		return len(hash) >= 40 && err == nil
	}
	for _, suffix := range []string{
		".deb", ".udeb", ".rpm", ".drpm", ".whl", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst", ".dsc",
	} {
		if strings.HasSuffix(base, suffix) && len(base) > len(suffix) {
			return true
		}
	}
	return false
}

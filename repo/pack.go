package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// addPack takes a pack off the wire into the mirror: bounded, checked, indexed
// and on disk before it gets its name. Until then it is tmp_*, which the next
// holder of the lock removes. go-git's own writer knows no bounds, and inflates
// every object into memory whatever size it claims.
func (m *mirror) addPack(ctx context.Context, r io.Reader) error {
	f, err := os.CreateTemp(m.packDir(), "tmp_pack_")
	if err != nil {
		return fmt.Errorf("cannot store it: %v: make the cache writable", err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	defer f.Close()
	if err := m.receive(ctx, f, r); err != nil {
		return err
	}
	if err := checkPack(f, m.limits.FileBytes); err != nil {
		return err
	}
	sum, index, err := indexPack(f)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot store it: %v: make room on the disk", err)
	}
	base := filepath.Join(m.packDir(), "pack-"+sum.String())
	// A pack without index damages a mirror, an index without pack does not.
	if err := writeFileFrom(base+".idx", index); err != nil {
		return fmt.Errorf("cannot store it: %v: make room on the disk", err)
	}
	if err := os.Rename(f.Name(), base+".pack"); err != nil {
		return fmt.Errorf("cannot store it: %v: make the cache writable", err)
	}
	m.store.Reindex()
	return nil
}

// receive copies the pack, as much as the mirror still has room for.
func (m *mirror) receive(ctx context.Context, f *os.File, r io.Reader) error {
	room := m.limits.MirrorBytes - m.size()
	n, err := io.Copy(f, io.LimitReader(r, max(room, 0)+1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case n > room:
		return &LimitError{What: "the mirror of " + m.address.show, Limit: "MirrorBytes", Max: m.limits.MirrorBytes}
	case err != nil:
		return err
	case n == 0:
		return errors.New("it sent nothing: run git fsck there")
	}
	return nil
}

// checkPack looks at the size of every object, and of what every delta makes,
// before anything is held in memory.
func checkPack(f *os.File, largest int64) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	scanner := packfile.NewScanner(f)
	_, count, err := scanner.Header()
	if err != nil {
		return err
	}
	for range count {
		header, err := scanner.NextObjectHeader()
		if err != nil {
			return err
		}
		size := header.Length
		start := &prefix{}
		if size <= largest {
			if _, _, err := scanner.NextObject(start); err != nil {
				return err
			}
		}
		if header.Type.IsDelta() {
			size = max(size, start.deltaTarget())
		}
		if size > largest || size < 0 {
			return &LimitError{What: fmt.Sprintf("an object of %d bytes in its history", size), Limit: "FileBytes", Max: largest}
		}
	}
	return nil
}

// prefix keeps the beginning of what is written to it.
type prefix struct {
	bytes [20]byte
	n     int
}

func (p *prefix) Write(b []byte) (int, error) {
	p.n += copy(p.bytes[p.n:], b)
	return len(b), nil
}

// deltaTarget reads how large the object is that a delta makes: the second of
// the two numbers that it begins with (gitformat-pack, "Deltified
// representation"). A number that does not fit is larger than any bound.
func (p *prefix) deltaTarget() int64 {
	var numbers [2]uint64
	at := 0
	for i := range numbers {
		for shift := 0; at < p.n; shift += 7 {
			if shift > 56 {
				return -1
			}
			b := p.bytes[at]
			at++
			numbers[i] |= uint64(b&0x7f) << shift
			if b&0x80 == 0 {
				break
			}
		}
	}
	return int64(numbers[1])
}

func indexPack(f *os.File) (plumbing.Hash, *idxfile.MemoryIndex, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return plumbing.ZeroHash, nil, err
	}
	writer := new(idxfile.Writer)
	parser, err := packfile.NewParser(packfile.NewScanner(f), writer)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	sum, err := parser.Parse()
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	index, err := writer.Index()
	return sum, index, err
}

func writeFileFrom(path string, index *idxfile.MemoryIndex) error {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp_idx_")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if _, err = idxfile.NewEncoder(f).Encode(index); err == nil {
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

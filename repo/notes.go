package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"github.com/assay-ci/assay"
	"github.com/go-git/go-git/v5/plumbing"
)

// NotesRef is where statuses and comments are kept as notes: what
// git log --notes=assay shows.
const NotesRef = "refs/notes/assay"

// Bounds and patience of notes.
const (
	maxNoteBytes  = 1 << 20
	noteTries     = 100
	noteTriesSame = 5 // refusals while the ref stays where it is
	maxNotePause  = time.Second
	noteAuthor    = "Assay <assay@localhost>"
)

// ReadNote returns the note of a commit in the repository itself, not in a copy
// that may be old. Without one the error wraps assay.ErrNotFound.
func (c *Cache) ReadNote(ctx context.Context, address, commit, ref string) ([]byte, error) {
	a, h, err := noteAddress(address, commit, ref)
	if err != nil {
		return nil, err
	}
	var note []byte
	err = c.locked(ctx, a, func(ctx context.Context, m *mirror) error {
		var at plumbing.Hash
		err := m.exchange(ctx, func(l listing) ([]plumbing.Hash, error) {
			at = l.refs.References[ref]
			return nonZero(at), nil
		})
		if err == nil {
			note, err = m.notes().read(at, h)
		}
		return err
	})
	if err == nil && note == nil {
		err = assay.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the note %s of commit %s in %s: %w", ref, commit, a.show, err)
	}
	return note, nil
}

// EditNote changes the note of a commit in the repository at the address: edit
// gets the note that is there (nil for none) and returns the new one (empty to
// remove it), at most 1 MiB. Whoever else writes notes at the same time, no
// change is lost: the ref moves only from where edit saw it, and otherwise edit
// is called again. The commit must be in the repository. An error of edit ends
// it and is wrapped.
func (c *Cache) EditNote(ctx context.Context, address, commit, ref string, edit func(old []byte) ([]byte, error)) error {
	a, h, err := noteAddress(address, commit, ref)
	if err != nil {
		return err
	}
	err = c.locked(ctx, a, func(ctx context.Context, m *mirror) error {
		if err := m.fetchCommit(ctx, h, nil); err != nil {
			return err
		}
		return m.editNote(ctx, h, ref, edit)
	})
	if err != nil {
		return fmt.Errorf("cannot write the note %s of commit %s in %s: %w", ref, commit, a.show, err)
	}
	return nil
}

func noteAddress(repository, commit, ref string) (address, plumbing.Hash, error) {
	a, err := parseAddress(repository)
	if err != nil {
		return a, plumbing.ZeroHash, err
	}
	name, ok := strings.CutPrefix(ref, "refs/notes/")
	if !ok || name == "" || strings.ContainsAny(name, " ~^:?*[\\") || strings.Contains(name, "..") || strings.ContainsFunc(name, unicode.IsControl) {
		return a, plumbing.ZeroHash, fmt.Errorf("cannot keep notes in %q: name a ref below refs/notes/", clip(ref))
	}
	h, err := parseCommit(commit)
	return a, h, err
}

func nonZero(h plumbing.Hash) []plumbing.Hash {
	if h.IsZero() {
		return nil
	}
	return []plumbing.Hash{h}
}

// editNote tries until the ref has not moved between reading and writing. A
// refusal while the ref stays where it was is somebody else's lock, or a hook.
func (m *mirror) editNote(ctx context.Context, commit plumbing.Hash, ref string, edit func([]byte) ([]byte, error)) error {
	same := 0
	var last plumbing.Hash
	for try := range noteTries {
		base, err := m.tryNote(ctx, commit, ref, edit)
		var refused *refusedError
		if !errors.As(err, &refused) {
			return err
		}
		if try > 0 && base == last {
			same++
		} else {
			same, last = 0, base
		}
		if same >= noteTriesSame || refused.final() {
			return err
		}
		// The longer the queue, the longer the wait, and never all at once.
		if err := pause(ctx, rand.N(min(maxNotePause, time.Duration(try+1)*10*time.Millisecond))); err != nil {
			return fmt.Errorf("others were quicker each time: %w", err)
		}
	}
	return fmt.Errorf("others were quicker %d times: try again later", noteTries)
}

// tryNote reads and writes once, most often in one connection. It returns where
// the ref was.
func (m *mirror) tryNote(ctx context.Context, commit plumbing.Hash, ref string, edit func([]byte) ([]byte, error)) (plumbing.Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, m.limits.FetchTime)
	defer cancel()
	p, err := m.startPush(ctx)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer p.close()
	base := p.refs.References[ref]
	if !base.IsZero() && !m.has(base) {
		p.close()
		if base, err = m.fetchRef(ctx, ref); err != nil {
			return base, err
		}
		if p, err = m.startPush(ctx); err != nil {
			return base, err
		}
		defer p.close()
	}
	notes := m.notes()
	next, err := notes.change(base, commit, edit)
	if err != nil || next == base {
		return base, err
	}
	return base, p.push(ctx, ref, base, next, notes.made)
}

func (m *mirror) fetchRef(ctx context.Context, ref string) (at plumbing.Hash, err error) {
	err = m.exchange(ctx, func(l listing) ([]plumbing.Hash, error) {
		at = l.refs.References[ref]
		return nonZero(at), nil
	})
	return at, err
}

// notes reads and makes notes in the mirror.
func (m *mirror) notes() *notes {
	s := newSource(m.limits, func() objectReader { return m.store }, func() { _ = writeFile(m.damaged(), nil) })
	return &notes{source: s, mirror: m}
}

// notes is the content of a notes ref, with the objects that changing it made.
type notes struct {
	source *source
	mirror *mirror
	made   []plumbing.EncodedObject
}

// read returns the note of a commit at a commit of notes, nil for none.
func (n *notes) read(at, commit plumbing.Hash) ([]byte, error) {
	if at.IsZero() {
		return nil, nil
	}
	tree, err := n.source.commitTree(at.String())
	if err != nil {
		return nil, err
	}
	return n.lookup(tree, commit.String())
}

// lookup finds the note whatever the layout: the name of the commit, with any
// number of slashes after pairs of digits. Several notes of one commit are one
// after the other with an empty line between, as git merges them.
func (n *notes) lookup(tree plumbing.Hash, rest string) ([]byte, error) {
	entries, err := n.source.readTree(tree, "of notes")
	if err != nil {
		return nil, err
	}
	var parts [][]byte
	for _, e := range entries {
		var part []byte
		switch {
		case e.name == rest && !e.mode.IsDir():
			part, err = n.source.read(e.hash, plumbing.BlobObject, maxNoteBytes, "of a note", "the note")
		case len(rest) > 2 && e.name == rest[:2] && e.mode.IsDir() && !e.sub:
			part, err = n.lookup(e.hash, rest[2:])
		}
		if err != nil {
			return nil, err
		}
		if part != nil {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	return bytes.Join(parts, []byte("\n")), nil
}

// change returns the commit of notes that follows base; base itself if edit
// changed nothing.
func (n *notes) change(base, commit plumbing.Hash, edit func([]byte) ([]byte, error)) (plumbing.Hash, error) {
	old, err := n.read(base, commit)
	if err != nil {
		return base, err
	}
	note, err := edit(old)
	if err != nil {
		return base, err
	}
	if len(note) > maxNoteBytes {
		return base, &LimitError{What: fmt.Sprintf("a note of %d bytes", len(note)), Limit: "of a note", Max: maxNoteBytes}
	}
	if bytes.Equal(old, note) && (old == nil) == (len(note) == 0) {
		return base, nil
	}
	return n.commit(base, commit.String(), note)
}

func (n *notes) commit(base plumbing.Hash, commit string, note []byte) (plumbing.Hash, error) {
	var tree, blob plumbing.Hash
	var err error
	if !base.IsZero() {
		if tree, err = n.source.commitTree(base.String()); err != nil {
			return base, err
		}
	}
	if len(note) > 0 {
		if blob, err = n.make(plumbing.BlobObject, note); err != nil {
			return base, err
		}
	}
	if tree, err = n.replace(tree, commit, blob); err != nil {
		return base, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	if !base.IsZero() {
		fmt.Fprintf(&b, "parent %s\n", base)
	}
	now := time.Now().UTC().Unix()
	fmt.Fprintf(&b, "author %s %d +0000\ncommitter %s %d +0000\n\nNote on %s\n", noteAuthor, now, noteAuthor, now, commit)
	return n.make(plumbing.CommitObject, []byte(b.String()))
}

// make writes an object into the mirror, and keeps it to be pushed.
func (n *notes) make(kind plumbing.ObjectType, content []byte) (plumbing.Hash, error) {
	o := &plumbing.MemoryObject{}
	o.SetType(kind)
	if _, err := o.Write(content); err != nil {
		return plumbing.ZeroHash, err
	}
	n.made = append(n.made, o)
	h, err := n.mirror.store.SetEncodedObject(o)
	if err != nil {
		return h, fmt.Errorf("the mirror cannot be written to: %v: make room on the disk", err)
	}
	return h, nil
}

package repo

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxFlatNotes is how many notes lie side by side before new ones get a
// directory for their first two digits. git reads any mixture.
const maxFlatNotes = 128

// replace puts the note blob (none if it is zero) for what is left of the
// commit's name into a tree, takes away all that were there for it, and returns
// the new tree.
func (n *notes) replace(tree plumbing.Hash, rest string, blob plumbing.Hash) (plumbing.Hash, error) {
	var entries []entry
	var err error
	if !tree.IsZero() {
		if entries, err = n.source.readTree(tree, "of notes"); err != nil {
			return tree, err
		}
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.name == rest && !e.mode.IsDir() })
	at := slices.IndexFunc(entries, func(e entry) bool {
		return len(rest) > 2 && e.name == rest[:2] && e.mode.IsDir() && !e.sub
	})
	switch {
	case at >= 0:
		entries, err = n.replaceBelow(entries, at, rest, blob)
	case blob.IsZero():
	case len(rest) > 2 && len(entries) >= maxFlatNotes:
		var below plumbing.Hash
		below, err = n.replace(plumbing.ZeroHash, rest[2:], blob)
		entries = append(entries, entry{name: rest[:2], mode: fs.ModeDir, hash: below})
	default:
		entries = append(entries, entry{name: rest, hash: blob})
	}
	if err != nil {
		return tree, err
	}
	return n.make(plumbing.TreeObject, encodeTree(entries))
}

// replaceBelow does it in the directory at that index, which goes when it is
// empty: git keeps no empty ones.
func (n *notes) replaceBelow(entries []entry, at int, rest string, blob plumbing.Hash) ([]entry, error) {
	below, err := n.replace(entries[at].hash, rest[2:], blob)
	if err != nil {
		return nil, err
	}
	entries[at].hash = below
	if below == plumbing.ComputeHash(plumbing.TreeObject, nil) {
		entries = slices.Delete(entries, at, at+1)
	}
	return entries, nil
}

// encodeTree is the inverse of parseTree, in git's order: a directory sorts as
// if a slash ended its name.
func encodeTree(entries []entry) []byte {
	key := func(e entry) string {
		if e.mode.IsDir() && !e.sub {
			return e.name + "/"
		}
		return e.name
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(key(a), key(b)) })
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\x00%s", treeMode(e), e.name, e.hash[:])
	}
	return b.Bytes()
}

func treeMode(e entry) string {
	switch {
	case e.sub:
		return "160000"
	case e.mode.IsDir():
		return "40000"
	case e.mode&fs.ModeSymlink != 0:
		return "120000"
	case e.mode&0o100 != 0:
		return "100755"
	}
	return "100644"
}

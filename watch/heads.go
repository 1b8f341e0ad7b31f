package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// remembered is what is kept of a repository between two looks.
type remembered struct {
	Version int `json:"version"`
	// Changes counts how often this was written. It makes a branch that goes to
	// and fro a different event each time, and the same one after a crash.
	Changes int64             `json:"changes"`
	Heads   map[string]string `json:"heads"` // commits by ref
}

// move is a branch that is elsewhere than it was.
type move struct {
	ref           string
	before, after string // before is "" for a new branch
}

// readRemembered parses what encode wrote. ok is false when there was nothing.
func readRemembered(text string) (r remembered, ok bool, err error) {
	if text == "" {
		return remembered{Version: memoryVersion, Heads: map[string]string{}}, false, nil
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return remembered{}, false, fmt.Errorf("cannot read what is remembered of its branches: %v: remove that row from the table memories", err)
	}
	if r.Version != memoryVersion || r.Changes < 0 {
		return remembered{}, false, fmt.Errorf("cannot read what is remembered of its branches: it is of version %d and this program knows %d: run a newer assay", r.Version, memoryVersion)
	}
	if r.Heads == nil {
		r.Heads = map[string]string{}
	}
	return r, true, nil
}

func (r remembered) encode() (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("cannot write down its branches: %v", err)
	}
	return string(text), nil
}

// branches keeps of what a repository says those refs that are branches, with
// names and commits that an event may carry.
func branches(heads map[string]string) (map[string]string, error) {
	kept := map[string]string{}
	for ref, commit := range heads {
		if validBranch(ref) && validCommit(commit) {
			kept[ref] = commit
		}
	}
	if len(kept) > maxHeads {
		return nil, fmt.Errorf("it has %d branches, and at most %d are watched: remove those that nobody needs, or set up a webhook", len(kept), maxHeads)
	}
	return kept, nil
}

// compare lists the branches that moved, by name, at most maxMoves of them, and
// tells what is to be remembered once the inbox has them. What is left comes up
// at the next look. eager counts all branches at first sight.
func compare(old remembered, known bool, now map[string]string, eager bool) ([]move, remembered, error) {
	next := remembered{Version: memoryVersion, Changes: old.Changes + 1, Heads: maps.Clone(now)}
	if !known && !eager {
		return nil, next, nil
	}
	if len(now) == 0 && len(old.Heads) > 0 {
		return nil, old, errors.New("it shows no branches any more: see whether it still is what it was")
	}
	var moves []move
	for _, ref := range slices.Sorted(maps.Keys(now)) {
		before := old.Heads[ref]
		if before == now[ref] {
			continue
		}
		if len(moves) == maxMoves {
			next.hold(ref, before)
			continue
		}
		moves = append(moves, move{ref: ref, before: before, after: now[ref]})
	}
	return moves, next, nil
}

// hold leaves a branch as it was remembered, so that it comes up again.
func (r remembered) hold(ref, before string) {
	if before == "" {
		delete(r.Heads, ref)
		return
	}
	r.Heads[ref] = before
}

// event is the push that a move stands for. The delivery is made of what moved,
// not of when it was seen.
func (t Target) event(m move, changes int64) assay.Event {
	return assay.Event{
		Source: t.Source, Kind: assay.EventPush, Trusted: true, Origin: t.origin(),
		Delivery: digest(deliveryVersion, t.Address, m.ref, m.before, m.after, strconv.FormatInt(changes, 10)),
		Repo:     t.Repo, Ref: m.ref, Before: m.before, Commit: m.after,
	}
}

// digest is 48 hex digits, safe as a delivery id; its parts hold no NUL.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return "watch-" + hex.EncodeToString(sum[:24])
}

// validCommit takes SHA-1 and SHA-256 names as git prints them, other than zeros.
func validCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == "" && strings.Trim(s, "0") != ""
}

// validBranch follows git-check-ref-format(1) for a branch, and wants UTF-8
// without control or format characters besides: what the intake takes.
func validBranch(ref string) bool {
	name, ok := strings.CutPrefix(ref, "refs/heads/")
	if !ok || name == "" || len(ref) > maxRef || !utf8.ValidString(ref) {
		return false
	}
	odd := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune(" ~^:?*[\\\u2028\u2029", r)
	}
	if strings.ContainsFunc(name, odd) || strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

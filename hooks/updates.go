// Package hooks is the server side of git push: pre-receive refuses a push with
// a formula that would not run, post-receive hands the event to the server, and
// keeps it on disk until the server has taken it. It also installs both next to
// hooks that are there already. What it needs of git is given to it.
package hooks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Bounds of what git writes to a hook.
const (
	maxUpdates    = 100_000
	maxUpdateLine = 4096 // bytes; git allows a ref name of 4,000 or so
)

// Update is one ref that a push changes.
type Update struct {
	Old string // the commit it was at, in lower-case hexadecimal; "" if it is new
	New string // the commit it moves to; "" if it is deleted
	Ref string // "refs/heads/main"
}

// Branch is the name of the branch that the update moves or makes; ok is false
// for a deletion and for tags, notes and all other refs.
func (u Update) Branch() (name string, ok bool) {
	name, ok = strings.CutPrefix(u.Ref, "refs/heads/")
	return name, ok && u.New != ""
}

// ReadUpdates reads what git gives to pre-receive and post-receive on standard
// input: a line "old new ref" for each ref (githooks, "pre-receive"). More than
// 100,000 lines, or one that git would not write, is an error.
func ReadUpdates(r io.Reader) ([]Update, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, maxUpdateLine), maxUpdateLine)
	var updates []Update
	for scanner.Scan() {
		if len(updates) == maxUpdates {
			return nil, fmt.Errorf("cannot read the push: it changes over %d refs: push fewer at a time", maxUpdates)
		}
		u, err := parseUpdate(scanner.Text())
		if err != nil {
			return nil, fmt.Errorf("cannot read line %d of the push: %w", len(updates)+1, err)
		}
		updates = append(updates, u)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the push: %v: let git run this hook", err)
	}
	return updates, nil
}

func parseUpdate(line string) (Update, error) {
	fields := strings.Split(line, " ")
	if len(fields) != 3 {
		return Update{}, errors.New("it is not of the form: old new ref: let git run this hook")
	}
	u := Update{Old: fields[0], New: fields[1], Ref: fields[2]}
	if !isHash(u.Old) || !isHash(u.New) || len(u.Old) != len(u.New) {
		return Update{}, fmt.Errorf("%q and %q are not two commits: let git run this hook", clip(u.Old), clip(u.New))
	}
	if !isRef(u.Ref) {
		return Update{}, fmt.Errorf("%q is not the full name of a ref: let git run this hook", clip(u.Ref))
	}
	u.Old, u.New = orNone(u.Old), orNone(u.New)
	if u.Old == "" && u.New == "" {
		return Update{}, fmt.Errorf("%s is neither before nor after the push: let git run this hook", u.Ref)
	}
	return u, nil
}

func isHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// orNone turns git's name for no object into "".
func orNone(hash string) string {
	if strings.Trim(hash, "0") == "" {
		return ""
	}
	return hash
}

// isRef keeps the rules of git check-ref-format for names below refs/.
func isRef(name string) bool {
	if !strings.HasPrefix(name, "refs/") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.ContainsAny(name, " ~^:?*[\\") || strings.ContainsFunc(name, unicode.IsControl) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

// clip makes foreign text fit for one line on a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return s
}

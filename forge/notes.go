package forge

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-ci/assay"
)

// NotesRef is where Notes keeps what it has to say: git log --notes=assay.
const NotesRef = "refs/notes/assay"

// NoteEditor changes git notes (git-notes(1)).
type NoteEditor interface {
	// EditNote replaces the note of a commit under ref in the repository at
	// address by what edit makes of it; old is nil when there is none. edit may
	// be called more than once, when somebody else writes notes too, and has no
	// side effects. When it returns old unchanged nothing is written, when it
	// returns an error that error is returned. An error that wraps
	// assay.ErrNotFound says that there is no such repository or commit.
	EditNote(ctx context.Context, address, commit, ref string, edit func(old []byte) ([]byte, error)) error
}

// NoteReader is a NoteEditor that reads, too. When there is no note, note is
// nil or the error wraps assay.ErrNotFound.
type NoteReader interface {
	ReadNote(ctx context.Context, address, commit, ref string) (note []byte, err error)
}

// Notes is the Forge of a plain git repository: it keeps statuses and comments
// as a note on the commit, in a form for people, which note.go describes. A
// pull request's comment is a note on its commit.
//
// It implements StatusReader; that works when the editor is a NoteReader.
type Notes struct {
	Editor NoteEditor
}

var (
	_ Forge        = Notes{}
	_ StatusReader = Notes{}
)

// PlainText tells that notes are read as they are.
func (Notes) PlainText() bool { return true }

// SetStatus replaces the line of the status's context.
func (n Notes) SetStatus(ctx context.Context, commit assay.Commit, status assay.Status) error {
	if err := checkStatus(status); err != nil {
		return err
	}
	if !ourContext(status.Context) {
		return permanent("cannot keep the status %.40q in a note: its context must be assay or begin with assay/", status.Context)
	}
	return n.edit(ctx, commit, func(content *note) { content.setStatus(status) })
}

// Comment replaces the block with the marker.
func (n Notes) Comment(ctx context.Context, commit assay.Commit, marker, body string) error {
	if err := checkComment(marker, body); err != nil {
		return err
	}
	return n.edit(ctx, commit, func(content *note) { content.setComment(marker, body) })
}

// Status reads one status line.
func (n Notes) Status(ctx context.Context, commit assay.Commit, context string) (assay.Status, bool, error) {
	reader, ok := n.Editor.(NoteReader)
	if !ok {
		return assay.Status{}, false, permanent("cannot read the statuses of %s: its notes can only be written", show(commit.Repo))
	}
	if err := checkNoted(commit); err != nil {
		return assay.Status{}, false, err
	}
	old, err := reader.ReadNote(ctx, commit.Repo, commit.SHA, NotesRef)
	if err != nil && !errors.Is(err, assay.ErrNotFound) {
		return assay.Status{}, false, noteError(commit, err)
	}
	content := parseNote(old)
	status, ok := content.statuses[context]
	return status, ok, nil
}

func (n Notes) edit(ctx context.Context, commit assay.Commit, change func(*note)) error {
	if err := checkNoted(commit); err != nil {
		return err
	}
	err := n.Editor.EditNote(ctx, commit.Repo, commit.SHA, NotesRef, func(old []byte) ([]byte, error) {
		if len(old) > maxNote {
			return nil, tooLong(commit, len(old))
		}
		content := parseNote(old)
		change(&content)
		text := content.render()
		if len(text) > maxNote {
			return nil, tooLong(commit, len(text))
		}
		return text, nil
	})
	return noteError(commit, err)
}

func tooLong(commit assay.Commit, size int) error {
	return permanent("cannot add to the note on %s in %s: it would have %d bytes: shorten it with git notes --ref=assay edit", commit.SHA, show(commit.Repo), size)
}

// checkNoted refuses a commit whose parts git might take for something else.
func checkNoted(commit assay.Commit) error {
	if _, _, err := splitAddress(commit.Repo); err != nil {
		return &PermanentError{err}
	}
	return checkCommit(commit)
}

// noteError sorts an editor's error: a commit that is not there will not come
// by itself, anything else may be a full disk or another writer.
func noteError(commit assay.Commit, err error) error {
	if errors.Is(err, assay.ErrNotFound) {
		return &PermanentError{fmt.Errorf("cannot note anything on %s in %s: %w", commit.SHA, show(commit.Repo), err)}
	}
	return asForgeError(err)
}

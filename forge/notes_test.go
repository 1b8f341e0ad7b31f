package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

// oneNote is an editor that keeps one note and can fail.
type oneNote struct {
	text []byte
	fail error
}

func (n *oneNote) EditNote(_ context.Context, _, _, _ string, edit func([]byte) ([]byte, error)) error {
	if n.fail != nil {
		return fmt.Errorf("cannot write the note: %w", n.fail)
	}
	// A writer that lost a race calls edit again; the first call must leave no trace.
	if _, err := edit([]byte("assay/raced: success\n")); err != nil {
		return fmt.Errorf("cannot write the note: %w", err)
	}
	text, err := edit(n.text)
	if err != nil {
		return fmt.Errorf("cannot write the note: %w", err)
	}
	n.text = text
	return nil
}

// readable can be read, too; without a note it says so with an error.
type readable struct{ oneNote }

func (n *readable) ReadNote(context.Context, string, string, string) ([]byte, error) {
	if n.fail != nil || n.text == nil {
		return nil, errors.Join(n.fail, assay.ErrNotFound)
	}
	return n.text, nil
}

var noted = assay.Commit{Repo: "https://user:hunter2@git.example.org/r.git", SHA: strings.Repeat("a", 40)}

func TestNotesErrors(t *testing.T) {
	var never *PermanentError
	var again *RetryError
	status := assay.Status{Context: "assay/x", State: assay.StatusSuccess}
	huge := []byte(strings.Repeat("x\n", maxNote/2))
	for name, test := range map[string]struct {
		note  oneNote
		never bool
	}{
		"no commit":       {oneNote{fail: assay.ErrNotFound}, true},
		"no permission":   {oneNote{fail: os.ErrPermission}, false},
		"disk full":       {oneNote{fail: errors.New("no space left on device")}, false},
		"full note":       {oneNote{text: huge}, true},
		"overfull note":   {oneNote{text: append(huge, 'x')}, true},
		"given up midway": {oneNote{fail: context.DeadlineExceeded}, false},
	} {
		err := Notes{Editor: &test.note}.SetStatus(t.Context(), noted, status)
		if err == nil || errors.As(err, &never) != test.never || errors.As(err, &again) == test.never {
			t.Errorf("%s: error %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the error has a password: %v", name, err)
		}
	}
	if err := (Notes{Editor: &oneNote{}}).SetStatus(t.Context(), noted, assay.Status{Context: "ci/x", State: assay.StatusSuccess}); !errors.As(err, &never) {
		t.Errorf("a context that is not ours: error %v", err)
	}
}

func TestNotesReadBack(t *testing.T) {
	var never *PermanentError
	if _, _, err := (Notes{Editor: &oneNote{}}).Status(t.Context(), noted, "assay/x"); !errors.As(err, &never) {
		t.Errorf("an editor that cannot read: error %v", err)
	}
	notes := Notes{Editor: &readable{}}
	if _, ok, err := notes.Status(t.Context(), noted, "assay/x"); ok || err != nil {
		t.Errorf("without a note: %v, %v", ok, err)
	}
	want := assay.Status{Context: "assay/x", State: assay.StatusFailure, Description: "why <so>"}
	if err := notes.SetStatus(t.Context(), noted, want); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := notes.Status(t.Context(), noted, "assay/x"); got != want || !ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	if _, ok, _ := notes.Status(t.Context(), noted, "assay/raced"); ok {
		t.Error("an edit that was repeated left a trace")
	}
}

func TestAddressesAreShownWithoutPasswords(t *testing.T) {
	for _, address := range []string{"https://user:hunter2@github.com/o", "https://u:hunter2@x@/\x00", "ftp://u:hunter2@x/y"} {
		_, _, _, err := ParseGitHub(address)
		_, other := Set{}.For(address)
		if text := fmt.Sprint(err, other); err == nil || other == nil || strings.Contains(text, "hunter2") {
			t.Errorf("%q: %s", address, text)
		}
	}
}

func TestKeyedLock(t *testing.T) {
	var locks keyed
	release, err := locks.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := locks.lock(t.Context(), "b") // is not in its way
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var again *RetryError
	if _, err := locks.lock(ended, "a"); !errors.As(err, &again) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	release()
	other()
	if release, err = locks.lock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	release()
	if len(locks.keys) != 0 {
		t.Errorf("%d keys are kept that nobody uses", len(locks.keys))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var ids memory[int64]
	for i := range maxKnown + 1 {
		ids.set(fmt.Sprint(i), int64(i+1))
	}
	if newest, ok := ids.get(fmt.Sprint(maxKnown)); len(ids.things) > maxKnown || !ok || newest != maxKnown+1 {
		t.Errorf("%d ids are kept, the newest is %d", len(ids.things), newest)
	}
}

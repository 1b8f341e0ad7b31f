package hooks

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPushIsRefusedWithAllMistakes(t *testing.T) {
	bare, src := newRepo(t, "--bare"), newRepo(t)
	s := newServer(t, 202)
	if err := Install(options(t, bare, s.URL)); err != nil {
		t.Fatal(err)
	}
	commit(t, src, "good\nbad one\nbad two\n")
	out, err := tryGit(src, "push", bare, "main")
	if err == nil {
		t.Fatalf("the push went through:\n%s", out)
	}
	wantWords(t, out, `remote: formula:2:1: cannot use "bad one"`, `remote: formula:3:1: cannot use "bad two"`,
		"remote: assay: the push is refused for 2 mistakes: correct")
	if refs := git(t, bare, "for-each-ref"); refs != "" {
		t.Errorf("refs moved: %s", refs)
	}

	// Several branches, one of them good, one twice, and a tag that is no business of ours.
	git(t, src, "branch", "again")
	git(t, src, "tag", "-a", "-m", "t", "v1")
	git(t, src, "checkout", "-q", "-b", "side")
	commit(t, src, "bad three\n")
	git(t, src, "checkout", "-q", "-b", "good")
	commit(t, src, "good\n")
	out, err = tryGit(src, "push", bare, "main", "again", "side", "good", "v1")
	if err == nil || strings.Count(out, "bad one") != 1 {
		t.Errorf("got %v:\n%s", err, out)
	}
	wantWords(t, out, "assay: in main, again, commit", "assay: in side, commit", "bad three", "3 mistakes")
	git(t, src, "push", "-q", bare, "good", "v1")
	git(t, src, "push", "-q", bare, "v1:refs/other/x", ":good")
}

func TestPushHandsTheEventOver(t *testing.T) {
	for _, kind := range []string{"--bare", "-q"} {
		t.Run(kind, func(t *testing.T) {
			target, src := newRepo(t, kind), newRepo(t)
			s := newServer(t, 202)
			if err := Install(options(t, target, s.URL+"/")); err != nil {
				t.Fatal(err)
			}
			first := commit(t, src, "good\n")
			out := git(t, src, "push", target, "main:work", "main:other")
			var e Event
			for _, ref := range []string{"refs/heads/work", "refs/heads/other"} {
				if err := json.Unmarshal([]byte(<-s.got), &e); err != nil {
					t.Fatal(err)
				}
				if e.Ref != ref || e.After != first || e.Before != strings.Repeat("0", 40) || e.Repository != "checks/hello" || e.Version != 1 {
					t.Errorf("got %+v", e)
				}
				wantWords(t, out, "remote: assay: watch the trial run at "+s.URL+"/events/"+e.Delivery)
			}
			second := commit(t, src, "better\n")
			git(t, src, "tag", "v1")
			git(t, src, "push", "-q", target, "main:work", "v1", ":other")
			if err := json.Unmarshal([]byte(<-s.got), &e); err != nil {
				t.Fatal(err)
			}
			if e.Before != first || e.After != second {
				t.Errorf("got %+v", e)
			}
			if len(s.got) > 0 {
				t.Errorf("there is another event: %s", <-s.got)
			}
			if time.Since(e.Time) > time.Hour || e.Time.Location() != time.UTC {
				t.Errorf("the time is %v", e.Time)
			}
		})
	}
}

func TestPushWithoutServerKeepsTheEvent(t *testing.T) {
	bare, src := newRepo(t, "--bare"), newRepo(t)
	s := newServer(t, 503)
	if err := Install(options(t, bare, s.URL)); err != nil {
		t.Fatal(err)
	}
	commit(t, src, "good\n")
	out := git(t, src, "push", bare, "main")
	wantWords(t, out, "remote: assay: the server has not taken the event yet; it is kept, and sent again until the server takes it", "/events/")
	s.answer(202)
	e := <-s.got // the deliverer is a process of its own
	wantWords(t, out, "/events/"+delivery(t, e))

	spool, err := NewSpool(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := spool.lock(t.Context(), "deliverer.lock", true) // until it ended
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if left, err := spool.Left(); left != 0 || err != nil {
		t.Errorf("left are %d, %v", left, err)
	}
	log := read(t, filepath.Join(spool.dir, "deliver.log"))
	wantWords(t, log, "own session: true")
	if strings.Contains(log, "leaked") {
		t.Errorf("the deliverer got git's variables:\n%s", log)
	}
}

func delivery(t *testing.T, body string) string {
	t.Helper()
	var e Event
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	return e.Delivery
}

func TestExistingHooksGoOnWorking(t *testing.T) {
	bare, src := newRepo(t, "--bare"), newRepo(t)
	s := newServer(t, 202)
	trace := filepath.Join(t.TempDir(), "trace")
	script := func(name, then string) string {
		return fmt.Sprintf("#!/bin/sh\necho %s >>'%s'\ncat >>'%s'\n%s\n", name, trace, trace, then)
	}
	put(t, filepath.Join(bare, "hooks/pre-receive"), script("existing-pre", `test -n "$GIT_QUARANTINE_PATH"`), 0o755)
	put(t, filepath.Join(bare, "hooks/post-receive"), script("existing-post", "exit 3"), 0o755)
	o := options(t, bare, s.URL)
	for range 2 {
		if err := Install(o); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(bare, "hooks/pre-receive.d/20-early"), script("early-pre", ""), 0o755)
	put(t, filepath.Join(bare, "hooks/pre-receive.d/10-off"), script("off", ""), 0o644)
	put(t, filepath.Join(bare, "hooks/post-receive.d/90-late"), script("late-post", ""), 0o755)

	at := commit(t, src, "good\n")
	out := git(t, src, "push", bare, "main")
	line := strings.Repeat("0", 40) + " " + at + " refs/heads/main\n"
	want := "early-pre\n" + line + "existing-pre\n" + line + "existing-post\n" + line + "late-post\n" + line
	if got := read(t, trace); got != want {
		t.Errorf("hooks ran as\n%s\nwant\n%s", got, want)
	}
	wantWords(t, out, "hooks/post-receive.d/50-existing failed", "/events/"+delivery(t, <-s.got))

	put(t, filepath.Join(bare, "hooks/pre-receive.d/30-no"), "#!/bin/sh\necho not today\nexit 1\n", 0o755)
	commit(t, src, "bad\n")
	out, err := tryGit(src, "push", bare, "main")
	if err == nil || strings.Contains(out, "formula:1") || !strings.Contains(out, "remote: not today") {
		t.Errorf("got %v\n%s", err, out)
	}
}

func TestHookWithoutItsProgram(t *testing.T) {
	bare, src := newRepo(t, "--bare"), newRepo(t)
	o := options(t, bare, "http://localhost:1")
	copied := filepath.Join(t.TempDir(), "assay")
	put(t, copied, "#!/bin/sh\nexit 0\n", 0o755)
	o.Exe = copied
	if err := Install(o); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	commit(t, src, "good\n")
	out, err := tryGit(src, "push", bare, "main")
	if err == nil {
		t.Error("a push that nobody checked went through")
	}
	wantWords(t, out, "remote: assay: cannot check this push, so it is refused: the program "+copied+" is missing")
	if err := os.Remove(filepath.Join(bare, "hooks/pre-receive")); err != nil {
		t.Fatal(err)
	}
	wantWords(t, git(t, src, "push", bare, "main"), "remote: assay: cannot tell the server about this push")
}

// TestSpoolThatCannotBeWrittenFailsNoPush holds that the event is said to be lost.
func TestSpoolThatIsFullFailsNoPush(t *testing.T) {
	bare, src := newRepo(t, "--bare"), newRepo(t)
	s := newServer(t, 202)
	if err := Install(options(t, bare, s.URL)); err != nil {
		t.Fatal(err)
	}
	for i := range maxSpooled {
		put(t, filepath.Join(bare, "assay/spool", fmt.Sprintf("00000000-0000-7000-8000-%012d.json", i)), "", 0o600)
	}
	commit(t, src, "good\n")
	wantWords(t, git(t, src, "push", bare, "main"), "cannot keep the event: 10000 are waiting")
	if _, err := (&Spool{dir: filepath.Join(bare, "assay/spool")}).Left(); err != nil {
		t.Error(err)
	}
	if git(t, bare, "rev-parse", "main") != git(t, src, "rev-parse", "main") {
		t.Error("the push did not go through")
	}
}

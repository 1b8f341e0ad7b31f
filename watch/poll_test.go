package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay"
)

func TestLookAtRealRepository(t *testing.T) {
	src, bare := newRepo(t)
	d := newDesk()
	p := newPoll(d, gitRemote{t}, Target{Address: bare})
	look(t, p) // empty
	git(t, src, "commit", "-q", "--allow-empty", "-m", "1")
	git(t, src, "push", "-q", bare, "main")
	one := git(t, src, "rev-parse", "HEAD")
	look(t, p)
	git(t, src, "commit", "-q", "--allow-empty", "-m", "2")
	git(t, src, "push", "-q", bare, "main", "main:f42", "main:refs/tags/v1")
	two := git(t, src, "rev-parse", "HEAD")
	look(t, p)
	look(t, p)
	git(t, src, "push", "-q", bare, ":f42")
	look(t, p)
	wantPushes(t, d, fmt.Sprintf("main ..%.4s", one), fmt.Sprintf("f42 ..%.4s", two), fmt.Sprintf("main %.4s..%.4s", one, two))
	e := d.events[2]
	want := assay.Event{Source: "watch", Delivery: e.Delivery, Kind: assay.EventPush, Repo: bare, Ref: "refs/heads/main",
		Before: one, Commit: two, Trusted: true, Origin: assay.OriginWatched}
	if e.Comment != nil || e.Build != nil || fmt.Sprint(e) != fmt.Sprint(want) {
		t.Errorf("got %+v\nwant %+v", e, want)
	}
}

func TestFirstSightOnlyRemembers(t *testing.T) {
	for _, eager := range []bool{false, true} {
		d, r := newDesk(), &remote{}
		r.set("main", hash("a"))
		r.set("f42", hash("b"))
		p := newPoll(d, r, Target{Eager: eager})
		look(t, p)
		look(t, p)
		if eager {
			wantPushes(t, d, "f42 ..b000", "main ..a000")
		} else {
			wantPushes(t, d)
		}
		if d.writes != 1 {
			t.Errorf("it was remembered %d times", d.writes)
		}
	}
}

// TestToAndFro holds that a branch that goes back to where it was is an event each
// time.
func TestToAndFro(t *testing.T) {
	d, r := newDesk(), &remote{}
	p := newPoll(d, r, Target{})
	for _, at := range []string{"a", "b", "a", "b"} {
		r.set("main", hash(at))
		look(t, p)
	}
	wantPushes(t, d, "main a000..b000", "main b000..a000", "main a000..b000")
}

// TestKilledBeforeRemembering holds that what the inbox got before the process
// died is neither lost nor there twice.
func TestKilledBeforeRemembering(t *testing.T) {
	d, r := newDesk(), &remote{}
	r.set("main", hash("a"))
	r.set("old", hash("a"))
	look(t, newPoll(d, r, Target{}))
	r.set("main", hash("b"))
	r.set("old", hash("c"))
	for range 3 {
		d.dies = 1
		_, err := newPoll(d, r, Target{}).look(t.Context()) // each in a process of its own
		wantError(t, err, "killed")
	}
	r.set("main", hash("d")) // and it moved on, while we were dead
	look(t, newPoll(d, r, Target{}))
	look(t, newPoll(d, r, Target{}))
	wantPushes(t, d, "main a000..b000", "old a000..c000", "main a000..d000")
}

func TestInboxThatIsFullLosesNothing(t *testing.T) {
	d, r := newDesk(), &remote{}
	r.set("main", hash("a"))
	p := newPoll(d, r, Target{})
	look(t, p)
	r.set("main", hash("b"))
	d.broken = errors.New("no space left")
	_, err := p.look(t.Context())
	wantError(t, err, "no space left")
	d.broken = nil
	look(t, p)
	wantPushes(t, d, "main a000..b000")
}

func TestManyBranchesComeInPortions(t *testing.T) {
	d, r := newDesk(), &remote{}
	r.set("zero", hash("f"))
	p := newPoll(d, r, Target{})
	look(t, p)
	for i := range 2*maxMoves + 10 {
		r.set(fmt.Sprintf("b%04d", i), hash("a"))
	}
	r.set("zero", hash("e"))
	for i, want := range []int{maxMoves, 2 * maxMoves, 2*maxMoves + 11, 2*maxMoves + 11} {
		look(t, p)
		if got := len(d.pushes()); got != want {
			t.Errorf("after look %d there are %d events, want %d", i+1, got, want)
		}
	}
	for i := range maxHeads {
		r.set(fmt.Sprintf("c%05d", i), hash("a"))
	}
	_, err := p.look(t.Context())
	wantError(t, err, "at most 10000 are watched")
}

func TestRepositoryThatShowsNothingIsNotBelieved(t *testing.T) {
	d, r := newDesk(), &remote{}
	r.set("main", hash("a"))
	p := newPoll(d, r, Target{})
	look(t, p)
	r.set("main", "")
	_, err := p.look(t.Context())
	wantError(t, err, "shows no branches any more")
	r.set("main", hash("a"))
	look(t, p)
	wantPushes(t, d)
}

func TestHostileRefsAreLeftOut(t *testing.T) {
	d, r := newDesk(), &remote{}
	look(t, newPoll(d, r, Target{}))
	for _, ref := range []string{"refs/heads/a\x1b[2J", "refs/heads/a b", "refs/heads/../x", "refs/heads/", "refs/tags/v1", "HEAD",
		"refs/heads/" + strings.Repeat("a", 1100), "refs/heads/a.lock", "refs/heads/\u202e", "refs/heads/\xff"} {
		r.heads = map[string]string{ref: hash("a"), "refs/heads/zero": strings.Repeat("0", 40), "refs/heads/x": "main"}
		look(t, newPoll(d, r, Target{}))
	}
	wantPushes(t, d)
}

func TestMemoryThatCannotBeRead(t *testing.T) {
	for text, word := range map[string]string{"{": "remove that row", `{"version":9}`: "run a newer assay", `{"version":1,"changes":-1}`: "newer"} {
		d, r := newDesk(), &remote{}
		r.set("main", hash("a"))
		p := newPoll(d, r, Target{})
		d.texts[memoryOfHeads+digest(p.target.Address)] = text
		_, err := p.look(t.Context())
		wantError(t, err, "cannot read what is remembered", word)
	}
}

// TestWebhookHasTheFirstWord holds that a push is found only when no webhook told
// of it within the grace, and then once.
func TestWebhookHasTheFirstWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDesk(), &remote{}
		target := Target{Address: "https://git.example.org/o/n", Repo: "git.example.org/o/n", Source: "gitea", Webhook: true}
		p := newPoll(d, r, target)
		p.Meaning = PushMeaning
		delivered := func(commit string) {
			e := assay.Event{Source: "gitea", Kind: assay.EventPush, Repo: target.Repo, Ref: "refs/heads/main", Commit: commit, Delivery: "d" + commit}
			e.Meaning = PushMeaning(e)
			_, _, _ = d.AddEvent(t.Context(), e, nil, nil)
		}
		r.set("main", hash("a"))
		look(t, p)
		r.set("main", hash("b")) // its webhook comes late
		again, err := p.look(t.Context())
		if again != defaultGrace || err != nil {
			t.Errorf("it looks again after %v, %v", again, err)
		}
		time.Sleep(time.Minute)
		look(t, p)
		delivered(hash("b"))
		time.Sleep(defaultGrace)
		look(t, p)
		wantPushes(t, d, "main ..b000")

		r.set("main", hash("c")) // its webhook never comes
		look(t, p)
		time.Sleep(defaultGrace - 1)
		look(t, p)
		wantPushes(t, d, "main ..b000")
		time.Sleep(time.Nanosecond)
		look(t, p)
		look(t, p)
		wantPushes(t, d, "main ..b000", "main b000..c000")
		if got := d.events[1].Origin; got != assay.OriginRecovered {
			t.Errorf("its origin is %q", got)
		}
		delivered(hash("c")) // after all
		if len(d.events) != 2 {
			t.Error("a push is two events")
		}
	})
}

// TestPatienceIsPerCommit holds that a branch that moves on while we wait begins
// to wait anew.
func TestPatienceIsPerCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := newDesk(), &remote{}
		p := newPoll(d, r, Target{Webhook: true, Source: "gitea"})
		r.set("main", hash("a"))
		look(t, p)
		for _, at := range []string{"b", "c"} {
			r.set("main", hash(at))
			look(t, p)
			time.Sleep(defaultGrace - 1)
		}
		look(t, p)
		wantPushes(t, d)
		time.Sleep(time.Nanosecond)
		look(t, p)
		wantPushes(t, d, "main a000..c000")
	})
}

// TestMeaningIsTheIntakes holds PushMeaning against every push that the intake has
// on record.
func TestMeaningIsTheIntakes(t *testing.T) {
	files, err := filepath.Glob("../fixtures/webhooks/*/*.want.json")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, file := range files {
		var want struct {
			Event struct{ Source, Meaning, Kind, Repo, Ref, Commit, Ignored string }
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(data, &want) // a record without an event has no push either
		e := want.Event
		if e.Kind != "push" || e.Ignored != "" {
			continue
		}
		sources = append(sources, e.Source)
		push := (Target{Repo: e.Repo, Source: e.Source}).withDefaults().event(move{ref: e.Ref, after: e.Commit}, 0)
		if got := PushMeaning(push); got != e.Meaning {
			t.Errorf("%s: the meaning is %q, and the intake's %q", file, got, e.Meaning)
		}
	}
	for _, source := range []string{"git", "github"} {
		if !slices.Contains(sources, source) {
			t.Errorf("no push of %s is on record", source)
		}
	}
}

func FuzzRemembered(f *testing.F) {
	text, _ := remembered{Version: 1, Changes: 3, Heads: map[string]string{"refs/heads/main": hash("a")}}.encode()
	f.Add(text, "refs/heads/x", hash("b"))
	f.Add(`{"version":1,"heads":null}`, "refs/heads/\n", "x")
	f.Add("", "refs/heads/@{", strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, text, ref, commit string) {
		old, known, err := readRemembered(text)
		if err != nil {
			return
		}
		now, err := branches(map[string]string{ref: commit, "refs/heads/main": hash("c")})
		if err != nil {
			t.Fatal(err)
		}
		moves, next, err := compare(old, known, now, true)
		if err != nil {
			return
		}
		for _, m := range moves {
			if !validBranch(m.ref) || !validCommit(m.after) || strings.ContainsAny(m.ref, "\n\x1b\x00") {
				t.Errorf("passed: %+v", m)
			}
		}
		written, err := next.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, known, err := readRemembered(written)
		if err != nil || !known {
			t.Fatal(err, known)
		}
		if moves, _, err := compare(again, true, now, true); len(moves) > 0 || err != nil {
			t.Errorf("once more: %v, %v", moves, err)
		}
	})
}

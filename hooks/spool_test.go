package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

func newSpool(t *testing.T, log func(string)) *Spool {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := NewSpool(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add keeps an event for the branch and returns its delivery.
func add(t *testing.T, s *Spool, branch string) string {
	t.Helper()
	e, err := PostReceive{Repository: "r"}.event(Update{Old: one, New: two, Ref: "refs/heads/" + branch})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(e); err != nil {
		t.Fatal(err)
	}
	return e.Delivery
}

// recorder is a server that takes everything, in order.
type recorder struct {
	mu   sync.Mutex
	refs []string
}

func (r *recorder) post(_ context.Context, e Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refs = append(r.refs, strings.TrimPrefix(e.Event.Ref, "refs/heads/"))
	return nil
}

func TestSpoolDeliversInOrderAndOnce(t *testing.T) {
	s := newSpool(t, nil)
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
		add(t, s, want[i])
	}
	var r recorder
	for range 2 {
		if left, err := s.Deliver(t.Context(), r.post); left != 0 || err != nil {
			t.Errorf("got %d, %v", left, err)
		}
	}
	if !reflect.DeepEqual(r.refs, want) {
		t.Errorf("delivered %v", r.refs)
	}
}

func TestSpoolEntryIsWhatTheServerReads(t *testing.T) {
	s := newSpool(t, nil)
	id := add(t, s, "main")
	var got map[string]any
	_, err := s.Deliver(t.Context(), func(_ context.Context, e Entry) error { return json.Unmarshal(e.JSON, &got) })
	if err != nil {
		t.Fatal(err)
	}
	when, err := time.Parse(time.RFC3339, got["time"].(string))
	if err != nil || time.Since(when) > time.Hour {
		t.Errorf("the time is %v, %v", got["time"], err)
	}
	delete(got, "time")
	want := map[string]any{"version": 1.0, "delivery": id, "repository": "r", "ref": "refs/heads/main", "before": one, "after": two}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestSpoolStopsWhereTheServerDoes(t *testing.T) {
	s := newSpool(t, nil)
	for _, branch := range []string{"a", "b", "c"} {
		add(t, s, branch)
	}
	down := errors.New("down")
	var r recorder
	left, err := s.Deliver(t.Context(), func(ctx context.Context, e Entry) error {
		if e.Event.Ref == "refs/heads/b" {
			return down
		}
		return r.post(ctx, e)
	})
	if left != 2 || !errors.Is(err, down) {
		t.Errorf("got %d, %v", left, err)
	}
	if left, err := s.Deliver(t.Context(), r.post); left != 0 || err != nil {
		t.Errorf("got %d, %v", left, err)
	}
	if want := []string{"a", "b", "c"}; !reflect.DeepEqual(r.refs, want) {
		t.Errorf("delivered %v", r.refs)
	}
}

func TestSpoolSetsAsideWhatCannotBeDelivered(t *testing.T) {
	var log []string
	s := newSpool(t, func(line string) { log = append(log, line) })
	name := func() string { return uuid.Must(uuid.NewV7()).String() + ".json" }
	bad := map[string]string{
		name(): "", name(): "{", name(): `{"version":2}`, name(): `[]`,
		name(): strings.Repeat("x", maxEventSize+1), name(): `{"version":1,"delivery":"other"}`,
	}
	for file, content := range bad {
		put(t, filepath.Join(s.dir, file), content, 0o600)
	}
	add(t, s, "refused")
	add(t, s, "good")
	put(t, filepath.Join(s.dir, ".tmp-123"), "half of an event", 0o600) // of a process that was killed
	var r recorder
	left, err := s.Deliver(t.Context(), func(ctx context.Context, e Entry) error {
		if e.Event.Ref == "refs/heads/refused" {
			return fmt.Errorf("posting: %w", &Refusal{Reason: "404 Not Found"})
		}
		return r.post(ctx, e)
	})
	if left != 0 || err != nil || !reflect.DeepEqual(r.refs, []string{"good"}) {
		t.Errorf("got %d, %v, delivered %v", left, err, r.refs)
	}
	if got := s.SetAside(); got != len(bad)+1 || len(log) != got {
		t.Errorf("%d are set aside, with %d lines in the log", got, len(log))
	}
	reasons := ""
	for _, file := range filesIn(s.dir, "", ".reason") {
		reasons += read(t, file)
	}
	wantWords(t, reasons, "404 Not Found", "JSON", "version 2", `"other"`, "16384")
}

func TestSpoolKeepsFewOfWhatItSetsAside(t *testing.T) {
	s := newSpool(t, nil)
	for range maxSetAside + 5 {
		add(t, s, "x")
	}
	refuse := func(context.Context, Entry) error { return &Refusal{Reason: "no"} }
	if left, err := s.Deliver(t.Context(), refuse); left != 0 || err != nil {
		t.Errorf("got %d, %v", left, err)
	}
	if got := s.SetAside(); got != maxSetAside {
		t.Errorf("%d are set aside", got)
	}
	if got := len(filesIn(s.dir, "", ".reason")); got != maxSetAside {
		t.Errorf("there are %d reasons", got)
	}
}

func TestSpoolRefusesOddEvents(t *testing.T) {
	s := newSpool(t, nil)
	for _, id := range []string{"", "../../x", "x", "00000000-0000-7000-8000-00000000000g"} {
		wantError(t, s.Add(Event{Delivery: id}), "cannot keep", "UUID")
	}
	wantError(t, s.Add(Event{Delivery: uuid.NewString(), Ref: strings.Repeat("r", maxEventSize)}), "cannot keep", "large")
}

// TestSpoolHasOneDelivererAtATime holds that events are sent once, although
// many deliver and add at the same time.
func TestSpoolHasOneDelivererAtATime(t *testing.T) {
	s := newSpool(t, nil)
	var r recorder
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 5 {
				add(t, s, fmt.Sprintf("%d-%d", g, i))
				if _, err := s.Deliver(t.Context(), r.post); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	seen := map[string]bool{}
	for _, ref := range r.refs {
		seen[ref] = true
	}
	if left, _ := s.Left(); left != 0 || len(r.refs) != 40 || len(seen) != 40 {
		t.Errorf("%d left, %d sent, %d of them different", left, len(r.refs), len(seen))
	}
}

func TestDelivererWaitsLongerAndLonger(t *testing.T) {
	s := newSpool(t, nil)
	add(t, s, "a")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var tries []time.Duration
		err := s.DeliverUntilEmpty(t.Context(), func(context.Context, Entry) error {
			tries = append(tries, time.Since(start))
			if len(tries) < 10 {
				return errors.New("down")
			}
			return nil
		})
		sec := time.Second
		want := []time.Duration{0, sec, 3 * sec, 7 * sec, 15 * sec, 31 * sec, 63 * sec, 123 * sec, 183 * sec, 243 * sec}
		if err != nil || !reflect.DeepEqual(tries, want) {
			t.Errorf("got %v, tried after %v", err, tries)
		}
	})
}

func TestDelivererGivesUpAfterADay(t *testing.T) {
	s := newSpool(t, nil)
	add(t, s, "a")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		err := s.DeliverUntilEmpty(t.Context(), func(context.Context, Entry) error { return errors.New("down") })
		wantError(t, err, "cannot deliver 1 events", "next push")
		if took := time.Since(start); took != delivererTime {
			t.Errorf("it took %v", took)
		}
	})
	if left, _ := s.Left(); left != 1 {
		t.Errorf("%d are left", left)
	}
}

func TestSecondDelivererEndsAtOnce(t *testing.T) {
	s := newSpool(t, nil)
	add(t, s, "a")
	err := s.DeliverUntilEmpty(t.Context(), func(ctx context.Context, _ Entry) error {
		return s.DeliverUntilEmpty(ctx, func(context.Context, Entry) error {
			t.Error("the second delivers, too")
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDelivererTakesWhatComesLast adds an event while the deliverer sends what
// it believes is the last one.
func TestDelivererTakesWhatComesLast(t *testing.T) {
	s := newSpool(t, nil)
	add(t, s, "first")
	var r recorder
	err := s.DeliverUntilEmpty(t.Context(), func(ctx context.Context, e Entry) error {
		if len(r.refs) == 0 {
			add(t, s, "second")
		}
		return r.post(ctx, e)
	})
	if err != nil || !reflect.DeepEqual(r.refs, []string{"first", "second"}) {
		t.Errorf("got %v, delivered %v", err, r.refs)
	}
}

func TestPostReceiveGivesUpOnABusySpool(t *testing.T) {
	s := newSpool(t, nil)
	unlock, err := s.lock(t.Context(), "deliver.lock", true)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	started := 0
	p := PostReceive{
		Repository: "r", Server: "http://h", Spool: s,
		Post:  func(context.Context, Entry) error { return nil },
		Start: func() error { started++; return errors.New("cannot start it") },
	}
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		if err := p.Run(t.Context(), strings.NewReader(one+" "+two+" refs/heads/main\n"), &out); err != nil {
			t.Error(err)
		}
	})
	wantWords(t, out.String(), "http://h/events/", "it is kept, and sent again", "cannot start it; the next push sends it")
	if left, _ := s.Left(); left != 1 || started != 1 {
		t.Errorf("%d left, %d started", left, started)
	}
}

func TestWithoutGit(t *testing.T) {
	got := withoutGit([]string{"PATH=/bin", "GIT_DIR=.", "GIT_QUARANTINE_PATH=/q", "HOME=/h", "DIGIT_=1"})
	if want := []string{"PATH=/bin", "HOME=/h", "DIGIT_=1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

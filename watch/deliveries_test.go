package watch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-ci/assay"
)

// hub is a forge that remembers deliveries, newest first, ten on a page.
type hub struct {
	log     []Delivery
	gone    map[int64]bool // what it has forgotten
	err     error
	listed  int
	fetched []string
	redone  []int64
	loop    bool // its list never ends
	noTimes bool
}

func (h *hub) List(_ context.Context, page string) ([]Delivery, string, error) {
	h.listed++
	from, _ := strconv.Atoi(page)
	batch := h.log[min(from, len(h.log)):min(from+10, len(h.log))]
	if h.loop {
		return batch, "10", h.err
	}
	older := ""
	if from+10 < len(h.log) {
		older = strconv.Itoa(from + 10)
	}
	return batch, older, h.err
}

func (h *hub) Fetch(_ context.Context, d Delivery) (http.Header, []byte, error) {
	if h.gone[d.ID] {
		return nil, nil, fmt.Errorf("it is %w", assay.ErrNotFound)
	}
	h.fetched = append(h.fetched, d.Name)
	return http.Header{"Name": {d.Name}}, []byte("{}"), h.err
}

func (h *hub) Redeliver(_ context.Context, d Delivery) error {
	h.redone = append(h.redone, d.ID)
	return h.err
}

// add makes a delivery now.
func (h *hub) add(name string, ok bool) {
	d := Delivery{ID: int64(len(h.log) + 1), Name: name, Event: "push", At: time.Now(), OK: ok}
	if h.noTimes {
		d.At = time.Time{}
	}
	h.log = slices.Insert(h.log, 0, d)
}

// taker is the intake: it refuses what it cannot use, and stores the rest.
type taker struct {
	*desk
	err    error
	refuse string
}

func (k *taker) Take(ctx context.Context, source string, header http.Header, _ []byte) (bool, error) {
	name := header.Get("Name")
	if name == k.refuse {
		return false, fmt.Errorf("no good: %w", ErrRefused)
	}
	if k.err != nil {
		return false, k.err
	}
	_, fresh, err := k.AddEvent(ctx, assay.Event{Source: source, Delivery: name, Origin: assay.OriginRecovered}, header, nil)
	return fresh, err
}

func newReading(h *hub, d *desk) (*reading, *taker) {
	k := &taker{desk: d}
	o := options(d, nil)
	o.Intake = k
	return &reading{Options: o, hook: Hook{Name: "h/o/n", Source: "github", Forge: h}}, k
}

func read(t *testing.T, r *reading) (again time.Duration) {
	t.Helper()
	again, err := r.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func wantNames(t *testing.T, d *desk, want ...string) {
	t.Helper()
	var got []string
	for _, e := range d.events {
		got = append(got, e.Delivery)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the inbox has %q, want %q", got, want)
	}
}

func TestReadingRecoversWhatNeverArrived(t *testing.T) {
	for _, noTimes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, d := &hub{noTimes: noTimes}, newDesk()
			r, _ := newReading(h, d)
			found := 0
			r.Found = func(source string, origin assay.Origin) {
				if source != "github" || origin != assay.OriginRecovered {
					t.Errorf("found %q, %q", source, origin)
				}
				found++
			}
			h.add("before", true)
			h.add("lost", false)
			time.Sleep(time.Hour)
			read(t, r)
			wantNames(t, d, "lost") // the first time the forge's word counts
			for i := range 25 {
				h.add(fmt.Sprintf("n%02d", i), i%2 == 0)
			}
			_, _, _ = d.AddEvent(t.Context(), assay.Event{Source: "github", Delivery: "n07"}, nil, nil)
			time.Sleep(time.Hour)
			read(t, r)
			listed, fetched := h.listed, len(h.fetched)
			read(t, r)
			if len(h.fetched) != fetched || h.listed > listed+3 {
				t.Errorf("it fetches %q again", h.fetched[fetched:])
			}
			want := []string{"lost", "n07"}
			for i := range 25 {
				if i != 7 {
					want = append(want, fmt.Sprintf("n%02d", i))
				}
			}
			wantNames(t, d, want...)
			if found != 25 {
				t.Errorf("%d are counted", found)
			}
		})
	}
}

func TestFirstReadingLooksBackADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &hub{}, newDesk()
		h.add("last week", false)
		time.Sleep(7 * 24 * time.Hour)
		h.add("today", false)
		time.Sleep(time.Hour)
		r, _ := newReading(h, d)
		read(t, r)
		read(t, r)
		wantNames(t, d, "today")
	})
}

// TestReadingWaitsForWhatIsOnItsWay holds that a delivery has the grace to arrive,
// and is not forgotten by that.
func TestReadingWaitsForWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &hub{}, newDesk()
		r, _ := newReading(h, d)
		read(t, r)
		h.add("old", true)
		time.Sleep(defaultGrace)
		h.add("new", true)
		read(t, r)
		wantNames(t, d, "old")
		time.Sleep(defaultGrace)
		read(t, r)
		wantNames(t, d, "old", "new")
	})
}

// TestReadingIsKilledAnywhere fails each of its steps by turns.
func TestReadingIsKilledAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &hub{}, newDesk()
		r, _ := newReading(h, d)
		read(t, r)
		h.add("a", false)
		h.add("b", false)
		time.Sleep(time.Hour)
		h.err = errors.New("the forge is down")
		_, err := r.read(t.Context())
		wantError(t, err, "the forge is down")
		h.err = nil
		r, k := newReading(h, d) // another process
		k.err = errors.New("disk full")
		_, err = r.read(t.Context())
		wantError(t, err, "cannot recover the delivery", "disk full")
		d.dies = 1
		r, _ = newReading(h, d)
		_, err = r.read(t.Context())
		wantError(t, err, "killed")
		r, _ = newReading(h, d)
		read(t, r)
		wantNames(t, d, "a", "b")
	})
}

func TestReadingLeavesWhatCannotBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &hub{gone: map[int64]bool{1: true}}, newDesk()
		r, k := newReading(h, d)
		read(t, r)
		for _, name := range []string{"forgotten", "refused", "", "good"} {
			h.add(name, false)
		}
		h.log = slices.Insert(h.log, 0, Delivery{ID: 5, Name: "ping", Event: "ping", At: time.Now()})
		k.refuse = "refused"
		time.Sleep(time.Hour)
		read(t, r)
		fetched := len(h.fetched)
		read(t, r)
		wantNames(t, d, "good")
		if len(h.fetched) != fetched {
			t.Errorf("it asks for %q again", h.fetched[fetched:])
		}
	})
}

// TestReadingAsksForAnotherDelivery holds that what the forge did not keep is asked
// for once for each try.
func TestReadingAsksForAnotherDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &hub{noTimes: true}, newDesk()
		r, _ := newReading(h, d)
		h.add("large", false)
		h.log[0].Cut = true
		read(t, r)
		read(t, r)
		h.add("large", false) // tried again, in vain
		h.log[0].Cut = true
		read(t, r)
		if !slices.Equal(h.redone, []int64{1, 2}) || len(h.fetched) > 0 {
			t.Errorf("asked for %v again, fetched %q", h.redone, h.fetched)
		}
	})
}

func TestLongReadingsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := &hub{}, newDesk()
		r, _ := newReading(h, d)
		read(t, r)
		const all = maxListed + 300
		for i := range all {
			h.add(fmt.Sprintf("n%04d", i), true)
		}
		time.Sleep(time.Hour)
		readings := 0
		for again := hurry; again == hurry; readings++ {
			before := len(h.fetched)
			again = read(t, r)
			if n := len(h.fetched) - before; n > maxTaken {
				t.Fatalf("one reading fetched %d", n)
			}
			if readings > 100 {
				t.Fatal("it never ends")
			}
			r, _ = newReading(h, d) // every one in a process of its own
		}
		if len(d.events) != all || len(h.fetched) != all {
			t.Errorf("there are %d of %d, fetched were %d", len(d.events), all, len(h.fetched))
		}
	})
}

func TestListThatNeverEnds(t *testing.T) {
	h, d := &hub{loop: true}, newDesk()
	r, _ := newReading(h, d)
	_, err := r.read(t.Context())
	wantError(t, err, "does not go on after the page")
}

func TestProgressThatCannotBeRead(t *testing.T) {
	for text, word := range map[string]string{"[": "remove that row", `{"version":7}`: "newer"} {
		d := newDesk()
		r, _ := newReading(&hub{}, d)
		d.texts[memoryOfDelivery+digest("github", "h/o/n")] = text
		_, err := r.read(t.Context())
		wantError(t, err, "cannot read how far", word)
	}
}

func FuzzProgress(f *testing.F) {
	f.Add(`{"version":1,"begun":true,"until":{"id":7,"at":"2026-01-31T12:00:00Z"},"page":"v1_2","top":{"id":9}}`, int64(8))
	f.Add(``, int64(-1))
	f.Fuzz(func(t *testing.T, text string, id int64) {
		p, err := readProgress(text)
		if err != nil {
			return
		}
		next := p.after(listing{top: mark{}.with(Delivery{ID: id})}, time.Unix(0, 0))
		written, err := next.encode()
		if err != nil {
			if strings.Contains(err.Error(), "year outside") {
				return // a time that no forge can have
			}
			t.Fatal(err)
		}
		again, err := readProgress(written)
		if err != nil {
			t.Fatal(err)
		}
		if again.Until.ID < p.Until.ID || p.Until.ID > 0 && !again.Until.covers(Delivery{ID: p.Until.ID}) {
			t.Errorf("%q goes back to %q", text, written)
		}
	})
}

package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assay-ci/assay"
)

// engine has what it was handed, in order.
type engine struct {
	Queue
	have   []string
	broken bool
}

func (e *engine) Publish(_ context.Context, x assay.Execution) error {
	if e.broken {
		return errors.New("disk full")
	}
	e.have = append(e.have, x.ID)
	return nil
}

func (e *engine) Next(context.Context) (Lease, error) {
	if len(e.have) == 0 {
		return nil, errors.New("empty")
	}
	l := &named{id: e.have[0]}
	e.have = e.have[1:]
	return l, nil
}

type named struct {
	Lease
	id string
}

func (n *named) Execution() string          { return n.id }
func (n *named) Done(context.Context) error { return nil }

func (n *named) Release(context.Context, time.Duration) error { return nil }

// lined publishes words such as "a1", of package a, "a2!" of a person, "a3-" of a
// timer, "a4~" that was begun before, and serves them one after the other.
func lined(t *testing.T, l *Line, words string) {
	t.Helper()
	for word := range strings.FieldsSeq(words) {
		x := assay.Execution{ID: strings.TrimRight(word, "!-~"), Package: word[:1], Priority: assay.PriorityBuild}
		switch {
		case strings.HasSuffix(word, "~"):
			x.Attempt = 3
		case strings.HasSuffix(word, "!"):
			x.Priority = assay.PriorityPerson
		case strings.HasSuffix(word, "-"):
			x.Priority = assay.PriorityTimer
		}
		if err := l.Publish(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
}

func served(t *testing.T, l *Line) string {
	t.Helper()
	var order []string
	for {
		lease, err := l.Next(t.Context())
		if err != nil {
			return strings.Join(order, " ")
		}
		order = append(order, lease.Execution())
		if err := lease.Done(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLine(t *testing.T) {
	for words, want := range map[string]string{
		"a1 a2 a3":               "a1 a2 a3",
		"a1 a2 a3 b1 b2 c1":      "a1 b1 c1 a2 b2 a3",
		"a1 a2 b1 c1! c2!":       "a1 c1 c2 b1 a2",
		"a1- b1 c1- a2! b2":      "a1 a2 b1 b2 c1",
		"a1 a1 a2 a2":            "a1 a2",
		"a1! a2! a3! a4! b1 b2-": "a1 a2 a3 a4 b1 b2",
	} {
		l := NewLine(&engine{}, 1, 0)
		lined(t, l, words)
		if got := served(t, l); got != want {
			t.Errorf("%s: served %s, want %s", words, got, want)
		}
	}
}

func TestLineHasPlaces(t *testing.T) {
	e := &engine{}
	l := NewLine(e, 3, 2)
	lined(t, l, "a1 a2 a3 b1 b2 c1!")
	if got := strings.Join(e.have, " "); got != "a1 a2 b1" {
		t.Errorf("the engine has %s", got)
	}
	for id, want := range map[string]string{
		"a1": "", "unknown": "",
		"a3": "a has 2 executions under way, which is its limit",
		"b2": "all 3 places are taken, 1 before it in line",
		"c1": "all 3 places are taken, 0 before it in line",
	} {
		if got := l.Place(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	l.Forget("b2")
	l.Forget("unknown")
	if got := served(t, l); got != "a1 a2 b1 c1 a3" {
		t.Errorf("served %s", got)
	}
}

func TestLineGoesOnWhileOneRests(t *testing.T) {
	e := &engine{}
	l := NewLine(e, 1, 0)
	lined(t, l, "a1 b1")
	lease, err := l.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Release(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := served(t, l); got != "b1" {
		t.Errorf("served %q", got)
	}
}

func TestLineKeepsWhatTheEngineRefuses(t *testing.T) {
	e := &engine{broken: true}
	l := NewLine(e, 1, 0)
	if err := l.Publish(t.Context(), assay.Execution{ID: "a1", Package: "a"}); err == nil {
		t.Error("nobody was told")
	}
	e.broken = false
	lined(t, l, "a1 a2")
	if got := served(t, l); got != "a1 a2" {
		t.Errorf("served %s", got)
	}
}

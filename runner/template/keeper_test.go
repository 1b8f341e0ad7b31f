package template

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// factory makes templates when it is told to.
type factory struct {
	t     *testing.T
	store Store
	made  atomic.Int32
	go_   chan error // each value ends one making, with that error if there is one
	begun chan struct{}
}

func newFactory(t *testing.T) *factory {
	return &factory{t: t, store: newStore(t), go_: make(chan error), begun: make(chan struct{}, 100)}
}

func (f *factory) make(ctx context.Context, tell func(string)) (Template, error) {
	tell("booting")
	f.begun <- struct{}{}
	select {
	case err := <-f.go_:
		if err != nil {
			return Template{}, err
		}
	case <-ctx.Done():
		return Template{}, ctx.Err()
	}
	f.made.Add(1)
	return publish(f.t, f.store, recipe("a"), 1), nil
}

func silent(string) {}

func TestMadeOnceForAll(t *testing.T) {
	f := newFactory(t)
	k := &Keeper{Store: f.store}
	defer k.Close()
	const asked = 20
	var group sync.WaitGroup
	var told atomic.Int32
	var joined sync.WaitGroup
	joined.Add(asked)
	for range asked {
		group.Go(func() {
			var once sync.Once
			made, err := k.Get(t.Context(), recipe("a").Key(), func(string) { told.Add(1); once.Do(joined.Done) }, f.make)
			if err != nil || made.Key != recipe("a").Key() {
				t.Errorf("got %+v, %v", made, err)
			}
		})
	}
	joined.Wait() // all are told, also those who came later
	f.go_ <- nil
	group.Wait()
	if f.made.Load() != 1 || told.Load() != asked {
		t.Errorf("made %d times, told %d times", f.made.Load(), told.Load())
	}
	if _, err := k.Get(t.Context(), recipe("a").Key(), silent, f.make); err != nil || f.made.Load() != 1 {
		t.Errorf("made again: %v", err)
	}
}

func TestFailureReachesAllAndIsNotKept(t *testing.T) {
	f := newFactory(t)
	k := &Keeper{Store: f.store}
	defer k.Close()
	broken := errors.New("no such package")
	done := make(chan error)
	go func() { _, err := k.Get(t.Context(), recipe("a").Key(), silent, f.make); done <- err }()
	f.go_ <- broken
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	go func() { _, err := k.Get(t.Context(), recipe("a").Key(), silent, f.make); done <- err }()
	f.go_ <- nil
	if err := <-done; err != nil {
		t.Errorf("the next try: %v", err)
	}
}

func TestTheLastWhoLeavesEndsIt(t *testing.T) {
	f := newFactory(t)
	k := &Keeper{Store: f.store}
	defer k.Close()
	first, leaveFirst := context.WithCancel(t.Context())
	second, leaveSecond := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { _, err := k.Get(first, recipe("a").Key(), silent, f.make); done <- err }()
	<-f.begun
	joined := make(chan struct{})
	go func() {
		_, err := k.Get(second, recipe("a").Key(), func(string) { close(joined) }, f.make)
		done <- err
	}()
	<-joined
	leaveFirst()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	leaveSecond() // ends the making: nobody sends to go_
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the second: %v", err)
	}
	go func() { _, err := k.Get(t.Context(), recipe("a").Key(), silent, f.make); done <- err }()
	f.go_ <- nil
	if err := <-done; err != nil {
		t.Errorf("who asks after that begins anew: %v", err)
	}
}

func TestOldServesWhileItIsRenewed(t *testing.T) {
	f := newFactory(t)
	old := publish(t, f.store, recipe("a"), 1)
	told := make(chan error, 2)
	k := &Keeper{Store: f.store, MaxAge: time.Nanosecond, Made: func(_ Template, err error) { told <- err }}
	for range 2 { // it is being renewed once
		got, err := k.Get(t.Context(), old.Key, silent, f.make)
		if err != nil || got.Generation != old.Generation {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	f.go_ <- errors.New("the mirror is down")
	if err := <-told; err == nil {
		t.Error("it was renewed")
	}
	if got, err := f.store.Find(old.Key); err != nil || got.Generation != old.Generation {
		t.Errorf("a renewal that failed has harmed the old one: %+v, %v", got, err)
	}
	if _, err := k.Get(t.Context(), old.Key, silent, f.make); err != nil {
		t.Fatal(err)
	}
	f.go_ <- nil
	if err := <-told; err != nil {
		t.Error(err)
	}
	if got, err := f.store.Find(old.Key); err != nil || got.Generation == old.Generation {
		t.Errorf("it was not renewed: %+v, %v", got, err)
	}
	k.Close()
}

// TestTwoProcesses has two keepers, as two processes have, on one store.
func TestTwoProcesses(t *testing.T) {
	f := newFactory(t)
	one, two := &Keeper{Store: f.store}, &Keeper{Store: f.store}
	defer one.Close()
	defer two.Close()
	done := make(chan error, 2)
	go func() { _, err := one.Get(t.Context(), recipe("a").Key(), silent, f.make); done <- err }()
	<-f.begun
	waits := make(chan struct{})
	go func() {
		_, err := two.Get(t.Context(), recipe("a").Key(), func(string) { close(waits) }, f.make)
		done <- err
	}()
	<-waits
	f.go_ <- nil
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if f.made.Load() != 1 {
		t.Errorf("made %d times", f.made.Load())
	}
}

func TestClosedKeeperMakesNothing(t *testing.T) {
	f := newFactory(t)
	k := &Keeper{Store: f.store}
	done := make(chan error)
	go func() { _, err := k.Get(t.Context(), recipe("a").Key(), silent, f.make); done <- err }()
	<-f.begun
	go k.Close() // ends what is being made
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("what was being made: %v", err)
	}
	k.Close()
	if _, err := k.Get(t.Context(), recipe("a").Key(), silent, f.make); !errors.Is(err, errClosed) {
		t.Errorf("after that: %v", err)
	}
	if entries, err := os.ReadDir(f.store.Root); err != nil || len(entries) > 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

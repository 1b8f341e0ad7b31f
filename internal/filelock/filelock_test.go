package filelock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Wait(t.Context(), path, func() { t.Error("it waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Wait(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up is told %v", err)
	}
	if _, err := Try(path); !errors.Is(err, ErrHeld) {
		t.Errorf("who does not wait is told %v", err)
	}
	waits, got := make(chan struct{}), make(chan error)
	go func() {
		second, err := Wait(t.Context(), path, func() { close(waits) })
		if err == nil {
			second()
		}
		got <- err
	}()
	<-waits
	select {
	case <-got:
		t.Error("two have the lock")
	default:
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
	if _, err := Wait(t.Context(), filepath.Join(path, "no", "such"), nil); err == nil {
		t.Error("a file that cannot be made is locked")
	}
}

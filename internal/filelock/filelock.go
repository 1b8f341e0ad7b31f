// Package filelock has processes of one host wait for each other by a lock on a
// file (flock(2)). The lock ends with the process that has it, also by kill -9;
// the file stays.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrHeld says that somebody else has the lock.
var ErrHeld = errors.New("another process has it")

// How often a lock that somebody else has is tried: soon at first.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// Try takes the lock on the file at path, which is made if need be, for its owner
// alone; the error is ErrHeld when somebody has it.
func Try(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	if err := TryFile(file); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil // closing unlocks
}

// TryFile takes the lock on an open file, until that is closed.
func TryFile(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrHeld
		default:
			return err
		}
	}
}

// Wait is Try that waits until nobody has the lock. waiting is called once if
// that is not at once; it may be nil. When ctx ends first the error wraps ctx's.
func Wait(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	err = wait(ctx, waiting, func() error {
		unlock, err = Try(path)
		return err
	})
	return unlock, err
}

// WaitFile is TryFile that waits until nobody has the lock, or ctx ends.
func WaitFile(ctx context.Context, file *os.File) error {
	return wait(ctx, nil, func() error { return TryFile(file) })
}

// wait tries until the lock is taken or never will be.
func wait(ctx context.Context, waiting func(), try func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try()
		if !errors.Is(err, ErrHeld) {
			return err
		}
		if pause == firstPause && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

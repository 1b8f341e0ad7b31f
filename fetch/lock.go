package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// errLocked says that somebody else has the lock.
var errLocked = errors.New("another download has it")

// tryLock takes the flock(2) on the file at path, which is made if need be. It
// ends with the process that has it, also by kill -9; the file stays.
func tryLock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), file.Close())
}

// lock is tryLock that waits; waiting is called once if that is not at once.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	const first, last = 5 * time.Millisecond, 100 * time.Millisecond
	for pause := first; ; pause = min(2*pause, last) {
		unlock, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return unlock, err
		}
		if pause == first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

package repo

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-ci/assay/internal/filelock"
)

// lockFile takes the lock that the file stands for, among all processes. The
// kernel gives it back when its holder dies. The file itself stays.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	unlock, err = filelock.Wait(ctx, path, nil)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("cannot wait any longer for the lock %s: %w", path, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("%w: make its directory writable, and put the cache on a local disk", err)
	}
	return unlock, nil
}

// pause waits for so long, or until ctx ends, which is then the error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

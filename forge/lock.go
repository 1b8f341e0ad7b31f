package forge

import (
	"context"
	"fmt"
	"sync"
)

// keyed is one lock per key. The zero value is ready; a key that nobody holds
// or waits for takes no memory.
type keyed struct {
	mu   sync.Mutex
	keys map[string]*turn
}

type turn struct {
	token chan struct{} // holds one element while the lock is free
	users int           // who hold it or wait
}

// lock waits for the key's turn. The error is a *RetryError that wraps
// ctx.Err().
func (k *keyed) lock(ctx context.Context, key string) (release func(), err error) {
	t := k.join(key)
	select {
	case <-t.token:
		return func() {
			t.token <- struct{}{}
			k.leave(key)
		}, nil
	case <-ctx.Done():
		k.leave(key)
		return nil, &RetryError{Err: fmt.Errorf("cannot wait for other reports on %s: %w", key, ctx.Err())}
	}
}

func (k *keyed) join(key string) *turn {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = map[string]*turn{}
	}
	t := k.keys[key]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		t.token <- struct{}{}
		k.keys[key] = t
	}
	t.users++
	return t
}

func (k *keyed) leave(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.keys[key]
	if t.users--; t.users == 0 {
		delete(k.keys, key)
	}
}

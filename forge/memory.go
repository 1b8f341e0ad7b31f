package forge

import "sync"

// memory remembers something by key, for a bounded number of keys. The zero
// value is ready. It only saves requests: forgetting is harmless.
type memory[T any] struct {
	mu     sync.Mutex
	things map[string]T
}

// maxKnown bounds the keys of a memory; when it is full everything is forgotten.
const maxKnown = 4096

func (m *memory[T]) get(key string) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	thing, ok := m.things[key]
	return thing, ok
}

func (m *memory[T]) set(key string, thing T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.things == nil || len(m.things) >= maxKnown {
		m.things = map[string]T{}
	}
	m.things[key] = thing
}

func (m *memory[T]) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.things, key)
}

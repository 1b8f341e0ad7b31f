package sshconn

import (
	"context"
	"fmt"
	"io"
)

// Request sends a global request (RFC 4254, section 4) and returns the answer:
// whether the peer did it, and what it said.
func (m *Machine) Request(ctx context.Context, name string, payload []byte) (bool, []byte, error) {
	type answer struct {
		ok      bool
		payload []byte
		err     error
	}
	answered := make(chan answer, 1)
	go func() { // see open for what the library does when the connection ends
		ok, payload, err := m.client.SendRequest(name, true, payload)
		answered <- answer{ok, payload, err}
	}()
	var a answer
	select {
	case a = <-answered:
	case <-m.dead:
		a.err = io.EOF
	case <-ctx.Done():
		return false, nil, fmt.Errorf("cannot wait for the answer to %s: %w", name, ctx.Err())
	}
	if a.err != nil {
		return false, nil, m.died(fmt.Errorf("it did not answer %s: %v", name, a.err))
	}
	return a.ok, a.payload, nil
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// exchange is one question to a mirror whose answer is kept, shared by every
// guest that asks the same while it is under way. It ends when it is complete or
// the last guest has left it.
type exchange struct {
	store  *store
	key    string
	guests int // guarded by store.mu
	cancel context.CancelFunc
	ready  chan struct{} // closed when the fields below are set
	done   chan struct{} // closed when its goroutine has ended

	err  error          // the mirror could not be asked
	same *kept          // what was kept is still right
	part *os.File       // the answer is being kept, as meta says
	meta meta           // of part
	resp *http.Response // the answer is not kept: for whoever claims it first

	mu      sync.Mutex
	moved   *sync.Cond
	written int64 // bytes of the body that part has
	ended   error // io.EOF when the body is whole, else why it ended early
	claimed bool
}

// join takes part in the exchange for a key, which ask begins unless it is under
// way. Leave it when done.
func (s *store) join(ctx context.Context, key string, ask func(context.Context, *exchange)) (one *exchange, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.flight[key]; one != nil {
		one.guests++
		return one, false
	}
	one = &exchange{store: s, key: key, guests: 1, ready: make(chan struct{}), done: make(chan struct{})}
	one.moved = sync.NewCond(&one.mu)
	// One guest's end is not the others': leave cancels.
	ctx, one.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.flight[key] = one
	go func() {
		defer close(one.done)
		ask(ctx, one)
	}()
	return one, true
}

// leave is called once by everybody who joined. The last one ends the exchange
// and waits for that.
func (e *exchange) leave() {
	e.store.mu.Lock()
	e.guests--
	last := e.guests == 0
	if last {
		e.landed()
	}
	e.store.mu.Unlock()
	if !last {
		return
	}
	e.cancel()
	<-e.done
	if e.resp != nil {
		_ = e.resp.Body.Close()
	}
	if e.part != nil {
		_ = e.part.Close() // kept or removed already
	}
	if e.same != nil {
		e.same.close()
	}
}

// landed makes the next guest begin anew; store.mu is held.
func (e *exchange) landed() {
	if e.store.flight[e.key] == e {
		delete(e.store.flight, e.key)
	}
}

// settle tells the guests what comes of the exchange. When nothing is being
// kept, the next guest begins anew.
func (e *exchange) settle() {
	if e.part == nil {
		e.store.mu.Lock()
		e.landed()
		e.store.mu.Unlock()
	}
	close(e.ready)
}

// claim takes an answer that is not kept; false when another guest has it.
func (e *exchange) claim() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := !e.claimed
	e.claimed = true
	return first
}

// fill keeps the body and tells the guests of every piece.
func (e *exchange) fill(body io.Reader) {
	err := e.copyBody(body)
	if err == nil {
		err = e.store.keep(e.part, e.meta)
	}
	if err != nil {
		e.store.drop(e.part, e.meta)
	}
	e.store.mu.Lock()
	e.landed()
	e.store.mu.Unlock()
	if err == nil {
		err = io.EOF
	}
	e.mu.Lock()
	e.ended = err
	e.mu.Unlock()
	e.moved.Broadcast()
}

// copyBody copies exactly as many bytes as the mirror announced.
func (e *exchange) copyBody(body io.Reader) error {
	buffer := make([]byte, 64<<10)
	for at := int64(0); at < e.meta.Size; {
		n, err := body.Read(buffer[:min(int64(len(buffer)), e.meta.Size-at)])
		if n > 0 {
			if _, werr := e.part.WriteAt(buffer[:n], headSize+at); werr != nil {
				e.store.fail()
				return fmt.Errorf("cannot keep a package: %w", werr)
			}
			at += int64(n)
			e.mu.Lock()
			e.written = at
			e.mu.Unlock()
			e.moved.Broadcast()
		}
		if err != nil && at < e.meta.Size {
			return fmt.Errorf("the mirror's answer ended after %d of %d bytes: %w", at, e.meta.Size, err)
		}
	}
	return nil
}

// reader reads the body as it comes in, until it is whole or ctx ends.
func (e *exchange) reader(ctx context.Context) io.Reader { return &follower{e: e, ctx: ctx} }

// follower is one guest's reading of a body that is being fetched.
type follower struct {
	e   *exchange
	ctx context.Context
	at  int64
}

func (f *follower) Read(p []byte) (int, error) {
	have, err := f.await()
	if have == 0 {
		return 0, err
	}
	n, err := f.e.part.ReadAt(p[:min(int64(len(p)), have)], headSize+f.at)
	f.at += int64(n)
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return n, err
}

// await returns how many bytes there are to read, or why there will be none.
func (f *follower) await() (int64, error) {
	stop := context.AfterFunc(f.ctx, func() {
		f.e.mu.Lock() // so that it cannot come between the look and the wait
		defer f.e.mu.Unlock()
		f.e.moved.Broadcast()
	})
	defer stop()
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	for f.at == f.e.written && f.e.ended == nil && f.ctx.Err() == nil {
		f.e.moved.Wait()
	}
	if f.ctx.Err() != nil {
		return 0, f.ctx.Err()
	}
	return f.e.written - f.at, f.e.ended
}

// patient ends a request whose answer pauses longer than idle.
type patient struct {
	body io.Reader
	idle time.Duration
	late *time.Timer
}

// newPatient reads a body; cancel must end the request it belongs to.
func newPatient(body io.Reader, idle time.Duration, cancel func()) *patient {
	return &patient{body: body, idle: idle, late: time.AfterFunc(idle, cancel)}
}

func (p *patient) Read(b []byte) (int, error) {
	p.late.Reset(p.idle)
	return p.body.Read(b)
}

func (p *patient) stop() { p.late.Stop() }

package attach

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
)

// relay joins a client's session with one in the machine.
type relay struct {
	server *server
	client ssh.Channel
	guest  ssh.Channel
	access Access
	begun  bool           // something was started
	exits  chan int       // how it ended, if the machine says so; closed with gone
	gone   chan struct{}  // closed when the machine has closed the session
	parts  sync.WaitGroup // heed and carry
	exit   int            // valid when carry is over
}

// session serves one channel that a client wants to open, until it is closed on
// both sides.
func (s *server) session(ctx context.Context, offered ssh.NewChannel, who Access) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	guest, said, err := s.options.Open(opening)
	cancel()
	if err != nil {
		_ = offered.Reject(ssh.ConnectionFailed, printable(err.Error()))
		return
	}
	r := &relay{server: s, guest: guest, access: who, exits: make(chan int, 1), gone: make(chan struct{})}
	r.parts.Go(func() { r.heed(said) })
	if client, requests, err := offered.Accept(); err == nil { // or the connection is ending
		r.client = client
		r.serve(requests)
	}
	_ = guest.Close() // kills what runs there
	r.parts.Wait()
	r.ended()
}

// serve does what the client asks for until it closes the channel, or is told
// that the machine has.
func (r *relay) serve(requests <-chan *ssh.Request) {
	if dir := r.server.options.Dir; dir != "" {
		// A machine without it is no reason to keep anybody out.
		_, _ = r.guest.SendRequest(agent.DirRequest, true, ssh.Marshal(struct{ Dir string }{dir}))
	}
	gone := r.gone
	for {
		select {
		case request, more := <-requests:
			if !more {
				return
			}
			r.answer(request)
		case <-gone:
			if gone = nil; !r.begun { // or carry closes it, when all has been copied
				_ = r.client.Close()
			}
		}
	}
}

// answer does what one request asks for. What was started is heard of when the
// client knows that it was: its end must not overtake the reply.
func (r *relay) answer(request *ssh.Request) {
	before := r.begun
	ok := r.forward(request)
	if request.WantReply {
		_ = request.Reply(ok, nil) // an ending channel ends the loop
	}
	if r.begun && !before {
		r.parts.Go(r.carry)
	}
}

// forward does in the machine what the client asks for, and tells whether it was
// done. What a shell does not need is refused: the machine might offer more.
func (r *relay) forward(request *ssh.Request) bool {
	switch request.Type {
	case "env", "pty-req", "window-change", "signal", "shell", "exec":
	default:
		return false
	}
	started, starts := r.access.started(request)
	if starts && r.begun {
		return false
	}
	ok, err := r.guest.SendRequest(request.Type, request.WantReply || starts, request.Payload)
	if err != nil || !ok {
		return false
	}
	switch {
	case request.Type == "pty-req":
		r.access.Terminal = true
	case starts:
		r.access, r.begun = started, true
		r.server.record(r.access)
	}
	return true
}

// record tells of an access.
func (s *server) record(a Access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Record(a)
}

// ended tells of the access's end, if it had begun.
func (r *relay) ended() {
	if !r.begun {
		return
	}
	r.access.Ended, r.access.Exit = time.Now(), r.exit
	r.server.record(r.access)
}

// carry copies both ways, as fast as the slower side takes it, until the machine
// has closed its outputs; then it tells the client how it ended.
func (r *relay) carry() {
	var outputs, input sync.WaitGroup
	outputs.Go(func() { _, _ = io.Copy(r.client, r.guest) }) // whichever side ends, the channel does
	outputs.Go(func() { _, _ = io.Copy(r.client.Stderr(), r.guest.Stderr()) })
	input.Go(func() {
		_, _ = io.Copy(r.guest, r.client) // a command need not read its input
		_ = r.guest.CloseWrite()
	})
	outputs.Wait()
	_ = r.client.CloseWrite()
	exit, known := <-r.exits
	if r.exit = -1; known {
		r.exit = exit
		_, _ = r.client.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(exit)}))
	}
	_ = r.client.Close() // ends the copy of its input
	input.Wait()
}

// heed takes what the machine says about a session until it closes it, and leaves
// how it ended in exits. Nothing holds it up: what a hostile machine says besides
// must not pile up before its other channels.
func (r *relay) heed(said <-chan *ssh.Request) {
	defer close(r.gone)
	defer close(r.exits)
	known := false
	for request := range said {
		if exit, ok := agent.ExitCode(request.Type, request.Payload); ok && !known {
			known = true
			r.exits <- exit // there is room for one
		}
		if request.WantReply {
			_ = request.Reply(false, nil) // an ending channel ends the loop
		}
	}
}

package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/assay-ci/assay/runner/agent"
)

// A template's agent is frozen in the middle of a handshake: it has heard who the
// host is, has said who it is and which algorithms it offers, and waits for the
// host's offer. None of that differs between forks; what follows does. A fork's
// emulator translates each program anew when it first runs, so what its agent
// need not do again is time that nobody waits for.

// clientVersion is how the host begins (RFC 4253, section 4.2): always with the
// same words, since a template's agent has heard them.
const clientVersion = "SSH-2.0-Assay"

// What an agent may say before it hears an offer: one line, one packet (RFC 4253,
// sections 4.2 and 6.1), in bytes.
const (
	maxVersion = 255
	maxPacket  = 35000
)

// agentPause is how long an agent whose client has left takes to be there for
// the next one.
const agentPause = 500 * time.Millisecond

// hush makes the guest ready to be frozen and its agent wait in the middle of a
// handshake. The connection must be there until the guest is stopped.
func (one *Machine) hush(ctx context.Context) (raw net.Conn, greeting []byte, err error) {
	one.mu.Lock()
	guest := one.guest
	one.guest = nil
	one.mu.Unlock()
	ok, reply, err := guest.Request(ctx, agent.FreezeRequest, nil)
	if err == nil && !ok {
		err = fmt.Errorf("its agent refused: %q: build the image again with this version", reply[:min(len(reply), 200)])
	}
	_ = guest.Close() // nothing is under way
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-time.After(agentPause):
	}
	var dialer net.Dialer
	if raw, err = dialer.DialContext(ctx, "unix", one.socketPath()); err != nil {
		return nil, nil, fmt.Errorf("cannot reach the guest's agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if greeting, err = greet(raw); err != nil {
		_ = raw.Close() // the failure is what counts
		return nil, nil, fmt.Errorf("cannot begin to speak to the guest's agent: %w", err)
	}
	return raw, greeting, nil
}

// msgKexInit is SSH_MSG_KEXINIT (RFC 4253, section 12).
const msgKexInit = 20

// greet exchanges versions with an agent and returns all that it says before it
// waits for an offer. The agent speaks first: by then it is there to hear.
func greet(raw io.ReadWriter) ([]byte, error) {
	var said []byte
	for !bytes.HasSuffix(said, []byte("\n")) {
		if len(said) == maxVersion {
			return nil, errors.New("it says no version")
		}
		next := make([]byte, 1)
		if _, err := io.ReadFull(raw, next); err != nil {
			return nil, err
		}
		said = append(said, next...)
	}
	if _, err := io.WriteString(raw, clientVersion+"\r\n"); err != nil {
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(raw, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size < 2 || size > maxPacket {
		return nil, fmt.Errorf("its first packet has %d bytes", size)
	}
	packet := make([]byte, size)
	if _, err := io.ReadFull(raw, packet); err != nil {
		return nil, err
	}
	if packet[1] != msgKexInit { // after the length of the padding
		return nil, errors.New("it makes no offer")
	}
	return slices.Concat(said, head, packet), nil
}

// resumed is a connection whose first words were exchanged before: what was heard
// is heard again, what was said is not said again.
type resumed struct {
	net.Conn
	heard io.Reader // of Read alone
	unsay int       // bytes; of Write alone
}

// goOn resumes a handshake after greet.
func goOn(raw net.Conn, greeting []byte) net.Conn {
	return &resumed{Conn: raw, heard: io.MultiReader(bytes.NewReader(greeting), raw), unsay: len(clientVersion + "\r\n")}
}

func (r *resumed) Read(p []byte) (int, error) { return r.heard.Read(p) }

func (r *resumed) Write(p []byte) (int, error) {
	n := min(r.unsay, len(p))
	if r.unsay -= n; n == len(p) {
		return n, nil
	}
	more, err := r.Conn.Write(p[n:])
	return n + more, err
}

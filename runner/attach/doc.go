// Package attach lets a person into a machine that another process runs. That
// process has the machine's one connection; here it serves a socket on which
// each session becomes a channel of that connection (Serve). The person's
// process speaks to the socket (Shell). Both speak SSH (RFC 4254, section 6), so
// that terminals, signals, flow control and exit codes need no words of our own.
//
// Who may open the socket may do everything in the machine: it lies in a private
// directory, is its owner's alone, and its other end is asked for its user
// besides. Who came, when, and what he ran is told to Options.Record.
//
// The machine is not trusted, but what it prints in a shell goes to the person's
// terminal as it is: a program in it can change the terminal's title, colours
// and clipboard as any program at the end of ssh can. reset(1) helps against the
// harmless part of that; nobody should paste what a hostile machine made him copy.
package attach

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// SocketName is what the socket is called in a machine's private run directory.
const SocketName = "shell.sock"

// Listen makes the socket at path, for its owner alone. The directory must be
// private: for a moment the socket has what the process's umask gives it.
func Listen(path string) (net.Listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket to enter a machine: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the socket to enter a machine private: %w", err), l.Close())
	}
	return l, nil
}

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// controlName is the socket of a running server, in its data directory.
const controlName = "control.sock"

// longestSocket is how long the path of a socket may be (unix(7), sun_path).
const longestSocket = 107

// socketPath is a path by which a socket in dir can be bound or reached, however
// long that directory's own is. It is good until done is called.
func socketPath(dir, name string) (path string, done func(), err error) {
	if path = filepath.Join(dir, name); len(path) <= longestSocket {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { _ = d.Close() }, nil
}

// listenControl makes the socket in the data directory, for its owner alone. The
// caller must have the directory to himself: what a dead server left is replaced.
// Closing the listener removes the socket.
func listenControl(data string) (net.Listener, error) {
	l, err := bindControl(data)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket for the operator's commands in %s: %w", data, err)
	}
	return l, nil
}

// bindControl makes the socket in a private directory and moves it from there:
// where it is found it never had another mode, whatever the umask.
func bindControl(data string) (net.Listener, error) {
	private := filepath.Join(data, "control.new")
	if err := errors.Join(os.RemoveAll(private), os.Mkdir(private, 0o700)); err != nil {
		return nil, err
	}
	defer os.Remove(private)
	short, done, err := socketPath(private, controlName)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it is not there any more, soon
	made, path := filepath.Join(private, controlName), filepath.Join(data, controlName)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &ownListener{l, path}, nil
}

// ownListener lets in only the own user and root, whom nothing keeps out.
type ownListener struct {
	*net.UnixListener
	path string
}

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerOf(conn); err == nil && (uid == 0 || uid == os.Geteuid()) {
			return knownConn{conn, caller(uid)}, nil
		}
		_ = conn.Close() // he is told nothing
	}
}

// knownConn is a connection whose other end is a user of this host: requests
// have him for their remote address.
type knownConn struct {
	net.Conn
	from caller
}

func (c knownConn) RemoteAddr() net.Addr { return c.from }

// caller is the number of a user.
type caller int

func (c caller) Network() string { return "unix" }
func (c caller) String() string  { return fmt.Sprintf("user %d", int(c)) }

// Close removes the socket first: who finds it is answered.
func (l *ownListener) Close() error {
	_ = os.Remove(l.path) // it may be gone already
	return l.UnixListener.Close()
}

// peerOf is the user at the other end of a Unix socket, as the kernel says
// (unix(7), SO_PEERCRED).
func peerOf(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var who *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, asked); err != nil {
		return -1, err
	}
	return int(who.Uid), nil
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Port is a virtio-serial port as a connection. While no host has the other
// end open, reading gives io.EOF.
type Port struct{ *os.File }

// OpenPort opens the port at path, a character device of the guest. A port can
// be open only once at a time.
func OpenPort(path string) (*Port, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the agent's port: %w", err)
	}
	return &Port{File: file}, nil
}

// FindPort gives the device of the virtio-serial port with that name, from what
// the kernel itself says below sys ("/sys"): the links that udev makes of it
// come seconds later.
func FindPort(sys, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(sys, "class/virtio-ports/*/name"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSuffix(string(text), "\n") == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", fmt.Errorf("cannot find the virtio-serial port %s: the machine was given none", name)
}

// AwaitHost returns when a host has the other end of the port open, or with
// ctx's error when ctx ends.
func (p *Port) AwaitHost(ctx context.Context) error {
	queue, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot wait for the host: %w", err)
	}
	defer func() { _ = unix.Close(queue) }()
	raw, err := p.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot wait for the host: %w", err)
	}
	// Edge-triggered, because the port hangs up all the time that nobody has the
	// other end: each change of that is one event.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET}
	var added error
	if err := raw.Control(func(fd uintptr) {
		added = unix.EpollCtl(queue, unix.EPOLL_CTL_ADD, int(fd), &event)
	}); err != nil {
		return fmt.Errorf("cannot wait for the host: %w", err)
	}
	if added != nil {
		return fmt.Errorf("cannot wait for the host: %w", added)
	}
	return await(ctx, queue)
}

// await waits for the first event that is not a hang-up, and looks at ctx once
// a second.
func await(ctx context.Context, queue int) error {
	events := make([]unix.EpollEvent, 1)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(queue, events, 1000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("cannot wait for the host: %w", err)
		case n > 0 && events[0].Events&unix.EPOLLHUP == 0:
			return nil
		}
	}
	return ctx.Err()
}

// LocalAddr is the port's path.
func (p *Port) LocalAddr() net.Addr { return address(p.Name()) }

// RemoteAddr is a word for the host.
func (p *Port) RemoteAddr() net.Addr { return address("host") }

type address string

func (a address) Network() string { return "virtio-serial" }
func (a address) String() string  { return string(a) }

// ServePort serves one client of a port after the other until ctx ends. find
// gives the port's device. Each time the port is opened afresh, which drops what
// the last client left in it. report is told how each connection ended, and what
// kept the port from being opened.
func (s *Server) ServePort(ctx context.Context, find func() (string, error), report func(error)) {
	for ctx.Err() == nil {
		path, err := find()
		var port *Port
		if err == nil {
			port, err = OpenPort(path)
		}
		if err != nil {
			report(err)
			pause(ctx, 200*time.Millisecond)
			continue
		}
		if err := port.AwaitHost(ctx); err != nil {
			_ = port.Close()
			continue
		}
		if err := s.Serve(ctx, port); err != nil {
			report(err)
		}
	}
}

// pause waits unless ctx ends first.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

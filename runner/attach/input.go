package attach

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyInput copies a file to a session until it ends or stop is called, then
// closes the session's input. A file is read only when there is something to
// read, so that stop leaves nobody behind who waits for the next key. Before
// stop, end the session: it may not take any more.
func copyInput(in *os.File, to io.WriteCloser) (stop func(), err error) {
	if in == nil {
		_ = to.Close() // a session that has ended needs no end of its input
		return func() {}, nil
	}
	asleep, wake, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot read what is typed: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		pump(int(in.Fd()), int(asleep.Fd()), to)
		_ = to.Close()
	}()
	return func() {
		_ = wake.Close() // seen as the pipe's end
		<-done
		_ = asleep.Close()
	}, nil
}

// pump copies from one descriptor until its end, or that of the other.
func pump(in, asleep int, to io.Writer) {
	buffer := make([]byte, 32<<10)
	for {
		ready := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(asleep), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if ready[1].Revents != 0 {
			return
		}
		if ready[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(in, buffer)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

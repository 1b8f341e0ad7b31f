package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Bounds of what a client may ask a terminal to be.
const (
	maxTerm  = 64   // bytes of the terminal's kind
	maxSide  = 2000 // characters: programs allocate what the window holds
	maxModes = 256  // terminal modes; RFC 4254 knows about 60
)

// tty is the terminal that a client asked for.
type tty struct {
	term  string // TERM, the key of a terminfo entry
	size  pty.Winsize
	modes []mode
}

// mode is one setting of a terminal (RFC 4254, section 8).
type mode struct {
	code  byte
	value uint32
}

// parseTTY reads the payload of "pty-req" (RFC 4254, section 6.2). A size of 0
// means the usual one, and one that is too large the largest.
func parseTTY(payload []byte) (*tty, bool) {
	var message struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        []byte
	}
	if ssh.Unmarshal(payload, &message) != nil {
		return nil, false
	}
	if message.Term == "" {
		message.Term = "dumb"
	}
	modes, ok := parseModes(message.Modes)
	if !ok || !validTerm(message.Term) {
		return nil, false
	}
	t := &tty{term: message.Term, size: pty.Winsize{Rows: 24, Cols: 80}, modes: modes}
	t.resize(message.Columns, message.Rows, message.Width, message.Height)
	return t, true
}

// parseWindow reads the payload of "window-change" (RFC 4254, section 6.7).
func (t *tty) parseWindow(payload []byte) bool {
	var message struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &message) != nil {
		return false
	}
	t.resize(message.Columns, message.Rows, message.Width, message.Height)
	return true
}

// resize takes over a size; what is 0 stays as it is.
func (t *tty) resize(columns, rows, width, height uint32) {
	if columns > 0 {
		t.size.Cols = uint16(min(columns, maxSide))
	}
	if rows > 0 {
		t.size.Rows = uint16(min(rows, maxSide))
	}
	t.size.X, t.size.Y = uint16(min(width, 1<<16-1)), uint16(min(height, 1<<16-1))
}

// validTerm tells whether a terminal's kind is a name and no path: programs look
// for a file of that name.
func validTerm(term string) bool {
	const more = "+-._"
	for _, c := range []byte(term) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return term != "" && len(term) <= maxTerm && strings.IndexByte(more, term[0]) < 0
}

// parseModes reads encoded terminal modes: a byte and a number each, up to a 0
// byte or to one that no version of the protocol gives a number.
func parseModes(encoded []byte) ([]mode, bool) {
	var modes []mode
	for len(encoded) > 0 && encoded[0] != 0 && encoded[0] < 160 {
		if len(encoded) < 5 || len(modes) == maxModes {
			return nil, false
		}
		modes = append(modes, mode{encoded[0], binary.BigEndian.Uint32(encoded[1:])})
		encoded = encoded[5:]
	}
	return modes, true
}

// settle changes a terminal's settings to the modes that were asked for; those
// that Linux does not have are left out.
func (t *tty) settle(settings *unix.Termios) {
	settings.Iflag |= unix.IUTF8 // the machine speaks UTF-8, unless the client says no
	characters, flags := modeCharacters(), modeFlags(settings)
	for _, m := range t.modes {
		if at, ok := characters[m.code]; ok && m.value < 256 {
			settings.Cc[at] = byte(m.value)
		}
		if f, ok := flags[m.code]; ok && m.value != 0 {
			*f.field |= f.bit
		} else if ok {
			*f.field &^= f.bit
		}
	}
}

// open makes the terminal; ours is the end that a person types into, theirs the
// one for the process.
func (t *tty) open() (ours, theirs *os.File, err error) {
	made, theirs, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a terminal: %w", err)
	}
	defer func() { _ = made.Close() }() // ours is a copy
	if ours, err = pollable(made); err == nil {
		err = pty.Setsize(ours, &t.size)
	}
	if err == nil {
		err = t.apply(theirs)
	}
	if err != nil {
		closeAll([]*os.File{ours, theirs})
		return nil, nil, fmt.Errorf("cannot set up a terminal: %w", err)
	}
	return ours, theirs, nil
}

func (t *tty) apply(file *os.File) error {
	settings, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.settle(settings)
	return unix.IoctlSetTermios(int(file.Fd()), unix.TCSETS, settings)
}

// pollable copies a descriptor that its library left blocking, so that closing
// the copy ends a read of it.
func pollable(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// resized tells the terminal of a command that its window has another size.
func (c *command) resized(t *tty) bool {
	return control(c.stdin, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: t.size.Rows, Col: t.size.Cols, Xpixel: t.size.X, Ypixel: t.size.Y})
	}) == nil
}

// control does something with the descriptor of a file that may be closed at the
// same time.
func control(file *os.File, do func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}

// typed carries what a person types until the client ends it, which is told the
// way a person does: by typing the character for it.
func (c *command) typed(channel ssh.Channel) {
	if _, err := io.Copy(c.stdin, channel); err == nil {
		_, _ = c.stdin.Write([]byte{'D' - '@'}) // a shell that has gone needs no end
	}
}

// foreground is the process group that a person at the terminal talks to; the
// command's own if there is none.
func (c *command) foreground() int {
	group := 0
	err := control(c.stdin, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	if err != nil || group <= 0 {
		return c.process.Process.Pid
	}
	return group
}

package attach

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// maxSaid bounds what is recorded of a command, in bytes.
const maxSaid = 1000

// Access is one shell or command that a person ran in a machine. Its texts have
// no control characters, so that they can go to a log as they are.
type Access struct {
	UID      int       // who came, as the kernel says (unix(7), SO_PEERCRED)
	PID      int       // the process he came with; it may have ended
	User     string    // his name on this host, or his number
	Command  string    // what he ran, "" for a shell; at most 1,000 bytes of it
	Terminal bool      // whether he had a terminal
	Begun    time.Time // when it was started
	Ended    time.Time // zero in the record of its begin
	Exit     int       // 0 to 255, 128 and the signal's number; -1 when it has no end of its own
}

// peer asks the kernel who is at the other end of a Unix socket, and refuses
// everybody but the own user and root.
func peer(conn net.Conn) (Access, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return Access{}, fmt.Errorf("cannot let anybody in over %s: only a Unix socket tells who it is", conn.LocalAddr().Network())
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return Access{}, fmt.Errorf("cannot tell who wants to enter a machine: %w", err)
	}
	var who *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) { who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, asked); err != nil {
		return Access{}, fmt.Errorf("cannot tell who wants to enter a machine: %w", err)
	}
	if who.Uid != 0 && int(who.Uid) != os.Geteuid() {
		return Access{}, fmt.Errorf("cannot let user %d into a machine of user %d", who.Uid, os.Geteuid())
	}
	return Access{UID: int(who.Uid), PID: int(who.Pid), User: userName(int(who.Uid)), Exit: -1}, nil
}

// userName is a user's name, or his number where nobody knows it.
func userName(uid int) string {
	number := strconv.Itoa(uid)
	if known, err := user.LookupId(number); err == nil {
		return printable(known.Username)
	}
	return number
}

// printable escapes what would do something to a log or a terminal, and clips.
func printable(text string) string {
	clipped := text[:min(len(text), maxSaid)]
	quoted := strconv.QuoteToGraphic(clipped)
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if len(text) > maxSaid {
		quoted += "…"
	}
	return quoted
}

// started completes who came by what a request starts; ok is false for a
// request that starts nothing.
func (a Access) started(request *ssh.Request) (Access, bool) {
	switch request.Type {
	case "shell":
	case "exec":
		var message struct{ Line string }
		if ssh.Unmarshal(request.Payload, &message) != nil {
			return a, false
		}
		a.Command = printable(message.Line)
	default:
		return a, false
	}
	a.Begun = time.Now()
	return a, true
}

package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// DirRequest is the name of the request on a session's channel (RFC 4254,
// section 5.4) that says where its command or shell starts: an absolute path of
// a directory, as a string. It is refused when there is none.
const DirRequest = "dir@assay"

// session is one channel of type "session" (RFC 4254, section 6): variables, a
// terminal and a directory, then one command or shell, then signals for it.
type session struct {
	server  *Server
	channel ssh.Channel
	env     []string
	bytes   int    // of env
	tty     *tty   // nil for none
	dir     string // "" for Options.Dir
	command *command
	ended   sync.WaitGroup
}

// session serves one channel until the client closes it or the connection ends,
// and then kills what still runs.
func (s *Server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	one := &session{server: s, channel: channel}
	for request := range requests {
		ok := one.handle(request)
		if request.WantReply {
			_ = request.Reply(ok, nil) // an ending channel ends the loop
		}
		one.report(request, ok)
	}
	if one.command != nil {
		one.command.kill()
	}
	_ = channel.Close()
	one.ended.Wait()
}

// handle does what a request asks for and tells whether it was done.
func (s *session) handle(request *ssh.Request) bool {
	switch request.Type {
	case "env":
		return s.setenv(request.Payload)
	case DirRequest:
		return s.chdir(request.Payload)
	case "pty-req":
		return s.terminal(request.Payload)
	case "window-change":
		return s.window(request.Payload)
	case "exec":
		return s.exec(request.Payload)
	case ArgvRequest:
		return s.argv(request.Payload)
	case "shell":
		return len(request.Payload) == 0 && s.begin(order{login: true})
	case "signal":
		return s.signal(request.Payload)
	default:
		return false
	}
}

// setenv remembers one variable for the command (RFC 4254, section 6.4).
func (s *session) setenv(payload []byte) bool {
	var message struct{ Name, Value string }
	if ssh.Unmarshal(payload, &message) != nil || s.command != nil || !validName(message.Name) {
		return false
	}
	size := len(message.Name) + len(message.Value) + 2
	if strings.IndexByte(message.Value, 0) >= 0 || len(s.env) >= maxEnvNames || s.bytes+size > maxEnvBytes {
		return false
	}
	s.env = append(s.env, message.Name+"="+message.Value)
	s.bytes += size
	return true
}

// chdir remembers where the command is to start.
func (s *session) chdir(payload []byte) bool {
	var message struct{ Dir string }
	if ssh.Unmarshal(payload, &message) != nil || s.command != nil || !filepath.IsAbs(message.Dir) {
		return false
	}
	if info, err := os.Stat(message.Dir); err != nil || !info.IsDir() {
		return false
	}
	s.dir = message.Dir
	return true
}

// terminal remembers the terminal for the command (RFC 4254, section 6.2).
func (s *session) terminal(payload []byte) bool {
	if s.command != nil || s.tty != nil {
		return false
	}
	asked, ok := parseTTY(payload)
	s.tty = asked
	return ok
}

// window takes over the size of the client's window (RFC 4254, section 6.7).
func (s *session) window(payload []byte) bool {
	if s.tty == nil || !s.tty.parseWindow(payload) {
		return false
	}
	return s.command == nil || s.command.resized(s.tty)
}

// exec starts the command (RFC 4254, section 6.5).
func (s *session) exec(payload []byte) bool {
	var message struct{ Line string }
	if ssh.Unmarshal(payload, &message) != nil {
		return false
	}
	return s.begin(order{line: message.Line})
}

// begin starts what the channel is for: at most one command or shell.
func (s *session) begin(o order) bool {
	if s.command != nil {
		return false
	}
	o.env, o.tty = slices.Concat(s.env, o.env), s.tty
	if o.dir == "" {
		o.dir = s.dir
	}
	started, err := s.server.starter.start(o)
	if err != nil {
		return false
	}
	s.command = started
	return true
}

// report begins to carry the command's streams once the client knows that it
// was started: its end must not overtake the reply.
func (s *session) report(request *ssh.Request, ok bool) {
	if !ok || request.Type != "exec" && request.Type != "shell" && request.Type != ArgvRequest {
		return
	}
	s.ended.Go(func() { s.command.feed(s.channel) })
	s.ended.Go(func() {
		state := s.command.carry(s.channel)
		_ = s.channel.CloseWrite()
		name, message := ending(state)
		_, _ = s.channel.SendRequest(name, false, message)
		_ = s.channel.Close()
		s.command.group.leave() // when the client knows: nobody waits for that
	})
}

// signal sends a signal to the command's process group (RFC 4254, section 6.9).
func (s *session) signal(payload []byte) bool {
	var message struct{ Name string }
	if ssh.Unmarshal(payload, &message) != nil || s.command == nil {
		return false
	}
	for signal, name := range signalNames() {
		if name == message.Name {
			return s.command.signal(signal)
		}
	}
	return false
}

// ending says how a process ended in the words of RFC 4254, section 6.10: the
// request's name and its payload.
func ending(status syscall.WaitStatus) (name string, payload []byte) {
	if !status.Signaled() {
		return "exit-status", ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())})
	}
	signal, known := signalNames()[status.Signal()]
	if !known {
		// RFC 4254 has no word for the others; this is what a shell would say.
		return "exit-status", ssh.Marshal(struct{ Status uint32 }{128 + uint32(status.Signal())})
	}
	return "exit-signal", ssh.Marshal(struct {
		Name     string
		Core     bool
		Message  string
		Language string
	}{Name: signal, Core: status.CoreDump()})
}

// ExitCode reads what a session's channel says at its end (RFC 4254, section
// 6.10) from a request's name and payload, in the shell's manner: 0 to 255, and
// 128 with the signal's number for a process that a signal ended. ok is false
// for any other request.
func ExitCode(name string, payload []byte) (exit int, ok bool) {
	switch name {
	case "exit-status":
		var message struct{ Status uint32 }
		err := ssh.Unmarshal(payload, &message)
		return int(message.Status & 0xff), err == nil
	case "exit-signal":
		var message struct {
			Signal string
			Rest   []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(payload, &message) != nil {
			return 0, false
		}
		for signal, name := range signalNames() {
			if name == message.Signal {
				return 128 + int(signal), true
			}
		}
		return 128, true
	}
	return 0, false
}

// signalNames has the signals that RFC 4254, section 6.10, knows.
func signalNames() map[syscall.Signal]string {
	return map[syscall.Signal]string{
		syscall.SIGABRT: "ABRT", syscall.SIGALRM: "ALRM", syscall.SIGFPE: "FPE",
		syscall.SIGHUP: "HUP", syscall.SIGILL: "ILL", syscall.SIGINT: "INT",
		syscall.SIGKILL: "KILL", syscall.SIGPIPE: "PIPE", syscall.SIGQUIT: "QUIT",
		syscall.SIGSEGV: "SEGV", syscall.SIGTERM: "TERM", syscall.SIGUSR1: "USR1",
		syscall.SIGUSR2: "USR2",
	}
}

// validName tells whether a shell would take name as a variable's name.
func validName(name string) bool {
	if name == "" || len(name) > 256 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && c != '_' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

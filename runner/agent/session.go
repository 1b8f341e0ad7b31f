package agent

import (
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// session is one channel of type "session" (RFC 4254, section 6): variables,
// then one command, then signals for it.
type session struct {
	server  *Server
	channel ssh.Channel
	env     []string
	bytes   int // of env
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
	case "exec":
		return s.exec(request.Payload)
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

// exec starts the command (RFC 4254, section 6.5): at most one for a channel.
func (s *session) exec(payload []byte) bool {
	var message struct{ Line string }
	if ssh.Unmarshal(payload, &message) != nil || s.command != nil {
		return false
	}
	started, err := s.server.starter.start(message.Line, s.env)
	if err != nil {
		return false
	}
	s.command = started
	return true
}

// report begins to carry the command's streams once the client knows that it
// was started: its end must not overtake the reply.
func (s *session) report(request *ssh.Request, ok bool) {
	if !ok || request.Type != "exec" {
		return
	}
	s.ended.Go(func() { s.command.feed(s.channel) })
	s.ended.Go(func() {
		state := s.command.carry(s.channel)
		_ = s.channel.CloseWrite()
		name, message := ending(state)
		_, _ = s.channel.SendRequest(name, false, message)
		_ = s.channel.Close()
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

package sshconn

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// exitStatus is how a command ended, if the machine said so.
type exitStatus struct {
	known bool
	exit  int
}

// result is what exec returns for the status.
func (s exitStatus) result(e *execution) (int, error) {
	if s.known {
		return s.exit, nil
	}
	return -1, e.machine.died(errors.New("it did not say how the command ended"))
}

// watch takes what the machine says about the command until it closes the
// channel (RFC 4254, section 6.10).
func (e *execution) watch(requests <-chan *ssh.Request) exitStatus {
	var status exitStatus
	for request := range requests {
		exit, err := parseStatus(request.Type, request.Payload)
		if err == nil && !status.known {
			status = exitStatus{known: true, exit: exit}
			close(e.exited)
		}
		if request.WantReply {
			_ = request.Reply(false, nil) // an ending channel ends the loop
		}
	}
	return status
}

var errNoStatus = errors.New("not an exit status")

// parseStatus reads the payload of a request named kind as an exit status in
// the shell's manner: 0 to 255, 128 and the signal's number after a signal.
func parseStatus(kind string, payload []byte) (int, error) {
	switch kind {
	case "exit-status":
		var message struct{ Status uint32 }
		if err := ssh.Unmarshal(payload, &message); err != nil {
			return 0, fmt.Errorf("%w: %v", errNoStatus, err)
		}
		return int(message.Status & 0xff), nil
	case "exit-signal":
		var message struct {
			Signal string
			Rest   []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(payload, &message); err != nil {
			return 0, fmt.Errorf("%w: %v", errNoStatus, err)
		}
		return 128 + signalNumber(message.Signal), nil
	}
	return 0, errNoStatus
}

// signalNumber is the number that Linux has for a signal of RFC 4254, section
// 6.10; 0 for one it does not name.
func signalNumber(name string) int {
	return map[string]int{
		"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9,
		"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
	}[name]
}

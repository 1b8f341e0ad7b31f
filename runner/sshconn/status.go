package sshconn

import (
	"errors"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/agent"
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
		if exit, ok := agent.ExitCode(request.Type, request.Payload); ok && !status.known {
			status = exitStatus{known: true, exit: exit}
			close(e.exited)
		}
		if request.WantReply {
			_ = request.Reply(false, nil) // an ending channel ends the loop
		}
	}
	return status
}

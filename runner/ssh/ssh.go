// Package ssh is a persistent host as a Machine: assay run --ssh, for trying a
// check where its maintainer develops it. It speaks SSH itself and reads no
// ssh_config(5). The host is verified against known_hosts files (sshd(8)) and
// nobody is asked: an unknown key is an error that names the cure.
//
// An execution has a directory of its own there, below $TMPDIR, which goes with
// Close. Nothing else keeps executions apart, and what a check leaves running or
// installs stays: only disposable machines are clean.
//
// The host needs /bin/sh, tar, and a login shell that takes POSIX commands.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/sshconn"
)

// Options say which host, and who comes. Zero fields ask for the default.
type Options struct {
	User    string // who logs in there
	Address string // "host:port"; see ParseTarget
	// Dir is the user's directory of keys, ~/.ssh: known_hosts and id_* lie there.
	Dir string
	// Known are more files of known hosts; those that are not there are left out.
	Known []string
	// Key is a file with the one key to log in with; "" tries the agent's and the
	// usual ones in Dir.
	Key string
	// Agent is the socket of a key agent, as SSH_AUTH_SOCK says; "" for none.
	Agent   string
	Timeout time.Duration // to connect and log in; 30 s
	// Keep leaves an execution's directory behind on Close. It is removed by a later
	// Boot like all others that were not used for a week.
	Keep bool
	// Program finds the program that is assay result on hosts of an architecture, as
	// uname -m names it; nil for none. Its error is told to the check's log.
	Program func(arch string) (path string, err error)
	// Linger is how long after a command's end its output may pause while a process
	// that it left behind holds it; 5 s.
	Linger time.Duration
}

// SystemKnown is where a system keeps the hosts that all its users know (ssh(1)).
const SystemKnown = "/etc/ssh/ssh_known_hosts"

// defaultTimeout is how long connecting may take, and cleaning up at the end.
const defaultTimeout = 30 * time.Second

// Machines hands out directories of one host. Each machine has a connection of
// its own.
type Machines struct{ Options Options }

var _ runner.Machines = Machines{}

// Boot logs in and makes a directory; of Spec only Tell is looked at. It also
// removes directories that executions left there more than a week ago. Its
// errors are none of the check's, and end with the cure.
func (m Machines) Boot(ctx context.Context, spec runner.Spec) (runner.Machine, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	one := &machine{Machine: conn, machines: m, name: newName(), base: context.WithoutCancel(ctx)}
	if one.dir, err = prepare(ctx, conn, one.name); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use %s: %w", m.host(), err), one.Close())
	}
	if err := one.bring(ctx, spec); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return one, nil
}

// host is the host as a person writes it.
func (m Machines) host() string { return m.Options.User + "@" + m.Options.Address }

// connect reaches the host, verifies it and logs in.
func (m Machines) connect(ctx context.Context) (*sshconn.Machine, error) {
	limit := m.Options.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	known, err := readKnown(append([]string{filepath.Join(m.Options.Dir, "known_hosts")}, m.Options.Known...))
	if err != nil {
		return nil, err
	}
	keys, err := gatherKeys(ctx, m.Options)
	if err != nil {
		return nil, err
	}
	defer keys.close()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", m.Options.Address)
	if err != nil {
		return nil, unreachable(m.Options.Address, err)
	}
	client, err := m.login(ctx, raw, known, keys)
	if err != nil {
		_ = raw.Close() // the failure is what counts
		return nil, err
	}
	return sshconn.New(client, sshconn.Options{Dir: "/", Linger: m.Options.Linger}), nil
}

// login speaks SSH with what answers on raw.
func (m Machines) login(ctx context.Context, raw net.Conn, known *known, keys *keys) (*ssh.Client, error) {
	verify := &verifier{known: known, address: m.Options.Address}
	config := &ssh.ClientConfig{
		User:              m.Options.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(keys.signers...)},
		HostKeyCallback:   verify.check,
		HostKeyAlgorithms: known.algorithms(m.Options.Address),
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // ends the handshake
	conn, channels, requests, err := ssh.NewClientConn(raw, m.Options.Address, config)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	stop()
	var mismatch *ssh.AlgorithmNegotiationError
	switch {
	case err == nil:
		return ssh.NewClient(conn, channels, requests), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("cannot log in to %s: it did not answer: %w", m.host(), ctx.Err())
	case verify.err != nil:
		return nil, verify.err
	case errors.As(err, &mismatch):
		return nil, known.missing(m.Options.Address, mismatch)
	case !verify.done:
		return nil, fmt.Errorf("cannot speak SSH with %s: %v: is it sshd that answers on that port?", m.Options.Address, err)
	}
	return nil, keys.refused(m.Options, err)
}

// unreachable says why nothing answers.
func unreachable(address string, err error) error {
	var unknown *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach %s: the connection was refused: is sshd running there, and on that port? Another is written user@host:port", address)
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return fmt.Errorf("cannot reach %s: nobody knows that name: ~/.ssh/config is not read: write the host's full name or address", address)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("cannot reach %s: nothing answers: %w: is it up, and does a firewall let you through?", address, err)
	}
	return fmt.Errorf("cannot reach %s: %w", address, err)
}

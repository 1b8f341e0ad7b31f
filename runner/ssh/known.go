package ssh

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknown "golang.org/x/crypto/ssh/knownhosts"
)

// known are the hosts that the user and the system know (sshd(8), SSH_KNOWN_HOSTS
// FILE FORMAT).
type known struct {
	db    *knownhosts.HostKeyDB
	first string // the user's own file
}

// readKnown reads those of the files that are there.
func readKnown(files []string) (*known, error) {
	var there []string
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			there = append(there, file)
		}
	}
	db, err := knownhosts.NewDB(there...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the known hosts: %w: mend that line, or remove it", err)
	}
	return &known{db: db, first: files[0]}, nil
}

// algorithms are the kinds of key that a host is known by: a host shows one key
// only, and it must be one that can be compared. nil, for any, if it is not known.
func (k *known) algorithms(address string) []string { return k.db.HostKeyAlgorithms(address) }

// verifier checks the host's key, once.
type verifier struct {
	known   *known
	address string
	done    bool
	err     error // why it is refused
}

// check is a ssh.HostKeyCallback.
func (v *verifier) check(address string, remote net.Addr, key ssh.PublicKey) error {
	v.done = true
	err := v.known.db.HostKeyCallback()(address, remote, key)
	if err != nil {
		v.err = v.known.explain(v.address, key, err)
	}
	return err
}

// missing says that a host does not speak what we speak, or has no key of the
// kind that it is known by.
func (k *known) missing(address string, err error) error {
	if kinds := k.algorithms(address); len(kinds) > 0 {
		return fmt.Errorf("cannot trust %s: it is known by a key of the kind %s, and may have none any more (%v). "+
			"If its administrator confirms the fingerprints of: %s: add what that prints to %s", address, kinds[0], err, k.scan(address), k.first)
	}
	return fmt.Errorf("cannot speak SSH with %s: %w: a newer sshd is needed there", address, err)
}

// scan is the command that shows a host's keys.
func (k *known) scan(address string) string {
	host, port, _ := net.SplitHostPort(address) // we made it
	return fmt.Sprintf("ssh-keyscan -H -p %s %s", port, host)
}

// explain says what is wrong with a host's key, and what the user does about it.
func (k *known) explain(address string, key ssh.PublicKey, err error) error {
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	scan := k.scan(address) + " >> " + k.first
	var wrong *xknown.KeyError
	switch {
	case errors.As(err, &wrong) && len(wrong.Want) > 0:
		was := wrong.Want[0]
		return fmt.Errorf("cannot trust %s: its key has changed: it shows %s, but %s line %d has %s %s: "+
			"somebody may be in between. If its administrator confirms the new fingerprint: ssh-keygen -R '%s' -f %s && %s",
			address, shown, was.Filename, was.Line, was.Key.Type(), ssh.FingerprintSHA256(was.Key), xknown.Normalize(address), was.Filename, scan)
	case errors.As(err, &wrong):
		return fmt.Errorf("cannot trust %s: its key is not known: it shows %s. If its administrator confirms that fingerprint: %s", address, shown, scan)
	}
	return fmt.Errorf("cannot trust %s, which shows %s: %w", address, shown, err)
}

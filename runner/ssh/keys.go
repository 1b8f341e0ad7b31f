package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keys are what a user can log in with, in the order in which they are tried.
type keys struct {
	signers []ssh.Signer
	tried   []string // where each is from
	skipped []string // what could not be used, and why
	agent   net.Conn // open while keys of it are used; nil without one
}

// maxKey bounds a file with a key, in bytes.
const maxKey = 1 << 20

// gatherKeys finds the keys: the one that was named, or the agent's and then the
// usual files. close gives the agent up.
func gatherKeys(ctx context.Context, o Options) (*keys, error) {
	k := &keys{}
	if o.Key != "" {
		signer, err := readKey(o.Key)
		if err != nil {
			return nil, fmt.Errorf("cannot use the key %s: %w", o.Key, err)
		}
		k.add(signer, o.Key)
		return k, nil
	}
	if o.Agent != "" {
		k.askAgent(ctx, o.Agent)
	} else {
		k.skipped = append(k.skipped, "no key agent (SSH_AUTH_SOCK is not set)")
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} { // as ssh(1)
		file := filepath.Join(o.Dir, name)
		signer, err := readKey(file)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			k.skipped = append(k.skipped, fmt.Sprintf("%s (%v)", file, err))
		default:
			k.add(signer, file)
		}
	}
	return k, nil
}

// add adds a key that is not among them yet: a host counts each try.
func (k *keys) add(signer ssh.Signer, from string) {
	same := func(other ssh.Signer) bool {
		return string(other.PublicKey().Marshal()) == string(signer.PublicKey().Marshal())
	}
	if !slices.ContainsFunc(k.signers, same) {
		k.signers, k.tried = append(k.signers, signer), append(k.tried, from)
	}
}

// askAgent adds the keys of an agent. One that does not answer is not needed
// where a file serves.
func (k *keys) askAgent(ctx context.Context, socket string) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		k.skipped = append(k.skipped, fmt.Sprintf("the key agent (%v)", err))
		return
	}
	k.agent = conn
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // without one the agent is trusted to answer
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		k.skipped = append(k.skipped, fmt.Sprintf("the key agent (%v)", err))
		return
	}
	for _, signer := range signers {
		k.add(signer, "the key agent's "+ssh.FingerprintSHA256(signer.PublicKey()))
	}
	if len(signers) == 0 {
		k.skipped = append(k.skipped, "the key agent (it has no keys)")
	}
}

// readKey reads a private key that needs no passphrase.
func readKey(file string) (ssh.Signer, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKey {
		return nil, errors.New("it is no file with a key")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("it has a passphrase: give it to the key agent: ssh-add %s", file)
	}
	if err != nil {
		return nil, fmt.Errorf("it is no private key: %v", err)
	}
	return signer, nil
}

// refused says which keys the host did not take.
func (k *keys) refused(o Options, err error) error {
	host, port, _ := net.SplitHostPort(o.Address) // we made it
	tried := "there was none to try"
	if len(k.tried) > 0 {
		tried = "it takes none of " + strings.Join(k.tried, ", ")
	}
	if len(k.skipped) > 0 {
		tried += "; not tried: " + strings.Join(k.skipped, ", ")
	}
	return fmt.Errorf("cannot log in to %s as %s: %s (%v): allow a key of yours there: ssh-copy-id -p %s %s@%s", o.Address, o.User, tried, err, port, o.User, host)
}

func (k *keys) close() {
	if k.agent != nil {
		_ = k.agent.Close() // nothing is left to be said
	}
}

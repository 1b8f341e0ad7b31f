package ssh

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// newHost starts a host with further lines of sshd_config(5), and Options with
// which one can log in.
func newHost(t *testing.T, lines ...string) (*sshtest.Host, Options) {
	t.Helper()
	h := sshtest.NewHost(t, lines...)
	return h, Options{User: h.User, Dir: h.SSH, Address: h.Address}
}

// writeECDSA makes a host key of that kind.
func writeECDSA(t *testing.T, file string) ssh.PublicKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return public(t, private.Public())
}

// rsaKey is a public key that nobody has.
func rsaKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return public(t, private.Public())
}

func public(t *testing.T, key crypto.PublicKey) ssh.PublicKey {
	t.Helper()
	p, err := ssh.NewPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

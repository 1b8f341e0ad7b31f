// Package sshtest has what tests of programs that speak SSH begin with: a
// connection without a network, keys, and both sides of a handshake.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Pair gives the two ends of a stream, *net.UnixConn both, and closes them with
// the test. It has a buffer, as a port has: both sides of an SSH connection
// begin by writing.
func Pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(file) // makes a copy
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() }) // the test may have done so
	}
	return ends[0], ends[1]
}

// Client logs in to whatever server is at the other end, as root and with the
// given settings of the transport. The test closes it.
func Client(t *testing.T, raw net.Conn, transport ssh.Config) *ssh.Client {
	t.Helper()
	config := &ssh.ClientConfig{Config: transport, User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	conn, channels, requests, err := ssh.NewClientConn(raw, "", config)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.NewClient(conn, channels, requests)
}

// Server lets everybody in and has a new host key.
func Server(t *testing.T) *ssh.ServerConfig {
	t.Helper()
	config := &ssh.ServerConfig{NoClientAuth: true}
	signer, _ := newKey(t)
	config.AddHostKey(signer)
	return config
}

func newKey(t *testing.T) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, private
}

// WriteKey makes a key, and its file for OpenSSH: with a passphrase unless that
// is "".
func WriteKey(t *testing.T, file, passphrase string) ssh.Signer {
	t.Helper()
	signer, private := newKey(t)
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer
}

// FindSSHD finds OpenSSH's server where a user's PATH may not look, and makes
// what it needs.
func FindSSHD(t *testing.T) string {
	t.Helper()
	if os.Geteuid() == 0 {
		// Its unprivileged part's root; where systemd runs it makes this.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("there is no sshd: scripts/setup.sh test installs it")
	return ""
}

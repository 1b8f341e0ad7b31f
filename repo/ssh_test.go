package repo

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// newSSHServer runs whatever git asks for over ssh, and makes a home directory
// with a key that it takes. It returns its host and port.
func newSSHServer(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	_, userKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := must[*pem.Block](t)(ssh.MarshalPrivateKey(userKey, ""))
	put(t, filepath.Join(home, ".ssh", "id_ed25519"), string(pem.EncodeToMemory(block)))
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host := must[ssh.Signer](t)(ssh.NewSignerFromKey(hostKey))
	want := must[ssh.PublicKey](t)(ssh.NewPublicKey(userKey.Public()))
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(want.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	put(t, filepath.Join(home, ".ssh", "known_hosts"), knownhosts.Line([]string{listener.Addr().String()}, host.PublicKey())+"\n")
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { serveSSH(conn, config) })
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return listener.Addr().String()
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			_ = r.Reply(r.Type == "exec", nil)
			if r.Type != "exec" {
				continue
			}
			cmd := exec.Command("sh", "-c", string(r.Payload[4:]))
			stdin, _ := cmd.StdinPipe()
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			if cmd.Start() == nil {
				go func() { io.Copy(stdin, channel); stdin.Close() }()
				_ = cmd.Wait()
			}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}))
			channel.Close()
		}
	}
}

func TestFetchAndPushOverSSH(t *testing.T) {
	src := newRepo(t)
	at := commit(t, src, "a", noise(t, 100_000))
	server := newSSHServer(t)
	c := openCache(t, Limits{})
	address := "ssh://git@" + server + src
	if got, err := c.Resolve(t.Context(), address, nil); err != nil || got.Commit != at {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := c.EditNote(t.Context(), address, at, NotesRef, appendLine("over ssh")); err != nil {
		t.Fatal(err)
	}
	if got := git(t, src, "notes", "--ref=assay", "show", at); got != "over ssh" {
		t.Errorf("the note is %q", got)
	}
	_, err := c.Resolve(t.Context(), address+"x", nil)
	wantError(t, err, "cannot", "no such repository")

	home := os.Getenv("HOME")
	put(t, filepath.Join(home, ".ssh", "id_ed25519"), "no key")
	_, err = c.Resolve(t.Context(), address, nil)
	wantError(t, err, "cannot", "id_ed25519", "agent")
	if err := os.Remove(filepath.Join(home, ".ssh", "id_ed25519")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Resolve(t.Context(), address, nil)
	wantError(t, err, "cannot", "no ssh key", "ssh-keygen")
}

func TestSSHServerThatIsSilent(t *testing.T) {
	newSSHServer(t) // for the key
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer listener.Close()
	c := openCache(t, Limits{FetchTime: 100 * time.Millisecond})
	_, err := c.Resolve(t.Context(), fmt.Sprintf("ssh://git@%s/x", listener.Addr()), nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "cannot") {
		t.Errorf("got %v", err)
	}
}

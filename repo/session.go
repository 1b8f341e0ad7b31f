package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
)

// connect starts a session with a repository, over its own protocol and with
// the keys of the user that runs us.
func connect[S io.Closer](ctx context.Context, a address, start func(transport.Transport, *transport.Endpoint, transport.AuthMethod) (S, error)) (S, error) {
	var none S
	ep, err := transport.NewEndpoint(a.dial)
	if err != nil {
		return none, errors.New("its address cannot be read: correct it in the configuration")
	}
	tr, err := client.NewClient(ep)
	if err != nil {
		return none, errors.New("its protocol is not spoken here: use a path, file://, https:// or ssh://")
	}
	auth, err := keysFor(ep)
	if err != nil {
		return none, err
	}
	session, err := within(ctx, func() (S, error) { return start(tr, ep, auth) })
	if err != nil {
		return none, remoteError(ctx, a, err)
	}
	return session, nil
}

// within waits for start until ctx ends. go-git's ssh takes no context, and no
// deadline for the handshake: a server that never says a word would hold us for
// ever. Its goroutine is the one that nobody joins; it ends, and closes what it
// may still have got, when the server or the kernel ends the connection.
func within[S io.Closer](ctx context.Context, start func() (S, error)) (S, error) {
	type outcome struct {
		session S
		err     error
	}
	done := make(chan outcome)
	go func() {
		session, err := start()
		select {
		case done <- outcome{session, err}:
		case <-ctx.Done():
			if err == nil {
				_ = session.Close() // nobody waits for it
			}
		}
	}()
	select {
	case o := <-done:
		return o.session, o.err
	case <-ctx.Done():
		var none S
		return none, ctx.Err()
	}
}

// keysFor finds the key for an ssh address as ssh does when there is no agent:
// ~/.ssh/id_ed25519 and its like. nil leaves it to go-git: the agent, or the
// user and password of an https address.
func keysFor(ep *transport.Endpoint) (transport.AuthMethod, error) {
	if ep.Protocol != "ssh" || ep.Password != "" || os.Getenv("SSH_AUTH_SOCK") != "" {
		return nil, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("there is no home directory to look for ssh keys in: set HOME, or start an ssh agent")
	}
	user := ep.User
	if user == "" {
		user = "git"
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		path := filepath.Join(home, ".ssh", name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		keys, err := ssh.NewPublicKeysFromFile(user, path, "")
		if err != nil {
			return nil, fmt.Errorf("the ssh key %s cannot be used: %v: start an ssh agent that has it, or make one without a pass phrase", path, err)
		}
		return keys, nil
	}
	return nil, fmt.Errorf("there is no ssh key in %s and no ssh agent: make one with ssh-keygen", filepath.Join(home, ".ssh"))
}

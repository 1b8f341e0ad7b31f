package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/runnertest"
	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

func TestConformance(t *testing.T) {
	h, options := newHost(t)
	options.Linger = 200 * time.Millisecond
	options.Program = ownProgram
	t.Run("suite", func(t *testing.T) { runnertest.Run(t, Machines{options}, runnertest.Options{}) })
	if left := h.Left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// boot boots a machine that its test closes.
func boot(t *testing.T, o Options) *machine {
	t.Helper()
	m, err := Machines{o}.Boot(t.Context(), runner.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	return m.(*machine)
}

func TestDirectoryIsCleanedUp(t *testing.T) {
	h, options := newHost(t)
	for name, during := range map[string]func(*machine){
		"after a check that locked it": func(m *machine) {
			exit, err := m.Run(t.Context(), runner.Command{Argv: []string{"sh", "-c", "mkdir -p locked/in && touch locked/in/file && chmod 0 locked/in locked"}})
			if exit != 0 || err != nil {
				t.Errorf("exit %d, %v", exit, err)
			}
		},
		"after the connection was lost": func(*machine) { h.Cut() },
		"after a check removed it": func(m *machine) {
			if exit, err := m.Run(t.Context(), runner.Command{Argv: []string{"rm", "-rf", m.Dir()}}); exit != 0 || err != nil {
				t.Errorf("exit %d, %v", exit, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := boot(t, options)
			if filepath.Dir(m.Dir()) != h.Tmp {
				t.Errorf("the directory is %s, not below %s", m.Dir(), h.Tmp)
			}
			if info, err := os.Stat(m.Dir()); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the directory is %v, %v", info, err)
			}
			during(m)
			for range 2 {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
			if left := h.Left(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCloseNamesWhatItCannotRemove(t *testing.T) {
	h, options := newHost(t)
	m := boot(t, options)
	_ = h.Listener.Close()
	h.Cut()
	err := m.Close()
	if err == nil || !strings.Contains(err.Error(), "remove "+m.Dir()+" by hand") || !strings.Contains(err.Error(), "the connection was refused") {
		t.Errorf("it closed with %v", err)
	}
	if again := m.Close(); again != err {
		t.Errorf("and then with %v", again)
	}
}

func TestOldDirectoriesAreRemoved(t *testing.T) {
	h, options := newHost(t)
	old, elsewhere := time.Now().Add(-8*24*time.Hour), t.TempDir()
	for name, when := range map[string]time.Time{
		"assay-ssh-old": old, "assay-ssh-recent": time.Now(), "other-old": old,
	} {
		dir := filepath.Join(h.Tmp, name)
		err := errors.Join(os.MkdirAll(filepath.Join(dir, "locked"), 0o700), os.Chmod(filepath.Join(dir, "locked"), 0), os.Chtimes(dir, when, when))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "locked"), 0o700) })
	}
	if err := os.Chtimes(elsewhere, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(h.Tmp, "assay-ssh-link")); err != nil {
		t.Fatal(err)
	}
	if err := boot(t, options).Close(); err != nil {
		t.Error(err)
	}
	if left, want := h.Left(), []string{"assay-ssh-link", "assay-ssh-recent", "other-old"}; !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

// refuses boots where that must fail.
func refuses(t *testing.T, o Options, wants ...string) {
	t.Helper()
	m, err := Machines{o}.Boot(t.Context(), runner.Spec{})
	if err == nil {
		_ = m.Close()
		t.Error("it booted")
		return
	}
	var boot *runner.BootError
	if errors.As(err, &boot) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "cannot ") {
		t.Errorf("an odd error: %v", err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	h, options := newHost(t)
	_ = h.Listener.Close()
	refuses(t, options, h.Address, "the connection was refused", "user@host:port")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Machines{options}).Boot(ctx, runner.Spec{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// answers is a port where something answers that is no SSH server, or nothing.
func answers(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				_, _ = io.WriteString(conn, text)
				if text == "" {
					_, _ = io.Copy(io.Discard, conn)
				}
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}

func TestNoSSH(t *testing.T) {
	_, options := newHost(t)
	options.Address = answers(t, strings.Repeat("HTTP/1.1 400 Bad Request\r\n", 200))
	refuses(t, options, "cannot speak SSH with", "is it sshd")
	options.Address, options.Timeout = answers(t, ""), 50*time.Millisecond
	refuses(t, options, "did not answer", context.DeadlineExceeded.Error())
}

func TestHostKeys(t *testing.T) {
	h, options := newHost(t)
	_, port, err := net.SplitHostPort(h.Address)
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(options.Dir, "known_hosts")
	scan := "ssh-keyscan -H -p " + port + " 127.0.0.1"
	other := sshtest.WriteKey(t, filepath.Join(t.TempDir(), "other"), "").PublicKey()
	h.Know(other)
	refuses(t, options, "its key has changed", ssh.FingerprintSHA256(h.Key), ssh.FingerprintSHA256(other),
		known+" line 1", "ssh-keygen -R '[127.0.0.1]:"+port+"' -f "+known+" && "+scan+" >> "+known)
	if err := os.WriteFile(known, []byte("@revoked * "+string(ssh.MarshalAuthorizedKey(h.Key))), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, options, "cannot trust", "revoked")
	if err := os.WriteFile(known, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, options, "cannot read the known hosts", known+":1", "mend that line")
	if err := os.Remove(known); err != nil {
		t.Fatal(err)
	}
	refuses(t, options, "its key is not known", ssh.FingerprintSHA256(h.Key), scan+" >> "+known)
	h.Know(h.Key)
	system := filepath.Join(t.TempDir(), "ssh_known_hosts")
	if err := os.Rename(known, system); err != nil {
		t.Fatal(err)
	}
	options.Known = []string{filepath.Join(t.TempDir(), "none"), system}
	if err := boot(t, options).Close(); err != nil {
		t.Error(err)
	}
}

// TestKnownKindOfKey has a host with keys of two kinds that is known by the one
// that we would not ask for first.
func TestKnownKindOfKey(t *testing.T) {
	dir := t.TempDir()
	h, options := newHost(t, "HostKey "+filepath.Join(dir, "second"))
	ecdsa := writeECDSA(t, filepath.Join(dir, "second"))
	h.Know(ecdsa)
	if err := boot(t, options).Close(); err != nil {
		t.Error(err)
	}
	h.Know(rsaKey(t))
	refuses(t, options, "cannot trust", "known by a key of the kind rsa-sha2-512", "ssh-keyscan")
}

func TestLoggingIn(t *testing.T) {
	h, options := newHost(t)
	own := filepath.Join(options.Dir, "id_ed25519")
	named := filepath.Join(t.TempDir(), "named key")
	if err := os.Rename(own, named); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(h.Address)
	copyID := "ssh-copy-id -p " + port + " " + options.User + "@127.0.0.1"
	refuses(t, options, "cannot log in to "+h.Address, "there was none to try", "SSH_AUTH_SOCK is not set", copyID)

	other := sshtest.WriteKey(t, own, "").PublicKey()
	rsa := filepath.Join(options.Dir, "id_rsa")
	sshtest.WriteKey(t, rsa, "secret")
	refuses(t, options, "it takes none of "+own, "not tried: ", rsa+" (it has a passphrase: give it to the key agent: ssh-add "+rsa+")", copyID)
	refuses(t, with(options, func(o *Options) { o.Agent = filepath.Join(t.TempDir(), "none") }), "the key agent (dial unix")

	if err := boot(t, with(options, func(o *Options) { o.Key = named })).Close(); err != nil {
		t.Error(err)
	}
	refuses(t, with(options, func(o *Options) { o.Key = rsa }), "cannot use the key "+rsa, "ssh-add")
	refuses(t, with(options, func(o *Options) { o.Key = filepath.Join(h.Dir, "log") }), "it is no private key")
	refuses(t, with(options, func(o *Options) { o.Key = h.Dir }), "it is no file with a key")
	refuses(t, with(options, func(o *Options) { o.Key = named + ".none" }), "no such file")

	socket := keyAgent(t, named)
	if err := boot(t, with(options, func(o *Options) { o.Agent = socket })).Close(); err != nil {
		t.Error(err)
	}
	h.Write("authorized_keys", "")
	refuses(t, with(options, func(o *Options) { o.Agent = socket }), "the key agent's SHA256:", own)
	h.Write("authorized_keys", string(ssh.MarshalAuthorizedKey(other)))
	if err := boot(t, options).Close(); err != nil {
		t.Error(err)
	}
}

func with(o Options, change func(*Options)) Options { change(&o); return o }

// keyAgent serves a key as ssh-agent does.
func keyAgent(t *testing.T, file string) (socket string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				_ = agent.ServeAgent(ring, conn) // until its client leaves
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return socket
}

// TestOddHosts has hosts that lack what a check needs.
func TestOddHosts(t *testing.T) {
	for force, wants := range map[string][]string{
		// As the login shell has it when there is no /bin/sh.
		`echo sh: /bin/sh: not found >&2; exit 127`:          {"there is no /bin/sh", "not found"},
		`export PATH=/nowhere; eval "$SSH_ORIGINAL_COMMAND"`: {"there is no tar: install it"},
		`echo Welcome.; eval "$SSH_ORIGINAL_COMMAND"`:        {`print text ("Welcome.`, "make them silent"},
		`echo This account is not available.; exit 1`:        {"no directory can be made", "exit 1"},
		`echo This account is not available.`:                {"did not do as a POSIX shell does", "This account", "/bin/bash"},
		`TMPDIR=/dev/null eval "$SSH_ORIGINAL_COMMAND"`:      {"no directory can be made below $TMPDIR", "Not a directory"},
	} {
		t.Run(force, func(t *testing.T) {
			h, options := newHost(t, "ForceCommand "+force)
			refuses(t, options, append(wants, "cannot use "+options.User+"@"+h.Address)...)
			if left := h.Left(); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestPrepared(t *testing.T) {
	for out, want := range map[string]string{
		saysDir + "/tmp/assay-ssh-1\n":          "/tmp/assay-ssh-1",
		saysDir + "tmp/assay-ssh-1\n":           "set TMPDIR to an absolute path",
		saysDir + "/tmp/assay-ssh-2\n":          "it made the directory",
		saysDir + "/tmp/\x1b/assay-ssh-1\n":     "it made the directory",
		saysDir + "/tmp\n/x/assay-ssh-1\n":      "it made the directory",
		"motd\n" + saysDir + "/tmp/assay-ssh-1": "start-up files print text",
		"":                                      "POSIX",
	} {
		printed := &said{}
		_, _ = printed.Write([]byte(out))
		dir, err := prepared(0, printed, &said{}, "assay-ssh-1")
		if err != nil {
			dir = err.Error()
		}
		if dir != want && (err == nil || !strings.Contains(dir, want)) {
			t.Errorf("%q: got %s, want %s", out, dir, want)
		}
	}
	var endless said
	for range 100 {
		if n, err := endless.Write(bytes.Repeat([]byte("x"), 1000)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if endless.Len() != maxSaid {
		t.Errorf("%d bytes were kept", endless.Len())
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]string{
		"me@host":                        "me host:22",
		"me@host.example:2222":           "me host.example:2222",
		"a.b-c_d@192.0.2.1":              "a.b-c_d 192.0.2.1:22",
		"me@[2001:db8::1]:2222":          "me [2001:db8::1]:2222",
		"me@2001:db8::1":                 "me [2001:db8::1]:22",
		"me@[2001:db8::1]":               "me [2001:db8::1]:22",
		"host":                           "names no user",
		"@host":                          "no user's name",
		"me@":                            "no host",
		"me@-oProxyCommand=x":            "no host",
		"-x@host":                        "no user's name",
		"me@host:":                       "no port",
		"me@host:0":                      "no port",
		"me@host:70000":                  "no port",
		"me@host:ssh":                    "no port",
		"me@a b":                         "no host",
		"me@host;rm":                     "no host",
		"me@[x":                          "write user@host",
		"me@" + strings.Repeat("x", 300): "no host",
	} {
		user, address, err := ParseTarget(in)
		got := user + " " + address
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// FuzzTarget makes sure that what is shown in a command to type means nothing to
// a shell.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"me@host", "me@[::1]:22", "@", "a@b@c:1", "me@$(x)", "me@-o"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		user, address, err := ParseTarget(in)
		if err != nil {
			return
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil || strings.ContainsAny(user+host, " \t\n'\"$`\\;&|<>(){}*?!~#/") || strings.HasPrefix(user, "-") || strings.HasPrefix(host, "-") {
			t.Errorf("%q became %q %q", in, user, address)
		}
	})
}

func TestKeep(t *testing.T) {
	h, options := newHost(t)
	options.Keep = true
	m := boot(t, options)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if left := h.Left(); !slices.Equal(left, []string{filepath.Base(m.Dir())}) {
		t.Errorf("left behind: %v", left)
	}
	if _, err := m.Run(t.Context(), runner.Command{Argv: []string{"true"}}); !errors.Is(err, runner.ErrMachineDied) {
		t.Errorf("a command after it was given back: %v", err)
	}
}

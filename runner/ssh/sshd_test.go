package ssh

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/assay-ci/assay/runner/sshconn/sshtest"
)

// host is a real sshd on a loopback port: each connection is served by a process
// of it, as inetd would start it (sshd(8), -i), so that no port is lost between
// choosing and using it.
type host struct {
	t        *testing.T
	dir      string
	tmp      string // TMPDIR of those who log in
	address  string
	key      ssh.PublicKey // the host's
	listener net.Listener
	log      *os.File

	mu      sync.Mutex
	serving map[*exec.Cmd]bool
	all     sync.WaitGroup
}

// newHost starts a host with further lines of sshd_config(5), and Options with
// which one can log in.
func newHost(t *testing.T, lines ...string) (*host, Options) {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), serving: map[*exec.Cmd]bool{}}
	h.tmp = filepath.Join(h.dir, "tmp")
	options := Options{User: ownName(t), Dir: filepath.Join(h.dir, "ssh")}
	for _, dir := range []string{h.tmp, options.Dir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.key = sshtest.WriteKey(t, filepath.Join(h.dir, "host_key"), "").PublicKey()
	allowed := sshtest.WriteKey(t, filepath.Join(options.Dir, "id_ed25519"), "").PublicKey()
	h.write("authorized_keys", string(ssh.MarshalAuthorizedKey(allowed)))
	h.write("sshd_config", strings.Join(append(lines,
		"HostKey "+h.dir+"/host_key", "AuthorizedKeysFile "+h.dir+"/authorized_keys", "SetEnv TMPDIR="+h.tmp,
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password", "UseDNS no", "PidFile none", "LogLevel VERBOSE", ""), "\n"))
	h.start()
	options.Address = h.address
	h.know(options, h.key)
	return h, options
}

func ownName(t *testing.T) string {
	t.Helper()
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return own.Username
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// know makes a key the host's in the user's known hosts.
func (h *host) know(o Options, key ssh.PublicKey) {
	h.t.Helper()
	line := knownhosts.Line([]string{h.address}, key) + "\n"
	if err := os.WriteFile(filepath.Join(o.Dir, "known_hosts"), []byte(line), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) start() {
	h.t.Helper()
	sshd := sshtest.FindSSHD(h.t)
	var err error
	if h.log, err = os.Create(filepath.Join(h.dir, "log")); err != nil {
		h.t.Fatal(err)
	}
	if h.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		h.t.Fatal(err)
	}
	h.address = h.listener.Addr().String()
	h.all.Go(func() {
		for {
			conn, err := h.listener.Accept()
			if err != nil {
				return
			}
			h.serve(sshd, conn.(*net.TCPConn))
		}
	})
	h.t.Cleanup(func() {
		_ = h.listener.Close()
		h.cut()
		h.all.Wait()
		if h.t.Failed() {
			text, _ := os.ReadFile(h.log.Name())
			h.t.Logf("the log of sshd:\n%s", text)
		}
		_ = h.log.Close()
	})
}

func (h *host) serve(sshd string, conn *net.TCPConn) {
	defer func() { _ = conn.Close() }() // the process has its own
	file, err := conn.File()
	if err != nil {
		h.t.Error(err)
		return
	}
	defer func() { _ = file.Close() }()
	cmd := exec.Command(sshd, "-i", "-e", "-f", filepath.Join(h.dir, "sshd_config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, h.log
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := cmd.Start(); err != nil {
		h.t.Error(err)
		return
	}
	h.serving[cmd] = true
	h.all.Go(func() {
		_ = cmd.Wait() // killed, or left by its client
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.serving, cmd)
	})
}

// cut kills the server's processes: every connection is lost.
func (h *host) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for cmd := range h.serving {
		// Children of the privileged one have the connection, too.
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		for pid := range strings.FieldsSeq(string(children)) {
			_ = exec.Command("kill", "-9", pid).Run()
		}
		_ = cmd.Process.Kill()
	}
}

// left lists what lies in the host's TMPDIR.
func (h *host) left() []string {
	h.t.Helper()
	entries, err := os.ReadDir(h.tmp)
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
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

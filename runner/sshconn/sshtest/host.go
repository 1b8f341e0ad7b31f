package sshtest

import (
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
)

// Host is a real sshd on a loopback port: each connection is served by a process
// of it, as inetd would start it (sshd(8), -i), so that no port is lost between
// choosing and using it.
type Host struct {
	t        *testing.T
	Dir      string        // of all that is the host's; its user's is SSH
	SSH      string        // directory of keys with which its user can log in, and of known hosts
	Tmp      string        // TMPDIR of those who log in
	Home     string        // their HOME, with nothing in it: a shell reads no start-up files of whoever runs the test
	User     string        // who logs in: whoever runs the test
	Address  string        // "127.0.0.1:PORT"
	Key      ssh.PublicKey // the host's
	Listener net.Listener
	log      *os.File

	mu      sync.Mutex
	serving map[*exec.Cmd]bool
	all     sync.WaitGroup
}

// NewHost starts a host with further lines of sshd_config(5). It ends with the
// test, and what it logged is shown when the test has failed.
func NewHost(t *testing.T, lines ...string) *Host {
	t.Helper()
	h := &Host{t: t, Dir: t.TempDir(), User: ownName(t), serving: map[*exec.Cmd]bool{}}
	h.Tmp, h.Home, h.SSH = filepath.Join(h.Dir, "tmp"), filepath.Join(h.Dir, "home"), filepath.Join(h.Dir, "ssh")
	for _, dir := range []string{h.Tmp, h.Home, h.SSH} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.Key = WriteKey(t, filepath.Join(h.Dir, "host_key"), "").PublicKey()
	allowed := WriteKey(t, filepath.Join(h.SSH, "id_ed25519"), "").PublicKey()
	h.Write("authorized_keys", string(ssh.MarshalAuthorizedKey(allowed)))
	h.Write("sshd_config", strings.Join(append(lines,
		"HostKey "+h.Dir+"/host_key", "AuthorizedKeysFile "+h.Dir+"/authorized_keys", "SetEnv TMPDIR="+h.Tmp+" HOME="+h.Home,
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password", "UseDNS no", "PidFile none", "LogLevel VERBOSE", ""), "\n"))
	h.start()
	h.Know(h.Key)
	return h
}

func ownName(t *testing.T) string {
	t.Helper()
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return own.Username
}

// Write writes a file of the host's.
func (h *Host) Write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.Dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// Know makes a key the host's, in its user's known hosts.
func (h *Host) Know(key ssh.PublicKey) {
	h.t.Helper()
	line := knownhosts.Line([]string{h.Address}, key) + "\n"
	if err := os.WriteFile(filepath.Join(h.SSH, "known_hosts"), []byte(line), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *Host) start() {
	h.t.Helper()
	sshd := FindSSHD(h.t)
	var err error
	if h.log, err = os.Create(filepath.Join(h.Dir, "log")); err != nil {
		h.t.Fatal(err)
	}
	if h.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		h.t.Fatal(err)
	}
	h.Address = h.Listener.Addr().String()
	h.all.Go(func() {
		for {
			conn, err := h.Listener.Accept()
			if err != nil {
				return
			}
			h.serve(sshd, conn.(*net.TCPConn))
		}
	})
	h.t.Cleanup(func() {
		_ = h.Listener.Close()
		h.Cut()
		h.all.Wait()
		if h.t.Failed() {
			text, _ := os.ReadFile(h.log.Name())
			h.t.Logf("the log of sshd:\n%s", text)
		}
		_ = h.log.Close()
	})
}

func (h *Host) serve(sshd string, conn *net.TCPConn) {
	defer func() { _ = conn.Close() }() // the process has its own
	file, err := conn.File()
	if err != nil {
		h.t.Error(err)
		return
	}
	defer func() { _ = file.Close() }()
	cmd := exec.Command(sshd, "-i", "-e", "-f", filepath.Join(h.Dir, "sshd_config"))
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

// Cut kills the server's processes: every connection is lost.
func (h *Host) Cut() {
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

// Left lists what lies in the host's TMPDIR.
func (h *Host) Left() []string {
	h.t.Helper()
	entries, err := os.ReadDir(h.Tmp)
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

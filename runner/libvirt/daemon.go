package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/assay-ci/assay/internal/filelock"
)

// The addresses of the QEMU driver (libvirt.org, "Connection URIs").
const (
	uriSystem  = string(lv.QEMUSystem)
	uriSession = string(lv.QEMUSession)
)

// daemonWait is how long a daemon may take to answer after it was started.
const daemonWait = 30 * time.Second

// daemon says where libvirt's daemon listens and how to start one that ends by
// itself when it is idle.
type daemon struct {
	uri     string
	sockets []string   // tried in this order
	start   [][]string // commands, tried until one makes a socket answer
	// logs is the socket of the log daemon, which bounds the files of consoles,
	// where it is ours to start with startLogs; "" where libvirt or systemd does.
	logs      string
	startLogs [][]string
	env       []string
	lock      string // file that one who starts the daemon locks
}

// site is what a daemon's whereabouts depend on.
type site struct {
	uri     string // "" for the user's own
	uid     int
	runtime string // the session's runtime directory, XDG_RUNTIME_DIR
	systemd bool   // whether systemd manages services here
	look    func(program string) (path string, err error)
}

// planDaemon decides where the daemon listens and how it is started.
func planDaemon(s site) (daemon, error) {
	if s.uri == "" {
		s.uri = uriSession
		if s.uid == 0 {
			s.uri = uriSystem
		}
	}
	switch s.uri {
	case uriSystem:
		return planSystem(s), nil
	case uriSession:
		if s.uid == 0 {
			return daemon{}, fmt.Errorf("cannot use %s as root: use %s", uriSession, uriSystem)
		}
		return daemon{
			uri:     s.uri,
			sockets: sockets(filepath.Join(s.runtime, "libvirt")),
			start:   withInit(s, daemonCommands(s.look, "libvirtd", "virtqemud")),
			env:     []string{"XDG_RUNTIME_DIR=" + s.runtime},
		}, nil
	default:
		return daemon{}, fmt.Errorf("cannot use the libvirt address %q: use %s or %s", s.uri, uriSystem, uriSession)
	}
}

// sockets are those of the one daemon and of the modular ones.
func sockets(dir string) []string {
	return []string{filepath.Join(dir, "libvirt-sock"), filepath.Join(dir, "virtqemud-sock")}
}

// planSystem plans for the system's daemon, which only root may start.
func planSystem(s site) daemon {
	d := daemon{uri: s.uri, sockets: sockets("/run/libvirt")}
	switch {
	case s.uid != 0:
	case s.systemd:
		d.start = [][]string{
			{"systemctl", "start", "virtlogd.socket", "libvirtd.socket"},
			{"systemctl", "start", "virtlogd.socket", "virtqemud.socket"},
		}
	default:
		d.start = withInit(s, daemonCommands(s.look, "libvirtd", "virtqemud"))
		d.startLogs = daemonCommands(s.look, "virtlogd")
		d.logs = "/run/libvirt/virtlogd-sock"
	}
	return d
}

// daemonCommands start those of the programs that are installed. They leave a
// daemon behind that ends by itself two minutes after its last client and
// machine.
func daemonCommands(look func(string) (string, error), programs ...string) [][]string {
	var commands [][]string
	for _, program := range programs {
		if path, err := look(program); err == nil {
			commands = append(commands, []string{path, "-d", "--timeout", "120"})
		}
	}
	return commands
}

// setsid begins the commands that leave their program running in its foreground.
const setsid = "setsid"

// withInit gives a daemon that starts QEMU an init of its own, if one is
// installed and systemd is not init. The daemon waits for QEMU's end until init
// has taken note of it; what runs as init in a container may look every few
// seconds only, and libvirt stands still meanwhile, for all machines.
func withInit(s site, commands [][]string) [][]string {
	tini, err := s.look("tini")
	if s.systemd || err != nil {
		return commands
	}
	var with [][]string
	for _, argv := range commands {
		with = append(with, []string{setsid, "--fork", tini, "-s", "--", argv[0], "--timeout", "120"})
	}
	return with
}

// lookDaemon finds a program also where an ordinary user's PATH does not reach.
func lookDaemon(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + program)
}

// connect reaches the daemon, starting it when none answers. The log daemon
// comes first and is held: it ends by itself after two minutes without clients,
// and a machine cannot start without it.
func (d *daemon) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, daemonWait)
	defer cancel()
	var logs net.Conn
	if d.logs != "" {
		var err error
		if logs, err = reach(ctx, d, d.startLogs, d.dialLogs); err != nil {
			return nil, fmt.Errorf("cannot reach libvirt's log daemon: %w", err)
		}
	}
	c, err := reach(ctx, d, d.start, d.dial)
	if err != nil {
		closeConn(logs)
		return nil, fmt.Errorf("cannot reach libvirt at %s: %w", d.uri, err)
	}
	c.logs = logs
	return c, nil
}

// reach dials until a daemon answers, having started it if none did.
func reach[C any](ctx context.Context, d *daemon, start [][]string, dial func(context.Context) (C, error)) (C, error) {
	c, err := dial(ctx)
	if err == nil || !absent(err) {
		return c, err
	}
	if len(start) == 0 {
		return c, fmt.Errorf("%w: no daemon is running and none can be started: install libvirt's QEMU driver", err)
	}
	unlock, err := filelock.Wait(ctx, d.lock, nil)
	if err != nil {
		return c, fmt.Errorf("cannot start a daemon: %w", err)
	}
	defer unlock()
	said := ""
	for _, argv := range start {
		if c, err = dial(ctx); err == nil || !absent(err) {
			return c, err
		}
		said += d.run(ctx, argv)
	}
	return await(ctx, dial, said)
}

// await dials until the daemon answers.
func await[C any](ctx context.Context, dial func(context.Context) (C, error), said string) (C, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := dial(ctx)
		if err == nil || !absent(err) {
			return c, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return c, fmt.Errorf("%w: %v%s", ctx.Err(), err, said)
		}
	}
}

// dialLogs connects to the log daemon without speaking to it.
func (d *daemon) dialLogs(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", d.logs)
}

// run starts one daemon and returns what it said when it did not start. A
// daemon that another process started first makes it fail too, which is fine.
func (d *daemon) run(ctx context.Context, argv []string) string {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), d.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C is not meant for it
	cmd.WaitDelay = time.Second                          // it may keep its standard error
	var out bytes.Buffer
	if argv[0] != setsid { // what that leaves behind keeps its output open for good
		cmd.Stdout, cmd.Stderr = &out, &out
	}
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		text := out.Bytes()
		return fmt.Sprintf("; %s: %v: %s", argv[0], err, bytes.TrimSpace(text[max(0, len(text)-500):]))
	}
	return ""
}

// dial connects to a running daemon.
func (d *daemon) dial(ctx context.Context) (*conn, error) {
	var dialer net.Dialer
	var first error
	for _, path := range d.sockets {
		raw, err := dialer.DialContext(ctx, "unix", path)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		return open(ctx, raw, d.uri)
	}
	if errors.Is(first, os.ErrPermission) {
		return nil, fmt.Errorf("%w: join the group that owns it, or use %s", first, uriSession)
	}
	return nil, first
}

// absent tells whether err means that no daemon serves the socket, so that
// starting one may help: one that is ending by itself hangs up on its clients.
func absent(err error) bool {
	var spoke lv.Error
	return !errors.As(err, &spoke) && !errors.Is(err, os.ErrPermission) && !errors.Is(err, context.Canceled)
}

// conn is one connection to the daemon. Every machine has its own: with
// VIR_DOMAIN_START_AUTODESTROY its domain lives exactly as long.
type conn struct {
	lv   *lv.Libvirt
	raw  net.Conn
	logs net.Conn // keeps the log daemon from ending; nil where that is not ours
}

// dialed is a socket.Dialer for a connection that is open already.
type dialed struct{ net.Conn }

func (d dialed) Dial() (net.Conn, error) { return d.Conn, nil }

// open begins to speak libvirt's protocol on raw, which it owns from now on.
func open(ctx context.Context, raw net.Conn, uri string) (*conn, error) {
	c := &conn{lv: lv.NewWithDialer(dialed{raw}), raw: raw}
	err := c.do(ctx, func(l *lv.Libvirt) error {
		if err := l.ConnectToURI(lv.ConnectURI(uri)); err != nil {
			return err
		}
		_, err := l.ConnectGetLibVersion()
		return err
	})
	if err != nil {
		_ = raw.Close() // the failure is what counts
		return nil, err
	}
	return c, nil
}

// do makes calls under ctx. When ctx ends first the connection is lost: the
// protocol cannot take a call back.
func (c *conn) do(ctx context.Context, calls func(*lv.Libvirt) error) error {
	done := make(chan error, 1)
	go func() { done <- calls(c.lv) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		_ = c.raw.Close() // makes every call under way return
		<-done
		return ctx.Err()
	}
}

// close hangs up; the daemon then destroys what lived with the connection.
func (c *conn) close() {
	_ = c.raw.Close() // it may be lost already
	<-c.lv.Disconnected()
	closeConn(c.logs)
}

func closeConn(c net.Conn) {
	if c != nil {
		_ = c.Close() // nothing was ever said on it
	}
}

// isCode tells whether libvirt refused with a certain error.
func isCode(err error, code lv.ErrorNumber) bool {
	var e lv.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// systemdRuns tells whether systemd manages this machine (sd_booted(3)).
func systemdRuns() bool {
	info, err := os.Stat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// runtimeDir is where a user's sockets may lie: XDG_RUNTIME_DIR, what logind
// would have given, or a private directory below /tmp.
func runtimeDir(uid int, env string) (string, error) {
	if strings.HasPrefix(env, "/") {
		return env, nil
	}
	given := fmt.Sprintf("/run/user/%d", uid)
	if private(given, uid) == nil {
		return given, nil
	}
	own := filepath.Join(os.TempDir(), fmt.Sprintf("assay-run-%d", uid))
	if err := os.Mkdir(own, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("cannot make a runtime directory: %w", err)
	}
	if err := private(own, uid); err != nil {
		return "", err
	}
	return own, nil
}

// private makes sure that nobody else can have put anything into dir.
func private(dir string, uid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", dir, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != uid || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("cannot use %s: it must be a directory that only user %d may write to", dir, uid)
	}
	return nil
}

// isRefusal tells whether libvirt answered, and said no.
func isRefusal(err error) bool {
	var e lv.Error
	return errors.As(err, &e)
}

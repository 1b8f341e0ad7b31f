package ssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/sshconn"
)

// machine is one execution's directory on the host.
type machine struct {
	*sshconn.Machine
	machines Machines
	base     context.Context // for cleaning up: never cancelled
	name     string          // of the directory
	dir      string          // its path; "" while it is not known
	tools    string          // the directory with assay result; "" for none
	once     sync.Once
	err      error
}

var _ runner.Machine = (*machine)(nil)

// prefix begins the names of all our directories.
const prefix = "assay-ssh-"

// newName is a directory's name that nobody can foresee.
func newName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + hex.EncodeToString(b[:])
}

// Dir does as runner.Machine says.
func (m *machine) Dir() string { return m.dir }

// What prepareScript says, so that it can be told from what else a host prints.
const (
	saysDir   = "assay has made "
	saysNoTar = "assay finds no tar"
)

// prepareScript makes the directory named $1 and removes those of dead
// executions: own directories, no links, that were last used a week ago.
const prepareScript = `umask 077
t=${TMPDIR:-/tmp}
command -v tar >/dev/null 2>&1 || { echo '` + saysNoTar + `'; exit 0; }
for d in "$t"/` + prefix + `*; do
  find "$d" -prune -type d -user "$(id -u)" -mtime +6 -exec chmod -R u+rwX {} \; -exec rm -rf {} \;
done >/dev/null 2>&1
mkdir "$t/$1" && cd "$t/$1" && echo "` + saysDir + `$(pwd)"`

// removeScript removes the directory named $1, which a check may have locked.
const removeScript = `cd / && d=${TMPDIR:-/tmp}/$1
chmod -R u+rwX "$d" 2>/dev/null
rm -rf "$d"`

// said keeps the beginning of what a host prints.
type said struct{ bytes.Buffer }

// maxSaid is how much that is, in bytes.
const maxSaid = 4 << 10

func (s *said) Write(p []byte) (int, error) {
	s.Buffer.Write(p[:min(len(p), maxSaid-s.Len())])
	return len(p), nil
}

// String is what was kept, for people.
func (s *said) String() string { return sshconn.OneLine(s.Bytes()) }

// script runs one of the scripts for a directory.
func script(ctx context.Context, m *sshconn.Machine, text, name string) (exit int, out, complaint *said, err error) {
	out, complaint = &said{}, &said{}
	exit, err = m.Run(ctx, runner.Command{
		// The variable shows whether the login shell takes what a check's commands
		// need, too.
		Argv: []string{"/bin/sh", "-c", text, "sh", name}, Env: []string{"ASSAY_PROBE=1"},
		Stdout: out, Stderr: complaint,
	})
	return exit, out, complaint, err
}

// prepare makes the execution's directory and returns its path.
func prepare(ctx context.Context, m *sshconn.Machine, name string) (string, error) {
	exit, out, complaint, err := script(ctx, m, prepareScript, name)
	if err != nil {
		return "", err
	}
	return prepared(exit, out, complaint, name)
}

// prepared reads what prepareScript printed: the hostile or careless part of it
// never becomes a path.
func prepared(exit int, out, complaint *said, name string) (string, error) {
	text := strings.TrimSuffix(out.Buffer.String(), "\n")
	before, dir, made := strings.Cut(text, saysDir)
	switch {
	case strings.HasSuffix(text, saysNoTar):
		return "", errors.New("there is no tar: install it there")
	case exit == 127 || exit == 126:
		return "", fmt.Errorf("there is no /bin/sh that can be run (%s): a check's commands need one", complaint)
	case !made && exit != 0:
		return "", fmt.Errorf("no directory can be made below $TMPDIR, or /tmp: exit %d: %s", exit, complaint)
	case !made:
		return "", fmt.Errorf("its login shell did not do as a POSIX shell does, but said %q and %q: give that user another shell, such as /bin/bash", out, complaint)
	case before != "":
		return "", fmt.Errorf("its shell's start-up files print text (%q) where files are to come: make them silent for shells that are not interactive", clipped(before))
	case !path.IsAbs(dir) || path.Base(dir) != name || strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("it made the directory %q: set TMPDIR to an absolute path there", clipped(dir))
	}
	return dir, nil
}

func clipped(text string) string { return text[:min(len(text), 100)] }

// Close removes the directory, unless it is to be kept, and ends the connection.
// When that is lost it connects once more for the removal.
func (m *machine) Close() error {
	m.once.Do(func() {
		if m.machines.Options.Keep && m.dir != "" {
			_ = m.Machine.Close() // its watchers are joined; nothing is left to be said
			return
		}
		err := m.remove(m.Machine)
		_ = m.Machine.Close() // its watchers are joined; nothing is left to be said
		if errors.Is(err, runner.ErrMachineDied) || errors.Is(err, context.DeadlineExceeded) {
			err = m.removeLater()
		}
		if err != nil {
			m.err = fmt.Errorf("cannot remove the execution's directory on %s: %w: remove %s by hand, or leave that to a run in a week",
				m.machines.host(), err, m.where())
		}
	})
	return m.err
}

// where is the directory, as far as it is known.
func (m *machine) where() string {
	if m.dir != "" {
		return m.dir
	}
	return m.name + " below /tmp"
}

func (m *machine) remove(conn *sshconn.Machine) error {
	ctx, cancel := context.WithTimeout(m.base, defaultTimeout)
	defer cancel()
	exit, _, complaint, err := script(ctx, conn, removeScript, m.name)
	if err == nil && exit != 0 && m.dir != "" {
		err = fmt.Errorf("exit %d: %s", exit, complaint)
	}
	return err
}

// removeLater removes the directory over a connection of its own.
func (m *machine) removeLater() error {
	conn, err := m.machines.connect(m.base)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return m.remove(conn)
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Tool is a program that building an image runs.
type Tool struct {
	Program string
	Debian  string // the package that has it, on Debian and Ubuntu
	Fedora  string // the package that has it, on Fedora and its like
	// Unprivileged tells that only a user other than root needs it.
	Unprivileged bool
}

// Tools lists every program that a build needs.
func Tools() []Tool {
	return []Tool{
		{Program: "mmdebstrap", Debian: "mmdebstrap", Fedora: "mmdebstrap"},
		{Program: "apt-get", Debian: "apt", Fedora: "apt"},
		{Program: "fakeroot", Debian: "fakeroot", Fedora: "fakeroot"},
		{Program: "tar", Debian: "tar", Fedora: "tar"},
		{Program: "mkfs.ext4", Debian: "e2fsprogs", Fedora: "e2fsprogs"},
		{Program: "qemu-img", Debian: "qemu-utils", Fedora: "qemu-img"},
		{Program: "newuidmap", Debian: "uidmap", Fedora: "shadow-utils", Unprivileged: true},
	}
}

// dnfTools lists what a build of RPM packages needs.
func dnfTools() []Tool {
	tools := []Tool{{Program: "dnf", Debian: "dnf", Fedora: "dnf"}}
	for _, tool := range Tools() {
		if tool.Program != "mmdebstrap" && tool.Program != "apt-get" && !tool.Unprivileged {
			tools = append(tools, tool)
		}
	}
	return tools
}

// importTools lists what taking in a disk from elsewhere needs.
func importTools() []Tool {
	return []Tool{
		{Program: "qemu-img", Debian: "qemu-utils", Fedora: "qemu-img"},
		{Program: "prlimit", Debian: "util-linux", Fedora: "util-linux"},
	}
}

// Missing lists the programs that a build of Debian or Ubuntu by this process
// would not find.
func Missing() []Tool { return missing(Tools()) }

func missing(tools []Tool) []Tool {
	var missing []Tool
	for _, tool := range tools {
		if tool.Unprivileged && os.Geteuid() == 0 {
			continue
		}
		if _, err := lookUp(tool.Program); err != nil {
			missing = append(missing, tool)
		}
	}
	return missing
}

// lookUp finds a program also where an ordinary user's PATH does not look.
func lookUp(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// checkTools tells what to install.
func checkTools(missing []Tool) error {
	if len(missing) == 0 {
		return nil
	}
	var programs, debian, fedora []string
	for _, tool := range missing {
		programs = append(programs, tool.Program)
		debian = append(debian, tool.Debian)
		fedora = append(fedora, tool.Fedora)
	}
	return fmt.Errorf("cannot find %s: `apt-get install %s` on Debian and Ubuntu, `dnf install %s` on Fedora",
		strings.Join(programs, ", "), strings.Join(debian, " "), strings.Join(fedora, " "))
}

// toolbox runs the tools of one build.
type toolbox struct {
	log io.Writer // takes everything that they print
	env []string  // added to the process's own
}

// run runs one tool to its end. Each line it prints goes to the log and to line;
// the last ones are in the error when it fails. When ctx ends the tool is told to
// end, so that it can clean up, and after a while made to.
func (t toolbox) run(ctx context.Context, line func(string), program string, args ...string) error {
	path, err := lookUp(program)
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", program, err)
	}
	command := exec.CommandContext(ctx, path, args...)
	command.Env = append(os.Environ(), t.env...)
	// A group of its own ends as a whole, also when this process is killed.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	output := &lines{log: t.log, each: line}
	command.Stdout, command.Stderr = output, output
	if err := runBound(command); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s was stopped: %w", program, ctx.Err())
		}
		return fmt.Errorf("%s failed (%w), and last said:\n%s", program, err, output.tail())
	}
	return nil
}

// runBound runs a command from one thread: the kernel sends the signal for a
// dead parent when the thread that forked ends (prctl(2), PR_SET_PDEATHSIG).
func runBound(command *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := command.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // its own end was in time
	}
	return err
}

// lines cuts what a tool prints into lines.
type lines struct {
	log  io.Writer
	each func(string)

	mu   sync.Mutex
	part []byte
	last []string
}

const (
	maxLine  = 8 << 10
	lastKept = 12
)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.log.Write(p); err != nil {
		return 0, fmt.Errorf("cannot write the build log: %w", err)
	}
	for _, c := range p {
		if c != '\n' && c != '\r' && len(l.part) < maxLine {
			l.part = append(l.part, c)
			continue
		}
		l.end()
	}
	return len(p), nil
}

func (l *lines) end() {
	text := strings.TrimSpace(string(l.part))
	l.part = l.part[:0]
	if text == "" {
		return
	}
	if l.last = append(l.last, text); len(l.last) > lastKept {
		l.last = l.last[1:]
	}
	if l.each != nil {
		l.each(text)
	}
}

// tail is the last lines that the tool printed.
func (l *lines) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	return strings.Join(l.last, "\n")
}

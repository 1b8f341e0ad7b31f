package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Shield is the out-of-memory score that keeps a process from ever being
// chosen (proc(5), oom_score_adj).
const Shield = -1000

// Groups makes a control group for each command below one that limits how many
// processes all commands have together (cgroup v2, Documentation/admin-guide/
// cgroup-v2.rst), so that a command which forks without end stops nothing but
// itself. A nil *Groups makes none.
type Groups struct {
	dir    string
	mu     sync.Mutex
	next   int
	spare  *Group   // made ahead; nil for none
	ending []string // could not be removed yet: something still runs in them
}

// Group is one command's control group. A nil *Group does nothing.
type Group struct {
	groups *Groups
	dir    string
	file   *os.File // open until the command is started in it
}

// NewGroups prepares the control group at root, which must be the caller's own
// to divide (systemd: Delegate=): the caller's process moves to the group
// "agent" in it, commands go below "commands", limited to pids processes.
func NewGroups(root string, pids int) (*Groups, error) {
	own, commands := filepath.Join(root, "agent"), filepath.Join(root, "commands")
	steps := []func() error{
		func() error { return makeDir(own) },
		// A group with processes in it cannot hand its controllers down.
		func() error { return writeFile(filepath.Join(own, "cgroup.procs"), "0") },
		func() error { return writeFile(filepath.Join(root, "cgroup.subtree_control"), "+pids") },
		func() error { return makeDir(commands) },
		func() error { return writeFile(filepath.Join(commands, "pids.max"), strconv.Itoa(pids)) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("cannot divide the control group %s: %w", root, err)
		}
	}
	return &Groups{dir: commands}, nil
}

// OwnGroup is the directory of the calling process's control group.
func OwnGroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("cannot find the control group: %w", err)
	}
	path, err := parseGroup(string(text))
	if err != nil {
		return "", err
	}
	return filepath.Join("/sys/fs/cgroup", path), nil
}

// parseGroup reads /proc/PID/cgroup (cgroups(7)): version 2 has the line "0::PATH".
func parseGroup(text string) (string, error) {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/"); ok {
			return path, nil
		}
	}
	return "", errors.New("cannot find the control group: this system has no version 2 groups")
}

// enter makes a group and tells the process to be started to begin in it. Where
// that cannot be done the command runs without.
func (g *Groups) enter(process *syscall.SysProcAttr) *Group {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.spare
	if g.spare = nil; one == nil {
		one = g.make()
	}
	if one != nil {
		process.UseCgroupFD, process.CgroupFD = true, int(one.file.Fd())
	}
	return one
}

// prepare makes the group of the next command, so that its start is quicker.
func (g *Groups) prepare() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sweep(); g.spare == nil {
		g.spare = g.make()
	}
}

// make makes a group, nil where that cannot be done.
func (g *Groups) make() *Group {
	dir := filepath.Join(g.dir, strconv.Itoa(g.next))
	g.next++
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil
	}
	file, err := os.Open(dir)
	if err != nil {
		_ = os.Remove(dir)
		return nil
	}
	return &Group{groups: g, dir: dir, file: file}
}

// sweep removes the groups whose last process has ended since.
func (g *Groups) sweep() {
	var still []string
	for _, dir := range g.ending {
		if err := syscall.Rmdir(dir); errors.Is(err, syscall.EBUSY) {
			still = append(still, dir)
		}
	}
	g.ending = still
}

// started lets go of what only starting needed.
func (g *Group) started() {
	if g != nil {
		_ = g.file.Close()
	}
}

// leave removes the group, now or when what the command left behind has ended.
func (g *Group) leave() {
	if g == nil {
		return
	}
	g.groups.mu.Lock()
	g.groups.ending = append(g.groups.ending, g.dir)
	g.groups.mu.Unlock()
	g.groups.prepare()
}

// kill ends every process in the group, also those that made a session of their own.
func (g *Group) kill() {
	if g != nil {
		_ = writeFile(filepath.Join(g.dir, "cgroup.kill"), "1") // the process group is killed besides
	}
}

// setScore sets how readily the kernel picks this process when memory is short.
// Only root may lower it; who may not keeps what it has.
func setScore(score int) {
	_ = writeFile("/proc/self/oom_score_adj", strconv.Itoa(score))
}

func makeDir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0) }

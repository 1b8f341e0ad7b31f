package agent

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPasswd bounds how much of the list of accounts is read, in bytes.
const maxPasswd = 1 << 20

// account is who the server runs as (passwd(5)).
type account struct{ name, home, shell string }

// ownAccount looks the server's own user up; what cannot be found is root's
// usual.
func ownAccount() account {
	a := account{"root", "/root", "/bin/sh"}
	file, err := os.Open("/etc/passwd")
	if err != nil {
		return a
	}
	defer func() { _ = file.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(file, maxPasswd))
	if err != nil {
		return a
	}
	if found, ok := parseAccount(string(text), os.Getuid()); ok {
		a = found
	}
	if info, err := os.Stat(a.shell); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		a.shell = "/bin/sh"
	}
	return a
}

// parseAccount finds the first account with a user's number in a list of them.
func parseAccount(passwd string, uid int) (account, bool) {
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) == 7 && fields[2] == strconv.Itoa(uid) && filepath.IsAbs(fields[5]) && strings.IndexByte(line, 0) < 0 {
			shell := fields[6]
			if !filepath.IsAbs(shell) {
				shell = "/bin/sh"
			}
			return account{fields[0], fields[5], shell}, true
		}
	}
	return account{}, false
}

// env is what a login sets.
func (a account) env() []string {
	return []string{"USER=" + a.name, "LOGNAME=" + a.name, "HOME=" + a.home, "SHELL=" + a.shell}
}

// awaitExit waits until a child has ended and leaves it to be waited for, so
// that its number is still its own.
func awaitExit(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// killSession kills every process of the session that a process leads or led: a
// shell at a terminal gives each of its jobs a process group of its own. A
// process that was sent SIGKILL cannot fork any more, so that it is over when a
// look finds nobody new; who forks faster than that is looked for 100 times.
func killSession(leader int) {
	sent := map[int]bool{}
	for range 100 {
		found := false
		for _, pid := range sessionMembers("/proc", leader) {
			if !sent[pid] {
				sent[pid], found = true, true
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
		if !found {
			return
		}
	}
}

// sessionMembers lists the living processes of a session from what the kernel
// says of each below proc.
func sessionMembers(proc string, leader int) []int {
	dir, err := os.Open(proc)
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }() // only read
	names, _ := dir.Readdirnames(-1)   // those that were read count
	var members []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(proc, name, "stat"))
		if err == nil && parseSession(string(stat)) == leader {
			members = append(members, pid)
		}
	}
	return members
}

// parseSession reads the session from /proc/PID/stat (proc(5)); 0 of a process
// that has ended. The name in it is the process's own choice.
func parseSession(stat string) int {
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	if end < 0 || len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	session, err := strconv.Atoi(fields[3])
	if err != nil {
		return 0
	}
	return session
}

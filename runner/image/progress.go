package image

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Progress is how far a build is.
type Progress struct {
	Stage string // "downloading packages", for people to read
	Done  int64  // of Total, counted in Unit
	Total int64  // 0 where it is not known
	Unit  string // UnitItems, UnitBytes or UnitPercent
}

// What Progress is counted in.
const (
	UnitItems   = ""
	UnitBytes   = "bytes"
	UnitPercent = "%"
)

// meter tells of progress at every change of stage and otherwise once a second.
type meter struct {
	tell func(Progress)
	stop chan struct{}
	done sync.WaitGroup

	mu  sync.Mutex
	now Progress
}

// newMeter starts a meter; close ends it. tell is never called twice at a time.
func newMeter(tell func(Progress)) *meter {
	m := &meter{tell: tell, stop: make(chan struct{})}
	if tell == nil {
		m.tell = func(Progress) {}
	}
	m.done.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-ticker.C:
				m.set(func(Progress) Progress { return m.now }, true)
			}
		}
	})
	return m
}

func (m *meter) close() {
	close(m.stop)
	m.done.Wait()
}

// stage begins a stage.
func (m *meter) stage(name string) {
	m.set(func(Progress) Progress { return Progress{Stage: name} }, true)
}

func (m *meter) set(change func(Progress) Progress, always bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := change(m.now)
	if always || next.Stage != m.now.Stage {
		m.tell(next)
	}
	m.now = next
}

// bytes begins a stage that is counted in bytes, of which total are expected; 0
// when nobody knows.
func (m *meter) bytes(name string, total int64) {
	m.set(func(Progress) Progress { return Progress{Stage: name, Total: total, Unit: UnitBytes} }, true)
}

// add counts bytes.
func (m *meter) add(n int64) {
	m.set(func(now Progress) Progress { now.Done += n; return now }, false)
}

// percent follows what qemu-img prints: "    (12.34/100%)".
func (m *meter) percent(line string) {
	whole, _, ok := strings.Cut(strings.TrimPrefix(line, "("), ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if !ok || err != nil || n < 0 || n > 100 {
		return
	}
	m.set(func(now Progress) Progress { now.Done, now.Total, now.Unit = n, 100, UnitPercent; return now }, false)
}

// bootstrap follows what mmdebstrap and the apt and dpkg inside it print.
func (m *meter) bootstrap(line string) {
	m.set(func(now Progress) Progress { return follow(now, line) }, false)
}

// rpm follows what dnf prints when it is not on a terminal: one line for every
// package that comes, "(3/112): NAME" or "[ 3/112] NAME", and one for every step
// of installing, "  Installing : NAME  3/112".
func (m *meter) rpm(line string) {
	m.set(func(now Progress) Progress { return followRPM(now, line) }, false)
}

func followRPM(now Progress, line string) Progress {
	count := rpmCount.FindStringSubmatch(line)
	if count == nil {
		return now
	}
	stage := stageDownload
	if strings.Contains(line, "nstalling ") || strings.Contains(line, "Running ") || strings.Contains(line, "Preparing ") {
		stage = stageInstall
	}
	done, _ := strconv.ParseInt(count[1], 10, 64) // six digits at most
	total, _ := strconv.ParseInt(count[2], 10, 64)
	if done > total {
		return now
	}
	return Progress{Stage: stage, Done: done, Total: total}
}

var rpmCount = regexp.MustCompile(`(?:^[(\[] *|\s)([0-9]{1,6})/([0-9]{1,6})(?:[)\]]|$)`)

// Stages, of a build those that mmdebstrap's output tells of.
const (
	stageLists    = "reading the package lists"
	stageDownload = "downloading packages"
	stageInstall  = "installing packages"
	stagePack     = "packing the root file system"
	stageConvert  = "converting the disk"
	stageCopy     = "copying the disk"
)

// follow is what a line of output changes. Packages are counted twice while they
// are installed: unpacked, then configured. mmdebstrap installs in two rounds,
// the essential ones first, and says the number of each only when it begins.
func follow(now Progress, line string) Progress {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case line == "I: running apt-get update...":
		return Progress{Stage: stageLists}
	case line == "I: creating tarball...":
		return Progress{Stage: stagePack}
	case strings.Contains(line, " newly installed, "):
		return Progress{Stage: stageDownload, Total: newlyInstalled(line)}
	case strings.HasPrefix(word, "Get:") && now.Stage == stageDownload:
		now.Done = min(now.Done+1, now.Total)
	case (word == "Unpacking" || word == "Setting") && rest != "":
		if now.Stage == stageDownload {
			now = Progress{Stage: stageInstall, Total: 2 * now.Total}
		}
		now.Stage = stageInstall
		now.Total = max(now.Total, now.Done+1)
		now.Done++
	}
	return now
}

// newlyInstalled reads "0 upgraded, 112 newly installed, 0 to remove …".
func newlyInstalled(line string) int64 {
	before, _, _ := strings.Cut(line, " newly installed, ")
	n, err := strconv.ParseInt(before[strings.LastIndexByte(before, ' ')+1:], 10, 32)
	if err != nil {
		return 0
	}
	return n
}

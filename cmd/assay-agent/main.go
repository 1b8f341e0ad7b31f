// Command assay-agent runs inside a virtual machine and does what its host asks
// over the machine's virtio-serial port. As the first process of an initial RAM
// disk it brings up the root file system, or proves that the machine runs at all.
// Called as taskotron_result, or with result as its first argument, it is the
// command that reports a result.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/assay-ci/assay/runner/agent"
	"github.com/assay-ci/assay/runner/resulttool"
	"golang.org/x/sys/unix"
)

// Bounds of how many processes all commands may have together, and the memory
// that must be there for each: what the kernel itself needs for it, so that a
// command which forks without end meets this limit before it has used up the
// memory of everything else.
const (
	fewestProcesses  = 512
	mostProcesses    = 4096
	memoryPerProcess = 256 << 10
)

// version is set when a release is linked.
var version = "devel"

func main() {
	if os.Getpid() == 1 {
		initrd()
		return
	}
	if args, ok := resulttool.Called(os.Args); ok {
		os.Exit(resulttool.Run(args, os.Getenv, os.Stdout, os.Stderr))
	}
	if slices.Contains(resulttool.Names(), filepath.Base(os.Args[0])) {
		fmt.Fprintln(os.Stderr, "assay: cannot do that within a machine: there is only assay result")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1:]))
}

// run serves the port, or does what one of the flags says, and returns the exit
// status.
func run(args []string) int {
	flags := flag.NewFlagSet("assay-agent", flag.ContinueOnError)
	show := flags.Bool("version", false, "print the version and exit")
	port := flags.String("port", agent.PortName, "`name` of the virtio-serial port to serve")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *show {
		fmt.Println("assay-agent", version)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// Without it a check misses a command; it is still there to be run.
	if err := resulttool.Link(agent.ToolsDir, resulttool.Program()); err != nil {
		report(err)
	}
	server, err := agent.NewServer(options())
	if err != nil {
		report(err)
		return 1
	}
	find := func() (string, error) { return agent.FindPort("/sys", *port) }
	server.ServePort(ctx, find, report)
	return 0
}

// options are those of an agent that runs as root in its own machine. What it
// cannot set up it does without: a machine without limits is better than none.
func options() agent.Options {
	return agent.Options{
		Env: []string{
			"PATH=" + agent.ToolsDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LANG=C.UTF-8",
		},
		Dir:      "/root",
		Groups:   groups(),
		Shielded: true,
		Wake:     agent.Wake.Apply,
		Canary:   &agent.Canary{Paths: []string{"/run/assay/canary", "/var/lib/assay/canary"}},
	}
}

func groups() *agent.Groups {
	own, err := agent.OwnGroup()
	if err == nil {
		var groups *agent.Groups
		if groups, err = agent.NewGroups(own, processLimit(memory())); err == nil {
			return groups
		}
	}
	report(err)
	return nil
}

// processLimit is how many processes a machine with so many bytes of memory can
// do with.
func processLimit(memory uint64) int {
	return int(min(max(memory/memoryPerProcess, fewestProcesses), mostProcesses))
}

// memory is the machine's memory in bytes, 0 if it cannot be told.
func memory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

func report(err error) { fmt.Fprintln(os.Stderr, "assay-agent:", err) }

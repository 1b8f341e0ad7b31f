package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin is where TestMain puts the real programs: hooks and servers run as
// processes of their own, which a test binary cannot stand in for.
var bin string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "assay-test-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	out, err := exec.Command("make", "-C", "../..", "build", "BIN="+dir).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the programs: %v\n%s", err, out)
		return 1
	}
	bin = dir
	return m.Run()
}

// TestScenarios runs the scripts in fixtures/scenarios: what a user types, with
// real git and the real program. Adding a case is adding a file.
func TestScenarios(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../fixtures/scenarios",
		Setup: func(e *testscript.Env) error {
			fixtures, err := filepath.Abs("../../fixtures")
			if err != nil {
				return err
			}
			e.Setenv("FIXTURES", fixtures)
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "data-home"))
			e.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
			for _, who := range []string{"AUTHOR", "COMMITTER"} {
				e.Setenv("GIT_"+who+"_NAME", "Test")
				e.Setenv("GIT_"+who+"_EMAIL", "test@example.org")
			}
			return nil
		},
	})
}

// program is assay serve as a process of its own.
type program struct {
	site  *site
	cmd   *exec.Cmd
	ended chan struct{}
	url   string
	log   *lockedBuffer
}

// config is the file that a site's configuration makes, with extra lines.
func (s *site) config(extra string) string {
	file := filepath.Join(s.dir, "assay.yml")
	s.write(file, fmt.Sprintf(`listen: 127.0.0.1:0
data: %s
webhook: {secret_files: [webhook.secret]}
packages:
  - {name: rpms/*, checks: %s/checks/*.git, source: %s/rpms/*.git}
%s`, s.cfg.Data, s.dir, s.dir, extra))
	return file
}

// startProgram starts assay serve and waits until it serves.
func (s *site) startProgram(config string) *program {
	s.t.Helper()
	announced := filepath.Join(s.cfg.Data, announcement)
	if err := os.Remove(announced); err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	p := &program{site: s, ended: make(chan struct{}), log: s.log}
	p.cmd = exec.Command(filepath.Join(bin, "assay"), "serve", "--config", config)
	p.cmd.Stdout, p.cmd.Stderr = s.log, s.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // killed, mostly
	}()
	s.t.Cleanup(func() { p.end(syscall.SIGTERM) })
	until(s.t, "the server's address", func() bool {
		select {
		case <-p.ended:
			s.t.Fatalf("the server ended:\n%s", s.log.String())
		default:
		}
		data, err := os.ReadFile(announced)
		var a struct{ Listens string }
		if err != nil || json.Unmarshal(data, &a) != nil {
			return false
		}
		p.url = a.Listens
		return true
	})
	return p
}

// end signals the program and waits until it has ended.
func (p *program) end(sig syscall.Signal) {
	p.site.t.Helper()
	_ = p.cmd.Process.Signal(sig) // fails when it has ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		p.site.t.Errorf("the server did not end within %s", patience)
	}
}

// build reports a build of rpms/hello.
func (p *program) build(version, commit string) string {
	p.site.t.Helper()
	return p.buildOf("rpms/hello", version, commit)
}

// buildOf reports a build of a package.
func (p *program) buildOf(name, version, commit string) string {
	p.site.t.Helper()
	ctx, cancel := context.WithTimeout(p.site.t.Context(), patience)
	defer cancel()
	receipt, err := postBuild(ctx, p.url, strings.ReplaceAll(name, "/", ".")+"-"+version, p.site.secret, buildEvent{
		Package: name, Version: version, Release: "1.fc42", Commit: commit, BuildID: version,
	})
	if err != nil {
		p.site.t.Fatal(err)
	}
	return receipt.Event
}

// assayOutput runs the real program to its end.
func assayOutput(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "assay"), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// TestKilledBetweenVerdictAndReport kills the server while the forge takes its
// time over the final status.
func TestKilledBetweenVerdictAndReport(t *testing.T) {
	s := newSite(t, nil)
	gate := filepath.Join(s.dir, "gate")
	s.commit("checks/hello", "main", map[string]string{"c/runtask.yml": formula("c", "while [ ! -e "+gate+" ]; do sleep 0.05; done")})
	commit := s.commit("rpms/hello", "main", map[string]string{"hello": "x"})
	config := s.config("machines: {kind: local}\n")
	p := s.startProgram(config)
	p.build("1.0", commit)
	until(t, "the first status", func() bool { return strings.Contains(s.note("rpms/hello", commit), "pending") })
	// From now on the forge holds every push until the file goes away.
	hold := filepath.Join(s.dir, "hold")
	s.write(hold, "")
	s.write(s.bare("rpms/hello")+"/hooks/pre-receive", "#!/bin/sh\ntouch "+hold+".begun\nwhile [ -e "+hold+" ]; do sleep 0.05; done\n")
	if err := os.Chmod(s.bare("rpms/hello")+"/hooks/pre-receive", 0o755); err != nil {
		t.Fatal(err)
	}
	s.write(gate, "")
	until(t, "the final status on its way", func() bool { _, err := os.Stat(hold + ".begun"); return err == nil })
	p.end(syscall.SIGKILL)
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	s.startProgram(config)
	until(t, "the final status", func() bool { return strings.Contains(s.note("rpms/hello", commit), "success") })
	s.finalOnce("rpms/hello", commit, "success")
}

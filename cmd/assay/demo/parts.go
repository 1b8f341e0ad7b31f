package demo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assay-ci/assay"
)

// commandError is a command of the demo that exited with something else than 0.
type commandError struct {
	argv []string
	err  error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: %v", strings.Join(e.argv, " "), e.err)
}

// command prepares a command as the demo's maintainer would type it: "assay" is
// this program, and git knows nothing of the user's own settings.
func (d *demo) command(ctx context.Context, dir string, argv []string) *exec.Cmd {
	name := argv[0]
	if name == "assay" {
		name = d.o.Exe
	}
	cmd := exec.CommandContext(ctx, name, argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull, "GIT_PAGER=cat", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Maintainer of hello", "GIT_AUTHOR_EMAIL=maintainer@example.org",
		"GIT_COMMITTER_NAME=Maintainer of hello", "GIT_COMMITTER_EMAIL=maintainer@example.org",
	)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// shown runs a command and prints it with all it says.
func (d *demo) shown(ctx context.Context, dir string, argv ...string) error {
	fmt.Fprintf(d.o.Out, "$ %s\n", strings.Join(argv, " "))
	cmd := d.command(ctx, dir, argv)
	w := &indenter{w: d.o.Out}
	cmd.Stdout, cmd.Stderr = w, w
	err := cmd.Run()
	w.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &commandError{argv, err}
	}
	return nil
}

// output returns what a command prints.
func (d *demo) output(ctx context.Context, dir string, argv ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := d.command(ctx, dir, argv)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", &commandError{argv, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))}
	}
	return strings.TrimSpace(out.String()), nil
}

// quietly runs commands that are not worth showing: {directory, argv...} each.
func (d *demo) quietly(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		if _, err := d.output(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// initRepository makes a bare repository and a working copy of it.
func (d *demo) initRepository(name, work string) [][]string {
	bare := d.path(name + ".git")
	return [][]string{
		{d.dir, "git", "init", "-q", "--bare", "--initial-branch=main", bare},
		{d.dir, "git", "init", "-q", "--initial-branch=main", work},
		{work, "git", "remote", "add", "origin", bare},
		{work, "git", "config", "push.default", "current"},
	}
}

// commitAll commits what lies in a working copy, and pushes it where no hook
// has a say.
func (d *demo) commitAll(work, message string) [][]string {
	steps := [][]string{{work, "git", "add", "-A"}, {work, "git", "commit", "-q", "-m", message}}
	if filepath.Base(work) != "checks" {
		steps = append(steps, []string{work, "git", "push", "-q", "origin", "main"})
	}
	return steps
}

// startServer writes the configuration and starts assay serve.
func (d *demo) startServer(ctx context.Context) error {
	d.title("A server, with all the configuration it needs")
	secret := rand.Text()
	if err := os.WriteFile(d.path("webhook.secret"), []byte(secret+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(d.path("assay.yml"), []byte(d.configuration()), 0o644); err != nil {
		return err
	}
	if err := d.shown(ctx, d.dir, "cat", "assay.yml"); err != nil {
		return err
	}
	fmt.Fprintln(d.o.Out, "$ assay serve --config assay.yml")
	var err error
	if d.server, err = d.start(ctx, "server.log", "assay", "serve", "--config", "assay.yml"); err != nil {
		return err
	}
	if d.url, err = d.address(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.o.Out, "  serving on %s\n", d.url)
	return nil
}

func (d *demo) configuration() string {
	text := fmt.Sprintf(`listen: 127.0.0.1:0
data: data
webhook:
  secret_files: [webhook.secret]
packages:
  - name: rpms/*
    checks: %s/*.git
    source: %s/*.git
`, d.path("checks"), d.path("rpms"))
	if d.o.Image == nil {
		text += "machines: {kind: local}\n"
	}
	return text
}

// child is a program that runs beside the demo.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended is closed
}

// start starts a program with its output going to a file. It ends with the
// demo, also when that is killed.
func (d *demo) start(ctx context.Context, log string, argv ...string) (*child, error) {
	out, err := os.Create(d.path(log))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := d.command(context.WithoutCancel(ctx), d.dir, argv)
	cmd.Cancel, cmd.WaitDelay = nil, 0
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", argv[0], err)
	}
	c := &child{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = cmd.Wait()
	}()
	return c, nil
}

// stopTime is how long a server may take to give its machines back.
const stopTime = 60 * time.Second

// stop ends the child and waits for it. A nil child is stopped already.
func (c *child) stop(ctx context.Context) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	// An error means that it has ended, which is what we wait for.
	_ = c.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return errors.New("the server had to be killed: assay doctor shows what it may have left")
}

// address waits until the server says where it is.
func (d *demo) address(ctx context.Context) (string, error) {
	var a struct{ URL string }
	err := d.poll(ctx, time.Minute, func() (bool, error) {
		data, err := os.ReadFile(d.path("data", d.o.Announcement))
		return err == nil && json.Unmarshal(data, &a) == nil && a.URL != "", nil
	})
	if err != nil {
		tail, _ := os.ReadFile(d.path("server.log"))
		return "", fmt.Errorf("the server does not start: %w\n%s", err, bytes.TrimSpace(tail))
	}
	return a.URL, nil
}

// poll asks until it is done, the server ends or time is up.
func (d *demo) poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %s", limit))
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-d.server.ended:
			return fmt.Errorf("it ended: %v", d.server.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// expect adds a row to the table whose status is still to come.
func (d *demo) expect(ctx context.Context, what, repo, rev, want string) error {
	commit, err := d.output(ctx, d.path(repo+".git"), "git", "rev-parse", rev)
	d.rows = append(d.rows, &row{what: what, repo: repo, commit: commit, want: want})
	return err
}

// roundTime bounds how long one round of executions may take.
const roundTime = 10 * time.Minute

// await waits until every row has its final status, telling of each change.
func (d *demo) await(ctx context.Context) error {
	begun := time.Now()
	return d.poll(ctx, roundTime, func() (bool, error) {
		open := 0
		for _, r := range d.rows {
			before := r.status
			if err := d.look(ctx, r); err != nil {
				return false, err
			}
			if r.status != before {
				fmt.Fprintf(d.o.Out, "  %5.1fs  %.10s  %s  %s\n", time.Since(begun).Seconds(), r.commit, r.status, r.page)
			}
			if r.open() {
				open++
			}
		}
		return open == 0, nil
	})
}

// open tells whether a commit is still owed something: its final status, or the
// comment that follows bad news.
func (r *row) open() bool {
	switch assay.StatusState(r.status) {
	case "", assay.StatusPending:
		return true
	case assay.StatusSuccess:
		return false
	}
	return !r.commented
}

// noteLine is a status in a note: "assay/greeting: success - reason <page>".
var noteLine = regexp.MustCompile(`(?m)^assay/\S+: (pending|success|failure|error)(?: - .*)? <([^<>]+)>$`)

// look reads a row's status where reviewers see it, in the commit's note.
func (d *demo) look(ctx context.Context, r *row) error {
	note, err := d.output(ctx, d.path(r.repo+".git"), "git", "notes", "--ref=assay", "show", r.commit)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.commented = strings.Contains(note, "\n--- assay comment ")
	m := noteLine.FindStringSubmatch(note)
	if err != nil || m == nil || m[1] == r.status {
		return nil // no note yet, or nothing new in it
	}
	r.status, r.page = m[1], m[2]
	r.duration, err = d.duration(ctx, r.page)
	return err
}

// duration asks the server how long an execution took, from event to verdict.
func (d *demo) duration(ctx context.Context, page string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+".json", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Execution struct{ Created, Finished time.Time }
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("cannot read %s.json: %w", page, err)
	}
	if answer.Execution.Finished.IsZero() {
		return 0, nil
	}
	return answer.Execution.Finished.Sub(answer.Execution.Created), nil
}

// indenter sets a command's output apart from the demo's own words.
type indenter struct {
	w    io.Writer
	rest []byte
}

func (i *indenter) Write(p []byte) (int, error) {
	i.rest = append(i.rest, p...)
	for {
		line, rest, ok := bytes.Cut(i.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		i.print(line)
		i.rest = rest
	}
}

func (i *indenter) print(line []byte) {
	out := bufio.NewWriter(i.w)
	fmt.Fprintf(out, "  %s\n", bytes.TrimRight(line, " \r"))
	_ = out.Flush()
}

func (i *indenter) end() {
	if len(i.rest) > 0 {
		i.print(i.rest)
		i.rest = nil
	}
}

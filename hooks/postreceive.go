package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// deliverTime bounds how long a push waits for the server.
const deliverTime = 2 * time.Second

// PostReceive is the hook that git runs after the refs of a push moved. It
// cannot undo the push any more, and never makes it fail.
type PostReceive struct {
	Repository string // the repository's name for the server
	Server     string // base of the server's pages: "http://localhost:8080"
	Spool      *Spool
	// Post sends one entry. Its error is a *Refusal if sending again is no use.
	Post func(context.Context, Entry) error
	// Start lets a process of its own deliver what is left (StartDeliverer).
	Start func() error
}

// Run keeps an event for every branch that stdin says was made or moved, tells
// on out where its run can be watched, and sends what is kept, for at most two
// seconds. The error tells of events that could not even be kept.
func (p PostReceive) Run(ctx context.Context, stdin io.Reader, out io.Writer) error {
	updates, err := ReadUpdates(stdin)
	if err != nil {
		return err
	}
	kept, err := p.keep(updates, out)
	if kept == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	left, deliverErr := p.Spool.Deliver(ctx, p.Post)
	if left == 0 {
		return err
	}
	fmt.Fprintln(out, "assay: the server has not taken the event yet; it is kept, and sent again until the server takes it")
	if deliverErr != nil {
		fmt.Fprintf(out, "assay: (%s)\n", clip(deliverErr.Error()))
	}
	if startErr := p.Start(); startErr != nil {
		fmt.Fprintf(out, "assay: %s; the next push sends it\n", clip(startErr.Error()))
	}
	return err
}

// keep writes the events; one that cannot be kept does not hinder the next.
func (p PostReceive) keep(updates []Update, out io.Writer) (kept int, err error) {
	for _, u := range updates {
		if _, ok := u.Branch(); !ok {
			continue
		}
		e, newErr := p.event(u)
		if newErr == nil {
			newErr = p.Spool.Add(e)
		}
		if newErr != nil {
			err = newErr
			continue
		}
		kept++
		fmt.Fprintf(out, "assay: watch the trial run at %s/events/%s\n", strings.TrimRight(p.Server, "/"), e.Delivery)
	}
	return kept, err
}

// event makes the event of an update. Its delivery is a UUID of version 7: they
// sort by time, and so the spool is sent in order.
func (p PostReceive) event(u Update) (Event, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Event{}, fmt.Errorf("cannot make an id for the event: %v", err)
	}
	before := u.Old
	if before == "" {
		before = strings.Repeat("0", len(u.New))
	}
	return Event{
		Delivery: id.String(), Repository: p.Repository, Ref: u.Ref,
		Before: before, After: u.New, Time: time.Now().UTC(),
	}, nil
}

// Deliverer's patience.
const (
	firstRetry    = time.Second
	lastRetry     = time.Minute
	delivererTime = 24 * time.Hour
	maxLogSize    = 1 << 20 // bytes
)

// StartDeliverer starts "exe hook deliver --git-dir DIR --wait" and leaves it
// alone: in a session of its own, without git's variables (the quarantine is
// gone by then) and without the push's pipes, which would hold the push up. It
// logs to assay/spool/deliver.log.
func StartDeliverer(exe, gitDir string) error {
	abs, err := filepath.Abs(gitDir)
	if err != nil {
		return fmt.Errorf("cannot start the deliverer: %v", err)
	}
	log, err := openLog(filepath.Join(abs, "assay", "spool", "deliver.log"))
	if err != nil {
		return fmt.Errorf("cannot start the deliverer: %v", err)
	}
	defer log.Close()
	cmd := exec.Command(exe, "hook", "deliver", "--git-dir", abs, "--wait")
	cmd.Dir, cmd.Env = abs, withoutGit(os.Environ())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the deliverer: %v", err)
	}
	return cmd.Process.Release()
}

// openLog opens the deliverer's log, or nothing where another user of the
// repository keeps it to himself: events matter more.
func openLog(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogSize {
		_ = os.Remove(path) // a log that stays is too long, no more
	}
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o660)
	if err != nil {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	return log, nil
}

// withoutGit leaves out the variables that git gave to the hook.
func withoutGit(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "GIT_") {
			kept = append(kept, v)
		}
	}
	return kept
}

// DeliverUntilEmpty delivers again and again, after one second, two, four, up to
// a minute, until nothing is left. It gives up after a day: the next push goes
// on. Where another process does this already it returns nil at once.
func (s *Spool) DeliverUntilEmpty(ctx context.Context, post func(context.Context, Entry) error) error {
	ctx, cancel := context.WithTimeout(ctx, delivererTime)
	defer cancel()
	for {
		unlock, err := s.lock(ctx, "deliverer.lock", false)
		if errors.Is(err, errBusy) {
			return nil
		}
		if err != nil {
			return err
		}
		err = s.retry(ctx, post)
		unlock()
		if err != nil {
			return err
		}
		// An event may have come after the last look and before the lock was
		// given back: whoever brought it saw the lock and left it to us.
		if left, err := s.Left(); err != nil || left == 0 {
			return err
		}
	}
}

func (s *Spool) retry(ctx context.Context, post func(context.Context, Entry) error) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		left, err := s.Deliver(ctx, post)
		if left == 0 {
			return err
		}
		if err != nil {
			s.log(fmt.Sprintf("cannot deliver %d events: %s: tried again in %s", left, clip(err.Error()), wait))
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("cannot deliver %d events: given up, the next push goes on: %w", left, err)
		}
	}
}

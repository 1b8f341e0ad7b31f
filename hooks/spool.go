package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of a spool.
const (
	maxSpooled   = 10_000
	maxSetAside  = 100
	maxEventSize = 16 << 10 // bytes of one event as JSON
	eventVersion = 1
)

// Event is a branch that moved, as the server's source "git" reads it.
type Event struct {
	Version    int       `json:"version"`    // 1
	Delivery   string    `json:"delivery"`   // UUID: the same when it is sent again
	Repository string    `json:"repository"` // its name in the configuration, or its path
	Ref        string    `json:"ref"`        // "refs/heads/main"
	Before     string    `json:"before"`     // hexadecimal; all zeros if the branch is new
	After      string    `json:"after"`      // hexadecimal
	Time       time.Time `json:"time"`       // RFC 3339, UTC
}

// Entry is one event of a spool, ready to be sent.
type Entry struct {
	Event Event
	JSON  []byte // the body to send and sign, always the same bytes
}

// Refusal is the error of a server that will never take the entry: it is set
// aside, and the next one is tried.
type Refusal struct{ Reason string }

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

// Spool keeps events on disk until the server has taken them. Several processes
// may use one spool at the same time; one of them delivers.
type Spool struct {
	dir   string
	modes modes
	log   func(line string)
}

// NewSpool returns the spool of a repository, <gitDir>/assay/spool, which is
// made if it is missing. log, which may be nil, is told of entries set aside.
func NewSpool(gitDir string, log func(line string)) (*Spool, error) {
	if log == nil {
		log = func(string) {}
	}
	abs, err := filepath.Abs(gitDir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the repository %s: %v", gitDir, err)
	}
	m, err := modesOf(abs)
	if err != nil {
		return nil, err
	}
	s := &Spool{dir: filepath.Join(abs, "assay", "spool"), modes: m, log: log}
	for _, dir := range []string{filepath.Dir(s.dir), s.dir} {
		if err := m.mkdir(dir); err != nil {
			return nil, fmt.Errorf("cannot make the event spool: %v: make the repository writable for whoever pushes", err)
		}
	}
	return s, nil
}

var entryName = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json$`)

// Add keeps an event. When it returns nil the event survives a crash. A spool
// with 10,000 events takes no more.
func (s *Spool) Add(e Event) error {
	name := e.Delivery + ".json"
	if !entryName.MatchString(name) {
		return fmt.Errorf("cannot keep the event: its delivery %q is no UUID", clip(e.Delivery))
	}
	e.Version = eventVersion
	data, err := json.Marshal(e)
	if err != nil || len(data) > maxEventSize {
		return fmt.Errorf("cannot keep the event of %s: it is too large or cannot be written as JSON", clip(e.Ref))
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	if len(names) >= maxSpooled {
		return fmt.Errorf("cannot keep the event: %d are waiting in %s: start the server, or remove what is not wanted", len(names), s.dir)
	}
	if err := s.modes.write(filepath.Join(s.dir, name), data); err != nil {
		return fmt.Errorf("cannot keep the event: %v: make the repository writable for whoever pushes", err)
	}
	return nil
}

// Left tells how many events wait.
func (s *Spool) Left() (int, error) {
	names, err := s.names()
	return len(names), err
}

// SetAside tells how many entries the server refused, or could not be read.
func (s *Spool) SetAside() int { return len(filesIn(s.dir, "", ".bad")) }

// names lists the entries, oldest first: the UUIDs begin with the time.
func (s *Spool) names() ([]string, error) {
	dir, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the event spool: %v: make it readable for whoever pushes", err)
	}
	var names []string
	for _, e := range dir {
		if entryName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Deliver sends what is in the spool, oldest first, and removes what post took.
// It stops at the first entry that post could not send, whose error it returns;
// left is what stays. An entry that cannot be read, or that post answers with a
// *Refusal, is set aside as .bad with the reason and holds nothing up. While
// another process delivers, Deliver waits for it, or for the end of ctx.
func (s *Spool) Deliver(ctx context.Context, post func(context.Context, Entry) error) (left int, err error) {
	unlock, err := s.lock(ctx, "deliver.lock", true)
	if err == nil {
		err = s.deliver(ctx, post)
		unlock()
	}
	left, countErr := s.Left()
	if err == nil {
		err = countErr
	}
	return left, err
}

func (s *Spool) deliver(ctx context.Context, post func(context.Context, Entry) error) error {
	for {
		names, err := s.names()
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := s.deliverOne(ctx, name, post); err != nil {
				return err
			}
		}
	}
}

func (s *Spool) deliverOne(ctx context.Context, name string, post func(context.Context, Entry) error) error {
	entry, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.setAside(name, err.Error())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var refusal *Refusal
	err = post(ctx, entry)
	switch {
	case errors.As(err, &refusal):
		return s.setAside(name, refusal.Reason)
	case err != nil:
		return err
	}
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove a delivered event: %v: make the spool writable for whoever pushes", err)
	}
	return nil
}

// read decodes an entry and holds it against its own name.
func (s *Spool) read(name string) (Entry, error) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	data, err := readBounded(f, maxEventSize)
	if err != nil {
		return Entry{}, fmt.Errorf("cannot read the entry: %v", err)
	}
	e := Entry{JSON: data}
	if err := json.Unmarshal(data, &e.Event); err != nil {
		return Entry{}, fmt.Errorf("cannot read the entry as JSON: %v", err)
	}
	if e.Event.Version != eventVersion || e.Event.Delivery+".json" != name {
		return Entry{}, fmt.Errorf("cannot read the entry: it is of version %d, for delivery %q", e.Event.Version, clip(e.Event.Delivery))
	}
	return e, nil
}

// setAside keeps an entry that cannot be delivered where a person finds it, and
// only so many of them.
func (s *Spool) setAside(name, reason string) error {
	bad := filepath.Join(s.dir, strings.TrimSuffix(name, ".json")+".bad")
	s.log(fmt.Sprintf("cannot deliver the event %s: %s: it is kept as %s", name, clip(reason), bad))
	if err := s.modes.write(strings.TrimSuffix(bad, ".bad")+".reason", []byte(clip(reason)+"\n")); err != nil {
		return fmt.Errorf("cannot set an event aside: %v", err)
	}
	if err := os.Rename(filepath.Join(s.dir, name), bad); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot set an event aside: %v", err)
	}
	all := filesIn(s.dir, "", ".bad")
	for _, old := range all[:max(0, len(all)-maxSetAside)] {
		_ = os.Remove(old) // tried again the next time
		_ = os.Remove(strings.TrimSuffix(old, ".bad") + ".reason")
	}
	return nil
}

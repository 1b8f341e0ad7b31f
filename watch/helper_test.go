package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/rs/zerolog"
)

// desk is the store: it keeps events once, and short texts.
type desk struct {
	mu     sync.Mutex
	events []assay.Event
	texts  map[string]string
	writes int   // calls of Remember
	broken error // what AddEvent and Remember answer
	dies   int   // Remember fails so often, as if the process had been killed before
}

func newDesk() *desk { return &desk{texts: map[string]string{}} }

func (d *desk) AddEvent(_ context.Context, e assay.Event, _ http.Header, _ []byte) (string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return "", false, d.broken
	}
	for i, old := range d.events {
		if old.Source == e.Source && (old.Delivery == e.Delivery || e.Meaning != "" && old.Meaning == e.Meaning) {
			return fmt.Sprint(i), false, nil
		}
	}
	d.events = append(d.events, e)
	return fmt.Sprint(len(d.events) - 1), true, nil
}

func (d *desk) HasDelivery(_ context.Context, source, delivery string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Source == source && e.Delivery == delivery {
			return true, d.broken
		}
	}
	return false, d.broken
}

func (d *desk) NewestPush(_ context.Context, source, repo, ref string) (commit string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Source == source && e.Repo == repo && e.Ref == ref {
			commit = e.Commit
		}
	}
	return commit, nil
}

func (d *desk) Memory(_ context.Context, name string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.texts[name], nil
}

func (d *desk) Remember(_ context.Context, name, value string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dies > 0 {
		d.dies--
		return errors.New("killed")
	}
	d.writes++
	d.texts[name] = value
	return d.broken
}

// pushes lists what was pushed, "ref before..after" with short commits.
func (d *desk) pushes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for _, e := range d.events {
		list = append(list, fmt.Sprintf("%s %.4s..%.4s", strings.TrimPrefix(e.Ref, "refs/heads/"), e.Before, e.Commit))
	}
	return list
}

// remote is a repository that says where its branches are.
type remote struct {
	mu    sync.Mutex
	heads map[string]string
	err   error
	looks int
	look  func() // in a look
}

func (r *remote) Heads(context.Context, string) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	if r.look != nil {
		r.look()
	}
	return maps.Clone(r.heads), r.err
}

func (r *remote) set(branch, commit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heads == nil {
		r.heads = map[string]string{}
	}
	if commit == "" {
		delete(r.heads, "refs/heads/"+branch)
		return
	}
	r.heads["refs/heads/"+branch] = commit
}

func (r *remote) counted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks
}

// hash is a commit that begins with the text.
func hash(text string) string { return (text + strings.Repeat("0", 40))[:39] + "1" }

func options(d *desk, r Repositories) Options {
	return Options{Repositories: r, Memory: d, Inbox: d, Events: d, Log: zerolog.Nop()}.withDefaults()
}

func newPoll(d *desk, r Repositories, t Target) *poll {
	if t.Address == "" {
		t.Address = "/srv/git/hello.git"
	}
	return &poll{Options: options(d, r), target: t.withDefaults()}
}

func look(t *testing.T, p *poll) {
	t.Helper()
	if _, err := p.look(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantPushes(t *testing.T, d *desk, want ...string) {
	t.Helper()
	if got := strings.Join(d.pushes(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the inbox has\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want %q in it", err, word)
		}
	}
}

// gitRemote asks real repositories.
type gitRemote struct{ t *testing.T }

func (g gitRemote) Heads(_ context.Context, address string) (map[string]string, error) {
	heads := map[string]string{}
	for line := range strings.Lines(git(g.t, ".", "ls-remote", "--heads", address)) {
		commit, ref, _ := strings.Cut(strings.TrimSpace(line), "\t")
		heads[ref] = commit
	}
	return heads, nil
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "init.defaultBranch=main", "-c", "user.name=A", "-c", "user.email=a@example.org"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func newRepo(t *testing.T) (src, bare string) {
	src, bare = t.TempDir(), filepath.Join(t.TempDir(), "bare.git")
	git(t, src, "init", "-q")
	git(t, src, "init", "-q", "--bare", bare)
	return src, bare
}

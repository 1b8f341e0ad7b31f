package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/assay-ci/assay/runner"
	"github.com/assay-ci/assay/runner/pool"
	"github.com/assay-ci/assay/runner/template"
)

// poolMakers is how many forks are made at a time only to wait: a part of a
// fork's time is libvirt's, another the guest's.
const poolMakers = 2

// waitingName labels machines that wait for an execution.
const waitingName = "waiting"

// waitingShare is what a waiting fork is reckoned to take, as a part of its
// guest's memory: its private pages and QEMU's own.
const waitingShare = 5

// keys remembers the template of each key that machines wait for.
type keys struct {
	mu sync.Mutex
	of map[string]template.Template
}

func (k *keys) set(t template.Template) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil {
		k.of = map[string]template.Template{}
	}
	old, ok := k.of[t.Key]
	if ok && !t.Built.After(old.Built) {
		return false // whoever says this found it before it was made anew
	}
	k.of[t.Key] = t
	return ok
}

func (k *keys) get(key string) (template.Template, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.of[key]
	return t, ok
}

// newPool makes the pool of waiting forks; nil where none are to wait.
func (m *Machines) newPool() *pool.Pool[*Machine] {
	if m.options.Waiting <= 0 || m.options.Templates == TemplatesOff {
		return nil
	}
	return pool.New(pool.Options[*Machine]{
		Make: m.makeWaiting, Makers: poolMakers, Most: m.options.Waiting, Budget: m.options.WaitingMemory,
		Cost: func(key string) int64 {
			t, _ := m.keys.get(key)
			return t.Recipe.Memory / waitingShare
		},
		Failed: func(err error) { m.log.Warn().Err(err).Msg("cannot keep a machine waiting") },
	})
}

// waitingFor lets machines of a template wait, in the place of an older one's.
func (m *Machines) waitingFor(t template.Template) {
	changed := m.keys.set(t)
	if m.pool == nil {
		return
	}
	if changed {
		m.drop(t.Key)
	}
	m.pool.Offer(t.Key)
}

// replaced gives back what waits for an older template of the same key, and
// makes room.
func (m *Machines) replaced(t template.Template) {
	m.waitingFor(t)
	m.prune(t.Key)
}

// Prune removes templates that nothing will be forked from: damaged ones, older
// generations, and those that there is no room for.
func (m *Machines) Prune() { m.prune("") }

// prune removes templates that nothing will be forked from.
func (m *Machines) prune(keep string) {
	evicted, err := m.keeper.Store.Prune(keep)
	for _, key := range evicted {
		m.log.Info().Str("template", key).Msg("removed the template that was not used for longest: the others need the room")
	}
	if err != nil {
		m.log.Warn().Err(err).Msg("cannot tidy up the templates")
	}
}

func (m *Machines) drop(key string) {
	if err := m.pool.Drop(key); err != nil {
		m.log.Warn().Err(err).Msg("cannot destroy machines that waited")
	}
}

// leastFree is what the host must have left for a machine to be made only to wait.
const leastFree = 512 << 20

// makeWaiting makes a fork and pauses it, with its connection open and its first
// command run.
func (m *Machines) makeWaiting(ctx context.Context, key string) (*Machine, error) {
	t, err := m.keeper.Store.Find(key) // which also makes sure that it is whole
	if err != nil {
		return nil, fmt.Errorf("cannot keep a machine waiting: %w", err)
	}
	if free, err := availableMemory(); err == nil && free < leastFree+t.Recipe.Memory {
		return nil, fmt.Errorf("cannot keep a machine waiting: the host has only %d MiB of memory left", free>>20)
	}
	one, err := m.fork(ctx, t, waitingName)
	if err != nil {
		return nil, err
	}
	if err := one.hold(ctx); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return one, nil
}

// hold makes the machine ready and pauses it. The command is the first that its
// emulator translates: the check's first one finds that done. Meanwhile the agent
// tidies up after it, and introduce comes after that.
func (one *Machine) hold(ctx context.Context) error {
	if _, err := one.Run(ctx, runner.Command{Argv: []string{"/bin/sh", "-c", "exit 0"}, Dir: "/"}); err != nil {
		return err
	}
	if err := one.introduce(ctx); err != nil {
		return err
	}
	one.guest.Sleep()
	err := one.conn.do(ctx, func(l *lv.Libvirt) error { return l.DomainSuspend(one.monitor().domain) })
	if err != nil {
		return fmt.Errorf("cannot pause a machine: %w", err)
	}
	return nil
}

// resumeWait is how long a paused machine may take to run on.
const resumeWait = 5 * time.Second

// takeWaiting takes a machine that waits and lets it run on; nil if there is none.
func (m *Machines) takeWaiting(ctx context.Context, key string) *Machine {
	if m.pool == nil {
		return nil
	}
	one, ok := m.pool.Take(key)
	for ok {
		// One whose execution is cancelled just now is as good as before, and none
		// may hold up the others.
		timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeWait)
		err := one.conn.do(timed, func(l *lv.Libvirt) error { return l.DomainResume(one.monitor().domain) })
		cancel()
		if err == nil {
			one.guest.Wake()
			return one
		}
		m.log.Warn().Err(err).Msg("a machine that waited is gone")
		_ = one.Close() // it logs what it cannot do
		one, ok = m.pool.Again(key)
	}
	return nil
}

// availableMemory is what the host could give to new processes, in bytes
// (proc(5), /proc/meminfo, MemAvailable).
func availableMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell")
}

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/assay-ci/assay/internal/filelock"
	"github.com/assay-ci/assay/runner/attach"
)

// Reaped is one thing that a reaper destroyed or removed.
type Reaped struct {
	Kind      string `json:"kind"` // "domain" or "directory"
	Name      string `json:"name"` // the domain's name, the directory's path
	Owner     string `json:"owner"`
	Execution string `json:"execution"` // "" if none
}

// estate is what one owner has, in libvirt and on disk.
type estate struct {
	owner   string
	lock    string // path of the owner's lock
	domains []found
	dirs    []labelledDir
	roots   []string // the owner's own directories
}

// found is a domain of ours.
type found struct {
	label
	dom   lv.Domain
	state string
}

// labelledDir is a machine's directory.
type labelledDir struct {
	label
	path string
}

// Reap destroys the domains and removes the directories whose owner is dead, and
// those of this process that no machine in use has. It looks at what libvirt
// and the disk really hold; what bears no label of ours is never touched, nor
// what a living owner has. An error names what could not be cleaned up; the
// rest is.
func (m *Machines) Reap(ctx context.Context) ([]Reaped, error) {
	c, err := m.daemon.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot look for machines that were left: %w", err)
	}
	defer c.close()
	before := m.alive() // one that ends while we look is no stray
	domains, err := labelledDomains(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("cannot look for machines that were left: %w", err)
	}
	estates, failed := m.estates(domains)
	var reaped []Reaped
	for _, e := range estates {
		got, err := m.settleEstate(ctx, c, e, before)
		reaped = append(reaped, got...)
		failed = errors.Join(failed, err)
	}
	m.stats.reaped.Add(int64(len(reaped)))
	return reaped, failed
}

// alive are the machines that are in use.
func (m *Machines) alive() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := map[string]bool{}
	for id := range m.live {
		ids[id] = true
	}
	return ids
}

// settleEstate clears one owner's estate if the owner is dead.
func (m *Machines) settleEstate(ctx context.Context, c *conn, e *estate, before map[string]bool) ([]Reaped, error) {
	if e.owner == m.owner.id {
		e.keep(func(id string) bool { return before[id] || m.lives(id) })
		return e.clear(ctx, c)
	}
	unlock, err := filelock.Wait(ctx, filepath.Join(m.options.RunDir, ".reap"), nil)
	if err != nil {
		return nil, err
	}
	release, dead, err := seize(e.lock)
	unlock()
	if err != nil || !dead {
		return nil, err
	}
	defer release()
	reaped, err := e.clear(ctx, c)
	if err != nil {
		return reaped, err
	}
	for _, root := range e.roots {
		if err := removeRoot(root); err != nil {
			return reaped, fmt.Errorf("cannot clean up after a dead process: %w", err)
		}
		reaped = append(reaped, Reaped{Kind: "directory", Name: root, Owner: e.owner})
	}
	return reaped, nil
}

// keep takes out of the estate the machines that are in use.
func (e *estate) keep(lives func(id string) bool) {
	e.roots = nil
	var domains []found
	for _, d := range e.domains {
		if !lives(filepath.Base(d.Dir)) {
			domains = append(domains, d)
		}
	}
	var dirs []labelledDir
	for _, d := range e.dirs {
		if !lives(filepath.Base(d.path)) {
			dirs = append(dirs, d)
		}
	}
	e.domains, e.dirs = domains, dirs
}

// clear destroys the domains, then removes the directories they used.
func (e *estate) clear(ctx context.Context, c *conn) ([]Reaped, error) {
	var reaped []Reaped
	var failed error
	stuck := map[string]bool{} // machines that still have their files open
	for _, d := range e.domains {
		if err := destroyDomain(ctx, c, d.dom.UUID); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot destroy the virtual machine %s: %w", d.dom.Name, err))
			stuck[filepath.Base(d.Dir)] = true
			continue
		}
		reaped = append(reaped, Reaped{"domain", d.dom.Name, d.Owner, d.Execution})
	}
	for _, d := range e.dirs {
		if stuck[filepath.Base(d.path)] {
			continue
		}
		if err := removeLabelled(d.path); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot remove what a virtual machine left: %w", err))
			continue
		}
		reaped = append(reaped, Reaped{"directory", d.path, d.Owner, d.Execution})
	}
	return reaped, failed
}

// estates sorts what there is by owner.
func (m *Machines) estates(domains []found) ([]*estate, error) {
	all := map[string]*estate{}
	of := func(l label) *estate {
		if all[l.Owner] == nil {
			all[l.Owner] = &estate{owner: l.Owner, lock: l.lockPath()}
		}
		return all[l.Owner]
	}
	for _, d := range domains {
		e := of(d.label)
		e.domains = append(e.domains, d)
	}
	var failed error
	for _, top := range []string{m.options.Dir, m.options.RunDir} {
		failed = errors.Join(failed, eachOwn(top, "o-", func(root string) error {
			l := m.ownerLabel(top, root)
			if !l.valid() {
				return nil
			}
			e := of(l)
			e.roots = append(e.roots, root)
			return eachOwn(root, "m-", func(dir string) error {
				if one, err := machineLabel(dir, l); err == nil {
					e.dirs = append(e.dirs, labelledDir{one, dir})
				}
				return nil
			})
		}))
	}
	return sorted(all), failed
}

func sorted(all map[string]*estate) []*estate {
	list := make([]*estate, 0, len(all))
	for _, e := range all {
		list = append(list, e)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].owner < list[j].owner })
	return list
}

// ownerLabel is the label of an owner's directory. One below the run directory
// is known by its lock. One below the overlay directory without a label is only
// ours if it is empty: its owner was killed before the label was written.
func (m *Machines) ownerLabel(top, root string) label {
	beside := label{Owner: filepath.Base(root), Dir: filepath.Join(m.options.RunDir, filepath.Base(root))}
	if top == m.options.RunDir {
		return beside
	}
	if l, err := readLabel(root); err == nil && l.Owner == beside.Owner {
		return l
	}
	if empty(root) {
		return beside
	}
	return label{}
}

// machineLabel is the label of a machine's directory; one without, because its
// owner was killed or the power went before the label was on the disk, goes by
// its owner's, if all that is in it can be a machine's.
func machineLabel(dir string, owner label) (label, error) {
	l, err := readLabel(dir)
	if err == nil && l.Owner != owner.Owner {
		return label{}, errNotOurs
	}
	if err != nil && onlyOurs(dir) {
		return label{Owner: owner.Owner, Dir: filepath.Join(owner.Dir, filepath.Base(dir))}, nil
	}
	return l, err
}

// onlyOurs tells whether a directory has nothing in it but what machines have.
func onlyOurs(dir string) bool {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".part")
		name, _, _ = strings.Cut(name, ".log.") // consoles that were moved aside
		switch name {
		case labelName, diskName, consoleName, "console", socketName, stateDir, networkSocket, attach.SocketName, seedISO, seedIgnition, stageDir:
		default:
			return false
		}
	}
	return err == nil
}

// empty tells whether a directory has nothing in it but a label half written.
func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && (len(entries) == 0 || len(entries) == 1 && entries[0].Name() == labelName+".part")
}

// eachOwn calls do for the directories below top that we may have made.
func eachOwn(top, prefix string, do func(path string) error) error {
	entries, err := os.ReadDir(top)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for machines that were left: %w", err)
	}
	var failed error
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), prefix) && ownName.MatchString(entry.Name()) {
			failed = errors.Join(failed, do(filepath.Join(top, entry.Name())))
		}
	}
	return failed
}

// labelledDomains lists libvirt's domains that bear a label of ours.
func labelledDomains(ctx context.Context, c *conn) ([]found, error) {
	var list []found
	err := c.do(ctx, func(l *lv.Libvirt) error {
		domains, _, err := l.ConnectListAllDomains(1, lv.ConnectListDomainsActive|lv.ConnectListDomainsInactive)
		if err != nil {
			return err
		}
		for _, dom := range domains {
			text, err := l.DomainGetXMLDesc(dom, 0)
			if isCode(err, lv.ErrNoDomain) {
				continue // it ended meanwhile
			}
			if err != nil {
				return err
			}
			label, err := parseLabel(text)
			if err != nil {
				continue // not ours
			}
			state, _, err := l.DomainGetState(dom, 0)
			if err != nil && !isCode(err, lv.ErrNoDomain) {
				return err
			}
			list = append(list, found{label, dom, stateWord(lv.DomainState(state))})
		}
		return nil
	})
	return list, err
}

func stateWord(s lv.DomainState) string {
	switch s {
	case lv.DomainRunning, lv.DomainBlocked:
		return "running"
	case lv.DomainPaused:
		return "paused"
	case lv.DomainCrashed:
		return "crashed"
	}
	return "ending"
}

// Listed is one machine as libvirt has it.
type Listed struct {
	Name      string `json:"name"`
	UUID      string `json:"uuid"`
	Execution string `json:"execution"` // "" for a proof of KVM
	Owner     string `json:"owner"`
	Ours      bool   `json:"ours"`  // this process is its owner
	State     string `json:"state"` // "running", "paused", "crashed", "ending"
	Dir       string `json:"dir"`   // its run directory
}

// List lists the machines that libvirt has, of all owners, by name.
func (m *Machines) List(ctx context.Context) ([]Listed, error) {
	c, err := m.daemon.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list machines: %w", err)
	}
	defer c.close()
	domains, err := labelledDomains(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("cannot list machines: %w", err)
	}
	list := make([]Listed, 0, len(domains))
	for _, d := range domains {
		list = append(list, Listed{
			Name: d.dom.Name, UUID: uuid.UUID(d.dom.UUID).String(), Execution: d.Execution,
			Owner: d.Owner, Ours: d.Owner == m.owner.id, State: d.state, Dir: d.Dir,
		})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

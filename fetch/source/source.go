// Package source downloads on the host what the steps of formulas ask for: it is
// the runner's Fetcher. What is asked where is in docs/downloads.md.
package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/bodhi"
	"github.com/assay-ci/assay/fetch/koji"
	"github.com/assay-ci/assay/fetch/yumrepo"
)

// Source downloads. It may be used by many executions at the same time: what they
// share is the number of downloads under way. Make one with New.
type Source struct {
	config Config
	slots  chan struct{}
}

// Config says where everything is. An address of "" refuses what needs it.
type Config struct {
	Web      *fetch.Web   // its Allowed are set from the addresses here
	Cache    *fetch.Cache // nil keeps nothing
	Scratch  string       // directory for what is not kept; "" for the system's
	KojiHub  string
	Packages string         // Koji's package server: below it NAME/VERSION/RELEASE
	Bodhi    string         // below it updates/ID
	DistGit  []string       // the first is the default; a formula may name another one
	Builds   fetch.Prefixes // where else a formula's dist-git may be
	Repos    *yumrepo.Info
	Bytes    int64 // of all files of one step; 0 for DefaultBytes
}

// DefaultBytes bounds what one step downloads.
const DefaultBytes = 4 << 30

// Bounds of one step.
const (
	atOnce   = 4      // downloads under way, of all executions together
	maxFiles = 10_000 // of one step
)

// New makes a Source.
func New(c Config) *Source {
	if c.Bytes <= 0 {
		c.Bytes = DefaultBytes
	}
	web := *c.Web
	web.Allowed = nil
	for _, address := range []string{c.KojiHub, c.Packages, c.Bodhi} {
		if address != "" {
			web.Allowed = append(web.Allowed, address)
		}
	}
	c.Web = &web
	return &Source{config: c, slots: make(chan struct{}, atOnce)}
}

// Fetch is runner.Fetcher's. The value is what COMPAT.md 1.1 says of the
// directive: downloaded_rpms, downloaded_logs and log_errors, downloaded_files,
// or repositories by name and architecture. After an error none of its files is in
// dir, whichever of them were downloaded before it.
func (s *Source) Fetch(ctx context.Context, f assay.Fetch, dir string, say func(line string)) (any, error) {
	j := &job{Source: s, fetch: f, tell: &fetch.Teller{Say: say}}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot download into %s: %w", dir, err)
	}
	defer root.Close()
	j.dir = root
	cache, done, err := s.config.Cache.Use(s.config.Scratch)
	if err != nil {
		return nil, err
	}
	j.cache = cache
	value, err := j.run(ctx)
	if err != nil {
		j.undo()
	}
	if err := done(); err != nil {
		j.tell.Line("%v", err) // which is no trouble of the step's
	}
	return value, err
}

// job is one step's downloads.
type job struct {
	*Source
	fetch assay.Fetch
	dir   *os.Root
	cache *fetch.Cache
	tell  *fetch.Teller
	taken atomic.Int64 // bytes so far

	mu     sync.Mutex // held for placed
	placed []string   // names of the files that may be in dir
}

func (j *job) run(ctx context.Context) (any, error) {
	switch f := j.fetch; {
	case f.Koji != nil:
		return j.koji(ctx, *f.Koji)
	case f.Bodhi != nil:
		return j.bodhi(ctx, *f.Bodhi)
	case f.DistGit != nil:
		return j.distgit(ctx, *f.DistGit)
	case f.YumRepos != nil:
		return j.yumRepos(*f.YumRepos)
	}
	return nil, fetch.Refuse("cannot download nothing")
}

func (j *job) yumRepos(f assay.YumReposFetch) (any, error) {
	if j.config.Repos == nil {
		return nil, notConfigured("yumrepoinfo")
	}
	return j.config.Repos.Repos(f.Tag, f.Arches)
}

// notConfigured refuses what the operator has said no address of.
func notConfigured(key string) error {
	return fetch.Refuse("cannot download this here: nobody has said from where: set fetch.%s in the configuration", key)
}

func (j *job) hub() (*koji.Hub, error) {
	switch {
	case j.config.KojiHub == "":
		return nil, notConfigured("koji_url")
	case j.config.Packages == "":
		return nil, notConfigured("pkg_url")
	}
	return &koji.Hub{Web: j.config.Web, URL: j.config.KojiHub}, nil
}

func (j *job) server() (*bodhi.Server, error) {
	if j.config.Bodhi == "" {
		return nil, notConfigured("bodhi_url")
	}
	return &bodhi.Server{Web: j.config.Web, URL: j.config.Bodhi}, nil
}

// file is one download and where it goes.
type file struct {
	want fetch.Want
	name string // below the step's directory, with slashes
	// missing tells that the step goes on without it.
	missing bool
}

// get downloads files and returns the names of those that are there, in the order
// of files. The first error ends the others. web is asked.
func (j *job) get(ctx context.Context, web *fetch.Web, files []file) ([]string, error) {
	if err := j.bounds(files); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	there := make([]bool, len(files))
	var wait sync.WaitGroup
	var first sync.Once
	var failed error
	for i, f := range files {
		if !j.slot(ctx) {
			break
		}
		wait.Go(func() {
			defer func() { <-j.slots }()
			err := j.one(ctx, web, f)
			there[i] = err == nil
			if err != nil && !(f.missing && errors.Is(err, fetch.ErrMissing)) {
				first.Do(func() { failed = err; cancel(err) })
			}
		})
	}
	wait.Wait()
	if failed == nil {
		failed = context.Cause(ctx)
	}
	if failed != nil {
		return nil, failed
	}
	var names []string
	for i, f := range files {
		if there[i] {
			names = append(names, f.name)
		}
	}
	return names, nil
}

// slot waits for a place among the downloads; false when ctx ends first.
func (j *job) slot(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case j.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// bounds refuses what is too much, before anything is downloaded.
func (j *job) bounds(files []file) error {
	seen := make(map[string]bool, len(files))
	sum := int64(0)
	for _, f := range files {
		if seen[f.name] {
			return fetch.Refuse("cannot download two files as %q", f.name)
		}
		seen[f.name] = true
		if sum += max(f.want.Size, f.want.About); sum < 0 || sum > j.config.Bytes {
			return j.tooMuch()
		}
	}
	if len(files) > maxFiles {
		return fetch.Refuse("cannot download %d files in one step: %d are allowed", len(files), maxFiles)
	}
	return nil
}

func (j *job) tooMuch() error {
	return fetch.Refuse("cannot download so much in one step: %d MiB are allowed: let the operator raise fetch.limit", j.config.Bytes>>20)
}

func (j *job) one(ctx context.Context, web *fetch.Web, f file) error {
	f.want.Max = j.config.Bytes - j.taken.Load()
	if f.want.Max <= 0 {
		return j.tooMuch()
	}
	j.mu.Lock()
	j.placed = append(j.placed, f.name) // before: half of it may be there when it fails
	j.mu.Unlock()
	n, err := j.cache.Have(ctx, web, f.want, j.dir, f.name, j.tell)
	if err == nil && j.taken.Add(n) > j.config.Bytes {
		err = j.tooMuch()
	}
	return err
}

// undo removes the files of a step that failed. Its downloads have ended.
func (j *job) undo() {
	for _, name := range j.placed {
		if err := j.dir.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			j.tell.Line("cannot remove %q, which the step leaves: %v", name, err)
		}
	}
}

// paths are files as the machine will see them, sorted.
func (j *job) paths(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = path.Join(j.fetch.Dir, name)
	}
	slices.Sort(list)
	return list
}

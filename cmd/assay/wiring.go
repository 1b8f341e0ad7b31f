package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/bus"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/dispatch"
	"github.com/assay-ci/assay/forge"
	"github.com/assay-ci/assay/repo"
	"github.com/assay-ci/assay/results"
)

// The adaptors here let rooms that do not know each other meet.

// repos is a repo.Cache as dispatch wants it.
type repos struct{ *repo.Cache }

func (r repos) Resolve(ctx context.Context, address string, branches []string) (branch, commit string, err error) {
	rev, err := r.Cache.Resolve(ctx, address, branches)
	return rev.Branch, rev.Commit, err
}

func (r repos) FetchCommit(ctx context.Context, address, commit, ref string) error {
	if ref == "" {
		return r.Cache.FetchCommit(ctx, address, commit)
	}
	return r.Cache.FetchCommit(ctx, address, commit, ref)
}

// readChecks is every formula of a tree as dispatch wants it. A tree beyond
// bounds is one check that cannot be run, so that its commit says why.
func readChecks(tree fs.FS) ([]dispatch.Check, error) {
	all, err := checks.LoadEach(tree)
	var mistakes checks.Mistakes
	if errors.As(err, &mistakes) {
		return []dispatch.Check{{Path: ".", Dir: ".", Name: "checks", Err: err}}, nil
	}
	if err != nil {
		return nil, err
	}
	var list []dispatch.Check
	for _, l := range all {
		c := dispatch.Check{Path: l.Path, Dir: checks.RootOf(l.Path), Name: l.Path, Err: l.Err}
		if f := l.Formula; f != nil {
			c.Name, c.Wants, c.Optional = f.Checkname(), f.Wants, f.Optional
			c.WantsEvent, c.ByPaths = f.WantsEvent, len(f.On.Paths) > 0
			c.Needs, c.Retries = f.Needs, f.Retries
			for _, v := range f.Matrix {
				c.Variants = append(c.Variants, dispatch.Variant{Name: v.Name, Arch: v.Arch})
			}
		}
		list = append(list, c)
	}
	return list, nil
}

// queue is a bus.Bus as dispatch wants it.
type queue struct{ *bus.Bus }

func (q queue) Publish(ctx context.Context, e assay.Execution) error {
	return q.Bus.Publish(ctx, bus.Job{Execution: e.ID, Generation: e.Attempt, Arch: e.Arch})
}

func (q queue) Next(ctx context.Context) (dispatch.Lease, error) {
	l, err := q.Bus.Next(ctx)
	if err != nil {
		return nil, err
	}
	return lease{l}, nil
}

type lease struct{ *bus.Lease }

func (l lease) Execution() string { return l.Lease.Job.Execution }
func (l lease) Redelivered() bool { return l.Lease.Redelivered }

// refused tells a forge's last word from a failure to try again.
func refused(err error) (forGood bool, after time.Duration) {
	var permanent *forge.PermanentError
	var retry *forge.RetryError
	switch {
	case errors.As(err, &permanent):
		return true, 0
	case errors.As(err, &retry):
		return false, retry.After
	}
	return false, 0
}

// pageFiles is results.Files as web wants it.
type pageFiles struct {
	*results.Files
	store *results.Store
}

func (f pageFiles) OpenConsole(id string) (*os.File, error) {
	attempts, err := f.Attempts(id)
	if err != nil || len(attempts) == 0 {
		return nil, errors.Join(assay.ErrNotFound, err)
	}
	return f.Files.OpenConsole(id, attempts[len(attempts)-1])
}

package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// maxNote bounds what an event's note says of checks that do not want it.
const maxNote = 900

// wanted are the checks that run for an event on an item, and why others that
// look at such items do not. A formula that cannot be read always runs: to say so.
func (p *Planner) wanted(ctx context.Context, e assay.Event, pkg assay.Package, it item, checks []Check) (list []Check, refused []string) {
	var changed []string
	if slices.ContainsFunc(checks, func(c Check) bool { return c.Err == nil && c.ByPaths && c.Wants(it.typ) }) {
		changed = p.changed(ctx, e, pkg)
	}
	for _, c := range checks {
		if c.Err != nil {
			list = append(list, c)
			continue
		}
		ok, why := c.WantsEvent(e.Kind, it.typ, eventBranch(e), changed)
		if ok {
			list = append(list, c)
		} else if c.Wants(it.typ) {
			refused = append(refused, c.Name+": "+why)
		}
	}
	list, more := withoutLonely(list)
	return list, append(refused, more...)
}

// withoutLonely takes out what needs a check that is not among them.
func withoutLonely(list []Check) (rest []Check, refused []string) {
	for before := -1; before != len(list); {
		before = len(list)
		there := map[string]bool{}
		for _, c := range list {
			there[c.Name] = c.Err == nil || there[c.Name]
		}
		list = slices.DeleteFunc(slices.Clone(list), func(c Check) bool {
			i := slices.IndexFunc(c.Needs, func(name string) bool { return !there[name] })
			if c.Err != nil || i < 0 {
				return false
			}
			refused = append(refused, fmt.Sprintf("%s: needs %s, which is not run for this", c.Name, c.Needs[i]))
			return true
		})
	}
	return list, refused
}

// eventBranch is the branch that an event is about: the one that a build was made
// from, a push moved, or a pull request is to be merged into; "" for none.
func eventBranch(e assay.Event) string {
	if e.Build != nil {
		if names := branches(e, assay.Package{}); len(names) > 0 {
			return names[0]
		}
		return ""
	}
	return strings.TrimPrefix(e.Ref, "refs/heads/")
}

// changed lists the files that an event changed in the package's repository; nil
// if that is not known. A pull request's are those that differ from where its
// base branch was.
func (p *Planner) changed(ctx context.Context, e assay.Event, pkg assay.Package) []string {
	if e.Kind != assay.EventPush && e.Kind != assay.EventPullRequest || pkg.Source == "" || strings.Trim(e.Before, "0") == "" {
		return nil
	}
	ref := e.Ref
	if e.Kind == assay.EventPullRequest {
		ref = PullRef(e.PullRequest)
	}
	err := p.Repos.FetchCommit(ctx, pkg.Source, e.Commit, ref)
	if err == nil {
		paths, diffErr := p.Repos.ChangedPaths(ctx, pkg.Source, e.Before, e.Commit)
		if diffErr == nil {
			return append([]string{}, paths...)
		}
		err = diffErr
	}
	p.Log.Warn().Err(err).Str("event", e.ID).Msg("nobody knows what the event changed: checks that ask run")
	return nil
}

// vouched tells whether an event's executions may be given secrets: who called for
// them may write to the repository.
func vouched(e assay.Event) bool {
	switch e.Kind {
	case assay.EventPush, assay.EventBuild:
		return true
	case assay.EventPullRequest:
		return e.Trusted
	}
	return false
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/dispatch"
)

// givesNeed tells whether --needs has what a check left.
func (o runOptions) givesNeed(check string) bool {
	if o.needs == "" {
		return false
	}
	info, err := os.Stat(filepath.Join(o.needs, check))
	return err == nil && info.IsDir()
}

// withNeeded are the formulas that were chosen, in their order among all, and those
// that they need and --needs does not give.
func (o runOptions) withNeeded(all, chosen []target) []target {
	in := map[string]bool{}
	var add func(t target)
	add = func(t target) {
		if in[t.formula.Checkname()] {
			return
		}
		in[t.formula.Checkname()] = true
		for _, other := range all {
			if name := other.formula.Checkname(); slices.Contains(t.formula.Needs, name) && !o.givesNeed(name) {
				add(other)
			}
		}
	}
	for _, t := range chosen {
		add(t)
	}
	return slices.DeleteFunc(slices.Clone(all), func(t target) bool { return !in[t.formula.Checkname()] })
}

// orderErrands tells each errand, of these formulas, which of the others it needs,
// by the server's rule, and puts it behind them.
func orderErrands(errands []errand, formulas []target, o runOptions) ([]errand, error) {
	list := make([]assay.Execution, len(errands))
	var described []dispatch.Check
	for i := range errands {
		it := &errands[i]
		it.id = strconv.Itoa(i)
		list[i] = it.execution(o)
		c := dispatch.Check{Name: it.formula.Checkname()}
		for _, name := range it.formula.Needs {
			if !o.givesNeed(name) {
				c.Needs = append(c.Needs, name)
			}
		}
		described = append(described, c)
	}
	dispatch.Link(list, described)
	for i, c := range described {
		errands[i].needs = list[i].Needs
		for _, name := range c.Needs {
			if !slices.ContainsFunc(list[i].Needs, func(n assay.Need) bool { return n.Check == name }) {
				return nil, o.lacksNeed(c.Name, name, formulas)
			}
		}
	}
	return sortErrands(errands)
}

func (o runOptions) lacksNeed(check, need string, formulas []target) error {
	if slices.ContainsFunc(formulas, func(t target) bool { return t.formula.Checkname() == need }) {
		return fmt.Errorf("cannot run %s: it needs %s, which does not want a %s: give what %s left in DIR/%s with --needs DIR", check, need, o.typ, need, need)
	}
	return fmt.Errorf("cannot run %s: it needs %s, which is not run: run the directory that has both, with --check %s, or give what %s left in DIR/%s with --needs DIR",
		check, need, check, need, need)
}

// sortErrands puts each errand behind those that it needs, and leaves the order as
// it is otherwise.
func sortErrands(errands []errand) ([]errand, error) {
	var sorted []errand
	done := map[string]bool{}
	ready := func(it errand) bool {
		return !slices.ContainsFunc(it.needs, func(n assay.Need) bool { return !done[n.Execution] })
	}
	for len(errands) > 0 {
		i := slices.IndexFunc(errands, ready)
		if i < 0 {
			return nil, fmt.Errorf("cannot run %s: each needs another one of them: delete one of their needs", titles(errands))
		}
		done[errands[i].id] = true
		sorted = append(sorted, errands[i])
		errands = slices.Delete(slices.Clone(errands), i, i+1)
	}
	return sorted, nil
}

// execution is the errand as dispatch knows it.
func (it errand) execution(o runOptions) assay.Execution {
	return assay.Execution{
		ID: it.id, Check: it.formula.Checkname(), Variant: it.variant.Name, Optional: it.formula.Optional,
		Arch: cmp.Or(it.variant.Arch, o.arch),
	}
}

// ended is an errand that has ended, for those that need it.
type ended struct {
	execution assay.Execution
	artifacts string
}

// remember keeps what others may need of an attempt.
func (s *session) remember(a *attempt) {
	x := a.errand.execution(s.options)
	x.State, x.Verdict = assay.StateFinished, a.conclusion.Verdict
	if a.unmet {
		x.NeedsState = assay.NeedsUnmet
	}
	if s.ended == nil {
		s.ended = map[string]ended{}
	}
	s.ended[a.id] = ended{x, a.artifacts}
}

// unmet is what becomes of an errand whose needs have not passed; see
// dispatch.Unmet.
func (s *session) unmet(it errand) (c assay.Conclusion, met, idle bool) {
	var needed []assay.Execution
	for _, n := range it.needs {
		needed = append(needed, s.ended[n.Execution].execution)
	}
	return dispatch.Unmet(it.execution(s.options), needed, nil)
}

// skip says that an errand is not run, and why.
func (s *session) skip(it errand, c assay.Conclusion, idle bool) (assay.Conclusion, error) {
	a := s.newAttempt(it)
	a.conclusion, a.unmet = c, !idle
	if err := s.makePlaces(a); err != nil {
		return c, err
	}
	s.remember(a)
	return c, errors.Join(s.sayEnd(a), a.writeResults())
}

// bringNeeds copies what the errand's needs left into a new directory, as a server
// has it; remove removes it. A formula without needs gets none.
func (s *session) bringNeeds(it errand) (dir string, remove func() error, err error) {
	if len(it.formula.Needs) == 0 {
		return "", func() error { return nil }, nil
	}
	if dir, err = os.MkdirTemp("", "assay-needs-"); err != nil {
		return "", nil, fmt.Errorf("cannot make a directory for what the check needs: %w", err)
	}
	remove = func() error { return os.RemoveAll(dir) }
	x := it.execution(s.options)
	x.Needs = it.needs
	places, err := needPlaces(x)
	for i, place := range places {
		if err == nil {
			err = copyLeft(s.ended[x.Needs[i].Execution].artifacts, filepath.Join(dir, place))
		}
	}
	for _, name := range it.formula.Needs {
		if err == nil && s.options.givesNeed(name) {
			err = copyLeft(filepath.Join(s.options.needs, name), filepath.Join(dir, name))
		}
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("cannot bring what %s needs: %w", it.title(), err), remove())
	}
	return dir, remove, nil
}

// copyLeft copies artifacts; an execution that left none has no directory.
func copyLeft(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.CopyFS(to, os.DirFS(from))
}

// needPlaces are the directories, below one of its own, of what an execution needs,
// in the order of its needs: one of the check's name, or, where there are several
// executions of it, one of each one's label: "build", or "build/x86_64" and
// "build/aarch64".
func needPlaces(e assay.Execution) ([]string, error) {
	count := map[string]int{}
	for _, need := range e.Needs {
		count[need.Check]++
	}
	places := make([]string, len(e.Needs))
	for i, need := range e.Needs {
		name := need.Check
		if count[name] > 1 {
			name = need.Label
		}
		places[i] = filepath.FromSlash(name)
		if !filepath.IsLocal(places[i]) || strings.ContainsRune(need.Check, '/') {
			return nil, fmt.Errorf("cannot use %q, which %s needs, as a directory: %w: give the check another name", name, e.Check, errFinal)
		}
	}
	return places, nil
}

package dispatch

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
)

// withNeeded are the checks that are chosen, and all that they need.
func withNeeded(checks []Check, chosen func(Check) bool) []Check {
	byName := map[string]Check{}
	for _, c := range checks {
		if c.Err == nil {
			byName[c.Name] = c
		}
	}
	in := map[string]bool{} // by path
	var add func(c Check)
	add = func(c Check) {
		if in[c.Path] {
			return
		}
		in[c.Path] = true
		for _, name := range c.Needs {
			if needed, ok := byName[name]; ok {
				add(needed)
			}
		}
	}
	for _, c := range checks {
		if chosen(c) {
			add(c)
		}
	}
	return slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return !in[c.Path] })
}

// Link tells the executions of one event on one item which of them they need. Each
// has an ID of its own.
func Link(list []assay.Execution, checks []Check) {
	needs := map[string][]string{}
	for _, c := range checks {
		if c.Err == nil {
			needs[c.Name] = c.Needs
		}
	}
	for i := range list {
		if list[i].State == assay.StateFinished {
			continue
		}
		for _, name := range needs[list[i].Check] {
			for _, needed := range serving(list, list[i], name) {
				list[i].Needs = append(list[i].Needs, assay.Need{Check: name, Execution: needed.ID, Label: needed.Label()})
			}
		}
	}
}

// serving are the executions of a check that one needs: that of its own variant,
// else that of its own architecture, else all.
func serving(list []assay.Execution, x assay.Execution, name string) []assay.Execution {
	var all []assay.Execution
	for _, other := range list {
		if other.Check == name && other.ID != x.ID {
			all = append(all, other)
		}
	}
	for _, variant := range []string{x.Variant, ""} {
		at := slices.IndexFunc(all, func(other assay.Execution) bool { return other.Variant == variant && other.Arch == x.Arch })
		if at >= 0 {
			return all[at : at+1]
		}
	}
	return all
}

// keepNeeded takes out what is not wanted, nor needed by what is.
func keepNeeded(list []assay.Execution, wanted func(assay.Execution) bool) []assay.Execution {
	keep := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, x := range list {
			if !keep[x.ID] && !wanted(x) {
				continue
			}
			for _, id := range append([]string{x.ID}, needIDs(x)...) {
				grown = grown || !keep[id]
				keep[id] = true
			}
		}
	}
	return slices.DeleteFunc(list, func(x assay.Execution) bool { return !keep[x.ID] })
}

func needIDs(x assay.Execution) []string {
	ids := make([]string, len(x.Needs))
	for i, need := range x.Needs {
		ids[i] = need.Execution
	}
	return ids
}

// repetition is what runs again on a commit.
type repetition struct {
	newest  map[string]assay.Execution // by context
	context map[string]string          // of every execution, by its ID
	chosen  map[string]bool            // contexts
}

// repeat are new executions for the newest ones of those that are wanted and have
// ended; all is newest first, what comes out is oldest first, as it was planned.
// With one goes what it needs and did not pass, and what was skipped because of
// it. What passed is not run again for others: they get its artifacts.
func repeat(all []assay.Execution, event string, wanted func(assay.Execution) bool) []assay.Execution {
	r := repetition{newest: map[string]assay.Execution{}, context: map[string]string{}, chosen: map[string]bool{}}
	for _, x := range all {
		r.context[x.ID] = x.StatusContext()
	}
	list := newestOf(all)
	for _, x := range list {
		r.newest[x.StatusContext()] = x
		r.chosen[x.StatusContext()] = x.State == assay.StateFinished && wanted(x)
	}
	for grown := true; grown; {
		grown = false
		for _, x := range list {
			grown = r.spread(x) || grown
		}
	}
	list = slices.DeleteFunc(list, func(x assay.Execution) bool { return !r.chosen[x.StatusContext()] })
	slices.Reverse(list)
	return r.renew(list, event)
}

// spread chooses what goes with x, or x because of another; true if that is more.
func (r repetition) spread(x assay.Execution) (more bool) {
	choose := func(y assay.Execution) {
		more = more || !r.chosen[y.StatusContext()]
		r.chosen[y.StatusContext()] = true
	}
	for _, need := range x.Needs {
		needed, known := r.newest[r.context[need.Execution]]
		switch {
		case !known || needed.ID == x.ID || needed.State != assay.StateFinished || needed.Verdict == assay.VerdictPassed:
		case r.chosen[x.StatusContext()]:
			choose(needed)
		case r.chosen[needed.StatusContext()] && x.State == assay.StateFinished && x.NeedsState == assay.NeedsUnmet:
			choose(x)
		}
	}
	return more
}

// renew makes executions anew, and lets them need the newest of what they needed.
func (r repetition) renew(list []assay.Execution, event string) []assay.Execution {
	ids := map[string]string{} // new ones, by context
	for _, x := range list {
		ids[x.StatusContext()] = uuid.Must(uuid.NewV7()).String()
	}
	out := make([]assay.Execution, len(list))
	for i, x := range list {
		x.ID, x.EventID, x.State = ids[x.StatusContext()], event, assay.StateQueued
		x.Verdict, x.Reason, x.Attempt, x.Priority, x.NeedsState = "", "", 0, assay.PriorityPerson, ""
		x.Created, x.Started, x.Finished = time.Now().UTC(), time.Time{}, time.Time{}
		x.Needs = slices.Clone(x.Needs)
		for j, need := range x.Needs {
			context, known := r.context[need.Execution]
			switch {
			case !known:
			case ids[context] != "":
				x.Needs[j].Execution = ids[context]
			default:
				x.Needs[j].Execution = r.newest[context].ID
			}
		}
		out[i] = x
	}
	return out
}

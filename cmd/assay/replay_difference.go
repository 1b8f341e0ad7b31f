package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/assay-ci/assay"
)

// outcome is what two runs of one check are compared by.
type outcome struct {
	Verdict string
	Exit    int // of assay run
	Results []runResult
}

func (x *serverExecution) outcome() outcome {
	return outcome{x.Verdict, exitCode(assay.Verdict(x.Verdict)), x.results}
}

// change says what became of one thing: "same", "changed", "new", "gone".
type change struct{ what, then, now string }

func (c change) word() string {
	switch {
	case c.then == c.now:
		return "same"
	case c.then == "":
		return "new"
	case c.now == "":
		return "gone"
	}
	return "changed"
}

// differences compares two outcomes: verdict, exit code, then each result by its
// name, item and type, sorted. Several results of one name are matched in the
// order of their outcomes and notes.
func differences(then, now outcome) []change {
	list := []change{
		{"verdict", then.Verdict, now.Verdict},
		{"exit code", strconv.Itoa(then.Exit), strconv.Itoa(now.Exit)},
	}
	before, after := byName(then.Results), byName(now.Results)
	for len(before) > 0 || len(after) > 0 {
		switch order := compareNames(before, after); {
		case order < 0:
			list = append(list, change{resultName(before[0]), string(before[0].Outcome), ""})
			before = before[1:]
		case order > 0:
			list = append(list, change{resultName(after[0]), "", string(after[0].Outcome)})
			after = after[1:]
		default:
			list = append(list, change{resultName(after[0]), string(before[0].Outcome), string(after[0].Outcome)})
			before, after = before[1:], after[1:]
		}
	}
	return list
}

func byName(results []runResult) []runResult {
	sorted := slices.Clone(results)
	slices.SortStableFunc(sorted, func(a, b runResult) int {
		return cmp.Or(sameName(a, b), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Note, b.Note))
	})
	return sorted
}

func sameName(a, b runResult) int {
	return cmp.Or(cmp.Compare(a.Checkname, b.Checkname), cmp.Compare(a.Item, b.Item), cmp.Compare(a.Type, b.Type))
}

// compareNames tells which of two sorted lists has the next name.
func compareNames(before, after []runResult) int {
	switch {
	case len(before) == 0:
		return 1
	case len(after) == 0:
		return -1
	}
	return sameName(before[0], after[0])
}

func resultName(r runResult) string { return r.Checkname + " of " + r.Item }

// writeDifference tells people how two outcomes differ; what is the same is only
// counted.
func writeDifference(w io.Writer, then, now outcome) {
	list := differences(then, now)
	same := 0
	fmt.Fprintln(w, "\nAgainst the server's execution:")
	for i, c := range list {
		if i >= 2 && c.word() == "same" {
			same++
			continue
		}
		line := cmp.Or(c.then, "-")
		if c.then != c.now {
			line += " -> " + cmp.Or(c.now, "-")
		}
		fmt.Fprintf(w, "  %-8s %s: %s\n", c.word(), shown(c.what), shown(line))
	}
	if same > 0 {
		fmt.Fprintf(w, "  %-8s %s\n", "same", count(same, "more result"))
	}
}

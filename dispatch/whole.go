package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
)

// WholeContext is the context of the status of everything together: the one that
// a branch protection can require.
const WholeContext = "assay"

// whole is the status of everything that runs on a commit together.
func (r *Reporter) whole(ctx context.Context, commit assay.Commit) (assay.Status, error) {
	rows, err := r.rows(ctx, commit)
	if err != nil {
		return assay.Status{}, err
	}
	if len(rows) == 0 {
		return assay.Status{}, errNothingToSay
	}
	return wholeStatus(rows, func(x assay.Execution) string { return r.Page("events", x.EventID) }), nil
}

// wholeStatus is pending while a required check is, then as bad as the worst of
// those that are required and not waived. Its page is that of the newest event,
// or of the first bad check.
func wholeStatus(rows []commentRow, page func(assay.Execution) string) assay.Status {
	status := assay.Status{Context: WholeContext, State: assay.StatusSuccess, URL: page(rows[0].x)}
	open := 0
	var bad, optional []string
	for _, row := range rows {
		switch {
		case row.x.State != assay.StateFinished:
			if !row.x.Optional {
				open++
			}
		case row.good():
		case row.x.Optional:
			optional = append(optional, row.x.Label())
		default:
			if len(bad) == 0 {
				status.URL = row.page
			}
			bad = append(bad, row.x.Label())
			status.State = worseStatus(status.State, row.x.Status())
		}
	}
	slices.Sort(bad)
	slices.Sort(optional)
	switch {
	case open > 0:
		status.State = assay.StatusPending
		status.Description = fmt.Sprintf("%d of %d still to come", open, len(rows))
		if len(bad) > 0 {
			status.Description += fmt.Sprintf("; %d did not pass: %s", len(bad), strings.Join(bad, ", "))
		}
	case len(bad) > 0:
		status.Description = fmt.Sprintf("%d of %d did not pass: %s", len(bad), len(rows), strings.Join(bad, ", "))
	case len(optional) > 0:
		status.Description = fmt.Sprintf("all required checks passed; not required: %s", strings.Join(optional, ", "))
	case len(rows) == 1:
		status.Description = "the check passed"
	default:
		status.Description = fmt.Sprintf("all %d checks passed", len(rows))
	}
	status.Description = oneLine(status.Description)
	return status
}

// worseStatus prefers a failure, which somebody can mend, to an error of ours.
func worseStatus(a, b assay.StatusState) assay.StatusState {
	if a == assay.StatusFailure || b == assay.StatusSuccess {
		return a
	}
	return b
}

package runner

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assay-ci/assay"
)

// conclude turns how an attempt ended into its verdict. What a check reported
// counts together with how its steps ended: the worst of both.
func (r *run) conclude(err error) assay.Conclusion {
	c := assay.Conclusion{Results: r.results, Artifacts: r.files}
	var infra *infraError
	var step *stepError
	var environment *ProvisionError
	switch {
	case errors.As(err, &environment) && environment.Mistake:
		c.Verdict, c.Reason = assay.VerdictFailed, environment.Error()
	case errors.As(err, &infra), errors.Is(err, ErrMachineLost):
		c.Verdict, c.Reason, c.Retry = assay.VerdictErrored, err.Error(), true
	case errors.Is(err, ErrMachineDied):
		c.Verdict, c.Reason = assay.VerdictCrashed, err.Error()
	case errors.As(err, &step):
		c.Verdict, c.Reason = assay.VerdictFailed, err.Error()
	case err != nil:
		c.Verdict, c.Reason, c.Retry = assay.VerdictErrored, err.Error(), true
	case r.exit != 0 && len(r.results) == 0:
		c.Verdict, c.Reason = assay.VerdictFailed, fmt.Sprintf("the check ended with exit code %d", r.exit)
	default:
		c.Verdict, c.Reason = judge(r.Plan.Check, r.results)
	}
	if c.Verdict == assay.VerdictFailed && err != nil {
		if _, reason := judge(r.Plan.Check, r.results); anyBad(r.results) {
			c.Reason = reason + "; then " + c.Reason
		}
	}
	c.Reason = clip(printable([]byte(c.Reason)), 1000)
	if c.Verdict != assay.VerdictErrored {
		c.Results = r.withOwn(c)
	}
	return c
}

// withOwn adds the result that every execution has: one for the check as a
// whole, unless the check reported on itself.
func (r *run) withOwn(c assay.Conclusion) []assay.Result {
	if c.Verdict == assay.VerdictPassed && len(c.Results) > 0 || anyBad(c.Results) && c.Verdict == assay.VerdictFailed {
		return c.Results
	}
	own := assay.Result{Outcome: assay.Passed, Note: c.Reason}
	switch c.Verdict {
	case assay.VerdictFailed:
		own.Outcome = assay.Failed
	case assay.VerdictCrashed:
		own.Outcome = assay.Crashed
	}
	r.fill(&own)
	return append(c.Results, own)
}

// judge words the verdict of what a check reported.
func judge(check string, results []assay.Result) (assay.Verdict, string) {
	if len(results) == 0 {
		return assay.VerdictPassed, "every step passed"
	}
	var bad []string
	for _, res := range results {
		if !res.Outcome.Good() {
			bad = append(bad, TestName(check, res))
		}
	}
	if len(bad) == 0 {
		return assay.VerdictPassed, Summary(results)
	}
	const show = 3
	names := strings.Join(bad[:min(show, len(bad))], ", ")
	if len(bad) > show {
		names += ", …"
	}
	return assay.VerdictFailed, fmt.Sprintf("%d of %d failed: %s", len(bad), len(results), names)
}

func anyBad(results []assay.Result) bool {
	for _, res := range results {
		if !res.Outcome.Good() {
			return true
		}
	}
	return false
}

// TestName is what a reviewer calls one result of a check: the part of its
// checkname that is its own, or its note when the checkname is just the check's.
func TestName(check string, res assay.Result) string {
	name := strings.TrimPrefix(strings.TrimPrefix(res.Checkname, check), ".")
	switch {
	case name != "":
		return clip(name, 100)
	case res.Note != "":
		return clip(printable([]byte(res.Note)), 100)
	}
	return res.Item
}

// Summary counts outcomes as libtaskotron words them: "3 PASSED, 1 INFO, 2 FAILED".
func Summary(results []assay.Result) string {
	if len(results) == 0 {
		return "no results"
	}
	count := map[assay.Outcome]int{}
	for _, res := range results {
		count[res.Outcome]++
	}
	var parts []string
	for _, o := range assay.Outcomes() {
		if count[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[o], o))
		}
	}
	return strings.Join(parts, ", ")
}

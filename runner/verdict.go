package runner

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/assay-ci/assay"
)

// conclude turns how an attempt ended into its verdict. What a check reported
// counts together with how its steps ended: the worst of both.
func (r *run) conclude(err error) assay.Conclusion {
	r.checkArtifacts()
	c := assay.Conclusion{Results: r.results, Artifacts: r.files}
	var infra *infraError
	var step *stepError
	var missing *noResultsError
	var environment *ProvisionError
	switch {
	case errors.As(err, &environment) && environment.Mistake:
		c.Verdict, c.Reason = assay.VerdictFailed, environment.Error()
	case errors.As(err, &infra), errors.Is(err, ErrMachineLost):
		c.Verdict, c.Reason, c.Retry = assay.VerdictErrored, err.Error(), true
	case errors.Is(err, ErrMachineDied):
		c.Verdict, c.Reason = assay.VerdictCrashed, err.Error()
	case errors.As(err, &missing):
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
	if (c.Verdict == assay.VerdictFailed || missing != nil) && err != nil {
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

// skipped concludes what there is nothing to run of. No machine was had for it.
func (r *run) skipped() assay.Conclusion {
	own := assay.Result{Outcome: assay.Info, Note: "SKIP " + r.Plan.Skip}
	r.fill(&own)
	return assay.Conclusion{Verdict: assay.VerdictSkipped, Reason: clip(printable([]byte(r.Plan.Skip)), 1000), Results: []assay.Result{own}}
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
	ended := 0 // of these did not come to an answer
	for _, res := range results {
		if !res.Outcome.Good() {
			bad = append(bad, TestName(check, res))
		}
		if broken(res.Outcome) {
			ended++
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
	what := "failed"
	if ended == len(bad) {
		what = "broke off"
	} else if ended > 0 {
		what = fmt.Sprintf("failed, %d of them broke off", ended)
	}
	return assay.VerdictFailed, fmt.Sprintf("%d of %d %s: %s", len(bad), len(results), what, names)
}

// broken tells that a test did not come to an answer (COMPAT.md 1.1, broken()).
func broken(o assay.Outcome) bool { return o == assay.Aborted || o == assay.Crashed }

// checkArtifacts takes from results the artifacts that are not there. They may be
// absolute, in the machine, or relative to the artifacts; a directory is one too,
// if anything is in it. Most of them are told in the log.
func (r *run) checkArtifacts() {
	const tell = 10
	there := map[string]bool{}
	for _, f := range r.files {
		for name := f.Path; name != "."; name = path.Dir(name) {
			there[name] = true
		}
	}
	lost := 0
	for i := range r.results {
		res := &r.results[i]
		if res.Artifact == "" {
			continue
		}
		name := r.artifact(res.Artifact)
		if there[name] {
			res.Artifact = name
			continue
		}
		if lost++; lost <= tell {
			r.log.Say(0, "warning: no link to the artifact %s of %s: it is not among the artifacts", clip(printable([]byte(res.Artifact)), 200), TestName(r.Plan.Check, *res))
		}
		res.Artifact = ""
	}
	if lost > tell {
		r.log.Say(0, "warning: %d more results name artifacts that are not there", lost-tell)
	}
}

// artifact is the path that a check gives, relative to the artifacts; "" for one
// outside.
func (r *run) artifact(name string) string {
	if path.IsAbs(name) {
		if r.machine == nil {
			return ""
		}
		inner, ok := strings.CutPrefix(path.Clean(name), r.guest(assay.VarArtifacts)+"/")
		if !ok {
			return ""
		}
		name = inner
	}
	if name = path.Clean(name); name == "." || name == ".." || strings.HasPrefix(name, "../") {
		return ""
	}
	return name
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

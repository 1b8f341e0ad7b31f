package forge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/google/go-github/v60/github"
)

const needChecks = `"Checks" write`

// checkRun is what we look at in a check run of ours.
type checkRun struct {
	id         int64
	conclusion string // "" while it is not completed
	status     assay.Status
	output     *github.CheckRunOutput
}

// setCheck edits the newest run of the context, or makes one. s's repository is
// at's, whose lock is held.
func (g *GitHub) setCheck(ctx context.Context, s *session, at place, status assay.Status) error {
	key := "the check run " + status.Context + " on " + at.String()
	run, err := g.knownRun(ctx, s, at, key, status.Context)
	if err == nil {
		run, err = writeRun(ctx, s, at, run, status)
	}
	if known, _ := g.app.runs.get(key); known.id != 0 && gone(err) { // GitHub deletes the oldest of many
		g.app.runs.forget(key)
		if run, err = findRun(ctx, s, g.app.options.ID, at, status.Context); err == nil {
			run, err = writeRun(ctx, s, at, run, status)
		}
	}
	if err != nil {
		g.app.runs.forget(key) // it may have taken effect: look before the next
		return g.fail(ctx, "set "+key, needChecks, err)
	}
	g.app.runs.set(key, run)
	return nil
}

func (g *GitHub) knownRun(ctx context.Context, s *session, at place, key, context string) (checkRun, error) {
	if run, _ := g.app.runs.get(key); run.id != 0 {
		return run, nil
	}
	return findRun(ctx, s, g.app.options.ID, at, context)
}

// findRun looks for our newest run of a name in GET
// /repos/O/R/commits/SHA/check-runs. Ids ascend. The zero run is none.
func findRun(ctx context.Context, s *session, app int64, at place, context string) (checkRun, error) {
	var newest checkRun
	options := &github.ListCheckRunsOptions{CheckName: &context, AppID: &app, Filter: github.String("all"),
		ListOptions: github.ListOptions{Page: 1, PerPage: perPage}}
	for options.Page != 0 && options.Page <= maxPages {
		found, resp, err := s.client.Checks.ListCheckRunsForRef(ctx, at.owner, at.name, at.sha, options)
		if err == nil && found == nil { // "null"
			err = errors.New("the answer has no list")
		}
		if err != nil {
			return checkRun{}, err
		}
		for _, run := range found.CheckRuns {
			ours := run.GetName() == context && run.GetApp().GetID() == app
			if ours && run.GetID() > newest.id {
				newest = runOf(run)
			}
		}
		options.Page = resp.NextPage
	}
	return newest, nil
}

// writeRun does PATCH /repos/O/R/check-runs/ID, or POST /repos/O/R/check-runs
// where there is no run that may be edited.
func writeRun(ctx context.Context, s *session, at place, run checkRun, status assay.Status) (checkRun, error) {
	word, conclusion := checkWords(status)
	output := checkOutput(status)
	var details *string
	if url := link(status.URL); url != "" {
		details = &url
	}
	var written *github.CheckRun
	var err error
	if run.id != 0 && (run.conclusion == "" || run.conclusion == conclusion) {
		written, _, err = s.client.Checks.UpdateCheckRun(ctx, at.owner, at.name, run.id, github.UpdateCheckRunOptions{
			Name: status.Context, ExternalID: &status.Context, DetailsURL: details,
			Status: &word, Conclusion: orNil(conclusion), Output: output,
		})
	} else {
		written, _, err = s.client.Checks.CreateCheckRun(ctx, at.owner, at.name, github.CreateCheckRunOptions{
			Name: status.Context, HeadSHA: at.sha, ExternalID: &status.Context, DetailsURL: details,
			Status: &word, Conclusion: orNil(conclusion), Output: output,
		})
	}
	if err == nil && written.GetID() == 0 {
		err = errors.New("the answer has no id")
	}
	return runOf(written), err
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// errorConclusion is how an error is concluded: see GitHubApp.
const errorConclusion = "cancelled"

// checkWords are a check run's status and conclusion.
func checkWords(s assay.Status) (status, conclusion string) {
	switch s.State {
	case assay.StatusSuccess:
		return "completed", "success"
	case assay.StatusFailure:
		return "completed", "failure"
	case assay.StatusError:
		return "completed", errorConclusion
	}
	if strings.HasPrefix(s.Description, "queued") || strings.HasPrefix(s.Description, "waiting") {
		return "queued", ""
	}
	return "in_progress", ""
}

// verbatim begins a line that Markdown leaves alone: a description may hold
// what a check's author wrote.
const verbatim = "    "

// checkOutput has the description twice: the title is shown beside the name, the
// summary on the run's own page.
func checkOutput(s assay.Status) *github.CheckRunOutput {
	title, summary := gitHubLine(s.Description), ""
	if title != "" {
		summary = verbatim + title + "\n\n"
	} else {
		title = string(s.State)
	}
	if url := link(s.URL); url != "" {
		summary += "[Log, results and artifacts](<" + url + ">)"
	} else {
		summary += "There is no page about it."
	}
	return &github.CheckRunOutput{Title: &title, Summary: &summary}
}

// runOf reads a check run.
func runOf(r *github.CheckRun) checkRun {
	run := checkRun{id: r.GetID(), output: r.GetOutput()}
	run.status = assay.Status{Context: r.GetName(), State: assay.StatusPending, URL: r.GetDetailsURL()}
	if strings.HasPrefix(r.GetOutput().GetSummary(), verbatim) {
		run.status.Description = r.GetOutput().GetTitle()
	}
	if r.GetStatus() == "completed" {
		run.conclusion = r.GetConclusion()
		switch run.conclusion {
		case "success", "failure":
			run.status.State = assay.StatusState(run.conclusion)
		default:
			run.status.State = assay.StatusError
		}
	}
	return run
}

// readCheck is Status of an App.
func (g *GitHub) readCheck(ctx context.Context, s *session, at place, context string) (assay.Status, bool, error) {
	run, err := findRun(ctx, s, g.app.options.ID, at, context)
	if err != nil {
		return assay.Status{}, false, g.fail(ctx, "read the check runs of "+at.String(), needChecks, err)
	}
	return run.status, run.id != 0, nil
}

// perAnnotate is how many annotations GitHub takes in one request.
const perAnnotate = 50

// Annotate adds annotations to the newest check run of the context, which only
// an App has: with a token it does nothing.
func (g *GitHub) Annotate(ctx context.Context, commit assay.Commit, context string, annotations []assay.Annotation) error {
	at, err := gitHubPlace(commit)
	if err != nil {
		return err
	}
	fit := fitAnnotations(annotations)
	if g.app == nil || len(fit) == 0 {
		return nil
	}
	release, err := g.locks.lock(ctx, at.String())
	if err != nil {
		return err
	}
	defer release()
	s, err := g.session(ctx, at.owner, at.name)
	if err != nil {
		return err
	}
	err = annotate(ctx, s, g.app.options.ID, at, context, fit)
	return g.fail(ctx, fmt.Sprintf("annotate the check run %.60q on %s", context, at), needChecks, err)
}

func annotate(ctx context.Context, s *session, app int64, at place, context string, fit []assay.Annotation) error {
	run, err := findRun(ctx, s, app, at, context)
	if err != nil {
		return err
	}
	if run.id == 0 {
		return &RetryError{Err: fmt.Errorf("cannot annotate %s: it has no check run %.60q yet: set its status first", at, context)}
	}
	title, summary := run.output.GetTitle(), run.output.GetSummary()
	there, err := annotated(ctx, s, at, run.id)
	if err != nil {
		return err
	}
	fit = slices.DeleteFunc(fit, func(a assay.Annotation) bool { return there[a] })
	for batch := range slices.Chunk(fit, perAnnotate) {
		// GitHub adds them to those that are there; the rest of the output is
		// required and said again.
		output := &github.CheckRunOutput{Title: &title, Summary: &summary, Annotations: toGitHub(batch)}
		if _, _, err := s.client.Checks.UpdateCheckRun(ctx, at.owner, at.name, run.id, github.UpdateCheckRunOptions{Name: context, Output: output}); err != nil {
			return err
		}
	}
	return nil
}

// annotated are the annotations that a run has.
func annotated(ctx context.Context, s *session, at place, run int64) (map[assay.Annotation]bool, error) {
	there := map[assay.Annotation]bool{}
	for page := 1; page != 0 && page <= maxPages; {
		found, resp, err := s.client.Checks.ListCheckRunAnnotations(ctx, at.owner, at.name, run, &github.ListOptions{Page: page, PerPage: perPage})
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			there[assay.Annotation{
				Path: a.GetPath(), Line: a.GetStartLine(), LastLine: a.GetEndLine(),
				Level: assay.AnnotationLevel(a.GetAnnotationLevel()), Title: a.GetTitle(), Message: a.GetMessage(),
			}] = true
		}
		page = resp.NextPage
	}
	return there, nil
}

func toGitHub(batch []assay.Annotation) []*github.CheckRunAnnotation {
	out := make([]*github.CheckRunAnnotation, len(batch))
	for i, a := range batch {
		out[i] = &github.CheckRunAnnotation{
			Path: &a.Path, StartLine: &a.Line, EndLine: &a.LastLine,
			AnnotationLevel: github.String(string(a.Level)), Title: orNil(a.Title), Message: &a.Message,
		}
	}
	return out
}

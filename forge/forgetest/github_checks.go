package forgetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"
)

// CheckRun is a check run as it is kept.
type CheckRun struct {
	ID          int64
	Name        string
	HeadSHA     string
	ExternalID  string
	DetailsURL  string // the App's page when none was given
	Status      string
	Conclusion  string
	Title       string
	Summary     string
	Annotations []Annotation
}

// Annotation is one as the Checks API has it.
type Annotation struct {
	Path      string `json:"path"`
	StartLine int    `json:"start_line"`
	EndLine   int    `json:"end_line"`
	Level     string `json:"annotation_level"`
	Title     string `json:"title,omitempty"`
	Message   string `json:"message"`
}

// AppPage is the details of a check run that was given none.
const AppPage = "https://assay.example.org/"

// CheckRuns returns a commit's check runs, oldest first.
func (g *GitHub) CheckRuns(repo, sha string) []CheckRun {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []CheckRun
	for _, run := range g.repos[repo].checks {
		if run.HeadSHA == sha {
			found = append(found, *run)
		}
	}
	return found
}

// DeleteCheckRun deletes a check run, as GitHub does with the oldest of many.
func (g *GitHub) DeleteCheckRun(repo string, id int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.repos[repo]
	r.checks = slices.DeleteFunc(r.checks, func(c *CheckRun) bool { return c.ID == id })
}

// checkBody is the body of "Create a check run" and "Update a check run", with
// what is used of it.
type checkBody struct {
	Name       *string      `json:"name"`
	HeadSHA    *string      `json:"head_sha"`
	DetailsURL *string      `json:"details_url"`
	ExternalID *string      `json:"external_id"`
	Status     *string      `json:"status"`
	Conclusion *string      `json:"conclusion"`
	Output     *checkOutput `json:"output"`
}

type checkOutput struct {
	Title       *string      `json:"title"`
	Summary     *string      `json:"summary"`
	Annotations []Annotation `json:"annotations"`
}

// checkBody reads the body; it has answered when it returns nil.
func (g *GitHub) checkBody(w http.ResponseWriter, r *http.Request) *checkBody {
	var given checkBody
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		g.undocumented(w, r, "the body: "+err.Error())
		return nil
	}
	if field, message := wrongCheck(given); field != "" {
		invalid(w, "CheckRun", field, message)
		return nil
	}
	return &given
}

// wrongCheck says what GitHub has against a check run.
func wrongCheck(c checkBody) (field, message string) {
	switch {
	case c.Status != nil && !slices.Contains([]string{"queued", "in_progress", "completed"}, *c.Status):
		return "status", "status is not included in the list"
	case c.Conclusion != nil && !slices.Contains([]string{"action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"}, *c.Conclusion):
		return "conclusion", "conclusion is not included in the list"
	case c.Status != nil && *c.Status == "completed" && c.Conclusion == nil:
		return "conclusion", "conclusion is required when status is completed"
	case c.Status != nil && *c.Status != "completed" && c.Conclusion != nil:
		return "status", "status must be completed when there is a conclusion"
	case c.Name != nil && *c.Name == "":
		return "name", "name can't be blank"
	case c.Output != nil:
		return wrongOutput(*c.Output)
	}
	return "", ""
}

func wrongOutput(o checkOutput) (field, message string) {
	switch {
	case o.Title == nil || *o.Title == "":
		return "output", "title wasn't supplied"
	case o.Summary == nil || *o.Summary == "":
		return "output", "summary wasn't supplied"
	case utf8.RuneCountInString(*o.Summary) > 65535:
		return "output", "summary is too long (maximum is 65535 characters)"
	case len(o.Annotations) > 50:
		return "annotations", fmt.Sprintf("Only 50 items are allowed; %d were supplied", len(o.Annotations))
	}
	for _, a := range o.Annotations {
		switch {
		case a.Path == "" || a.Message == "" || a.StartLine < 1 || a.EndLine < a.StartLine:
			return "annotations", "a required field wasn't supplied"
		case !slices.Contains([]string{"notice", "warning", "failure"}, a.Level):
			return "annotations", "annotation_level is not included in the list"
		case len(a.Message) > 64<<10 || utf8.RuneCountInString(a.Title) > 255:
			return "annotations", "the message or the title is too long"
		}
	}
	return "", ""
}

// postCheck is "Create a check run".
func (g *GitHub) postCheck(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	given := g.checkBody(w, r)
	if given == nil {
		return
	}
	if given.Name == nil || given.HeadSHA == nil {
		g.undocumented(w, r, "missing body field name or head_sha")
		return
	}
	if _, known := repo.statuses[*given.HeadSHA]; !known {
		problem(w, http.StatusUnprocessableEntity, "No commit found for SHA: "+*given.HeadSHA)
		return
	}
	g.lastID++
	run := &CheckRun{ID: g.lastID, HeadSHA: *given.HeadSHA, Status: "queued", DetailsURL: AppPage}
	run.apply(given)
	repo.checks = append(repo.checks, run)
	reply(w, http.StatusCreated, g.checkJSON(run))
}

// apply changes what was given. A completed run stays so, with its conclusion.
func (c *CheckRun) apply(given *checkBody) {
	to := func(field *string, value *string) {
		if value != nil {
			*field = *value
		}
	}
	to(&c.Name, given.Name)
	to(&c.ExternalID, given.ExternalID)
	to(&c.DetailsURL, given.DetailsURL)
	if c.Status != "completed" {
		to(&c.Status, given.Status)
		to(&c.Conclusion, given.Conclusion)
	}
	if given.Output != nil {
		to(&c.Title, given.Output.Title)
		to(&c.Summary, given.Output.Summary)
		c.Annotations = append(slices.Clip(c.Annotations), given.Output.Annotations...)
	}
}

// patchCheck is "Update a check run".
func (g *GitHub) patchCheck(w http.ResponseWriter, r *http.Request) {
	run := g.check(w, r)
	if run == nil {
		return
	}
	given := g.checkBody(w, r)
	if given == nil {
		return
	}
	if given.HeadSHA != nil {
		g.undocumented(w, r, "head_sha cannot be updated")
		return
	}
	run.apply(given)
	reply(w, http.StatusOK, g.checkJSON(run))
}

// check finds the check run of a request; it has answered when there is none.
func (g *GitHub) check(w http.ResponseWriter, r *http.Request) *CheckRun {
	repo := g.repo(w, r)
	if repo == nil {
		return nil
	}
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // 0 is nobody's
	for _, run := range repo.checks {
		if run.ID == id {
			return run
		}
	}
	problem(w, http.StatusNotFound, "Not Found")
	return nil
}

func (g *GitHub) checkJSON(c *CheckRun) map[string]any {
	out := map[string]any{
		"id": c.ID, "name": c.Name, "head_sha": c.HeadSHA, "external_id": c.ExternalID, "details_url": c.DetailsURL,
		"status": c.Status, "conclusion": nil, "app": map[string]any{"id": 777, "slug": AppSlug},
		"output": map[string]any{"title": c.Title, "summary": c.Summary, "text": nil, "annotations_count": len(c.Annotations)},
	}
	if c.Conclusion != "" {
		out["conclusion"] = c.Conclusion
	}
	return out
}

// listChecks is "List check runs for a Git reference".
func (g *GitHub) listChecks(w http.ResponseWriter, r *http.Request) {
	repo := g.repo(w, r)
	if repo == nil {
		return
	}
	sha := r.PathValue("sha")
	if _, known := repo.statuses[sha]; !known {
		problem(w, http.StatusUnprocessableEntity, "No commit found for SHA: "+sha)
		return
	}
	query := r.URL.Query()
	name, filter := query.Get("check_name"), query.Get("filter")
	if app := query.Get("app_id"); filter != "all" || app != "777" && app != "" {
		g.undocumented(w, r, "this server knows the filter all and its own App")
		return
	}
	var items []any
	for _, run := range slices.Backward(repo.checks) {
		if run.HeadSHA == sha && (name == "" || run.Name == name) {
			items = append(items, g.checkJSON(run))
		}
	}
	if page, ok := g.page(w, r, items, "check_name", "filter", "app_id"); ok {
		reply(w, http.StatusOK, map[string]any{"total_count": len(items), "check_runs": page})
	}
}

// listAnnotations is "List check run annotations".
func (g *GitHub) listAnnotations(w http.ResponseWriter, r *http.Request) {
	run := g.check(w, r)
	if run == nil {
		return
	}
	var items []any
	for _, a := range run.Annotations {
		items = append(items, a)
	}
	if page, ok := g.page(w, r, items); ok {
		reply(w, http.StatusOK, page)
	}
}

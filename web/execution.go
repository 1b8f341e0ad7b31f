package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

const (
	perResults    = 1000 // results on one page
	evidenceRows  = 10   // bad results shown right below the verdict
	excerptLines  = 30   // log lines shown right below the verdict
	consoleBytes  = 16 << 10
	maxData       = 12  // keys shown of one result's data
	maxValue      = 300 // characters shown of one value
	maxArtifacts  = 500 // artifacts listed
	liveSeconds   = 3   // between two loads of a page about something unfinished
	maxTimeline   = 200 // entries shown of one attempt
	maxOldAttempt = 20  // earlier attempts shown
	maxNeeds      = 100 // executions that one needs, listed
)

// facts is everything that the store knows of one execution.
type facts struct {
	assay.Execution
	Steps     []assay.StepRun
	Results   []assay.Result
	Artifacts []assay.Artifact
}

func (s *server) facts(ctx context.Context, id string) (facts, error) {
	var f facts
	var err error
	if f.Execution, err = s.Store.Execution(ctx, id); err != nil {
		return f, err
	}
	if f.Steps, err = s.Store.Steps(ctx, id); err != nil && !errors.Is(err, assay.ErrNotFound) {
		return f, err
	}
	if f.Results, err = s.Store.Results(ctx, id); err != nil && !errors.Is(err, assay.ErrNotFound) {
		return f, err
	}
	if f.Artifacts, err = s.Store.Artifacts(ctx, id); err != nil && !errors.Is(err, assay.ErrNotFound) {
		return f, err
	}
	return f, nil
}

// executionView is the page of one execution, in the order of the page: the
// verdict, the reason, the evidence, then everything else.
type executionView struct {
	row
	ID, Headline       string
	Finished, Started  moment
	Bad                []resultView // the worst results, not all of them
	Excerpt            *excerpt
	Timeline           []timeline // newest attempt first
	Results            resultPage
	Artifacts          []artifactView
	MoreArtifacts      int
	Console            *consoleView
	Local              string // shell commands, "" when they cannot be given safely
	LogURL, RawURL     string // "" when nothing has run yet
	Type               string
	Attempt            int
	Retries            string // what the formula says of further attempts; "" for nothing
	Needs              []needView
	Source, Target     commitView
	TargetElsewhere    bool // the status does not land on Source
	Checks             commitView
	ChecksBranch, Path string
	Builds             []address
	EventURL, JSONURL  string
	StatusContext      string
	Live               bool
}

func (s *server) executionPage(r *http.Request) (response, error) {
	f, err := s.facts(r.Context(), mux.Vars(r)["id"])
	if err != nil {
		return nil, err
	}
	view, err := s.executionView(r, f)
	if err != nil {
		return nil, err
	}
	p := page{Template: "execution", Body: view,
		Title: fmt.Sprintf("%s: %s on %s", view.Chip.Word, view.Check, view.Item)}
	if view.Live {
		p.Refresh = liveSeconds
	}
	return s.page(p), nil
}

func (s *server) executionView(r *http.Request, f facts) (executionView, error) {
	e := f.Execution
	view := s.basics(e)
	offset, err := resultOffset(r)
	if err != nil {
		return view, err
	}
	view.Results = pageResults(f, offset)
	for _, result := range view.Results.ordered {
		if offset == 0 && !result.Outcome.Good() && len(view.Bad) < evidenceRows {
			view.Bad = append(view.Bad, showResult(f, result))
		}
	}
	for i, a := range f.Artifacts {
		if i == maxArtifacts {
			view.MoreArtifacts = len(f.Artifacts) - maxArtifacts
			break
		}
		view.Artifacts = append(view.Artifacts, artifactView{artifactURL(e.ID, a.Path), plain(a.Path), size(a.Size)})
	}
	var scan logScan
	if view.Excerpt, scan, err = s.excerpt(r.Context(), e, f.Steps); err != nil {
		return view, err
	}
	view.Timeline = s.timelines(e, f.Steps, scan.steps)
	view.Console, err = s.console(e)
	return view, err
}

// basics fills in what comes from the execution alone.
func (s *server) basics(e assay.Execution) executionView {
	view := executionView{
		row: s.row(e), ID: plain(e.ID), Headline: s.waits(e), Live: e.State != assay.StateFinished,
		Finished: s.moment(e.Finished), Started: s.moment(e.Started),
		Type: plain(e.Type), Attempt: e.Attempt,
		ChecksBranch: plain(e.ChecksBranch), Path: plain(e.Path), Checks: showCommit(e.ChecksRepo, e.ChecksCommit, 0),
		JSONURL: executionURL(e.ID) + ".json", StatusContext: plain(e.StatusContext()), Local: localCommands(e),
	}
	if e.SourceRepo != "" || e.SourceCommit != "" {
		view.Source = showCommit(e.SourceRepo, e.SourceCommit, 0)
	}
	if e.Target.SHA != "" {
		view.Target = showCommit(e.Target.Repo, e.Target.SHA, e.Target.PullRequest)
	}
	view.TargetElsewhere = view.Target != view.Source
	if e.EventID != "" {
		view.EventURL = eventURL(e.EventID)
	}
	if e.Attempt > 0 {
		view.LogURL, view.RawURL = executionURL(e.ID)+"/log", executionURL(e.ID)+"/log.txt"
	}
	if e.Retries != nil {
		view.Retries = fmt.Sprintf("its formula allows %d more when nobody can tell how it would end", *e.Retries)
	}
	for _, need := range e.Needs[:min(len(e.Needs), maxNeeds)] {
		view.Needs = append(view.Needs, needView{executionURL(need.Execution), plain(needLabel(need))})
	}
	for _, b := range e.Builds[:min(len(e.Builds), 50)] {
		view.Builds = append(view.Builds, showAddress(b))
	}
	return view
}

// waits says why an execution is not being run yet.
func (s *server) waits(e assay.Execution) string {
	if e.Waits() {
		return clip(plain("Waiting for "+strings.Join(needLabels(e), ", ")), 500)
	}
	if s.Waits != nil && e.State == assay.StateQueued {
		if why := s.Waits(e.ID); why != "" {
			return "Waiting: " + plain(why)
		}
	}
	return headline(e)
}

// headline is the reason, or what goes without saying where there is none.
func headline(e assay.Execution) string {
	if e.Reason != "" {
		return clip(plain(e.Reason), 500)
	}
	switch {
	case e.State == assay.StateQueued && e.Attempt > 0:
		return "Waiting for another attempt"
	case e.State == assay.StateQueued:
		return "Waiting for a runner"
	case e.State == assay.StateRunning:
		return "The check is running"
	case e.Verdict == assay.VerdictPassed:
		return "The check says yes"
	case e.Verdict == assay.VerdictFailed:
		return "The check says no"
	}
	return "No reason was given"
}

// needView is an execution that this one needs.
type needView struct{ URL, Label string }

func needLabel(n assay.Need) string { return cmp.Or(n.Label, n.Check) }

func needLabels(e assay.Execution) []string {
	var labels []string
	for _, need := range e.Needs[:min(len(e.Needs), maxNeeds)] {
		labels = append(labels, needLabel(need))
	}
	return labels
}

// excerpt is the part of the log that shows why, or where the execution is.
type excerpt struct {
	Title string
	Lines template.HTML
	URL   string // the log at the last line shown
}

// excerpt reads the end of the failing step's output; while nothing has failed
// yet, the end of the log. A good ending needs none.
func (s *server) excerpt(ctx context.Context, e assay.Execution, steps []assay.StepRun) (*excerpt, logScan, error) {
	if e.Attempt < 1 {
		return nil, logScan{}, nil
	}
	f, scan, err := s.openLog(ctx, e.ID, e.Attempt)
	if err != nil {
		if missing(err) {
			return nil, logScan{}, nil
		}
		return nil, logScan{}, err
	}
	defer f.Close()
	if e.State == assay.StateFinished && (e.Verdict == assay.VerdictPassed || e.Verdict == assay.VerdictSkipped) {
		return nil, scan, nil
	}
	title, step := excerptTitle(e, steps)
	rows, err := scan.tail(f, step, excerptLines)
	if err != nil || len(rows) == 0 {
		return nil, scan, err
	}
	address := executionURL(e.ID) + "/log?"
	last := strconv.FormatInt(rows[len(rows)-1].Number, 10)
	return &excerpt{
		Title: title, URL: address + "line=" + last + "#L" + last,
		Lines: logHTML(rows, address, 0, logStart(f)),
	}, scan, nil
}

func excerptTitle(e assay.Execution, steps []assay.StepRun) (title string, step int) {
	if e.State != assay.StateFinished {
		return "What it says right now", -1
	}
	for _, st := range slices.Backward(steps) {
		if st.Attempt == e.Attempt && st.Outcome != "ok" && st.Outcome != "" {
			if st.Number == 0 {
				return "The end of the log, where " + plain(st.Name) + " " + plain(st.Outcome), -1
			}
			return fmt.Sprintf("The end of step %d, %s", st.Number, plain(st.Name)), st.Number
		}
	}
	return "The end of the log", -1
}

// artifactView is one artifact in a list.
type artifactView struct{ URL, Path, Size string }

// resultView is one result in a table.
type resultView struct {
	Chip               chip
	Name, Item, Note   string
	ArtifactURL, Label string
	Data               []dataView
	MoreData           int
}

type dataView struct{ Key, Value string }

// resultPage is one page of results, the bad ones first.
type resultPage struct {
	Rows        []resultView
	Total, From int // From counts from 1
	To          int
	More        int    // behind this page
	Next, Prev  string // addresses
	Tally       []tally
	ordered     []assay.Result
}

// tally is how many results have one outcome.
type tally struct {
	Chip  chip
	Count int
}

func resultOffset(r *http.Request) (int, error) {
	raw := r.URL.Query().Get("results")
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(raw)
	if err != nil || n < 0 {
		return 0, badRequest("results is the number of results to leave out: 0, 1000, 2000, …")
	}
	return n, nil
}

func pageResults(f facts, offset int) resultPage {
	p := resultPage{Total: len(f.Results), Tally: tallies(f.Results), ordered: worstFirst(f.Results)}
	from := min(offset, p.Total)
	to := min(from+perResults, p.Total)
	p.From, p.To, p.More = from+1, to, p.Total-to
	address := executionURL(f.ID) + "?results="
	if p.More > 0 {
		p.Next = address + strconv.Itoa(to) + "#results"
	}
	if from > 0 {
		p.Prev = address + strconv.Itoa(max(0, from-perResults)) + "#results"
	}
	for _, result := range p.ordered[from:to] {
		p.Rows = append(p.Rows, showResult(f, result))
	}
	return p
}

// worstFirst puts failures before what is merely unclear, and both before what
// is good; within each the order is the check's own.
func worstFirst(results []assay.Result) []assay.Result {
	severity := map[assay.Outcome]int{
		assay.Crashed: 0, assay.Failed: 0, assay.Aborted: 1, assay.NeedsInspection: 1, assay.Passed: 2, assay.Info: 2,
	}
	rank := func(r assay.Result) int {
		if n, ok := severity[r.Outcome]; ok {
			return n
		}
		return 1
	}
	sorted := slices.Clone(results)
	slices.SortStableFunc(sorted, func(a, b assay.Result) int { return cmp.Compare(rank(a), rank(b)) })
	return sorted
}

func tallies(results []assay.Result) []tally {
	counts := map[assay.Outcome]int{}
	for _, r := range results {
		if r.Outcome == "" {
			r.Outcome = assay.NeedsInspection
		}
		counts[r.Outcome]++
	}
	var all []tally
	for _, o := range slices.Backward(assay.Outcomes()) {
		if counts[o] > 0 {
			all = append(all, tally{outcomeChip(o), counts[o]})
		}
	}
	return all
}

// showResult leaves out the item where it goes without saying.
func showResult(f facts, r assay.Result) resultView {
	v := resultView{Chip: outcomeChip(r.Outcome), Name: plain(r.Checkname), Note: plain(r.Note)}
	if r.Item != f.Item {
		v.Item = plain(r.Item)
	}
	if r.Artifact != "" {
		v.Label = plain(r.Artifact)
		if slices.ContainsFunc(f.Artifacts, func(a assay.Artifact) bool { return a.Path == r.Artifact }) {
			v.ArtifactURL = artifactURL(f.ID, r.Artifact)
		}
	}
	keys := make([]string, 0, len(r.Data))
	for key := range r.Data {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for i, key := range keys {
		if i == maxData {
			v.MoreData = len(keys) - maxData
			break
		}
		v.Data = append(v.Data, dataView{clip(plain(key), 80), clip(plain(strings.Join(r.Data[key], ", ")), maxValue)})
	}
	return v
}

// consoleView is the end of what the machine printed.
type consoleView struct {
	Text  string
	Shown string
	Total string
}

// console reads the console where it may say why: when the machine went down or
// never came up.
func (s *server) console(e assay.Execution) (*consoleView, error) {
	if e.Verdict != assay.VerdictCrashed && e.Verdict != assay.VerdictErrored {
		return nil, nil
	}
	f, err := s.Files.OpenConsole(e.ID)
	if err != nil {
		if missing(err) {
			return nil, nil
		}
		return nil, err
	}
	defer f.Close()
	tail, total, err := fileTail(f, consoleBytes)
	if err != nil || len(tail) == 0 {
		return nil, err
	}
	return &consoleView{Text: lines(tail), Shown: size(int64(len(tail))), Total: size(total)}, nil
}

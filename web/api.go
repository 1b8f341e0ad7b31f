package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

// apiVersion is the version of the JSON documents. New members may come without
// a new version; a member that changes or goes brings one.
const apiVersion = 1

// executionDocument is /executions/ID.json. Times are RFC 3339 in UTC and left
// out while they are not known; durations are for the reader to work out.
type executionDocument struct {
	Version      int                `json:"version"`
	Execution    executionMember    `json:"execution"`
	Steps        []stepMember       `json:"steps"`
	ResultsTotal int                `json:"results_total"`
	ResultsFrom  int                `json:"results_from"` // results left out before the first one here
	Results      []resultMember     `json:"results"`      // at most 1,000, the worst first; ?results=N leaves out N
	Artifacts    []artifactMember   `json:"artifacts"`
	Links        map[string]*string `json:"links"` // addresses on this server; null for none yet
}

type executionMember struct {
	ID           string       `json:"id"`
	Event        string       `json:"event"`
	Package      string       `json:"package"`
	Check        string       `json:"check"`
	Item         string       `json:"item"`
	Type         string       `json:"type"`
	Arch         string       `json:"arch"`
	Variant      string       `json:"variant"` // of the formula's matrix, without the arch; "" for none
	Needs        []needMember `json:"needs"`   // executions that it comes after
	NeedsState   string       `json:"needs_state,omitempty"`
	Retries      *int         `json:"retries,omitempty"` // what the formula says, if it does
	State        string       `json:"state"`
	Verdict      string       `json:"verdict"` // "" until the state is "finished"
	Reason       string       `json:"reason"`
	Attempt      int          `json:"attempt"`
	Created      *time.Time   `json:"created,omitempty"`
	Started      *time.Time   `json:"started,omitempty"`
	Finished     *time.Time   `json:"finished,omitempty"`
	Checks       checksMember `json:"checks"`
	Source       commitMember `json:"source"`
	Target       commitMember `json:"target"`
	Context      string       `json:"status_context"`
	Builds       []string     `json:"builds"`
	LocalCommand string       `json:"local_command"`
}

type needMember struct {
	Check     string `json:"check"`
	Execution string `json:"execution"`
	Label     string `json:"label"` // "build/x86_64/python=3.12"
}

type checksMember struct {
	Repo   string `json:"repo"`
	Branch string `json:"branch"`
	Commit string `json:"commit"`
	Path   string `json:"path"`
}

type commitMember struct {
	Repo        string `json:"repo"`
	Commit      string `json:"commit"`
	PullRequest int    `json:"pull_request,omitempty"`
}

type stepMember struct {
	Attempt  int        `json:"attempt"`
	Number   int        `json:"number"`
	Name     string     `json:"name"`
	Started  *time.Time `json:"started,omitempty"`
	Finished *time.Time `json:"finished,omitempty"`
	Outcome  string     `json:"outcome"`
}

type resultMember struct {
	Checkname string              `json:"checkname"`
	Item      string              `json:"item"`
	Type      string              `json:"type"`
	Outcome   string              `json:"outcome"`
	Note      string              `json:"note"`
	Artifact  string              `json:"artifact"`
	Data      map[string][]string `json:"data"`
}

type artifactMember struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	URL  string `json:"url"`
}

func (s *server) executionJSON(r *http.Request) (response, error) {
	offset, err := resultOffset(r)
	if err != nil {
		return nil, err
	}
	f, err := s.facts(r.Context(), mux.Vars(r)["id"])
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(document(f, offset), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write execution %s as JSON: %v", f.ID, err)
	}
	return body{http.StatusOK, "application/json", "no-cache", append(data, '\n')}, nil
}

func document(f facts, offset int) executionDocument {
	e := f.Execution
	d := executionDocument{
		Version: apiVersion, Execution: executionFacts(e), ResultsTotal: len(f.Results), ResultsFrom: min(offset, len(f.Results)),
		Steps: []stepMember{}, Results: []resultMember{}, Artifacts: []artifactMember{}, Links: links(e),
	}
	for _, st := range f.Steps {
		d.Steps = append(d.Steps, stepMember{st.Attempt, st.Number, st.Name, known(st.Started), known(st.Finished), st.Outcome})
	}
	ordered := worstFirst(f.Results)
	for _, r := range ordered[d.ResultsFrom:min(d.ResultsFrom+perResults, len(ordered))] {
		d.Results = append(d.Results, resultMember{r.Checkname, r.Item, r.Type, string(r.Outcome), r.Note, r.Artifact, r.Data})
	}
	for _, a := range f.Artifacts {
		d.Artifacts = append(d.Artifacts, artifactMember{a.Path, a.Size, artifactURL(e.ID, a.Path)})
	}
	return d
}

func executionFacts(e assay.Execution) executionMember {
	m := executionMember{
		ID: e.ID, Event: e.EventID, Package: e.Package, Check: e.Check, Item: e.Item, Type: e.Type, Arch: e.Arch,
		State: string(e.State), Verdict: string(e.Verdict), Reason: e.Reason, Attempt: e.Attempt,
		Created: known(e.Created), Started: known(e.Started), Finished: known(e.Finished),
		Checks:  checksMember{showAddress(e.ChecksRepo).Text, e.ChecksBranch, e.ChecksCommit, e.Path},
		Source:  commitMember{Repo: showAddress(e.SourceRepo).Text, Commit: e.SourceCommit},
		Target:  commitMember{showAddress(e.Target.Repo).Text, e.Target.SHA, e.Target.PullRequest},
		Context: e.StatusContext(), Builds: []string{}, LocalCommand: localCommands(e),
		Variant: e.Variant, Needs: []needMember{}, NeedsState: string(e.NeedsState), Retries: e.Retries,
	}
	for _, n := range e.Needs {
		m.Needs = append(m.Needs, needMember(n))
	}
	for _, b := range e.Builds {
		m.Builds = append(m.Builds, showAddress(b).Text)
	}
	return m
}

func links(e assay.Execution) map[string]*string {
	page, log := executionURL(e.ID), executionURL(e.ID)+"/log.txt"
	all := map[string]*string{"page": &page, "log": nil}
	if e.Attempt > 0 {
		all["log"] = &log
	}
	return all
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

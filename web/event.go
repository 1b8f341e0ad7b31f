package web

import (
	"net/http"
	"strconv"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

const eventRows = 200 // executions shown of one event

// eventView says what a delivery was and what became of it.
type eventView struct {
	ID, Source, Delivery string
	What                 string // one line: what happened
	Kind                 string
	Received             moment
	Chip                 chip
	Outcome              string // one line: what became of it
	Repo                 address
	Ref                  string
	Before, Commit       commitView
	Pull                 int
	Untrusted            bool
	Author, Context      string
	Origin               string // in words, "" for an ordinary delivery
	Again                int    // how often it was delivered again
	Build                *buildView
	Tries                int
	Sent                 *deliveryView // nil without an inbox
	List                 listView
	More                 bool
}

type buildView struct {
	ID, NVR, Arch, Branch string
	Package, PackageURL   string
	Artifacts             []address
}

func (s *server) eventPage(r *http.Request) (response, error) {
	event, err := s.Store.Event(r.Context(), mux.Vars(r)["id"])
	if err != nil {
		return nil, err
	}
	made, err := s.Store.Executions(r.Context(), assay.ExecutionFilter{EventID: event.ID, Limit: eventRows + 1})
	if err != nil {
		return nil, err
	}
	view := s.eventView(event, made)
	if err := s.addDelivery(r.Context(), &view, event); err != nil {
		return nil, err
	}
	p := page{Template: "event", Section: "events", Title: "Event: " + view.What, Body: view}
	if event.State == assay.EventNew || unfinished(made) {
		p.Refresh = liveSeconds
	}
	return s.page(p), nil
}

func (s *server) eventView(event assay.EventRecord, made []assay.Execution) eventView {
	view := eventView{
		ID: plain(event.ID), Source: plain(event.Source), Delivery: plain(event.Delivery), Kind: plain(string(event.Kind)),
		What: what(event.Event), Received: s.moment(event.Received), Repo: showAddress(event.Repo), Ref: plain(event.Ref),
		Commit: showCommit(event.Repo, event.Commit, 0), Before: showCommit(event.Repo, event.Before, 0),
		Pull: event.PullRequest, Untrusted: untrusted(event.Event), Tries: event.Tries,
		Author: clip(plain(event.Author), 100), Context: clip(plain(event.Context), 200), Origin: originWords(event.Origin),
	}
	if len(made) > eventRows {
		made, view.More = made[:eventRows], true
	}
	view.List.Rows = s.rows(made)
	view.Chip, view.Outcome = becameOf(event, len(made))
	if b := event.Build; b != nil {
		view.Build, view.List.NoPackage = showBuild(*b), true
	}
	return view
}

// untrusted tells whether the forge says that the author may not write.
func untrusted(e assay.Event) bool {
	switch e.Kind {
	case assay.EventPullRequest, assay.EventComment, assay.EventRerun:
		return !e.Trusted
	}
	return false
}

func originWords(o assay.Origin) string {
	switch o {
	case assay.OriginDelivered:
		return ""
	case assay.OriginRecovered:
		return "it never arrived; the forge was asked for it"
	case assay.OriginWatched:
		return "there is no webhook; the repository was looked at"
	case assay.OriginReplayed:
		return "an operator had it done once more"
	}
	return clip(plain(string(o)), 40)
}

func what(e assay.Event) string {
	switch e.Kind {
	case assay.EventPush:
		return plain("A push to " + clip(e.Ref, 80) + " of " + clip(showAddress(e.Repo).Text, 120))
	case assay.EventPullRequest:
		return plain("A pull request to " + clip(showAddress(e.Repo).Text, 120))
	case assay.EventBuild:
		if e.Build != nil {
			return plain("A build of " + clip(e.Build.NVR(), 120))
		}
		return "A build"
	case assay.EventComment:
		return plain("A command on pull request " + strconv.Itoa(e.PullRequest) + " of " + clip(showAddress(e.Repo).Text, 120))
	case assay.EventRerun:
		if e.Context == "" {
			return plain("A request to run everything again on " + clip(showAddress(e.Repo).Text, 120))
		}
		return plain("A request to run " + clip(e.Context, 80) + " again on " + clip(showAddress(e.Repo).Text, 120))
	case assay.EventPing:
		return "A forge saying hello"
	}
	return "A delivery of an unknown kind"
}

// becameOf says in one line how far an event is, and why it led to nothing.
func becameOf(event assay.EventRecord, made int) (chip, string) {
	note := plain(event.Note)
	if note == "" {
		note = plain(event.Ignored)
	}
	switch event.State {
	case assay.EventNew:
		return chip{"queued", "new"}, "Stored; its checks are being looked up."
	case assay.EventPlanned:
		if made == 0 && note == "" {
			note = "There are no executions of it: no check asks for such an event, or they were too old to be kept."
		}
		return chip{"passed", "planned"}, note
	case assay.EventIgnored:
		if note == "" {
			note = "There was nothing to do."
		}
		return chip{"skipped", "ignored"}, note
	case assay.EventFailed:
		if note == "" {
			note = "The server's log has the reason."
		}
		return chip{"errored", "given up"}, note
	}
	return chip{"errored", clip(plain(string(event.State)), 18)}, note
}

func showBuild(b assay.Build) *buildView {
	view := &buildView{
		ID: plain(b.ID), NVR: plain(b.NVR()), Arch: plain(b.Arch), Branch: plain(b.Branch),
		Package: plain(b.Package), PackageURL: packageURL(b.Package),
	}
	for _, a := range b.Artifacts[:min(len(b.Artifacts), 50)] {
		view.Artifacts = append(view.Artifacts, showAddress(a))
	}
	return view
}

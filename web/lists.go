package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

const (
	perPage     = 50  // executions in one list
	gridHistory = 300 // executions that the grid of a package looks back on
	gridItems   = 8   // columns of the grid, all pages of it
	gridChecks  = 100 // rows of the grid
)

// listView is a list of executions with what pages on.
type listView struct {
	Rows          []row
	Older, Newest string // addresses, "" for none
	First         bool   // the newest executions are in the list
	NoPackage     bool   // all are of one package, which the page is about
}

// list reads one page of executions. Paging goes backwards in time only, by the
// last execution shown: new ones that come in meanwhile shift nothing.
func (s *server) list(r *http.Request, filter assay.ExecutionFilter, keep url.Values) (listView, []assay.Execution, error) {
	filter.Before = r.URL.Query().Get("before")
	filter.Limit = perPage + 1
	found, err := s.Store.Executions(r.Context(), filter)
	if err != nil {
		return listView{}, nil, err
	}
	view := listView{First: filter.Before == ""}
	if len(found) > perPage {
		found = found[:perPage]
		view.Older = withQuery(r.URL, keep, "before", found[perPage-1].ID)
	}
	if filter.Before != "" {
		view.Newest = withQuery(r.URL, keep, "", "")
	}
	view.Rows = s.rows(found)
	return view, found, nil
}

// withQuery is the address of the same page with other parameters.
func withQuery(u *url.URL, keep url.Values, name, value string) string {
	values := url.Values{}
	for k, v := range keep {
		values[k] = v
	}
	if name != "" {
		values.Set(name, value)
	}
	query := values.Encode()
	if query == "" {
		return u.EscapedPath()
	}
	return u.EscapedPath() + "?" + query
}

// frontView is the front page.
type frontView struct {
	listView
	Package  string
	Filters  []filterLink
	AnyURL   string // without the package filter
	Filtered bool
}

// filterLink is one choice of a filter.
type filterLink struct {
	Word, URL string
	Current   bool
}

func (s *server) front(r *http.Request) (response, error) {
	filter, err := frontFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	keep := url.Values{}
	if filter.Package != "" {
		keep.Set("package", filter.Package)
	}
	view := frontView{
		Package: plain(filter.Package), Filters: stateLinks(filter, keep),
		Filtered: filter.Package != "" || filter.State != "",
	}
	if filter.State != "" {
		keep.Set("state", string(filter.State))
		view.AnyURL = "/?state=" + url.QueryEscape(string(filter.State))
	} else {
		view.AnyURL = "/"
	}
	list, found, err := s.list(r, filter, keep)
	if err != nil {
		return nil, err
	}
	view.listView = list
	p := page{Template: "front", Title: "Executions", Section: "front", Body: view}
	if view.First && (len(found) == 0 || unfinished(found)) {
		p.Refresh = 10
	}
	return s.page(p), nil
}

func frontFilter(query url.Values) (assay.ExecutionFilter, error) {
	filter := assay.ExecutionFilter{Package: query.Get("package"), State: assay.State(query.Get("state"))}
	switch filter.State {
	case "", assay.StateQueued, assay.StateRunning, assay.StateFinished:
		return filter, nil
	}
	return filter, badRequest("state is queued, running or finished.")
}

func stateLinks(filter assay.ExecutionFilter, keep url.Values) []filterLink {
	var links []filterLink
	front := &url.URL{Path: "/"}
	for _, state := range []assay.State{"", assay.StateQueued, assay.StateRunning, assay.StateFinished} {
		link := filterLink{Word: string(state), Current: filter.State == state, URL: withQuery(front, keep, "state", string(state))}
		if state == "" {
			link.Word, link.URL = "all", withQuery(front, keep, "", "")
		}
		links = append(links, link)
	}
	return links
}

// packageView is one package's page.
type packageView struct {
	listView
	Name string
	Grid grid
}

func (s *server) packagePage(r *http.Request) (response, error) {
	name := mux.Vars(r)["name"]
	recent, err := s.Store.Executions(r.Context(), assay.ExecutionFilter{Package: name, Limit: gridHistory})
	if err != nil {
		return nil, err
	}
	if len(recent) == 0 {
		return s.message(messageView{Status: http.StatusNotFound, Heading: "Nothing has run for " + clip(plain(name), 100),
			Text: "No check has run for a package of this name. Its page begins with the first build of it, or the first push to its check repository."}), nil
	}
	list, _, err := s.list(r, assay.ExecutionFilter{Package: name}, nil)
	if err != nil {
		return nil, err
	}
	list.NoPackage = true
	p := page{Template: "package", Title: plain(name), Body: packageView{list, plain(name), makeGrid(name, recent)}}
	if list.First && unfinished(recent) {
		p.Refresh = 10
	}
	return s.page(p), nil
}

// grid is checks by items, newest item first, with the newest execution of each
// pair in the cell.
type grid struct {
	Items []gridItem
	Rows  []gridRow
	Cut   int // checks left out
}

type gridItem struct{ Full, Short string }

type gridRow struct {
	Check, Arch string
	Variant     string
	Cells       []gridCell // as many as there are items
}

type gridCell struct {
	Chip      chip
	URL, Item string // URL is "" where nothing ran
	Runs      int
}

// makeGrid lays out executions that come newest first.
func makeGrid(name string, executions []assay.Execution) grid {
	var g grid
	columns, rows, cut := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, e := range executions {
		if _, ok := columns[e.Item]; !ok && len(g.Items) < gridItems {
			columns[e.Item] = len(g.Items)
			g.Items = append(g.Items, gridItem{plain(e.Item), plain(shortItem(name, e.Item))})
		}
	}
	for _, e := range executions {
		column, ok := columns[e.Item]
		if !ok {
			continue
		}
		key := e.StatusContext()
		at, ok := rows[key]
		if !ok {
			if len(g.Rows) == gridChecks {
				cut[key] = true
				continue
			}
			at = len(g.Rows)
			rows[key] = at
			g.Rows = append(g.Rows, newGridRow(e, len(g.Items)))
		}
		fill(&g.Rows[at].Cells[column], e)
	}
	g.Cut = len(cut)
	return g
}

func newGridRow(e assay.Execution, items int) gridRow {
	row := gridRow{Check: plain(e.Check), Variant: plain(e.Variant), Cells: make([]gridCell, items)}
	if e.Arch != "" && e.Arch != "noarch" {
		row.Arch = plain(e.Arch)
	}
	return row
}

func fill(cell *gridCell, e assay.Execution) {
	cell.Runs++
	if cell.Runs == 1 {
		cell.Chip, cell.URL, cell.Item = executionChip(e), executionURL(e.ID), plain(e.Item)
	}
}

// shortItem leaves out what every item of a package begins with: of
// "hello-1.0-3.fc42" of rpms/hello only "1.0-3.fc42" differs from column to column.
func shortItem(name, item string) string {
	base := name[strings.LastIndexByte(name, '/')+1:]
	if repo, sha, ok := strings.Cut(item, "#"); ok && repo != "" && len(sha) >= 40 {
		return "#" + short(sha)
	}
	if rest, ok := strings.CutPrefix(item, base+"-"); ok && rest != "" {
		return clip(rest, 30)
	}
	return clip(item, 30)
}

package web

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

// logView is one page of a log.
type logView struct {
	row
	Attempt   int
	Attempts  []filterLink // when there were several
	Lines     template.HTML
	Empty     bool
	From, To  string // numbers of the first and last line shown
	Total     string
	Size      string
	Pages     int
	Page      int // from 1
	FirstURL  string
	PrevURL   string // "" on the first page
	NextURL   string // "" on the last page
	LastURL   string
	RawURL    string
	StepLinks []stepLink
	Live      bool
}

type stepLink struct {
	Number int
	Name   string
	URL    string
	Chip   chip
}

// logQuery is what the address of a log page asks for.
type logQuery struct {
	attempt int   // 0 for the newest
	line    int64 // the page is the one that has this line
	mark    int64 // line to mark, 0 for none
	end     bool  // the last page, whichever that is
}

func parseLogQuery(query url.Values) (logQuery, error) {
	q := logQuery{line: 1}
	if raw := query.Get("attempt"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 1 {
			return q, badRequest("attempt is a number, counted from 1.")
		}
		q.attempt = n
	}
	if query.Get("from") == "end" {
		q.end = true
		return q, nil
	}
	for _, name := range []string{"from", "line"} {
		raw := query.Get(name)
		if raw == "" {
			continue
		}
		n, err := strconv.ParseInt(raw, 10, 64)
		if err != nil || n < 1 {
			return q, badRequest(name + " is the number of a line, counted from 1.")
		}
		q.line = n
		if name == "line" {
			q.mark = n
		}
	}
	return q, nil
}

// openLog opens the log of one attempt with its index. The caller closes the file.
func (s *server) openLog(ctx context.Context, id string, attempt int) (*os.File, logScan, error) {
	f, err := s.Files.OpenLog(id, attempt)
	if err != nil {
		return nil, logScan{}, err
	}
	scan, err := s.indexes.of(ctx, id+"/"+strconv.Itoa(attempt), f)
	if err != nil {
		_ = f.Close() // opened for reading only
		return nil, logScan{}, err
	}
	return f, scan, nil
}

func (s *server) logPage(r *http.Request) (response, error) {
	query, err := parseLogQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	e, err := s.Store.Execution(r.Context(), mux.Vars(r)["id"])
	if err != nil {
		return nil, err
	}
	if query.attempt > e.Attempt {
		return nil, fmt.Errorf("cannot show attempt %d of %d: %w", query.attempt, e.Attempt, assay.ErrNotFound)
	}
	if query.attempt == 0 {
		query.attempt = e.Attempt
	}
	view, err := s.logView(r.Context(), e, query)
	if err != nil {
		return nil, err
	}
	p := page{Template: "log", Title: fmt.Sprintf("Log of %s on %s", view.Check, view.Item), Body: view}
	if view.Live && view.NextURL == "" {
		p.Refresh = liveSeconds
	}
	return s.page(p), nil
}

func (s *server) logView(ctx context.Context, e assay.Execution, query logQuery) (logView, error) {
	view := logView{
		row: s.row(e), Attempt: query.attempt, Empty: true,
		Live: e.State != assay.StateFinished && query.attempt == e.Attempt,
	}
	for n := 1; n <= min(e.Attempt, maxOldAttempt) && e.Attempt > 1; n++ {
		view.Attempts = append(view.Attempts, filterLink{strconv.Itoa(n), executionURL(e.ID) + "/log?attempt=" + strconv.Itoa(n), n == query.attempt})
	}
	if query.attempt == 0 {
		return view, nil
	}
	f, scan, err := s.openLog(ctx, e.ID, query.attempt)
	if missing(err) {
		return view, nil
	}
	if err != nil {
		return view, err
	}
	defer f.Close()
	if err := view.fill(f, scan, e, query); err != nil {
		return view, err
	}
	view.StepLinks, err = s.stepLinks(ctx, e, query.attempt, scan.steps)
	return view, err
}

func (v *logView) fill(f *os.File, scan logScan, e assay.Execution, query logQuery) error {
	at := scan.page(query.line)
	if query.end {
		at = len(scan.pages) - 1
	}
	rows, err := scan.rows(f, at)
	if err != nil || len(rows) == 0 {
		return err
	}
	v.Empty = false
	v.Lines = logHTML(rows, "", query.mark, logStart(f))
	v.From, v.To = count(rows[0].Number), count(rows[len(rows)-1].Number)
	v.Total, v.Size = count(scan.lines), size(scan.size)
	v.Page, v.Pages = at+1, len(scan.pages)
	address := func(page int) string {
		return logURL(e, query.attempt, "from", strconv.FormatInt(scan.pages[page].line, 10))
	}
	v.FirstURL, v.LastURL = address(0), logURL(e, query.attempt, "from", "end")
	if at > 0 {
		v.PrevURL = address(at - 1)
	}
	if at < len(scan.pages)-1 {
		v.NextURL = address(at + 1)
	}
	v.RawURL = executionURL(e.ID) + "/log.txt"
	if query.attempt != e.Attempt {
		v.RawURL += "?attempt=" + strconv.Itoa(query.attempt)
	}
	return nil
}

// logURL is a page of a log. The attempt is in it only when it is not the
// newest, so that a link to a log of one attempt is a short one.
func logURL(e assay.Execution, attempt int, name, value string) string {
	values := url.Values{name: {value}}
	if attempt != e.Attempt {
		values.Set("attempt", strconv.Itoa(attempt))
	}
	return executionURL(e.ID) + "/log?" + values.Encode()
}

// stepLinks lead to the steps of one attempt within its log.
func (s *server) stepLinks(ctx context.Context, e assay.Execution, attempt int, lines map[int]int64) ([]stepLink, error) {
	steps, err := s.Store.Steps(ctx, e.ID)
	if err != nil && !missing(err) {
		return nil, err
	}
	var links []stepLink
	for _, st := range steps {
		first, ok := lines[st.Number]
		if st.Attempt != attempt || st.Number == 0 || !ok || len(links) == maxTimeline {
			continue
		}
		line := strconv.FormatInt(first, 10)
		links = append(links, stepLink{
			Number: st.Number, Name: clip(plain(st.Name), 60), Chip: stepChip(st.Outcome),
			URL: logURL(e, attempt, "line", line) + "#L" + line,
		})
	}
	return links, nil
}

// rawLog is the log as the runner wrote it, as text that no browser runs.
func (s *server) rawLog(r *http.Request) (response, error) {
	query, err := parseLogQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	e, err := s.Store.Execution(r.Context(), mux.Vars(r)["id"])
	if err != nil {
		return nil, err
	}
	if query.attempt == 0 {
		query.attempt = e.Attempt
	}
	if query.attempt < 1 || query.attempt > e.Attempt {
		return nil, fmt.Errorf("cannot show attempt %d of %d: %w", query.attempt, e.Attempt, assay.ErrNotFound)
	}
	f, err := s.Files.OpenLog(e.ID, query.attempt)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // opened for reading only
		return nil, fmt.Errorf("cannot read the log: %v", err)
	}
	return guestFile{f, info.Size(), info.ModTime(), "text/plain; charset=utf-8", `inline; filename="log.txt"`}, nil
}

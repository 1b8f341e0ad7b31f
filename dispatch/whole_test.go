package dispatch

import (
	"testing"

	"github.com/assay-ci/assay"
)

func TestWholeStatus(t *testing.T) {
	row := func(check string, v assay.Verdict) commentRow {
		x := assay.Execution{ID: check, EventID: "e", Check: check, State: assay.StateFinished, Verdict: v}
		if v == "" {
			x.State = assay.StateRunning
		}
		return commentRow{x: x, page: page("executions", check)}
	}
	optional := func(r commentRow) commentRow { r.x.Optional = true; return r }
	waived := func(r commentRow) commentRow { r.waiver.Context = r.x.StatusContext(); return r }
	good, bad, crashed, errored, open := row("good", "passed"), row("bad", "failed"), row("crashed", "crashed"), row("errored", "errored"), row("open", "")
	unmet := func(r commentRow) commentRow { r.x.Verdict, r.x.NeedsState = "skipped", assay.NeedsUnmet; return r }
	tests := map[string]struct {
		rows  []commentRow
		state assay.StatusState
		text  string
		url   string
	}{
		"one good":               {[]commentRow{good}, "success", "the check passed", "events/e"},
		"two good":               {[]commentRow{good, row("skipped", "skipped")}, "success", "all 2 checks passed", "events/e"},
		"one bad":                {[]commentRow{good, bad}, "failure", "1 of 2 did not pass: bad", "executions/bad"},
		"bad and errored":        {[]commentRow{errored, bad, crashed}, "failure", "3 of 3 did not pass: bad, crashed, errored", "executions/errored"},
		"errored":                {[]commentRow{errored, good}, "error", "1 of 2 did not pass: errored", "executions/errored"},
		"open":                   {[]commentRow{open, good}, "pending", "1 of 2 still to come", "events/e"},
		"open and bad":           {[]commentRow{open, bad}, "pending", "1 of 2 still to come; 1 did not pass: bad", "executions/bad"},
		"optional is bad":        {[]commentRow{good, optional(bad)}, "success", "all required checks passed; not required: bad", "events/e"},
		"optional is open":       {[]commentRow{good, optional(open)}, "success", "all 2 checks passed", "events/e"},
		"waived":                 {[]commentRow{good, waived(bad)}, "success", "all 2 checks passed", "events/e"},
		"waived while it runs":   {[]commentRow{waived(open)}, "pending", "1 of 1 still to come", "events/e"},
		"skipped for its need":   {[]commentRow{bad, unmet(row("b", "skipped"))}, "failure", "2 of 2 did not pass: b, bad", "executions/bad"},
		"the need is optional":   {[]commentRow{optional(bad), unmet(row("b", "skipped"))}, "error", "1 of 2 did not pass: b", "executions/b"},
		"both are optional":      {[]commentRow{good, optional(bad), optional(unmet(row("b", "skipped")))}, "success", "all required checks passed; not required: b, bad", "events/e"},
		"one waived, one is bad": {[]commentRow{waived(bad), crashed}, "failure", "1 of 2 did not pass: crashed", "executions/crashed"},
	}
	for name, tt := range tests {
		got := wholeStatus(tt.rows, func(x assay.Execution) string { return page("events", x.EventID) })
		want := assay.Status{Context: "assay", State: tt.state, Description: tt.text, URL: "http://assay.example/" + tt.url}
		if got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
}

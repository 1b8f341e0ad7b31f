package assay

import "time"

// Decision is what an event comes to. It is written down as a whole or not at
// all.
type Decision struct {
	Note       string // one line: why nothing runs, or what was done; "" if the executions say it all
	Executions []Execution
	Cancel     []Cancellation
	Waivers    []Waiver
	Reports    []Report
}

// Nothing tells that nothing is to be done.
func (d Decision) Nothing() bool {
	return len(d.Executions)+len(d.Cancel)+len(d.Waivers)+len(d.Reports) == 0
}

// Cancellation ends an execution that nobody wants any more. One that has its
// verdict already keeps it, and owes nothing.
type Cancellation struct {
	Execution string
	Reason    string   // one line
	Reports   []Report // owed because of it
}

// Waiver is somebody's word that a check's verdict does not matter on a commit.
type Waiver struct {
	Commit  Commit
	Context string // of the check's status
	By      string // by the name that the forge gives them
	Reason  string // one line
	At      time.Time
}

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/assay-ci/assay"
)

// planRepos is a check repository and a package's own; it counts the looks at what
// changed.
type planRepos struct {
	changed []string
	err     error
	looks   []string
}

func (r *planRepos) Resolve(context.Context, string, []string) (string, string, error) {
	return "main", "c0ffee", nil
}
func (r *planRepos) Tree(context.Context, string, string) (fs.FS, error) { return nil, nil }
func (r *planRepos) FetchCommit(_ context.Context, address, commit, ref string) error {
	r.looks = append(r.looks, address+" "+commit+" "+ref)
	return r.err
}
func (r *planRepos) ChangedPaths(_ context.Context, _, before, after string) ([]string, error) {
	return r.changed, r.err
}

// wants is a check that runs for some kinds of event.
func wants(name string, needs []string, kinds ...assay.EventKind) Check {
	return Check{
		Path: name + "/runtask.yml", Dir: name, Name: name, Needs: needs, Wants: func(string) bool { return true },
		WantsEvent: func(kind assay.EventKind, itemType, branch string, changed []string) (bool, string) {
			if len(kinds) > 0 && !slices.Contains(kinds, kind) {
				return false, fmt.Sprintf("not for a %s of %s", kind, branch)
			}
			return true, ""
		},
	}
}

func planner(repos *planRepos, checks ...Check) *Planner {
	return &Planner{
		Repos: repos, Checks: func(fs.FS) ([]Check, error) { return checks, nil }, Log: zerolog.Nop(), Page: page,
		Packages: Packages{{Name: "rpms/hello", Checks: "/checks", Source: "/source"}},
	}
}

func push() assay.Event {
	return assay.Event{ID: "e", Kind: assay.EventPush, Repo: "/source", Ref: "refs/heads/f42", Before: "b4", Commit: "abc"}
}

func built() assay.Event {
	return assay.Event{ID: "e", Kind: assay.EventBuild, Commit: "abc", Build: &assay.Build{Package: "rpms/hello", Version: "1", Release: "2.fc42"}}
}

// planned is what an event comes to: the labels, with what each needs.
func planned(t *testing.T, p *Planner, e assay.Event) (assay.Decision, []string) {
	t.Helper()
	d, _, err := p.work(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return d, labels(d.Executions)
}

func labels(list []assay.Execution) []string {
	byID := map[string]assay.Execution{}
	for _, x := range list {
		byID[x.ID] = x
	}
	var out []string
	for _, x := range list {
		text := x.Label()
		for _, need := range x.Needs {
			needed, here := byID[need.Execution]
			text += " <" + need.Label
			if here && needed.Label() != need.Label || !here {
				text += "=" + need.Execution
			}
		}
		out = append(out, text)
	}
	return out
}

func TestEventsThatFormulasWant(t *testing.T) {
	all := []Check{
		wants("always", nil), wants("pushes", nil, assay.EventPush), wants("builds", nil, assay.EventBuild),
		wants("lonely", []string{"builds"}), wants("lonelier", []string{"lonely"}),
		{Path: "bad/runtask.yml", Name: "bad/runtask.yml", Err: errors.New("cannot read it")},
	}
	d, got := planned(t, planner(&planRepos{}, all...), push())
	if want := []string{"always", "pushes", "bad/runtask.yml"}; !slices.Equal(got, want) {
		t.Errorf("a push runs %v, want %v", got, want)
	}
	for _, want := range []string{"builds: not for a push of f42", "lonely: needs builds, which is not run", "lonelier: needs lonely, which is not run"} {
		if !strings.Contains(d.Note, want) {
			t.Errorf("the note %q lacks %q", d.Note, want)
		}
	}
	if d, got := planned(t, planner(&planRepos{}, all...), built()); len(got) != 5 || !strings.Contains(d.Note, "pushes: not for a build of f42") {
		t.Errorf("a build runs %v (%s)", got, d.Note)
	}
	d, got = planned(t, planner(&planRepos{}, all[2]), push())
	if len(got) > 0 || !d.Nothing() || !strings.Contains(d.Note, "none of the 1 checks of rpms/hello on branch main wants a dist_git_commit: builds: not for") {
		t.Errorf("a push that nobody wants runs %v: %s", got, d.Note)
	}
}

func TestChangedFilesAreLookedUpWhenAsked(t *testing.T) {
	var given [][]string
	asking := wants("asks", nil)
	asking.ByPaths = true
	asking.WantsEvent = func(_ assay.EventKind, _, _ string, changed []string) (bool, string) {
		given = append(given, changed)
		return true, ""
	}
	pull := push()
	pull.Kind, pull.PullRequest, pull.Trusted, pull.Ref = assay.EventPullRequest, 7, true, "refs/heads/main"
	fresh := push()
	fresh.Before = strings.Repeat("0", 40)
	for name, tt := range map[string]struct {
		check Check
		event assay.Event
		repos planRepos
		given []string // nil for unknown
		look  string
	}{
		"nobody asks":        {check: wants("a", nil), event: push()},
		"a push":             {check: asking, event: push(), repos: planRepos{changed: []string{"x"}}, given: []string{"x"}, look: "/source abc refs/heads/f42"},
		"an empty push":      {check: asking, event: push(), given: []string{}, look: "/source abc refs/heads/f42"},
		"a pull request":     {check: asking, event: pull, repos: planRepos{changed: []string{"x"}}, given: []string{"x"}, look: "/source abc refs/pull/7/head"},
		"a new branch":       {check: asking, event: fresh},
		"a build":            {check: asking, event: built()},
		"it cannot be asked": {check: asking, event: push(), repos: planRepos{err: errors.New("no route")}, look: "/source abc refs/heads/f42"},
	} {
		given = nil
		planned(t, planner(&tt.repos, tt.check), tt.event)
		if tt.check.ByPaths && (len(given) != 1 || (given[0] == nil) != (tt.given == nil) || !slices.Equal(given[0], tt.given)) {
			t.Errorf("%s: it is given %#v, want %#v", name, given, tt.given)
		}
		if got := strings.Join(tt.repos.looks, ","); got != tt.look {
			t.Errorf("%s: looked at %q, want %q", name, got, tt.look)
		}
	}
}

func TestVariantsAndWhatTheyNeed(t *testing.T) {
	arches := []Variant{{Arch: "x86_64"}, {Arch: "aarch64"}}
	pythons := []Variant{{Name: "python=3.12", Arch: "x86_64"}, {Name: "python=3.13", Arch: "aarch64"}}
	with := func(c Check, v []Variant) Check { c.Variants = v; return c }
	three := 3
	tried := wants("tried", nil)
	tried.Retries = &three
	for name, tt := range map[string]struct {
		checks []Check
		want   []string
	}{
		"one of each":          {[]Check{wants("a", nil), wants("b", []string{"a"})}, []string{"a", "b <a"}},
		"in the other order":   {[]Check{wants("b", []string{"a"}), wants("a", nil)}, []string{"b <a", "a"}},
		"the same variant":     {[]Check{with(wants("a", nil), pythons), with(wants("b", []string{"a"}), pythons)}, []string{"a/x86_64/python=3.12", "a/aarch64/python=3.13", "b/x86_64/python=3.12 <a/x86_64/python=3.12", "b/aarch64/python=3.13 <a/aarch64/python=3.13"}},
		"the same arch":        {[]Check{with(wants("a", nil), arches), with(wants("b", []string{"a"}), pythons)}, []string{"a/x86_64", "a/aarch64", "b/x86_64/python=3.12 <a/x86_64", "b/aarch64/python=3.13 <a/aarch64"}},
		"all":                  {[]Check{with(wants("a", nil), pythons), wants("b", []string{"a"})}, []string{"a/x86_64/python=3.12", "a/aarch64/python=3.13", "b <a/x86_64/python=3.12 <a/aarch64/python=3.13"}},
		"one without variants": {[]Check{wants("a", nil), with(wants("b", []string{"a"}), pythons)}, []string{"a", "b/x86_64/python=3.12 <a", "b/aarch64/python=3.13 <a"}},
		"two, one after other": {[]Check{wants("c", []string{"a", "b"}), wants("b", []string{"a"}), wants("a", nil)}, []string{"c <a <b", "b <a", "a"}},
	} {
		if _, got := planned(t, planner(&planRepos{}, tt.checks...), push()); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tt.want)
		}
	}
	d, _ := planned(t, planner(&planRepos{}, tried), push())
	if x := d.Executions[0]; x.Retries == nil || *x.Retries != 3 || !x.Trusted {
		t.Errorf("planned as %+v", x)
	}
}

func TestWhoIsTrustedWithSecrets(t *testing.T) {
	for name, tt := range map[string]struct {
		event assay.Event
		want  bool
	}{
		"a push":                  {push(), true},
		"a build":                 {built(), true},
		"a maintainer's":          {assay.Event{Kind: assay.EventPullRequest, Trusted: true}, true},
		"an outsider's":           {assay.Event{Kind: assay.EventPullRequest}, false},
		"a comment by itself":     {assay.Event{Kind: assay.EventComment, Trusted: true}, false},
		"a button on a page's is": {assay.Event{Kind: assay.EventRerun, Trusted: true}, false},
	} {
		if got := vouched(tt.event); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOnlySomeOfThemAreRun(t *testing.T) {
	a, b, c, d := assay.Execution{ID: "a"}, assay.Execution{ID: "b", Needs: []assay.Need{{Execution: "a"}}}, assay.Execution{ID: "c", Needs: []assay.Need{{Execution: "b"}}}, assay.Execution{ID: "d"}
	for wanted, want := range map[string]string{"a": "a", "b": "ab", "c": "abc", "d": "d", "": ""} {
		got := ""
		for _, x := range keepNeeded([]assay.Execution{c, b, a, d}, func(x assay.Execution) bool { return x.ID == wanted }) {
			got = x.ID + got
		}
		if got != want {
			t.Errorf("of %q runs %q, want %q", wanted, got, want)
		}
	}
}

// ended is an execution with a verdict.
func ended(id, check string, v assay.Verdict, needs ...assay.Execution) assay.Execution {
	x := assay.Execution{ID: id, EventID: "old", Check: check, State: assay.StateFinished, Verdict: v, Attempt: 1, Trusted: true}
	for _, n := range needs {
		x.Needs = append(x.Needs, assay.Need{Check: n.Check, Execution: n.ID, Label: n.Label()})
	}
	if v == assay.VerdictSkipped && len(needs) > 0 {
		x.NeedsState = assay.NeedsUnmet
	}
	return x
}

func TestRunningAgain(t *testing.T) {
	a, good := ended("a1", "a", "failed"), ended("good1", "good", "passed")
	b := ended("b1", "b", "skipped", a, good)
	c := ended("c1", "c", "skipped", b)
	d := ended("d1", "d", "failed", good)
	failed := func(x assay.Execution) bool { return x.Status() != assay.StatusSuccess }
	only := func(check string) func(assay.Execution) bool {
		return func(x assay.Execution) bool { return x.Check == check }
	}
	running := ended("a2", "a", "")
	running.State = assay.StateRunning
	newer := ended("good2", "good", "passed")
	history := []assay.Execution{d, c, b, a, good} // newest first
	for name, tt := range map[string]struct {
		all    []assay.Execution
		wanted func(assay.Execution) bool
		want   []string
	}{
		"what failed":                  {history, failed, []string{"a", "b <a <good=good1", "c <b", "d <good=good1"}},
		"what others were waiting for": {history, only("a"), []string{"a", "b <a <good=good1", "c <b"}},
		"what waited":                  {history, only("c"), []string{"a", "b <a <good=good1", "c <b"}},
		"what nobody waits for":        {history, only("good"), []string{"good"}},
		"after what is good":           {history, only("d"), []string{"d <good=good1"}},
		"after what was good since":    {append([]assay.Execution{newer}, history...), only("d"), []string{"d <good=good2"}},
		"while what it needs runs":     {append([]assay.Execution{running}, history...), only("b"), []string{"b <a=a2 <good=good1", "c <b"}},
		"long ago":                     {[]assay.Execution{d}, only("d"), []string{"d <good=good1"}},
		"nothing":                      {history, only("x"), nil},
	} {
		list := repeat(tt.all, "new", tt.wanted)
		if got := labels(list); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tt.want)
		}
		for _, x := range list {
			if x.EventID != "new" || x.State != assay.StateQueued || x.Verdict != "" || x.Attempt != 0 || x.NeedsState != "" || !x.Trusted {
				t.Errorf("%s: %+v", name, x)
			}
		}
	}
	if b.Needs[0].Execution != "a1" {
		t.Error("the old execution was changed")
	}
}

func TestTrialOfWhatAChangedCheckNeeds(t *testing.T) {
	checks := []Check{wants("a", nil), wants("b", []string{"a"}), wants("c", []string{"b"}), wants("d", nil)}
	for changed, want := range map[string]string{"a": "a", "b": "a b", "c": "a b c", "d": "d"} {
		var got []string
		for _, c := range withNeeded(checks, func(c Check) bool { return c.Name == changed }) {
			got = append(got, c.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("a change of %s tries %v, want %s", changed, got, want)
		}
	}
}

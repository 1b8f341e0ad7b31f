package checks

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

// mustParse reads a formula of which head and actions are given.
func mustParse(t *testing.T, head, actions string) *Formula {
	t.Helper()
	f, err := Parse("greets/runtask.yml", []byte("name: greets\ndesc: one\nmaintainer: releng\n"+head+"actions:\n"+actions))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPlanLeavesTheVariablesAlone(t *testing.T) {
	f := mustParse(t, "namespace: pkg\ntimeout: 90s\ninput: {args: [koji_build]}\n", "  - {name: a, shell: 'echo $koji_build $checkname'}\n")
	vars := assay.Vars{"item": "x-1-1", "type": "koji_build"}
	plan, err := f.Plan(vars)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(assay.Vars{"item": "x-1-1", "type": "koji_build"}, vars); diff != "" {
		t.Errorf("Plan changed the variables it was given: %s", diff)
	}
	if plan.Check != "pkg.greets" || plan.Timeout != 90*time.Second || len(plan.Steps) != 1 {
		t.Errorf("plan %+v", plan)
	}
	act, err := plan.Steps[0].Resolve(nil)
	if err != nil || act.Commands[0].Shell != "echo x-1-1 pkg.greets" {
		t.Errorf("with the plan's own variables: %+v, %v", act, err)
	}
	act, err = plan.Steps[0].Resolve(assay.Vars{"koji_build": "later"})
	if err != nil || act.Commands[0].Shell != "echo later pkg.greets" {
		t.Errorf("with a variable of the moment: %+v, %v", act, err)
	}
}

func TestPlanWantsTheArguments(t *testing.T) {
	tests := []struct {
		args string
		vars assay.Vars
		want string // in the error; "" for none
	}{
		{"[koji_build]", nil, "its argument koji_build is not given: give it with -i ITEM -t koji_build"},
		{"[koji_build]", assay.Vars{"item": "", "type": "koji_build"}, "koji_build is not given"},
		{"[koji_build]", assay.Vars{"item": "x", "type": ""}, "koji_build is not given"},
		{"[koji_build]", assay.Vars{"item": "x", "type": "compose"}, "koji_build is not given"},
		{"[koji_build]", assay.Vars{"koji_build": "x"}, ""},
		{"[bodhi_id]", assay.Vars{"item": "x", "type": "bodhi_update"}, ""},
		{"[bodhi_id]", nil, "give it with -i ITEM -t bodhi_update"},
		{"[koji_build, compose, arch]", assay.Vars{"item": "x", "type": "compose", "arch": "noarch"}, ""},
		{"[koji_build, compose]", assay.Vars{"item": "x", "type": "git_commit"}, "its argument koji_build or compose is not given"},
		{"[arch]", assay.Vars{"arch": ""}, "give it with -a ARCH"},
		{"[item, type]", assay.Vars{"type": "x"}, "its argument item is not given: give it with -i ITEM -t TYPE"},
		{"[workdir, artifactsdir]", nil, ""},
	}
	for _, tt := range tests {
		_, err := mustParse(t, "input: {args: "+tt.args+"}\n", "  - {name: a, shell: [x]}\n").Plan(tt.vars)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("args %s with %v: %v; want %q", tt.args, tt.vars, err, tt.want)
		}
	}
}

func TestResolveIsSafeFromSeveralGoroutines(t *testing.T) {
	f := mustParse(t, "", "  - name: a\n    python: {file: a.py, callable: f, x: ['${item}', {'$arch': 1}]}\n")
	plan, err := f.Plan(runVars())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			act, err := plan.Steps[0].Resolve(runVars())
			if want := `{"x":["gzip-1.13-3.fc42",{"x86_64":1}]}`; err != nil || string(act.Commands[0].Stdin) != want {
				t.Errorf("%s, %v", act.Commands[0].Stdin, err)
			}
		})
	}
	wg.Wait()
}

func TestResolveErrorsBeginWithThePosition(t *testing.T) {
	f := mustParse(t, "", "  - {name: a, shell: 'echo $sources'}\n")
	plan, err := f.Plan(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = plan.Steps[0].Resolve(nil)
	if want := "greets/runtask.yml:5:5: cannot find a value for ${sources}: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v; want %s…", err, want)
	}
}

// Variables that multiply must not fill the memory.
func TestResolveIsBounded(t *testing.T) {
	many := strings.Repeat("${item}", 1000)
	big := strings.Repeat("x", 64<<10)
	nested := any(big)
	for range 10 {
		nested = []any{nested, nested, nested, nested}
	}
	for name, tt := range map[string]struct {
		action string
		value  any
	}{
		"text":        {"{name: a, shell: 'echo " + many + "'}", big},
		"words":       {"{name: a, shell: [[echo, '" + many + "']]}", big},
		"objects":     {"{name: a, python: {file: a.py, callable: f, x: [\"${item}\"] }}", nested},
		"results":     {"{name: a, resultsdb: {results: '${item}'}}", nested},
		"dummy":       {"{name: a, dummy: {result: x, msg: '" + many + "'}}", big},
		"keys":        {"{name: a, python: {file: a.py, callable: f, ? '" + many + "' : 1}}", big},
		"inline text": {"{name: a, resultsdb: {results: \"results: [{note: '" + many + "'}]\" }}", big},
	} {
		plan, err := mustParse(t, "", "  - "+tt.action+"\n").Plan(runVars())
		if err != nil {
			t.Fatal(err)
		}
		vars := runVars()
		vars["item"] = tt.value
		if _, err := plan.Steps[0].Resolve(vars); err == nil || !strings.Contains(err.Error(), "grow beyond 16 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWants(t *testing.T) {
	for args, want := range map[string]string{
		"[koji_build]":           "koji_build",
		"[koji_build, arch]":     "koji_build",
		"[pull_request, module]": "pull_request module module_build",
		"[bodhi_id]":             "bodhi_id bodhi_update",
		"[arch]":                 "everything",
		"[]":                     "everything",
	} {
		f := mustParse(t, "input: {args: "+args+"}\n", "  - {name: a, shell: [x]}\n")
		for _, typ := range append(itemTypes(), "a-type-of-next-year") {
			wants := want == "everything" || strings.Contains(" "+want+" ", " "+typ+" ")
			if f.Wants(typ) != wants {
				t.Errorf("args %s: Wants(%s) = %v", args, typ, !wants)
			}
		}
	}
}

package dispatch

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
)

func TestParseCommands(t *testing.T) {
	tests := map[string][]command{
		"":                                 nil,
		"thanks, /assay is great":          nil,
		"> /assay cancel":                  nil,
		"/assayer run":                     nil,
		"/assay":                           {{verb: "help"}},
		"/assay help\r\n":                  {{verb: "help"}},
		"  /assay RUN":                     {{verb: "run", checks: []string{}}},
		"/assay run a pkg.b":               {{verb: "run", checks: []string{"a", "pkg.b"}}},
		"/assay rerun":                     {{verb: "rerun", checks: []string{}}},
		"/assay rerun failed":              {{verb: "rerun", failed: true, checks: []string{}}},
		"/assay rerun failed a":            {{verb: "rerun", failed: true, checks: []string{"a"}}},
		"/assay rerun assay/a/x86_64":      {{verb: "rerun", checks: []string{"assay/a/x86_64"}}},
		"fine now\n\n/assay ok\nthank you": {{verb: "ok"}},
		"/assay waive a known, see #7":     {{verb: "waive", checks: []string{"a"}, reason: "known, see #7"}},
		"/assay cancel\n/assay run":        {{verb: "cancel"}, {verb: "run", checks: []string{}}},
	}
	for text, want := range tests {
		if got, err := parseCommands(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"/assay destroy":                          "destroy is no command",
		"/assay waive":                            "wants a check and a reason",
		"/assay waive a":                          "wants a check and a reason",
		"/assay ok then":                          "takes no words",
		"/assay run\n/assay x":                    "x is no command",
		strings.Repeat("/assay run\n", 30):        "more than 20 commands",
		"/assay run " + strings.Repeat("a ", 200): "a line more than 100 words",
	} {
		if got, err := parseCommands(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %+v, %v", text, got, err)
		}
	}
}

func TestCommandNames(t *testing.T) {
	for _, tt := range []struct {
		words []string
		want  bool
	}{
		{nil, true},
		{[]string{"greets"}, true},
		{[]string{"pkg.greets"}, true},
		{[]string{"reets"}, false},
		{[]string{"a", "pkg.greets"}, true},
		{[]string{"assay/pkg.greets/x86_64/python=3.12"}, true},
		{[]string{"pkg.greets/x86_64/python=3.12"}, true},
		{[]string{"pkg.greets/x86_64"}, false},
		{[]string{"assay/pkg.greets/x86_64/python=3.13"}, false},
	} {
		x := assay.Execution{Check: "pkg.greets", Arch: "x86_64", Variant: "python=3.12"}
		if got := (command{checks: tt.words}).names(x); got != tt.want {
			t.Errorf("%v: %v", tt.words, got)
		}
	}
}

func FuzzParseCommands(f *testing.F) {
	f.Add("/assay run a b\n/assay waive x y z")
	f.Add("/assay\x00 rerun failed")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseCommands(text)
		if err != nil && (list != nil || strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 500) {
			t.Errorf("%v, %q", list, err)
		}
		if len(list) > maxCommands {
			t.Errorf("%d commands", len(list))
		}
	})
}

func TestRunning(t *testing.T) {
	var r Running
	r.Stop("nobody")
	a, doneA := r.enter(t.Context(), "a")
	b, doneB := r.enter(t.Context(), "b")
	defer doneB()
	r.Stop("a")
	r.Stop("c")
	<-a.Done()
	if !errors.Is(context.Cause(a), errStopped) || b.Err() != nil {
		t.Errorf("a: %v, b: %v", context.Cause(a), b.Err())
	}
	doneA()
	r.Stop("a")
}

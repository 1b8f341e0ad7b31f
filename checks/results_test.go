package checks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-ci/assay"
)

func TestParseResults(t *testing.T) {
	tests := []struct {
		name, yaml string
		want       []assay.Result
	}{
		{"nothing", "results:\n", []assay.Result{}},
		{"null", "results: null", []assay.Result{}},
		{"empty list", "results: []", []assay.Result{}},
		{"other keys beside results", "version: 1\nresults: []", []assay.Result{}},
		{
			"every key", `
results:
  - item: gzip-1.13-3.fc42
    type: koji_build
    checkname: dist.rpmlint
    outcome: passed
    note: |
      two
      lines
    artifact: output/gzip.log
    arch: x86_64
    release: 1.10
    tested: yes
    builds: [a, 1, true]
    empty:
    none: []
    _internal: {resultsdb_result_id: 1}
    results: ignored
`,
			[]assay.Result{{
				Item: "gzip-1.13-3.fc42", Type: "koji_build", Checkname: "dist.rpmlint", Outcome: assay.Passed,
				Note: "two\nlines\n", Artifact: "output/gzip.log",
				Data: map[string][]string{
					"arch": {"x86_64"}, "release": {"1.10"}, "tested": {"yes"}, "builds": {"a", "1", "true"}, "none": {},
				},
			}},
		},
		{"no outcome", "results: [{item: x}]", []assay.Result{{Item: "x", Outcome: assay.NeedsInspection}}},
		{"empty outcome", "results: [{outcome: }, {outcome: ' '}]", []assay.Result{{Outcome: assay.NeedsInspection}, {Outcome: assay.NeedsInspection}}},
		{"any case", "results: [{outcome: ' Needs_Inspection '}]", []assay.Result{{Outcome: assay.NeedsInspection}}},
		{"numbers and booleans as text", "results: [{item: 7, note: true}]", []assay.Result{{Item: "7", Note: "true", Outcome: assay.NeedsInspection}}},
		{"JSON", `{"results":[{"item":"x","outcome":"INFO","note":"\u0085\u007f"}]}`, []assay.Result{{Item: "x", Outcome: assay.Info, Note: "\u0085\u007f"}}},
		{"written by Python 2", "results:\n- {item: !!python/unicode 'x', outcome: !!python/str PASSED}", []assay.Result{{Item: "x", Outcome: assay.Passed}}},
		{"aliases", "results:\n- &a {item: x}\n- *a", []assay.Result{{Item: "x", Outcome: assay.NeedsInspection}, {Item: "x", Outcome: assay.NeedsInspection}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseResults([]byte(tt.yaml))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseResultsRefuses(t *testing.T) {
	long := strings.Repeat("x", maxResultText+1)
	var keys strings.Builder
	for i := range maxDataKeys + 1 {
		fmt.Fprintf(&keys, ", k%d: v", i)
	}
	tests := []struct{ name, yaml, want string }{
		{"nothing at all", "", "results from nothing"},
		{"only a comment", "# x\n", "results from nothing"},
		{"too large", strings.Repeat(" ", MaxResultsSize+1), "larger than 8 MiB"},
		{"no mapping", "- a\n", "line 1: cannot read a list"},
		{"text", "PASSED", "line 1: cannot read a text"},
		{"no results", "result:\n  - item: x\n", `not "result"`},
		{"no results, nothing like it", "a: b\n", "line 1: cannot find the key results"},
		{"results a mapping", "results:\n  item: x\n", "line 2: cannot read a mapping as the list"},
		{"results a text", "results: PASSED\n", "line 1: cannot read a text as the list"},
		{"result a text", "results:\n  - PASSED\n", "line 2: cannot read a text as a result"},
		{"unknown outcome", "results:\n  - item: x\n    outcome: GOOD\n", `line 3: cannot use the outcome "GOOD": write one of PASSED, INFO, FAILED, NEEDS_INSPECTION, ABORTED, CRASHED`},
		{"outcome a list", "results: [{outcome: [PASSED]}]", `cannot read a list as "outcome"`},
		{"item a mapping", "results: [{item: {a: b}}]", `cannot read a mapping as "item"`},
		{"item of two lines", `results: [{item: "a\nb"}]`, "one plain line"},
		{"item too long", "results: [{item: " + long + "}]", "more than 8192 bytes"},
		{"note too long", "results: [{note: " + strings.Repeat(long, 9) + "}]", "more than 65536 bytes"},
		{"zero byte", `results: [{note: "a\0b"}]`, "zero byte"},
		{"terminal codes in an artifact", `results: [{artifact: "\e[31m"}]`, "one plain line"},
		{"nested value", "results: [{a: {b: c}}]", `cannot read a mapping as "a"`},
		{"nested list", "results: [{a: [[b]]}]", `cannot read a list as "a"`},
		{"colon in a key", "results: [{'a:b': c}]", "with a colon"},
		{"control character in a key", `results: [{"a\nb": c}]`, "one line of 1"},
		{"empty key", "results: [{'': c}]", "one line of 1"},
		{"long key", "results: [{" + long[:300] + ": c}]", "one line of 1 to 200 bytes"},
		{"many keys", "results: [{item: x" + keys.String() + "}]", "more than 100 keys"},
		{"many values", "results: [{a: [" + strings.Repeat("b,", maxDataValues+1) + "]}]", "more than 1000 values"},
		{"many results", "results: [" + strings.Repeat("{},", MaxResults+1) + "]", "more than 100000 results"},
		{"duplicate key", "results:\n  - item: x\n    item: y\n", "line 3: cannot use the key \"item\" twice"},
		{"two documents", "results:\n---\nresults:\n", "line 2: cannot read more than one"},
		{"bad YAML", "results:\n  - item: x\n    note: 'a\n", "line 3: cannot find the end of the quoted text"},
		{"binary", "results:\n\x00", "line 2: cannot read this file as text"},
		{"not UTF-8", "results:\n  - note: \xff", "line 2: cannot read this file as text"},
		{"tag", "results: !!python/object:x []", "cannot use the YAML tag"},
		{"alias of itself", "results: &a [*a]", "nested more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseResults([]byte(tt.yaml))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %d results, error %v; want %q", len(got), err, tt.want)
			}
			checkMessage(t, err.Error())
		})
	}
}

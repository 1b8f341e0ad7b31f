package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-ci/assay/checks"
)

// A report has what SARIF 2.1.0 demands, and nothing that it does not know.
func TestSARIF(t *testing.T) {
	found := checks.Mistakes{
		{File: "a b/ü#.yml", Line: 3, Col: 7, Message: `cannot use the key "x" in a formula: write name`},
		{File: "/abs/runtask.yml", Line: 1, Col: 1, Message: "task is the older spelling of actions: write actions", Warning: true},
	}
	data, err := json.Marshal(sarif(found))
	if err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&log); err != nil || log.Version != "2.1.0" || len(log.Runs) != 1 {
		t.Fatalf("%v: %s", err, data)
	}
	run := log.Runs[0]
	rules := run.Tool.Driver.Rules
	for i, want := range []struct{ uri, rule, level string }{
		{"a%20b/%C3%BC%23.yml", "unknown-key", "error"}, {"file:///abs/runtask.yml", "deprecated", "warning"},
	} {
		r := run.Results[i]
		place := r.Locations[0].Physical
		if place.Artifact.URI != want.uri || r.RuleID != want.rule || r.Level != want.level || rules[r.RuleIndex].ID != want.rule ||
			r.Message.Text != found[i].Message || place.Region != (sarifRegion{found[i].Line, found[i].Col}) {
			t.Errorf("%+v", r)
		}
		if _, err := url.Parse(place.Artifact.URI); err != nil {
			t.Error(err)
		}
	}
	none, err := json.Marshal(sarif(nil))
	if err != nil || !bytes.Contains(none, []byte(`"results":[]`)) {
		t.Errorf("without mistakes: %v %s", err, none)
	}
}

// A file keeps its mode, and nothing is left beside it.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "runtask.yml")
	if err := os.WriteFile(file, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(file, []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil || string(data) != "new" || info.Mode().Perm() != 0o640 {
		t.Errorf("%q %v %v %v", data, info, err, statErr)
	}
	if err := replaceFile(filepath.Join(dir, "none", "runtask.yml"), nil, 0o600); err == nil {
		t.Error("a directory that is not there")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

// What a name or a package may hold never breaks the YAML around it.
func TestStarterQuotes(t *testing.T) {
	for in, want := range map[string]string{"greets": "greets", "1.10": `"1.10"`, "yes": `"yes"`, "a: b": `"a: b"`, "": `""`, "x #y": `"x #y"`} {
		if got := yamlLine("", in); got != want {
			t.Errorf("%q is written %s, want %s", in, got, want)
		}
	}
	if got := shellWord("it's here"); got != `'it'\''s here'` {
		t.Error(got)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// The directory of --results-dir holds, for each execution:
//
//	results.yml     what the check reported, in the format in which it did (COMPAT.md, ResultYAML)
//	results.json    a runDocument
//	log.txt         the log, as the server keeps it
//	task_vars.json  the variables that the formula was given
//	artifacts/      what the check left

// runVersion is the version of results.json. New members may come without a new one.
const runVersion = 1

// runDocument is results.json. Its members are named as those of a server's
// /executions/ID.json.
type runDocument struct {
	Version   int           `json:"version"`
	ID        string        `json:"id"`
	Check     string        `json:"check"`
	Variant   string        `json:"variant"`
	Item      string        `json:"item"`
	Type      string        `json:"type"`
	Arch      string        `json:"arch"`
	Verdict   assay.Verdict `json:"verdict"`
	Reason    string        `json:"reason"`
	ExitCode  int           `json:"exit_code"` // of assay run
	Took      float64       `json:"took"`      // seconds
	Steps     []runStep     `json:"steps"`
	Results   []runResult   `json:"results"`
	Artifacts []runArtifact `json:"artifacts"`
}

type runStep struct {
	Number   int       `json:"number"` // 0 for what is done around the formula's steps
	Name     string    `json:"name"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Outcome  string    `json:"outcome"`
}

type runResult struct {
	Item      string              `json:"item"`
	Type      string              `json:"type"`
	Checkname string              `json:"checkname"`
	Outcome   assay.Outcome       `json:"outcome"`
	Note      string              `json:"note"`
	Artifact  string              `json:"artifact"`
	Data      map[string][]string `json:"data"`
}

type runArtifact struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// placeName is an execution's directory below --results-dir, when there are
// several: the check's name, and the variant's made harmless.
func placeName(it errand) string {
	name := it.formula.Checkname()
	if label := it.label(); label != "" {
		name += "-" + label
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("/\\\x00 \t\n", r) {
			return '_'
		}
		return r
	}, name)
}

// writeResults fills the directory of --results-dir, but for the log and the
// artifacts, which lie there already.
func (a *attempt) writeResults() error {
	if a.results == "" {
		return nil
	}
	reported, err := resultYAML(a.conclusion.Results)
	if err == nil {
		err = os.WriteFile(filepath.Join(a.results, "results.yml"), reported, 0o644)
	}
	for name, value := range map[string]any{"results.json": a.document(), "task_vars.json": a.vars} {
		if err == nil {
			err = writeJSONFile(filepath.Join(a.results, name), value)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot write the results: %w", err)
	}
	return nil
}

func writeJSONFile(file string, value any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func (a *attempt) document() runDocument {
	x, c := a.execution, a.conclusion
	d := runDocument{
		Version: runVersion, ID: x.ID, Check: x.Check, Variant: x.Variant, Item: x.Item, Type: x.Type, Arch: x.Arch,
		Verdict: c.Verdict, Reason: c.Reason, ExitCode: exitCode(c.Verdict), Took: a.took().Seconds(),
		Steps: []runStep{}, Results: []runResult{}, Artifacts: []runArtifact{},
	}
	for _, st := range a.steps {
		d.Steps = append(d.Steps, runStep{st.Number, st.Name, st.Started.UTC(), st.Finished.UTC(), st.Outcome})
	}
	for _, r := range c.Results {
		d.Results = append(d.Results, runResult(r))
	}
	for _, f := range c.Artifacts {
		d.Artifacts = append(d.Artifacts, runArtifact{f.Path, f.Size})
	}
	return d
}

// resultYAML writes results so that reading them gives the same ones.
func resultYAML(results []assay.Result) ([]byte, error) {
	list := []*yaml.Node{}
	for _, r := range results {
		n := &yaml.Node{Kind: yaml.MappingNode}
		add := func(key string, value any) error {
			var v yaml.Node
			if err := v.Encode(value); err != nil {
				return err
			}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &v)
			return nil
		}
		for _, f := range []given{
			{"item", r.Item}, {"type", r.Type}, {"checkname", r.Checkname}, {"outcome", string(r.Outcome)},
			{"note", r.Note}, {"artifact", r.Artifact},
		} {
			if f.value == "" {
				continue
			}
			if err := add(f.name, f.value); err != nil {
				return nil, err
			}
		}
		for _, key := range slices.Sorted(maps.Keys(r.Data)) {
			var value any = r.Data[key]
			if len(r.Data[key]) == 1 {
				value = r.Data[key][0]
			}
			if err := add(key, value); err != nil {
				return nil, err
			}
		}
		list = append(list, n)
	}
	return yaml.Marshal(map[string]any{"results": list})
}

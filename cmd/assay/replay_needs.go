package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/assay-ci/assay"
)

// Bounds of the artifacts that a replay fetches, for all that an execution needs.
const (
	maxNeededFiles = 5000
	maxNeededBytes = 256 << 20
)

// bringNeeds fetches what the executions left that this one needed, into a
// directory below dir; "" when it needed none. --needs gives it instead.
func (x *serverExecution) bringNeeds(ctx context.Context, e *env, o runOptions, dir string) (string, error) {
	if o.needs != "" || len(x.Needs) == 0 {
		return o.needs, nil
	}
	fmt.Fprintln(e.err, "assay: fetching what other checks left, from the server")
	ask, closeAsk, err := o.from.open(ctx)
	if err != nil {
		return "", err
	}
	defer closeAsk()
	then := assay.Execution{Check: shown(x.Check)}
	for _, n := range x.Needs {
		then.Needs = append(then.Needs, assay.Need{Check: n.Check, Execution: n.Execution, Label: n.Label})
	}
	places, err := needPlaces(then)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "needs")
	f := &neededFiles{ask: ask}
	for i, n := range then.Needs {
		if err := f.fetch(ctx, n.Execution, filepath.Join(dir, places[i])); err != nil {
			return "", fmt.Errorf("cannot fetch what %s left: %w; give it in DIR/%s with --needs DIR", shown(n.Label), err, shown(n.Check))
		}
	}
	return dir, nil
}

// neededFiles fetches artifacts within its bounds.
type neededFiles struct {
	ask   asker
	files int
	bytes int64
}

func (f *neededFiles) fetch(ctx context.Context, execution, dir string) error {
	if _, err := uuid.Parse(execution); err != nil {
		return fmt.Errorf("the server calls an execution %q", shown(execution))
	}
	page := "/executions/" + execution
	body, err := f.ask(ctx, page+".json", maxDocument)
	if err != nil {
		return err
	}
	var answer struct {
		Artifacts []runArtifact `json:"artifacts"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("cannot read the server's answer: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, a := range answer.Artifacts {
		if err := f.one(ctx, root, page, a); err != nil {
			return err
		}
	}
	return nil
}

// one fetches a file. Its path is the server's word: the root keeps it inside.
func (f *neededFiles) one(ctx context.Context, root *os.Root, page string, a runArtifact) error {
	f.files++
	f.bytes += max(0, a.Size)
	if a.Size < 0 || f.files > maxNeededFiles || f.bytes > maxNeededBytes {
		return fmt.Errorf("it is more than %d files or %d MiB", maxNeededFiles, maxNeededBytes>>20)
	}
	data, err := f.ask(ctx, page+"/artifacts"+(&url.URL{Path: "/" + a.Path}).EscapedPath(), a.Size)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(path.Dir(a.Path), 0o755); err != nil {
		return err
	}
	return root.WriteFile(a.Path, data, 0o644)
}

package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/assay-ci/assay"
)

// Fetcher downloads on the host what a step asks for.
type Fetcher interface {
	// Fetch downloads into dir, which exists and is empty, and returns the step's
	// value; the paths in it begin with f.Dir. What takes long is told to say, a
	// line each. An error that wraps assay.ErrFetchRefused is the check's mistake,
	// or final; every other one may go away by itself.
	Fetch(ctx context.Context, f assay.Fetch, dir string, say func(line string)) (value any, err error)
}

// fetch brings what a step asks for into the machine.
func (r *run) fetch(ctx context.Context, number int, step assay.Step, f *assay.Fetch) error {
	if f == nil {
		return nil
	}
	if r.fetcher == nil {
		return &stepError{step, number, "cannot be run: nothing is downloaded here"}
	}
	dir, err := os.MkdirTemp(r.Scratch, "assay-fetch-")
	if err != nil {
		return &infraError{fmt.Errorf("cannot make a directory for downloads: %w", err)}
	}
	defer os.RemoveAll(dir)
	value, err := r.fetcher.Fetch(ctx, *f, dir, func(line string) { r.log.Say(number, "%s", printable([]byte(line))) })
	switch {
	case errors.Is(err, assay.ErrFetchRefused):
		return &stepError{step, number, "failed: " + err.Error()}
	case err != nil:
		return r.ours(ctx, "cannot download", err)
	}
	if err := r.push(ctx, f.Dir, func(w io.Writer) error { return packTrees(w, map[string]string{".": dir}) }); err != nil {
		return r.ours(ctx, "cannot bring the downloads into the machine", err)
	}
	return r.keep(number, step, value)
}

// turn makes something of a file of the machine.
func (r *run) turn(ctx context.Context, number int, step assay.Step, t *assay.Turn) error {
	if t == nil {
		return nil
	}
	var data []byte
	if t.File != "" {
		var err error
		if data, err = r.read(ctx, t.File); err != nil {
			return r.noResults(ctx, number, step, t.File, err)
		}
	}
	made, err := t.Make(data)
	if err != nil {
		return &stepError{step, number, "failed: " + err.Error()}
	}
	if made.Message != "" {
		r.log.Say(number, "%s", made.Message)
	}
	if len(made.Files) > 0 {
		err := r.push(ctx, r.guest(assay.VarArtifacts), func(w io.Writer) error { return packFiles(w, made.Files) })
		if err != nil {
			return r.ours(ctx, "cannot bring the step's files into the machine", err)
		}
	}
	if made.Results != "" {
		if err := r.addResults(number, step, []byte(made.Results)); err != nil {
			return err
		}
	}
	return r.keep(number, step, made.Value)
}

// keep exports a value that the host made. It is what JSON can say, as a value
// that comes out of the machine is.
func (r *run) keep(number int, step assay.Step, value any) error {
	if step.Export == "" {
		return nil
	}
	data, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(data, &value)
	}
	if err != nil {
		return &stepError{step, number, fmt.Sprintf("failed: its value is not JSON: %v", err)}
	}
	r.vars[step.Export] = value
	return nil
}

// noResultsError tells that a file of results is not there: the check crashed
// before it wrote it (COMPAT.md 1.1, "Missing results.yml"). It is the step's
// failure, too.
type noResultsError struct {
	*stepError
}

func (e *noResultsError) Unwrap() error { return e.stepError }

// noResults words why a file with results could not be had. That it is not there
// is told from all other reasons by asking for it once more.
func (r *run) noResults(ctx context.Context, number int, step assay.Step, file string, err error) error {
	if !errors.Is(err, errNoFile) {
		return r.notRead(ctx, number, step, "the results file "+file, err)
	}
	exit, rerr := r.machine.Run(ctx, Command{Argv: []string{"/bin/sh", "-c", `test -e "$1"`, "sh", file}})
	switch {
	case rerr != nil:
		return r.ours(ctx, "cannot look for the results file "+file, rerr)
	case exit == 0:
		return r.notRead(ctx, number, step, "the results file "+file, err)
	}
	return &noResultsError{&stepError{step, number, fmt.Sprintf("found no results file %s: the check crashed before it wrote one", file)}}
}

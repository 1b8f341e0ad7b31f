package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner"
)

// What formulas say of needs and secrets, when a server runs them.

// errFinal tells that the next attempt would come to the same end.
var errFinal = errors.New("trying again would not help")

// secrets are those of the configuration, with their values.
type secrets []secret

type secret struct {
	config.Secret
	value string
}

// readCheckSecrets reads the values when the server starts, so that what is wrong
// with one is known before anybody asks for it.
func readCheckSecrets(cfg config.Config) (secrets, error) {
	var list secrets
	for _, s := range cfg.CheckSecrets {
		value, err := config.ReadCheckSecret(s.Name, s.File)
		if err != nil {
			return nil, err
		}
		if err := runner.CheckSecret(value); err != nil {
			return nil, fmt.Errorf("cannot use the secret %s in %s: %w", s.Name, s.File, err)
		}
		list = append(list, secret{s, value})
	}
	return list, nil
}

// of are the values that a formula asks for, by name. What it does not get is an
// error that tells why, and that trying again would not change.
func (s secrets) of(f *checks.Formula, e assay.Execution) (map[string]string, error) {
	values := map[string]string{}
	for _, name := range f.Secrets {
		if !e.Trusted {
			return nil, fmt.Errorf("cannot give %s the secret %s: %w: it runs for an outsider's pull request, which gets none, even when it is approved: push the commits to a branch of the repository to have it run with secrets", e.Check, name, errFinal)
		}
		value, ok := s.value(name, e.Package)
		if !ok {
			return nil, fmt.Errorf("cannot give %s the secret %s: %w: the operator has to add it for %s under secrets in the configuration, and start the server again", e.Check, name, errFinal, e.Package)
		}
		values[name] = value
	}
	return values, nil
}

func (s secrets) value(name, pkg string) (string, bool) {
	for _, one := range s {
		if one.Name == name && one.For(pkg) {
			return one.value, true
		}
	}
	return "", false
}

// bringNeeds puts the artifacts of what an execution needs below dir: in a directory
// of the check's name, or, where there are several executions of it, in one of each
// one's label: "build", or "build/x86_64" and "build/aarch64".
func (x *executor) bringNeeds(e assay.Execution, dir string) error {
	count := map[string]int{}
	for _, need := range e.Needs {
		count[need.Check]++
	}
	for _, need := range e.Needs {
		name := need.Check
		if count[name] > 1 {
			name = need.Label
		}
		if !filepath.IsLocal(filepath.FromSlash(name)) || strings.ContainsRune(need.Check, '/') {
			return fmt.Errorf("cannot use %q, which %s needs, as a directory: %w: give the check another name", name, e.Check, errFinal)
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		err := os.MkdirAll(to, 0o755)
		if err == nil {
			err = x.files.CopyArtifacts(need.Execution, to)
		}
		if errors.Is(err, assay.ErrNotFound) {
			return fmt.Errorf("cannot bring what %s left: %w: it is not kept any more: run it again, too", need.Label, errFinal)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

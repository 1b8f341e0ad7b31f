package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

// bringNeeds puts the artifacts of what an execution needs below dir, where
// needPlaces says.
func (x *executor) bringNeeds(e assay.Execution, dir string) error {
	places, err := needPlaces(e)
	if err != nil {
		return err
	}
	for i, need := range e.Needs {
		to := filepath.Join(dir, places[i])
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

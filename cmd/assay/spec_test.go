package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/runner/image"
)

func parsed(t *testing.T, environment string) *checks.Formula {
	t.Helper()
	f, err := checks.Parse("c/runtask.yml", []byte(formula("c", "true")+environment))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatAFormulaMayAskFor(t *testing.T) {
	limits := config.Default().Limits
	for environment, want := range map[string]string{
		"":                                     "",
		"environment: {network: none}":         "",
		"environment: {network: full}":         "a network",
		"environment: {cpus: 8, memory: 8GiB}": "",
		"environment: {cpus: 9}":               "limits.cpus",
		"environment: {memory: 9GiB}":          "limits.memory",
		"environment: {disk: 65GiB}":           "limits.disk",
	} {
		err := allowed(parsed(t, environment), limits, false)
		if want == "" && err != nil || want != "" && (!errors.Is(err, errNotAllowed) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", environment, err)
		}
	}
	if err := allowed(parsed(t, "environment: {network: full}"), limits, true); err != nil {
		t.Errorf("a network that is allowed: %v", err)
	}
}

// storeWith has images that are nothing but a description.
func storeWith(t *testing.T, images map[string][2]string) image.Store {
	t.Helper()
	store := image.Store{Root: t.TempDir()}
	own, err := image.HostArchitecture()
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range images {
		text, err := json.Marshal(map[string]any{
			"version": 2, "name": name, "distro": of[0], "release": of[1], "arch": own.Name, "boot": "bios", "digest": name, "disk": "disk.qcow2",
		})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(store.Root, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "image.json"), text, 0o644), os.WriteFile(filepath.Join(dir, "disk.qcow2"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func TestTheImageFollowsTheItem(t *testing.T) {
	store := storeWith(t, map[string][2]string{"fedora-42": {"fedora", "42"}, "mine": {"debian", "12"}})
	for _, c := range []struct{ item, environment, image, note string }{
		{"gzip-1.13-3.fc42", "", "fedora-42", ""},
		{"gzip-1.13-3.fc42", "environment: {image: mine}", "mine", ""},
		{"gzip-1.13-3.fc41", "", "default", "fedora 41"},
		{"hello_2.10-3+deb12u1", "", "mine", ""},
		{"hello-1.0-1", "", "default", ""},
	} {
		spec, note := specOf(parsed(t, c.environment), assay.Execution{Item: c.item, Arch: "noarch"}, store, "default")
		if spec.Image != c.image || !strings.Contains(note, c.note) || c.note == "" && note != "" {
			t.Errorf("%s %s: %s, %q", c.item, c.environment, spec.Image, note)
		}
	}
}

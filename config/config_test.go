package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay/config"
)

// TestExample keeps the documented example and the struct together: it loads,
// and it shows every key there is.
func TestExample(t *testing.T) {
	c, err := config.Load("example.yml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Limits.Time != time.Hour || c.Limits.Log != 64<<20 || len(c.Packages) != 2 || c.Packages[1].Watch != 5*time.Minute || c.Packages[0].Branch != "main" {
		t.Errorf("read as %+v", c)
	}
	if !filepath.IsAbs(c.Webhook.SecretFiles[0]) {
		t.Errorf("a relative path stayed %q", c.Webhook.SecretFiles[0])
	}
	data, err := os.ReadFile("example.yml")
	if err != nil {
		t.Fatal(err)
	}
	var shown any
	if err := yaml.Unmarshal(data, &shown); err != nil {
		t.Fatal(err)
	}
	everyKey(t, "", reflect.TypeFor[config.Config](), shown)
}

func everyKey(t *testing.T, at string, typ reflect.Type, shown any) {
	switch {
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
		list, _ := shown.([]any)
		if len(list) == 0 {
			t.Fatalf("the example shows no entry of %s", at)
		}
		everyKey(t, at+"[0]", typ.Elem(), list[0])
	case typ.Kind() == reflect.Struct:
		m, _ := shown.(map[string]any)
		for i := range typ.NumField() {
			key := typ.Field(i).Tag.Get("yaml")
			value, ok := m[key]
			if key == "" || !ok {
				t.Errorf("the example does not show %s.%s", at, key)
			}
			everyKey(t, at+"."+key, typ.Field(i).Type, value)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestMistakes(t *testing.T) {
	tests := map[string]string{
		"colour: red":              `line 1: unknown key "colour": see config/example.yml`,
		"machines:\n  count: many": "line 2: cannot unmarshal",
		"listen: nowhere":          `listen: "nowhere" is no host:port: write 127.0.0.1:8087`,
		"listen: 0.0.0.0:1\nwebhook: {unsigned: true}": "webhook.unsigned: only allowed on a loopback address",
		"machines: {kind: cloud}":                      `machines.kind: "cloud" is unknown: write libvirt or local`,
		"machines: {count: 0}":                         "machines.count: 0 is out of range",
		"machines: {hold: 25h}":                        `machines.hold: 25h0m0s is out of range`,
		"machines: {held: 0}":                          `machines.held: 0 is out of range`,
		"machines: {kvm: maybe}":                       `machines.kvm: "maybe" is unknown`,
		"url: example.org":                             `url: "example.org" is no address`,
		"forges: {github: {api: ftp://x/}}":            "forges.github.api",
		"builds: {from: ['']}":                         "builds.from[0]: is empty",
		"limits: {log: 12 parsecs}":                    `cannot read "12 parsecs" as a size`,
		"limits: {time: soon}":                         "line 1: cannot read soon as a time: write a number with a unit, such as 90s, 10m or 2h",
		"limits: {time: -5m}":                          "limits: a time is negative",
		"limits: {log: 999999999999T}":                 "it is too large",
		"[]":                                           "cannot unmarshal",
		"a: b: c":                                      "mapping values are not allowed",
	}
	for text, want := range tests {
		file := filepath.Join(t.TempDir(), "assay.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "assay.yml") {
			t.Errorf("%q: %v\nwant …%s…", text, err, want)
		}
	}
}

func TestRelativePathsAreTheFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "assay.yml")
	text := `data: d
machines: {agent: bin/agent}
packages:
  - {name: a, checks: checks/a.git, source: git@host:a.git}
  - {name: b, checks: https://host/b, source: /srv/b}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.Data: dir + "/d", c.Machines.Agent: dir + "/bin/agent", c.Packages[0].Checks: dir + "/checks/a.git",
		c.Packages[0].Source: "git@host:a.git", c.Packages[1].Checks: "https://host/b", c.Packages[1].Source: "/srv/b",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "assay.yml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil || !reflect.DeepEqual(c, config.Default()) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{"0": 0, "512": 512, "3B": 3, "1K": 1 << 10, "64MiB": 64 << 20, "2 GiB": 2 << 30, "1TB": 1 << 40} {
		var s config.Size
		if err := yaml.Unmarshal([]byte(text), &s); err != nil || s != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"-1", "1.5G", "G", "1PiB", "9999999999999G", "[1]"} {
		var s config.Size
		if err := yaml.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%q was read as %d", text, s)
		}
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	good, short := filepath.Join(dir, "good"), filepath.Join(dir, "short")
	for file, data := range map[string]string{good: "  0123456789abcdef\n", short: "0123456789abcde\n"} {
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if secret, err := config.ReadSecret(good); err != nil || string(secret) != "0123456789abcdef" {
		t.Errorf("%q, %v", secret, err)
	}
	if _, err := config.ReadSecret(short); err == nil || !strings.Contains(err.Error(), "shorter than 16 bytes") || strings.Contains(err.Error(), "0123") {
		t.Errorf("a short secret: %v", err)
	}
	if _, err := config.ReadSecret(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing secret is no error")
	}
}

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-ci/assay/config"
)

func load(t *testing.T, text string) (config.Config, string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "assay.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	return c, filepath.Dir(file), err
}

func TestFetchPaths(t *testing.T) {
	c, dir, err := load(t, "data: d\nfetch: {yumrepoinfo: repos.conf}\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := dir + "/repos.conf"; c.Fetch.YumRepoInfo != want {
		t.Errorf("yumrepoinfo: %s, want %s", c.Fetch.YumRepoInfo, want)
	}
	if want := dir + "/d/downloads"; c.Downloads() != want {
		t.Errorf("downloads: %s, want %s", c.Downloads(), want)
	}
	if c, dir, err = load(t, "fetch: {cachedir: kept, download_cache_enabled: no}\n"); err != nil || c.Downloads() != dir+"/kept" || c.Fetch.Cache {
		t.Errorf("downloads: %s, cache %v, %v", c.Downloads(), c.Fetch.Cache, err)
	}
}

func TestFetchMistakes(t *testing.T) {
	tests := map[string]string{
		"fetch: {koji_url: 'https://k/hub'}":        "koji_url and pkg_url belong together",
		"fetch: {pkg_url: 'https://k/packages'}":    "koji_url and pkg_url belong together",
		"fetch: {koji_url: k/hub}":                  `fetch.koji_url: "k/hub" is no address`,
		"fetch: {bodhi_url: 'file:///etc/passwd'}":  "fetch.bodhi_url",
		"fetch: {distgit_urls: ['https://a/', '']}": "fetch.distgit_urls[1]: is empty",
		"fetch: {distgit_urls: [src]}":              "fetch.distgit_urls[0]",
		"fetch: {limit: 0}":                         "fetch.limit: is 0",
		"fetch: {mirror: x}":                        `unknown key "mirror"`,
	}
	for text, want := range tests {
		if _, _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v\nwant …%s…", text, err, want)
		}
	}
}

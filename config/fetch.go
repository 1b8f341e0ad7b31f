package config

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Fetch says where the directives koji, bodhi, distgit and yumrepoinfo download
// from, and what is kept of it. Nothing else is asked for them but these
// addresses and, for distgit, those of Builds.From. An address of "" refuses the
// directives that need it. The names are those of Taskotron's own configuration
// where it had them.
type Fetch struct {
	KojiURL string `yaml:"koji_url"` // Koji's hub: "https://koji.example.org/kojihub"
	PkgURL  string `yaml:"pkg_url"`  // Koji's package server: "https://kojipkgs.example.org/packages"
	Bodhi   string `yaml:"bodhi_url"`
	// DistGit are package repositories; the first is the default of distgit, and a
	// formula's baseurl must be one of them, or below Builds.From.
	DistGit []string `yaml:"distgit_urls"`
	// YumRepoInfo is a file that is read over the built-in yumrepoinfo.conf; ""
	// for that alone.
	YumRepoInfo string `yaml:"yumrepoinfo"`
	// Cache keeps downloads for later executions.
	Cache     bool   `yaml:"download_cache_enabled"`
	CacheDir  string `yaml:"cachedir"`   // "" for downloads below data
	CacheRoom Size   `yaml:"cache_room"` // what it may take on the disk
	Limit     Size   `yaml:"limit"`      // what one step may download
}

// defaultFetch names no server: whose builds are checked is the operator's to say.
func defaultFetch() Fetch {
	return Fetch{Cache: true, CacheRoom: 16 << 30, Limit: 4 << 30}
}

// Downloads is the directory of the download cache.
func (c *Config) Downloads() string {
	if c.Fetch.CacheDir != "" {
		return c.Fetch.CacheDir
	}
	return filepath.Join(c.Data, "downloads")
}

func (c *Config) validFetch() error {
	f := c.Fetch
	err := errors.Join(c.validURL("fetch.koji_url", f.KojiURL), c.validURL("fetch.pkg_url", f.PkgURL), c.validURL("fetch.bodhi_url", f.Bodhi))
	for i, address := range f.DistGit {
		field := fmt.Sprintf("fetch.distgit_urls[%d]", i)
		if address == "" {
			return fmt.Errorf("%s: is empty: write https://host/", field)
		}
		err = errors.Join(err, c.validURL(field, address))
	}
	switch {
	case err != nil:
		return err
	case (f.KojiURL == "") != (f.PkgURL == ""):
		return errors.New("fetch: koji_url and pkg_url belong together: write both, or neither")
	case f.Limit <= 0:
		return errors.New("fetch.limit: is 0: write a size, such as 4GiB")
	case f.CacheRoom < 0:
		return errors.New("fetch.cache_room: is negative: write a size, such as 16GiB, or 0 for any")
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/assay-ci/assay/config"
	"github.com/assay-ci/assay/fetch"
	"github.com/assay-ci/assay/fetch/source"
	"github.com/assay-ci/assay/fetch/yumrepo"
	"github.com/assay-ci/assay/runner"
)

// newFetcher is what downloads for the steps of formulas, from where the
// configuration says. scratch is for downloads that are not kept; "" is the
// system's directory for such things.
func newFetcher(cfg config.Config, scratch string) (runner.Fetcher, error) {
	repos, err := readRepos(cfg.Fetch.YumRepoInfo)
	if err != nil {
		return nil, err
	}
	return source.New(source.Config{
		Web:     &fetch.Web{HTTP: &http.Client{}, Pauses: fetch.DefaultPauses()},
		Cache:   downloadCache(cfg),
		Scratch: scratch,
		KojiHub: cfg.Fetch.KojiURL, Packages: cfg.Fetch.PkgURL, Bodhi: cfg.Fetch.Bodhi,
		DistGit: cfg.Fetch.DistGit, Builds: cfg.Builds.From,
		Repos: repos, Bytes: int64(cfg.Fetch.Limit),
	}), nil
}

// downloadCache is where downloads are kept; nil where the operator wants none.
func downloadCache(cfg config.Config) *fetch.Cache {
	if !cfg.Fetch.Cache {
		return nil
	}
	return &fetch.Cache{Dir: cfg.Downloads(), Bytes: int64(cfg.Fetch.CacheRoom)}
}

// newBuildClient downloads what builds made, as events name it, from below the
// given addresses.
func newBuildClient(from []string, cache *fetch.Cache, scratch string) *fetch.Client {
	return &fetch.Client{
		Web:   &fetch.Web{HTTP: &http.Client{}, Allowed: from, Pauses: fetch.DefaultPauses()},
		Cache: cache, Scratch: scratch, Bytes: buildLimit,
	}
}

// readRepos reads the operator's yumrepoinfo.conf over the built-in one.
func readRepos(file string) (*yumrepo.Info, error) {
	texts := []string{yumrepo.Builtin}
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read fetch.yumrepoinfo: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, yumrepo.MaxFile+1))
		if err != nil {
			return nil, fmt.Errorf("cannot read fetch.yumrepoinfo: %w", err)
		}
		texts = append(texts, string(data))
	}
	info, err := yumrepo.Parse(texts...)
	if err != nil {
		return nil, fmt.Errorf("cannot read fetch.yumrepoinfo %s: %w", file, err)
	}
	return info, nil
}

// userFetcher downloads for assay run, from where the user's own configuration
// file says: assay/assay.yml in their directory of such files. Without one the
// steps that download are refused.
func userFetcher(cfg config.Config) (runner.Fetcher, error) {
	if dir, err := os.UserConfigDir(); err == nil {
		own, err := config.Load(filepath.Join(dir, "assay", "assay.yml"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			cfg.Fetch, cfg.Builds, cfg.Data = own.Fetch, own.Builds, own.Data
		}
	}
	return newFetcher(cfg, "")
}

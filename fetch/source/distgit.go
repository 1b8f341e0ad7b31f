package source

import (
	"context"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/fetch"
)

// distgit downloads files of a package's repository.
func (j *job) distgit(ctx context.Context, f assay.DistGitFetch) (any, error) {
	base, err := j.distgitBase(f.BaseURL)
	if err != nil {
		return nil, err
	}
	web := *j.config.Web
	web.Allowed = fetch.Prefixes{base + "/"}
	files, err := distgitFiles(base, f, j.branch(f.Ref))
	if err != nil {
		return nil, err
	}
	got, err := j.get(ctx, &web, files)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if !slices.Contains(got, file.name) {
			j.tell.Line("%s: there is none, which does not matter", file.want.Name)
		}
	}
	return map[string]any{"downloaded_files": j.inOrder(got)}, nil
}

// branch is where a ref is found: what is to become the next release has no
// branch of its own yet.
func (j *job) branch(ref string) string {
	if j.config.Repos != nil && ref != "" && ref == j.config.Repos.Rawhide() {
		return "rawhide"
	}
	return ref
}

// inOrder is paths without sorting: dist-git's value has the order of path.
func (j *job) inOrder(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = path.Join(j.fetch.Dir, name)
	}
	return list
}

// distgitBase is the address that a formula names, if the operator knows it.
func (j *job) distgitBase(wanted string) (string, error) {
	if wanted == "" {
		if len(j.config.DistGit) == 0 {
			return "", notConfigured("distgit_urls")
		}
		return strings.TrimSuffix(j.config.DistGit[0], "/"), nil
	}
	wanted = strings.TrimSuffix(wanted, "/")
	for _, base := range j.config.DistGit {
		if wanted == strings.TrimSuffix(base, "/") {
			return wanted, nil
		}
	}
	if u, err := url.Parse(wanted); err == nil && u.RawQuery == "" && u.Fragment == "" && j.config.Builds.Allow(u) {
		return wanted, nil
	}
	return "", fetch.Refuse("cannot download from %.100q: the operator does not allow it: let them add it to fetch.distgit_urls", wanted)
}

// Elements of a dist-git address: one name, and paths of several.
var (
	element = regexp.MustCompile(`^[A-Za-z0-9_+~^][A-Za-z0-9_.+~^-]{0,199}$`)
	anyName = regexp.MustCompile(`^[^\x00-\x1f\x7f\\]{1,255}$`)
)

// distgitFiles plans the downloads.
func distgitFiles(base string, f assay.DistGitFetch, ref string) ([]file, error) {
	if !element.MatchString(f.Namespace) || !element.MatchString(f.Package) {
		return nil, fetch.Refuse("cannot find the package %.60q in %.60q: write names without slashes", f.Package, f.Namespace)
	}
	refPath, ok := escapePath(ref)
	if !ok {
		return nil, fetch.Refuse("cannot use %.60q as gitref: write a branch, a tag or a commit", ref)
	}
	local := f.LocalPaths
	if len(local) == 0 {
		local = f.Paths
	}
	if len(local) != len(f.Paths) {
		return nil, fetch.Refuse("cannot save %d files under %d paths: write as many in localpath as in path", len(f.Paths), len(local))
	}
	var files []file
	for i, p := range f.Paths {
		escaped, ok := escapePath(path.Clean(p))
		name := path.Clean(local[i])
		if !ok || !safePath(name) {
			return nil, fetch.Refuse("cannot download %.100q as %.100q: write paths that are relative and lead nowhere else", p, local[i])
		}
		address := base + "/" + f.Namespace + "/" + f.Package + "/raw/" + refPath + "/f/" + escaped
		files = append(files, file{want: fetch.Want{URL: address, Name: p}, name: name, missing: f.IgnoreMissing})
	}
	return files, nil
}

// escapePath makes a relative path a part of an address; false for one that leads
// elsewhere.
func escapePath(p string) (string, bool) {
	if !safePath(p) {
		return "", false
	}
	elements := strings.Split(p, "/")
	for i, e := range elements {
		elements[i] = url.PathEscape(e)
	}
	return strings.Join(elements, "/"), true
}

// safePath tells a path whose every element is a plain name.
func safePath(p string) bool {
	if len(p) > 1000 || !filepath.IsLocal(p) {
		return false
	}
	for _, e := range strings.Split(p, "/") {
		if e == "." || e == ".." || !anyName.MatchString(e) {
			return false
		}
	}
	return true
}

package dispatch

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/assay-ci/assay"
)

// Packages is the operator's word on which packages are checked and where their
// repositories are: the only addresses that are ever cloned. In an entry's Name
// one "*" stands for one path element; the same "*" in Checks and Source is
// replaced by it.
type Packages []assay.Package

// element tells whether a "*" may stand for a text: it becomes part of an address,
// so it can neither lead out of a directory nor look like an option.
func element(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	return s != "" && strings.IndexByte(letters, s[0]) >= 0 && strings.Trim(s, letters+".+-") == ""
}

// Validate names the first entry that cannot work.
func (ps Packages) Validate() error {
	for i, p := range ps {
		stars := strings.Count(p.Name, "*")
		switch {
		case p.Name == "":
			return fmt.Errorf("packages[%d]: name is missing: write the package's name, such as rpms/hello", i)
		case p.Checks == "":
			return fmt.Errorf("packages[%d] (%s): checks is missing: write the address of its check repository", i, p.Name)
		case stars > 1:
			return fmt.Errorf("packages[%d] (%s): name has more than one *: one stands for the package", i, p.Name)
		case stars == 0 && strings.Contains(p.Checks+p.Source, "*"):
			return fmt.Errorf("packages[%d] (%s): checks or source has a *, but name has none", i, p.Name)
		case stars == 1 && (strings.Count(p.Checks, "*") != 1 || p.Source != "" && strings.Count(p.Source, "*") != 1):
			return fmt.Errorf("packages[%d] (%s): name has a *: checks and source need one, too, for the package's name", i, p.Name)
		}
	}
	return nil
}

// ByName finds the package that a build system names.
func (ps Packages) ByName(name string) (assay.Package, bool) {
	for _, p := range ps {
		if star, ok := match(p.Name, name); ok {
			return expand(p, star), true
		}
	}
	return assay.Package{}, false
}

// ByChecks finds the package whose check repository an event names.
func (ps Packages) ByChecks(repo string) (assay.Package, bool) {
	return ps.byAddress(repo, func(p assay.Package) string { return p.Checks })
}

// BySource finds the package whose own repository an event names.
func (ps Packages) BySource(repo string) (assay.Package, bool) {
	return ps.byAddress(repo, func(p assay.Package) string { return p.Source })
}

func (ps Packages) byAddress(repo string, address func(assay.Package) string) (assay.Package, bool) {
	want := Canonical(repo)
	for _, p := range ps {
		a := address(p)
		if a == "" || want == "" {
			continue
		}
		if star, ok := match(Canonical(a), want); ok {
			return expand(p, star), true
		}
	}
	return assay.Package{}, false
}

// match tells whether a name fits a pattern and what its "*" stands for.
func match(pattern, name string) (star string, ok bool) {
	before, after, starred := strings.Cut(pattern, "*")
	if !starred {
		return "", pattern == name
	}
	if len(name) < len(before)+len(after) || !strings.HasPrefix(name, before) || !strings.HasSuffix(name, after) {
		return "", false
	}
	star = name[len(before) : len(name)-len(after)]
	return star, element(star)
}

func expand(p assay.Package, star string) assay.Package {
	if star == "" {
		return p
	}
	for _, field := range []*string{&p.Name, &p.Checks, &p.Source} {
		*field = strings.ReplaceAll(*field, "*", star)
	}
	return p
}

// Canonical is an address without what varies between its spellings: scheme,
// user, the host's case, trailing slash and ".git". "git@GitHub.com:a/b.git" and
// "https://github.com/a/b" are the same repository.
func Canonical(address string) string {
	a := strings.TrimSpace(address)
	if u, err := url.Parse(a); err == nil && u.Host != "" {
		a = strings.ToLower(u.Host) + u.Path
	} else if err == nil && u.Scheme == "file" {
		a = u.Path
	} else if user, rest, ok := strings.Cut(a, "@"); ok && !strings.ContainsAny(user, "/:") {
		host, path, _ := strings.Cut(rest, ":")
		a = strings.ToLower(host) + "/" + path
	}
	a = strings.TrimRight(a, "/")
	a = strings.TrimSuffix(a, ".git")
	if path.IsAbs(a) {
		a = path.Clean(a)
	}
	return a
}

package dispatch

import (
	"regexp"
	"strings"

	"github.com/assay-ci/assay"
)

// item is what executions look at.
type item struct {
	name   string // assay.Execution.Item
	typ    string
	arch   string
	source string // commit of the package's repository that it was made from
	builds []string
}

func buildItem(e assay.Event) item {
	arch := e.Build.Arch
	if arch == "" {
		arch = "noarch"
	}
	return item{
		name: e.Build.NVR(), typ: assay.TypeBuild, arch: arch,
		source: e.Commit, builds: e.Build.Artifacts,
	}
}

// commitItem is the package's source itself (COMPAT.md: dist_git_commit is
// namespace/repo#commit).
func commitItem(pkg, commit string) item {
	return item{name: pkg + "#" + commit, typ: assay.TypeDistGitCommit, arch: "noarch", source: commit}
}

// distTag finds the distribution and release in a release such as "3.fc42" or
// "1.el9_4" (COMPAT.md, Environment devising).
var distTag = regexp.MustCompile(`\.(fc|el)([0-9]{1,3})(?:[._~^+]|$)`)

// branches are the check branches to look for, best first: the one that the
// build names, then the one of its release: f42 for fc42, epel9 for el9. A change
// of the package's source is checked by the branch of its own branch's name.
func branches(e assay.Event, p assay.Package) []string {
	var names []string
	if name, ok := strings.CutPrefix(e.Ref, "refs/heads/"); ok && e.Build == nil {
		names = append(names, name)
	}
	if e.Build != nil {
		if e.Build.Branch != "" {
			names = append(names, e.Build.Branch)
		}
		if m := distTag.FindStringSubmatch(e.Build.Release); m != nil {
			prefix := map[string]string{"fc": "f", "el": "epel"}[m[1]]
			names = append(names, prefix+m[2])
		}
	}
	if p.Branch != "" {
		names = append(names, p.Branch)
	}
	return names
}

package checks

import (
	"slices"
	"time"

	"github.com/assay-ci/assay"
)

// Formula is a formula without mistakes. It does not change after Parse and may
// be used from several goroutines.
type Formula struct {
	Path       string // as given to Parse; from Load: slash-separated, in the repository
	Name       string
	Desc       string
	Maintainer string
	Namespace  string   // "dist", "pkg", …; "" for none
	Args       []string // input.args, in the formula's order
	// Environment says what machine the check needs.
	Environment Environment
	// Timeout is for all actions together, between MinTimeout and MaxTimeout; 0
	// for the runner's default.
	Timeout time.Duration
	// Optional tells that a commit may be good although this check is not
	// (required: false).
	Optional bool
	// On says which events it wants; the zero On wants all that come with an item
	// of its types.
	On On
	// Matrix is what it runs for, one execution each, in the formula's order; none
	// for a formula without a matrix. See Variant.
	Matrix []Variant
	// Needs names the checks, by their check names, whose artifacts it is given,
	// and after which it runs.
	Needs []string
	// Retries is how often an errored execution is tried again, 0 to MaxRetries;
	// nil for the operator's default.
	Retries *int
	// Secrets are the names of secrets that it asks the operator for.
	Secrets []string

	// Warnings are what works but ought to be written otherwise, sorted by place.
	Warnings Mistakes

	nameAt  Mistake   // where the name stands, for mistakes found later
	needsAt []Mistake // where every one of Needs stands, likewise
	actions []action
	uses    map[string]bool // variables that any action refers to
}

// Environment is what a formula asks of its machine. Zero fields ask for the
// runner's default.
type Environment struct {
	Image  string   // name of an image, "debian-12"
	CPUs   int      // 1 to 64
	Memory int64    // bytes
	Disk   int64    // bytes
	RPM    []string // packages, files or anything else that dnf installs
	Deb    []string // packages that apt installs: NAME, NAME:ARCH, NAME=VERSION, NAME/RELEASE
	Pip    []string // packages that pip installs: NAME, NAME[EXTRA], NAME==VERSION and the like
	// Setup are commands for /bin/sh, run in order when all packages are there.
	// They are the same for every item: no variables are substituted.
	Setup   []string
	Network string // "none", "full", or "" for the default, which is none
	// Distro, Release and Arch are what formulas of Taskotron's asked for instead
	// of an image: "fedora", "42", "x86_64" (COMPAT.md 1.1, environment devising).
	Distro  string `json:",omitempty"`
	Release string `json:",omitempty"`
	Arch    string `json:",omitempty"`
}

// On says which events a formula wants. Every field that is set must match; an
// empty one matches everything. In a pattern * stands for any characters but /,
// ** for any at all, ? and [a-z] for one, and a / at the end for all below.
type On struct {
	Events   []assay.EventKind
	Types    []string // item types
	Branches []string // glob patterns for the branch without refs/heads/
	Paths    []string // glob patterns for changed files
}

// Variant is one combination of a matrix. Its variables are the formula's too:
// ${python}. Arch and Image are those of the execution.
type Variant struct {
	Name  string            // "image=fedora-42,python=3.12": sorted by name, without arch
	Arch  string            // "" when the matrix says nothing of it
	Image string            // "" when the matrix says nothing of it
	Vars  map[string]string // what the matrix says, arch and image included; "" for what it says in other variants only
}

// MaxRetries bounds retries.
const MaxRetries = 10

// Bounds of a formula's own timeout.
const (
	MinTimeout = time.Second
	MaxTimeout = 24 * time.Hour
)

// Checkname is the name that results and statuses carry: "namespace.name", or
// the name alone (COMPAT.md 2.1, namespace).
func (f *Formula) Checkname() string {
	if f.Namespace == "" {
		return f.Name
	}
	return f.Namespace + "." + f.Name
}

// Wants tells whether the formula is to run for items of a type: for those that
// input.args and on.types name, and for every type where they name none.
// Historic names stand for the types they became: bodhi_id for bodhi_update,
// module for module_build. WantsEvent asks for more.
func (f *Formula) Wants(itemType string) bool {
	return wantsType(f.Args, itemType) && wantsType(f.On.Types, itemType)
}

// wantsType tells whether a list names a type, or none at all.
func wantsType(names []string, itemType string) bool {
	named := false
	for _, name := range names {
		if !isItemType(name) {
			continue
		}
		if currentType(name) == currentType(itemType) {
			return true
		}
		named = true
	}
	return !named
}

// ItemTypes lists the types that items have (COMPAT.md 1.1, ITEM_TYPE_DOCS).
func ItemTypes() []string { return itemTypes() }

// Uses tells whether an action refers to a variable.
func (f *Formula) Uses(variable string) bool { return f.uses[variable] }

// itemTypes lists what an item can be, as input.args spells it (COMPAT.md 1.1,
// ITEM_TYPE_DOCS and the two historic names).
func itemTypes() []string {
	return []string{
		"bodhi_update", "compose", assay.TypeDistGitCommit, "docker_image", "git_commit",
		assay.TypeBuild, "koji_tag", "module_build", assay.TypePullRequest,
		"bodhi_id", "module",
	}
}

// currentType translates the historic names of item types.
func currentType(itemType string) string {
	switch itemType {
	case "bodhi_id":
		return "bodhi_update"
	case "module":
		return "module_build"
	}
	return itemType
}

// inputNames lists what input.args may hold: the item types, and the variables
// that tell what an execution looks at.
func inputNames() []string {
	return append(itemTypes(), assay.VarArch, assay.VarItem, assay.VarType, assay.VarUUID,
		assay.VarCheckname, assay.VarPackage, assay.VarWorkdir, assay.VarArtifacts)
}

func isItemType(name string) bool { return slices.Contains(itemTypes(), name) }

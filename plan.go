package assay

import "time"

// Vars are the variables of a formula by name: built-in ones, arguments, and
// what earlier steps exported. Values are strings, or what YAML and JSON decode
// to: lists, maps, numbers, booleans.
type Vars map[string]any

// Plan is a formula made ready for one item: what to do, in order. It is
// interpreted on the host; a machine only ever sees single commands.
type Plan struct {
	Check   string        // the check's name, with its namespace
	Timeout time.Duration // for all steps together; 0 for the runner's default
	Steps   []Step
	// Skip is why there is nothing to run, known before there is a machine; "" when
	// there is.
	Skip string
}

// Step is one action of a formula.
type Step struct {
	Name      string        // as the formula names it
	Directive string        // "shell", "python", …
	Position  string        // "greets/runtask.yml:12:3", for error messages
	Export    string        // the variable its value goes into, "" for none
	Timeout   time.Duration // for this step; 0 for what is left of the plan's
	If        Condition     // when it runs
	// Resolve substitutes the variables and says what to do. It has no side
	// effects; its errors begin with Position.
	Resolve func(Vars) (Action, error)
}

// Condition says when a step runs.
type Condition string

// The conditions. A step that runs after a failure never makes the check pass.
const (
	IfPassed Condition = ""        // while no step has failed
	IfAlways Condition = "always"  // whatever happened before
	IfFailed Condition = "failure" // only when a step has failed
)

// Action is what a runner does for one step, in this order: say Message, fail,
// bring in Files, Fetch, run Commands, Turn, read Value, take Results. An action
// with nothing set does nothing and passes.
type Action struct {
	Message  string            // said in the log before anything else
	Fail     string            // not "": the step fails with this reason
	Files    map[string][]byte // written to the machine first, by path relative to VarPrivate
	Fetch    *Fetch            // downloaded on the host and brought in; the step's value
	Dir      string            // where Commands start: absolute, in the machine; "" for VarWorkdir
	Env      []string          // "NAME=value", added to what every command finds
	Commands []Command         // run one after the other; the first that fails ends the step
	// Turn makes something of a file, on the host; its value is the step's.
	Turn *Turn
	// Value is the path, in the machine, of a file with the step's value as
	// JSON; "" makes the value the standard output of Commands.
	Value   string
	Results *ResultsSource
	// Exit is what the check ends with when nothing is reported: 0 for good. The
	// worst of several steps counts.
	Exit int
}

// Turn makes something of what the machine holds, without running anything in it.
type Turn struct {
	File string // path in the machine; "" for nothing to read
	// Make is pure; its errors are the check's mistakes and begin with "cannot".
	Make func(file []byte) (Turned, error)
}

// Turned is what a Turn made.
type Turned struct {
	Value   any               // the step's value
	Results string            // ResultYAML that the step reports; "" for nothing
	Files   map[string][]byte // written to the machine, by path relative to VarArtifacts
	Message string            // said in the log
}

// Fetch asks for what the host downloads and brings into the machine. Exactly
// one of the pointers is set.
type Fetch struct {
	Dir     string // in the machine, absolute: where the files go
	Koji    *KojiFetch
	Bodhi   *BodhiFetch
	DistGit *DistGitFetch
	// YumRepos brings in nothing: its value is all there is.
	YumRepos *YumReposFetch
}

// KojiFetch asks for what a build made, or all builds of a tag.
type KojiFetch struct {
	Build     string // name-version-release; or
	Tag       string // every build that is tagged
	Latest    bool   // not Build itself, but the newest stable build of its package
	Arches    []string
	Exclude   []string // arches
	Source    bool
	Debuginfo bool
	BuildLogs bool
}

// BodhiFetch asks for what an update's builds made.
type BodhiFetch struct {
	Update string // FEDORA-2017-04459ef8cf
	Arches []string
	Source bool
}

// DistGitFetch asks for files of a package's repository.
type DistGitFetch struct {
	BaseURL       string // "" for the configured one
	Namespace     string // "rpms"
	Package       string
	Ref           string   // branch, tag or commit
	Paths         []string // in the repository
	LocalPaths    []string // relative to Fetch.Dir; as many as Paths, or none
	IgnoreMissing bool
}

// YumReposFetch asks for the addresses of the repositories of a Koji tag and of
// its parents, by name and architecture.
type YumReposFetch struct {
	Tag    string   // "f42-updates-pending", or "rawhide"
	Arches []string // those of real machines count
}

// ResultsSource says where a step's results are. Exactly one field is set.
type ResultsSource struct {
	File string // path in the machine
	Text string // ResultYAML itself
}

// Command is one command of a step, to be run in the machine.
type Command struct {
	Shell      string   // run by /bin/sh -c, unless Argv is set
	Argv       []string // run as it is
	Stdin      []byte
	IgnoreExit bool // a non-zero exit does not fail the step
}

// Names of the built-in variables. Every one is a string.
const (
	VarItem      = "item"
	VarType      = "type"
	VarArch      = "arch"
	VarUUID      = "uuid"
	VarCheckname = "checkname"
	VarPackage   = "package"
	VarWorkdir   = "workdir"      // the check's own directory, in the machine; commands start here
	VarArtifacts = "artifactsdir" // what is left here is kept
	VarSources   = "sources"      // the package's source at the item's commit
	VarBuilds    = "builds"       // what was built, downloaded
	VarNeeds     = "needs"        // the artifacts of what the check needs, a directory each
	VarPrivate   = "assaydir"     // the runner's own files in the machine
)

// BuiltinVars lists the variables that every formula may use. The item's type
// is a variable too: ${koji_build} is the item of a koji_build.
func BuiltinVars() []string {
	return []string{
		VarItem, VarType, VarArch, VarUUID, VarCheckname, VarPackage,
		VarWorkdir, VarArtifacts, VarSources, VarBuilds, VarNeeds, VarPrivate,
	}
}

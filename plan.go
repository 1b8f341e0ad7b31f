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
}

// Step is one action of a formula.
type Step struct {
	Name      string        // as the formula names it
	Directive string        // "shell", "python", …
	Position  string        // "greets/runtask.yml:12:3", for error messages
	Export    string        // the variable its value goes into, "" for none
	Timeout   time.Duration // for this step; 0 for what is left of the plan's
	// Resolve substitutes the variables and says what to do. It has no side
	// effects; its errors begin with Position.
	Resolve func(Vars) (Action, error)
}

// Action is what a runner does for one step: run Commands, then read Value,
// then take Results. An action with nothing set does nothing and passes.
type Action struct {
	Message  string    // said in the log before anything else
	Fail     string    // not "": the step fails with this reason
	Commands []Command // run one after the other; the first that fails ends the step
	// Value is the path, in the machine, of a file with the step's value as
	// JSON; "" makes the value the standard output of Commands.
	Value   string
	Files   map[string][]byte // written to the machine first, by path relative to VarPrivate
	Results *ResultsSource
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
	VarPrivate   = "assaydir"     // the runner's own files in the machine
)

// BuiltinVars lists the variables that every formula may use. The item's type
// is a variable too: ${koji_build} is the item of a koji_build.
func BuiltinVars() []string {
	return []string{
		VarItem, VarType, VarArch, VarUUID, VarCheckname, VarPackage,
		VarWorkdir, VarArtifacts, VarSources, VarBuilds, VarPrivate,
	}
}

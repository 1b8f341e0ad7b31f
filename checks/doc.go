// Package checks is the formula language: it reads the YAML file that says what
// a check needs and does, finds every mistake in it with file, line and column,
// selects the checks that want an event, and turns a formula into a plan.
//
// The language is that of COMPAT.md, section 2, read strictly. Nothing here
// runs anything or reads outside the fs.FS it is given: a formula becomes an
// assay.Plan, and a runner interprets that.
//
// # Variables
//
// Arguments of directives may hold $name, ${name} and ${name.key}; $$ is a
// single dollar sign. A value that is exactly one reference becomes the
// variable's own value, list or mapping included; inside a longer text it is
// written as text: strings as they are, everything else as JSON. A name is a
// built-in variable, an argument that input.args declares, or what an earlier
// action exports. Anything else is a mistake, found before anything runs.
//
// # Variables in shell text
//
// A command of the shell directive that is one string goes to /bin/sh, which
// has variables of its own. There only names that the formula knows are
// substituted. $1, $?, $(…), ${x%y} and names without lower-case letters
// ($HOME) stay as they are; an unknown lower-case name is a mistake, whose cure
// is $$name for the shell's own variable.
//
// A substituted value can never become shell syntax. It is inserted as it is
// when it consists of A-Z a-z 0-9 _ @ % + = : , . / ^ ~ - only; otherwise it is
// quoted for the place where it stands: in single quotes outside of quotes, and
// escaped within double or single quotes. Where the place cannot be told for
// certain (a here-document, backquotes, arithmetic) such a value is refused
// when the step is resolved. A command that is a list is not read by a shell,
// and its values are inserted as they are.
//
// # Environment
//
// What stands below environment is the same for every item, because machines
// are made ready once and used for many: nothing is substituted in it. The keys
// rpm, deb and pip take nothing, one package or a list of packages, in the forms
// that dnf, apt-get and pip take, options and addresses excepted. setup takes
// nothing, one command or a list of commands for /bin/sh; network takes none or
// full. distro, release, arch and flavor, here or below machine, are what
// Taskotron's formulas chose a machine by; flavor says nothing any more.
//
// # Events
//
// on says which events the formula wants: events (push, pull_request, build),
// types of items, branches and paths of changed files, each one value or a list.
// on: [build, pull_request] is short for its events. Everything that is said must
// hold, beside what input.args says of item types. The patterns of branches and
// paths know *, ?, [a-z], \ and ** for any number of directories; a / at the end
// stands for everything below. on is a key like any other: what YAML 1.1 makes of
// the word is no matter.
//
// # Matrix
//
// matrix: {NAME: [VALUE, …]} makes one execution of every combination, at most
// 64; exclude and include are lists that mean what they mean in a workflow of
// GitHub Actions. A name is a variable of the formula, its value the text that is
// written: 3.10 stays 3.10. arch and image choose the machine besides.
//
// # Needs, retries, secrets
//
// needs names checks of the same repository, one or a list, that run before and
// whose artifacts are given. retries, 0 to 10, is for executions that errored.
// secrets names what the operator keeps; commands find a secret in their
// environment, and it is never a variable of the formula, so that no value of one
// gets into a command line or a log by the formula.
//
// # Actions
//
// An action has a name, one directive, and: export, the variable that its value
// goes into; timeout; if, always or failure, for one that runs after a failure;
// workdir, where its commands start, below the check's directory unless it is
// absolute; env, a mapping of NAME: VALUE for the environment of its commands.
// What env sets is the shell's own variable within the action.
//
// # Files
//
// A formula is any file called runtask.yml, runtask.yaml, task.yml or
// formula.yml. Any other .yml or .yaml file is one if it has the keys name, and
// actions or task, at its top level, each at the beginning of a line, and lies at
// the top of the repository or in a directory that has none of those four. All
// other YAML is passed over.
package checks

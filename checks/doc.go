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
// full.
package checks

// Package resulttool is the command that reports a result from within a machine:
// `assay result`, and under its old name `taskotron_result` (COMPAT.md 1.1). Both
// programs that answer to the names run this one implementation: assay itself
// where a check runs on a host that has it, the agent in a virtual machine or on
// a host that one logs in to. It is small because the agent is.
package resulttool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/assay-ci/assay"
)

// OldName is the name that libtaskotron gave the command.
const OldName = "taskotron_result"

// Names are what the links to the program are called that a machine has in its
// PATH.
func Names() []string { return []string{"assay", OldName} }

// Called tells whether a program was called as the command, by its whole
// argument list, and with which arguments: as OldName, or as anything with result
// as the first argument.
func Called(args []string) ([]string, bool) {
	switch {
	case len(args) > 0 && filepath.Base(args[0]) == OldName:
		return args[1:], true
	case len(args) > 1 && args[1] == "result":
		return args[2:], true
	}
	return nil, false
}

// Exit codes of Run.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Usage is the help text.
const Usage = `Usage: assay result -o OUTCOME [-f FILE] [-i ITEM] [-t TYPE] [-n NOTE]
                    [-k KEY=VALUE]... [-c CHECKNAME] [-a ARTIFACT]

Adds one result to a file of ResultYAML, which is made if need be. Any number of
processes may add to one file at the same time. The same command is called
taskotron_result.

  -o, --outcome OUTCOME      PASSED, INFO, FAILED, NEEDS_INSPECTION, ABORTED, CRASHED
  -f, --file FILE            the file ($ASSAY_RESULTS, or results.yml)
  -i, --item ITEM            what was looked at ($ASSAY_ITEM)
  -t, --type TYPE            what kind of item it is ($ASSAY_TYPE)
  -n, --note NOTE            a few words about it
  -k, --keyval KEY=VALUE     any other key; again for more, or for more values
  -c, --checkname CHECKNAME  the test's name; .NAME for CHECK.NAME
  -a, --artifact ARTIFACT    a file in the artifacts that belongs to it

Exit codes: 0 added, 1 not added, 2 wrong usage.
`

// Run does what the arguments say and returns the exit code. Relative paths
// start at the process's directory.
func Run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, errHelp) {
		fmt.Fprint(stdout, Usage)
		return exitOK
	}
	var line string
	if err == nil {
		o.file = cmp.Or(o.file, getenv("ASSAY_RESULTS"), "results.yml")
		o.item, o.typ = cmp.Or(o.item, getenv("ASSAY_ITEM")), cmp.Or(o.typ, getenv("ASSAY_TYPE"))
		line, err = o.line(func(text string) { fmt.Fprintln(stderr, "assay result: "+text) })
	}
	if err != nil {
		fmt.Fprintf(stderr, "assay result: %v\nTry: assay result --help\n", err)
		return exitUsage
	}
	repaired, err := Append(o.file, line)
	if err != nil {
		fmt.Fprintf(stderr, "assay result: %v\n", err)
		return exitFailed
	}
	if repaired {
		fmt.Fprintf(stderr, "assay result: %s ended in half a result, which a killed process left: it was taken out\n", o.file)
	}
	return exitOK
}

// options are what the arguments say.
type options struct {
	file, item, typ, outcome  string
	note, checkname, artifact string
	keyvals                   []string
}

var errHelp = errors.New("help is wanted")

// flag is one option; each has a value.
type flag struct {
	short, long string
	set         func(*options, string)
}

func flags() []flag {
	return []flag{
		{"-f", "--file", func(o *options, v string) { o.file = v }},
		{"-i", "--item", func(o *options, v string) { o.item = v }},
		{"-t", "--type", func(o *options, v string) { o.typ = v }},
		{"-o", "--outcome", func(o *options, v string) { o.outcome = v }},
		{"-n", "--note", func(o *options, v string) { o.note = v }},
		{"-c", "--checkname", func(o *options, v string) { o.checkname = v }},
		{"-a", "--artifact", func(o *options, v string) { o.artifact = v }},
		{"-k", "--keyval", func(o *options, v string) { o.keyvals = append(o.keyvals, v) }},
	}
}

// parse reads arguments as getopt_long(3) does, since scripts call it so: the
// value stands behind the option, or is joined to it.
func parse(args []string) (options, error) {
	var o options
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "-h" || word == "--help" {
			return o, errHelp
		}
		f, value, joined := find(word)
		switch {
		case f == nil:
			return o, fmt.Errorf("cannot use the argument %q: write an option and its value", clip(word))
		case joined:
		case len(args) == 0:
			return o, fmt.Errorf("cannot use %s without a value", word)
		default:
			value, args = args[0], args[1:]
		}
		f.set(&o, value)
	}
	return o, nil
}

// find is the option that a word is, with a value that is joined to it.
func find(word string) (f *flag, value string, joined bool) {
	for _, f := range flags() {
		long, rest, has := strings.Cut(word, "=")
		switch {
		case word == f.short || word == f.long:
			return &f, "", false
		case has && long == f.long:
			return &f, rest, true
		case strings.HasPrefix(word, f.short) && !strings.HasPrefix(word, "--"):
			return &f, word[len(f.short):], true
		}
	}
	return nil, "", false
}

// reserved are the keys that a result has anyway.
func reserved() []string {
	return []string{"item", "type", "outcome", "note", "results", "checkname", "artifact", "_internal"}
}

// Bounds, as the reader of ResultYAML has them, in bytes.
const (
	maxKey   = 200
	maxValue = 8192
	maxNote  = 64 << 10
	maxKeys  = 100
)

// line is the result as one line of a flow mapping; what is ignored is told to
// warn.
func (o options) line(warn func(string)) (string, error) {
	if o.outcome == "" {
		return "", errors.New("cannot add a result without an outcome: write -o PASSED, or another")
	}
	outcome, ok := assay.ParseOutcome(o.outcome)
	if !ok {
		return "", fmt.Errorf("cannot use the outcome %q: write one of %s", clip(o.outcome), outcomes())
	}
	o.outcome = string(outcome)
	if o.item == "" || o.typ == "" {
		return "", errors.New("cannot add a result without an item and its type: write -i ITEM -t TYPE, or set ASSAY_ITEM and ASSAY_TYPE")
	}
	data, err := o.data(warn)
	if err != nil {
		return "", err
	}
	var m mapping
	for _, p := range []struct{ key, value string }{
		{"item", o.item}, {"type", o.typ}, {"checkname", o.checkname}, {"outcome", o.outcome}, {"artifact", o.artifact},
	} {
		if err := checkValue(p.key, p.value, maxValue, true); err != nil {
			return "", err
		}
		m.add(p.key, p.value)
	}
	if err := checkValue("note", o.note, maxNote, false); err != nil {
		return "", err
	}
	m.add("note", o.note)
	for _, d := range data {
		m.add(d.key, d.values...)
	}
	return m.String(), nil
}

func outcomes() string {
	var words []string
	for _, o := range assay.Outcomes() {
		words = append(words, string(o))
	}
	return strings.Join(words, ", ")
}

func clip(s string) string { return s[:min(len(s), 60)] }

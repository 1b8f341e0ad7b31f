package checks

// keyManual documents one key of a formula. The schema and the page of formulas
// are made of it.
type keyManual struct {
	text      string // sentences
	shape     shape  // nil for a mapping whose keys are documented themselves
	otherwise string // the default, "" for none
}

// keyTables are the parser's tables of keys, by the path of the mapping that
// they are for. "actions" is for each entry of that list.
func keyTables() map[string][]key {
	return map[string][]key{
		"":                    formulaKeys(),
		"input":               inputKeys(),
		"environment":         environmentKeys(),
		"environment.machine": machineKeys(),
		"on":                  onKeys(),
		"matrix":              {{name: "exclude"}, {name: "include"}},
		"actions":             actionKeys(&action{}),
	}
}

// keyManuals documents every key of keyTables, by its path.
func keyManuals() map[string]keyManual {
	all := make(map[string]keyManual)
	for _, part := range []map[string]keyManual{headManuals(), eventManuals(), environmentManuals(), machineManuals(), actionManuals()} {
		for path, m := range part {
			all[path] = m
		}
	}
	return all
}

// headManuals document what a formula says of itself.
func headManuals() map[string]keyManual {
	return map[string]keyManual{
		"name":       {text: "The check's name. Statuses and results carry it, with the namespace before it.", shape: shapeName()},
		"desc":       {text: "What the check looks for, in one line or in several.", shape: shapeFilled()},
		"maintainer": {text: "Who to ask about the check: a name, an account, an address.", shape: shapeFilled()},
		"namespace":  {text: "What goes before the name, with a dot between: dist.name.", shape: shapeName()},
		"input":      {text: "What the check must be given."},
		"input.args": {
			text:  "Item types that the check is for, and variables that must have a value, such as arch. Without an item type it is for all of them. Of several item types one is given, and the others are empty.",
			shape: shapeOrNull(shape{"type": "array", "items": shapeEither(shape{"enum": currentNames()}, shape{"enum": []string{"bodhi_id", "module"}, "deprecated": true})}),
		},
		"timeout":  {text: "How long all actions together may take, from 1s to 24h.", shape: shapeDuration(), otherwise: "what the operator has set"},
		"required": {text: "Whether a commit is bad when this check fails.", shape: shapeBool(), otherwise: "true"},
		"retries":  {text: "How often the check is tried again when something around it broke. What fails or crashes by itself is never tried again.", shape: shape{"type": "integer", "minimum": 0, "maximum": MaxRetries}, otherwise: "what the operator has set"},
		"needs":    {text: "Checks, by name, after which this one runs and whose artifacts it is given.", shape: shapeOneOrMore(shapeFilled())},
		"secrets":  {text: "Secrets, by name, that the operator gives this check. Commands find each in the environment variable of its name.", shape: shapeOneOrMore(shape{"type": "string", "pattern": "^[A-Z_][A-Z0-9_]{0,99}$"})},
		"matrix": {
			text: "Variables with the values that each takes. The check runs once for every combination. arch and image choose the machine.",
		},
		"matrix.exclude": {text: "Combinations to leave out. An entry leaves out every combination that has all of its values.", shape: shapeRows()},
		"matrix.include": {text: "Variables to add to the combinations that they fit, or combinations of their own.", shape: shapeRows()},
		"actions":        {text: "What the check does, in this order. The first action that fails ends the check, but for actions with if."},
	}
}

// eventManuals document what a check waits for.
func eventManuals() map[string]keyManual {
	return map[string]keyManual{
		"on":          {text: "Which events the check runs for. Whatever is said must hold; an event alone may stand here too.", otherwise: "every event with an item of its types"},
		"on.events":   {text: "Kinds of event. A command below a pull request counts as the pull request.", shape: shapeOneOrMore(shapeWords(eventKinds()...))},
		"on.types":    {text: "Item types, beside those of input.args.", shape: shapeOneOrMore(shapeWords(itemTypes()...))},
		"on.branches": {text: "Patterns for the branch that moved, was built from or is merged into. * stands for anything but /, ** for anything.", shape: shapeOneOrMore(shapeFilled())},
		"on.paths":    {text: "Patterns for changed files, of which one must match. * stands for anything but /, ** for anything, a / at the end for all below.", shape: shapeOneOrMore(shapeFilled())},
	}
}

// environmentManuals document the machine that a check needs.
func environmentManuals() map[string]keyManual {
	return map[string]keyManual{
		"environment":         {text: "The machine that the check needs. It is made ready once, not for every run."},
		"environment.image":   {text: "The name of an image that the operator keeps.", shape: shapeName(), otherwise: "what the operator has set"},
		"environment.cpus":    {text: "Processors, 1 to 64.", shape: shape{"type": "integer", "minimum": 1, "maximum": maxCPUs}, otherwise: "what the operator has set"},
		"environment.memory":  {text: "Memory, such as 512MiB or 2GiB.", shape: shapeSize(), otherwise: "what the operator has set"},
		"environment.disk":    {text: "Size of the disk, such as 8GiB.", shape: shapeSize(), otherwise: "what the image has"},
		"environment.rpm":     {text: "What dnf installs: packages, files, patterns.", shape: shapeOneOrMore(shapeFilled())},
		"environment.deb":     {text: "What apt installs: NAME, NAME:ARCH, NAME=VERSION or NAME/RELEASE.", shape: shapeOneOrMore(shapeFilled())},
		"environment.pip":     {text: "What pip installs: NAME, NAME[EXTRA], NAME==VERSION and the like.", shape: shapeOneOrMore(shapeFilled())},
		"environment.setup":   {text: "Commands for /bin/sh that run in order when all packages are installed. They belong to the template: no variables are substituted. One that exits with 75 (EX_TEMPFAIL) asks for another attempt; any other status but 0 fails the check.", shape: shapeOneOrMore(shapeFilled())},
		"environment.network": {text: "The machine's network. full needs the operator's leave.", shape: shapeWords("none", "full"), otherwise: "none"},
		"environment.machine": {text: "Where Taskotron's formulas have distro, release and arch."},
	}
}

// machineManuals document the words of machineKeys at both of their places.
func machineManuals() map[string]keyManual {
	all := make(map[string]keyManual)
	for _, prefix := range []string{"environment.", "environment.machine."} {
		all[prefix+"distro"] = keyManual{text: "Distribution, such as fedora, instead of an image.", shape: shapeScalar()}
		all[prefix+"release"] = keyManual{text: "Release of the distribution, such as 42.", shape: shapeScalar()}
		all[prefix+"arch"] = keyManual{text: "Architecture of the machine, such as x86_64.", shape: shapeScalar()}
		all[prefix+"flavor"] = keyManual{text: "Chose between Taskotron's images and says nothing here.", shape: shape{"type": shapeScalar()["type"], "deprecated": true}}
	}
	return all
}

// actionManuals document the keys that every action has besides its directive.
func actionManuals() map[string]keyManual {
	return map[string]keyManual{
		"actions.name":    {text: "What the action is called in the log.", shape: shapeFilled()},
		"actions.export":  {text: "The variable that later actions find this one's value in.", shape: shape{"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}$"}},
		"actions.timeout": {text: "How long this action may take, from 1s to 24h.", shape: shapeDuration()},
		"actions.if":      {text: "When the action runs: always, or failure for only after a failed one. Without it, while nothing has failed.", shape: shapeWords(conditions()...)},
		"actions.workdir": {text: "The directory that commands start in, relative to the check's own.", shape: shapeScalar(), otherwise: "the check's own directory"},
		"actions.env":     {text: "Environment variables for the commands, NAME: VALUE.", shape: shapeOrNull(shape{"type": "object", "additionalProperties": shapeScalar(), "propertyNames": shape{"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}$"}})},
	}
}

// currentNames are the names for input.args without the historic ones.
func currentNames() []string {
	var names []string
	for _, name := range inputNames() {
		if currentType(name) == name {
			names = append(names, name)
		}
	}
	return names
}

func shapeName() shape {
	return shape{"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$"}
}

func shapeFilled() shape { return shape{"type": "string", "pattern": `\S`} }

func shapeDuration() shape {
	return shape{"type": "string", "pattern": `^\+?([0-9.]+(ns|us|µs|μs|ms|s|m|h))+$`, "examples": []string{"90s", "10m", "2h"}}
}

func shapeSize() shape {
	return shape{"type": "string", "pattern": `^[0-9][0-9.]*\s*[KMGT](iB|B)?$`, "examples": []string{"512MiB", "2GiB"}}
}

// shapeScalar is a text, or what YAML takes for a number or a boolean and we for
// the text that is written.
func shapeScalar() shape { return shape{"type": []string{"string", "number", "boolean"}} }

func shapeOrNull(s shape) shape { return shapeEither(s, shape{"type": "null"}) }

// shapeOneOrMore is nothing, one value or a list.
func shapeOneOrMore(item shape) shape {
	return shapeEither(item, shape{"type": "array", "items": item}, shape{"type": "null"})
}

// shapeRows is a list of NAME: VALUE mappings.
func shapeRows() shape {
	return shapeOrNull(shape{"type": "array", "items": shape{"type": "object", "minProperties": 1, "additionalProperties": shapeScalar()}})
}

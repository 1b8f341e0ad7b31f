package checks

// manual documents one directive. The schema, assay help directive NAME and the
// page of directives are made of it, and of nothing else.
type manual struct {
	short   string // one line without a full stop: "run commands"
	text    string // paragraphs, separated by empty lines; "" for none
	args    []argument
	bare    shape  // what stands in place of the arguments' mapping, nil when only the mapping does
	value   string // what export stores; "" for nothing
	example string // one action, in YAML, that lint finds no mistake in
}

// argument documents one argument of a directive.
type argument struct {
	name      string
	text      string // one sentence
	required  bool
	shape     shape
	otherwise string // the default, "" for none
}

// shape is a fragment of JSON Schema (draft 2020-12).
type shape map[string]any

func shapeText() shape { return shape{"type": "string"} }
func shapeBool() shape { return shape{"type": "boolean"} }
func shapeAny() shape  { return shape{} }

// shapeListOf is a list of at least one.
func shapeListOf(item shape) shape { return shape{"type": "array", "items": item, "minItems": 1} }

func shapeWords(words ...string) shape { return shape{"enum": words} }

func shapeEither(shapes ...shape) shape { return shape{"anyOf": shapes} }

package checks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// SchemaID names the schema of formulas: the address of the copy that goes with
// the source.
const SchemaID = "https://github.com/assay-ci/assay/raw/main/docs/formula.schema.json"

// Schema is the JSON Schema (draft 2020-12) of formulas, indented, with a line
// end. It accepts every formula that Parse accepts. It does not know variables,
// so that it accepts some that Parse does not.
func Schema() []byte {
	root := objectSchema("", "A check: what it needs and does.")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = SchemaID
	root["title"] = "Assay formula"
	root["$defs"] = defs()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil // there is nothing in it but maps, lists and texts: a test reads it
	}
	return b.Bytes()
}

// defs are the parts that the schema refers to.
func defs() shape {
	all := shape{
		"action":   actionSchema(),
		"variable": shape{"type": "string", "pattern": `^\$([A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_.]*\})$`, "description": "Exactly one variable, whose value is passed on as it is."},
		"truth":    truthSchema(),
	}
	for name := range directives() {
		all["directive-"+name] = directiveSchema(name)
	}
	return all
}

// truthSchema is a boolean in any spelling of YAML 1.1. Readers of YAML 1.2, as
// editors are, take yes and no for texts.
func truthSchema() shape {
	words := []any{true, false}
	for _, w := range []string{"yes", "no", "on", "off", "true", "false"} {
		words = append(words, w, strings.ToUpper(w[:1])+w[1:], strings.ToUpper(w))
	}
	return shape{"enum": words}
}

// objectSchema is the schema of the mapping at a path of keyTables.
func objectSchema(path, description string) shape {
	properties := shape{}
	required := []string{}
	s := shape{"type": "object", "properties": properties, "additionalProperties": false}
	if description != "" {
		s["description"] = description
	}
	for _, k := range keyTables()[path] {
		properties[k.name] = keySchema(join(path, k.name))
		if k.older != "" {
			older := maps.Clone(keySchema(join(path, k.name)))
			older["description"] = "The older spelling of " + k.name + "."
			older["deprecated"] = true
			properties[k.older] = older
		}
		switch {
		case k.required && k.older != "":
			s["oneOf"] = []shape{{"required": []string{k.name}}, {"required": []string{k.older}}}
		case k.required:
			required = append(required, k.name)
		}
	}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// keySchema is the schema of one key's value.
func keySchema(path string) shape {
	m := keyManuals()[path]
	var s shape
	switch {
	case path == "actions":
		s = shape{"type": "array", "minItems": 1, "maxItems": maxActions, "items": shape{"$ref": "#/$defs/action"}}
	case path == "matrix":
		s = objectSchema(path, "")
		s["additionalProperties"] = shapeEither(shapeScalar(), shapeListOf(shapeScalar()))
		s = shapeOrNull(s)
	case path == "on":
		s = shapeEither(objectSchema(path, ""), keyManuals()["on.events"].shape)
	case m.shape == nil:
		s = shapeOrNull(objectSchema(path, ""))
	default:
		s = maps.Clone(truthful(m.shape))
	}
	describe(s, m.text, m.otherwise, m.shape)
	return s
}

// truthful lets a boolean be written in any way that YAML 1.1 knows.
func truthful(s shape) shape {
	if s["type"] == "boolean" {
		return shape{"$ref": "#/$defs/truth"}
	}
	return s
}

// describe adds what the text says, and the default: as a value where it is one,
// in words where it is none.
func describe(s shape, text, otherwise string, kind shape) {
	s["description"] = text
	if otherwise == "" {
		return
	}
	words, isWords := kind["enum"].([]string)
	switch {
	case kind["type"] == "boolean" && (otherwise == "true" || otherwise == "false"):
		s["default"] = otherwise == "true"
	case isWords && slices.Contains(words, otherwise):
		s["default"] = otherwise
	default:
		s["description"] = text + " Default: " + otherwise + "."
	}
}

// actionSchema is one entry of actions: the common keys and exactly one
// directive.
func actionSchema() shape {
	s := objectSchema("actions", "One action: a name and exactly one directive.")
	properties, _ := s["properties"].(shape)
	choices := []shape{}
	add := func(name, of string, more shape) {
		property := shape{"$ref": "#/$defs/directive-" + of, "description": directiveText(of)}
		maps.Copy(property, more)
		properties[name] = property
		choices = append(choices, shape{"required": []string{name}})
	}
	for _, name := range slices.Sorted(maps.Keys(directives())) {
		add(name, name, nil)
	}
	add("bash", "shell", shape{"deprecated": true, "description": "The older spelling of shell."})
	s["oneOf"] = choices
	return s
}

// directiveText is a directive's description, its value included.
func directiveText(name string) string {
	m := directives()[name]().manual()
	text := strings.ToUpper(m.short[:1]) + m.short[1:] + "."
	if m.text != "" {
		text += " " + strings.Join(strings.Fields(m.text), " ")
	}
	if m.value != "" {
		text += " export stores " + m.value + "."
	}
	return text
}

// directiveSchema is what may stand behind a directive's name.
func directiveSchema(name string) shape {
	m := directives()[name]().manual()
	if len(m.args) == 0 && m.bare != nil {
		return loose(m.bare)
	}
	properties, required := shape{}, []string{}
	s := shape{"type": "object", "properties": properties, "additionalProperties": false}
	for _, a := range m.args {
		if a.name == restOfArguments {
			s["additionalProperties"] = loose(a.shape)
			continue
		}
		property := loose(a.shape)
		describe(property, a.text, a.otherwise, a.shape)
		properties[a.name] = property
		if a.required {
			required = append(required, a.name)
		}
	}
	if len(required) > 0 {
		s["required"] = required
	}
	if m.bare != nil {
		return shapeEither(s, loose(m.bare))
	}
	return s
}

// restOfArguments is the name under which a manual documents arguments of any
// other name.
const restOfArguments = "…"

// loose is a shape with everything that may stand in its place: a variable for
// what is no text, and what YAML takes for no text where a text is wanted.
func loose(s shape) shape {
	variable := shape{"$ref": "#/$defs/variable"}
	out := maps.Clone(s)
	switch {
	case s["anyOf"] != nil:
		either, _ := s["anyOf"].([]shape)
		all := make([]shape, len(either))
		for i, one := range either {
			all[i] = loose(one)
		}
		out["anyOf"] = all
	case s["enum"] != nil:
		return shapeEither(out, variable)
	case s["type"] == "string":
		out["type"] = shapeScalar()["type"]
	case s["type"] == "boolean":
		return shapeEither(shape{"$ref": "#/$defs/truth"}, variable)
	case s["type"] == "integer", s["type"] == "number":
		return shapeEither(out, variable)
	case s["type"] == "array":
		if items, ok := s["items"].(shape); ok {
			out["items"] = loose(items)
		}
		return shapeEither(out, variable)
	case s["type"] == "object":
		out["properties"] = looseProperties(s["properties"])
	}
	return out
}

func looseProperties(properties any) shape {
	out := shape{}
	switch all := properties.(type) {
	case map[string]any:
		for name, p := range all {
			if s, ok := p.(shape); ok {
				out[name] = loose(s)
			}
		}
	case shape:
		return looseProperties(map[string]any(all))
	}
	return out
}

// KeysTable lists every key of a formula with what it takes and means, as a table
// in Markdown. A key of a mapping stands behind the mapping's own, with a dot.
func KeysTable() string {
	var b strings.Builder
	b.WriteString("\n| key | takes | meaning |\n|---|---|---|\n")
	keyRows(&b, "")
	return b.String()
}

// keyRows writes the rows of one of keyTables, each table behind its own key.
func keyRows(b *strings.Builder, path string) {
	for _, k := range keyTables()[path] {
		full := join(path, k.name)
		m := keyManuals()[full]
		takes := "a mapping"
		switch {
		case full == "actions":
			takes = "a list"
		case m.shape != nil:
			takes = shapeWordsOf(m.shape)
		}
		if k.required {
			takes += ", required"
		}
		if m.otherwise != "" {
			takes += ", default " + m.otherwise
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", full, cell(takes), cell(m.text))
		keyRows(b, full)
	}
}

package checks

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// Every key of the parser's tables is documented, and nothing else.
func TestEveryKeyIsDocumented(t *testing.T) {
	manuals := keyManuals()
	for path, table := range keyTables() {
		for _, k := range table {
			full := join(path, k.name)
			m, ok := manuals[full]
			delete(manuals, full)
			_, isTable := keyTables()[full]
			switch {
			case !ok:
				t.Errorf("%s has no documentation in keys_manual.go", full)
			case !strings.HasSuffix(m.text, ".") || strings.Contains(m.text, "\n"):
				t.Errorf("%s: %q is no sentence in one line", full, m.text)
			case isTable != (m.shape == nil):
				t.Errorf("%s: a mapping of our own keys has no shape, everything else has one", full)
			}
		}
	}
	for path := range manuals {
		t.Errorf("the documentation names %s, which is no key", path)
	}
}

// A directive's manual is whole, its example is flawless and says what it is to
// say.
func TestEveryDirectiveIsDocumented(t *testing.T) {
	for name, empty := range directives() {
		m := empty().manual()
		if m.short == "" || strings.HasSuffix(m.short, ".") || strings.Contains(m.short, "\n") {
			t.Errorf("%s: %q is no short description", name, m.short)
		}
		if len(m.args) == 0 && m.bare == nil {
			t.Errorf("%s takes nothing", name)
		}
		for _, a := range m.args {
			if a.name == "" || a.shape == nil || !strings.HasSuffix(a.text, ".") {
				t.Errorf("%s: the argument %q is not documented", name, a.name)
			}
		}
		formula := exampleFormula(m.example)
		if f, err := Parse("example.yml", []byte(formula)); err != nil || len(f.Warnings) > 0 || f.actions[len(f.actions)-1].kind != name {
			t.Errorf("%s: the example is no example of it: %v\n%s", name, err, formula)
		}
	}
}

// exampleFormula makes a formula of one action, with an action before it that
// exports what its variables need.
func exampleFormula(action string) string {
	var b strings.Builder
	b.WriteString("name: example\ndesc: shows a directive\nmaintainer: somebody\ninput: {args: [koji_build, bodhi_update, koji_tag, arch]}\nactions:\n")
	seen := builtins()
	for _, name := range inputNames() {
		seen[name] = true
	}
	for t := range scan(action) {
		if t.kind == tokenRef && !seen[t.path[0]] {
			seen[t.path[0]] = true
			b.WriteString("  - {name: before, shell: [ls], export: " + t.path[0] + "}\n")
		}
	}
	for i, line := range strings.Split(strings.TrimSpace(action), "\n") {
		b.WriteString(map[bool]string{true: "  - ", false: "    "}[i == 0] + line + "\n")
	}
	return b.String()
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID) // checks it against the schema of schemas, too
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// jsonValue is a node as an editor's YAML reader has it: by YAML 1.2, where yes
// and no are texts.
func jsonValue(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = jsonValue(t, n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		l := []any{}
		for _, item := range n.Content {
			l = append(l, jsonValue(t, item))
		}
		return l
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!int", "!!float", "!!bool":
		var v any
		if err := n.Decode(&v); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			return n.Value // .inf and the like are no JSON
		}
		back, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	return n.Value
}

func schemaError(t *testing.T, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	root, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(jsonValue(t, root))
}

// What the parser takes, the schema takes: editors must not complain of it.
func TestSchemaTakesGoodFormulas(t *testing.T) {
	s := compiledSchema(t)
	files, err := filepath.Glob(corpus + "/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(file, data); err != nil {
			continue
		}
		seen++
		if err := schemaError(t, s, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for name := range directives() {
		formula := exampleFormula(directives()[name]().manual().example)
		if err := schemaError(t, s, []byte(formula)); err != nil {
			t.Errorf("the example of %s: %v\n%s", name, err, formula)
		}
	}
	if seen < 60 {
		t.Errorf("%d good formulas: that cannot be all", seen)
	}
}

// What an editor can know to be wrong.
func TestSchemaRefusesBadFormulas(t *testing.T) {
	s := compiledSchema(t)
	const head, tail = "name: x\ndesc: y\nmaintainer: z\n", "actions: [{name: n, shell: [ls]}]\n"
	for name, text := range map[string]string{
		"an unknown key":          head + "colour: red\n" + tail,
		"a missing key":           "name: x\ndesc: y\n" + tail,
		"no actions":              head,
		"empty actions":           head + "actions: []\n",
		"both spellings":          head + tail + "task: [{name: n, shell: [ls]}]\n",
		"a bad name":              "name: a b\ndesc: y\nmaintainer: z\n" + tail,
		"a number as name":        "name: 1\ndesc: y\nmaintainer: z\n" + tail,
		"an empty desc":           "name: x\ndesc: ' '\nmaintainer: z\n" + tail,
		"an unknown argument":     head + "input: {args: [koji_buidl]}\n" + tail,
		"a text for arguments":    head + "input: {args: koji_build}\n" + tail,
		"an unknown environment":  head + "environment: {rmp: [make]}\n" + tail,
		"too many processors":     head + "environment: {cpus: 1000}\n" + tail,
		"memory without a unit":   head + "environment: {memory: 512}\n" + tail,
		"an unknown network":      head + "environment: {network: some}\n" + tail,
		"a timeout without unit":  head + "timeout: 10\n" + tail,
		"required by a word":      head + "required: maybe\n" + tail,
		"too many retries":        head + "retries: 11\n" + tail,
		"an unknown event":        head + "on: {events: [pushed]}\n" + tail,
		"an unknown condition":    head + "actions: [{name: n, shell: [ls], if: sometimes}]\n",
		"an unknown directive":    head + "actions: [{name: n, shel: [ls]}]\n",
		"no directive":            head + "actions: [{name: n}]\n",
		"two directives":          head + "actions: [{name: n, shell: [ls], dummy: {result: PASS}}]\n",
		"an action without name":  head + "actions: [{shell: [ls]}]\n",
		"an unknown argument of":  head + "actions: [{name: n, dummy: {result: PASS, mesg: x}}]\n",
		"a missing argument of":   head + "actions: [{name: n, python: {file: x.py}}]\n",
		"a mapping for a command": head + "actions: [{name: n, shell: [{echo: x}]}]\n",
		"no commands":             head + "actions: [{name: n, shell: []}]\n",
		"an export with a dollar": head + "actions: [{name: n, shell: [ls], export: $x}]\n",
		"a list":                  "- x\n",
	} {
		if err := schemaError(t, s, []byte(text)); err == nil {
			t.Errorf("%s: the schema takes it", name)
		}
		if _, err := Parse("f.yml", []byte(text)); err == nil {
			t.Errorf("%s: the parser takes it, so that the schema ought to", name)
		}
	}
}

// Whatever an editor completes has a description.
func TestSchemaDescribesEverything(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(at, item)
			}
		case map[string]any:
			properties, _ := v["properties"].(map[string]any)
			for name, p := range properties {
				if s, ok := p.(map[string]any); !ok || at != "ignored" && s["description"] == nil && name != "ignorereturn" {
					t.Errorf("%s/%s has no description", at, name)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(v)) {
				walk(at+"/"+name, v[name])
			}
		}
	}
	walk("", root)
}

func TestSchemaFile(t *testing.T) {
	expect(t, "../docs/formula.schema.json", Schema())
}

package checks

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// Bounds of ResultYAML.
const (
	// MaxResultsSize is the size of the largest ResultYAML that is read, in bytes.
	MaxResultsSize = 8 << 20
	// MaxResults is how many results one ResultYAML may hold.
	MaxResults = 100_000

	maxResultText = 8192 // bytes of one value; ResultsDB v3 has the same bound
	maxResultNote = 64 << 10
	maxDataKeys   = 100
	maxDataValues = 1000
)

// ParseResults reads ResultYAML (COMPAT.md 1.1, "Result format"): a mapping
// whose key results holds a list of results, or nothing for none. Other keys of
// that mapping are ignored. An outcome that is not given is NEEDS_INSPECTION.
// Item, Type and Checkname stay empty where the check leaves them out: the
// caller knows what it ran on what. Keys that are not the format's own go into
// Data, a single value as a list of one. At most MaxResultsSize and MaxResults
// are read; an error names the line.
func ParseResults(data []byte) ([]assay.Result, error) {
	if len(data) > MaxResultsSize {
		return nil, fmt.Errorf("cannot read results larger than %d MiB: write fewer, or shorter notes", MaxResultsSize>>20)
	}
	root, err := decode(data)
	var ye *yamlError
	if errors.Is(err, errEmpty) {
		return nil, errors.New("cannot read results from nothing: write results: and a list below it")
	}
	if errors.As(err, &ye) {
		return nil, resultError(ye.line, "%s", ye.message)
	}
	list, err := resultList(root)
	if err != nil {
		return nil, err
	}
	results := make([]assay.Result, 0, len(list))
	for _, n := range list {
		r, err := parseResult(n)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// resultError is a bounded one-line error about a line of ResultYAML.
func resultError(line int, format string, args ...any) error {
	return errors.New(oneLine(fmt.Sprintf("cannot read the results, line %d: cannot ", max(line, 1))+fmt.Sprintf(format, args...), maxMessage))
}

// resultList finds the list in the root mapping.
func resultList(root *yaml.Node) ([]*yaml.Node, error) {
	if root.Kind != yaml.MappingNode {
		return nil, resultError(root.Line, "read %s: write results: and a list below it", kindOf(root))
	}
	var known []string
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		known = append(known, key.Value)
		switch {
		case key.Value != "results":
		case isNull(value):
			return nil, nil
		case value.Kind != yaml.SequenceNode:
			return nil, resultError(value.Line, "read %s as the list of results: write \"- item: …\" lines", kindOf(value))
		case len(value.Content) > MaxResults:
			return nil, resultError(value.Line, "read more than %d results: write fewer", MaxResults)
		default:
			return value.Content, nil
		}
	}
	instead := ""
	if near := nearest("results", known); near != "" {
		instead = ", not " + shown(near)
	}
	return nil, resultError(root.Line, "find the key results: write results: and a list below it%s", instead)
}

// parseResult reads one entry of the list.
func parseResult(n *yaml.Node) (assay.Result, error) {
	r := assay.Result{Outcome: assay.NeedsInspection}
	if n.Kind != yaml.MappingNode {
		return r, resultError(n.Line, "read %s as a result: write KEY: VALUE lines with outcome", kindOf(n))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := setResult(&r, n.Content[i], n.Content[i+1]); err != nil {
			return r, err
		}
	}
	return r, nil
}

// setResult takes one key of a result. _internal and results are reserved
// words that mean nothing here and are ignored, as they always were.
func setResult(r *assay.Result, key, value *yaml.Node) (err error) {
	switch key.Value {
	case "item":
		r.Item, err = resultLine(key, value)
	case "type":
		r.Type, err = resultLine(key, value)
	case "checkname":
		r.Checkname, err = resultLine(key, value)
	case "artifact":
		r.Artifact, err = resultLine(key, value)
	case "note":
		r.Note, err = resultScalar(key, value, maxResultNote)
	case "outcome":
		r.Outcome, err = resultOutcome(key, value)
	case "_internal", "results":
	default:
		err = setData(r, key, value)
	}
	return err
}

func resultOutcome(key, n *yaml.Node) (assay.Outcome, error) {
	s, err := resultLine(key, n)
	if err != nil || strings.TrimSpace(s) == "" {
		return assay.NeedsInspection, err
	}
	o, ok := assay.ParseOutcome(s)
	if !ok {
		var legal []string
		for _, o := range assay.Outcomes() {
			legal = append(legal, string(o))
		}
		return "", resultError(n.Line, "use the outcome %s: write one of %s", shown(s), strings.Join(legal, ", "))
	}
	return o, nil
}

// resultScalar reads any scalar as the text it is written as; nothing is "".
func resultScalar(key, n *yaml.Node, limit int) (string, error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", resultError(n.Line, "read %s as %s: write a text", kindOf(n), shown(key.Value))
	case isNull(n):
		return "", nil
	case len(n.Value) > limit:
		return "", resultError(n.Line, "use more than %d bytes for %s: write less, and leave the rest in an artifact", limit, shown(key.Value))
	case strings.ContainsRune(n.Value, 0):
		return "", resultError(n.Line, "use a zero byte in %s: write text", shown(key.Value))
	}
	return n.Value, nil
}

// resultLine reads a scalar that is one line without control characters.
func resultLine(key, n *yaml.Node) (string, error) {
	s, err := resultScalar(key, n, maxResultText)
	if err == nil && strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return "", resultError(n.Line, "use control characters or line ends in %s: write one plain line", shown(key.Value))
	}
	return s, err
}

// setData takes a key of the check's own: a scalar or a list of scalars. One
// without a value is left out.
func setData(r *assay.Result, key, n *yaml.Node) error {
	name := key.Value
	switch {
	case name == "" || len(name) > maxLine || strings.IndexFunc(name, unicode.IsControl) >= 0:
		return resultError(key.Line, "use the key %s: write one line of 1 to %d bytes", shown(name), maxLine)
	case strings.ContainsRune(name, ':'):
		return resultError(key.Line, "use the key %s with a colon: write another character", shown(name))
	case len(r.Data) >= maxDataKeys:
		return resultError(key.Line, "use more than %d keys in one result: write fewer", maxDataKeys)
	case isNull(n):
		return nil
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) > maxDataValues {
		return resultError(n.Line, "use more than %d values for %s: write fewer", maxDataValues, shown(name))
	}
	values := make([]string, 0, len(items))
	for _, item := range items {
		s, err := resultScalar(key, item, maxResultText)
		if err != nil {
			return err
		}
		values = append(values, s)
	}
	if r.Data == nil {
		r.Data = make(map[string][]string)
	}
	r.Data[name] = values
	return nil
}

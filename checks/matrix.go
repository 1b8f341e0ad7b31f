package checks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/assay-ci/assay"
)

// Bounds of a matrix.
const (
	maxVariants    = 64   // that are left when exclude and include are done
	maxProduct     = 1024 // combinations before exclude
	maxMatrixVars  = 16
	maxMatrixList  = 1024 // entries of exclude and of include
	maxMatrixValue = 64   // bytes
	maxVariantName = 200  // bytes
)

// varImage is the variable that a matrix over images sets.
const varImage = "image"

// matrix is a matrix while it is read.
type matrix struct {
	names  []string            // in the formula's order
	values map[string][]string // by name, in the formula's order
	rows   []map[string]string
	base   int // rows that include may extend: those of the product
}

// readMatrix reads NAME: list of values, exclude and include, which mean what
// they mean in a workflow of GitHub Actions. A value is the text that is
// written: 3.10 is not 3.1.
func readMatrix(p *parser, n *yaml.Node) {
	switch {
	case isNull(n):
		return
	case n.Kind != yaml.MappingNode:
		p.mistake(n, "read %s as a matrix: write NAME: [VALUE, …] lines", kindOf(n))
		return
	}
	before := len(p.mistakes)
	m := &matrix{values: make(map[string][]string)}
	var exclude, include *yaml.Node
	ok := p.mapping(n, "matrix", []key{
		{name: "exclude", read: func(_ *parser, n *yaml.Node) { exclude = n }},
		{name: "include", read: func(_ *parser, n *yaml.Node) { include = n }},
	}, func(f field) { m.readVariable(p, f) })
	if !ok || len(p.mistakes) > before || !m.multiply(p, n) {
		return
	}
	if exclude != nil {
		m.exclude(p, exclude)
	}
	if m.base = len(m.rows); include != nil {
		m.include(p, include)
	}
	if len(p.mistakes) == before {
		m.finish(p, n)
	}
}

// readVariable reads one NAME: list.
func (m *matrix) readVariable(p *parser, f field) {
	name := f.key.Value
	if !p.matrixName(f.key) {
		return
	}
	if len(m.names) == maxMatrixVars {
		p.mistake(f.key, "use more than %d variables in a matrix: write fewer", maxMatrixVars)
		return
	}
	var values []string
	for _, item := range p.oneOrMore(f.value, "matrix."+name, maxVariants) {
		v, ok := p.matrixValue(item, name)
		switch {
		case !ok:
		case slices.Contains(values, v):
			p.mistake(item, "use %s twice: write it once", shown(v))
		default:
			values = append(values, v)
		}
	}
	if len(values) == 0 && isNull(f.value) {
		p.mistake(f.value, "read nothing as matrix.%s: write a list of values", oneLine(name, maxName))
	}
	m.names, m.values[name] = append(m.names, name), values
	p.known[name] = true
}

// matrixName wants a name that no other variable has, but for arch.
func (p *parser) matrixName(n *yaml.Node) bool {
	name := n.Value
	switch {
	case !isIdentifier(name) || len(name) > maxName:
		p.mistake(n, "use %s as a variable of a matrix: write a name of letters, digits and _", shown(name))
	case name != assay.VarArch && (builtins()[name] || slices.Contains(inputNames(), name)):
		p.mistake(n, "use %s as a variable of a matrix, it has a meaning already: write another name", name)
	default:
		return true
	}
	return false
}

// matrixValue reads one value as it is written. It becomes part of a variant's
// name, which commas separate.
func (p *parser) matrixValue(n *yaml.Node, name string) (string, bool) {
	switch v := n.Value; {
	case n.Kind != yaml.ScalarNode || isNull(n):
		p.mistake(n, "read %s as a value of a matrix: write a text or a number", kindOf(n))
	case v == "" || strings.TrimSpace(v) != v || strings.Contains(v, ",") || oneLine(v, maxMatrixValue+1) != v:
		p.mistake(n, "use %s as a value of a matrix: write 1 to %d printable characters without commas", shown(v), maxMatrixValue)
	case len(v) > maxMatrixValue:
		p.mistake(n, "use more than %d bytes as a value of a matrix: write a shorter one", maxMatrixValue)
	case (name == assay.VarArch || name == varImage) && !isSafeName(v):
		p.mistake(n, "use %s as %s: write a name such as %s", shown(v), name, map[string]string{assay.VarArch: "x86_64", varImage: "debian-12"}[name])
	default:
		return v, true
	}
	return "", false
}

// multiply makes every combination, the first variable changing slowest.
func (m *matrix) multiply(p *parser, n *yaml.Node) bool {
	rows := []map[string]string{{}}
	for _, name := range m.names {
		if len(rows)*len(m.values[name]) > maxProduct {
			p.mistake(n, "use a matrix of more than %d combinations: write fewer values", maxProduct)
			return false
		}
		var longer []map[string]string
		for _, row := range rows {
			for _, value := range m.values[name] {
				next := maps.Clone(row)
				next[name] = value
				longer = append(longer, next)
			}
		}
		rows = longer
	}
	if len(m.names) > 0 {
		m.rows = rows
	}
	return true
}

// exclude takes away what an entry describes: every combination that has all of
// its values.
func (m *matrix) exclude(p *parser, n *yaml.Node) {
	for _, item := range p.rowsOf(n, "exclude") {
		row, ok := p.row(item, "exclude", func(key *yaml.Node) bool {
			if m.values[key.Value] == nil {
				p.mistake(key, "exclude by %s: %s", shown(key.Value), didYouMean(key.Value, m.names))
				return false
			}
			return true
		})
		for name, value := range row {
			if !slices.Contains(m.values[name], value) {
				p.mistake(item, "exclude %s %s: %s", oneLine(name, maxName), shown(value), didYouMean(value, m.values[name]))
				ok = false
			}
		}
		if ok {
			m.rows = slices.DeleteFunc(m.rows, func(r map[string]string) bool { return agrees(r, row, nil) })
		}
	}
}

// include extends the combinations that an entry does not contradict, or adds
// one more when it contradicts them all.
func (m *matrix) include(p *parser, n *yaml.Node) {
	for _, item := range p.rowsOf(n, "include") {
		row, ok := p.row(item, "include", p.matrixName)
		if !ok {
			continue
		}
		for name := range row {
			p.known[name] = true
		}
		extended := false
		for _, r := range m.rows[:m.base] {
			if agrees(r, row, m.values) {
				maps.Copy(r, row)
				extended = true
			}
		}
		if !extended {
			m.rows = append(m.rows, row)
		}
	}
}

// agrees tells that a combination has the values of an entry: all of them, or of
// those variables only that the map has.
func agrees(r, entry map[string]string, only map[string][]string) bool {
	for name, value := range entry {
		if only != nil && only[name] == nil {
			continue
		}
		if r[name] != value {
			return false
		}
	}
	return true
}

// rowsOf are the entries of exclude or include.
func (p *parser) rowsOf(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case isNull(n):
	case n.Kind != yaml.SequenceNode:
		p.mistake(n, "read %s as matrix.%s: write a list of - NAME: VALUE", kindOf(n), what)
	case len(n.Content) > maxMatrixList:
		p.mistake(n, "%s more than %d combinations: write fewer", what, maxMatrixList)
	default:
		return n.Content
	}
	return nil
}

// row reads one entry of exclude or include.
func (p *parser) row(n *yaml.Node, what string, known func(key *yaml.Node) bool) (map[string]string, bool) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 || len(n.Content) > 2*maxMatrixVars {
		p.mistake(n, "read %s as an entry of matrix.%s: write 1 to %d lines of NAME: VALUE", kindOf(n), what, maxMatrixVars)
		return nil, false
	}
	row, good := make(map[string]string), true
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if !known(n.Content[i]) {
			good = false
			continue
		}
		value, ok := p.matrixValue(n.Content[i+1], name)
		row[name], good = value, good && ok
	}
	return row, good
}

// finish makes variants of the combinations.
func (m *matrix) finish(p *parser, n *yaml.Node) {
	all := make(map[string]bool)
	for _, row := range m.rows {
		for name := range row {
			all[name] = true
		}
	}
	switch {
	case len(m.rows) > maxVariants:
		p.mistake(n, "use a matrix of %d combinations: write at most %d", len(m.rows), maxVariants)
		return
	case len(m.rows) == 0:
		p.mistake(n, "use a matrix without any combination: write NAME: [VALUE, …], and exclude fewer")
		return
	case len(all) > maxMatrixVars:
		p.mistake(n, "use more than %d variables in a matrix: write fewer", maxMatrixVars)
		return
	}
	var variants []Variant
	for _, row := range m.rows {
		v := variantOf(row, all)
		same := func(other Variant) bool { return other.Name == v.Name && other.Arch == v.Arch }
		switch {
		case slices.ContainsFunc(variants, same):
			p.mistake(n, "use the combination %s twice: write it once", shown(v.Name))
			return
		case len(v.Name) > maxVariantName:
			p.mistake(n, "use combinations whose values are longer than %d bytes together: write shorter ones", maxVariantName)
			return
		}
		variants = append(variants, v)
	}
	p.formula.Matrix = variants
}

// variantOf makes a variant of one combination. all are the variables of every
// combination: those that this one has no value for are empty, as they are in a
// workflow of GitHub Actions.
func variantOf(row map[string]string, all map[string]bool) Variant {
	v := Variant{Arch: row[assay.VarArch], Image: row[varImage], Vars: maps.Clone(row)}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value, ok := row[name]
		if !ok && name != assay.VarArch {
			v.Vars[name] = ""
		}
		if ok && name != assay.VarArch {
			parts = append(parts, name+"="+value)
		}
	}
	v.Name = strings.Join(parts, ",")
	return v
}

// matrixVars lists the variables that a matrix sets in every variant, sorted.
func (f *Formula) matrixVars() []string {
	if len(f.Matrix) == 0 {
		return nil
	}
	names := maps.Clone(f.Matrix[0].Vars)
	delete(names, assay.VarArch) // the operator's default serves when it is not said
	return slices.Sorted(maps.Keys(names))
}

// checkMatrix wants the variables of a matrix to be given, empty or not.
func (f *Formula) checkMatrix(vars assay.Vars) error {
	for _, name := range f.matrixVars() {
		if _, ok := vars[name]; !ok {
			return fmt.Errorf("cannot run %s: the variable %s of its matrix is not given: give it with --var %s=%s",
				f.Checkname(), name, name, f.Matrix[0].Vars[name])
		}
	}
	return nil
}

package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/assay-ci/assay"
	"github.com/assay-ci/assay/checks"
)

// errand is one execution that assay run is asked for: a formula, in one variant.
type errand struct {
	target
	variant checks.Variant
	vars    assay.Vars // the variant's, and those of --var
	id      string     // among the errands of one run
	needs   []assay.Need
}

// title names an errand among others.
func (it errand) title() string {
	name := it.formula.Checkname()
	if label := it.label(); label != "" {
		name += " (" + label + ")"
	}
	return name
}

// label tells the variants of a formula apart.
func (it errand) label() string {
	switch v := it.variant; {
	case v.Arch == "":
		return v.Name
	case v.Name == "":
		return "arch=" + v.Arch
	default:
		return "arch=" + v.Arch + "," + v.Name
	}
}

func titles(errands []errand) string {
	var names []string
	for _, it := range errands {
		names = append(names, it.title())
	}
	return strings.Join(names, ", ")
}

// planErrands is what is to run of the formulas that were found: in their order, but
// for one that needs another.
func planErrands(formulas []target, o runOptions) ([]errand, error) {
	var errands []errand
	known := map[string]bool{}
	for _, t := range formulas {
		if !o.wants(t.formula) {
			continue
		}
		variants, err := o.variants(t.formula)
		if err != nil {
			return nil, err
		}
		for _, v := range variants {
			it := errand{target: t, variant: v, vars: assay.Vars{}}
			for name, value := range v.Vars {
				it.vars[name] = value
			}
			for _, g := range o.vars {
				if g.name == assay.VarPackage {
					it.vars[g.name] = g.value
				}
			}
			errands = append(errands, it)
		}
		for _, g := range o.vars {
			known[g.name] = known[g.name] || knowsVar(t.formula, g.name)
		}
	}
	if len(errands) == 0 {
		return nil, nil
	}
	for _, g := range o.vars {
		if !known[g.name] {
			return nil, unknownVar(g.name, formulas)
		}
	}
	return orderErrands(errands, formulas, o)
}

// knowsVar tells whether a variable can be given to a formula with --var.
func knowsVar(f *checks.Formula, name string) bool {
	return name == assay.VarPackage || slices.Contains(matrixNames(f), name)
}

// matrixNames are the variables that a formula's matrix sets, sorted.
func matrixNames(f *checks.Formula) []string {
	names := map[string]bool{}
	for _, v := range f.Matrix {
		for name := range v.Vars {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// varFlags are the flags that give what is no variable of --var.
func varFlags() map[string]string {
	flags := map[string]string{
		assay.VarItem: "-i ITEM -t TYPE", assay.VarType: "-t TYPE", assay.VarArch: "-a ARCH", assay.VarUUID: "--uuid UUID",
		assay.VarSources: "--sources DIR", assay.VarBuilds: "--builds DIR", assay.VarArtifacts: "--artifacts DIR",
	}
	for _, typ := range checks.ItemTypes() {
		flags[typ] = "-i ITEM -t " + typ
	}
	return flags
}

func unknownVar(name string, formulas []target) error {
	if flag, ok := varFlags()[name]; ok {
		return fmt.Errorf("cannot give %s with --var: write %s", name, flag)
	}
	known := []string{assay.VarPackage}
	for _, t := range formulas {
		known = append(known, matrixNames(t.formula)...)
	}
	slices.Sort(known)
	return fmt.Errorf("cannot give the variable %s: no formula knows it: those that can be given are %s", name, strings.Join(slices.Compact(known), ", "))
}

// variants are those of a formula that the flags ask for; one without a matrix
// has one, without a name.
func (o runOptions) variants(f *checks.Formula) ([]checks.Variant, error) {
	if len(f.Matrix) == 0 {
		return []checks.Variant{{}}, nil
	}
	var chosen []checks.Variant
	for _, v := range f.Matrix {
		if o.chooses(v) {
			chosen = append(chosen, v)
		}
	}
	if len(chosen) > 0 {
		return chosen, nil
	}
	var all []string
	for _, v := range f.Matrix {
		all = append(all, errand{variant: v}.label())
	}
	return nil, fmt.Errorf("cannot run %s with %s: its matrix has %s", f.Checkname(), o.vars.String(), strings.Join(all, "; "))
}

// chooses tells whether a variant has the values that were given.
func (o runOptions) chooses(v checks.Variant) bool {
	for _, g := range o.vars {
		if value, ok := v.Vars[g.name]; ok && value != g.value {
			return false
		}
	}
	return o.arch == noarch || v.Arch == "" || v.Arch == o.arch
}

// noarch is the architecture of what is the same on all of them.
const noarch = "noarch"

// readSecrets reads the files of --secret that a formula asks for.
func (o runOptions) readSecrets(f *checks.Formula) (map[string]string, error) {
	secrets := map[string]string{}
	for _, g := range o.secrets {
		if !slices.Contains(f.Secrets, g.name) {
			return nil, fmt.Errorf("cannot give %s the secret %s: it does not ask for it: write it under secrets: in the formula", f.Checkname(), g.name)
		}
		data, err := os.ReadFile(g.value)
		if err != nil {
			return nil, fmt.Errorf("cannot read the secret %s: %w", g.name, err)
		}
		secrets[g.name] = strings.TrimSuffix(string(data), "\n")
	}
	return secrets, nil
}

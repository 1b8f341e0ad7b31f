package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxNamed bounds the checks that an error names.
const maxNamed = 12

// choose keeps the formulas that names say, in their order: each is a check's name,
// whole or without its namespace, or a pattern of path.Match. No names keep all. A
// name that finds nothing is an error.
func choose(formulas []target, names []string, where string) ([]target, error) {
	if len(names) == 0 {
		return formulas, nil
	}
	found := make([]bool, len(names))
	var kept []target
	for _, t := range formulas {
		chosen := false
		for i, name := range names {
			if isCalled(t, name) {
				found[i], chosen = true, true
			}
		}
		if chosen {
			kept = append(kept, t)
		}
	}
	if i := slices.Index(found, false); i >= 0 {
		return nil, fmt.Errorf("cannot find a check called %q below %s: there %s", names[i], where, checksThere(formulas))
	}
	return kept, nil
}

func isCalled(t target, name string) bool {
	for _, own := range []string{t.formula.Checkname(), t.formula.Name} {
		if ok, err := path.Match(name, own); own == name || err == nil && ok {
			return true
		}
	}
	return false
}

// checksThere names checks, for an error.
func checksThere(formulas []target) string {
	if len(formulas) == 0 {
		return "is none"
	}
	var names []string
	for _, t := range formulas[:min(len(formulas), maxNamed)] {
		names = append(names, shown(t.formula.Checkname()))
	}
	text := "is " + strings.Join(names, ", ")
	if len(formulas) > 1 {
		text = "are " + strings.Join(names, ", ")
	}
	if more := len(formulas) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

package main

import (
	"fmt"
	"io"

	"github.com/assay-ci/assay/checks"
)

// maxToldWarnings bounds the warnings that a push prints.
const maxToldWarnings = 20

// tellWarnings writes the warnings of formulas, which are no reason to refuse
// them, one on each line. Git shows them to whoever pushes.
func tellWarnings(w io.Writer, formulas []*checks.Formula) {
	told := 0
	for _, f := range formulas {
		for _, m := range f.Warnings {
			if told++; told <= maxToldWarnings {
				fmt.Fprintln(w, m.Error())
			}
		}
	}
	if told > maxToldWarnings {
		fmt.Fprintf(w, "… and %d more warnings (all of them: assay lint)\n", told-maxToldWarnings)
	}
}

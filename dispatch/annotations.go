package dispatch

import (
	"cmp"
	"strconv"

	"github.com/assay-ci/assay"
)

// Keys of a result that say which lines it is about. What a path or a number may be
// is for the forge to judge.
const (
	dataFile = "file"
	dataLine = "line"
)

// annotations are the results that name a file and a line of it.
func annotations(results []assay.Result) []assay.Annotation {
	var list []assay.Annotation
	for _, res := range results {
		line, err := strconv.Atoi(first(res.Data[dataLine]))
		if file := first(res.Data[dataFile]); err == nil && file != "" {
			list = append(list, assay.Annotation{
				Path: file, Line: line, Level: levelOf(res.Outcome), Title: res.Checkname,
				Message: cmp.Or(res.Note, string(res.Outcome)),
			})
		}
	}
	return list
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func levelOf(o assay.Outcome) assay.AnnotationLevel {
	switch {
	case o.Good():
		return assay.AnnotationNotice
	case o == assay.NeedsInspection:
		return assay.AnnotationWarning
	}
	return assay.AnnotationFailure
}

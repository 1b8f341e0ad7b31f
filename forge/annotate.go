package forge

import (
	"context"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

// Annotator is a Forge that shows remarks beside the lines they are about.
//
// Annotate adds what is not there yet below the commit's status in context,
// which must have been set before; without one the error is a *RetryError. It
// is idempotent. A new run of the check begins without annotations. Those that
// cannot be (see assay.Annotation) are left out, and all after the first 1,000.
type Annotator interface {
	Annotate(ctx context.Context, commit assay.Commit, context string, annotations []assay.Annotation) error
}

// Bounds of annotations.
const (
	maxAnnotations       = 1000
	maxAnnotationPath    = 1024    // bytes
	maxAnnotationMessage = 8000    // characters
	maxAnnotationLine    = 1 << 30 // no file has more lines
)

// fitAnnotations returns what can be shown, cleaned, each once.
func fitAnnotations(given []assay.Annotation) []assay.Annotation {
	var fit []assay.Annotation
	seen := map[assay.Annotation]bool{}
	for _, a := range given {
		a, ok := fitAnnotation(a)
		if !ok || seen[a] {
			continue
		}
		if len(fit) == maxAnnotations {
			break
		}
		seen[a] = true
		fit = append(fit, a)
	}
	return fit
}

func fitAnnotation(a assay.Annotation) (assay.Annotation, bool) {
	if a.LastLine == 0 {
		a.LastLine = a.Line
	}
	a.Title, a.Message = Line(a.Title), plainText(a.Message)
	switch a.Level {
	case assay.AnnotationNotice, assay.AnnotationWarning, assay.AnnotationFailure:
	default:
		return a, false
	}
	return a, filePath(a.Path) && a.Line >= 1 && a.LastLine >= a.Line && a.LastLine <= maxAnnotationLine && a.Message != ""
}

// plainText is text of several lines without other control characters.
func plainText(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	return shorten(strings.TrimSpace(s), maxAnnotationMessage)
}

// filePath holds for what may name a file in a repository.
func filePath(p string) bool {
	return p != "" && len(p) <= maxAnnotationPath && utf8.ValidString(p) && path.Clean(p) == p &&
		p != "." && p != ".." && !strings.HasPrefix(p, "../") && !strings.HasPrefix(p, "/") &&
		strings.IndexFunc(p, unicode.IsControl) < 0
}

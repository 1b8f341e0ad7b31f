package forge

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/assay-ci/assay"
)

func TestFitAnnotations(t *testing.T) {
	good := assay.Annotation{Path: "src/main.c", Line: 3, LastLine: 4, Level: assay.AnnotationWarning, Title: "t", Message: "m"}
	with := func(change func(*assay.Annotation)) assay.Annotation {
		a := good
		change(&a)
		return a
	}
	tests := []struct {
		name        string
		given, want assay.Annotation // want is the zero one for one that is left out
	}{
		{"good", good, good},
		{"one line", with(func(a *assay.Annotation) { a.LastLine = 0 }), with(func(a *assay.Annotation) { a.LastLine = 3 })},
		{"text of several lines", with(func(a *assay.Annotation) { a.Title, a.Message = "a\nb", " a\r\n\tb\x1b[m\n" }), with(func(a *assay.Annotation) { a.Title, a.Message = "a b", "a\n\tb\uFFFD[m" })},
		{"not UTF-8", with(func(a *assay.Annotation) { a.Message = "a\xff" }), with(func(a *assay.Annotation) { a.Message = "a\uFFFD" })},
		{"too long", with(func(a *assay.Annotation) { a.Message = strings.Repeat("ß", 9000) }), with(func(a *assay.Annotation) { a.Message = strings.Repeat("ß", 7999) + "…" })},
		{"no title", with(func(a *assay.Annotation) { a.Title = "" }), with(func(a *assay.Annotation) { a.Title = "" })},
		{"no path", with(func(a *assay.Annotation) { a.Path = "" }), assay.Annotation{}},
		{"a path from the root", with(func(a *assay.Annotation) { a.Path = "/etc/passwd" }), assay.Annotation{}},
		{"a path that climbs", with(func(a *assay.Annotation) { a.Path = "../x" }), assay.Annotation{}},
		{"a path that climbs inside", with(func(a *assay.Annotation) { a.Path = "a/../../x" }), assay.Annotation{}},
		{"a folder", with(func(a *assay.Annotation) { a.Path = "." }), assay.Annotation{}},
		{"a path with a line end", with(func(a *assay.Annotation) { a.Path = "a\nb" }), assay.Annotation{}},
		{"a path that is not UTF-8", with(func(a *assay.Annotation) { a.Path = "a\xff" }), assay.Annotation{}},
		{"a long path", with(func(a *assay.Annotation) { a.Path = strings.Repeat("x", 1025) }), assay.Annotation{}},
		{"no line", with(func(a *assay.Annotation) { a.Line = 0 }), assay.Annotation{}},
		{"lines that run backwards", with(func(a *assay.Annotation) { a.LastLine = 2 }), assay.Annotation{}},
		{"too many lines", with(func(a *assay.Annotation) { a.LastLine = 1 << 40 }), assay.Annotation{}},
		{"no level", with(func(a *assay.Annotation) { a.Level = "" }), assay.Annotation{}},
		{"another level", with(func(a *assay.Annotation) { a.Level = "error" }), assay.Annotation{}},
		{"no message", with(func(a *assay.Annotation) { a.Message = " \n" }), assay.Annotation{}},
	}
	for _, test := range tests {
		got := fitAnnotations([]assay.Annotation{test.given, test.given})
		switch {
		case test.want == (assay.Annotation{}):
			if len(got) != 0 {
				t.Errorf("%s: %+v is shown", test.name, got)
			}
		case len(got) != 1 || got[0] != test.want:
			t.Errorf("%s:\n got %+v\nwant %+v once", test.name, got, test.want)
		}
	}
}

func TestFitAnnotationsIsBounded(t *testing.T) {
	var many []assay.Annotation
	for i := range 5000 {
		many = append(many, assay.Annotation{Path: "x", Line: i + 1, Level: assay.AnnotationNotice, Message: "m"})
	}
	if got := fitAnnotations(many); len(got) != maxAnnotations || got[maxAnnotations-1].Line != maxAnnotations {
		t.Errorf("%d annotations", len(got))
	}
}

// FuzzFitAnnotation wants what is read back to be what was sent: otherwise it
// would be sent again and again.
func FuzzFitAnnotation(f *testing.F) {
	f.Add("src/main.c", 1, 2, "warning", "t", "m\r\n\tx")
	f.Add("a/../b", -1, 1<<40, "x", "\u202e", "\x00 \xff")
	f.Fuzz(func(t *testing.T, path string, line, last int, level, title, message string) {
		fit, ok := fitAnnotation(assay.Annotation{Path: path, Line: line, LastLine: last, Level: assay.AnnotationLevel(level), Title: title, Message: message})
		if !ok {
			return
		}
		again, ok := fitAnnotation(fit)
		if !ok || again != fit {
			t.Errorf("%+v becomes %+v", fit, again)
		}
		if !utf8.ValidString(fit.Message) || strings.ContainsAny(fit.Message, "\x1b\x00") || strings.HasPrefix(fit.Path, "/") || strings.Contains("/"+fit.Path+"/", "/../") {
			t.Errorf("unfit %+v", fit)
		}
	})
}

func FuzzGitHubComment(f *testing.F) {
	for _, s := range []string{"issue:1", "review:99", "issue:", ":1", "issue:+1", "issue:01", "issue:-1", "x:1", "issue:1:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kind, id, ok := gitHubComment(s)
		if ok && (id <= 0 || kind != "issue" && kind != "review" || fmt.Sprintf("%s:%d", kind, id) != s) {
			t.Errorf("%q is comment %s %d", s, kind, id)
		}
	})
}

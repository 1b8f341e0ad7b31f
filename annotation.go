package assay

// Annotation is a remark on lines of a file.
type Annotation struct {
	Path     string // in the repository, with slashes, relative: "src/main.c"; at most 1,024 bytes
	Line     int    // from 1
	LastLine int    // 0 for Line
	Level    AnnotationLevel
	Title    string // one line, cut to 140 characters; "" for none
	Message  string // text, never Markdown; cut to 8,000 characters; not empty
}

// AnnotationLevel tells how bad it is; the words are GitHub's.
type AnnotationLevel string

// The levels.
const (
	AnnotationNotice  AnnotationLevel = "notice"
	AnnotationWarning AnnotationLevel = "warning"
	AnnotationFailure AnnotationLevel = "failure"
)

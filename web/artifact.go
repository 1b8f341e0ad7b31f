package web

import (
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/gorilla/mux"

	"github.com/assay-ci/assay"
)

// artifact serves one file of an execution. What the file says it is counts for
// nothing: its first bytes decide between text, four kinds of picture, and a
// download.
func (s *server) artifact(r *http.Request) (response, error) {
	vars := mux.Vars(r)
	id, name := vars["id"], vars["path"]
	if !fs.ValidPath(name) || strings.ContainsAny(name, "\x00\\") {
		return nil, fmt.Errorf("cannot open an artifact of that name: %w", assay.ErrNotFound)
	}
	if _, err := s.Store.Execution(r.Context(), id); err != nil {
		return nil, err
	}
	f, err := s.Files.OpenArtifact(id, name)
	if err != nil {
		return nil, err
	}
	resp, err := describe(f, path.Base(name))
	if err != nil {
		_ = f.Close() // opened for reading only
	}
	return resp, err
}

func describe(f fs.File, name string) (response, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read an artifact: %v", err)
	}
	if !info.Mode().IsRegular() {
		return nil, assay.ErrNotFound
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("cannot read an artifact: %v", err)
	}
	ctype, disposition := safeType(head[:n])
	g := guestFile{file: f, size: info.Size(), modified: info.ModTime(), ctype: ctype, disposition: contentDisposition(disposition, name)}
	if _, ok := f.(io.Seeker); !ok {
		g.file = rejoined{f, io.MultiReader(strings.NewReader(string(head[:n])), f)}
	}
	return g, nil
}

// rejoined is a file that cannot seek, with the bytes that were read from it
// put back.
type rejoined struct {
	fs.File
	r io.Reader
}

func (f rejoined) Read(p []byte) (int, error) { return f.r.Read(p) }

// safeType chooses a content type that a browser shows but never runs, by what
// the file begins with.
func safeType(head []byte) (ctype, disposition string) {
	switch sniffed := http.DetectContentType(head); {
	case sniffed == "image/png" || sniffed == "image/jpeg" || sniffed == "image/gif" || sniffed == "image/webp":
		return sniffed, "inline"
	case strings.HasPrefix(sniffed, "text/"):
		return "text/plain; charset=utf-8", "inline"
	}
	return "application/octet-stream", "attachment"
}

// contentDisposition names the file for saving (RFC 6266). A name that cannot be
// written down is left out.
func contentDisposition(disposition, name string) string {
	if v := mime.FormatMediaType(disposition, map[string]string{"filename": name}); v != "" {
		return v
	}
	return disposition
}
